"""Which sweeps a results folder is about: its own, or the trainings of an experiment.

FOLDER/.begun.json    of an experiment that has not finished: what it trains, and where
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ih_jax import files, paths
from ih_jax.errors import UserError
from ih_jax.reports.planning import Planned
from ih_jax.sweeps.card_file import read_card

BEGUN = ".begun.json"


@dataclass(frozen=True)
class Told:
    """What a folder says about its sweeps."""

    title: str
    experiment: bool
    finished: bool  # the experiment, or the sweep
    command: str | None
    sweeps: tuple[Path, ...]  # folders; those that are not there yet are left out
    missing: tuple[
        tuple[str, Path | None], ...
    ]  # trainings that are not there, where they would be


def say_begun(folder: Path, experiment: str, command: str, plan: Sequence[Planned]) -> None:
    """Say what an experiment is going to train, for those who look before it has finished."""
    trainings = [
        {"name": each.name, "folder": each.folder and os.path.relpath(each.folder, folder)}
        for each in plan
    ]
    card = {"experiment": experiment, "command": command, "trainings": trainings}
    files.write_text(folder / BEGUN, json.dumps(card, indent=1) + "\n")


def say_finished(folder: Path) -> None:
    """The experiment's card says everything now."""
    (folder / BEGUN).unlink(missing_ok=True)


def look(folder: Path) -> Told:
    """What a folder is about. Raises UserError where it holds neither a sweep nor an experiment."""
    begun = folder / BEGUN
    card = read_card(folder, BEGUN) if paths.is_there(begun) else _read_card(folder)
    if "trainings" not in card:
        done, command = bool(card.get("finished")), card.get("command")
        return Told(folder.name, False, done, command, (folder,), ())
    there, missing = [], []
    for training in card["trainings"]:
        where = folder / training["folder"] if training["folder"] else None
        if where is not None and (where / "card.json").is_file():
            there.append(where)
        else:
            missing.append((training["name"], where))
    return Told(
        title=str(card.get("experiment", folder.name)),
        experiment=True,
        finished=not begun.is_file(),
        command=card.get("command"),
        sweeps=tuple(there),
        missing=tuple(missing),
    )


def _read_card(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give that of a sweep or of an experiment")
    if not (folder / "card.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/card.json"))
        more = f"; it holds {', '.join(inside[:6])}" if inside else ""
        raise UserError(
            f"{folder} holds no run card (card.json): give the folder of a sweep or of an "
            f"experiment{more}"
        )
    return read_card(folder)
