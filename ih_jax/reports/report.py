"""A finished experiment as a folder: results.nc, figure.png, figure.svg and a README.

Everything but the results can be made again from results.nc alone, with `redraw`. A file appears
under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr

from ih_jax import array_files, files, paths
from ih_jax.claims import decide
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment
from ih_jax.experiments.drawing import save_svg
from ih_jax.experiments.register import SET_NAMES, SETS
from ih_jax.reports import readme, replication
from ih_jax.reports.tables import Findings

FILES = ("README.md", "figure.png", "figure.svg", "results.nc", "card.json", "trajectory")
# Networks that had been looked at when the claims of these sets were written.
SEEN_BEFORE, WRITTEN_AFTER = range(5, 13), ("paper", "beyond", "olsson")


def write(
    folder: str | os.PathLike[str],
    experiment: Experiment,
    results: xr.Dataset,
    card: Mapping[str, Any],
    file: Path | None = None,
    draw: bool = True,
) -> Findings:
    """Write the folder and return the findings.

    Args:
        folder: made if it is not there.
        experiment: what was measured.
        results: its numbers.
        card: what was run, in the order in which the README is to list it; `command` and
            `wall_seconds` have their own wording, and nested entries are left to results.nc, which
            keeps the whole card as JSON.
        file: the Python file that defines the experiment; None: it is one of this package.
        draw: False: only results.nc, and no findings; `redraw` makes the rest of it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = results.assign_attrs(experiment=experiment.name, card=json.dumps(card, default=str))
    if file is not None:
        kept.attrs["experiment_file"] = str(file.resolve())
    with files.atomic(folder / "results.nc") as partial:
        kept.to_netcdf(partial, engine="h5netcdf", encoding=_encoding(kept))
    if not draw:
        return ()
    # From the file, so that a later `redraw` gives the same bytes.
    return _describe(folder, experiment, read(folder), card)


def read(folder: str | os.PathLike[str]) -> xr.Dataset:
    """The results in a folder. Raises UserError if there are none."""
    path = Path(folder) / "results.nc"
    if not paths.is_there(path):
        raise UserError(f"{folder} has no results.nc: give the folder of a finished experiment")
    return array_files.read_netcdf(path)


def redraw(folder: str | os.PathLike[str], experiment: Experiment) -> Findings:
    """Make figure and README again from results.nc, with the claims as they are now."""
    results = read(folder)
    card = _card(results)
    if card is None:
        raise UserError(f"{folder}/results.nc has no run card: run the experiment again")
    return _describe(Path(folder), experiment, results, card)


@contextlib.contextmanager
def as_measured(folder: Path, experiment: Experiment) -> Iterator[None]:
    """Raises UserError where numbers in a folder are such as an experiment cannot have measured."""
    try:
        yield
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{folder}/results.nc is not what this version of {experiment.name} measures "
            f"({type(error).__name__}: {paths.reason(error)}): run the experiment again"
        ) from None


def _card(results: xr.Dataset) -> dict[str, Any] | None:
    """What was run, as `write` kept it; None where it did not."""
    try:
        card = json.loads(results.attrs.get("card", ""))
    except (TypeError, ValueError, RecursionError):
        return None
    return card if isinstance(card, dict) else None


def findings(experiment: Experiment, folder: str | os.PathLike[str]) -> Findings:
    """The findings from the results in a folder, without drawing."""
    return _decided(experiment, read(folder))


def set_aside(folder: Path) -> Path:
    """Move the results in a folder into `previous-K` inside it, the first K that is free."""
    taken = [int(p.name.split("-")[1]) for p in folder.glob("previous-*") if p.is_dir()]
    moved = folder / f"previous-{max(taken, default=0) + 1}"
    moved.mkdir()
    for name in FILES:
        if (folder / name).exists():
            (folder / name).rename(moved / name)
    return moved


