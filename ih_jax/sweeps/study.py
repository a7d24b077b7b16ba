"""A study: which runs there are, what each is, and when it is looked at. Nothing is trained here.

A study is a product of axes. Any setting of a run, of the model or of the task may be an axis: give
a list instead of one value. A setting that is {init: value} goes with the network instead: all runs
with this label of `init` have that value, whatever their clamp. Runs that differ only in arrays
share one program (a *group*).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import msgspec

from ih_jax import gate, paths
from ih_jax.clamps import per_seed
from ih_jax.clamps.clamp import Clamp
from ih_jax.data.registered import for_card, tuples
from ih_jax.errors import LARGEST, UserError, given
from ih_jax.sweeps.making_runs import Product, runs_of
from ih_jax.sweeps.runs import Group, RunSpec
from ih_jax.sweeps.settings import (
    by_network,
    check_runs,
    is_axis,
    labels_of_axis,
    refuse_unknown,
    run_settings,
)
from ih_jax.sweeps.show import table
from ih_jax.sweeps.timetable import GRID, Progress, default_looks, timetable
from ih_jax.tasks.base import Task, of_card

Clamps = Mapping[str, Clamp | Mapping[int, Clamp] | per_seed.PerSeed | None] | Clamp | None


class Study:
    """The runs of a product of axes.

    Args:
        task: what is learned: `fewshot(...)`, `language(...)` or a task of one's own.
        clamp: {name: Clamp}, an axis of its own; one Clamp or None is named "none". A clamp that
            differs between networks is {init: Clamp}.
        evaluate: when runs are evaluated, in sequences seen (language: tokens): a list, "grid" for
            a geometric grid, or None: that grid, but for runs on fewer than 100,000 sequences as
            many evaluations as cost at most a fifth of training, and on fewer sequences where the
            task has its own default of `evaluation_sequences` (see `timetable.default_looks`).
        checkpoints: when weights are kept: a list, or None for every eighth evaluation.
        name: what results are called on the card.
        settings: settings of runs (`RUN_SETTINGS`), of the model (fields of `Config`) and of the
            task (its fields). A list, tuple, range or array is an axis, unless the setting's own
            value is a tuple (`Task.never_axes`). A mapping {init: value} pairs it with the label of
            `init`, which is then a network's number: `weights_seed={1000: 5, 1001: 5}` and
            `order={1000: 1, 1001: 2}` are two networks of the same initial weights that see
            sequences in two orders, each the same under every clamp.
            `sequences` (language: `tokens`), the horizon, may be {clamp name: sequences}.

    Raises:
        UserError: for an unknown setting, a value out of range, and clamps that do not fit.
    """

    def __init__(
        self,
        task: Task,
        *,
        clamp: Clamps = None,
        evaluate: Sequence[float] | str | None = None,
        checkpoints: Sequence[float] | None = None,
        name: str = "study",
        **settings: Any,
    ) -> None:
        if not isinstance(task, Task):
            raise UserError(f"task is {given(task)}: give ih_jax.fewshot(), language() or your own")
        if not isinstance(name, str):
            raise UserError(f"name is {given(name)}: give text")
        self.task = task
        self.name = name
        self.clamps = per_seed.by_name(clamp)
        self.given = settings
        self.axes: dict[str, list[Any]] = {"clamp": list(self.clamps), "init": [0]}
        self.paired: dict[str, dict[int, Any]] = {}  # setting -> init -> value
        fixed: dict[str, Any] = {}
        for key, value in settings.items():
            refuse_unknown(task, key)
            own = by_network(value) if key != task.unit else None
            if own is not None:
                self.paired[key] = own
            elif is_axis(task, key, value):
                self.axes[key] = labels_of_axis(key, value)
            else:
                fixed[key] = tuples(value)
        if "init" in fixed:
            self.axes["init"] = [fixed.pop("init")]
        self._check_axes()
        # Counted before there is a single run.
        count = math.prod(self.shape)
        check_runs(count, f"a study of {count:,} runs")
        self.horizons = fixed.pop(task.unit, run_settings(task)[task.unit])
        if evaluate is None:
            named = {*fixed, *self.axes, *self.paired}
            each, evaluate = default_looks(self.task, self.horizons, named)
            if each != self.task.evaluation_sequences:
                self.task = self.task.replace(evaluation_sequences=each)
        product = Product(self.task, self.clamps, self.axes, self.paired, fixed, self.horizons)
        self.runs, self.commons = runs_of(product)
        self._timetables: dict[int, list[tuple[int, int, bool]]] = {}  # by the horizon of a block
        progress = self._progress()
        self.evaluations = progress.evaluations(evaluate)
        self.checkpoints = progress.checkpoints(checkpoints, self.evaluations)
        # The grid is what no card of before there were other defaults names.
        listed = None if isinstance(evaluate, str) else evaluate
        self.schedule_given = {"evaluate": listed, "checkpoints": checkpoints}

    def _check_axes(self) -> None:
        """Raises UserError for an axis whose name would stand for something else in results."""
        unit = self.task.unit
        if unit in self.axes:
            raise UserError(
                f"{unit} is {given(self.axes[unit])}: it is no axis, since results are curves over "
                f"it; give the longest, or {{clamp name: {unit}}}"
            )
        metrics = self.task.objective().metrics
        taken = {f"eval_{unit}", "set", "horizon", "diverged_at"}
        taken |= {name for each in metrics for name in (each, f"eval_{each}")}
        for axis in (*self.axes, *self.paired):
            if axis in taken:
                raise UserError(f"{axis!r} is an axis and a name in results: rename the setting")

    @property
    def unit(self) -> int:
        """How far a step takes a run along its axis, in sequences or tokens seen."""
        return self.runs[0].program.unit

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(labels) for labels in self.axes.values())

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The runs by program and by the shapes of their data, in order of first appearance."""
        found: dict[Any, list[RunSpec]] = {}
        # Of commons, of which there are few: to compare programs takes long.
        group_of = {
            id(each): found.setdefault((each.program, each.task.sizes(), each.has_own_heads), [])
            for each in self.commons
        }
        for run in self.runs:
            group_of[id(run.common)].append(run)
        return tuple(Group(program, tuple(runs)) for (program, *_), runs in found.items())

    def _progress(self) -> Progress:
        """How far runs go. Raises UserError where a step is not as long in all of them."""
        if len({each.program.unit for each in self.commons}) > 1:
            raise UserError(
                "runs of one study have one batch size and length: make a study for each"
            )
        per_sequence = self.runs[0].program.task.unit_per_sequence
        horizons = tuple(sorted({each.steps for each in self.commons}))
        if horizons[-1] > LARGEST:
            raise UserError(
                f"{self.task.unit}: {horizons[-1]:,} steps are more than devices count: give at "
                f"most {LARGEST * self.unit:,}"
            )
        return Progress(self.task.unit, self.unit, per_sequence, horizons)

    def timetable(self, steps: int) -> list[tuple[int, int, bool]]:
        """(step, what is evaluated, whether weights are kept), up to a horizon of `steps`."""
        if steps not in self._timetables:
            horizons = sorted({each.steps for each in self.commons})
            found = timetable(self.evaluations, self.checkpoints, horizons, steps)
            self._timetables[steps] = found
        return self._timetables[steps]

    @property
    def seen(self) -> int:
        """Sequences or tokens (see `Task.unit`) that all runs see together in training."""
        return sum(run.steps * run.program.unit for run in self.runs)

    def __repr__(self) -> str:
        axes = "; ".join(f"{axis}: {_shown(labels)}" for axis, labels in self.axes.items())
        programs = f"{len(self.groups)} program{'s' * (len(self.groups) > 1)}"
        return (
            f"{type(self).__name__} {self.name!r} of {self.task.kind}: {len(self.runs)} runs, "
            f"{programs}, {self.seen:.3g} {self.task.unit} in all ({axes})"
        )

    def _repr_html_(self) -> str:
        """For notebooks: what is learned, the axes, and the cost."""
        rows = {
            "task": self.task.kind,
            **self.task.in_words(),
            **{f"axis {axis}": _shown(labels, 8) for axis, labels in self.axes.items()},
            "runs": f"{len(self.runs)} in {len(self.groups)} compiled program(s)",
            "cost": f"{self.seen:.3g} {self.task.unit} in all",
            "looks": f"{len(self.evaluations)} evaluations, {len(self.checkpoints)} checkpoints",
        }
        return table(f"{type(self).__name__} {self.name}", rows)

    def describe(self) -> dict[str, Any]:
        """Everything that decides the numbers, as JSON: what a resumed sweep must share."""
        return {
            "name": self.name,
            "task": self.task.describe(),
            "origin": self.task.origin(),
            "clamps": {name: clamp.to_json() for name, clamp in self.clamps.items()},
            "settings": {k: for_card(v) for k, v in self.given.items()},
            **{k: for_card(v) for k, v in self.schedule_given.items()},
        }

    @classmethod
    def from_card(cls, described: Mapping[str, Any]) -> Study:
        """The study that `describe` described. Raises UserError where its data is gone."""
        if isinstance(described, Mapping):
            described = dict(described)
        said = gate.checked(described, _Described, "card.json: study")
        try:
            task = of_card(said.task, said.origin)
            return cls(
                task,
                clamp={name: per_seed.from_json(text) for name, text in said.clamps.items()},
                evaluate=GRID if said.evaluate is None else said.evaluate,
                checkpoints=said.checkpoints,
                name=said.name,
                **{k: task.setting_of_card(k, v) for k, v in said.settings.items()},
            )
        except UserError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # What is deep in a card is for the classes of a task to know, a user's own included.
            raise UserError(
                "card.json: its study cannot be made again "
                f"({type(error).__name__}: {paths.reason(error)})"
            ) from None


class _Described(msgspec.Struct):
    """What `Study.describe` gives, as a card has it."""

    name: str
    task: dict[str, Any]
    origin: dict[str, Any]
    clamps: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    settings: dict[str, Any]
    evaluate: list[gate.Seen] | None = None
    checkpoints: list[gate.Seen] | None = None


def _shown(labels: Sequence[Any], most: int = 4) -> str:
    """The labels of an axis, in the middle of a long one dots."""
    words = [str(label) for label in labels]
    if len(words) > most:
        words = [*words[: most - 1], "...", words[-1]]
    return ", ".join(words) + (f" ({len(labels)})" if len(labels) > 1 else "")
