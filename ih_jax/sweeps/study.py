"""A study: which runs there are, what each is, and when it is looked at. Nothing is trained here.

A study is a product of axes. Any setting of a run, of the model or of the task may be an axis: give
a list instead of one value. Runs that differ only in arrays share one program (a *group*).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np

from ih_jax.clamps import per_seed
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.errors import UserError
from ih_jax.model.params import Config
from ih_jax.sweeps.loop import (
    ALL_SETS,
    TRAIN_SET,
    Hyper,
    Optimiser,
    Program,
    RunArrays,
    Schedule,
)
from ih_jax.sweeps.packing import stack_runs
from ih_jax.tasks import language
from ih_jax.tasks.base import Task, TaskArrays
from ih_jax.tasks.fewshot import FewShot

# The settings of one run that belong neither to its task nor to its model; the few-shot paper's
# values. A task may have others (`Task.defaults`).
RUN_SETTINGS: dict[str, Any] = {
    "init": 0,
    "order": 0,
    "sequences": 1_000_000,  # of a task that counts tokens: "tokens"
    "learning_rate": 1e-5,
    "optimiser": "adam",
    "beta2": 0.999,
    "schedule": "constant",
    "weight_decay": 0.0,
    "clip_norm": None,
    "warmup_steps": 4_000,
    "decay_steps": 1_000_000,
    "first_learning_rate": 0.0,
    "last_learning_rate": 0.0,
    "initial_scale": 1.0,
}
MODEL_SETTINGS = tuple(
    f.name for f in dataclasses.fields(Config) if f.name not in ("features", "labels")
)
Clamps = Mapping[str, Clamp | Mapping[int, Clamp] | per_seed.PerSeed | None] | Clamp | None
GRID_RATIO = 1.05  # of one evaluation to the next, in sequences seen
GRID_START = 1_000  # sequences seen at the first evaluation after the start
SPARSE = 10  # the other evaluation sets are looked at this much more rarely
CHECKPOINT_EVERY = 8  # evaluations


@dataclass(frozen=True)
class RunSpec:
    """One run, in words."""

    index: int
    place: tuple[int, ...]  # along the study's axes
    names: dict[str, Any]  # axis -> label
    clamp: Clamp
    task: Task
    settings: dict[str, Any]
    config: Config

    @property
    def steps(self) -> int:
        """How long this run trains."""
        return math.ceil(self.settings[self.task.unit] / self.program.unit)

    @cached_property
    def program(self) -> Program:
        return Program(
            config=self.config,
            task=self.task.objective(),
            tokens=self.task.context_length,
            batch=self.task.batch,
            evaluation_sequences=self.task.evaluation_sequences,
            optimiser=self.settings["optimiser"],
            schedule=self.settings["schedule"],
            clips=self.settings["clip_norm"] is not None,
            decays=self.settings["weight_decay"] != 0,
            beta2=self.settings["beta2"],
        )

    def arrays(self, task: TaskArrays) -> RunArrays:
        """This run's arrays, with those of its task; holds are stacked by the group."""
        s = self.settings
        hyper = Hyper(
            learning_rate=_scalar(s["learning_rate"]),
            weight_decay=_scalar(s["weight_decay"]),
            clip_norm=_scalar(np.inf if s["clip_norm"] is None else s["clip_norm"]),
            warmup_steps=_scalar(s["warmup_steps"]),
            decay_steps=_scalar(s["decay_steps"]),
            initial_scale=_scalar(s["initial_scale"]),
            first_learning_rate=_scalar(s["first_learning_rate"]),
            last_learning_rate=_scalar(s["last_learning_rate"]),
        )
        return RunArrays(
            _scalar(s["init"], np.int32), _scalar(s["order"], np.int32), task, Holds(), hyper
        )


@dataclass(frozen=True)
class Group:
    """Runs that share one program."""

    program: Program
    runs: tuple[RunSpec, ...]

    @cached_property
    def arrays(self) -> RunArrays:
        """All runs stacked, in the order of `runs`."""
        holds = Clamp.stack([run.clamp for run in self.runs], self.program.config)
        tasks = {id(run.task): run.task for run in self.runs}
        arrays = {key: task.arrays() for key, task in tasks.items()}  # features are read once
        return stack_runs([run.arrays(arrays[id(run.task)]) for run in self.runs], holds)


