"""Running experiments: train what they hold and is not trained yet, then measure, decide, draw."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ih_jax import paths
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment, Options, Training
from ih_jax.reports import (
    announcing,
    finishing,
    folders,
    loggers,
    parts,
    planning,
    report,
    sources,
)
from ih_jax.reports.planning import Planned
from ih_jax.reports.tables import Findings
from ih_jax.sweeps import blocks, store
from ih_jax.sweeps.card_file import read_card
from ih_jax.sweeps.trajectory import Trajectories

RESULTS = Path("results")


@dataclass(frozen=True)
class How:
    """The settings of a call that do not change its numbers."""

    out: Path | None = None  # of one experiment its folder, of several the folder of theirs
    trainings: Path | None = None  # where they are kept; None: "trainings" below `out`
    resume: bool = False
    width: int | None = None
    share: str | None = None  # as `Sweep.train` takes it
    progress: bool = True
    log: loggers.Kind | None = None  # curves while they form
    disk: float = 5.0  # GB of weights at once; what has been measured is forgotten beyond that
    draw: bool = True  # figures, claims and READMEs too; `report.redraw` makes them later
    command: str = ""
    file: Path | None = None  # that defines the experiment; None: one of this package
    console: Console = field(default_factory=lambda: Console(markup=False, emoji=False))

    def folder(self, experiment: Experiment, several: bool) -> Path:
        """The folder of an experiment."""
        if self.out is None or several:
            return (self.out or RESULTS) / experiment.name
        return self.out


def run(experiments: Sequence[Experiment], options: Options, how: How) -> dict[str, Findings]:
    """Run experiments one after the other, each as soon as what it needs is trained.

    With `how.resume`, trainings continue where they stopped, and experiments that the same code has
    already measured on the same trainings are not measured again.

    Raises:
        UserError: an option does not apply (experiments accept no share but "claim", and then only
            train: nothing is returned), a folder belongs to something else or is not writable, or
            a training was not finished and `how.resume` is not set.
        Interrupted: on Ctrl-C, after saving.
    """
    own_folders = {each.name: how.folder(each, len(experiments) > 1) for each in experiments}
    _check_share(how)
    for experiment in experiments:
        paths.results_folder(own_folders[experiment.name])
        _refuse_another(own_folders[experiment.name], experiment)
    trainings = planning.trainings_of(experiments)
    kept = how.trainings or (how.out or RESULTS) / "trainings"
    paths.results_folder(kept)
    every = [options] if how.share else parts.divide(experiments, options, how.disk)
    if len(every) > 1:
        with contextlib.ExitStack() as stack:
            for folder in own_folders.values():
                stack.enter_context(store.new_folder(folder))
            return _run_in_parts(experiments, options, every, own_folders, kept, how)
    plan, found = planning.plan(trainings, options, kept)
    _refuse_full_disk(plan, kept)
    for each in plan:
        _refuse_unfinished(each, how)
        if each.study is not None and each.folder is not None and not each.done:
            each.study.check()
    with contextlib.ExitStack() as stack:
        # What cannot be written is said before hours of training.
        for experiment in experiments:
            folder = own_folders[experiment.name]
            stack.enter_context(store.new_folder(folder))
            own = {training.name for training in planning.in_order(experiment.trainings)}
            mine = [each for each in plan if each.name in own]
            folders.say_begun(folder, experiment.name, how.command, mine)
        announcing.announce(experiments, options, plan, how.console)
        try:
            return _train_and_finish(experiments, options, how, plan, found)
        except UserError:  # as it was before, unlike after Ctrl-C
            for folder in own_folders.values():
                folders.say_finished(folder)
            raise


def _train_and_finish(
    experiments: Sequence[Experiment],
    options: Options,
    how: How,
    plan: Sequence[Planned],
    found: dict[str, Trajectories],
) -> dict[str, Findings]:
    own_folders = {each.name: how.folder(each, len(experiments) > 1) for each in experiments}
    trainings = planning.trainings_of(experiments)
    kept = how.trainings or (how.out or RESULTS) / "trainings"
    left = [each.name for each in plan if not each.done]
    if how.share:
        for training in trainings:
            _train(training, options, found, kept, left, how)
        how.console.print(
            "all is trained; to measure and draw, run the same command in one process, with "
            "--resume instead of --share"
        )
        return {}
    findings: dict[str, Findings] = {}
    for experiment in experiments:
        for training in planning.in_order(experiment.trainings):
            _train(training, options, found, kept, left, how)
        trained = {training.name: found[training.name] for training in experiment.trainings}
        made_by = finishing.MadeBy(options, how.command, how.file, how.resume, how.draw)
        folder = own_folders[experiment.name]
        findings[experiment.name] = finishing.finish(
            experiment, trained, folder, made_by, how.console
        )
        folders.say_finished(folder)
    return _end(experiments, findings, own_folders, how)


def _run_in_parts(
    experiments: Sequence[Experiment],
    options: Options,
    every: Sequence[Options],
    own_folders: Mapping[str, Path],
    kept: Path,
    how: How,
) -> dict[str, Findings]:
    """Train a part of the networks, measure all experiments on it, forget its weights; the next."""
    trainings = planning.trainings_of(experiments)
    plan = [planning.look(training, options, {}, kept) for training in trainings]
    announcing.announce(experiments, options, plan, how.console)
    largest = max(every, key=lambda part: len(part.part))
    gigabytes = parts.bytes_of(experiments, largest) / 1e9
    how.console.print(
        f"in {len(every)} parts of at most {len(largest.part)} networks, whose weights, about "
        f"{gigabytes:.1f} GB, are forgotten when they have been measured (--disk {how.disk:g})"
    )

    def made_by(some: Options) -> finishing.MadeBy:
        return finishing.MadeBy(some, how.command, how.file, how.resume, how.draw)

    done = [
        each.name
        for each in experiments
        if finishing.finished_in_parts(each, own_folders[each.name], made_by(options))
    ]
    open_ = [each for each in experiments if each.trainings and each.name not in done]
    for number, part in enumerate(every):
        cards = {
            each.name: finishing.measured_part(each, own_folders[each.name], number, made_by(part))
            for each in open_
        }
        todo = [each for each in open_ if cards[each.name] is None]
        how.console.print(
            f"part {number + 1} of {len(every)}: {'' if todo else 'already measured, '}"
            f"{len(part.part)} networks"
        )
        found: dict[str, Trajectories] = {}
        left = [training.name for training in planning.trainings_of(todo)]
        for experiment in todo:
            for training in planning.in_order(experiment.trainings):
                _train(training, part, found, kept, left, how)
            trained = {training.name: found[training.name] for training in experiment.trainings}
            folder = own_folders[experiment.name]
            finishing.measure_part(experiment, trained, folder, number, made_by(part), how.console)
        measured = [each.name for each in open_]
        parts.forget([each.folder for each in found.values()], measured)
        for experiment in open_:
            card = cards[experiment.name] or {"trainings": []}
            folder = own_folders[experiment.name]
            parts.forget([folder / each["folder"] for each in card["trainings"]], measured)
    findings: dict[str, Findings] = {}
    for experiment in experiments:
        folder = own_folders[experiment.name]
        if experiment.name in done:
            how.console.print(f"{experiment.name}: its results are already in {folder}/")
            findings[experiment.name] = report.findings(experiment, folder) if how.draw else ()
        elif experiment.trainings:
            findings[experiment.name] = finishing.finish_parts(
                experiment, every, folder, made_by(options), how.console
            )
        else:
            findings[experiment.name] = finishing.finish(
                experiment, {}, folder, made_by(options), how.console
            )
    return _end(experiments, findings, own_folders, how)


def _end(
    experiments: Sequence[Experiment],
    findings: dict[str, Findings],
    own_folders: Mapping[str, Path],
    how: How,
) -> dict[str, Findings]:
    """The index of all, and the findings; none where nothing was to be drawn."""
    if not how.draw:
        folder = how.out or (RESULTS if len(experiments) > 1 else own_folders[experiments[0].name])
        how.console.print(f"for figures, claims and READMEs: ih-jax plot {folder}")
        return {}
    if len(experiments) > 1:
        folder = how.out or RESULTS
        index = report.write_index(folder, sources.experiments_in(folder))
        how.console.print(f"all claims: {index}")
    return findings


def _train(
    training: Training,
    options: Options,
    found: dict[str, Trajectories],
    folder: Path,
    left: Sequence[str],
    how: How,
) -> None:
    """Train this if it is not in `found` yet, and put it there; what it needs is there."""
    if training.name in found:
        return
    planned = planning.look(training, options, found, folder)
    if options.part and planned.trajectories and planned.trajectories.forgotten:
        how.console.print(f"{planned.folder} has been forgotten, and is trained again")
        shutil.rmtree(planned.trajectories.folder)
        planned = planning.look(training, options, found, folder)
    _refuse_unfinished(planned, how)
    if planned.trajectories is not None:
        found[training.name] = planned.trajectories
        return
    assert planned.study is not None
    assert planned.folder is not None
    number = left.index(training.name) + 1 if training.name in left else 0
    how.console.print(
        f"training {number} of {len(left)}: {planned.name} ({announcing.size(planned.study)}), "
        f"into {planned.folder}/"
    )
    planned.study.check()
    with loggers.logger(how.log, planned.folder) as on_scores:
        found[training.name] = planned.study.train(
            planned.folder,
            resume=how.resume,
            width=how.width,
            share=how.share,
            progress=how.progress,
            on_scores=on_scores,
            about={"training": training.name, "command": how.command},
        )


def _check_share(how: How) -> None:
    if how.share not in (None, "claim"):
        raise UserError(
            f"--share is {how.share}: experiments train one after another, and each may need all "
            "of the one before: give --share claim (fixed shares are for study files)"
        )


def _refuse_full_disk(plan: Sequence[Planned], folder: Path) -> None:
    """Raises UserError where what is to be trained does not fit on the disk all together."""
    new = [each.study for each in plan if each.study is not None and not each.begun]
    needed = sum(blocks.estimate_bytes(study) for study in new)
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        count = sum(len(study.runs) for study in new)
        raise UserError(
            f"{count:,} networks write about {needed / 1e9:,.1f} GB "
            f"of weights, and the disk of {folder} has {free / 1e9:,.1f} GB free: give fewer "
            "--seeds, or a folder on another disk with --trainings"
        )


def _refuse_unfinished(planned: Planned, how: How) -> None:
    if planned.begun and not planned.done and not how.resume and not how.share:
        raise UserError(
            f"{planned.folder} holds an unfinished training: continue it with --resume, or give "
            "another folder with --trainings"
        )


def _refuse_another(folder: Path, experiment: Experiment) -> None:
    if not paths.is_there(folder / "card.json"):
        return
    theirs = read_card(folder).get("experiment")
    if theirs != experiment.name:
        raise UserError(
            f"{folder} belongs to experiment {theirs!r}, not {experiment.name!r}: "
            "give another folder with --out"
        )
