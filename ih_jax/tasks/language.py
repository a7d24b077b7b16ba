"""The language task of Olsson et al. 2022: every token tells the next one.

Glossary of shapes: B sequences, T tokens (BOS first), V vocabulary (logits).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.data import registered
from ih_jax.data.batches import Tokens
from ih_jax.data.languages.recipe import Recipe, of_card
from ih_jax.data.languages.synthetic import Bigrams, RandomRepeats
from ih_jax.data.registered import unchecked
from ih_jax.errors import UserError, given, unknown
from ih_jax.model.params import Config, Rows
from ih_jax.model.sites import Sites
from ih_jax.tasks.base import Task, TaskArrays, task

METRICS = {"loss": "nats", "accuracy": "", "in_context_score": "nats"}
SETS = ("language", "random_repeats")  # of evaluation
WINDOW = 4  # positions that each end of the in-context learning score averages over
# Those of the tested recipes (Singh's defaults are the study's own).
DEFAULTS: Mapping[str, Any] = {
    "tokens": 5_000_000,
    "learning_rate": 3e-3,
    "schedule": "warmup",
    "warmup_steps": 100,
    "weight_decay": 0.01,
    "beta2": 0.98,
    "heads": 4,
    "positions": "shortformer",
}

# What a source holds in place of a language's own. It is no name in Python, so that no field of a
# recipe is called like it.
RANDOM_BLOCKS = "random blocks, repeated"


@dataclass(frozen=True)
class Objective:
    """The traced half (`tasks.base.Objective`)."""

    recipe: Recipe  # the static part of it
    early: int
    late: int

    @property
    def metrics(self) -> Mapping[str, str]:
        """`METRICS`."""
        return METRICS

    @property
    def rows(self) -> Rows:
        """Every token answers."""
        return "all"

    @property
    def unit_per_sequence(self) -> int:
        """Tokens are counted."""
        return self.recipe.length

    def sample(self, key: Array, source: Any, sequences: int) -> Tokens:
        """Sequences of the recipe, or of uniform blocks repeated where the source is empty."""
        if RANDOM_BLOCKS in source:
            return _repeats(self.recipe).sample(key, source, sequences)
        own = {name: source[name] for name in self.recipe.arrays if name in source}
        return unchecked(self.recipe, **own).sample(key, source, sequences)

    def loss(self, sites: Sites, batch: Tokens, arrays: TaskArrays) -> Array:
        """Nats: mean over sequences and positions."""
        return jnp.mean(token_losses(sites, batch))

    def scores(self, sites: Sites, batch: Tokens, arrays: TaskArrays) -> Array:
        """[3] `METRICS`."""
        losses = token_losses(sites, batch).mean(-1)
        correct = sites["logits"][0][:, :-1].argmax(0) == batch.tokens.T[1:]
        score = in_context_score(losses, self.early, self.late)
        return jnp.stack([losses.mean(), correct.mean(), score])

    def has_sequences(self, source: Any) -> bool:
        """Always."""
        return True


def token_losses(sites: Sites, batch: Tokens) -> Array:
    """[T - 1, B] nats: at position t, of token t + 1."""
    logits = sites["logits"][0][:, :-1]  # [V, T - 1, B]
    log_p = jax.nn.log_softmax(logits, axis=0)
    following = batch.tokens.T[None, 1:] == jnp.arange(len(logits))[:, None, None]
    return -jnp.sum(jnp.where(following, log_p, 0.0), axis=0)


def in_context_score(losses: Array, early: int, late: int, window: int = WINDOW) -> Array:
    """Nats, [...]: the loss of late positions less that of early ones, of losses [T - 1, ...].

    Olsson et al. 2022, "in-context learning score": loss at the 500th token less that at the 50th.
    Here each is the mean of `window` positions from `early` and up to `late`, both as positions of
    the predicted token (BOS is 0).
    """
    before = losses[early - 1 : early - 1 + window].mean(0)
    after = losses[late - window : late].mean(0)
    score: Array = after - before
    return score


@task("language")
@dataclass(frozen=True)
class Language(Task):
    """A language model's task: which language, and how it is evaluated.

    Settings of the recipe (`data`) may be axes of a study as well as those of the task. `early` and
    `late` are positions of the in-context learning score (None: 10/64 of the length, and its end).
    """

    data: Recipe = field(default_factory=Bigrams)
    evaluation_sequences: int = field(default=512, kw_only=True)
    early: int | None = field(default=None, kw_only=True)
    late: int | None = field(default=None, kw_only=True)

    unit: ClassVar[str] = "tokens"
    evaluation_names: ClassVar[tuple[str, ...]] = SETS

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.data, Recipe):
            raise UserError(
                f"data is {given(self.data)}: give a recipe, such as Text(...) or Bigrams() of "
                "ih_jax.data.languages"
            )
        early, late = self.positions()
        last = self.data.length - 1
        if not (early >= 1 and early + WINDOW <= late - WINDOW + 1 and late <= last):
            raise UserError(
                f"early {early}, late {late}: windows of {WINDOW} positions from the first and up "
                f"to the second must not overlap, within 1 to {last}"
            )

    def positions(self) -> tuple[int, int]:
        """Early and late positions of the in-context learning score."""
        length = self.data.length
        early = max(1, round(length * 10 / 64)) if self.early is None else self.early
        return early, length - 1 if self.late is None else self.late

    @property
    def context_length(self) -> int:
        """T, BOS included."""
        return self.data.length

    @property
    def settings(self) -> tuple[str, ...]:
        """What may be an axis; `tokens`, the horizon, hides the recipe's own."""
        own = [f.name for f in fields(self) if f.name != "data"]
        return (*own, *(f.name for f in fields(self.data) if f.name != "tokens"))

    @property
    def never_axes(self) -> tuple[str, ...]:
        """Those of the task and of the recipe."""
        return (*super().never_axes, *self.data.never_axes)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """`DEFAULTS`, and room for the positions."""
        return {**DEFAULTS, "max_positions": self.data.length}

    def setting_of_card(self, name: str, value: Any) -> Any:
        """A setting of the task or of its recipe."""
        of_task = {f.name for f in fields(self)}
        cls = type(self) if name in of_task else type(self.data)
        return registered.setting_of_card(cls, name, value, name in self.never_axes)

    def replace(self, **settings: Any) -> Language:
        """With other settings of the task or of its recipe."""
        own = {f.name for f in fields(self)}
        of_data = {k: v for k, v in settings.items() if k not in own}
        of_task = {k: v for k, v in settings.items() if k in own}
        return replace(self, data=replace(self.data, **of_data), **of_task)

    def config(self, **settings: Any) -> Config:
        """The model for this task."""
        return Config(features=0, labels=self.data.vocabulary, **settings)

    def objective(self) -> Objective:
        """The traced half."""
        return Objective(self.data.static(), *self.positions())

    def sample(self, key: Array, source: Any, sequences: int) -> Tokens:
        """Draw a batch of what `source("train")`, or that of an evaluation set, holds."""
        return self.objective().sample(key, source, sequences)

    def source(self, which: str) -> Any:
        """Of the language: to train on, or held out; nothing for random blocks repeated."""
        if which == "random_repeats":
            return {RANDOM_BLOCKS: np.zeros(0, np.float32)}
        return self.data.source(held_out=which != "train")

    def describe(self) -> dict[str, Any]:
        """For the run card."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "data"}
        return {"language": self.data.describe(), **own}

    def origin(self) -> dict[str, Any]:
        """All is in the description."""
        return {}

    def in_words(self) -> dict[str, str]:
        """For a reader of results."""
        early, late = self.positions()
        score = f"loss of {WINDOW} tokens up to {late}, less that of {WINDOW} from {early} on"
        return {"data": self.data.in_words(), "in-context learning score": score}

    @classmethod
    def of_card(cls, described: Mapping[str, Any], origin: Mapping[str, Any]) -> Language:
        """The task that `describe` described."""
        del origin
        settings = {k: v for k, v in described.items() if k != "language"}
        return cls(of_card(described["language"]), **settings)


def _repeats(recipe: Recipe) -> RandomRepeats:
    """Uniform blocks of a third to a half of the length, repeated, in the recipe's vocabulary."""
    shortest, longest = max(1, recipe.length // 3), max(1, recipe.length // 2)
    return RandomRepeats(recipe.tokens, recipe.length, shortest, longest)


def language(data: Recipe | None = None, **settings: Any) -> Language:
    """The language task.

    Args:
        data: a recipe of `data.languages`, or one's own; None: `Bigrams()`.
        settings: fields of `Language` and of the recipe.

    Raises:
        UserError: for settings that are unknown or out of range.
    """
    found = Language(Bigrams() if data is None else data)
    known = {*found.settings, *(f.name for f in fields(found.data) if f.init)}
    for name in settings:
        if name not in known:
            raise unknown("setting of language", name, sorted(known))
    return found.replace(**settings) if settings else found
