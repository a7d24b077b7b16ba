"""What a task is: where sequences come from, what the loss is, and how its runs are called.

A task has two halves. The host's, `Task`, is a frozen dataclass that people make, vary along axes
and find on run cards. The program's, `Objective`, is small, hashable and traced: it draws batches
from arrays and scores a forward pass. `tasks.fewshot` and `tasks.language` are the two there are; a
task of one's own is another pair of such classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from flax import struct
from jax import Array

from ih_jax.data.batches import Leaf, Sequences
from ih_jax.model.params import Config, Rows
from ih_jax.model.sites import Sites


@struct.dataclass
class TaskArrays:
    """One run's data; stacked, that of many."""

    train: Any  # what `Objective.sample` draws from
    evaluation: tuple[Any, ...]  # the same for each evaluation set
    evaluation_seed: Leaf  # int32 scalar
    label_count: Leaf | None = None  # few-shot: int32 scalar, labels in use of the C logits


class Objective(Protocol):
    """The traced half of a task; static in a program, so it hashes."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `scores` gives; the first is the loss."""
        ...

    @property
    def rows(self) -> Rows:
        """Which rows of the last layer the loss needs."""
        ...

    @property
    def unit_per_sequence(self) -> int:
        """How far a sequence takes a run along its axis: 1, or T where tokens are counted."""
        ...

    def sample(self, key: Array, source: Any, sequences: int) -> Any:
        """A batch (`Sequences`)."""
        ...

    def loss(self, sites: Sites, batch: Any, arrays: TaskArrays) -> Array:
        """Nats, of a forward pass over the batch."""
        ...

    def scores(self, sites: Sites, batch: Any, arrays: TaskArrays) -> Array:
        """[len(metrics)], of a forward pass over the batch."""
        ...

    def there_are(self, source: Any) -> Array | bool:
        """Whether a source has sequences to draw; scores are NaN where not."""
        ...


class Task(Protocol):
    """The host's half of a task: a frozen dataclass."""

    @property
    def batch(self) -> int:
        """Sequences of a step."""
        ...

    @property
    def evaluation_sequences(self) -> int:
        """Of each evaluation set."""
        ...

    @property
    def unit(self) -> str:
        """What learning curves are over: "sequences" or "tokens" (seen)."""
        ...

    @property
    def context_length(self) -> int:
        """T, tokens of a sequence."""
        ...

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """The evaluation sets; the first is looked at most often."""
        ...

    @property
    def settings(self) -> tuple[str, ...]:
        """What may be an axis of a study."""
        ...

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Settings of runs and models other than `study.RUN_SETTINGS` and `Config` have."""
        ...

    def replace(self, **settings: Any) -> Task:
        """With other settings. Raises UserError for one out of range."""
        ...

    def config(self, **settings: Any) -> Config:
        """The model for this task."""
        ...

    def objective(self) -> Objective:
        """The traced half."""
        ...

    def arrays(self) -> TaskArrays:
        """What one run needs at training time."""
        ...

    def sizes(self) -> tuple[Any, ...]:
        """What beside the objective decides the shapes of `arrays`."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the run card, as JSON: everything that decides the numbers."""
        ...

    def origin(self) -> dict[str, Any]:
        """For the run card: where its data can be found again."""
        ...

    def in_words(self) -> dict[str, str]:
        """For a reader of results, in the order to be read."""
        ...


__all__ = ["Objective", "Sequences", "Task", "TaskArrays"]
