"""The reader of GPT-J: rotary positions, attention and MLP beside each other behind one norm.

Wang & Komatsuzaki 2021, "GPT-J-6B". Its rotary positions turn neighbours, (0, 1), (2, 3) ...; ours
turn halves. Queries and keys are read in another order of their dimensions, which scores do not
see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ih_jax.errors import UserError
from ih_jax.interop.pretrained import gpt2
from ih_jax.interop.pretrained.family import (
    Family,
    Source,
    Sources,
    Width,
    by_head,
    layer_norm,
    linear,
    separate_heads,
)
from ih_jax.interop.pretrained.layout import Config


class Fields(gpt2.Fields, frozen=True, kw_only=True):
    """What config.json says: GPT-2's fields, and how much of a head is rotated."""

    rotary_dim: Width = 64
    tie_word_embeddings: bool = False


def config(found: Fields, where: str) -> Config:
    """In our words. Raises UserError for what is not read here."""
    made = gpt2.config(found, where)
    if found.rotary_dim % 2 or found.rotary_dim > made.d_head:
        raise UserError(
            f"{where} says rotary_dim {found.rotary_dim}, and heads have {made.d_head} dimensions: "
            "give an even number up to that"
        )
    return replace(
        made,
        architecture="gptj",
        scale=made.d_head**-0.5,  # whatever fields of GPT-2's say
        scale_by_layer=False,
        learned_positions=False,
        rotary=found.rotary_dim,
        parallel=True,
    )


def outer(c: Config, found: Fields) -> Sources:
    """Where the embedding, the last norm and the biases of logits are."""
    return {
        "W_E": Source({"wte.weight": (c.vocabulary, c.d_model)}),
        "b_U": Source({"lm_head.bias": (c.vocabulary,)}),
        **layer_norm("norm", "ln_f", c.d_model),
    }


def inner(c: Config, found: Fields) -> Sources:
    """Where a layer's weights are."""
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    return {
        **layer_norm("norm1", "h.{}.ln_1", c.d_model),
        **layer_norm("norm2", "h.{}.ln_1", c.d_model),
        **separate_heads(c, "h.{}.attn", names, turn=_halves(c)),
        **linear("in", "h.{}.mlp.fc_in", c.d_model, c.d_mlp),
        **linear("out", "h.{}.mlp.fc_out", c.d_mlp, c.d_model),
    }


def _halves(c: Config) -> Callable[..., NDArray[Any]]:
    """`by_head`, with the first of each turned pair of queries and keys in the first half."""
    order = np.arange(c.d_head)
    order[: c.rotary] = np.arange(c.rotary).reshape(-1, 2).T.ravel()

    def turn(*parts: NDArray[Any]) -> NDArray[Any]:
        q, k, v = by_head(c)(*parts)
        return np.stack([q[:, order], k[:, order], v])

    return turn


FAMILY = Family(Fields, config, outer, inner, prefix="transformer.", head="lm_head.weight")
