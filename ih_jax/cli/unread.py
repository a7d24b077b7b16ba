"""Options of `ih-jax run` that a run would not use are refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ih_jax.cli.options import Run
from ih_jax.data.registered import unchecked
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment, Options
from ih_jax.experiments.register import SETS
from ih_jax.reports import planning
from ih_jax.sweeps.engine import Sweep
from ih_jax.tasks.fewshot import FewShot

OF_FEW_SHOT = (
    "data",
    "data_key",
    "images",
    "download",
    "encoder",
    "weights",
    "classes",
    "exemplars",
    "labels",
    "clamps",
    "vary",
)
OF_TEXT = ("text", "tokenizer")
# A study sets these itself, or has none.
OF_EXPERIMENTS = ("quick", "seeds", "first_seed", "scale", "trainings", "disk", "no_figures")
OF_TRAININGS = ("first_seed", "scale", "trainings", "disk", "share", "width", "log")
# Options of which the studies of an experiment tell whether it reads them.
TOLD_BY_STUDIES = ("data", "classes", "exemplars", "labels", "vary")
ENOUGH = 16  # networks, of which every factor has several values


def refuse_of_ours(command: Run, chosen: Sequence[Experiment]) -> None:
    """Raise UserError for options that experiments of this package do not read."""
    languages = {each.name for each in SETS["olsson"]}
    _refuse(command, OF_FEW_SHOT if all(each.name in languages for each in chosen) else ())
    text = any(training.reads_text for training in planning.trainings_of(chosen))
    _refuse(command, () if text else OF_TEXT)
    trainings = [training.name for training in chosen[0].trainings]
    if command.clamps and (len(chosen) > 1 or "clamps" not in trainings):
        what = chosen[0].name if len(chosen) == 1 else "a set of experiments"
        raise UserError(f"{what} has no clamps to choose from: leave out --clamps")


def refuse_of_study(command: Run) -> None:
    """Raise UserError for options that a file's study does not read."""
    _refuse(command, [*OF_FEW_SHOT, *OF_TEXT, *OF_EXPERIMENTS])


def refuse_without_effect(
    command: Run, options: Options, experiments: Sequence[Experiment]
) -> None:
    """Raise UserError for options that leave every training of some experiments as it is.

    Args:
        command: where an option differs from its default, it was given.
        options: what the command asks for.
        experiments: any, of this package or a user's.
    """
    if not any(each.trainings for each in experiments):
        _refuse(command, [*OF_FEW_SHOT, *OF_TRAININGS], ", which trains nothing")
    for name in TOLD_BY_STUDIES:
        if getattr(command, name) != getattr(Run, name) and not _reads(experiments, options, name):
            _refuse(command, [name], ", whose trainings it would leave as they are")


def _reads(experiments: Sequence[Experiment], options: Options, name: str) -> bool:
    """Whether a training is another one with this option than without it, as far as is known."""
    few = replace(options, seeds=min(options.seeds, ENOUGH))
    if name == "vary":
        few = replace(few, seeds=ENOUGH, vary=("init",))
        other = replace(few, vary=("order",))
    else:
        other = replace(few, **{name: getattr(Options, name)})
        other = replace(other, data_key=None) if name == "data" else other
    for training in planning.trainings_of(experiments):
        try:
            study = _described(training.study(few, {}))
        except KeyError:  # not known before what it needs is trained
            return True
        try:
            if _described(training.study(other, {})) != study:
                return True
        except UserError:  # without the option there is no such study
            return True
    return False


def _described(study: Sweep) -> dict[str, Any]:
    """What decides the numbers of a study, for which no feature is drawn or read."""
    task = study.task
    if isinstance(task, FewShot):
        task = unchecked(task, data=replace(task.data, read=_places))
    return unchecked(study, task=task).describe()


def _places(classes: Sequence[int], exemplars: Sequence[int]) -> NDArray[np.float32]:
    """[classes, exemplars, 2], in place of features: which ones they are."""
    where = np.stack(np.meshgrid(classes, exemplars, indexing="ij"), axis=-1)
    return where.astype(np.float32)


def _refuse(command: Run, options: Iterable[str], why: str = "") -> None:
    """Raise UserError if one of these options, none of which this run uses, is given."""
    for name in options:
        if getattr(command, name) != getattr(Run, name):
            raise UserError(
                f"--{name.replace('_', '-')} does not apply to {command.experiment}{why}: "
                "leave it out"
            )
