"""Experiments: one file per figure, which says what is trained, measured, claimed and drawn.

Several figures read the same networks, so a `Training` is an object that experiments hold: it
happens once, and every experiment that holds it measures and draws what it likes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ih_jax.claims import Claim
from ih_jax.clamps.clamp import Clamp
from ih_jax.data.images.features import Features
from ih_jax.errors import UserError, check_fields, given, unknown, whole
from ih_jax.experiments import networks
from ih_jax.experiments.networks import Factor
from ih_jax.sweeps.engine import Sweep
from ih_jax.sweeps.settings import check_runs
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.fewshot import FewShot, fewshot

if TYPE_CHECKING:  # it takes half a second, and only drawing needs it
    from matplotlib.figure import Figure

MOST_SEEDS = 10_000  # each is trained, measured and drawn; more: again, with another first seed
MOST_LETTERS = 100  # of a name that folders have
Found = Mapping[str, Trajectories]  # trained, by the name of the training


@dataclass(frozen=True)
class Options:
    """What can be changed when an experiment is run."""

    seeds: int = 2  # networks, numbered from `first_seed` on
    data: str | None = None  # exemplars' features (HDF5); None: the embedded glyphs
    data_key: str | None = None  # of the features in that file
    classes: int = 50  # to train on
    exemplars: int = 1  # of each class, to train on
    labels: int = 5
    clamps: tuple[str, ...] = ()  # only these of the training "clamps"; empty: all
    scale: float = 1.0  # share of the sequences to train for
    quick: bool = False  # shorter runs and coarser grids, as each training says
    text: Mapping[str, Any] = field(default_factory=dict)  # of `Text`, for experiments on real text
    first_seed: int = networks.FIRST_SEED
    vary: tuple[Factor, ...] | None = None  # what differs between networks; None: by their number
    part: tuple[int, ...] = ()  # these networks alone; empty: all

    def __post_init__(self) -> None:
        check_fields(self)
        whole("seeds", self.seeds, least=1, most=MOST_SEEDS)
        if not isinstance(self.clamps, tuple) or not isinstance(self.text, Mapping):
            raise UserError(
                f"clamps {given(self.clamps)}, text {given(self.text)}: give a tuple of names, and "
                "settings of ih_jax's Text by name"
            )
        if not isinstance(self.part, tuple):
            raise UserError(f"part is {given(self.part)}: give a tuple of networks' numbers")
        if not 0 < self.scale <= 1:
            raise UserError(f"scale is {given(self.scale)}: give a number above 0, up to 1")
        whole("first_seed", self.first_seed)
        whole("the last seed", self.first_seed + self.seeds)
        check_runs(self.seeds, f"a study of {self.seeds:,} seeds")
        networks.check(self.seeds, self.vary)

    @property
    def inits(self) -> list[int]:
        """The networks' numbers: labels of the axis `init` (see `networks`)."""
        return list(self.part) or self.all_networks

    @property
    def all_networks(self) -> list[int]:
        """Those of the whole, where `part` is some of them."""
        return list(range(self.first_seed, self.first_seed + self.seeds))

    def paired(self, inits: Sequence[int] | None = None) -> dict[str, dict[int, int]]:
        """Settings of a few-shot study that go with the network: {setting: {init: seed}}.

        Empty where networks differ in nothing but their initial weights, whose seeds their numbers
        then are. `inits`: of these networks; None: of `inits`.
        """
        whole = networks.seeds_of(self.first_seed, self.seeds, self.vary)
        some = self.inits if inits is None else inits
        return {name: {init: own[init] for init in some} for name, own in whole.items()}

    def at_least(self, seeds: int) -> Options:
        """With so many networks or more from the same first one on; whole where some are added."""
        return self if self.seeds >= seeds else replace(self, seeds=seeds, part=())

    def in_parts(self, count: int) -> list[Options]:
        """The same networks in so many parts (or fewer), each with every draw of the data."""
        weights = networks.weights_of(self.first_seed, self.seeds, self.vary)
        of_weights: dict[int, list[int]] = {w: [] for w in weights.values()}
        for network in self.all_networks:
            of_weights[weights[network]].append(network)
        rows = list(of_weights.values())
        cuts = np.linspace(0, len(rows), min(count, len(rows)) + 1).round().astype(int).tolist()
        every = [sorted(itertools.chain(*rows[a:b])) for a, b in itertools.pairwise(cuts)]
        return [replace(self, part=tuple(some)) for some in every]

    def same_data(self, init: int) -> list[int]:
        """The networks that see the data of this one, itself among them, whatever the part."""
        return networks.same_data(self.first_seed, self.seeds, self.vary, init)

    def task(self, otherwise: Features | None = None, **settings: Any) -> FewShot:
        """The task to learn; `settings` are fields of `FewShot` that override these options.

        Args:
            otherwise: the features where no data are given; None: upright glyphs.
            settings: what overrides these options.

        Raises UserError for data that is missing or too small.
        """
        own = {"classes": self.classes, "exemplars": self.exemplars, "labels": self.labels}
        data = otherwise if self.data is None else self.data
        return fewshot(data, self.data_key, **{**own, **settings})

    def horizon(self, sequences: int, quick: int | None = None) -> int:
        """Sequences (or tokens) to train for: `quick` (where given) with --quick, times --scale."""
        full = quick if self.quick and quick is not None else sequences
        return max(1, round(self.scale * full))

    def choose(self, clamps: Mapping[str, Clamp]) -> dict[str, Clamp]:
        """The chosen clamps. Raises UserError, suggesting the nearest, for an unknown name."""
        for name in self.clamps:
            if name not in clamps:
                raise unknown("clamp", name, clamps)
        return {name: c for name, c in clamps.items() if not self.clamps or name in self.clamps}


