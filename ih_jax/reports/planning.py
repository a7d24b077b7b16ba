"""What to train: in which order, into which folders, and how far each training has got.

    TRAININGS/NAME-DIGEST/    a training as `Sweep.train` writes it; DIGEST identifies its study

A study is found again by its digest and never confused with another, so experiments share what was
trained, in one call or in many.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from ih_jax import paths
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment, Found, Options, Training
from ih_jax.sweeps.card_file import read_card
from ih_jax.sweeps.engine import Sweep
from ih_jax.sweeps.trajectory import Trajectories


@dataclass(frozen=True)
class Planned:
    """One training and how far it has got."""

    name: str
    # If what it needs is not trained yet, one of the same cost; None: not known yet.
    study: Sweep | None
    folder: Path | None  # None: not known yet, for the same reason
    begun: bool = False
    trajectories: Trajectories | None = None  # once it is trained

    @property
    def done(self) -> bool:
        """Whether it is trained."""
        return self.trajectories is not None


def trainings_of(experiments: Sequence[Experiment]) -> tuple[Training, ...]:
    """All the trainings that these experiments need, in order."""
    return in_order(training for experiment in experiments for training in experiment.trainings)


def in_order(trainings: Iterable[Training]) -> tuple[Training, ...]:
    """These trainings and all that they need, each after what it needs.

    Raises UserError if two have the same name.
    """
    known: dict[str, Training] = {}
    order: TopologicalSorter[str] = TopologicalSorter()

    def add(training: Training) -> None:
        if known.setdefault(training.name, training) is not training:
            raise UserError(
                f"two trainings are called {training.name!r}: give each a name of its own"
            )
        order.add(training.name, *(need.name for need in training.needs))
        for need in training.needs:
            add(need)

    for training in trainings:
        add(training)
    return tuple(known[name] for name in order.static_order())


def look(training: Training, options: Options, found: Found, folder: Path) -> Planned:
    """How far a training has got.

    Args:
        training: which.
        options: those it is to be trained with.
        found: what is trained already, by name.
        folder: that of all trainings.
    """
    known = all(need.name in found for need in training.needs)
    if not known:
        try:
            return Planned(training.name, training.study(options, {}), None)
        except KeyError:  # it reads what is not trained yet
            return Planned(training.name, None, None)
    study = training.study(options, found)
    folder = folder / f"{training.name}-{digest(study)}"
    begun = paths.is_there(folder / "card.json")
    done = begun and bool(read_card(folder).get("finished"))
    trajectories = Trajectories(folder, study) if done else None
    return Planned(training.name, study, folder, begun, trajectories)


def plan(
    trainings: Sequence[Training], options: Options, folder: Path
) -> tuple[list[Planned], dict[str, Trajectories]]:
    """How far each training has got, and the finished ones by name."""
    planned: list[Planned] = []
    found: dict[str, Trajectories] = {}
    for training in trainings:
        planned.append(look(training, options, found, folder))
        if (done := planned[-1].trajectories) is not None:
            found[training.name] = done
    return planned, found


def digest(study: Sweep) -> str:
    """Eight hexadecimal digits of everything that decides a study's numbers.

    Where a file of features lies does not count: the checksum of what it holds does.
    """
    described = study.describe()
    described["origin"] = {k: v for k, v in described["origin"].items() if k != "path"}
    text = json.dumps(described, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
