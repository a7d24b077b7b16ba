"""Curves of a sweep that trains, written for TensorBoard or Weights & Biases as they come.

Each is a function for `on_scores` of `Sweep.train`. A curve is called after its run, its metric and
evaluation set; its x is sequences (or tokens) seen.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ih_jax import paths
from ih_jax.errors import UserError, unknown
from ih_jax.sweeps import store
from ih_jax.sweeps.hearing import OnScores
from ih_jax.sweeps.study import Study

Kind = Literal["tensorboard", "wandb"]
MOST_RUNS = 100  # with curves of their own: more would be slow to draw, and to tell apart


@contextlib.contextmanager
def logger(kind: Kind | None, folder: Path) -> Iterator[OnScores | None]:
    """A function that logs the sweep in `folder`; None where `kind` is None.

    Raises UserError where the library is not installed or cannot begin, or there is no such kind.
    """
    if kind is None:
        yield None
    elif kind == "tensorboard":
        with _tensorboard(folder) as log:
            yield log
    elif kind == "wandb":
        with _wandb(folder) as log:
            yield log
    else:
        raise unknown("logger", kind, get_args(Kind))


def check(kind: Kind | None) -> None:
    """Raises UserError where the library of a logger is not installed."""
    if kind is not None:
        _library(kind)


def _library(kind: Kind) -> Any:
    try:
        if kind == "tensorboard":
            import tensorboardX

            return tensorboardX
        import wandb

        return wandb
    except ImportError as error:
        raise UserError(
            f"--log {kind} needs a library that is not installed ({error}): "
            f"pip install 'ih_jax[{kind}]'"
        ) from None


@contextlib.contextmanager
def _tensorboard(folder: Path) -> Iterator[OnScores]:
    """Writes FOLDER/tensorboard/RUN/events...: `tensorboard --logdir FOLDER` shows them."""
    library = _library("tensorboard")
    writers: dict[int, Any] = {}

    def log(study: Study, runs: list[int], step: int, scores: Mapping[str, np.ndarray]) -> None:
        for run, values in _curves(study, runs, scores):
            if run not in writers:
                own = folder / "tensorboard" / _file_name(run_name(study, run))
                writers[run] = library.SummaryWriter(str(own), flush_secs=10)
            for name, value in values.items():
                writers[run].add_scalar(name, value, step * study.unit)

    try:
        yield log
    finally:
        for writer in writers.values():
            writer.close()


@contextlib.contextmanager
def _wandb(folder: Path) -> Iterator[OnScores]:
    """One run of Weights & Biases for the sweep; WANDB_MODE=offline needs no account."""
    library = _library("wandb")
    with store.new_folder(folder):
        before = paths.is_there(folder / "wandb")
        try:
            # Before training, since this takes seconds.
            own = library.init(project="ih_jax", name=folder.name, dir=str(folder))
        except Exception as error:  # of the library, of the network, of an account
            if not before:
                shutil.rmtree(folder / "wandb", ignore_errors=True)
            raise UserError(
                f"Weights & Biases cannot begin ({paths.reason(error)}): log in with `wandb "
                "login`, or set WANDB_MODE=offline"
            ) from None
    described: list[Study] = []

    def log(study: Study, runs: list[int], step: int, scores: Mapping[str, np.ndarray]) -> None:
        if not described:
            own.config.update(study.describe())
            own.define_metric("*", step_metric=f"{study.task.unit} seen")
            described.append(study)
        row = {
            f"{name}/{run_name(study, run)}": value
            for run, values in _curves(study, runs, scores)
            for name, value in values.items()
        }
        if row:
            own.log({f"{study.task.unit} seen": step * study.unit, **row})

    try:
        yield log
    finally:
        own.finish()


def run_name(study: Study, run: int) -> str:
    """A run in words: "run 3, clamp match, init 1", the axes that vary only."""
    names = study.runs[run].names
    varied = [f"{axis} {names[axis]}" for axis, labels in study.axes.items() if len(labels) > 1]
    return ", ".join([f"run {run}", *varied])


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in " ,.-_=+" else "_" for c in name)[:120]


def _curves(
    study: Study, runs: list[int], scores: Mapping[str, np.ndarray]
) -> Iterator[tuple[int, dict[str, float]]]:
    """(run, {metric and set: value}) of the first MOST_RUNS runs; what is not known is left out."""
    sets = study.task.evaluation_names
    for place, run in enumerate(runs):
        if run >= MOST_RUNS:
            continue
        own = {
            metric if s == 0 else f"{metric}/{name}": float(values[place, s])
            for metric, values in scores.items()
            for s, name in enumerate(sets)
            if np.isfinite(values[place, s])
        }
        yield run, own
