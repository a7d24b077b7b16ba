"""A study: which runs there are, what each is, and when it is looked at. Nothing is trained here.

A study is a product of axes. Any setting of a run, of the model or of the task may be an axis: give
a list instead of one value. A setting that is {init: value} goes with the network instead: all runs
with this label of `init` have that value, whatever their clamp. Runs that differ only in arrays
share one program (a *group*).
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import msgspec

from ih_jax import gate, memory, paths
from ih_jax.clamps import per_seed
from ih_jax.clamps.clamp import Clamp
from ih_jax.data.registered import for_card, tuples
from ih_jax.errors import LARGEST, UserError, given, several
from ih_jax.model.params import TABLES, Config
from ih_jax.sweeps.checking import check_own
from ih_jax.sweeps.runs import Common, Group, RunSpec
from ih_jax.sweeps.settings import (
    MODEL_SETTINGS,
    OWN_SETTINGS,
    by_network,
    check_runs,
    check_setting,
    check_settings,
    is_axis,
    labels_of_axis,
    refuse_unknown,
    run_settings,
)
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
        self.commons: tuple[Common, ...]
        self.runs, self.commons = self._make_runs(fixed)
        self._timetables: dict[int, list[tuple[int, int, bool]]] = {}  # by the horizon of a block
        self._check_own_task()
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

    def _check_own_task(self) -> None:
        """Raises UserError where a task of one's own does not fit its model or its clamps."""
        seen: set[Any] = set()
        for each in self.commons:
            key = (each.program, id(each.clamp))
            try:
                known = key in seen
            except TypeError:  # `check_own` says what does not hash
                known = False
            if not known:
                check_own(each.program, each.task, each.clamp)
                seen.add(key)

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

    def _make_runs(self, fixed: dict[str, Any]) -> tuple[tuple[RunSpec, ...], tuple[Common, ...]]:
        """All runs, and what they have in common (see `runs`)."""
        own = self._own_settings()
        counted = [axis not in own for axis in self.axes]  # whether runs along it have no `Common`
        clamps = list(self.clamps.values())
        paired = [values for key, values in self.paired.items() if key not in own]
        commons: dict[Any, Common] = {}
        tasks: dict[Any, Task] = {}
        self._fitting: set[Any] = set()
        runs = []
        indices = [range(len(labels)) for labels in self.axes.values()]
        for number, place in enumerate(itertools.product(*indices)):
            key: Any = tuple(itertools.compress(place, counted))
            clamp = clamps[place[0]]
            if isinstance(clamp, per_seed.PerSeed):  # many networks may have one and the same
                key = (key, id(clamp.of(self.axes["init"][place[1]])))
            if paired:
                key = (key, _shared(paired, self.axes["init"][place[1]]))
            common = commons.get(key)
            if common is None:
                common = commons[key] = self._common(place, fixed, own, tasks)
            runs.append(RunSpec(number, place, common))
        return tuple(runs), tuple(commons.values())

    def _common(
        self,
        place: tuple[int, ...],
        fixed: dict[str, Any],
        own: tuple[str, ...],
        tasks: dict[Any, Task],
    ) -> Common:
        """What a run at this place along the axes has in common with others.

        `tasks` are those made so far, by their settings: one task's data is read once.
        """
        defaults = run_settings(self.task)
        names = {axis: self.axes[axis][i] for axis, i in zip(self.axes, place, strict=True)}
        chosen = {**fixed, **{k: v for k, v in names.items() if k != "clamp"}}
        chosen |= {k: self._of_network(k, names["init"]) for k in self.paired}
        horizon = chosen.pop(self.task.unit, self.horizons)
        if isinstance(horizon, Mapping):
            if names["clamp"] not in horizon:
                raise UserError(f"{self.task.unit} has no horizon for clamp {names['clamp']!r}")
            horizon = horizon[names["clamp"]]
        of_run = {k: v for k, v in chosen.items() if k in defaults}
        settings = {**defaults, **of_run, self.task.unit: horizon}
        check_settings(settings, self.task.unit)
        of_task = {k: chosen[k] for k in self.task.settings if k in chosen}
        key = tuple(sorted((k, str(v)) for k, v in of_task.items()))
        if key not in tasks:
            tasks[key] = self.task.replace(**of_task) if of_task else self.task
        task = tasks[key]
        of_model = {k: v for k, v in task.defaults.items() if k in MODEL_SETTINGS}
        of_model |= {k: v for k, v in chosen.items() if k in MODEL_SETTINGS}
        config = task.config(**of_model)
        if config.positions in TABLES and task.context_length > config.max_positions:
            raise UserError(
                f"sequences have {task.context_length} tokens, the table of positions "
                f"{config.max_positions}: raise max_positions"
            )
        clamp = self.clamps[names["clamp"]]
        if isinstance(clamp, per_seed.PerSeed):
            clamp = clamp.of(names["init"])
        # Many runs have these in common; the study keeps the clamp alive.
        sizes = (task.batch, task.context_length, task.evaluation_sequences)
        together = (id(clamp), config, *sizes)
        if together not in self._fitting:
            _check_size(config, task)
            clamp.arrays(config)  # refuses layers and heads that are not there
            self._fitting.add(together)
        return Common(clamp, task, settings, config, own, self.axes, self.paired)

    def _own_settings(self) -> tuple[str, ...]:
        """The settings that differ between runs and are arrays of a program; all are checked."""
        known = set(OWN_SETTINGS) - set(self.task.settings)
        own = tuple(key for key in (*self.axes, *self.paired) if key in known)
        for key in own:
            if key in self.paired:
                values: Any = (self._of_network(key, init) for init in self.axes["init"])
            else:
                values = self.axes[key]
            for value in values:
                check_setting(key, value)
        return own

    def _of_network(self, setting: str, init: int) -> Any:
        """A paired setting of the network `init`. Raises UserError where it has none."""
        values = self.paired[setting]
        if init not in values:
            raise UserError(
                f"{setting} is given for init {several(values)}, not for {init}: add it"
            )
        return values[init]

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
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        return f"<b>{type(self).__name__} {html.escape(self.name)}</b><table>{cells}</table>"

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
        said = gate.checked(dict(described), _Described, "card.json: study")
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


