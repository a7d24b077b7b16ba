"""What heads do: queries, keys and values, positions turned in, scores, and what is mixed by them.

Papers: Singh et al. 2024, section 2; smeared keys: Olsson et al. 2022, "Smeared Key". Shapes are
those of `sites`, in the program's layout.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ih_jax.model.embedding import Stream
from ih_jax.model.layers import linear, norm
from ih_jax.model.params import Attention, Block, Config

BROADCAST_UP_TO = 16  # positions; longer sequences are faster through batched matrix products
# Tokens, of all sequences: beyond, jaxlib 0.10.2 adds up broadcast products wrongly on a CPU unless
# `platforms.CPU.short_options` are set, which programs of a user's own do not (jax-ml/jax#39103).
ADDED_UP_TO = 32_768


def matrices(config: Config, attention: Attention) -> list[Array]:
    """W_Q, W_K, W_V as [H * E, D]; for rope with the first of each pair in the first half."""
    R = 2 if config.positions == "rope" else 1
    H, E, D = config.heads, config.d_head, config.d_model
    paired = attention.W_QKV[:2].reshape(2, H, E // R, R, D).transpose(0, 3, 1, 2, 4)
    return [*paired.reshape(2, H * E, D), attention.W_QKV[2].reshape(H * E, D)]


def project(config: Config, block: Block, inputs: list[Stream]) -> list[Array]:
    """Queries, keys and values [H * E, T, B]; what shares an input shares one matrix product."""
    each = matrices(config, block.attention)
    groups: list[list[int]] = []
    for index, stream in enumerate(inputs):
        same = [group for group in groups if inputs[group[0]] is stream]
        if same:
            same[0].append(index)
        else:
            groups.append([index])
    out: list[Array] = [jnp.zeros(0)] * 3
    for group in groups:
        weight = jnp.concatenate([each[index] for index in group])
        stream = inputs[group[0]]
        if stream.columns is not None and stream.one_hot is not None:
            few = linear(weight, norm(block.norm1, stream.columns))
            joint = linear(few, stream.one_hot)
        else:
            joint = linear(weight, norm(block.norm1, stream.value))
        for index, part in zip(group, jnp.split(joint, len(group)), strict=True):
            out[index] = part
    return out


def smear(attention: Attention, k: Float[Array, "R H half T B"]) -> Float[Array, "R H half T B"]:
    """k_j <- s k_j + (1 - s) k_{j-1}, s = sigmoid(smear) a head; the first key stays.

    Olsson et al. 2022, "Smeared Key": before positions are turned in.
    """
    if attention.smear is None:
        return k
    s = jax.nn.sigmoid(attention.smear)[None, :, None, None, None]
    before = jnp.concatenate([k[..., :1, :], k[..., :-1, :]], axis=-2)
    return s * k + (1 - s) * before


def rope(config: Config, x: Float[Array, "R H half Tx B"], T: int) -> Float[Array, "R H half Tx B"]:
    """Pairs (x[0], x[1]) of the first axis [2, H, E/2, T, B] turned by position times frequency."""
    if config.positions != "rope":
        return x
    pair = np.arange(config.d_head // 2)[:, None]
    angle = np.arange(T)[-x.shape[3] :] * config.position_base ** (-2 * pair / config.d_head)
    sine = np.stack([-np.sin(angle), np.sin(angle)])[:, None, ..., None]
    cosine = np.cos(angle)[None, None, ..., None]
    return x * cosine.astype(np.float32) + x[::-1] * sine.astype(np.float32)


def products(
    q: Float[Array, "R H half Tq B"], k: Float[Array, "R H half Tk B"]
) -> Float[Array, "H Tq Tk B"]:
    """Scores before scaling [H, Tq, Tk, B], of queries and keys [R, H, E/R, T, B]."""
    if k.shape[3] <= BROADCAST_UP_TO:
        return jnp.sum(q[:, :, :, :, None] * k[:, :, :, None], axis=(0, 2))
    return jnp.einsum("rheqb,rhekb->hqkb", q, k)


def mix(
    pattern: Float[Array, "H Tq Tk B"], v: Float[Array, "H E Tk B"]
) -> Float[Array, "H E Tq B"]:
    """z [H, E, Tq, B] from a pattern [H, Tq, Tk, B] and values [H, E, Tk, B]."""
    if v.shape[2] <= BROADCAST_UP_TO and v.shape[2] * v.shape[3] <= ADDED_UP_TO:
        return jnp.sum(pattern[:, None] * v[:, :, None], axis=3)
    return jnp.einsum("hqkb,hekb->heqb", pattern, v)
