"""GPT-2 and GPT-NeoX networks as pure functions: their shape, their weights, a forward pass.

Weights of both kinds have one layout, stacked over layers; `forward` scans over the stack, so that
a program is no longer for a deeper network, and measures each layer where it is computed.

Radford et al. 2019 (GPT-2); Black et al. 2022, "GPT-NeoX-20B".

Glossary: B sequences of T tokens, L layers of H heads of width E, D = H E, M neurons in a layer's
MLP, V tokens in the vocabulary, P positions, R of E dimensions rotated.
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
    """What config.json says of a network, in one spelling for both kinds."""

    architecture: Literal["gpt2", "gpt_neox"]
    layers: int
    heads: int
    d_model: int
    d_mlp: int
    vocabulary: int
    context: int  # tokens, the longest sequence
    activation: str
    epsilon: float
    scales: tuple[float, ...]  # of attention scores, one a layer
    bos: int | None  # the token that sequences begin with, where it is in the vocabulary
    special: tuple[int, ...]  # tokens that are no text: beginning, end, padding
    tied: bool
    rotary: int = 0  # dimensions of each head that are rotated; an odd one more
    rotary_base: float = 10_000.0
    parallel: bool = False  # attention and MLP read the same stream
    attention_bias: bool = True

    @property
    def d_head(self) -> int:
        return self.d_model // self.heads


class Blocks(NamedTuple):
    """Weights of all layers, each [L, ...]."""

    norm1_scale: Array  # [L, D]
    norm1_bias: Array
    W_QKV: Array  # [L, 3, H, E, D]
    b_QKV: Array  # [L, 3, H, E]
    W_O: Array  # [L, H, E, D]
    b_O: Array  # [L, D]
    norm2_scale: Array  # [L, D]
    norm2_bias: Array
    W_in: Array  # [L, D, M]
    b_in: Array  # [L, M]
    W_out: Array  # [L, M, D]
    b_out: Array  # [L, D]


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
    norm = partial(_layer_norm, epsilon=config.epsilon)
    cosines, sines = _rotations(config, T)
    past = jnp.tril(jnp.ones((T, T), bool))

    def mlp(block: Blocks, x: Array) -> Array:
        hidden = activation(norm(x, block.norm2_scale, block.norm2_bias) @ block.W_in + block.b_in)
        return hidden @ block.W_out + block.b_out

    def layer(x: Array, given: tuple[Blocks, Array]) -> tuple[Array, Any]:
        block, scale = given
        normed = norm(x, block.norm1_scale, block.norm1_bias)
        qkv = jnp.einsum("btd,nhed->nbthe", normed, block.W_QKV) + block.b_QKV[:, None, None]
        q, k = (_rotate(each, cosines, sines) for each in qkv[:2])
        scores = jnp.where(past, jnp.einsum("bihe,bjhe->bhij", q, k) * scale, -jnp.inf)
        pattern = jax.nn.softmax(scores, axis=-1)
        z = jnp.einsum("bhij,bjhe->bihe", pattern, qkv[2])
        attended = x + jnp.einsum("bthe,hed->btd", z, block.W_O) + block.b_O
        x = attended + mlp(block, x if config.parallel else attended)
        return x, measure(pattern, z, block.W_O)

    with jax.default_matmul_precision("highest"):
        x = weights.W_E[tokens]
        if weights.W_pos is not None:
            x = x + weights.W_pos[:T]
        x, measured = jax.lax.scan(layer, x, (weights.blocks, jnp.array(config.scales)))
        logits = norm(x, weights.norm_scale, weights.norm_bias) @ weights.W_U.T
    return logits, measured


def direct_unembedding(weights: Weights) -> Array:
    """[V, D]: what a vector in the stream adds to logits through the last norm, up to its length.

    The norm centres the stream and multiplies by `norm_scale`, both linear; the deviation that it
    divides by is left out.
    """
    scaled = weights.W_U * weights.norm_scale
    return scaled - scaled.mean(axis=1, keepdims=True)


def _layer_norm(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + epsilon) * scale + bias


def _rotations(config: Config, length: int) -> tuple[Array, Array]:
    """Cosines and sines [T, 1, R / 2] of rotary positions (Su et al. 2021, in NeoX's halves).

    An odd R is rounded up, where there are pairs, and not in the frequencies, as in transformers.
    """
    exponents = np.arange(0, config.rotary, 2, dtype=np.float32) / max(config.rotary, 1)
    angles = np.arange(length)[:, None, None] * config.rotary_base**-exponents
    return jnp.cos(jnp.asarray(angles, jnp.float32)), jnp.sin(jnp.asarray(angles, jnp.float32))


def _rotate(x: Array, cosines: Array, sines: Array) -> Array:
    """Rotate the first R dimensions of each head, the first half of them against the second."""
    half = cosines.shape[-1]
    first, second, rest = jnp.split(x, (half, 2 * half), axis=-1)
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return jnp.concatenate([*turned, rest], axis=-1)
