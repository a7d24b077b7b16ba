"""Languages for what induction heads of large models also do: translate, and match patterns.

Olsson et al. 2022, "Argument 4", show heads of a model of 13 billion parameters that translate and
that tell templates apart. These recipes have the same structure in small, so that the heads of
small models can be asked the same questions.

    Translations   sentences of one language, each followed by itself in another
    Templates      lines of four kinds of word pairs, labelled anew in each sequence

Glossary of shapes: B sequences, T tokens of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.data.batches import Tokens
from ih_jax.data.languages.recipe import Recipe, recipe, with_bos
from ih_jax.errors import UserError


@recipe
@dataclass(frozen=True)
class Translations(Recipe):
    """Sentences of distinct random words, each followed by its translation, word by word.

    Word w of the first language, one of `words`, is word w + `words` of the second. Every third
    word takes a particle after it in translation, so that what is to be translated next stands at
    no fixed distance. A stop ends sentence and translation. Sentences have `shortest` to `longest`
    words.
    """

    tokens: int = 50
    length: int = 64
    words: int = 24
    shortest: int = 4
    longest: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens != 2 * self.words + 2:
            raise UserError(
                f"tokens is {self.tokens}: give {2 * self.words + 2}, two of each of the "
                f"{self.words} words, a particle and a stop"
            )
        if not 1 <= self.shortest <= self.longest <= min(self.words, self.length // 3):
            raise UserError(
                f"shortest {self.shortest}, longest {self.longest}: give 1 or more, and not less, "
                f"up to {min(self.words, self.length // 3)}"
            )

    @property
    def particle(self) -> int:
        """The token that follows every third word in translation."""
        return 2 * self.words

    @property
    def stop(self) -> int:
        """The token that ends a sentence, and its translation."""
        return 2 * self.words + 1

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """See the class."""
        del source
        rows, W, length = jnp.arange(sequences), self.words, self.length - 1
        most = -(-length // (2 * self.shortest + 2))  # sentences that can begin
        of_words, of_sizes = jax.random.split(key)
        order = jnp.argsort(jax.random.uniform(of_words, (sequences, most, W)), axis=-1)
        sizes = jax.random.randint(
            of_sizes, (sequences, most), self.shortest, self.longest + 1
        )  # [B, sentences]

        def step(state: tuple[Any, ...], _: None) -> tuple[Any, Array]:
            sentence, place, translating, particle = state
            size = sizes[rows, sentence]
            word = order[rows, sentence, jnp.minimum(place, W - 1)]
            ends = (place >= size) & ~particle
            token = jnp.where(particle, self.particle, word + W * translating)
            token = jnp.where(ends, self.stop, token)
            follows = translating & ~particle & ~ends & (word % 3 == 0)
            place = jnp.where(ends, 0, place + ~particle)
            over = ends & translating
            sentence = jnp.minimum(sentence + over, most - 1)
            return (sentence, place, translating ^ ends, follows), jnp.int32(token)

        nothing, no = jnp.zeros(sequences, jnp.int32), jnp.zeros(sequences, bool)
        _, found = jax.lax.scan(step, (nothing, nothing, no, no), None, length)
        return with_bos(self, found.T)

    def aligned(self, tokens: np.ndarray) -> np.ndarray:
        """[B, T - 1]: where the source of the next token stands, -1 where it is no translation.

        The last occurrence, up to each position, of the word that the next token translates.
        """
        return _last_occurrence(tokens, tokens[:, 1:] - self.words, self._translates(tokens[:, 1:]))

    def _translates(self, following: np.ndarray) -> np.ndarray:
        return (following >= self.words) & (following < 2 * self.words)


@recipe
@dataclass(frozen=True)
class Templates(Recipe):
    """Lines "word word : label", where the kinds of the two words decide the label.

    Words are of four kinds (month, colour, animal, fruit: `words` each). A line begins with one of
    the first two and goes on with one of the last two: four templates, whose labels are dealt anew
    in each sequence. A sequence has lines of two, three or four of them. To tell a label one must
    find earlier lines of the same template, whose words are others.
    """

    tokens: int = 22
    length: int = 64
    words: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens != 4 * self.words + 6:
            raise UserError(
                f"tokens is {self.tokens}: give {4 * self.words + 6}, four kinds of {self.words} "
                "words, a colon, a line's end and four labels"
            )

    @property
    def colon(self) -> int:
        """The token before a label."""
        return 4 * self.words

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """See the class."""
        del source
        G, lines = self.words, -(-(self.length - 1) // 5)
        deal, some, count, which, word = jax.random.split(key, 5)
        labels, order = (
            jnp.argsort(jax.random.uniform(own, (sequences, 4)), axis=-1) for own in (deal, some)
        )
        among = jax.random.randint(count, (sequences, 1), 2, 5)
        place = jnp.int32(jax.random.uniform(which, (sequences, lines)) * among)
        template = jnp.take_along_axis(order, place, axis=1)
        kinds = jnp.stack([template // 2, template % 2], axis=-1)
        words = jax.random.randint(word, (sequences, lines, 2), 0, G)
        label = jnp.take_along_axis(labels, template, axis=1)
        line = [
            kinds[..., 0] * G + words[..., 0],
            (2 + kinds[..., 1]) * G + words[..., 1],
            jnp.full_like(label, self.colon),
            self.colon + 2 + label,
            jnp.full_like(label, self.colon + 1),
        ]
        rows = jnp.stack(line, axis=-1).reshape(sequences, -1)
        return with_bos(self, rows[:, : self.length - 1])

    def right_labels(self, tokens: np.ndarray) -> np.ndarray:
        """[B, T, T] bool: query at a colon, key an earlier label of the same template."""
        query = np.zeros(tokens.shape, bool)
        query[:, :-1] = tokens[:, :-1] == self.colon
        is_label = (tokens >= self.colon + 2) & (tokens < self.tokens)
        following = np.roll(tokens, -1, axis=1)
        same = following[:, :, None] == tokens[:, None]
        earlier = np.tril(np.ones((tokens.shape[1],) * 2, bool))
        found: np.ndarray = query[..., None] & is_label[:, None] & same & earlier
        return found


def _last_occurrence(tokens: np.ndarray, wanted: np.ndarray, where: np.ndarray) -> np.ndarray:
    """[B, Q]: the last position up to q at which `wanted` [B, Q] stands, -1 where not `where`."""
    T, Q = tokens.shape[1], wanted.shape[1]
    fits = (tokens[:, None] == wanted[:, :, None]) & np.tril(np.ones((Q, T), bool))
    last = np.where(fits, np.arange(T), -1).max(-1)
    return np.where(where, last, -1)
