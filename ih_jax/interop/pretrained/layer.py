"""One layer of a network of other people, with every activation shown as it is computed.

Su et al. 2021, "RoFormer"; Press et al. 2022, "Train Short, Test Long" (ALiBi); Zhang & Sennrich
2019 (root-mean-square norms); Gemma Team 2024, "Gemma 2" (soft caps, norms after).

Glossary: as in `layout`; B sequences of T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.interop.pretrained.layout import Blocks, Config, Scaling
from ih_jax.model.transformer import CAUSAL

TANH_GELU = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate")
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    **dict.fromkeys(("gelu", "gelu_python"), partial(jax.nn.gelu, approximate=False)),
    **dict.fromkeys(TANH_GELU, partial(jax.nn.gelu, approximate=True)),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    **dict.fromkeys(("silu", "swish"), jax.nn.silu),
    "tanh": jnp.tanh,
}

# (site, value) -> what stands there from now on. Sites are those of `ih_jax.model.sites`; values
# are in their public layout with the batch first.
Here = Callable[[str, Array], Array]


class Seen(NamedTuple):
    """What layers know of positions, and one of itself."""

    cosines: Array  # [1, T, 1, R / 2]
    sines: Array
    falling: Array | None  # [1, H, 1, T], what ALiBi adds to scores
    past: Array  # [T, T], what a token may see
    near: Array  # [T, T], the same within the window
    scale: Array | float = 1.0  # of this layer's scores
    windowed: Array | bool = False  # whether this layer has the window


def seen_from(config: Config, T: int) -> Seen:
    """What layers know, for sequences of T tokens; `scale` and `windowed` are still to be set."""
    cosines, sines = _rotations(config, T)
    past = jnp.tril(jnp.ones((T, T), bool))
    near = past if config.window is None else past & ~jnp.tril(past, -config.window)
    falling = None
    if config.alibi:
        # From the first token: what distance adds, but for a number that a row has in common.
        steps = jnp.asarray(slopes(config.heads))
        falling = steps[None, :, None, None] * jnp.arange(T)[None, None, None]
    return Seen(cosines, sines, falling, past, near)


def by_layer(config: Config) -> tuple[Array, Array]:
    """The scale of scores and whether there is a window, [L] each."""
    number = np.arange(config.layers)
    scales = config.scale / (number + 1 if config.scale_by_layer else np.ones(config.layers))
    windowed = config.windowed or (config.window is not None,) * config.layers
    return jnp.array(scales), jnp.asarray(windowed)


def layer(block: Blocks, config: Config, seen: Seen, x: Array, here: Here) -> Array:
    """The stream [B, T, D] after a layer, from the stream before it.

    Args:
        block: weights of this layer, without the axis L.
        config: of the network.
        seen: from `seen_from`.
        x: [B, T, D].
        here: is shown every site in the order of computation, and may put something else there.
    """
    x = here("resid_pre", x)
    attn_out = here("attn_out", _attend(block, config, seen, x, here))
    attended = _of_stream(config, x + attn_out, block.norm1_scale, block.norm1_bias)
    mlp_out = here("mlp_out", _mlp(block, config, x if config.parallel else attended))
    after = _of_stream(config, attended + mlp_out, block.norm2_scale, block.norm2_bias)
    return here("resid_post", after)


def _attend(block: Blocks, config: Config, seen: Seen, x: Array, here: Here) -> Array:
    inputs = [here(f"{name}_input", x) for name in "qkv"]
    q, k, v = _project(block, config, inputs)
    q, k, v = here("q", q), here("k", k), here("v", v)
    q, k = (_rotate(each, seen.cosines, seen.sines) for each in (q, k))
    scores = jnp.einsum("bihe,bjhe->bhij", q, k) * seen.scale
    if seen.falling is not None:
        scores = scores + seen.falling
    if config.score_cap is not None:
        scores = config.score_cap * jnp.tanh(scores / config.score_cap)
    may_see = jnp.where(seen.windowed, seen.near, seen.past)
    scores = here("attn_scores", jnp.where(may_see[None, None], scores, CAUSAL))
    pattern = here("pattern", jax.nn.softmax(scores, axis=-1))
    z = here("z", jnp.einsum("bhij,bjhe->bihe", pattern, v))
    out = jnp.einsum("bthe,hed->btd", z, block.W_O) + along(block.b_O, x)
    return _after(config, out, block.after1_scale)


def _project(block: Blocks, config: Config, inputs: list[Array]) -> list[Array]:
    """Queries, keys and values [B, T, H, E], before positions."""
    norm1 = block.norm1_scale, block.norm1_bias
    if all(each is inputs[0] for each in inputs):
        normed = _before(config, inputs[0], *norm1)
        parts = list(jnp.einsum("btd,nhed->nbthe", normed, block.W_QKV))
    else:
        weights = zip(inputs, block.W_QKV, strict=True)
        parts = [jnp.einsum("btd,hed->bthe", _before(config, x, *norm1), W) for x, W in weights]
    parts = [part + bias[None, None] for part, bias in zip(parts, block.b_QKV, strict=True)]
    if config.clip is not None:
        parts = [jnp.clip(part, -config.clip, config.clip) for part in parts]
    q, k, v = parts
    if block.q_norm is not None and block.k_norm is not None:
        q, k = (
            _of_heads(each, scale, config.epsilon)
            for each, scale in ((q, block.q_norm), (k, block.k_norm))
        )
    return [q, k, v]


def _mlp(block: Blocks, config: Config, x: Array) -> Array:
    activation = ACTIVATIONS[config.activation]
    normed = _before(config, x, block.norm2_scale, block.norm2_bias)
    hidden = normed @ block.W_in + along(block.b_in, x)
    if block.W_gate is not None and block.b_gate is not None:
        hidden = hidden * activation(normed @ block.W_gate + along(block.b_gate, x))
    else:
        hidden = activation(hidden)
    return _after(config, hidden @ block.W_out + along(block.b_out, x), block.after2_scale)


# --- norms --------------------------------------------------------------------------------------


def norm(config: Config, x: Array, scale: Array, bias: Array | None, kind: str = "") -> Array:
    """A norm over the last axis, of the network's kind or of another."""
    if (kind or config.norm) == "layer":
        x = x - x.mean(-1, keepdims=True)
    scaled = x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + config.epsilon) * along(scale, x)
    return scaled if bias is None else scaled + along(bias, x)


