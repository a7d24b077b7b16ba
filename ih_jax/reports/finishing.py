"""Finish an experiment whose networks are trained: measure, decide, draw and write its card."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from ih_jax.experiments.base import Experiment, Found, Options
from ih_jax.reports import report
from ih_jax.reports.announcing import amount
from ih_jax.reports.tables import Findings
from ih_jax.sweeps import cards, store


@dataclass(frozen=True)
class MadeBy:
    """How an experiment was asked for."""

    options: Options
    command: str
    file: Path | None  # that defines it; None: this package does
    resume: bool  # keep results that the same code has made of the same networks


def finish(
    experiment: Experiment, found: Found, folder: Path, made_by: MadeBy, console: Console
) -> Findings:
    """Measure, decide and draw an experiment, and return its findings."""
    card = _card(experiment, found, folder, made_by)
    before = store.read_card(folder) if (folder / "card.json").exists() else {}
    same_code = _same(before, card, "versions", "commit", "code")
    if made_by.resume and before.get("finished") and same_code:
        console.print(f"{experiment.name}: its results are already in {folder}/")
        return report.findings(experiment, folder)
    console.print(f"measuring {experiment.name}")
    began = time.monotonic()
    results = experiment.measured(made_by.options, found)
    if before and not _same(before, card):
        moved = report.set_aside(folder)
        console.print(f"earlier results of {experiment.name} are kept in {moved}", style="dim")
    said = _said(card, found, time.monotonic() - began)
    findings = report.write(folder, experiment, results, said, made_by.file)
    seconds = round(time.monotonic() - began, 1)
    store.write_card(folder, {**card, "finished": True, "seconds": seconds})
    console.print(f"figure, table and numbers: {folder}/README.md")
    return findings


def _card(experiment: Experiment, found: Found, folder: Path, made_by: MadeBy) -> dict[str, Any]:
    card = {
        "experiment": experiment.name,
        "command": made_by.command,
        "options": dataclasses.asdict(made_by.options),
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


def _same(before: Mapping[str, Any], card: Mapping[str, Any], *more: str) -> bool:
    """Whether earlier results have the same options and trainings (and the same code)."""
    now = json.loads(json.dumps(card))
    made = [{k: each.get(k) for k in ("name", "digest")} for each in before.get("trainings", [])]
    wanted = [{k: each[k] for k in ("name", "digest")} for each in now["trainings"]]
    return made == wanted and all(before.get(k) == now.get(k) for k in ("options", *more))


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
            "init seeds": sorted({s for each in found.values() for s in each.study.axes["init"]}),
            "trainings": ", ".join(each.folder.name for each in found.values()),
            "networks": sum(len(each.study.runs) for each in found.values()),
            "seen": amount(each.study for each in found.values()),
            "clamps": {n: each.card["clamps_in_words"] for n, each in found.items()},
        }
        seconds += sum(each.card["seconds"] for each in found.values())
    said |= {"devices": card["devices"], "jax": card["versions"].get("jax")}
    return {**said, "commit": card["commit"], "wall_seconds": round(seconds, 1)}
