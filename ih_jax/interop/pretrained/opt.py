"""The reader of OPT: learned positions, two more rows than there are tokens; ReLU.

Zhang et al. 2022, "OPT: Open Pre-trained Transformer Language Models".
"""

from __future__ import annotations

import msgspec

from ih_jax import gate
from ih_jax.errors import UserError
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
    if not found.do_layer_norm_before or found.remove_final_layer_norm:
        raise UserError(
            f"{where} says norms after each part, or none at the end (as opt-350m): only OPT with "
            "norms before is read; give another size"
        )
    if (found.word_embed_proj_dim or D) != D:
        raise UserError(
            f"{where} says word_embed_proj_dim {found.word_embed_proj_dim} and hidden_size {D} "
            "(as opt-350m): only OPT where they are one is read; give another size"
        )
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
        **special_tokens(found),
    )


def outer(c: Config, found: Fields) -> Sources:
    """Where the embeddings and the last norm are."""
    return {
        "W_E": Source({"embed_tokens.weight": (c.vocabulary, c.d_model)}),
        "W_pos": Source(
            {"embed_positions.weight": (c.context + FIRST, c.d_model)}, lambda a: a[FIRST:]
        ),
        **_norm(c, found, "norm", "final_layer_norm"),
    }


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


def _norm(c: Config, found: Fields, field: str, name: str) -> dict[str, Source]:
    if found.layer_norm_elementwise_affine:
        return layer_norm(field, name, c.d_model)
    return weightless_norm(field, c.d_model)


FAMILY = Family(Fields, config, outer, inner, prefix="model.decoder.", head="lm_head.weight")
