"""The reader of GPT-NeoX (Pythia): rotary positions, layer norms, attention beside the MLP.

Biderman et al. 2023, "Pythia".
"""

from __future__ import annotations

import msgspec

from ih_jax import gate
from ih_jax.errors import UserError
from ih_jax.interop.pretrained.family import (
    Base,
    Epsilon,
    Family,
    Rotated,
    Source,
    Sources,
    head_width,
    joint_heads,
    known_activation,
    layer_norm,
    linear,
    rotary,
    scaling,
    special_tokens,
)
from ih_jax.interop.pretrained.layout import Config


class Fields(Rotated, frozen=True, kw_only=True):
    """What config.json says."""

    hidden_act: str = "gelu"
    layer_norm_eps: Epsilon = 1e-5
    use_parallel_residual: bool = True
    attention_bias: bool = True
    tie_word_embeddings: bool = False
    rotary_pct: gate.Share | None = None
    partial_rotary_factor: gate.Share | None = None
    rotary_emb_base: Base | None = None


def config(found: Fields, where: str) -> Config:
    """In our words. Raises UserError for what is not read here."""
    heads, d_model = found.num_attention_heads, found.hidden_size
    width = head_width(d_model, heads, ("hidden_size", "num_attention_heads"), where)
    # Fields of its own come before those of other families, which transformers does not read here.
    given = rotary(msgspec.structs.replace(found, rope_theta=found.rotary_emb_base))
    shares = (given.partial_rotary_factor, found.rotary_pct, 0.25)
    share = next(share for share in shares if share is not None)
    base = given.rope_theta or 10_000.0
    for name, value, used in (
        ("partial_rotary_factor", found.partial_rotary_factor, share),
        ("rope_theta", found.rope_theta, base),
    ):
        if value not in (None, used):
            raise UserError(
                f"{where} says {name} {value:g}, and {used:g} by the fields that GPT-NeoX goes by "
                "(rope_parameters, rotary_pct, rotary_emb_base): give one of the two"
            )
    rotated = int(width * share)
    if rotated % 2 and rotated == width:
        raise UserError(
            f"{where} has all {rotated} dimensions of a head rotated: they turn in pairs, so an "
            "even number is needed"
        )
    return Config(
        "gpt_neox",
        layers=found.num_hidden_layers,
        heads=heads,
        d_model=d_model,
        d_head=width,
        d_mlp=found.intermediate_size,
        vocabulary=found.vocab_size,
        context=found.max_position_embeddings,
        activation=known_activation(found.hidden_act, where),
        epsilon=found.layer_norm_eps,
        scale=width**-0.5,
        tied=found.tie_word_embeddings,
        rotary=rotated,
        rotary_base=base,
        rotary_scaling=scaling(given, where),
        parallel=found.use_parallel_residual,
        **special_tokens(found),
    )


def outer(c: Config, found: Fields) -> Sources:
    """Where the embedding and the last norm are."""
    embedding = Source({"embed_in.weight": (c.vocabulary, c.d_model)})
    return {"W_E": embedding, **layer_norm("norm", "final_layer_norm", c.d_model)}


def inner(c: Config, found: Fields) -> Sources:
    """Where a layer's weights are."""
    D, M, mlp = c.d_model, c.d_mlp, "layers.{}.mlp"
    return {
        **layer_norm("norm1", "layers.{}.input_layernorm", D),
        **layer_norm("norm2", "layers.{}.post_attention_layernorm", D),
        **joint_heads(c, "layers.{}.attention", found.attention_bias),
        **linear("in", f"{mlp}.dense_h_to_4h", D, M),
        **linear("out", f"{mlp}.dense_4h_to_h", M, D),
    }


FAMILY = Family(Fields, config, outer, inner, prefix="gpt_neox.", head="embed_out.weight")
