"""Networks of other people as pure functions: their shape, their weights, a forward pass.

Weights of all families have one layout, stacked over layers; `forward` scans over the stack, so
that a deeper network has no longer program, and measures each layer where it is computed.

Radford et al. 2019 (GPT-2); Black et al. 2022, "GPT-NeoX-20B"; Touvron et al. 2023, "LLaMA"; Jiang
et al. 2023, "Mistral 7B"; Yang et al. 2025, "Qwen3".

Glossary: B sequences of T tokens, L layers of H heads of width E, stream of width D, M neurons in a
layer's MLP, V tokens in the vocabulary, P positions, R of E dimensions rotated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.errors import UserError

TANH_GELU = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate")
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    **dict.fromkeys(("gelu", "gelu_python"), partial(jax.nn.gelu, approximate=False)),
    **dict.fromkeys(TANH_GELU, partial(jax.nn.gelu, approximate=True)),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    **dict.fromkeys(("silu", "swish"), jax.nn.silu),
    "tanh": jnp.tanh,
}


@dataclass(frozen=True)
class Config:
    """What config.json says of a network, in one spelling for all families."""

    architecture: str
    layers: int
    heads: int
    d_model: int
    d_head: int
    d_mlp: int
    vocabulary: int
    context: int  # tokens, the longest sequence
    activation: str
    epsilon: float
    scale: float  # of attention scores
    bos: int | None  # the token that sequences begin with, where it is in the vocabulary
    special: tuple[int, ...]  # tokens that are no text: beginning, end, padding
    tied: bool
    scale_by_layer: bool = False  # scores of layer i are divided by i + 1, too
    rotary: int = 0  # dimensions of each head that are rotated; an odd one more
    rotary_base: float = 10_000.0
    parallel: bool = False  # attention and MLP read the same stream
    norm: Literal["layer", "rms"] = "layer"
    window: int | None = None  # tokens that a token attends to, itself the last; None: all
    window_from: int = 0  # the first layer with a window
    learned_positions: bool = False  # a table is added to the embedding


class Blocks(NamedTuple):
    """Weights of all layers, each [L, ...]. Biases that a family has not are 0."""

    norm1_scale: Array  # [L, D]
    norm1_bias: Array
    W_QKV: Array  # [L, 3, H, E, D]; keys and values that heads share are there for each head
    b_QKV: Array  # [L, 3, H, E]
    W_O: Array  # [L, H, E, D]
    b_O: Array  # [L, D]
    norm2_scale: Array  # [L, D]
    norm2_bias: Array
    W_in: Array  # [L, D, M]
    b_in: Array  # [L, M]
    W_out: Array  # [L, M, D]
    b_out: Array  # [L, D]
    W_gate: Array | None = None  # [L, D, M]; its activation multiplies W_in's. None: not gated
    b_gate: Array | None = None  # [L, M]
    q_norm: Array | None = None  # [L, E], root-mean-square norms of each head. None: none
    k_norm: Array | None = None


class Weights(NamedTuple):
    """Weights of a network, float32."""

    W_E: Array  # [V, D]
    W_pos: Array | None  # [P, D]; None: rotary
    blocks: Blocks
    norm_scale: Array  # [D]
    norm_bias: Array
    W_U: Array  # [V, D]; tied: the array W_E


Measure = Callable[[Array, Array, Array], Any]


def forward(weights: Weights, config: Config, tokens: Array, measure: Measure) -> tuple[Array, Any]:
    """Logits, and what `measure` makes of each layer.

    Args:
        weights: of a network.
        config: of the same network; static.
        tokens: [B, T], each below V.
        measure: of one layer: pattern [B, H, T, T], head outputs z [B, T, H, E] before W_O, and
            W_O [H, E, D], to a pytree. No other layer's pattern is in memory then.

    Returns:
        Logits [B, T, V], and the pytree of `measure` with a leading axis L.

    Raises:
        UserError: sequences are longer than the context.
    """
    T = tokens.shape[1]
    if config.context < T:
        raise UserError(f"sequences of {T} tokens: this network's context is {config.context}")
    activation = ACTIVATIONS[config.activation]
    norm = partial(_norm, kind=config.norm, epsilon=config.epsilon)
    of_head = partial(_norm, bias=0.0, kind="rms", epsilon=config.epsilon)
    cosines, sines = _rotations(config, T)
    number = np.arange(config.layers)
    scales = config.scale / (number + 1 if config.scale_by_layer else np.ones(config.layers))
    past = jnp.tril(jnp.ones((T, T), bool))
    near = past if config.window is None else past & ~jnp.tril(past, -config.window)

    def mlp(block: Blocks, x: Array) -> Array:
        normed = norm(x, block.norm2_scale, block.norm2_bias)
        hidden = normed @ block.W_in + _along(block.b_in, x)
        if block.W_gate is not None and block.b_gate is not None:
            hidden = hidden * activation(normed @ block.W_gate + _along(block.b_gate, x))
        else:
            hidden = activation(hidden)
        return hidden @ block.W_out + _along(block.b_out, x)

    def layer(x: Array, given: tuple[Blocks, Array, Array]) -> tuple[Array, Any]:
        block, scale, windowed = given
        normed = norm(x, block.norm1_scale, block.norm1_bias)
        q, k, v = jnp.einsum("btd,nhed->nbthe", normed, block.W_QKV) + block.b_QKV[:, None, None]
        if block.q_norm is not None and block.k_norm is not None:
            q, k = of_head(q, block.q_norm), of_head(k, block.k_norm)
        q, k = (_rotate(each, cosines, sines) for each in (q, k))
        seen = jnp.where(windowed, near, past)
        scores = jnp.where(seen[None, None], jnp.einsum("bihe,bjhe->bhij", q, k) * scale, -jnp.inf)
        pattern = jax.nn.softmax(scores, axis=-1)
        z = jnp.einsum("bhij,bjhe->bihe", pattern, v)
        attended = x + jnp.einsum("bthe,hed->btd", z, block.W_O) + _along(block.b_O, x)
        x = attended + mlp(block, x if config.parallel else attended)
        return x, measure(pattern, z, block.W_O)

    with jax.default_matmul_precision("highest"):
        x = weights.W_E[tokens]
        if weights.W_pos is not None:
            x = x + weights.W_pos[None, :T]
        windowed = jnp.asarray(number >= config.window_from)
        x, measured = jax.lax.scan(layer, x, (weights.blocks, jnp.array(scales), windowed))
        logits = norm(x, weights.norm_scale, weights.norm_bias) @ weights.W_U.T
    return logits, measured


def direct_unembedding(weights: Weights, config: Config) -> Array:
    """[V, D]: what a vector in the stream adds to logits through the last norm, up to its length.

    The norm multiplies by `norm_scale` and, if it is a layer norm, centres the stream; both are
    linear. The deviation that it divides by is left out.
    """
    scaled = weights.W_U * weights.norm_scale[None]
    return scaled - scaled.mean(axis=1, keepdims=True) if config.norm == "layer" else scaled


def bytes_of(config: Config) -> int:
    """What the weights take, float32."""
    c = config
    of_layer = 4 * c.heads * c.d_head * c.d_model + 2 * c.d_model * c.d_mlp
    tables = (2 - c.tied) * c.vocabulary + c.learned_positions * c.context
    return 4 * (c.layers * of_layer + tables * c.d_model)


def _norm(x: Array, scale: Array, bias: Array | float, kind: str, epsilon: float) -> Array:
    if kind == "layer":
        x = x - x.mean(-1, keepdims=True)
    scaled = x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + epsilon) * _along(scale, x)
    return scaled + _along(bias, x)


def _along(vector: Array | float, x: Array) -> Array:
    """A vector along the last axis of x; a number stands for one that is the same everywhere."""
    return jnp.reshape(vector, (1,) * (x.ndim - 1) + (-1,))


def _rotations(config: Config, length: int) -> tuple[Array, Array]:
    """Cosines and sines [1, T, 1, R / 2] of rotary positions (Su et al. 2021, in NeoX's halves).

    An odd R is rounded up, where there are pairs, and not in the frequencies, as in transformers.
    """
    exponents = np.arange(0, config.rotary, 2, dtype=np.float32) / max(config.rotary, 1)
    angles = np.arange(length)[:, None, None] * config.rotary_base**-exponents
    turned = jnp.asarray(angles[None], jnp.float32)
    return jnp.cos(turned), jnp.sin(turned)


def _rotate(x: Array, cosines: Array, sines: Array) -> Array:
    """Rotate the first R dimensions of each head, the first half of them against the second."""
    half = cosines.shape[-1]
    first, second, rest = jnp.split(x, (half, 2 * half), axis=-1)
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return jnp.concatenate([*turned, rest], axis=-1)
