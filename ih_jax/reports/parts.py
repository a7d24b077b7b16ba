"""Many networks a part at a time: trained, measured, and their weights forgotten.

    EXPERIMENT/parts/part-0000.nc    what was measured of a part, until all parts are there

A part is an `Options` with some of the networks: all draws of the data of some initial weights.
Experiments whose trainings say so (`Training.in_parts`) measure each network by itself, so that
what was measured of the parts, one after the other, is what would have been measured of all.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from ih_jax import files
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment, Options
from ih_jax.reports import announcing, planning
from ih_jax.sweeps import blocks, store

FOLDER = "parts"
CARD = "card"  # the attribute of a part's results that holds what is said about them, as JSON


def divide(experiments: Sequence[Experiment], options: Options, gigabytes: float) -> list[Options]:
    """As few parts as keep at most so many GB of weights each; one if all fit or cannot be parted.

    Raises UserError where not even the smallest part is that small.
    """
    if not all(training.in_parts for training in planning.trainings_of(experiments)):
        return [options]
    whole = bytes_of(experiments, options)
    room = gigabytes * 1e9
    if whole <= room:
        return [options]
    count, tried, least = int(whole // room) + 1, options.seeds, whole
    while True:
        parts = options.in_parts(count)
        largest = max(parts, key=lambda part: len(part.part))
        if len(largest.part) < tried:  # else it takes what one of its size took
            tried, least = len(largest.part), bytes_of(experiments, largest)
            if least <= room:
                return parts
        if len(parts) < count:
            raise UserError(
                f"the smallest part, {len(largest.part)} networks, takes about {least / 1e9:.1f} "
                f"GB of weights: give --disk {least / 1e9 + 0.1:.1f} or more"
            )
        # Not fewer than if all that weights take were in proportion to the networks.
        allowed = max(1, int(len(largest.part) * room / least))
        count = max(count + 1, -(-options.seeds // allowed))


def bytes_of(experiments: Sequence[Experiment], options: Options) -> float:
    """About what the weights of all trainings take on disk together."""
    total = 0.0
    for training in planning.trainings_of(experiments):
        with contextlib.suppress(KeyError):  # known only when what it needs is trained
            total += blocks.estimate_bytes(training.study(options, {}))
    return total


def path_of(folder: Path, number: int) -> Path:
    """Where what was measured of a part is kept, in the folder of its experiment."""
    return folder / FOLDER / f"part-{number:04d}.nc"


def card_of(path: Path, card: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is said about the results of a part; None if the same code has not measured them yet."""
    if not path.is_file():
        return None
    with xr.open_dataset(path, engine="h5netcdf") as found:
        said: dict[str, Any] = json.loads(found.attrs[CARD])
    wanted = json.loads(json.dumps(card))
    same = all(
        said.get(key) == wanted.get(key) for key in ("options", "versions", "commit", "code")
    )
    return said if same else None


def save(path: Path, results: xr.Dataset, card: Mapping[str, Any]) -> None:
    """Keep what was measured of a part, to the bit."""
    path.parent.mkdir(exist_ok=True)
    with files.atomic(path) as partial:
        text = json.dumps(card, default=str)
        results.assign_attrs({CARD: text}).to_netcdf(partial, engine="h5netcdf")


def together(folder: Path, parts: Sequence[Options]) -> xr.Dataset:
    """What was measured of all parts, the networks in order."""
    every = []
    for number, part in enumerate(parts):
        found = xr.load_dataset(path_of(folder, number), engine="h5netcdf")
        found.attrs.pop(CARD)
        every.append(found.sel(init=list(part.part)))  # without those that only give grafts
    whole = xr.concat(every, "init", data_vars="minimal", coords="minimal", compat="equals")
    return whole.sel(init=parts[0].all_networks)


def cards(folder: Path, parts: Sequence[Options]) -> list[dict[str, Any]]:
    """What is said about the results of each part."""
    found = []
    for number in range(len(parts)):
        with xr.open_dataset(path_of(folder, number), engine="h5netcdf") as part:
            found.append(json.loads(part.attrs[CARD]))
    return found


def said_together(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a reader wants to know of all parts, from what is said of each."""
    each = [card["said"] for card in cards]
    whole = dict(each[0])
    for name in ("networks", "wall_seconds"):
        whole[name] = round(sum(said[name] for said in each), 1)
    for name, value in whole.items():
        if isinstance(value, list):
            whole[name] = sorted({item for said in each for item in said[name]})
    whole["seen"] = announcing.in_words(
        {unit: sum(card["seen"][unit] for card in cards) for unit in cards[0]["seen"]}
    )
    whole["trainings"] = ", ".join(said["trainings"] for said in each)
    whole["clamps"] = {
        training: {
            name: "; ".join(dict.fromkeys(s["clamps"][training][name] for s in each))
            for name in own
        }
        for training, own in each[0]["clamps"].items()
    }
    if "init" in whole:
        first, last = each[0]["init"].split()[1], each[-1]["init"].split()[-1]
        whole["init"] = f"networks {first} to {last}"
    return whole


def forget(trainings: Sequence[Path], experiments: Sequence[str]) -> None:
    """Delete the weights in these folders."""
    for each in trainings:
        if (each / "card.json").is_file():
            store.forget(each, f"forgotten when {', '.join(experiments)} had been measured")


def drop(folder: Path) -> None:
    """Delete what was kept of the parts of an experiment that is finished."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder / FOLDER)
