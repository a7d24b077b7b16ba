"""What a recipe is, from which sequences of a language are drawn, and the register of recipes.

Glossary of shapes: B sequences, T tokens of one, V tokens of the vocabulary without BOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.data import registered
from ih_jax.data.batches import Tokens
from ih_jax.data.registered import add, defined, find, for_card, unchecked
from ih_jax.errors import UserError, check_fields, given

RECIPES: dict[str, type] = {}  # by class name, as run cards have it
R = TypeVar("R", bound="type[Recipe]")


def recipe(cls: R) -> R:
    """Register a recipe under the name of its class, so that `ih.load` finds it again.

    Raises:
        UserError: this is no class of `Recipe`, or the package has one of that name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Recipe)):
        raise UserError(f"recipe is {given(cls)}: write @ih.recipe above class Name(ih.Recipe)")
    add(RECIPES, "recipe", cls.__name__, cls)
    return cls


@dataclass(frozen=True)
class Recipe:
    """A language: a frozen dataclass whose `sample` draws sequences of tokens.

    Your own recipe subclasses this, adds fields and `sample`, and is decorated with
    `@ih.recipe`. The last token of the vocabulary is BOS, which begins every sequence and occurs
    nowhere else (`with_bos`).

    `arrays` names fields that are numbers of a run: runs that differ in them share a compiled
    program. All other fields are static, part of the program.
    """

    tokens: int = 32  # V
    length: int = 64  # T, BOS included

    arrays: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.tokens < 2 or self.length < 4:
            raise UserError(
                f"tokens {self.tokens}, length {self.length}: give 2 or more, 4 or more"
            )

    @property
    def vocabulary(self) -> int:
        """Tokens and BOS: the logits of a model."""
        return self.tokens + 1

    @property
    def bos(self) -> int:
        """The token that begins every sequence."""
        return self.tokens

    @property
    def never_axes(self) -> tuple[str, ...]:
        """Fields whose own value is a tuple: several values of one are never an axis of a study."""
        return tuple(f.name for f in fields(self) if isinstance(getattr(self, f.name), tuple))

    def static(self) -> Recipe:
        """This with its arrays at 0: what decides the program."""
        return unchecked(self, **dict.fromkeys(self.arrays, 0.0))

    def source(self, held_out: bool = False) -> Mapping[str, np.ndarray]:
        """What `sample` draws from. A synthetic language has no need to hold anything out."""
        del held_out
        return {name: np.asarray(getattr(self, name), np.float32) for name in self.arrays}

    def sample(self, key: Array, source: Mapping[str, Array], sequences: int) -> Tokens:
        """Draw B = `sequences` sequences; may be jitted and vmapped.

        Args:
            key: a typed PRNG key.
            source: what `source` gives, of one run and traced; so is `self.x` for an x of `arrays`.
            sequences: B.
        """
        raise NotImplementedError(f"{type(self).__name__} has no sample(key, source, sequences)")

    def describe(self) -> dict[str, Any]:
        """For the run card, as JSON: all that decides the numbers, and where the class is."""
        cls = type(self)
        own = {f.name: for_card(getattr(self, f.name)) for f in fields(self) if f.init}
        where = defined(cls)
        return {"recipe": cls.__name__, **own, **({"defined": where} if where else {})}

    def token_names(self) -> list[str]:
        """A name for every token of the vocabulary."""
        return [*map(str, range(self.tokens)), "BOS"]

    def in_words(self) -> str:
        """For a reader of results."""
        own = ", ".join(f"{f.name} {getattr(self, f.name)}" for f in fields(self))
        return f"{type(self).__name__} ({own})"


def with_bos(recipe: Recipe, rows: Array) -> Tokens:
    """Sequences of rows [B, T - 1] with BOS before each.

    Raises UserError for what is no recipe, and for rows that are no table of tokens.
    """
    if not isinstance(recipe, Recipe):
        raise UserError(f"recipe is {given(recipe)}: give a recipe of a language (ih.Recipe)")
    if np.ndim(rows) != 2:
        raise UserError(f"rows is {given(rows)}: give tokens [sequences, positions]")
    first = jnp.full((len(rows), 1), recipe.bos, jnp.int32)
    return Tokens(jnp.concatenate([first, jnp.asarray(rows, jnp.int32)], axis=1))


def check_probabilities(recipe: Recipe, *names: str) -> None:
    """Raises UserError if one of these fields is no probability."""
    for name in names:
        value = getattr(recipe, name)
        if isinstance(value, str) or not 0 <= value <= 1:
            raise UserError(f"{name} is {value!r}: give a probability, 0 to 1")


def of_card(described: Mapping[str, Any]) -> Recipe:
    """The recipe that `Recipe.describe` described. Raises UserError for one that is not found."""
    settings = dict(described)
    where = settings.pop("defined", {})
    cls = find(RECIPES, "recipe", settings.pop("recipe"), where)
    own = {name: registered.of_card(cls, name, value) for name, value in settings.items()}
    found: Recipe = cls(**own)
    return found