class Study:
    """The runs of a product of axes.

    Args:
        task: what is learned (`fewshot(...)` or `language(...)`).
        clamp: {name: Clamp}, an axis of its own; one Clamp or None is named "none". A clamp that
            differs between networks is {init: Clamp}.
        evaluate: when runs are evaluated, in sequences seen (language: tokens): a list, or None for
            a geometric grid.
        checkpoints: when weights are kept: a list, or None for every eighth evaluation.
        name: what results are called on the card.
        settings: settings of runs (`RUN_SETTINGS`), of the model (fields of `Config`) and of the
            task (fields of `FewShot` or `Language`). A list, tuple, range or array is an axis.
            `sequences` (language: `tokens`), the horizon, may be {clamp name: sequences}.

    Raises:
        UserError: for an unknown setting, a value out of range, and clamps that do not fit.
    """

    def __init__(
        self,
        task: Task,
        *,
        clamp: Clamps = None,
        evaluate: Sequence[float] | None = None,
        checkpoints: Sequence[float] | None = None,
        name: str = "study",
        **settings: Any,
    ) -> None:
        self.task = task
        self.name = name
        self.clamps = per_seed.by_name(clamp)
        self.given = settings
        self.axes: dict[str, list[Any]] = {"clamp": list(self.clamps), "init": [0]}
        fixed: dict[str, Any] = {}
        for key, value in settings.items():
            self._refuse_unknown(key)
            if _is_axis(key, value):
                self.axes[key] = [_plain(v) for v in value]
                _refuse_repeats(key, self.axes[key])
            else:
                fixed[key] = value
        if "init" in fixed:
            self.axes["init"] = [fixed.pop("init")]
        self.horizons = fixed.pop(task.unit, self.run_settings[task.unit])
        self.runs = self._make_runs(fixed)
        self.evaluations = self._grid(evaluate, "evaluate")
        self.checkpoints = self._checkpoint_steps(checkpoints)
        self.schedule_given = {"evaluate": evaluate, "checkpoints": checkpoints}

    @cached_property
    def run_settings(self) -> dict[str, Any]:
        """What the settings of a run are where they are not given."""
        known = {**RUN_SETTINGS, self.task.unit: RUN_SETTINGS["sequences"]}
        if self.task.unit != "sequences":
            del known["sequences"]
        return known | {k: v for k, v in self.task.defaults.items() if k in known}

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
        for run in self.runs:
            found.setdefault((run.program, run.task.sizes()), []).append(run)
        return tuple(Group(program, tuple(runs)) for (program, _), runs in found.items())

    def _refuse_unknown(self, key: str) -> None:
        known = (*self.run_settings, *MODEL_SETTINGS, *self.task.settings)
        if key not in known:
            raise UserError(f"no setting {key!r}: there are {', '.join(known)}")

    def _make_runs(self, fixed: dict[str, Any]) -> tuple[RunSpec, ...]:
        runs = []
        tasks: dict[Any, Task] = {}
        indices = [range(len(labels)) for labels in self.axes.values()]
        for number, place in enumerate(itertools.product(*indices)):
            names = {axis: self.axes[axis][i] for axis, i in zip(self.axes, place, strict=True)}
            chosen = {**fixed, **{k: v for k, v in names.items() if k != "clamp"}}
            horizon = chosen.pop(self.task.unit, self.horizons)
            if isinstance(horizon, Mapping):
                if names["clamp"] not in horizon:
                    raise UserError(f"{self.task.unit} has no horizon for clamp {names['clamp']!r}")
                horizon = horizon[names["clamp"]]
            own = {k: v for k, v in chosen.items() if k in self.run_settings}
            settings = {**self.run_settings, **own, self.task.unit: horizon}
            _check_settings(settings, self.task.unit)
            of_task = {k: v for k, v in chosen.items() if k in self.task.settings}
            key = tuple(sorted((k, str(v)) for k, v in of_task.items()))
            if key not in tasks:
                tasks[key] = self.task.replace(**of_task) if of_task else self.task
            task = tasks[key]
            of_model = {k: v for k, v in task.defaults.items() if k in MODEL_SETTINGS}
            of_model |= {k: v for k, v in chosen.items() if k in MODEL_SETTINGS}
            config = task.config(**of_model)
            table = config.positions in ("learned", "shortformer")
            if table and task.context_length > config.max_positions:
                raise UserError(
                    f"sequences have {task.context_length} tokens, the table of positions "
                    f"{config.max_positions}: raise max_positions"
                )
            clamp = self.clamps[names["clamp"]]
            if isinstance(clamp, per_seed.PerSeed):
                clamp = clamp.of(names["init"])
            clamp.arrays(config)  # refuses layers and heads that are not there
            runs.append(RunSpec(number, place, names, clamp, task, settings, config))
        return tuple(runs)

    def _grid(self, given: Sequence[float] | None, what: str) -> list[int]:
        """Steps at which the runs are looked at, with the start and every horizon among them."""
        unit = self.unit
        if len({run.program.unit for run in self.runs}) > 1:
            raise UserError(
                "runs of one study have one batch size and length: make a study for each"
            )
        horizons = sorted({run.steps for run in self.runs})
        if given is None:
            begin = GRID_START * self.runs[0].program.task.unit_per_sequence
            count = max(0, math.log(horizons[-1] * unit / begin, GRID_RATIO))
            seen = [begin * GRID_RATIO**i for i in range(math.floor(count) + 1)]
        else:
            seen = [float(each) for each in given]
            if not seen or min(seen) < 0 or not np.isfinite(seen).all():
                raise UserError(f"{what} is {list(given)}: give {self.task.unit} seen, 0 or more")
        steps = {math.ceil(each / unit) for each in seen if each <= horizons[-1] * unit}
        return sorted(steps | {0} | set(horizons)) if what == "evaluate" else sorted(steps)

    def _checkpoint_steps(self, given: Sequence[float] | None) -> list[int]:
        if given is not None:
            return self._grid(given, "checkpoints")
        horizons = {run.steps for run in self.runs}
        return sorted({0, *self.evaluations[1::CHECKPOINT_EVERY], *horizons})

    def timetable(self, steps: int) -> list[tuple[int, int, bool]]:
        """(step, what is evaluated, whether weights are kept), up to a horizon of `steps`."""
        horizons = {run.steps for run in self.runs}
        found = []
        for step in sorted({*self.evaluations, *self.checkpoints}):
            kind = 0
            if step in self.evaluations:
                sparse = self.evaluations.index(step) % SPARSE == 0
                kind = ALL_SETS if sparse or step in horizons else TRAIN_SET
            if step <= steps:
                found.append((step, kind, step in self.checkpoints))
        return found

    def describe(self) -> dict[str, Any]:
        """Everything that decides the numbers, as JSON: what a resumed sweep must share."""
        return {
            "name": self.name,
            "task": self.task.describe(),
            "origin": self.task.origin(),
            "clamps": {name: clamp.to_json() for name, clamp in self.clamps.items()},
            "settings": {k: _for_card(v) for k, v in self.given.items()},
            **{k: _for_card(v) for k, v in self.schedule_given.items()},
        }

    @classmethod
    def from_card(cls, described: Mapping[str, Any]) -> Study:
        """The study that `describe` described. Raises UserError where its data is gone."""
        kind = language.Language if "language" in described["task"] else FewShot
        return cls(
            kind.of_card(described["task"], described["origin"]),
            clamp={n: per_seed.from_json(text) for n, text in described["clamps"].items()},
            evaluate=described["evaluate"],
            checkpoints=described["checkpoints"],
            name=described["name"],
            **described["settings"],
        )


