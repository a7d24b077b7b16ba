"""What a task is: where sequences come from, what the loss is, and what its runs are called.

A task has two halves. The host's, `Task`, is a frozen dataclass that people make, vary along axes
and find again from run cards. The program's, `Objective`, is small, hashable and traced: it draws
batches from arrays and scores a forward pass. Your own task is one class, a `Task` with
`sample` and `loss`; its objective is made of these. `tasks.fewshot` and `tasks.language` write
theirs by hand, in the layout of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar

import jax
import numpy as np
from flax import struct
from jax import Array

from ih_jax.data import registered
from ih_jax.data.batches import Leaf, Sequences, Tokens, Vectors
from ih_jax.data.registered import add, defined, find, for_card, unchecked
from ih_jax.errors import UserError, check_fields, whole, word
from ih_jax.model.activations import Activations, public
from ih_jax.model.params import Config, Rows
from ih_jax.model.sites import Sites

TASKS: dict[str, type] = {}  # by kind, as run cards have it
DRAWN: dict[Any, Sequences] = {}  # shapes of a batch, by all of a task that decides them
T = TypeVar("T", bound="type[Task]")


@struct.dataclass
class TaskArrays:
    """One run's data; stacked, that of many."""

    train: Any  # what `Objective.sample` draws from
    evaluation: tuple[Any, ...]  # the same for each evaluation set
    evaluation_seed: Leaf  # int32 scalar
    scoring: Any = None  # what `Objective.loss` and `scores` read beside the batch


class Objective(Protocol):
    """The traced half of a task; static in a program, so it hashes."""

    @property
    def metrics(self) -> Mapping[str, str]:
        """What `scores` gives, in order: {name: unit}; the first is "loss"."""
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
        """A scalar, of a forward pass over the batch."""
        ...

    def scores(self, sites: Sites, batch: Any, arrays: TaskArrays) -> Array:
        """[len(metrics)], of a forward pass over the batch."""
        ...

    def has_sequences(self, source: Any) -> Array | bool:
        """Whether a source has sequences to draw; scores are NaN where not."""
        ...