def _shared(paired: Sequence[Mapping[int, Any]], init: int) -> Any:
    """Equal for networks whose paired settings are the same single values, else its own."""
    values = [each.get(init) for each in paired]
    if all(isinstance(value, int | float | str) for value in values):
        return tuple((type(value), value) for value in values)
    return init


class _Described(msgspec.Struct):
    """What `Study.describe` gives, as a card has it."""

    name: str
    task: dict[str, Any]
    origin: dict[str, Any]
    clamps: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    settings: dict[str, Any]
    evaluate: list[gate.Seen] | None = None
    checkpoints: list[gate.Seen] | None = None


def _check_size(config: Config, task: Task) -> None:
    """Raise UserError where one run alone takes more memory than is free."""
    what = f"a network of {config.layers:,} layers of width {config.d_model:,}"
    if not config.language:
        what += f" on {config.features:,} features"
    # Weights, two moments and gradients; the stream and what attention reads of it, layer by layer.
    memory.check(16 * config.weights, f"training {what}")
    numbers = task.batch * task.context_length * config.d_model * (1 + 4 * config.layers)
    memory.check(4 * numbers, f"a batch of {task.batch:,} sequences in {what}")
    sequences = task.evaluation_sequences
    numbers = sequences * task.context_length
    memory.check(4 * numbers, f"an evaluation set of {sequences:,} sequences")


def _shown(labels: Sequence[Any], most: int = 4) -> str:
    """The labels of an axis, in the middle of a long one dots."""
    words = [str(label) for label in labels]
    if len(words) > most:
        words = [*words[: most - 1], "...", words[-1]]
    return ", ".join(words) + (f" ({len(labels)})" if len(labels) > 1 else "")
