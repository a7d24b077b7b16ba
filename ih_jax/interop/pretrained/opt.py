"""The reader of OPT: learned positions, two more rows than there are tokens; ReLU.

Opt-350m alone normalises the stream after each part, and maps narrower vectors of tokens into it.

Zhang et al. 2022, "OPT: Open Pre-trained Transformer Language Models".
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ih_jax import gate
from ih_jax.interop.pretrained.family import (
    Common,
    Family,
    Source,
    Sources,
    Width,
    head_width,
    known_activation,
    layer_norm,
    linear,
    separate_heads,
    special_tokens,
    weightless_norm,
)
from ih_jax.interop.pretrained.layout import Config

FIRST = 2  # rows of the table that stand for no position


class Fields(Common, frozen=True, kw_only=True):
    """What config.json says."""

    num_hidden_layers: gate.Size
    num_attention_heads: Width
    hidden_size: Width
    ffn_dim: Width
    max_position_embeddings: Width
    do_layer_norm_before: bool = True
    remove_final_layer_norm: bool = msgspec.field(default=False, name="_remove_final_layer_norm")
    word_embed_proj_dim: Width | None = None
    activation_function: str = "relu"
    enable_bias: bool = True
    layer_norm_elementwise_affine: bool = True
    tie_word_embeddings: bool = True


def config(found: Fields, where: str) -> Config:
    """In our words. Raises UserError for what is not read here."""
    heads, D = found.num_attention_heads, found.hidden_size
    width = head_width(D, heads, ("hidden_size", "num_attention_heads"), where)
    return Config(
        "opt",
        layers=found.num_hidden_layers,
        heads=heads,
        d_model=D,
        d_head=width,
        d_mlp=found.ffn_dim,
        vocabulary=found.vocab_size,
        context=found.max_position_embeddings,
        activation=known_activation(found.activation_function, where),
        epsilon=1e-5,
        scale=width**-0.5,
        learned_positions=True,
        tied=found.tie_word_embeddings,
        projected=_token_width(found) != D,
        post_norm=not found.do_layer_norm_before,
        **special_tokens(found),
    )


def outer(c: Config, found: Fields) -> Sources:
    """Where the embeddings and the last norm are."""
    made = {
        "W_E": Source({"embed_tokens.weight": (c.vocabulary, c.d_model)}),
        "W_pos": Source(
            {"embed_positions.weight": (c.context + FIRST, c.d_model)}, lambda a: a[FIRST:]
        ),
    }
    if c.projected:
        V, D, P = c.vocabulary, c.d_model, _token_width(found)
        into, out = {"project_in.weight": (D, P)}, {"project_out.weight": (P, D)}
        made["W_E"] = Source({"embed_tokens.weight": (V, P), **into}, lambda a, b: _mapped(a, b.T))
        made["W_U"] = Source({"lm_head.weight": (V, P), **out}, _mapped)
    if found.do_layer_norm_before and not found.remove_final_layer_norm:
        made |= _norm(c, found, "norm", "final_layer_norm")
    return made


def _token_width(found: Fields) -> int:
    """The width of a token's vector, which maps take to the stream and back (opt-350m)."""
    return found.word_embed_proj_dim or found.hidden_size


def inner(c: Config, found: Fields) -> Sources:
    """Where a layer's weights are."""
    at, bias = "layers.{}", found.enable_bias
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    return {
        **_norm(c, found, "norm1", f"{at}.self_attn_layer_norm"),
        **_norm(c, found, "norm2", f"{at}.final_layer_norm"),
        **separate_heads(c, f"{at}.self_attn", names, qkv_bias=bias, out_bias=bias),
        **linear("in", f"{at}.fc1", c.d_model, c.d_mlp, bias),
        **linear("out", f"{at}.fc2", c.d_mlp, c.d_model, bias),
    }


def _mapped(vectors: NDArray[Any], by: NDArray[Any]) -> NDArray[np.float32]:
    """Vectors of tokens through a map, in float32, whatever the file has."""
    product: NDArray[np.float32] = vectors.astype(np.float32) @ by.astype(np.float32)
    return product


def _norm(c: Config, found: Fields, field: str, name: str) -> dict[str, Source]:
    if found.layer_norm_elementwise_affine:
        return layer_norm(field, name, c.d_model)
    return weightless_norm(field, c.d_model)


FAMILY = Family(Fields, config, outer, inner, prefix="model.decoder.", head="lm_head.weight")
