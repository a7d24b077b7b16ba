"""Folders as a page: `ih-jax view`, `Trajectories.view` and the object that notebooks show."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ih_jax import files, paths
from ih_jax.errors import UserError, real, wholes
from ih_jax.reports import folders
from ih_jax.reports.viewer import gathering, packing
from ih_jax.reports.viewer.gathering import Gathered, Told
from ih_jax.reports.viewer.page import page
from ih_jax.sweeps.trajectory import Trajectories

MEGABYTES = 15.0
OWN_BYTES = 300_000  # of script, style and library
HEIGHT = 860  # pixels in a notebook


@dataclass(frozen=True)
class View:
    """A page that shows itself in a notebook; `save` writes it."""

    html: str
    what: str = "page of a run"
    height: int = HEIGHT

    def save(self, path: str | Path) -> Path:
        """Writes the page, whole or not at all, and says where. Raises UserError for no path."""
        place = paths.path("path", path)
        files.write_text(place, self.html)
        return place

    def __repr__(self) -> str:
        size = f"{len(self.html) / 1e6:.1f} MB"
        return f"View({self.what}, {size}; notebooks show it, .save(path) writes it as HTML)"

    def _repr_html_(self) -> str:
        inside = html.escape(self.html, quote=True)
        return (
            f'<iframe srcdoc="{inside}" title="ih-jax view" '
            f'style="width:100%;height:{self.height}px;border:0"></iframe>'
        )


def view(
    source: Trajectories | str | Path,
    *,
    runs: Sequence[int] | None = None,
    megabytes: float = MEGABYTES,
    told: Told = lambda what: None,
) -> View:
    """The page of a sweep, or of an experiment's trainings.

    Args:
        source: a sweep, its folder, or the folder of an experiment.
        runs: which runs of a sweep, by number; None: all that fit.
        megabytes: how large the page may be.
        told: is called with what is being done.

    Raises:
        UserError: the folder holds something else, or there is nothing to show.
    """
    if real("megabytes", megabytes) < 1:
        raise UserError(f"{megabytes} megabytes is too little for a page: give 1 or more")
    runs = None if runs is None else wholes("runs", runs)
    title, sweeps = _sweeps(source)
    if runs is not None and len(sweeps) > 1:
        raise UserError(
            f"{title} has {len(sweeps)} trainings: give the folder of one of them to choose runs"
        )
    room = megabytes * 1e6 - OWN_BYTES
    share = [len(list(itertools.chain(*each.card["blocks"]))) for each in sweeps]
    gathered = [
        gathering.gather(each, budget=room * n / sum(share), runs=runs, told=told)
        for each, n in zip(sweeps, share, strict=True)
    ]
    for _ in range(8):
        text = _written(title, gathered)
        if len(text) <= megabytes * 1e6:
            return View(text)
        told(f"{len(text) / 1e6:.1f} MB is more than {megabytes:g} MB: keeping fewer checkpoints")
        keep = 0.92 * room / (len(text) - OWN_BYTES)
        gathered = [gathering.thinned(each, keep) for each in gathered]
    raise UserError(
        f"the page takes {len(text) / 1e6:.1f} MB, more than {megabytes:g}: choose fewer runs with "
        "runs, or give it more megabytes"
    )


def _written(title: str, gathered: Sequence[Gathered]) -> str:
    blobs = {}
    for number, each in enumerate(gathered):
        for name, arrays in each.blobs.items():
            if arrays:
                blobs[f"{number}/{name}"] = packing.blob(arrays)
    return page(title, [each.about for each in gathered], blobs)


def _sweeps(source: Trajectories | str | Path) -> tuple[str, list[Trajectories]]:
    """What the page is called, and the sweeps on it."""
    if isinstance(source, Trajectories):
        return source.folder.name, [source]
    told = folders.look(Path(source))
    if not told.experiment:
        return told.title, [Trajectories(source)]
    if told.missing and told.finished:
        name, where = told.missing[0]
        raise UserError(
            f"{source} was measured on {name}, which is not at {where}: run the experiment again, "
            "or give the folder of a sweep"
        )
    if not told.sweeps:
        raise UserError(f"{source} has no trainings to show: give the folder of a sweep")
    return told.title, [Trajectories(each) for each in told.sweeps]
