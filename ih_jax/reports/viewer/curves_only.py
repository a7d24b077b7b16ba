"""A sweep whose study cannot be made again from its card: its curves and scores, no networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ih_jax.errors import UserError
from ih_jax.reports.viewer import fitting, packing, tokens
from ih_jax.reports.viewer.describing import finite_or_none, plain, values_of
from ih_jax.sweeps.trajectory import Trajectories


def gather(
    t: Trajectories, why: UserError, runs: Sequence[int] | None = None
) -> tuple[dict[str, Any], dict[str, packing.Packed]]:
    """(about, curves) of a sweep, from its results alone.

    Args:
        t: the sweep.
        why: its study cannot be made again.
        runs: which, by number; None: all, up to `fitting.MOST_RUNS`.

    Raises:
        UserError: `why`, where there are no results either; there is no such run.
    """
    if not (t.folder / "results.nc").is_file():
        raise why
    results = t.results
    over = "tokens" if "tokens" in results.dims else "sequences"
    metrics = [str(name) for name in results.data_vars if f"eval_{name}" in results]
    axes = [str(dim) for dim in results[metrics[0]].dims if dim != over]
    labels = {axis: [tokens.described(v) for v in results[axis].values] for axis in axes}
    total = int(np.prod([len(values) for values in labels.values()], dtype=int))
    rows = fitting.shown(runs, total)
    notes = [f"Only curves can be shown: {why}."]
    if total > len(rows):
        notes.append(f"{len(rows):,} of {total:,} runs are shown.")
    clamps = t.card["study"].get("clamps", {})
    told = []
    for number in rows:
        place = np.unravel_index(number, [len(values) for values in labels.values()])
        own = {axis: labels[axis][i] for axis, i in zip(axes, place, strict=True)}
        told.append(
            {
                "id": number,
                "names": own,
                "clamp": _in_words(clamps.get(str(own.get("clamp")))),
                "held": [],
                "layers": 0,
                "heads": 0,
                "length": 0,
                "horizon": int(values_of(results, "horizon", 0)[number]),
                "steps": [],
                "details": [],
                "sequences": None,
                "found": _found(results, metrics, number),
            }
        )
    about = {
        "name": t.card["study"].get("name", t.folder.name),
        "folder": t.folder.name,
        "kind": "other",
        "over": over,
        "unit": 1,
        "axes": labels,
        "metrics": metrics,
        "units": {name: results[name].attrs.get("units", "") for name in metrics},
        "sets": [str(name) for name in results["set"].values],
        "words": {},
        "scores": [],
        "composition": "",
        "probe": 0,
        "threshold": 0,
        "learned": None,
        "finished": True,
        "total": total,
        "seen": plain(results[over].values),
        "seen_sets": plain(results[f"eval_{over}"].values),
        "vocabulary": [],
        "notes": notes,
        "hard": {},
        "sequences": [],
        "tiles": {"what": "", "of": {}},
        "runs": told,
    }
    curves = {}
    for name in metrics:
        curves[name] = packing.pack(values_of(results, name)[rows].T)
        both = values_of(results, f"eval_{name}", 2)[rows]
        curves[f"eval_{name}"] = packing.pack(both.transpose(2, 1, 0))
    return about, curves


def _found(results: xr.Dataset, metrics: list[str], number: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "diverged": finite_or_none(float(values_of(results, "diverged_at", 0)[number]))
    }
    for name in metrics:
        known = values_of(results, name)[number]
        known = known[np.isfinite(known)]
        found[name] = float(known[-1]) if len(known) else None
    return found


def _in_words(text: Any) -> str:
    """The kinds of a clamp, of its JSON."""
    try:
        return " & ".join(str(part["kind"]) for part in json.loads(text)) or "none"
    except (TypeError, ValueError, KeyError):
        return ""
