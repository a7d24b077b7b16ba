"""A language model whose weights are set by hand: a previous-token head and an induction head."""

import dataclasses
from typing import Any

import jax
import numpy as np

from ih_jax.model.params import Config, Params, init

TOKENS = 10  # and BOS
POSITIONS = 41  # BOS and four blocks of all tokens
CIRCUIT = Config(
    features=0,
    labels=TOKENS + 1,
    d_model=96,
    heads=2,
    positions="shortformer",
    max_positions=POSITIONS,
    norm=False,
)


def circuit(sharp: float = 60.0) -> Params:
    """Head 0 of layer 0 looks at the previous token, head 0 of layer 1 matches and copies.

    The stream has room for the token, what the previous one was, and (in inputs of queries and keys
    only) the position. Where nothing matches, the induction head rests on the first position. Heads
    1 attend to all positions alike, and write nothing.
    """
    V, E, D = TOKENS + 1, CIRCUIT.d_head, CIRCUIT.d_model
    token = np.arange(V)
    previous = V + token
    position = 2 * V + np.arange(POSITIONS)
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), CIRCUIT))
    zero: Params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)

    def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray) -> Any:
        """Of head 0, from [E, D] three times and [D, E]."""
        qkv = np.zeros((3, CIRCUIT.heads, E, D), np.float32)
        W_out = np.zeros((D, CIRCUIT.heads, E), np.float32)
        qkv[:, 0], W_out[:, 0] = [q, k, v], out
        return dataclasses.replace(zero.blocks[0].attention, W_QKV=qkv, W_out=W_out)

    def maps(rows: np.ndarray, columns: np.ndarray, scale: float = 1.0) -> np.ndarray:
        made = np.zeros((E, D), np.float32)
        made[rows, columns] = scale
        return made

    size, at = sharp * E**0.5, np.arange(POSITIONS)
    first = attention(
        maps(np.maximum(at - 1, 0), position, size),
        maps(at, position),
        maps(token, token),
        maps(token, previous).T,
    )
    # Every token looks for the first position, too, half as much as for its own kind.
    rest = np.full(V, V)
    query = maps(token, token, size) + maps(rest, token, size / 2)
    key = maps(token, previous) + maps(np.array([V]), position[:1])
    second = attention(query, key, maps(token, token, 10.0), maps(token, token).T)

    def one_hot(rows: np.ndarray) -> np.ndarray:
        made = np.zeros((D, len(rows)), np.float32)
        made[rows, np.arange(len(rows))] = 1
        return made

    return dataclasses.replace(
        zero,
        W_E=one_hot(token),
        W_pos=one_hot(position).T,
        W_U=one_hot(token).T,
        blocks=tuple(
            dataclasses.replace(block, attention=each)
            for block, each in zip(zero.blocks, (first, second), strict=True)
        ),
    )


def shuffled(params: Params, seed: int = 0) -> Params:
    """The same weights, those of each matrix in random order."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.permutation(np.ravel(x)).reshape(x.shape), params)
