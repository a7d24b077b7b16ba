"""The readers of OLMo, whose norms have no weights, and OLMo 2, whose norms come after.

Groeneveld et al. 2024, "OLMo"; OLMo Team 2024, "2 OLMo 2 Furious".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ih_jax import gate
from ih_jax.interop.pretrained import llama
from ih_jax.interop.pretrained.family import (
    Epsilon,
    Family,
    Source,
    Sources,
    group_count,
    weightless_norm,
)
from ih_jax.interop.pretrained.layout import Config


class Fields(llama.Fields, frozen=True, kw_only=True):
    """What config.json of OLMo says."""

    clip_qkv: gate.Positive | None = None


class Fields2(llama.Fields, frozen=True, kw_only=True):
    """What config.json of OLMo 2 says."""

    rms_norm_eps: Epsilon = 1e-5


def config(found: Fields, where: str) -> Config:
    """OLMo in our words. Raises UserError for what is not read here."""
    made = llama.config(found, where, "olmo")
    return replace(made, norm="layer", epsilon=1e-5, clip=found.clip_qkv)


def config2(found: Fields2, where: str) -> Config:
    """OLMo 2 in our words. Raises UserError for what is not read here."""
    return llama.config(found, where, "olmo2")


def outer(c: Config, found: Fields) -> Sources:
    """Where OLMo's embedding is."""
    embedding = Source({"embed_tokens.weight": (c.vocabulary, c.d_model)})
    return {"W_E": embedding, **weightless_norm("norm", c.d_model)}


def inner(c: Config, found: Fields) -> Sources:
    """Where the weights of a layer of OLMo are."""
    return {
        **_of_layer(c, found),
        **weightless_norm("norm1", c.d_model),
        **weightless_norm("norm2", c.d_model),
    }


def inner2(c: Config, found: Fields2) -> Sources:
    """Where the weights of a layer of OLMo 2 are."""
    groups = group_count(c.heads, found.num_key_value_heads, "config.json")

    def of_heads(scale: NDArray[Any]) -> NDArray[Any]:
        each = scale.reshape(-1, c.d_head)
        return np.repeat(each, c.heads // len(each), axis=0)

    def named(field: str, name: str, width: int, turn: Any = np.asarray) -> dict[str, Source]:
        return {field: Source({f"layers.{{}}.{name}.weight": (width,)}, turn)}

    return {
        **_of_layer(c, found),
        **named("after1_scale", "post_attention_layernorm", c.d_model),
        **named("after2_scale", "post_feedforward_layernorm", c.d_model),
        # Over the heads of keys there are; repeated they have the same mean square.
        **named("q_norm", "self_attn.q_norm", c.heads * c.d_head, of_heads),
        **named("k_norm", "self_attn.k_norm", groups * c.d_head, of_heads),
    }


def _of_layer(c: Config, found: llama.Fields) -> Sources:
    """Attention and MLP, without norms."""
    made = llama.inner(c, found)
    return {field: source for field, source in made.items() if not field.startswith("norm")}


OLMO = Family(Fields, config, outer, inner, prefix="model.", head="lm_head.weight")
OLMO2 = Family(Fields2, config2, llama.outer, inner2, prefix="model.", head="lm_head.weight")
