"""The reader of Gemma 2: norms before and after, soft caps, every other layer with a window.

Gemma Team 2024, "Gemma 2: Improving Open Language Models at a Practical Size".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ih_jax import gate
from ih_jax.errors import UserError
from ih_jax.interop.pretrained.family import (
    Epsilon,
    Family,
    Rotated,
    Source,
    Sources,
    Width,
    group_count,
    known_activation,
    rotary,
    scaling,
    separate_heads,
    special_tokens,
    windowed,
)
from ih_jax.interop.pretrained.layout import Config
from ih_jax.interop.pretrained.llama import HEADS, gated_mlp


class Fields(Rotated, frozen=True, kw_only=True):
    """What config.json says."""

    num_key_value_heads: Width
    head_dim: Width = 256
    hidden_activation: str | None = None  # gelu_pytorch_tanh
    rms_norm_eps: Epsilon = 1e-6
    attention_bias: bool = False
    query_pre_attn_scalar: gate.Positive = 256
    sliding_window: Width = 4096
    layer_types: list[str] | None = None
    attn_logit_softcapping: gate.Positive | None = 50.0
    final_logit_softcapping: gate.Positive | None = 30.0
    use_bidirectional_attention: bool | None = None
    tie_word_embeddings: bool = True


def config(found: Fields, where: str) -> Config:
    """In our words. Raises UserError for what is not read here."""
    if found.use_bidirectional_attention:
        raise UserError(f"{where} says use_bidirectional_attention: only causal networks are read")
    if found.head_dim % 2:
        raise UserError(
            f"{where} has heads of {found.head_dim} dimensions: they turn in pairs, give an even "
            "number"
        )
    L, heads = found.num_hidden_layers, found.num_attention_heads
    group_count(heads, found.num_key_value_heads, where)
    given = rotary(found)
    return Config(
        "gemma2",
        layers=L,
        heads=heads,
        d_model=found.hidden_size,
        d_head=found.head_dim,
        d_mlp=found.intermediate_size,
        vocabulary=found.vocab_size,
        context=found.max_position_embeddings,
        activation=known_activation(found.hidden_activation or "gelu_pytorch_tanh", where),
        epsilon=found.rms_norm_eps,
        scale=found.query_pre_attn_scalar**-0.5,
        tied=found.tie_word_embeddings,
        rotary=found.head_dim,
        rotary_base=given.rope_theta or 10_000.0,
        rotary_scaling=scaling(given, where),
        embedding_scale=found.hidden_size**0.5,
        gated=True,
        norm="rms",
        window=found.sliding_window,
        windowed=windowed(found.layer_types, L, (i % 2 == 0 for i in range(L)), where),
        score_cap=found.attn_logit_softcapping,
        logit_cap=found.final_logit_softcapping,
        **special_tokens(found),
    )


def _scale(stored: NDArray[Any]) -> NDArray[Any]:
    """Files hold a norm's scale less 1."""
    return 1 + stored.astype(np.float32)


def outer(c: Config, found: Fields) -> Sources:
    """Where the embedding and the last norm are."""
    return {
        "W_E": Source({"embed_tokens.weight": (c.vocabulary, c.d_model)}),
        "norm_scale": Source({"norm.weight": (c.d_model,)}, _scale),
    }


def inner(c: Config, found: Fields) -> Sources:
    """Where a layer's weights are."""
    norms = {
        "norm1": "input_layernorm",
        "after1": "post_attention_layernorm",
        "norm2": "pre_feedforward_layernorm",
        "after2": "post_feedforward_layernorm",
    }
    bias = found.attention_bias
    return {
        **{
            f"{field}_scale": Source({f"layers.{{}}.{name}.weight": (c.d_model,)}, _scale)
            for field, name in norms.items()
        },
        **separate_heads(
            c, "layers.{}.self_attn", HEADS, found.num_key_value_heads, qkv_bias=bias, out_bias=bias
        ),
        **gated_mlp(c),
    }


FAMILY = Family(Fields, config, outer, inner, prefix="model.", head="lm_head.weight")
