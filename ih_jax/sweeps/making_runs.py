"""The runs of a study, made: one for each place along its axes, with what it shares with others.

What many runs have in common is made and checked once: settings, the model against its task, clamps
against the model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ih_jax import memory
from ih_jax.clamps import per_seed
from ih_jax.clamps.clamp import Clamp
from ih_jax.errors import UserError, several
from ih_jax.model.params import TABLES, Config
from ih_jax.sweeps.checking import check_own
from ih_jax.sweeps.runs import Common, RunSpec
from ih_jax.sweeps.settings import (
    MODEL_SETTINGS,
    OWN_SETTINGS,
    check_kinds,
    check_setting,
    check_settings,
    run_settings,
)
from ih_jax.tasks.base import Task


@dataclass(frozen=True)
class Product:
    """What the runs of a study are the product of, as `Study` has read its settings."""

    task: Task
    clamps: Mapping[str, Clamp | per_seed.PerSeed]
    axes: Mapping[str, Sequence[Any]]  # "clamp" and "init" first
    paired: Mapping[str, Mapping[int, Any]]  # setting -> init -> value
    fixed: Mapping[str, Any]  # settings that are the same in all runs
    horizons: Any  # in the unit of the task, or {clamp name: horizon}


@dataclass(frozen=True)
class _Made:
    """What was made and checked for earlier runs, and serves later ones."""

    tasks: dict[Any, Task] = field(default_factory=dict)  # by settings: data is read once
    fitting: set[Any] = field(default_factory=set)  # clamps, models and sizes that fit


def runs_of(product: Product) -> tuple[tuple[RunSpec, ...], tuple[Common, ...]]:
    """All runs, and what they have in common (see `runs`).

    Raises:
        UserError: a setting is out of range, or model, task and clamp of a run do not fit.
    """
    own = _own_settings(product)
    counted = [axis not in own for axis in product.axes]  # whether runs along it have no `Common`
    clamps = list(product.clamps.values())
    paired = [values for key, values in product.paired.items() if key not in own]
    kinds = math.prod(len(product.axes[a]) for a, n in zip(product.axes, counted, strict=True) if n)
    kinds *= len({_shared(paired, init) for init in product.axes["init"]}) if paired else 1
    check_kinds(kinds)
    commons: dict[Any, Common] = {}
    made = _Made()
    runs = []
    indices = [range(len(labels)) for labels in product.axes.values()]
    for number, place in enumerate(itertools.product(*indices)):
        key: Any = tuple(itertools.compress(place, counted))
        clamp = clamps[place[0]]
        if isinstance(clamp, per_seed.PerSeed):  # many networks may have one and the same
            key = (key, id(clamp.of(product.axes["init"][place[1]])))
        if paired:
            key = (key, _shared(paired, product.axes["init"][place[1]]))
        common = commons.get(key)
        if common is None:
            common = commons[key] = _common(product, place, own, made)
        runs.append(RunSpec(number, place, common))
    _check_own_tasks(commons.values())
    return tuple(runs), tuple(commons.values())


def _common(product: Product, place: tuple[int, ...], own: tuple[str, ...], made: _Made) -> Common:
    """What a run at this place along the axes has in common with others."""
    base = product.task
    defaults = run_settings(base)
    names = {axis: product.axes[axis][i] for axis, i in zip(product.axes, place, strict=True)}
    chosen = {**product.fixed, **{k: v for k, v in names.items() if k != "clamp"}}
    chosen |= {k: _of_network(product, k, names["init"]) for k in product.paired}
    horizon = chosen.pop(base.unit, product.horizons)
    if isinstance(horizon, Mapping):
        if names["clamp"] not in horizon:
            raise UserError(f"{base.unit} has no horizon for clamp {names['clamp']!r}")
        horizon = horizon[names["clamp"]]
    of_run = {k: v for k, v in chosen.items() if k in defaults}
    settings = {**defaults, **of_run, base.unit: horizon}
    check_settings(settings, base.unit)
    of_task = {k: chosen[k] for k in base.settings if k in chosen}
    key = tuple(sorted((k, str(v)) for k, v in of_task.items()))
    if key not in made.tasks:
        made.tasks[key] = base.replace(**of_task) if of_task else base
    task = made.tasks[key]
    of_model = {k: v for k, v in task.defaults.items() if k in MODEL_SETTINGS}
    of_model |= {k: v for k, v in chosen.items() if k in MODEL_SETTINGS}
    config = task.config(**of_model)
    if config.positions in TABLES and task.context_length > config.max_positions:
        raise UserError(
            f"sequences have {task.context_length} tokens, the table of positions "
            f"{config.max_positions}: raise max_positions"
        )
    clamp = product.clamps[names["clamp"]]
    if isinstance(clamp, per_seed.PerSeed):
        clamp = clamp.of(names["init"])
    # Many runs have these in common; the study keeps the clamp alive.
    sizes = (task.batch, task.context_length, task.evaluation_sequences)
    together = (id(clamp), config, *sizes)
    if together not in made.fitting:
        _check_size(config, task)
        clamp.arrays(config)  # refuses layers and heads that are not there
        made.fitting.add(together)
    return Common(clamp, task, settings, config, own, product.axes, product.paired)


def _own_settings(product: Product) -> tuple[str, ...]:
    """The settings that differ between runs and are arrays of a program; all are checked."""
    known = set(OWN_SETTINGS) - set(product.task.settings)
    own = tuple(key for key in (*product.axes, *product.paired) if key in known)
    for key in own:
        if key in product.paired:
            values: Any = (_of_network(product, key, init) for init in product.axes["init"])
        else:
            values = product.axes[key]
        for value in values:
            check_setting(key, value)
    return own


def _of_network(product: Product, setting: str, init: int) -> Any:
    """A paired setting of the network `init`. Raises UserError where it has none."""
    values = product.paired[setting]
    if init not in values:
        raise UserError(f"{setting} is given for init {several(values)}, not for {init}: add it")
    return values[init]


def _shared(paired: Sequence[Mapping[int, Any]], init: int) -> Any:
    """Equal for networks whose paired settings are the same single values, else its own."""
    values = [each.get(init) for each in paired]
    if all(isinstance(value, int | float | str) for value in values):
        return tuple((type(value), value) for value in values)
    return init


def _check_own_tasks(commons: Iterable[Common]) -> None:
    """Raises UserError where a task of one's own does not fit its model or its clamps."""
    seen: set[Any] = set()
    for each in commons:
        key = (each.program, id(each.clamp))
        try:
            known = key in seen
        except TypeError:  # `check_own` says what does not hash
            known = False
        if not known:
            check_own(each.program, each.task, each.clamp)
            seen.add(key)


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
