"""The reader of BLOOM: no table of positions, scores that fall with distance (ALiBi).

BigScience Workshop 2022, "BLOOM"; Press et al. 2022, "Train Short, Test Long".
"""

from __future__ import annotations

from ih_jax import gate
from ih_jax.errors import UserError
from ih_jax.interop.pretrained.family import (
    Common,
    Epsilon,
    Family,
    Source,
    Sources,
    Width,
    head_width,
    joint_heads,
    layer_norm,
    linear,
    special_tokens,
)
from ih_jax.interop.pretrained.layout import Config

TRAINED_ON = 2048  # tokens, where config.json does not say it


class Fields(Common, frozen=True, kw_only=True):
    """What config.json says; older ones have other names for some of them."""

    n_layer: gate.Size | None = None
    num_hidden_layers: gate.Size | None = None
    hidden_size: Width | None = None
    n_embed: Width | None = None
    n_head: Width | None = None
    num_attention_heads: Width | None = None
    seq_length: Width = TRAINED_ON
    layer_norm_epsilon: Epsilon = 1e-5
    apply_residual_connection_post_layernorm: bool = False
    slow_but_exact: bool = False
    pretraining_tp: Width = 1
    tie_word_embeddings: bool = True


def config(found: Fields, where: str) -> Config:
    """In our words. Raises UserError for what is not read here."""
    D, heads = found.hidden_size or found.n_embed, found.n_head or found.num_attention_heads
    layers = found.n_layer or found.num_hidden_layers
    if D is None or heads is None or layers is None:
        lacks = "hidden_size" if D is None else "n_head" if heads is None else "n_layer"
        raise UserError(f"{where} lacks {lacks}")
    if found.slow_but_exact and found.pretraining_tp > 1:
        raise UserError(
            f"{where} says slow_but_exact and pretraining_tp {found.pretraining_tp}, with which "
            "transformers leaves biases out: set slow_but_exact to false"
        )
    if found.apply_residual_connection_post_layernorm:
        raise UserError(
            f"{where} says apply_residual_connection_post_layernorm: only BLOOM whose stream does "
            "not pass through norms is read"
        )
    width = head_width(D, heads, ("hidden_size", "n_head"), where)
    return Config(
        "bloom",
        layers=layers,
        heads=heads,
        d_model=D,
        d_head=width,
        d_mlp=4 * D,
        vocabulary=found.vocab_size,
        context=found.seq_length,
        activation="gelu_new",
        epsilon=found.layer_norm_epsilon,
        scale=width**-0.5,
        alibi=True,
        tied=found.tie_word_embeddings,
        **special_tokens(found),
    )


def outer(c: Config, found: Fields) -> Sources:
    """Where the embedding, its norm and the last norm are."""
    return {
        "W_E": Source({"word_embeddings.weight": (c.vocabulary, c.d_model)}),
        **layer_norm("embed", "word_embeddings_layernorm", c.d_model),
        **layer_norm("norm", "ln_f", c.d_model),
    }


def inner(c: Config, found: Fields) -> Sources:
    """Where a layer's weights are: queries, keys and values stand together within each head."""
    return {
        **layer_norm("norm1", "h.{}.input_layernorm", c.d_model),
        **layer_norm("norm2", "h.{}.post_attention_layernorm", c.d_model),
        **joint_heads(c, "h.{}.self_attention"),
        **linear("in", "h.{}.mlp.dense_h_to_4h", c.d_model, c.d_mlp),
        **linear("out", "h.{}.mlp.dense_4h_to_h", c.d_mlp, c.d_model),
    }


FAMILY = Family(Fields, config, outer, inner, prefix="transformer.", head="lm_head.weight")