def _scalar(value: Any, kind: type = np.float32) -> np.ndarray:
    return np.asarray(value, kind)


def _is_axis(key: str, value: Any) -> bool:
    if key in ("mixture", "mixture_weights", "label_pair_shares", "evaluation_sets"):
        return False
    return isinstance(value, list | tuple | range | np.ndarray)


def _refuse_repeats(key: str, labels: list[Any]) -> None:
    if not labels or len(set(map(str, labels))) < len(labels):
        raise UserError(f"{key} is {labels}: give one or more values, each once")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _for_card(value: Any) -> Any:
    if isinstance(value, list | tuple | range | np.ndarray):
        return [_for_card(each) for each in value]
    if isinstance(value, Mapping):
        return {str(k): _for_card(v) for k, v in value.items()}
    return _plain(value)


def _check_settings(s: dict[str, Any], unit: str) -> None:
    for name, accepted in (("optimiser", get_args(Optimiser)), ("schedule", get_args(Schedule))):
        if s[name] not in accepted:
            raise UserError(f"{name} is {s[name]!r}: give one of {', '.join(accepted)}")
    for name in ("init", "order"):
        if isinstance(s[name], bool) or not isinstance(s[name], int) or not 0 <= s[name] < 2**31:
            raise UserError(f"{name} is {s[name]!r}: give a seed, a whole number of 0 or more")
    for name in (unit, "learning_rate", "initial_scale"):
        if isinstance(s[name], str) or not (np.isfinite(s[name]) and s[name] > 0):
            raise UserError(f"{name} is {s[name]!r}: give a number above 0")
    for name in ("weight_decay", "warmup_steps", "decay_steps"):
        if isinstance(s[name], str) or not (np.isfinite(s[name]) and s[name] >= 0):
            raise UserError(f"{name} is {s[name]!r}: give a number of 0 or more")
    if isinstance(s["beta2"], str) or not 0 <= s["beta2"] < 1:
        raise UserError(f"beta2 is {s['beta2']!r}: give a number from 0 up to, not including, 1")
    if s["clip_norm"] is not None and not s["clip_norm"] > 0:
        raise UserError(f"clip_norm is {s['clip_norm']!r}: give a number above 0, or None")
