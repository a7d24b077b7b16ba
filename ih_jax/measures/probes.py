"""Sequences that all networks are measured on, taken a few at a time.

Papers: Singh et al. 2024: every sequence that training can show, 78,400 in its setting, is the
probe of all analyses of trained networks. Olsson et al. 2022, "Head Activation Evaluators": random
tokens, once or repeated, are those of language models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.data import fewshot
from ih_jax.data.batches import Batch, Tokens, size_of_pieces
from ih_jax.errors import UserError
from ih_jax.tasks.base import Task
from ih_jax.tasks.fewshot import FewShot

AT_ONCE = 512  # sequences; what few cores' caches hold, and enough to fill their vector lanes
TOKENS_AT_ONCE = {"cpu": 1024}  # of language, whose patterns are large; elsewhere `MOST_TOKENS`
MOST_TOKENS = 65_536
BLOCK = 25  # random tokens


def exhaustive(task: Task) -> Batch:
    """Every training sequence: class pairs x label pairs x orders (78,400 in the paper's setting).

    Raises UserError for a task whose sequences cannot be listed: not few-shot, several exemplars a
    class, noise, or not the default layout.
    """
    if not isinstance(task, FewShot):
        raise UserError("only the sequences of a few-shot task can be listed: sample a probe")
    if task.exemplars != 1 or task.layout != fewshot.Layout():
        raise UserError(
            f"{task.exemplars} exemplars a class, {task.layout}: only for one exemplar and the "
            "default layout can all sequences be listed; give a sample as probe instead"
        )
    return fewshot.exhaustive(task.source("train"))


def by_pieces(function: Callable[[Batch], Any], batch: Batch, at_once: int = AT_ONCE) -> Any:
    """The mean over sequences of what `function(batch)` gives, itself a mean over sequences.

    The batch is split into equal pieces of at most `at_once` sequences (where its size has such a
    divisor above a fifth of that; else it is taken whole), one after the other, so that memory does
    not grow with it.
    """
    return batch.mean_of(function, at_once, at_once // 5 + 1)


def subset(batch: Batch, every: int) -> Batch:
    """Every so-manyth sequence, where all are more than is needed.

    Orders of a context and label pairs vary fastest in `exhaustive`: give an odd number.
    """

    def some(x: Array | None) -> Array | None:
        return None if x is None else x[np.arange(0, len(x), every)]

    if batch.rows is None:
        raise UserError("a batch with a table of its own has no subset: sample fewer sequences")
    return Batch(batch.table, *map(some, (batch.rows, batch.labels, batch.classes, batch.kinds)))  # type: ignore[arg-type]


# --- language -----------------------------------------------------------------------------------


def at_once(batch: Tokens) -> int:
    """How many sequences of a batch of language to take at a time."""
    tokens = TOKENS_AT_ONCE.get(jax.default_backend(), MOST_TOKENS)
    return max(1, tokens // batch.positions)


def each_piece(function: Callable[[Tokens, Array], Any], batch: Tokens, beside: Array) -> Any:
    """What `function(piece, its part of beside)` gives, of each piece, along a new first axis.

    Pieces are equal, and one comes after the other, as in `Tokens.mean_of`; for what is not a mean
    over sequences. `beside` is [B, ...], something of each sequence.
    """
    count = len(batch.tokens)
    size = size_of_pieces(count, at_once(batch))
    parts = [x.reshape(count // size, size, *x.shape[1:]) for x in (batch.tokens, beside)]
    return jax.lax.map(lambda part: function(Tokens(part[0]), part[1]), parts)


def repeated_tokens(
    vocabulary: int,
    length: int,
    block: int | None = None,
    times: int = 4,
    sequences: int = 10,
    seed: int = 0,
    exclude: Sequence[int] = (),
) -> Tokens:
    """BOS, then a block of random tokens, the same `times` times: [sequences, 1 + times x block].

    Olsson et al. 2022, "Prefix matching score": 25 tokens, 4 times. Those of a block are distinct.

    Args:
        vocabulary: tokens of the model, BOS (the last) included; BOS is in no block.
        length: at most so many positions.
        block: tokens of a block; None: 25, or as many as there are and fit.
        times: blocks of a sequence.
        sequences: how many.
        seed: of NumPy's generator, so that all networks see the same.
        exclude: tokens not to use; in the paper the most and the least common ones.

    Raises:
        UserError: fewer than two blocks, or a block that has too few tokens to draw or no room.
    """
    if times < 2:
        raise UserError(f"times is {times}: a token must come again, give 2 or more")
    rows = _distinct(vocabulary, (length - 1) // times, block, sequences, seed, exclude)
    first = np.full((sequences, 1), vocabulary - 1, np.int32)
    return Tokens(jnp.asarray(np.concatenate([first, np.tile(rows, times)], axis=1)))


def random_tokens(
    vocabulary: int,
    length: int,
    count: int | None = None,
    sequences: int = 10,
    seed: int = 0,
    exclude: Sequence[int] = (),
) -> Tokens:
    """Distinct random tokens: [sequences, count], `count` 25 or as many as there are and fit.

    Olsson et al. 2022, "Copying score"; as there (footnote 31) without BOS. All else, and errors,
    as in `repeated_tokens`.
    """
    return Tokens(jnp.asarray(_distinct(vocabulary, length, count, sequences, seed, exclude)))


def _distinct(
    vocabulary: int, room: int, count: int | None, sequences: int, seed: int, exclude: Sequence[int]
) -> np.ndarray:
    """[sequences, count] tokens, each once in its row."""
    known = np.setdiff1d(np.arange(vocabulary - 1), np.asarray(exclude, np.int64))
    most = min(len(known), room)
    if count is None:
        count = min(BLOCK, most)
    if not 1 <= count <= most or sequences < 1:
        raise UserError(
            f"{sequences} sequences of {count} distinct tokens in a row: there are {len(known)} "
            f"tokens and room for {room}: give 1 to {most} tokens, 1 or more sequences"
        )
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(known, count, replace=False) for _ in range(sequences)]
    return np.asarray(drawn, np.int32)
