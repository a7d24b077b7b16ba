"""The readers of Llama, Mistral, Qwen 2 and Qwen 3: rotary positions, root-mean-square norms,
gated MLPs, and keys and values that several heads share.
"""

from __future__ import annotations

from functools import partial

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
    head_width,
    known_activation,
    linear,
    rotary,
    scaling,
    separate_heads,
    special_tokens,
    windowed,
)
from ih_jax.interop.pretrained.layout import Config

HEADS = ("q_proj", "k_proj", "v_proj", "o_proj")


class Fields(Rotated, frozen=True, kw_only=True):
    """What config.json says of every family here."""

    num_key_value_heads: Width | None = None
    head_dim: Width | None = None
    hidden_act: str = "silu"
    rms_norm_eps: Epsilon = 1e-6
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    layer_types: list[str] | None = None


class MistralFields(Fields, frozen=True, kw_only=True):
    """Mistral: a token attends to a window of tokens; null: to all."""

    sliding_window: Width | None = 4096


class QwenFields(Fields, frozen=True, kw_only=True):
    """Qwen 2 and 3: later layers may have a window."""

    use_sliding_window: bool = False
    sliding_window: Width | None = 4096
    max_window_layers: int = 28


class Qwen3Fields(QwenFields, frozen=True, kw_only=True):
    """Qwen 3: heads need not share the stream's width."""

    head_dim: Width | None = 128


def config(found: Fields, where: str, architecture: str = "llama") -> Config:
    """In our words. Raises UserError for what is not read here."""
    heads, d_model = found.num_attention_heads, found.hidden_size
    names = ("hidden_size", "num_attention_heads")
    width = found.head_dim or head_width(d_model, heads, names, where)
    group_count(heads, found.num_key_value_heads, where)
    if width % 2:
        raise UserError(
            f"{where} has heads of {width} dimensions: they turn in pairs, give an even number"
        )
    window, layers = _window(found, where)
    given = rotary(found)
    return Config(
        architecture,
        layers=found.num_hidden_layers,
        heads=heads,
        d_model=d_model,
        d_head=width,
        d_mlp=found.intermediate_size,
        vocabulary=found.vocab_size,
        context=found.max_position_embeddings,
        activation=known_activation(found.hidden_act, where),
        epsilon=found.rms_norm_eps,
        scale=width**-0.5,
        tied=found.tie_word_embeddings,
        rotary=width,
        rotary_base=given.rope_theta or 10_000.0,
        rotary_scaling=scaling(given, where),
        gated=True,
        norm="rms",
        window=window,
        windowed=layers,
        **special_tokens(found),
    )


def _window(found: Fields, where: str) -> tuple[int | None, tuple[bool, ...]]:
    """How many tokens a token attends to, and in which layers."""
    L = found.num_hidden_layers
    if isinstance(found, MistralFields):  # goes by the window alone, as transformers does
        return found.sliding_window, () if found.sliding_window is None else (True,) * L
    if not isinstance(found, QwenFields):
        if any(windowed(found.layer_types, L, (), where)):
            raise UserError(
                f"{where} says sliding_attention in layer_types: networks of this family have no "
                "window, give full_attention"
            )
        return None, ()
    window = found.sliding_window if found.use_sliding_window else None
    have = () if window is None else (i >= found.max_window_layers for i in range(L))
    layers = windowed(found.layer_types, L, have, where)
    if window is None and any(layers):
        raise UserError(
            f"{where} says sliding_attention in layer_types, use_sliding_window "
            f"{str(found.use_sliding_window).lower()} and sliding_window "
            f"{gate.shown(found.sliding_window)}: give a window, and that it is used, or "
            "full_attention"
        )
    return (window, layers) if window is not None else (None, ())


def outer(c: Config, found: Fields) -> Sources:
    """Where the embedding and the last norm are."""
    embedding = Source({"embed_tokens.weight": (c.vocabulary, c.d_model)})
    return {"W_E": embedding, "norm_scale": Source({"norm.weight": (c.d_model,)})}


def inner(c: Config, found: Fields, qkv_bias: bool = False, head_norms: bool = False) -> Sources:
    """Where a layer's weights are.

    Args:
        c: in our words.
        found: fields of config.json.
        qkv_bias: queries, keys and values have biases, whatever config.json says (Qwen 2).
        head_norms: queries and keys of each head have a norm (Qwen 3).
    """
    D, E = c.d_model, c.d_head
    at = "layers.{}.self_attn"
    made = {
        "norm1_scale": Source({"layers.{}.input_layernorm.weight": (D,)}),
        "norm2_scale": Source({"layers.{}.post_attention_layernorm.weight": (D,)}),
        **separate_heads(
            c,
            at,
            HEADS,
            found.num_key_value_heads,
            qkv_bias=found.attention_bias or qkv_bias,
            out_bias=found.attention_bias and not qkv_bias,
        ),
        **gated_mlp(c, bias=found.mlp_bias),
    }
    if head_norms:
        made["q_norm"] = Source({f"{at}.q_norm.weight": (E,)})
        made["k_norm"] = Source({f"{at}.k_norm.weight": (E,)})
    return made


def gated_mlp(c: Config, bias: bool = False) -> dict[str, Source]:
    """An MLP whose gate is a third map."""
    D, M, mlp = c.d_model, c.d_mlp, "layers.{}.mlp"
    return {
        **linear("gate", f"{mlp}.gate_proj", D, M, bias),
        **linear("in", f"{mlp}.up_proj", D, M, bias),
        **linear("out", f"{mlp}.down_proj", M, D, bias),
    }


def _family(
    architecture: str, model: type[Fields], qkv_bias: bool = False, head_norms: bool = False
) -> Family:
    named = partial(config, architecture=architecture)
    layers = partial(inner, qkv_bias=qkv_bias, head_norms=head_norms)
    return Family(model, named, outer, layers, prefix="model.", head="lm_head.weight")


LLAMA = _family("llama", Fields)
MISTRAL = _family("mistral", MistralFields)
QWEN2 = _family("qwen2", QwenFields, qkv_bias=True)
QWEN3 = _family("qwen3", Qwen3Fields, head_norms=True)
