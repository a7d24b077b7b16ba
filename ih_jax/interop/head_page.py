"""The page of a pretrained network's heads: maps by layer and head, and a table of all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr

from ih_jax import array_files
from ih_jax.errors import UserError
from ih_jax.interop.head_report import sentences
from ih_jax.interop.head_scores import ENOUGH, SCORES, kinds
from ih_jax.interop.head_words import MEANING
from ih_jax.reports.viewer.page import HEADS, document
from ih_jax.reports.viewer.viewing import View

DIGITS = 4


def is_one(folder: Path) -> bool:
    """Whether `ih-jax heads` wrote this folder."""
    return (folder / "heads.nc").is_file()


def view(folder: Path) -> View:
    """The page of a folder that `ih-jax heads` wrote; of a series its last checkpoint.

    Raises:
        UserError: its scores cannot be read.
    """
    path = folder / "heads.nc"
    try:
        scores = array_files.read_netcdf(path)
        name = str(scores.attrs["name"])
        if "step" in scores.dims:
            name += f", step {scores['step'].values[-1]}"
            scores = scores.isel(step=-1)
        told = json.loads(scores.attrs["probes"])
        kind = kinds(scores)
        about = {
            "title": name,
            "architecture": str(scores.attrs["architecture"]),
            "model": str(scores.attrs["model"]),
            "enough": ENOUGH,
            "said": [f"{each[0].upper()}{each[1:]}." for each in sentences(scores)],
            "kinds": np.asarray(kind).astype(str).tolist(),
            "scores": [_score(scores, name, str(told[name])) for name in SCORES if name in scores],
            "blobs": {},
        }
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): run ih-jax heads again") from None
    return View(document(about, {}, HEADS, curves=False))


def _score(scores: xr.Dataset, name: str, probe: str) -> dict[str, object]:
    values = scores[name].values.astype(float)
    bound = MEANING[name][0]
    ends = {"0 to 1": (0.0, 1.0), "-1 to 1": (-1.0, 1.0)}
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    low, high = ends.get(bound, (-most, most))
    return {
        "key": name,
        "name": SCORES[name],
        "unit": bound,
        "about": MEANING[name][1],
        "probe": probe,
        "low": low,
        "high": high,
        "values": np.round(values, DIGITS).tolist(),
    }