def evenly(horizon: int, count: int) -> list[int]:
    """0 to `horizon`, sequences or tokens, in `count` equal steps."""
    return [round(horizon * i / count) for i in range(count + 1)]


@dataclass(frozen=True)
class Table:
    """Further numbers, which no claim is about."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Training:
    """Networks that are trained once, whichever experiments read them.

    Args:
        name: what `found` calls it; also the beginning of its folder's name.
        sweep: a study, or `sweep(options, found)`, which gives one. `found` has the trainings in
            `needs`. It is empty when only the cost is asked for: if the function then raises
            KeyError, the cost is known later.
        needs: trainings whose networks decide what is trained here, such as which head is clamped.
        in_parts: whether `sweep` trains only the networks of `options.part` where that is given,
            and experiments that hold this measure each network by itself (variables along `init`).
            Then many networks can be trained and measured a part at a time, and their weights
            forgotten.
        reads_text: whether `options.text` chooses the corpus.
    """

    name: str
    sweep: Sweep | Callable[[Options, Found], Sweep]
    needs: tuple[Training, ...] = ()
    in_parts: bool = False
    reads_text: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.sweep, Sweep) and not callable(self.sweep):
            raise UserError(f"sweep of {self.name!r} is {given(self.sweep)}: give a study")

    def study(self, options: Options, found: Found) -> Sweep:
        """What is trained with these options. Raises UserError where that is no study."""
        made = self.sweep if isinstance(self.sweep, Sweep) else self.sweep(options, found)
        if not isinstance(made, Sweep):
            raise UserError(f"training {self.name!r} gives {given(made)}: return ih_jax.sweep(...)")
        return made


def _check_name(name: Any) -> None:
    """Raises UserError for what cannot begin the name of a folder."""
    fits = isinstance(name, str) and all(c.isalnum() or c in "-_." for c in name)
    if not fits or not name.strip(".") or len(name) > MOST_LETTERS:
        raise UserError(f"name is {given(name)}: give letters, digits, '-', '_' and '.' only")


@dataclass(frozen=True)
class Experiment:
    """One figure or table: what it trains, measures, claims and draws.

    Only `name` and what to measure are needed; everything else that is given appears in the folder
    of results.

    Args:
        name: what `ih-jax run` calls it, and the name of its folder.
        trainings: what is trained first; what these need is trained before them.
        measure: `measure(options, found)` gives every number that claims, figure or tables
            need, and no more, so that they can be made again from results.nc alone. `found` has the
            trajectories of each training by its name. None: the results of the only training.
        claims: decided by those numbers.
        draw: the figure of those numbers. None: no figure.
        tables: further numbers for the README.
        quantities: by name, a number of one network's results (`results.sel(init=...)`), of which
            the README tells how much is due to initial weights and how much to the data, where both
            vary.
        title: its heading there; by default the name.
        paper: where the claims come from.
        summary: what it is about, a paragraph.
        differs: where the results differ from the paper, and why, if that is known.
        authors: the same numbers of networks of the paper's authors, or some of them, by which
            claims are calibrated.
        seconds: how long measuring and drawing take, on the machine of `sweeps.estimate`.

    Raises:
        UserError: there is no `measure` and not exactly one training; a folder cannot have this
            name; or a part is of another type.
    """

    name: str
    title: str = ""
    paper: str = ""
    summary: str = ""
    trainings: tuple[Training, ...] = ()
    measure: Callable[[Options, Found], xr.Dataset] | None = None
    claims: tuple[Claim, ...] = ()
    draw: Callable[[xr.Dataset], Figure] | None = None
    tables: Callable[[xr.Dataset], Sequence[Table]] = lambda results: ()
    quantities: Mapping[str, Callable[[xr.Dataset], float]] = field(default_factory=dict)
    differs: str = ""
    authors: Callable[[], xr.Dataset] | None = None
    seconds: Callable[[Options], float] = lambda options: 3.0

    def __post_init__(self) -> None:
        _check_name(self.name)
        for field_, kind in (("trainings", Training), ("claims", Claim)):
            several = getattr(self, field_)
            is_list = isinstance(several, Sequence)
            if not is_list or not all(isinstance(each, kind) for each in several):
                raise UserError(
                    f"{field_} is {given(several)}: give a tuple of ih_jax.{kind.__name__}"
                )
        if not isinstance(self.quantities, Mapping):
            raise UserError(f"quantities is {given(self.quantities)}: give a dict of functions")
        if self.measure is not None and not callable(self.measure):
            raise UserError(f"measure is {given(self.measure)}: give measure(options, found)")
        if self.measure is None and len(self.trainings) != 1:
            raise UserError(
                f"experiment {self.name!r} has no measure and {len(self.trainings)} trainings: "
                "give measure=, or one training whose results are to be shown"
            )

    def measured(self, options: Options, found: Found) -> xr.Dataset:
        """The numbers of this experiment, from what was trained."""
        if self.measure is None:
            return found[self.trainings[0].name].results
        results = self.measure(options, found)
        if not isinstance(results, xr.Dataset):
            raise UserError(
                f"measure of {self.name!r} gives {given(results)}: return an xarray.Dataset"
            )
        if "init" not in results.dims:
            return results
        # What networks share, whatever the measure kept of it: claims must know.
        inits = results["init"].values.tolist()
        for trained in found.values():
            for setting, seeds in trained.study.paired.items():
                if set(inits) <= set(seeds) and setting not in results.data_vars:
                    own = [math.nan if seeds[i] is None else seeds[i] for i in inits]
                    results = results.assign_coords({setting: ("init", own)})
        return results
