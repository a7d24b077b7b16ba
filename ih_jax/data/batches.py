"""A batch of language: token ids, nothing else.

Glossary of shapes: B sequences, T tokens of a sequence, the first of them BOS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import struct
from jax import Array

from ih_jax.data.fewshot import Batch


@struct.dataclass
class Tokens:
    """Sequences of tokens; at every position but the last the next one is to be told."""

    tokens: Array  # [B, T] int32; one beyond the vocabulary embeds as zero

    @property
    def positions(self) -> int:
        """T, also of one sequence without the batch axis."""
        return int(self.tokens.shape[-1])

    def mean_of(self, function: Callable[[Tokens], Any], at_once: int) -> Any:
        """The mean over pieces of what `function(piece)` gives, itself a mean over sequences.

        Pieces are equal and have at most `at_once` sequences; they come one after the other, so
        that memory does not grow with the batch.
        """
        count = len(self.tokens)
        size = next(n for n in range(min(at_once, count), 0, -1) if count % n == 0)
        if size == count:
            return function(self)
        pieces = self.tokens.reshape(count // size, size, -1)
        found = jax.lax.map(lambda piece: function(Tokens(piece)), pieces)
        return jax.tree.map(lambda x: x.mean(0), found)


Sequences = Batch | Tokens  # what a forward pass reads
