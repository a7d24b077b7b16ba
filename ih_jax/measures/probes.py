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

from ih_jax import platforms
from ih_jax.data import fewshot
from ih_jax.data.batches import Batch, Tokens, size_of_pieces
from ih_jax.errors import UserError, unknown
from ih_jax.tasks.base import Task
from ih_jax.tasks.fewshot import FewShot

# Few-shot sequences in a piece: few enough for a few cores' caches, enough to fill vector lanes.
SEQUENCES_IN_PIECE = 512
BLOCK_TOKENS = 25  # random tokens of a block


def exhaustive(task: Task) -> Batch:
    """Every training sequence: class pairs x label pairs x orders (78,400 in the paper's setting).

    Raises UserError for a task whose sequences cannot be listed: one that is not few-shot, has
    several exemplars per class or noise, or does not have the default layout.
    """
    if not isinstance(task, FewShot):
        raise UserError(
            "only the sequences of a few-shot task can be listed: give a sample as probe"
        )
    if task.exemplars != 1 or task.layout != fewshot.Layout():
        raise UserError(
            f"{task.exemplars} exemplars per class, {task.layout}: all sequences can be listed "
            "only for one exemplar per class and the default layout; give a sample as probe instead"
        )
    return fewshot.exhaustive(task.source("train"))


def by_context(batch: Batch) -> Batch:
    """The same sequences in an order that lets a pass compute each context once.

    Sequences that share all but their query and its label come to the same place of equal parts
    (`Batch.queries`), in the order of their contexts; what is a mean over sequences stays what it
    was. As it is, where contexts do not have one number of queries, 2 or more. Not for jit.
    """
    if batch.rows is None or batch.queries > 1:
        return batch
    contexts = np.concatenate([np.asarray(x)[:, :-1] for x in (batch.rows, batch.labels)], axis=1)
    _, which, counts = np.unique(contexts, axis=0, return_inverse=True, return_counts=True)
    queries = int(counts[0])
    if queries == 1 or (counts != queries).any():
        return batch
    order = np.argsort(which.ravel(), kind="stable").reshape(-1, queries).T.ravel()

    def ordered(x: Array | None) -> Array | None:
        return None if x is None else x[order]

    rows, labels = batch.rows[order], batch.labels[order]
    own = (ordered(batch.classes), ordered(batch.kinds))
    return Batch(batch.table, rows, labels, *own, queries=queries)


def by_pieces(
    function: Callable[[Batch], Any], batch: Batch, at_once: int = SEQUENCES_IN_PIECE
) -> Any:
    """The mean over sequences of what `function(batch)` gives, itself a mean over sequences.

    The batch is split into equal pieces of at most `at_once` sequences (where its size has such a
    divisor above a fifth of that; otherwise it is taken whole), one after the other, so that memory
    does not grow with it.
    """
    return batch.mean_of(function, at_once, at_once // 5 + 1)


def subset(batch: Batch, every: int) -> Batch:
    """Every `every`-th sequence, where all of them are more than is needed.

    In `exhaustive` the orders of a context and its label pairs vary fastest: give an odd number.
    What `by_context` has put in order comes out as a batch without that order.
    """

    def some(x: Array | None) -> Array | None:
        return None if x is None else x[::every]

    if batch.rows is None:
        raise UserError(
            "this batch has exemplars of its own in each sequence, so no subset: sample fewer"
        )
    rows, labels = batch.rows[::every], batch.labels[::every]
    return Batch(batch.table, rows, labels, some(batch.classes), some(batch.kinds))


def of_sets(names: Sequence[str], sequences: int = 500) -> Callable[[Task], dict[str, Any]]:
    """A probe for measures that compare objectives: {name: sequences} of a network's task.

    Each network is measured on sequences of its own classes, drawn as its evaluation is.

    Args:
        names: evaluation sets of the task, or "train".
        sequences: of each.

    Raises:
        UserError: (when measured) the task has no such set.
    """

    def of_task(task: Task) -> dict[str, Any]:
        key, objective, found = jax.random.key(task.evaluation_seed), task.objective(), {}
        known = dict.fromkeys(("train", *task.evaluation_names))
        for number, name in enumerate(names):
            if name not in known:
                raise unknown("evaluation set", name, known)
            own = jax.random.fold_in(key, number)
            found[name] = objective.sample(own, task.source(name), sequences)
        return found

    return of_task


# --- language -----------------------------------------------------------------------------------


def at_once(batch: Tokens) -> int:
    """How many sequences of a batch of tokens to take at a time."""
    tokens = platforms.here().probe_tokens
    return max(1, tokens // batch.positions)


def each_piece(function: Callable[[Tokens, Array], Any], batch: Tokens, beside: Array) -> Any:
    """What `function(piece, its part of beside)` gives for each piece, along a new first axis.

    The pieces are equal and come one after the other, as in `Tokens.mean_of`; this is for what is
    not a mean over sequences. `beside` is [B, ...], something for each sequence.
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

    Olsson et al. 2022, "Prefix matching score": 25 tokens, 4 times. A block's tokens are distinct.

    Args:
        vocabulary: the model's number of tokens, BOS (the last one) included; no block has BOS.
        length: the most positions that a sequence may have.
        block: tokens in a block; None: 25, or as many as there are and fit.
        times: blocks in a sequence.
        sequences: how many.
        seed: of NumPy's generator, so that all networks see the same sequences.
        exclude: tokens not to use; in the paper the most and the least common ones.

    Raises:
        UserError: there are fewer than two blocks, or a block does not fit, or there are too few
            tokens to draw it from.
    """
    if times < 2:
        raise UserError(f"times is {times}: a block must be repeated, give 2 or more")
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

    Olsson et al. 2022, "Copying score"; without BOS, as there (footnote 31). Everything else,
    errors included, is as in `repeated_tokens`.
    """
    return Tokens(jnp.asarray(_distinct(vocabulary, length, count, sequences, seed, exclude)))


def _distinct(
    vocabulary: int, room: int, count: int | None, sequences: int, seed: int, exclude: Sequence[int]
) -> np.ndarray:
    """[sequences, count] tokens, each once in its row."""
    known = np.setdiff1d(np.arange(vocabulary - 1), np.asarray(exclude, np.int64))
    most = min(len(known), room)
    if count is None:
        count = min(BLOCK_TOKENS, most)
    if not 1 <= count <= most or sequences < 1:
        raise UserError(
            f"{sequences} sequences of {count} distinct tokens: there are {len(known)} tokens and "
            f"room for {room}: give 1 to {most} tokens, and 1 or more sequences"
        )
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(known, count, replace=False) for _ in range(sequences)]
    return np.asarray(drawn, np.int32)