def write_index(
    folder: Path, experiments: Mapping[str, Experiment], beside: Sequence[Path] = ()
) -> Path:
    """The page on a folder of experiments (`replication`): README.md and forest.png.

    Args:
        folder: theirs.
        experiments: by the names of their folders in it, in the order of the table.
        beside: folders of the same experiments on other data, which get columns of their own.

    Raises:
        UserError: a folder beside has none of them, or results are not what these measure.
    """
    sets: dict[str, dict[str, Findings]] = {}
    ran: dict[str, str] = {}
    networks: dict[str, dict[str, str]] = {}
    first_look = False
    for own in (folder, *beside):
        there = {n: each for n, each in experiments.items() if (own / n / "results.nc").is_file()}
        if not there and own != folder:
            raise UserError(f"{own} has results of none of these: {', '.join(experiments)}")
        name = own.resolve().name
        if name in sets:
            raise UserError(
                f"two folders are called {name}, and columns have the folders' names: rename one"
            )
        results = {n: read(own / n) for n in there}
        first_look |= any(_seen_before(there[n], results[n]) for n in there)
        sets[name], numbers = {}, {}
        for n, each in there.items():
            with as_measured(own / n, each):
                sets[name][n] = _decided(each, results[n])
                numbers[n] = _networks(results[n])
        if len({*numbers.values()} - {""}) > 1:
            networks[name] = numbers
        ran[name] = _ran(list(results.values()), differ=name in networks)
    titles = [title for title, some in SETS.items() if {*experiments} <= {e.name for e in some}]
    replications = any(c.kind == "replication" for e in experiments.values() for c in e.claims)
    what = "what replicates" if replications else "hypotheses, and what became of them"
    title = f"{SET_NAMES[titles[0]]}: {what}" if titles else "Claims and their verdicts"
    return replication.write(folder, title, sets, ran, networks, first_look)


def _seen_before(experiment: Experiment, results: xr.Dataset) -> bool:
    """Whether some of the networks are those that this experiment's rules were written after."""
    ours = any(experiment is each for name in WRITTEN_AFTER for each in SETS[name])
    return ours and "init" in results.coords and bool(np.isin(results["init"], SEEN_BEFORE).any())


def _networks(results: xr.Dataset) -> str:
    """The numbers of the networks in results: "1000 to 1004"; empty where none are in them."""
    if "init" not in results.coords:
        return ""
    numbers = [int(init) for init in np.unique(results["init"].values)]
    begins = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    spans = zip(begins, ends, strict=True)
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)


def _ran(some: Sequence[xr.Dataset], differ: bool) -> str:
    """What experiments ran on, as a person would say it: "64 networks; glyphs, ..."."""
    networks = sorted({each.sizes["init"] for each in some if "init" in each.sizes})
    data = {str(card["data"]) for each in some if "data" in (card := _card(each) or {})}
    each = " a line, not always the same" if differ else ""
    counted = [f"{' or '.join(map(str, networks))} networks{each}"] if networks else []
    return "; ".join([*counted, *(sorted(data) if len(data) < 3 else ["several tasks"])])


def _decided(experiment: Experiment, results: xr.Dataset) -> Findings:
    authors = experiment.authors() if experiment.authors else None
    return decide(experiment.claims, results, authors)


def _describe(
    folder: Path, experiment: Experiment, results: xr.Dataset, card: Mapping[str, Any]
) -> Findings:
    findings = _decided(experiment, results)
    if experiment.draw:
        # Salt and metadata are fixed so that the same results give the same bytes.
        with matplotlib.rc_context({"svg.hashsalt": experiment.name}):
            figure = experiment.draw(results)
            with files.atomic(folder / "figure.png") as partial:
                figure.savefig(partial, format="png", dpi=200, metadata={"Software": None})
            with files.atomic(folder / "figure.svg") as partial:
                save_svg(figure, partial)
    text = readme.of_experiment(experiment, results, card, findings)
    files.write_text(folder / "README.md", text)
    return findings


def _encoding(results: xr.Dataset) -> dict[str, dict[str, Any]]:
    return {
        str(name): {"dtype": "float32", "zlib": True}
        for name, variable in results.data_vars.items()
        if np.issubdtype(variable.dtype, np.floating)
    }
