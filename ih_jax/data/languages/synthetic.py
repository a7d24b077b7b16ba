"""Synthetic languages, each a recipe from which sequences of tokens are drawn.

    Bigrams        a global table of bigrams, and in each sequence bigrams of its own
    Repeats        a Markov background with pasted earlier spans and trigger bigrams of its own
    Markov         chains whose transition matrix is drawn anew for each sequence
    RandomRepeats  a block of uniform tokens, repeated

Glossary of shapes: B sequences, T tokens of one, V tokens of the vocabulary without BOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.data.batches import Tokens
from ih_jax.data.languages.recipe import Recipe, check_probabilities, recipe, with_bos
from ih_jax.errors import UserError, whole

MOST_TOKENS = 20_000  # of a language with a global table


@recipe
@dataclass(frozen=True)
class Bigrams(Recipe):
    """Bigrams that all sequences share, and in each sequence exceptions to them.

    A share `own` of the tokens (a random one for each sequence) has a successor of its own, drawn
    uniformly, which follows with probability `follow`. All else comes from a global table in which
    each token has `successors` successors with weights 1, 1/2, 1/3 ...; with `successors` 0 it is
    uniform. The in-context part is what an induction head can tell.
    """

    own: float = 0.5
    follow: float = 0.8
    successors: int = 8
    table_seed: int = 99

    arrays: ClassVar[tuple[str, ...]] = ("own", "follow")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probabilities(self, *self.arrays)
        _check_table(self)
        if not 0 <= self.successors <= self.tokens:
            raise UserError(f"successors is {self.successors}: give 0 to {self.tokens} (tokens)")

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """See the class."""
        V, length = self.tokens, self.length - 1
        successor, has_own, first, draw = jax.random.split(key, 4)
        own = jax.random.randint(successor, (sequences, V), 0, V)
        # The rank of a token among random numbers: the lowest have a successor of their own.
        u = jax.random.uniform(has_own, (sequences, V))
        rank = jnp.sum(u[:, None] < u[:, :, None], axis=-1)
        own = jnp.where(rank < jnp.round(source["own"] * V), own, -1)
        table = None if not self.successors else global_table(V, self.successors, self.table_seed)

        def step(previous: Array, uniform: Array) -> tuple[Array, Array]:
            likely = jnp.take_along_axis(own, previous[:, None], axis=1)[:, 0]
            otherwise = _draw(uniform[1], previous, table, V)
            follows = (likely >= 0) & (uniform[0] < source["follow"])
            following = jnp.where(follows, likely, otherwise)
            return following, following

        start = jax.random.randint(first, (sequences,), 0, V)
        uniforms = jax.random.uniform(draw, (length - 1, 2, sequences))
        _, rest = jax.lax.scan(step, start, uniforms)
        return with_bos(self, jnp.concatenate([start[None], rest]).T)


@recipe
@dataclass(frozen=True)
class Repeats(Recipe):
    """A Markov background into which earlier spans of the sequence are pasted.

    Segments have `shortest` to `shortest + spread` tokens. With probability `paste` one is a copy
    of a span of what stands before it, from a random place; else it is background, of a fixed table
    like that of `Bigrams` but with tokens of Zipf-like frequency (uniform with `successors` 0). In
    the background `triggers` tokens (drawn for each sequence) are always followed by one and the
    same token, drawn for each sequence (Bietti et al. 2023).
    """

    tokens: int = 64
    length: int = 128
    paste: float = 0.5
    shortest: int = 4
    spread: int = 20
    triggers: int = 4
    successors: int = 16
    table_seed: int = 99

    arrays: ClassVar[tuple[str, ...]] = ("paste",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probabilities(self, *self.arrays)
        _check_table(self)
        if self.shortest < 1 or not 0 <= self.spread < self.length - self.shortest:
            raise UserError(
                f"shortest {self.shortest}, spread {self.spread}: give 1 or more and 0 or more, "
                f"together less than the length {self.length}"
            )
        if not 0 <= self.triggers <= self.tokens or not 0 <= self.successors <= self.tokens:
            raise UserError(
                f"triggers {self.triggers}, successors {self.successors}: give 0 to {self.tokens} "
                "(tokens) each"
            )

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """See the class."""
        V, length = self.tokens, self.length - 1
        of_trigger, chosen, first, draw = jax.random.split(key, 4)
        successor = jax.random.randint(of_trigger, (sequences, V), 0, V)
        u = jax.random.uniform(chosen, (sequences, V))
        rank = jnp.sum(u[:, None] < u[:, :, None], axis=-1)
        successor = jnp.where(rank < self.triggers, successor, -1)
        table = None
        if self.successors:
            table = global_table(V, self.successors, self.table_seed, zipf=True)
        rows = jnp.arange(sequences)

        def step(state: tuple[Array, ...], now: tuple[Array, Array]) -> tuple[Any, None]:
            text, left, copy_from = state
            at, (paste, size, place, uniform) = now[0], now[1]
            new = left == 0
            span = self.shortest + jnp.int32(size * (self.spread + 1))
            pasted = (paste < source["paste"]) & (span <= at)
            begin = jnp.int32(place * (at - span + 1))
            left = jnp.where(new, span, left)
            copy_from = jnp.where(new, jnp.where(pasted, begin, -1), copy_from)
            previous = text[rows, at - 1]
            own = successor[rows, previous]
            background = jnp.where(own >= 0, own, _draw(uniform, previous, table, V))
            token = jnp.where(copy_from >= 0, text[rows, copy_from], background)
            copy_from = jnp.where(copy_from >= 0, copy_from + 1, -1)
            return (text.at[:, at].set(token), left - 1, copy_from), None

        text = jnp.zeros((sequences, length), jnp.int32)
        text = text.at[:, 0].set(jax.random.randint(first, (sequences,), 0, V))
        nothing = jnp.zeros(sequences, jnp.int32)
        uniforms = jax.random.uniform(draw, (length - 1, 4, sequences))
        begin = (text, nothing, nothing - 1)
        (text, _, _), _ = jax.lax.scan(step, begin, (jnp.arange(1, length), uniforms))
        return with_bos(self, text)


@recipe
@dataclass(frozen=True)
class Markov(Recipe):
    """In-context Markov chains: rows of each sequence's own matrix are Dirichlet(1).

    Edelman et al. 2024, "The Evolution of Statistical Induction Heads", section 2. The best
    prediction is that of the bigrams counted so far (`measure.context.markov_references`).
    """

    tokens: int = 3
    length: int = 101

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """See the class."""
        del source
        V, length = self.tokens, self.length - 1
        matrix, first, draw = jax.random.split(key, 3)
        # Normalised exponentials are Dirichlet(1).
        weights = jax.random.exponential(matrix, (sequences, V, V))
        running = jnp.cumsum(weights / weights.sum(-1, keepdims=True), axis=-1)
        rows = jnp.arange(sequences)

        def step(previous: Array, uniform: Array) -> tuple[Array, Array]:
            below = running[rows, previous] <= uniform[:, None]
            following = jnp.minimum(jnp.sum(below, axis=-1, dtype=jnp.int32), V - 1)
            return following, following

        start = jax.random.randint(first, (sequences,), 0, V)
        uniforms = jax.random.uniform(draw, (length - 1, sequences))
        _, rest = jax.lax.scan(step, start, uniforms)
        return with_bos(self, jnp.concatenate([start[None], rest]).T)


@recipe
@dataclass(frozen=True)
class RandomRepeats(Recipe):
    """A block of uniform tokens, of `shortest` to `longest`, repeated to the end.

    What an induction head is for and nothing else. With one fixed length even one layer succeeds,
    by position.
    """

    tokens: int = 64
    length: int = 64
    shortest: int = 20
    longest: int = 29

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.shortest <= self.longest:
            raise UserError(
                f"shortest {self.shortest}, longest {self.longest}: give 1 or more, and not less"
            )

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """See the class."""
        del source
        block, size = jax.random.split(key)
        uniform = jax.random.randint(block, (sequences, self.longest), 0, self.tokens)
        span = jax.random.randint(size, (sequences, 1), self.shortest, self.longest + 1)
        at = jnp.arange(self.length - 1)[None] % span
        return with_bos(self, jnp.take_along_axis(uniform, at, axis=1))


def _check_table(recipe: Bigrams | Repeats) -> None:
    """Raise UserError for a global table that nobody would wait for, or no seed."""
    whole("table_seed", recipe.table_seed)
    if recipe.successors and recipe.tokens > MOST_TOKENS:
        raise UserError(
            f"tokens is {recipe.tokens:,}: give at most {MOST_TOKENS:,}, or successors=0, since a "
            "table of successors is drawn token by token"
        )


def _draw(uniform: Array, previous: Array, table: Any, tokens: int) -> Array:
    """The next token [B] from a global table; uniform without one."""
    if table is None:
        return jnp.int32(uniform * tokens)
    successors, running = table
    rank = jnp.sum(running[None] <= uniform[:, None], axis=-1)
    return successors[previous, jnp.minimum(rank, len(running) - 1)]


def global_table(
    tokens: int, successors: int, seed: int, zipf: bool = False
) -> tuple[Array, Array]:
    """Successors [V, S] of every token, and running sums [S] of their weights 1, 1/2, 1/3 ...

    `zipf`: a token of rank r is a successor with weight 1 / r, else all are with the same.
    """
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, tokens + 1) if zipf else np.ones(tokens)
    each = [
        rng.choice(tokens, successors, replace=False, p=weights / weights.sum())
        for _ in range(tokens)
    ]
    falling = 1 / np.arange(1, successors + 1)
    running = np.cumsum(falling / falling.sum())
    return jnp.asarray(each, jnp.int32), jnp.asarray(running, jnp.float32)


def table_of(recipe: Bigrams | Repeats) -> np.ndarray:
    """[V, V]: the global table as probabilities; uniform without one. For tests and references."""
    V = recipe.tokens
    if not recipe.successors:
        return np.full((V, V), 1 / V)
    successors, running = global_table(
        V, recipe.successors, recipe.table_seed, zipf=isinstance(recipe, Repeats)
    )
    found = np.zeros((V, V))
    each = np.diff(np.asarray(running), prepend=0)
    np.add.at(found, (np.arange(V)[:, None], np.asarray(successors)), each)
    return found
