"""Experiments: a file a figure, each saying what is needed, measured, claimed and drawn.

Several figures read the same networks, so the runs stand apart, in `trainings`: a training happens
once, and every experiment that needs it measures and draws what it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim
from ih_jax.clamps.clamp import Clamp
from ih_jax.errors import UserError
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.fewshot import FewShot, fewshot

FIRST_SEED = 5  # the paper's seed of initial weights; others follow it

Found = Mapping[str, Trajectories]  # trained, by the name of the training


@dataclass(frozen=True)
class Options:
    """What whoever runs an experiment may change."""

    seeds: int = 2  # init seeds, from the paper's first on
    data: str | None = None  # exemplars' features (HDF5); None: the embedded glyphs
    data_key: str | None = None  # of the features in that file
    classes: int = 50  # to train on
    exemplars: int = 1  # of each class, to train on
    labels: int = 5
    clamps: tuple[str, ...] = ()  # only these of the training "clamps"; empty: all
    scale: float = 1.0  # share of the sequences to train for
    quick: bool = False  # shorter runs and coarser grids, see `trainings`
    text: Mapping[str, str] = field(default_factory=dict)  # of `data.text.Text`, for olsson-text

    @property
    def inits(self) -> list[int]:
        """The init seeds."""
        return list(range(FIRST_SEED, FIRST_SEED + self.seeds))

    def task(self, **settings: Any) -> FewShot:
        """What is learned; `settings` are fields of `FewShot` that are not as the options say.

        Raises UserError for data that is missing or too small.
        """
        own = {"classes": self.classes, "exemplars": self.exemplars, "labels": self.labels}
        return fewshot(self.data, self.data_key, **{**own, **settings})

    def horizon(self, sequences: int, quick: int | None = None) -> int:
        """Sequences (or tokens) to train for: `quick` (where given) with --quick, times --scale."""
        return round(self.scale * (quick if self.quick and quick is not None else sequences))

    def choose(self, clamps: Mapping[str, Clamp]) -> dict[str, Clamp]:
        """The chosen clamps. Raises UserError, with those there are, for another."""
        unknown = [name for name in self.clamps if name not in clamps]
        if unknown:
            raise UserError(f"there is no clamp {unknown[0]!r}; there are: {', '.join(clamps)}")
        return {name: c for name, c in clamps.items() if not self.clamps or name in self.clamps}


@dataclass(frozen=True)
class Table:
    """Numbers that no claim decides."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Experiment:
    """One figure or table of a paper: what it needs, measures, claims and draws.

    `measure(options, found)` gives all numbers that are claimed of or drawn, and no more
    (results.nc is committed: below 2 MB); `found` has the trainings that `needs` names. What is
    drawn can then be drawn again from results.nc alone.
    """

    name: str
    title: str
    paper: str  # where the claims come from
    summary: str
    measure: Callable[[Options, Found], xr.Dataset]
    claims: tuple[Claim, ...]
    draw: Callable[[xr.Dataset], Figure]
    tables: Callable[[xr.Dataset], Sequence[Table]] = lambda results: ()
    needs: tuple[str, ...] = ()  # names in `trainings.TRAININGS`
    differs: str = ""  # where results committed here differ from the paper, and why, if known
    # What measuring and drawing take on the machine of `estimate`, for the options.
    seconds: Callable[[Options], float] = lambda options: 3.0
