"""What training will cost, in numbers and as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from ih_jax.experiments.base import Experiment, Options
from ih_jax.reports.planning import Planned, trainings_of
from ih_jax.sweeps import blocks, estimate
from ih_jax.sweeps.study import Study


@dataclass(frozen=True)
class Price:
    """What trainings, or experiments none of whose networks are trained yet, cost."""

    networks: int
    seconds: float


def price(
    experiments: Sequence[Experiment],
    options: Options,
    machine: estimate.Machine,
    known: dict[str, Price],
) -> Price:
    """What training and measuring cost, each training counted once.

    `known` holds what trainings cost by their names, and is given those that it lacks.
    """
    needed = trainings_of(experiments)
    for training in needed:
        if training.name not in known:
            study = training.study(options, {})
            seconds = estimate.training_seconds(study, machine)
            known[training.name] = Price(len(study.runs), seconds)
    priced = [known[training.name] for training in needed]
    measuring = sum(each.seconds(options) for each in experiments) / machine.speed
    networks = sum(each.networks for each in priced)
    return Price(networks, sum(each.seconds for each in priced) + measuring)


def announce(
    experiments: Sequence[Experiment],
    options: Options,
    plan: Sequence[Planned],
    console: Console,
) -> None:
    """Print what will happen, and how long it may take on this machine."""
    machine = estimate.this_machine()
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    training = 0.0
    for each in plan:
        if each.study is None:
            table.add_row(each.name, "", "", "cost unknown until the trainings it needs are done")
            continue
        if each.done:
            takes = "already trained"
        else:
            seconds = estimate.training_seconds(each.study, machine)
            training += seconds
            takes = _minutes(seconds / 60)
        table.add_row(each.name, _axes(each.study), size(each.study), takes)
    todo = [each.study for each in plan if not each.done and each.study is not None]
    measuring = sum(each.seconds(options) for each in experiments) / machine.speed
    megabytes = sum(blocks.estimate_bytes(study) for study in todo) / 1e6
    count = "1 experiment" if len(experiments) == 1 else f"{len(experiments)} experiments"
    console.print(table)
    console.print(
        f"{count}, {sum(len(study.runs) for study in todo)} networks to "
        f"train, {amount(todo)}, about {megabytes:,.0f} MB of trajectories: "
        f"{_minutes((training + measuring) / 60)} on this machine ({machine.describe()})"
    )


def size(study: Study) -> str:
    """How many networks, and how much they see."""
    return f"{len(study.runs)} networks, {amount([study])}"


def amount(studies: Iterable[Study]) -> str:
    """What the networks of studies see together: "3.2 million sequences, 8 million tokens"."""
    return in_words(seen_by_unit(studies))


def seen_by_unit(studies: Iterable[Study]) -> dict[str, int]:
    """What the networks of studies see together: {"sequences": 3_200_000, ...}."""
    every = list(studies)
    units = dict.fromkeys(("sequences", "tokens", *(each.task.unit for each in every)))
    return {u: estimate.seen([each for each in every if each.task.unit == u]) for u in units}


def in_words(seen: Mapping[str, int]) -> str:
    """What `seen_by_unit` counts, as `amount` writes it."""
    said = [f"{count / 1e6:.1f} million {unit}" for unit, count in seen.items() if count]
    return ", ".join(said) or "nothing"


def _minutes(minutes: float) -> str:
    return "no estimate for these devices" if minutes != minutes else f"about {minutes:.1f} minutes"


def _axes(study: Study) -> str:
    """The axes along which networks differ: clamps and seeds counted, other values named."""
    return ", ".join(
        f"{len(values)} {axis}s" if axis in ("clamp", "init") else f"{axis} {_listed(values)}"
        for axis, values in study.axes.items()
        if len(values) > 1 or axis not in ("clamp", "init")
    )


def _listed(values: Iterable[Any]) -> str:
    return " ".join(str(value) for value in values)
