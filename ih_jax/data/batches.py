"""What a forward pass reads: few-shot sequences, tokens of a language, or vectors.

Glossary of shapes:
    B  sequences in a batch               F  features of an exemplar or vector
    T  tokens of a sequence               V  rows of a batch's table of exemplars
    P  exemplars: context and query
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from flax import struct
from jax import Array

Leaf = Array | np.ndarray  # of what is stacked over runs (NumPy) or traced
S = TypeVar("S")


@struct.dataclass
class Batch:
    """Few-shot sequences x1 y1 x2 y2 ... xq; the query is the last exemplar, its label the target.

    Exemplars are rows of a table, so that one that occurs often is embedded once.
    """

    table: Array  # [V, F] float32, features of the exemplars that can occur
    rows: Array | None  # [B, P] int32, row of `table` at each exemplar; None: b * P + p, V = B * P
    labels: Array  # [B, P] int32; one beyond the model's labels embeds as zero
    classes: Array | None = None  # [B, P] int32, index into the source's classes
    kinds: Array | None = None  # [B, P] int32, `data.fewshot.Kind`
    # Q equal parts, one after the other: at the same place of each stand sequences of the same
    # context, which is then computed once. `measures.probes.by_context` orders sequences like that.
    queries: int = struct.field(pytree_node=False, default=1)

    @classmethod
    def of(cls, examples: Array, labels: Array) -> Batch:
        """The batch of these exemplars [B, P, F] and labels [B, P]."""
        return cls(examples.reshape(-1, examples.shape[-1]), None, labels)

    @property
    def positions(self) -> int:
        """T, tokens of a sequence; also of one sequence without the batch axis."""
        return 2 * int(self.labels.shape[-1]) - 1

    def mean_of(self, function: Callable[[Batch], Any], at_once: int, few: int = 1) -> Any:
        """The mean over pieces of what `function(piece)` gives, itself a mean over sequences.

        Pieces are equal and have at most `at_once` sequences and at least `few`; they come one
        after the other, so that memory does not grow with the batch. The batch is taken whole where
        it does not split like that, or where each sequence has exemplars of its own.
        """
        Q = self.queries
        contexts = len(self.labels) // Q
        size = size_of_pieces(contexts, at_once // Q, few // Q)
        if self.rows is None or size == contexts:
            return function(self)

        def cut(x: Array) -> Array:
            parts = x.reshape(Q, contexts // size, size, -1).swapaxes(0, 1)
            return parts.reshape(contexts // size, Q * size, -1)

        def of(piece: tuple[Array, Array]) -> Any:
            return function(Batch(self.table, *piece, None, None, Q))

        found = jax.lax.map(of, (cut(self.rows), cut(self.labels)))
        return jax.tree.map(lambda x: x.mean(0), found)

    def by_query(self) -> list[Batch]:
        """The Q parts, which differ in their last tokens and targets only."""
        if self.queries == 1:
            return [self]
        assert self.rows is not None
        size = len(self.labels) // self.queries
        cuts = [slice(q * size, (q + 1) * size) for q in range(self.queries)]
        return [Batch(self.table, self.rows[cut], self.labels[cut]) for cut in cuts]

    @property
    def examples(self) -> Array:
        """[B, P, F], the features at every exemplar position."""
        if self.rows is None:
            return self.table.reshape(*self.labels.shape, self.table.shape[-1])
        return self.table[self.rows]


@struct.dataclass
class Tokens:
    """Sequences of tokens, which a language model reads.

    `targets` are arrays [B, ...] (one, or a tuple or dict of them) that a task's loss needs and the
    model does not read.
    """

    tokens: Array  # [B, T] int32; one beyond the vocabulary embeds as zero
    targets: Any = None

    @property
    def positions(self) -> int:
        """T, also of one sequence without the batch axis."""
        return int(self.tokens.shape[-1])

    def mean_of(self, function: Callable[[Tokens], Any], at_once: int) -> Any:
        """The mean over pieces of what `function(piece)` gives: see `mean_over_pieces`."""
        return mean_over_pieces(function, self, len(self.tokens), at_once)


@struct.dataclass
class Vectors:
    """Sequences of vectors, with label tokens between them where a task has some.

    A vector x embeds as W_E x + b_E, a label as its column of W_L. `targets` are as in `Tokens`.
    """

    vectors: Array  # [B, T, F] float32
    labels: Array | None = None  # [B, T] int32, -1 where the vector stands; None: vectors only
    targets: Any = None

    @property
    def positions(self) -> int:
        """T, also of one sequence without the batch axis."""
        return int(self.vectors.shape[-2])

    def mean_of(self, function: Callable[[Vectors], Any], at_once: int) -> Any:
        """The mean over pieces of what `function(piece)` gives: see `mean_over_pieces`."""
        return mean_over_pieces(function, self, len(self.vectors), at_once)


Sequences = Batch | Tokens | Vectors  # what a forward pass reads


def mean_over_pieces(function: Callable[[S], Any], batch: S, count: int, at_once: int) -> Any:
    """The mean over pieces of what `function(piece)` gives, itself a mean over sequences.

    Pieces are equal and have at most `at_once` of the batch's `count` sequences; they come one
    after the other, so that memory does not grow with the batch. Every array of the batch has the
    sequences along its first axis.
    """
    size = size_of_pieces(count, at_once)
    if size == count:
        return function(batch)
    pieces = jax.tree.map(lambda x: x.reshape(count // size, size, *x.shape[1:]), batch)
    found = jax.lax.map(function, pieces)
    return jax.tree.map(lambda x: x.mean(0), found)


def size_of_pieces(count: int, most: int, least: int = 1) -> int:
    """The largest size from `least` to `most` of equal pieces that make up `count`.

    `count` itself, one piece, where there is no such size.
    """
    sizes = range(min(most, count), max(least, 1) - 1, -1)
    return next((size for size in sizes if count % size == 0), count)