def task(kind: str) -> Callable[[T], T]:
    """Register a task under a name that run cards keep, so that `ih.load` finds it again.

    The decorator goes above a frozen dataclass that subclasses `Task`. Raises UserError for any
    other class, and for a name that this package already uses.
    """

    word("task", kind)

    def register(cls: T) -> T:
        params = vars(cls).get("__dataclass_params__")  # its own, not those of a parent
        if params is None or not (issubclass(cls, Task) and params.frozen):
            raise UserError(
                f"task {kind!r}: write it as @ih.task({kind!r}) above @dataclass(frozen=True) "
                f"above class {cls.__name__}(ih.Task)"
            )
        cls.kind = kind
        add(TASKS, "task", kind, cls)
        return cls

    return register


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: a frozen dataclass with `sample` and `loss`, decorated with `@ih.task("name")`.

    Its fields are settings: `replace` sets them, a study makes axes of them, the run card keeps
    them. Class attributes say the rest, all with defaults:

    Attributes:
        batch: sequences of a step.
        evaluation_sequences: sequences of each evaluation set.
        evaluation_seed: of the sequences that networks are evaluated on.
        outputs: C, how many numbers the network gives at each token (`activations.logits`), and how
            many label tokens it knows. A field or property where it depends on settings.
        metrics: {name: unit} of what is evaluated, "loss" included; other names than "loss" are
            what `scores` gives.
        rows: "all" tokens answer, or the last alone ("query"), which is faster.
        unit: what learning curves are over, "sequences" or "tokens" (seen).
        evaluation_names: the evaluation sets; the first is looked at most often.
        arrays: fields that are numbers of a run, so that runs that differ in them share a compiled
            program; all others are static, part of the program.
        defaults: settings of runs and models other than a study's own.
    """

    batch: int = 32
    evaluation_sequences: int = 1000
    evaluation_seed: int = 1

    kind: ClassVar[str] = ""  # set by `task`
    outputs: ClassVar[Any] = 1
    metrics: ClassVar[Mapping[str, str]] = {"loss": ""}
    rows: ClassVar[Rows] = "all"
    unit: ClassVar[str] = "sequences"
    evaluation_names: ClassVar[Any] = ("train",)
    arrays: ClassVar[Any] = ()
    defaults: ClassVar[Any] = {}

    def __post_init__(self) -> None:
        check_fields(self)
        whole("evaluation_seed", self.evaluation_seed)
        check_sizes(self)

    # What your own task defines.

    def sample(self, key: Array, source: Any, sequences: int) -> Sequences:
        """Draw a batch; pure, and traced.

        Args:
            key: a typed PRNG key.
            source: what `source` gives, as arrays of one run. `self.x` is the run's own value too,
                for an x of `arrays`.
            sequences: B.

        Returns:
            `Vectors`, `Tokens` or a few-shot `Batch`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no sample(key, source, sequences)")

    def loss(self, activations: Activations, batch: Any) -> Array:
        """A scalar to be minimised; pure, and traced.

        Args:
            activations: every site of a forward pass, batch first; `activations.logits` is
                [B, T, C] (with rows="query" [B, 1, C]).
            batch: what `sample` drew, or a piece of it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss(activations, batch)")

    def scores(self, activations: Activations, batch: Any) -> Mapping[str, Array]:
        """{name: scalar} for every name of `metrics` but "loss"; means over sequences."""
        del activations, batch
        return {}

    def source(self, which: str) -> Any:
        """Arrays that `sample` draws from: of "train" (training) or of an evaluation set by name.

        A tree of NumPy arrays; runs of one program have the same shapes. Default: the fields named
        in `arrays`, the same for training and evaluation.
        """
        del which
        return {name: np.asarray(getattr(self, name), np.float32) for name in self.arrays}

    # What follows from that, and may be overridden.

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings that may be an axis of a study."""
        return tuple(f.name for f in fields(self) if f.init)

    @property
    def never_axes(self) -> tuple[str, ...]:
        """Settings whose own value is a tuple, which several values therefore do not vary."""
        return tuple(
            f.name for f in fields(self) if isinstance(getattr(self, f.name), tuple | list)
        )

    @property
    def context_length(self) -> int:
        """T, tokens of a sequence."""
        return self._drawn.positions

    def replace(self, **settings: Any) -> Any:
        """With other settings. Raises UserError for one out of range."""
        return replace(self, **settings)

    def config(self, **settings: Any) -> Config:
        """The model for this task: it reads what `sample` draws and gives `outputs` numbers."""
        drawn = self._drawn
        if isinstance(drawn, Tokens):
            features = 0
        else:
            array = drawn.vectors if isinstance(drawn, Vectors) else drawn.table
            features = array.shape[-1]
        return Config(features=features, labels=self.outputs, **settings)

    @cached_property
    def _drawn(self) -> Sequences:
        """The shapes of a batch of one sequence."""
        # Tasks of a study differ in numbers of a run, most of them: one is traced for all.
        static = unchecked(self, **dict.fromkeys(self.arrays, 0.0))
        key = (static, type(self).sample, self.sizes())
        try:
            known = DRAWN.get(key)
        except TypeError:  # a setting that does not hash: `check_own` says so
            return self._traced()
        if known is None:
            known = DRAWN[key] = self._traced()
        return known

    def _traced(self) -> Sequences:
        source = jax.tree.map(np.asarray, self.source("train"))
        key = jax.eval_shape(lambda: jax.random.key(0))
        drawn = jax.eval_shape(lambda k, s: self._with(s).sample(k, s, 1), key, source)
        if not isinstance(drawn, Sequences):
            raise UserError(
                f"sample of task {self.kind!r} gives {type(drawn).__name__}: give ih.Vectors, "
                "ih.Tokens or ih.Batch"
            )
        return drawn

    def _with(self, source: Any) -> Task:
        """This with the run's own values in place of `arrays`."""
        if not isinstance(source, Mapping):
            return self
        return unchecked(self, **{name: source[name] for name in self.arrays if name in source})

    def objective(self) -> Objective:
        """The traced half."""
        return OwnObjective(unchecked(self, **dict.fromkeys(self.arrays, 0.0)), self.context_length)

    def run_arrays(self) -> TaskArrays:
        """What one run needs at training time."""
        return TaskArrays(
            train=self.source("train"),
            evaluation=tuple(self.source(name) for name in self.evaluation_names),
            evaluation_seed=np.asarray(self.evaluation_seed, np.int32),
        )

    def sizes(self) -> tuple[Any, ...]:
        """What beside the objective decides the shapes of `run_arrays`."""
        sources = [self.source(name) for name in ("train", *self.evaluation_names)]
        return tuple(np.shape(leaf) for leaf in jax.tree.leaves(sources))

    def describe(self) -> dict[str, Any]:
        """For the run card, as JSON: all that decides the numbers, and where the class is."""
        own = {f.name: for_card(getattr(self, f.name)) for f in fields(self) if f.init}
        return {"kind": self.kind, "defined": defined(type(self)), "settings": own}

    def origin(self) -> dict[str, Any]:
        """For the run card: where its data can be found again."""
        return {}

    def in_words(self) -> dict[str, str]:
        """For a reader of results, in the order to be read."""
        return {"task": self.kind, **{f.name: str(getattr(self, f.name)) for f in fields(self)}}

    @classmethod
    def of_card(cls, described: Mapping[str, Any], origin: Mapping[str, Any]) -> Any:
        """The task that `describe` and `origin` described. UserError where its data is gone."""
        del origin
        settings = described["settings"].items()
        return cls(**{name: registered.of_card(cls, name, value) for name, value in settings})

    def setting_of_card(self, name: str, value: Any) -> Any:
        """A setting of a study (or its axis, a list) as it was before it went through JSON."""
        return registered.setting_of_card(type(self), name, value, name in self.never_axes)


