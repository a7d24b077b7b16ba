"""A sweep and its runs in words and numbers, as the page's JSON says them."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from ih_jax.claims import learning
from ih_jax.claims.phase_change import phase_change
from ih_jax.clamps.clamp import Clamp
from ih_jax.reports.viewer import looking, packing, tokens
from ih_jax.reports.viewer.looking import Kind
from ih_jax.sweeps.runs import RunSpec
from ih_jax.sweeps.study import Study
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.language import Language


@dataclass
class Looked:
    """What was measured of one run, by step."""

    scores: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    details: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)


def about_sweep(
    t: Trajectories, study: Study, results: xr.Dataset, kind: Kind, chosen: Sequence[RunSpec]
) -> dict[str, Any]:
    task = study.task
    metrics = [m for m in study.runs[0].program.task.metrics if m in results]
    said: dict[str, Any] = {
        "name": study.name,
        "folder": t.folder.name,
        "kind": kind,
        "over": task.unit,
        "unit": study.unit,
        "axes": {a: [tokens.described(v) for v in values] for a, values in study.axes.items()},
        "metrics": metrics,
        "units": {m: str(results[m].attrs.get("units", "")) for m in metrics},
        "sets": list(task.evaluation_names),
        "words": dict(task.in_words()),
        "scores": [vars(score) for score in looking.SCORES[kind]],
        "composition": looking.COMPOSITION[kind],
        "probe": looking.PROBE[kind],
        "threshold": looking.INDUCTION,
        "learned": learning.LEARNED if kind == "fewshot" else None,
        "finished": bool(t.card.get("finished", False)),
        "total": len(study.runs),
        "seen": plain(results[task.unit].values),
        "seen_sets": plain(results[f"eval_{task.unit}"].values),
    }
    if isinstance(task, Language):
        said["vocabulary"] = tokens.names(task)
    else:
        outputs = max(run.config.labels for run in chosen)
        letters = kind == "fewshot"
        said["vocabulary"] = tokens.labels(outputs) if letters else [*map(str, range(outputs))]
    return said


def curves(
    study: Study, results: xr.Dataset, chosen: Sequence[RunSpec]
) -> dict[str, packing.Packed]:
    """Each metric [evaluations, runs], and on every set [evaluations, sets, runs]."""
    rows = [run.index for run in chosen]
    found = {}
    for metric in study.runs[0].program.task.metrics:
        if metric in results:
            found[metric] = packing.pack(values_of(results, metric)[rows].T)
        if f"eval_{metric}" in results:
            values = values_of(results, f"eval_{metric}", 2)[rows]
            found[f"eval_{metric}"] = packing.pack(values.transpose(2, 1, 0))
    return found


def values_of(results: xr.Dataset, name: str, own: int = 1) -> np.ndarray:
    """[runs, ...]: a variable of the results, its axes of the study as one."""
    values = results[name].values
    return values.reshape(-1, *values.shape[values.ndim - own :])


def about_run(
    run: RunSpec,
    results: xr.Dataset,
    kind: Kind,
    looked: Looked,
    unit: int,
    sequences: int | None,
) -> dict[str, Any]:
    """A run in words and numbers."""
    scored = sorted(looked.scores)
    detailed = sorted(looked.details)
    return {
        "id": run.index,
        "names": {axis: tokens.described(label) for axis, label in run.names.items()},
        "clamp": run.clamp.describe(),
        "held": held(run.clamp),
        "layers": run.config.layers,
        "heads": run.config.heads,
        "length": run.task.context_length,
        "horizon": run.steps * unit,
        "steps": scored,
        "details": detailed,
        "sequences": sequences,
        "found": _found(run, results, kind, looked, unit),
    }


def held(clamp: Clamp) -> list[dict[str, Any]]:
    """What a clamp holds: kind, layer, heads (None: no single ones), and when."""
    found = []
    for part in json.loads(clamp.to_json()):
        settings = {k: v for k, v in part.items() if k not in ("kind", "during")}
        heads = settings.get("heads", settings.get("head"))
        if isinstance(settings.get("temperatures"), Mapping):
            heads = [int(h) for h in settings["temperatures"]]
        during = part.get("during") or [0, None]
        words = ", ".join(f"{k}={_short(v)}" for k, v in settings.items())
        found.append(
            {
                "kind": part["kind"],
                "layer": settings.get("layer"),
                "heads": [heads] if isinstance(heads, int) else heads,
                "site": settings.get("site"),
                "start": during[0],
                "stop": during[1],
                "words": f"{part['kind']}({words})",
            }
        )
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _found(
    run: RunSpec, results: xr.Dataset, kind: Kind, looked: Looked, unit: int
) -> dict[str, Any]:
    """What was found in a run: times, heads and last scores; None if it cannot be told."""
    over = results[run.task.unit].values
    found: dict[str, Any] = {}
    for metric in run.program.task.metrics:
        if metric in results:
            known = values_of(results, metric)[run.index]
            known = known[np.isfinite(known)]
            found[metric] = float(known[-1]) if len(known) else None
    loss = values_of(results, "loss")[run.index]
    if kind == "fewshot" and np.isfinite(loss).any():
        time = learning.time_to(over, loss)
        valley = learning.plateau(over, loss)
        found |= {"time": finite_or_none(time.sequences), "censored": time.censored}
        found["plateau"] = finite_or_none(valley.at) if valley.present else None
    if kind == "language" and "in_context_score" in results:
        score = values_of(results, "in_context_score")[run.index]
        window = None
        if np.isfinite(score).sum() >= 5:
            window = phase_change(score, over)
        found["window"] = [window.start, window.end] if window else None
        found["time"] = window.middle if window else None
    diverged = values_of(results, "diverged_at", 0)[run.index]
    found["diverged"] = finite_or_none(float(diverged))
    found |= _induction(looked, unit)
    return found


def _induction(looked: Looked, unit: int) -> dict[str, Any]:
    """The induction heads at the last checkpoint, the strongest, and when it became one."""
    steps = sorted(looked.scores)
    if not steps or "score_induction" not in looked.scores[steps[-1]]:
        return {}
    every = np.stack([looked.scores[step]["score_induction"] for step in steps])  # [S, L, H]
    if not np.isfinite(every[-1]).any():
        return {}
    last = np.where(np.isfinite(every[-1]), every[-1], -np.inf)
    layer, head = np.unravel_index(int(last.argmax()), last.shape)
    over = np.flatnonzero(every[:, layer, head] >= looking.INDUCTION)
    strong = np.argwhere(last >= looking.INDUCTION).tolist()
    return {
        "heads": strong,
        "strongest": [int(layer), int(head)],
        "strength": float(last[layer, head]),
        "formed": steps[over[0]] * unit if len(over) and strong else None,
    }


def sequences_shown(
    kind: Kind, chosen: Sequence[RunSpec], sequences: Mapping[int, Mapping[str, np.ndarray]]
) -> tuple[list[Any], dict[str, Any], dict[int, int]]:
    """The sets of sequences, pictures of exemplars, and by run which of the sets is its own."""
    sets: list[Any] = []
    places: dict[int, int] = {}
    number_of: dict[str, int] = {}
    tables: OrderedDict[int, tuple[Any, set[int]]] = OrderedDict()
    for run in chosen:
        if run.index not in sequences:
            continue
        own: dict[str, Any] = {k: v.tolist() for k, v in sequences[run.index].items()}
        if kind == "fewshot":
            _, rows = tables.setdefault(id(run.task), (run.task, set()))
            rows |= {row for each in own["rows"] for row in each if row >= 0}
            own["table"] = list(tables).index(id(run.task))
        text = json.dumps(own)
        if text not in number_of:
            number_of[text] = len(sets)
            sets.append(own)
        places[run.index] = number_of[text]
    pictures: dict[str, Any] = {"what": "", "of": {}}
    for number, (task, rows) in enumerate(tables.values()):
        made, pictures["what"] = tokens.tiles(task, sorted(rows)) if rows else ({}, "")
        pictures["of"] |= {f"{number}:{row}": url for row, url in made.items()}
    return sets, pictures, places


def plain(values: np.ndarray) -> list[Any]:
    return [int(v) if float(v).is_integer() else float(v) for v in values.tolist()]


def finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
