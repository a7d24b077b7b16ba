"""All scores of the heads of a finished network: attention, copying, eigenvalues."""

from __future__ import annotations

from jax import Array

from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.experiments.olsson2022 import models
from ih_jax.measures import circuits, heads
from ih_jax.measures.base import measure
from ih_jax.measures.heads import BY_HEAD
from ih_jax.model.params import Params

OFFSETS = 6  # of attention: 0 is the token itself, 1 the previous one
SCORES = ("previous_token", "prefix_matching", "copying", "copying_logits", "ov", "trace", "cosine")


@measure(dims={**dict.fromkeys(SCORES, BY_HEAD), "offset": (*BY_HEAD, "offset_back")})
def at_the_end(params: Params, clamp: Holds, batch: Tokens) -> dict[str, Array]:
    """A measure: all scores of heads, [L, H] each; attention by offset [L, H, OFFSETS]."""
    copied = heads.copying()(params, clamp, batch)
    return {
        **models.head_scores(params, clamp, batch),
        "copying": copied["score"],
        "copying_logits": copied["logits"],
        "ov": circuits.ov_copying(params),
        **circuits.matching_trace(params, clamp, batch),
        "offset": heads.offsets(OFFSETS)(params, clamp, batch),
    }
