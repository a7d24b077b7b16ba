"""The reader of GPT-2: learned positions, layer norms, maps stored as [in, out]."""

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
    known_activation,
    layer_norm,
    special_tokens,
)
from ih_jax.interop.pretrained.layout import Config


class Fields(Common, frozen=True, kw_only=True):
    """What config.json says."""

    n_layer: gate.Size
    n_head: Width
    n_embd: Width
    n_positions: Width
    n_inner: Width | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: Epsilon = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True


def config(found: Fields, where: str) -> Config:
    """In our words. Raises UserError for what is not read here."""
    if found.add_cross_attention:
        raise UserError(f"{where} says add_cross_attention: only decoders on their own are read")
    width = head_width(found.n_embd, found.n_head, ("n_embd", "n_head"), where)
    return Config(
        "gpt2",
        layers=found.n_layer,
        heads=found.n_head,
        d_model=found.n_embd,
        d_head=width,
        d_mlp=found.n_inner or 4 * found.n_embd,
        vocabulary=found.vocab_size,
        context=found.n_positions,
        activation=known_activation(found.activation_function, where),
        epsilon=found.layer_norm_epsilon,
        scale=width**-0.5 if found.scale_attn_weights else 1.0,
        scale_by_layer=found.scale_attn_by_inverse_layer_idx,
        learned_positions=True,
        tied=found.tie_word_embeddings,
        **special_tokens(found),
    )


def outer(c: Config, found: Common) -> Sources:
    """Where the embeddings and the last norm are."""
    return {
        "W_E": Source({"wte.weight": (c.vocabulary, c.d_model)}),
        "W_pos": Source({"wpe.weight": (c.context, c.d_model)}),
        **layer_norm("norm", "ln_f", c.d_model),
    }


def inner(c: Config, found: Fields) -> Sources:
    """Where a layer's weights are."""
    D, M, H, E = c.d_model, c.d_mlp, c.heads, c.d_head
    at, mlp = "h.{}.attn", "h.{}.mlp"
    return {
        **layer_norm("norm1", "h.{}.ln_1", D),
        **layer_norm("norm2", "h.{}.ln_2", D),
        "W_QKV": Source({f"{at}.c_attn.weight": (D, 3 * D)}, lambda a: a.T.reshape(3, H, E, D)),
        "b_QKV": Source({f"{at}.c_attn.bias": (3 * D,)}, lambda a: a.reshape(3, H, E)),
        "W_O": Source({f"{at}.c_proj.weight": (D, D)}, lambda a: a.reshape(H, E, D)),
        "b_O": Source({f"{at}.c_proj.bias": (D,)}),
        "W_in": Source({f"{mlp}.c_fc.weight": (D, M)}),
        "b_in": Source({f"{mlp}.c_fc.bias": (M,)}),
        "W_out": Source({f"{mlp}.c_proj.weight": (M, D)}),
        "b_out": Source({f"{mlp}.c_proj.bias": (D,)}),
    }


FAMILY = Family(Fields, config, outer, inner, prefix="transformer.", head="lm_head.weight")
