"""card.json, of a sweep or of an experiment: read against what every card may hold, and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from ih_jax import files, gate, paths
from ih_jax.errors import UserError


class _Training(msgspec.Struct):
    """A training on the card of an experiment."""

    name: str
    folder: str | None  # None: not known before what it needs is trained


class _Card(msgspec.Struct):
    """What every card.json has, of a sweep or of an experiment, if it has it."""

    study: dict[str, Any] | None = None
    blocks: list[Annotated[list[gate.Count], msgspec.Meta(min_length=1)]] | None = None
    width: gate.Size | None = None
    runs: gate.Count | None = None
    signature: dict[str, Any] | None = None
    clamps_in_words: dict[str, str] | None = None
    finished: bool = False
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None
    experiment: str | None = None
    trainings: list[_Training] | None = None


def read_card(folder: Path, name: str = "card.json") -> dict[str, Any]:
    """The run card. Raises UserError where there is none or it cannot be read."""
    path = folder / name
    if not paths.is_there(path):
        raise UserError(
            f"{paths.shown_path(folder)} holds no run card (card.json): give the folder of a sweep"
        )
    card: dict[str, Any] = gate.parse_json(path)
    gate.checked(card, _Card, paths.shown_path(path))
    return card


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write the run card."""
    files.write_text(folder / "card.json", json.dumps(card, indent=1, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, range | set | frozenset):
        return list(value)
    return str(value)
