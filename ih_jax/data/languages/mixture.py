"""One language of three: blocks that repeat, translations, and templates, a sequence each.

Olsson et al. 2022, "Argument 4", find heads of one model that copy, translate and match patterns.
Here a model reads all three, so that it can be asked whether the same heads do them.

Glossary of shapes: B sequences, T tokens of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.data.batches import Tokens
from ih_jax.data.languages.behaviours import Templates, Translations
from ih_jax.data.languages.recipe import Recipe, check_probabilities, recipe, with_bos
from ih_jax.data.languages.synthetic import RandomRepeats
from ih_jax.errors import UserError

PARTS = ("repeats", "translations", "templates")


@recipe
@dataclass(frozen=True)
class Mixture(Recipe):
    """Each sequence is a repeated block, translations or templates: one of the three.

    A sequence is a repeated block with probability `repeats`, translations with probability
    `translations`, and else templates. `Translations` have their own tokens, 0 to 49; those of
    `Templates` follow, 50 to 71. A block is drawn from all 72 and has `shortest` to `longest`
    tokens.
    """

    tokens: int = Translations.tokens + Templates.tokens
    length: int = 64
    repeats: float = 1 / 3
    translations: float = 1 / 3
    shortest: int = 8
    longest: int = 29

    arrays: ClassVar[tuple[str, ...]] = ("repeats", "translations")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probabilities(self, *self.arrays)
        both = Translations.tokens + Templates.tokens
        if self.tokens != both:
            raise UserError(
                f"tokens is {self.tokens}: give {both}, {Translations.tokens} of translations and "
                f"{Templates.tokens} of templates"
            )
        if self.repeats + self.translations > 1:
            raise UserError(
                f"repeats {self.repeats}, translations {self.translations}: give shares of "
                "sequences that are 1 or less together"
            )
        self._blocks()  # raises for sizes that are none
        self._sentences()

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """See the class."""
        of_kind, *keys = jax.random.split(key, 4)
        each = (self._blocks(), self._sentences(), self._lines())
        blocks, sentences, lines = (
            own.sample(k, {}, sequences).tokens[:, 1:] for own, k in zip(each, keys, strict=True)
        )
        u = jax.random.uniform(of_kind, (sequences, 1))
        lines = lines + Translations.tokens
        rows = jnp.where(u < source["repeats"] + source["translations"], sentences, lines)
        return with_bos(self, jnp.where(u < source["repeats"], blocks, rows))

    def only(self, part: str) -> Mixture:
        """This with sequences of one of `PARTS` alone, in the same vocabulary."""
        return dataclasses.replace(
            self, repeats=float(part == "repeats"), translations=float(part == "translations")
        )

    def repeated(self, tokens: np.ndarray) -> np.ndarray:
        """[B, T - 1] bool, of repeated blocks: whether the next token repeats one before it.

        From the second token of the second round on, for the longest block: what comes first in
        the second round nothing tells.
        """
        found: np.ndarray = np.broadcast_to(
            np.arange(1, tokens.shape[1]) > self.longest + 1, tokens[:, 1:].shape
        )
        return found

    def aligned(self, tokens: np.ndarray) -> np.ndarray:
        """`Translations.aligned`."""
        return self._sentences().aligned(tokens)

    def right_labels(self, tokens: np.ndarray) -> np.ndarray:
        """`Templates.right_labels`."""
        return self._lines().right_labels(tokens - Translations.tokens)

    def _blocks(self) -> RandomRepeats:
        return RandomRepeats(self.tokens, self.length, self.shortest, self.longest)

    def _sentences(self) -> Translations:
        return Translations(length=self.length)

    def _lines(self) -> Templates:
        return Templates(length=self.length)
