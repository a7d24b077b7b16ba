"""The readers of Llama, Mistral, Qwen 2 and Qwen 3: rotary positions, root-mean-square norms,
gated MLPs, and keys and values that several heads share.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ih_jax.errors import UserError
from ih_jax.interop.pretrained.family import (
    Epsilon,
    Family,
    Rotated,
    Source,
    Sources,
    Width,
    head_width,
    known_activation,
    rotary,
    special_tokens,
)
from ih_jax.interop.pretrained.network import Config


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
    """Mistral: a token attends to a window of tokens."""

    sliding_window: Width | None = None


class QwenFields(Fields, frozen=True, kw_only=True):
    """Qwen 2 and 3: later layers may have a window."""

    use_sliding_window: bool = False
    sliding_window: Width | None = None
    max_window_layers: int = 28


def config(found: Fields, where: str, architecture: str = "llama") -> Config:
    """In our words. Raises UserError for what is not read here."""
    heads, d_model = found.num_attention_heads, found.hidden_size
    names = ("hidden_size", "num_attention_heads")
    width = found.head_dim or head_width(d_model, heads, names, where)
    groups = found.num_key_value_heads or heads
    if heads % groups:
        raise UserError(
            f"{where} says num_attention_heads {heads} and num_key_value_heads {groups}: the first "
            "must be a multiple of the second"
        )
    if width % 2:
        raise UserError(
            f"{where} has heads of {width} dimensions: they turn in pairs, give an even number"
        )
    window, begin = _window(found)
    _check_layer_types(found, window, begin, where)
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
        rotary_base=rotary(found, where).rope_theta or 10_000.0,
        norm="rms",
        window=window,
        window_from=begin,
        **special_tokens(found),
    )


def _window(found: Fields) -> tuple[int | None, int]:
    """How many tokens a token attends to, and the first layer where that holds."""
    if isinstance(found, MistralFields):
        return found.sliding_window, 0
    if isinstance(found, QwenFields) and found.use_sliding_window:
        return found.sliding_window, found.max_window_layers
    return None, 0


def _check_layer_types(found: Fields, window: int | None, begin: int, where: str) -> None:
    """Raise UserError where config.json names other layers with a window than are read."""
    if found.layer_types is None:
        return
    kinds = ("full_attention", "sliding_attention")
    ours = [kinds[window is not None and i >= begin] for i in range(len(found.layer_types))]
    if ours != found.layer_types:
        raise UserError(
            f"{where}: layer_types do not agree with its windows: only layers from "
            "max_window_layers on with a window are read"
        )


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
    D, M, H, E = c.d_model, c.d_mlp, c.heads, c.d_head
    G = found.num_key_value_heads or H
    at, mlp = "layers.{}.self_attn", "layers.{}.mlp"

    def qkv(part: str, *inputs: int) -> dict[str, tuple[int, ...]]:
        heads = {"q": H, "k": G, "v": G}
        return {f"{at}.{name}_proj.{part}": (n * E, *inputs) for name, n in heads.items()}

    def of_each_head(*parts: NDArray[Any]) -> NDArray[Any]:
        by_head = [part.reshape(-1, E, *part.shape[1:]) for part in parts]
        return np.stack([np.repeat(part, H // len(part), axis=0) for part in by_head])

    made = {
        "norm1_scale": Source({"layers.{}.input_layernorm.weight": (D,)}),
        "norm2_scale": Source({"layers.{}.post_attention_layernorm.weight": (D,)}),
        "W_QKV": Source(qkv("weight", D), of_each_head),
        "W_O": Source({f"{at}.o_proj.weight": (D, H * E)}, lambda a: a.T.reshape(H, E, D)),
        "W_gate": Source({f"{mlp}.gate_proj.weight": (M, D)}, np.transpose),
        "W_in": Source({f"{mlp}.up_proj.weight": (M, D)}, np.transpose),
        "W_out": Source({f"{mlp}.down_proj.weight": (D, M)}, np.transpose),
    }
    if found.attention_bias or qkv_bias:
        made["b_QKV"] = Source(qkv("bias"), of_each_head)
    if found.attention_bias and not qkv_bias:
        made["b_O"] = Source({f"{at}.o_proj.bias": (D,)})
    if found.mlp_bias:
        for field, name, width in (("gate", "gate", M), ("in", "up", M), ("out", "down", D)):
            made[f"b_{field}"] = Source({f"{mlp}.{name}_proj.bias": (width,)})
    if head_norms:
        made["q_norm"] = Source({f"{at}.q_norm.weight": (E,)})
        made["k_norm"] = Source({f"{at}.k_norm.weight": (E,)})
    return made


def _family(
    architecture: str, model: type[Fields], qkv_bias: bool = False, head_norms: bool = False
) -> Family:
    named = partial(config, architecture=architecture)
    layers = partial(inner, qkv_bias=qkv_bias, head_norms=head_norms)
    return Family(model, named, outer, layers, prefix="model.", head="lm_head.weight")


LLAMA = _family("llama", Fields)
MISTRAL = _family("mistral", MistralFields)
QWEN2 = _family("qwen2", QwenFields, qkv_bias=True)
QWEN3 = _family("qwen3", QwenFields, head_norms=True)