@dataclass(frozen=True)
class OwnObjective:
    """The traced half of a task that has `sample` and `loss` of its own."""

    task: Task  # with its arrays at 0
    tokens: int  # T

    @property
    def metrics(self) -> Mapping[str, str]:
        """Those of the task, the loss first."""
        return {"loss": "", **self.task.metrics}

    @property
    def rows(self) -> Rows:
        """Those of the task."""
        return self.task.rows

    @property
    def unit_per_sequence(self) -> int:
        """Tokens of a sequence where tokens are counted."""
        return self.tokens if self.task.unit == "tokens" else 1

    def sample(self, key: Array, source: Any, sequences: int) -> Sequences:
        """A batch of the task."""
        return self.task._with(source).sample(key, source, sequences)

    def loss(self, sites: Sites, batch: Any, arrays: TaskArrays) -> Array:
        """The task's loss of a pass in the public layout. UserError where it is no scalar."""
        loss = self.task._with(arrays.train).loss(public(sites), batch)
        if np.shape(loss) != ():
            raise UserError(
                f"loss of task {self.task.kind!r} has shape {np.shape(loss)}: give a scalar, such "
                "as its mean"
            )
        return loss

    def scores(self, sites: Sites, batch: Any, arrays: TaskArrays) -> Array:
        """The loss, and the task's scores. UserError where these are not its metrics."""
        found = dict(self.task._with(arrays.train).scores(public(sites), batch))
        found = {"loss": self.loss(sites, batch, arrays), **found}
        if set(found) != set(self.metrics):
            raise UserError(
                f"scores of task {self.task.kind!r} gives {', '.join(found)}, its metrics are "
                f"{', '.join(self.metrics)}: give one of each"
            )
        return jax.numpy.stack([jax.numpy.float32(found[name]) for name in self.metrics])

    def has_sequences(self, source: Any) -> bool:
        """Always."""
        return True


def check_sizes(task: Task) -> None:
    """Raises UserError for a batch or evaluation sets without sequences."""
    if task.batch < 1 or task.evaluation_sequences < 1:
        raise UserError(
            f"batch {task.batch}, evaluation_sequences {task.evaluation_sequences}: give 1 or more"
        )


def of_card(described: Mapping[str, Any], origin: Mapping[str, Any]) -> Task:
    """The task of a run card. Raises UserError where its class or its data is not found.

    Cards of the two tasks of this package do not name the kind: see their `describe`.
    """
    implied = "language" if "language" in described else "fewshot"
    kind = described.get("kind", implied)
    cls: Any = find(TASKS, "task", kind, described.get("defined", {}))
    found: Task = cls.of_card(described, origin)
    return found