def _before(config: Config, x: Array, scale: Array | None, bias: Array | None) -> Array:
    return x if config.post_norm or scale is None else norm(config, x, scale, bias)


def _of_stream(config: Config, x: Array, scale: Array | None, bias: Array | None) -> Array:
    return norm(config, x, scale, bias) if config.post_norm and scale is not None else x


def _after(config: Config, x: Array, scale: Array | None) -> Array:
    return x if scale is None else norm(config, x, scale, None)


def _of_heads(x: Array, scale: Array, epsilon: float) -> Array:
    """Queries or keys [B, T, H, E] over E, where the scale is [E]; [H, E]: over both axes."""
    axes = tuple(range(-scale.ndim, 0))
    size = jax.lax.rsqrt((x**2).mean(axes, keepdims=True) + epsilon)
    return x * size * scale.reshape((1,) * (x.ndim - scale.ndim) + scale.shape)


def along(vector: Array, x: Array) -> Array:
    """A vector along the last axis of x."""
    return jnp.reshape(vector, (1,) * (x.ndim - 1) + (-1,))


# --- positions ----------------------------------------------------------------------------------


def slopes(heads: int) -> np.ndarray:
    """[H], by how much ALiBi's scores fall a token: 2 ** (-8 / H), its square, and so on.

    Where H is no power of two, the slopes of the one below, and every other slope of twice that.
    """
    whole = 2 ** math.floor(math.log2(heads))
    first = 2.0 ** (-8 / whole * np.arange(1, whole + 1))
    more = 2.0 ** (-4 / whole * np.arange(1, 2 * (heads - whole), 2))
    return np.concatenate([first, more]).astype(np.float32)


def _rotations(config: Config, length: int) -> tuple[Array, Array]:
    """Cosines and sines [1, T, 1, R / 2] of rotary positions (Su et al. 2021, in NeoX's halves).

    An odd R is rounded up, where there are pairs, and not in the frequencies, as in transformers.
    """
    exponents = np.arange(0, config.rotary, 2, dtype=np.float32) / max(config.rotary, 1)
    frequencies = _stretched(config.rotary_base**-exponents, config.rotary_scaling)
    turned = jnp.asarray((np.arange(length)[:, None, None] * frequencies)[None], jnp.float32)
    return jnp.cos(turned), jnp.sin(turned)


def _stretched(frequencies: np.ndarray, scaling: Scaling | None) -> np.ndarray:
    """Frequencies, scaled; "llama3" as in Grattafiori et al. 2024, "The Llama 3 Herd of Models"."""
    if scaling is None:
        return frequencies
    slow = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slow
    turns = scaling.original * frequencies / (2 * np.pi)
    share = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0, 1)
    return share * frequencies + (1 - share) * slow


def _rotate(x: Array, cosines: Array, sines: Array) -> Array:
    """Rotate the first R dimensions of each head, the first half of them against the second."""
    half = cosines.shape[-1]
    first, second, rest = jnp.split(x, (half, 2 * half), axis=-1)
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return jnp.concatenate([*turned, rest], axis=-1)
