"""How a sweep in a folder stands: done, training now or stopped, what is on disk, what is next.

Only small files are read, unless checkpoints are to be checked.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ih_jax import paths
from ih_jax.errors import UserError
from ih_jax.sweeps import presence, store
from ih_jax.sweeps.presence import Presence
from ih_jax.sweeps.records import BlockRecord, about_part
from ih_jax.sweeps.study import Study
from ih_jax.sweeps.trajectory import Trajectories

State = Literal["done", "training", "stopped"]


@dataclass(frozen=True)
class Status:
    """One sweep."""

    folder: Path
    state: State
    processes: tuple[Presence, ...]  # those that train now, or else those that stopped
    command: str | None  # that it was begun with, where that is known
    runs: int
    runs_done: int
    checkpoints: int  # of weights on disk, by all runs together
    megabytes: float  # that all of it takes on disk
    seen: float  # sequences or tokens that are on disk, by all runs together
    total: float  # of these, once it is done; NaN where the study cannot be made again
    unit: str  # "sequences" or "tokens"
    losses: np.ndarray  # [runs] the last of each on its training set; NaN where there is none
    diverged: int  # runs
    seconds: float  # that training took; so far, if it is not done
    damage: tuple[str, ...]  # a line for each part that is not whole

    @property
    def seconds_left(self) -> float:
        """At the speed of the processes that train now; NaN if that is not known."""
        speed = sum(each.speed for each in self.processes if each.alive)
        known = speed and math.isfinite(self.total)
        return max(0.0, self.total - self.seen) / speed if known else float("nan")


def status(folder: str | Path, check: bool = False) -> Status:
    """How a sweep stands.

    Args:
        folder: of the sweep.
        check: read every checkpoint and compare it with its checksum.

    Raises:
        UserError: there is no sweep in the folder.
    """
    folder = Path(folder)
    t = Trajectories(folder)
    card, every = t.card, presence.all_of(folder)
    alive = tuple(each for each in every if each.alive)
    damage = list(_damage(folder, t.blocks, check))
    losses, diverged = np.full(card["runs"], np.nan), 0
    checkpoints, seen, runs_done = 0, 0.0, 0
    # Where the study cannot be made again, how far runs go is not known.
    unit, a_step, horizons = _lengths(t)
    total = 0.0
    for block in t.blocks:
        parts = _parts(folder, block)
        steps = [step for about in parts for step in about["steps"]]
        to = max((s for about in parts for s in about["steps"] + about["score_steps"]), default=0)
        for place, run in enumerate(block.runs):
            horizon = horizons.get(run, to)
            checkpoints += sum(step <= horizon for step in steps)
            runs_done += run in horizons and bool(parts) and to >= horizon
            gone = parts[-1]["diverged"][place] if parts else -1
            diverged += 0 <= gone < horizon
        longest = max((horizons.get(run, to) for run in block.runs), default=0)
        seen += min(to, longest) * len(block.runs) * a_step
        total += longest * len(block.runs) * a_step
        losses[list(block.runs)] = _last_losses(folder, block, parts)
    done = bool(card.get("finished"))
    if done and paths.is_there(folder / "results.nc"):
        try:
            losses = _of_results(t, losses)
        except store.Damaged as error:
            damage.append(str(error))
    now: State = "training" if alive else "done" if done else "stopped"
    return Status(
        folder=folder,
        state=now,
        processes=alive or (() if done else tuple(every)),
        command=card.get("command"),
        runs=card["runs"],
        runs_done=card["runs"] if done else runs_done,
        checkpoints=checkpoints,
        megabytes=_bytes(folder) / 1e6,
        seen=seen,
        total=total if horizons else float("nan"),
        unit=unit,
        losses=losses,
        diverged=diverged,
        seconds=float(card.get("seconds") or 0.0),
        damage=tuple(damage),
    )


def _bytes(folder: Path) -> int:
    """Of all files in a folder, but for those that a process in training has just renamed."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total


def _lengths(t: Trajectories) -> tuple[str, int, dict[int, int]]:
    """(unit, how much of it a step is, steps of each run)."""
    try:
        study = _study(t)
        return study.task.unit, study.unit, {run.index: run.steps for run in study.runs}
    except UserError:
        return "steps", 1, {}


def _study(t: Trajectories) -> Study:
    """The study, or as long a one with nothing held: no card has the weights of grafts."""
    try:
        return t.study
    except UserError:
        described = t.card["study"]
        if not isinstance(described, dict) or not isinstance(described.get("clamps"), dict):
            raise
        clamps = dict.fromkeys(described["clamps"], "[]")
        study = Study.from_card(described | {"clamps": clamps})
        if len(study.runs) != t.card["runs"]:
            raise
        return study


def _parts(folder: Path, block: BlockRecord) -> list[dict[str, Any]]:
    """What the manifests of a block's parts say, up to the first that cannot be read."""
    found: list[dict[str, Any]] = []
    while True:
        path = store.part_path(folder, block.number, len(found))
        try:
            found.append(about_part(path, block.runs, found[-1] if found else None))
        except store.Damaged:
            return found


def _damage(folder: Path, blocks: list[BlockRecord], check: bool) -> Iterator[str]:
    for block in blocks:
        own = store.part_path(folder, block.number, 0).parent
        parts = sorted(own.glob("part-????"))
        for number, path in enumerate(parts):
            if path != store.part_path(folder, block.number, number):
                yield f"{store.part_path(folder, block.number, number)} is missing"
                break
            try:
                has_weights = set(store.read_manifest(path).checksums) != {store.SCORES}
            except store.Damaged:
                yield f"{path} cannot be read"
                continue
            try:
                if has_weights and not (path / "arrays").is_dir():
                    yield f"{path} has lost its arrays"
                elif check:
                    store.load_part(path)
            except store.Damaged as error:
                yield str(error)


def _last_losses(
    folder: Path, block: BlockRecord, parts: list[dict[str, Any]]
) -> list[float] | np.ndarray:
    """[R] of a block's runs, from its last part that has scores."""
    for number in reversed(range(len(parts))):
        if not parts[number]["score_steps"]:
            continue
        if parts[number].get("losses") is not None:
            return list(parts[number]["losses"])
        try:  # a folder of before manifests had losses
            scores = store.load_scores(store.part_path(folder, block.number, number))
        except store.Damaged:
            continue
        return scores[-1, :, 0, 0]
    return np.full(len(block.runs), np.nan)


def _of_results(t: Trajectories, losses: np.ndarray) -> np.ndarray:
    """[runs] the last loss within each run's horizon; `losses` where results.nc holds none."""
    try:
        curves = t.results["loss"].values
    except (ValueError, KeyError):
        return losses
    curves = curves.reshape(-1, curves.shape[-1])
    known = np.isfinite(curves)
    last = curves.shape[1] - 1 - known[:, ::-1].argmax(1)
    return np.where(known.any(1), curves[np.arange(len(curves)), last], np.nan)
