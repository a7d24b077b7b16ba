"""The reader of GPT-Neo (TinyStories): as GPT-2, with unscaled scores and layers with a window.

Black et al. 2021, "GPT-Neo"; Eldan & Li 2023, "TinyStories".
"""

from __future__ import annotations

from ih_jax import gate
from ih_jax.errors import UserError
from ih_jax.interop.pretrained import gpt2
from ih_jax.interop.pretrained.family import (
    Common,
    Epsilon,
    Family,
    Sources,
    Width,
    head_width,
    known_activation,
    layer_norm,
    linear,
    separate_heads,
    special_tokens,
)
from ih_jax.interop.pretrained.layout import Config

KINDS = ("global", "local")


class Fields(Common, frozen=True, kw_only=True):
    """What config.json says."""

    num_layers: gate.Size
    num_heads: Width
    hidden_size: Width
    max_position_embeddings: Width
    intermediate_size: Width | None = None
    window_size: Width = 256
    attention_types: list[tuple[list[str], Width]] | None = None  # kinds, how often
    attention_layers: list[str] | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: Epsilon = 1e-5
    tie_word_embeddings: bool = True


def config(found: Fields, where: str) -> Config:
    """In our words. Raises UserError for what is not read here."""
    width = head_width(found.hidden_size, found.num_heads, ("hidden_size", "num_heads"), where)
    return Config(
        "gpt_neo",
        layers=found.num_layers,
        heads=found.num_heads,
        d_model=found.hidden_size,
        d_head=width,
        d_mlp=found.intermediate_size or 4 * found.hidden_size,
        vocabulary=found.vocab_size,
        context=found.max_position_embeddings,
        activation=known_activation(found.activation_function, where),
        epsilon=found.layer_norm_epsilon,
        scale=1.0,
        learned_positions=True,
        tied=found.tie_word_embeddings,
        window=found.window_size,
        windowed=_local(found, where),
        **special_tokens(found),
    )


def _local(found: Fields, where: str) -> tuple[bool, ...]:
    """Which layers see a window only; without a word on it, every other one from the second on."""
    L = found.num_layers
    kinds = found.attention_layers
    if kinds is None:
        pairs = found.attention_types or [([*KINDS], (L + 1) // 2)]
        if sum(len(each) * count for each, count in pairs) > 2 * L + 2:
            kinds = []  # not to be written out
        else:
            kinds = [kind for each, count in pairs for kind in each * count]
        if found.attention_types is None:
            kinds = kinds[:L]
    if len(kinds) != L or not set(kinds) <= set(KINDS):
        raise UserError(
            f"{where} says num_layers {L}, and its attention_types are not one of global and local "
            "for each layer"
        )
    return tuple(kind == "local" for kind in kinds)


def inner(c: Config, found: Fields) -> Sources:
    """Where a layer's weights are."""
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    return {
        **layer_norm("norm1", "h.{}.ln_1", c.d_model),
        **layer_norm("norm2", "h.{}.ln_2", c.d_model),
        **separate_heads(c, "h.{}.attn.attention", names, out_bias=True),
        **linear("in", "h.{}.mlp.c_fc", c.d_model, c.d_mlp),
        **linear("out", "h.{}.mlp.c_proj", c.d_mlp, c.d_model),
    }


FAMILY = Family(Fields, config, gpt2.outer, inner, prefix="transformer.", head="lm_head.weight")
