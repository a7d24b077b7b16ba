"""Finish an experiment whose networks are trained: measure, decide, draw and write its card."""

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
import xarray as xr
from rich.console import Console

from ih_jax import paths
from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.reports import parts, report
from ih_jax.reports.announcing import amount, seen_by_unit
from ih_jax.reports.tables import Findings
from ih_jax.sweeps import cards
from ih_jax.sweeps.card_file import read_card, write_card

LATER = ("first_seed", "vary", "part")  # options that cards of before do not have


@dataclass(frozen=True)
class MadeBy:
    """How an experiment was asked for."""

    options: Options
    command: str
    file: Path | None  # that defines it; None: this package does
    resume: bool  # keep results that the same code has made of the same networks
    draw: bool = True  # figure, claims and README too


def finish(
    experiment: Experiment, found: Found, folder: Path, made_by: MadeBy, console: Console
) -> Findings:
    """Measure, decide and draw an experiment, and return its findings."""
    card = _card(experiment, found, folder, made_by)
    before = read_card(folder) if paths.is_there(folder / "card.json") else {}
    same_code = _same(before, card, "versions", "commit", "code")
    if made_by.resume and before.get("finished") and same_code:
        console.print(f"{experiment.name}: its results are already in {folder}/")
        return report.findings(experiment, folder) if made_by.draw else ()
    console.print(f"measuring {experiment.name}")
    began = time.monotonic()
    results = experiment.measured(made_by.options, found)
    said = _said(card, found, time.monotonic() - began)
    return _write(experiment, results, folder, made_by, console, card, said, began)


def measure_part(
    experiment: Experiment,
    found: Found,
    folder: Path,
    number: int,
    made_by: MadeBy,
    console: Console,
) -> None:
    """Measure a part of the networks (`made_by.options`), and keep what was measured."""
    console.print(f"measuring {experiment.name}")
    began = time.monotonic()
    results = experiment.measured(made_by.options, found)
    card = _card(experiment, found, folder, made_by)
    said = _said(card, found, time.monotonic() - began)
    seen = seen_by_unit(each.study for each in found.values())
    parts.save(parts.path_of(folder, number), results, {**card, "said": said, "seen": seen})


def measured_part(
    experiment: Experiment, folder: Path, number: int, made_by: MadeBy
) -> dict[str, Any] | None:
    """The card of a part that was measured, by this code with these options; else None."""
    card = _card(experiment, {}, folder, made_by)
    return parts.card_of(parts.path_of(folder, number), card)


def finished_in_parts(experiment: Experiment, folder: Path, made_by: MadeBy) -> bool:
    """Whether the results of all parts are there, by this code with these options."""
    before = read_card(folder) if paths.is_there(folder / "card.json") else {}
    now = json.loads(json.dumps(_card(experiment, {}, folder, made_by)))
    same = all(before.get(k) == now.get(k) for k in ("options", "versions", "commit", "code"))
    return made_by.resume and same and bool(before.get("finished") and before.get("parts"))


def finish_parts(
    experiment: Experiment,
    every: Sequence[Options],
    folder: Path,
    made_by: MadeBy,
    console: Console,
) -> Findings:
    """Put together what was measured of all parts, then decide and draw."""
    began = time.monotonic()
    results, cards_ = parts.together(folder, every), parts.cards(folder, every)
    card = _card(experiment, {}, folder, made_by)
    card["trainings"] = [training for each in cards_ for training in each["trainings"]]
    card["parts"] = len(every)
    said = parts.said_together(cards_)
    findings = _write(experiment, results, folder, made_by, console, card, said, began)
    parts.drop(folder)
    return findings


def _write(
    experiment: Experiment,
    results: xr.Dataset,
    folder: Path,
    made_by: MadeBy,
    console: Console,
    card: Mapping[str, Any],
    said: Mapping[str, Any],
    began: float,
) -> Findings:
    """Write the folder of an experiment; results of other networks that lie there stay beside."""
    before = read_card(folder) if paths.is_there(folder / "card.json") else {}
    if before and not _same(before, card):
        moved = report.set_aside(folder)
        console.print(f"earlier results of {experiment.name} are kept in {moved}", style="dim")
    findings = report.write(folder, experiment, results, said, made_by.file, made_by.draw)
    seconds = round(time.monotonic() - began, 1)
    write_card(folder, {**card, "finished": True, "seconds": seconds})
    name = "figure, table and numbers: {}/README.md" if made_by.draw else "numbers: {}/results.nc"
    console.print(name.format(folder))
    return findings


def _card(experiment: Experiment, found: Found, folder: Path, made_by: MadeBy) -> dict[str, Any]:
    card = {
        "experiment": experiment.name,
        "command": made_by.command,
        "options": _options(made_by.options),
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
    if made_by.file is not None:
        code = made_by.file.read_bytes()
        card["file"] = str(made_by.file.resolve())
        card["code"] = hashlib.blake2b(code, digest_size=8).hexdigest()
    return card


def _options(options: Options) -> dict[str, Any]:
    """For the card; those that came later only where they are used, so that old cards agree."""
    found = dataclasses.asdict(options)
    later = {f.name: f.default for f in dataclasses.fields(Options) if f.name in LATER}
    return {k: v for k, v in found.items() if k not in later or v != later[k]}


def _same(before: Mapping[str, Any], card: Mapping[str, Any], *more: str) -> bool:
    """Whether earlier results have the same options and trainings (and the same code)."""
    now = json.loads(json.dumps(card))
    made = [{k: each.get(k) for k in ("name", "digest")} for each in before.get("trainings", [])]
    wanted = [{k: each[k] for k in ("name", "digest")} for each in now["trainings"]]
    return made == wanted and all(before.get(k) == now.get(k) for k in ("options", *more))


def _seeds(found: Found) -> dict[str, Any]:
    """The seeds in which networks differ."""
    inits = sorted({s for each in found.values() for s in each.study.axes["init"]})
    paired: dict[str, set[int]] = {}
    for each in found.values():
        for setting, values in each.study.paired.items():
            paired.setdefault(setting, set()).update(values.values())
    if not paired:
        return {"init seeds": inits}
    said: dict[str, Any] = {"init": f"networks {inits[0]} to {inits[-1]}"}
    words = {
        "weights_seed": "seeds of initial weights",
        "order": "seeds of orders",
        "label_split": "seeds of label splits",
        "class_split": "seeds of class splits",
    }
    said |= {words.get(setting, setting): sorted(seeds) for setting, seeds in paired.items()}
    return said


def _said(card: Mapping[str, Any], found: Found, seconds: float) -> dict[str, Any]:
    """What a reader of the results wants to know from the cards."""
    said: dict[str, Any] = {"command": card["command"]}
    if found:
        words: dict[str, list[str]] = {}
        for each in found.values():
            for name, value in each.study.task.in_words().items():
                words.setdefault(name, []).append(value)
        said |= {
            **{name: "; ".join(dict.fromkeys(values)) for name, values in words.items()},
        }
        if any(each.study.paired for each in found.values()):
            said.pop("other seeds", None)  # those of the task that networks do not have
        said |= {
            **_seeds(found),
            "trainings": ", ".join(each.folder.name for each in found.values()),
            "networks": sum(len(each.study.runs) for each in found.values()),
            "seen": amount(each.study for each in found.values()),
            "clamps": {n: each.card["clamps_in_words"] for n, each in found.items()},
        }
        seconds += sum(each.card["seconds"] for each in found.values())
    said |= {"devices": card["devices"], "jax": card["versions"].get("jax")}
    return {**said, "commit": card["commit"], "wall_seconds": round(seconds, 1)}
