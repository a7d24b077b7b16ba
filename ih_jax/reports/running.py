"""Running experiments: train what they need and is not trained yet, measure, decide, draw.

    TRAININGS/NAME-DIGEST/    a training as `Sweep.train` writes it; DIGEST is of its study
    FOLDER/                   an experiment: README.md, figure, results.nc, card.json

The same study is found again by its digest and another never mixes in, so figures share what was
trained, in one call or in many.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment, Options
from ih_jax.experiments.singh2024.trainings import TRAININGS, in_order
from ih_jax.reports import report
from ih_jax.reports.report import Findings
from ih_jax.sweeps import blocks, cards, estimate, store
from ih_jax.sweeps.engine import Sweep
from ih_jax.sweeps.study import Study
from ih_jax.sweeps.trajectory import Trajectories

RESULTS = Path("results")


@dataclass(frozen=True)
class How:
    """What of a call does not change its numbers."""

    out: Path | None = None  # of one experiment its folder, of several the folder of theirs
    trainings: Path | None = None  # where they are kept; None: "trainings" below `out`
    resume: bool = False
    width: int | None = None
    share: str | None = None  # as `Sweep.train` takes it
    progress: bool = True
    command: str = ""
    console: Console = dataclasses.field(default_factory=Console)

    def folder(self, experiment: Experiment, several: bool) -> Path:
        """The folder of an experiment."""
        if self.out is None or several:
            return (self.out or RESULTS) / experiment.name
        return self.out


@dataclass(frozen=True)
class Cost:
    """Of experiments for which nothing is trained yet."""

    networks: int
    seconds: float


@dataclass(frozen=True)
class Planned:
    """One training and how far it is."""

    name: str
    study: Sweep  # where what it needs is not trained yet, one of the same cost
    folder: Path | None  # None where that is not known yet, for the same reason
    done: bool


def run(experiments: Sequence[Experiment], options: Options, how: How) -> dict[str, Findings]:
    """Run experiments one after the other, each as soon as what it needs is trained.

    With `how.resume`, trainings go on where they stopped, and experiments whose results stand
    there, made by the same code of the same trainings, are not measured again.

    Raises:
        UserError: an option does not fit (experiments take no share but "claim", and then only
            train: nothing is returned), a folder is of something else or not writable, or a
            training was not finished and `how.resume` is not set.
        engine.Interrupted: on Ctrl-C, after saving.
    """
    several = len(experiments) > 1
    _check_clamps(experiments, options)
    if how.share not in (None, "claim"):
        raise UserError(
            f"--share is {how.share}: experiments train one after the other, and the next may need "
            "all of the last: give --share claim (fixed shares are for study files)"
        )
    for experiment in experiments:
        _refuse_another(how.folder(experiment, several), experiment)
    trained = Trained(options, how)
    plan = [trained.look(name) for name in in_order(_needs(experiments))]
    for each in plan:
        if each.folder is not None and not each.done:
            each.study.check()
    for experiment in experiments:
        store.make_folder(how.folder(experiment, several))
    _announce(experiments, options, plan, how)
    trained.left = [each.name for each in plan if not each.done]
    findings: dict[str, Findings] = {}
    if how.share:
        for each in plan:
            trained.train(each.name)
        how.console.print(
            "all is trained; one process now measures and draws: the same command with --resume "
            "in the place of --share"
        )
        return findings
    for experiment in experiments:
        for name in in_order(experiment.needs):
            trained.train(name)
        folder = how.folder(experiment, several)
        findings[experiment.name] = _finish(experiment, options, trained, folder, how)
    if several:
        index = report.write_index(how.out or RESULTS)
        how.console.print(f"all claims: {index}")
    return findings


class Trained:
    """The trainings of some options, in one folder; trained when they are asked for."""

    def __init__(self, options: Options, how: How) -> None:
        self.options, self.how = options, how
        self.folder = how.trainings or (how.out or RESULTS) / "trainings"
        self.found: dict[str, Trajectories] = {}
        self.left: list[str] = []  # names of those that have to be trained, in order

    def look(self, name: str) -> Planned:
        """What is there of a training. Raises UserError for one that was not finished."""
        training = TRAININGS[name]
        known = all(need in self.found for need in training.needs)
        study = training.sweep(self.options, self.found if known else {})
        if not known:
            return Planned(name, study, None, done=False)
        folder = self.folder / f"{name}-{digest(study)}"
        begun = (folder / "card.json").exists()
        done = begun and bool(store.read_card(folder).get("finished"))
        if done:
            self.found[name] = Trajectories(folder, study)
        elif begun and not self.how.resume and not self.how.share:
            raise UserError(
                f"{folder} holds an unfinished training: go on with --resume, or give another "
                "folder with --trainings"
            )
        return Planned(name, study, folder, done)

    def train(self, name: str) -> None:
        """Train this if it is not trained; what it needs is."""
        if name in self.found:
            return
        planned = self.look(name)
        if planned.done:
            return
        assert planned.folder is not None
        number = self.left.index(name) + 1 if name in self.left else 0
        self.how.console.print(f"training {number} of {len(self.left)}: {_in_words(planned)}")
        planned.study.check()
        self.found[name] = planned.study.train(
            planned.folder,
            resume=self.how.resume,
            width=self.how.width,
            share=self.how.share,
            progress=self.how.progress,
            about={"training": name, "command": self.how.command},
        )


def cost(experiments: Sequence[Experiment], options: Options, machine: estimate.Machine) -> Cost:
    """What training and measuring take, each training once."""
    studies = [TRAININGS[name].sweep(options, {}) for name in in_order(_needs(experiments))]
    training = sum(estimate.training_seconds(study, machine) for study in studies)
    measuring = sum(each.seconds(options) for each in experiments) / machine.speed
    networks = sum(len(study.runs) for study in studies)
    return Cost(networks, training + measuring)


def digest(study: Sweep) -> str:
    """Eight hexadecimal digits of everything that decides a study's numbers.

    Where a file of features lies does not count: the checksum of what it holds does.
    """
    described = study.describe()
    described["origin"] = {k: v for k, v in described["origin"].items() if k != "path"}
    text = json.dumps(described, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


# --- before -------------------------------------------------------------------------------------


def _needs(experiments: Sequence[Experiment]) -> list[str]:
    return [name for experiment in experiments for name in experiment.needs]


def _check_clamps(experiments: Sequence[Experiment], options: Options) -> None:
    if options.clamps and (len(experiments) > 1 or "clamps" not in experiments[0].needs):
        what = experiments[0].name if len(experiments) == 1 else "a set of experiments"
        raise UserError(f"{what} has no clamps to choose from: leave --clamps out")


def _refuse_another(folder: Path, experiment: Experiment) -> None:
    if not (folder / "card.json").exists():
        return
    theirs = store.read_card(folder).get("experiment")
    if theirs != experiment.name:
        raise UserError(
            f"{folder} belongs to experiment {theirs!r}, not {experiment.name!r}: "
            "give another folder with --out"
        )


def _announce(
    experiments: Sequence[Experiment], options: Options, plan: Sequence[Planned], how: How
) -> None:
    """What will happen, and how long it may take on this machine."""
    machine = estimate.this_machine()
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for each in plan:
        minutes = estimate.training_seconds(each.study, machine) / 60
        cost = "trained already" if each.done else _minutes(minutes)
        table.add_row(each.name, _axes(each.study), _size(each.study), cost)
    todo = [each.study for each in plan if not each.done]
    training = sum(estimate.training_seconds(study, machine) for study in todo)
    measuring = sum(each.seconds(options) for each in experiments) / machine.speed
    size = sum(blocks.estimate_bytes(study) for study in todo) / 1e6
    how.console.print(table)
    how.console.print(
        f"{len(experiments)} experiments, {sum(len(study.runs) for study in todo)} networks to "
        f"train, {_amount(todo)}, about {size:,.0f} MB of trajectories: "
        f"{_minutes((training + measuring) / 60)} on this machine ({machine.describe()})"
    )


def _minutes(minutes: float) -> str:
    return "no estimate for these devices" if minutes != minutes else f"about {minutes:.1f} minutes"


def _axes(study: Sweep) -> str:
    """The axes along which networks differ: clamps and seeds counted, other values named."""
    return ", ".join(
        f"{len(values)} {axis}s" if axis in ("clamp", "init") else f"{axis} {_listed(values)}"
        for axis, values in study.axes.items()
        if len(values) > 1 or axis not in ("clamp", "init")
    )


def _listed(values: Sequence[Any]) -> str:
    return " ".join(str(value) for value in values)


def _size(study: Sweep) -> str:
    return f"{len(study.runs)} networks, {_amount([study])}"


def _amount(studies: Sequence[Study]) -> str:
    """What the networks of studies see together: "3.2 million sequences, 8 million tokens"."""
    said = []
    for unit in ("sequences", "tokens"):
        seen = estimate.seen([each for each in studies if each.task.unit == unit])
        said += [f"{seen / 1e6:.1f} million {unit}"] if seen else []
    return ", ".join(said) or "nothing"


def _in_words(planned: Planned) -> str:
    return f"{planned.name} ({_size(planned.study)}), into {planned.folder}/"


# --- after --------------------------------------------------------------------------------------


def _finish(
    experiment: Experiment, options: Options, trained: Trained, folder: Path, how: How
) -> Findings:
    """Measure, decide and draw an experiment whose needs are trained."""
    found = {name: trained.found[name] for name in experiment.needs}
    card = {
        "experiment": experiment.name,
        "command": how.command,
        "options": dataclasses.asdict(options),
        "trainings": [
            {
                "name": name,
                "digest": each.folder.name.rpartition("-")[2],
                "folder": os.path.relpath(each.folder, folder),
            }
            for name, each in found.items()
        ],
        "versions": cards.versions("ih_jax", "jax", "jaxlib", "numpy"),
        "devices": [device.device_kind for device in jax.devices()],
        "commit": cards.commit(),
    }
    before = store.read_card(folder) if (folder / "card.json").exists() else {}
    if how.resume and before.get("finished") and _same(before, card, "versions", "commit"):
        how.console.print(f"{experiment.name}: results stand in {folder}/")
        return report.findings(experiment, folder)
    how.console.print(f"measuring {experiment.name}")
    began = time.monotonic()
    results = experiment.measure(options, found)
    if before and not _same(before, card):
        moved = report.set_aside(folder)
        how.console.print(f"earlier results of {experiment.name} are kept in {moved}", style="dim")
    seconds = time.monotonic() - began
    findings = report.write(folder, experiment, results, _said(card, found, seconds))
    seconds = time.monotonic() - began
    store.write_card(folder, {**card, "finished": True, "seconds": round(seconds, 1)})
    how.console.print(f"figure, table and numbers: {folder}/README.md")
    return findings


def _same(before: Mapping[str, Any], card: Mapping[str, Any], *more: str) -> bool:
    """Whether earlier results are of the same options and trainings (and of the same code)."""
    now = json.loads(json.dumps(card))
    made = [{k: each.get(k) for k in ("name", "digest")} for each in before.get("trainings", [])]
    wanted = [{k: each[k] for k in ("name", "digest")} for each in now["trainings"]]
    return made == wanted and all(before.get(k) == now[k] for k in ("options", *more))


def _said(
    card: Mapping[str, Any], found: Mapping[str, Trajectories], seconds: float
) -> dict[str, Any]:
    """What of the cards a reader of the results wants to know."""
    said: dict[str, Any] = {"command": card["command"]}
    if found:
        words: dict[str, list[str]] = {}
        for each in found.values():
            for name, value in each.study.task.in_words().items():
                words.setdefault(name, []).append(value)
        said |= {
            **{name: "; ".join(dict.fromkeys(values)) for name, values in words.items()},
            "init seeds": sorted({s for each in found.values() for s in each.study.axes["init"]}),
            "trainings": ", ".join(each.folder.name for each in found.values()),
            "networks": sum(len(each.study.runs) for each in found.values()),
            "seen": _amount([each.study for each in found.values()]),
            "clamps": {n: each.card["clamps_in_words"] for n, each in found.items()},
        }
        seconds += sum(each.card["seconds"] for each in found.values())
    said |= {"devices": card["devices"], "jax": card["versions"].get("jax")}
    return {**said, "commit": card["commit"], "wall_seconds": round(seconds, 1)}
