"""Every way to give a circuit or to let it be learned: what is the least that removes the plateau?

Beyond the paper: Singh et al. 2024, section 4, gives five of these clamps. Command: ih-jax run
factorial. On 2 CPU cores: about 5 minutes (at least 8 seeds, 42 million sequences).
Expected, if two parts that must both be learned make the plateau: giving the match alone is enough,
and so is any set that leaves a single part; giving previous-token attention alone is not.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import Claim, Finding, learning_times, over_seeds, plateaus, thousands
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.beyond.trainings import (
    CELLS,
    EQUIVALENT,
    FACTORIAL,
    FACTORIAL_CELLS,
    Cell,
    cell_name,
)
from ih_jax.experiments.drawing import chance, curves, over_sequences, tidy

COLOURS = {
    "": "#000000",
    "previous token": "#CC79A7",
    "q, k": "#0072B2",
    "v": "#E69F00",
    "both": "#009E73",
}


def measure(options: Options, found: Found) -> xr.Dataset:
    """The curves of all runs."""
    return found["factorial"].results[["loss", "diverged_at"]]


def representative(cell: Cell) -> str:
    """The name of the cell that was trained for this one."""
    return cell_name(EQUIVALENT.get(cell, cell))


def shape(results: xr.Dataset, name: str) -> dict[int, bool | None]:
    """By seed whether there is no plateau; None where that cannot be told."""
    found = plateaus(results["loss"].sel(clamp=name))
    return {
        seed: not bool(found["present"].sel(init=seed))
        if bool(found["decided"].sel(init=seed))
        else None
        for seed in results["init"].values.tolist()
    }


def removes(results: xr.Dataset, name: str) -> bool | None:
    """Whether a cell has no plateau in most seeds; None where the undecided could turn it."""
    verdicts = list(shape(results, name).values())
    without, unknown, count = verdicts.count(True), verdicts.count(None), len(verdicts)
    if without > count / 2:
        return True
    return None if without + unknown > count / 2 else False


def given(cell: Cell) -> frozenset[str]:
    """What a cell gives, where "both" is q, k and v."""
    layer0, match, copy = cell
    parts = {"q, k", "v"} if layer0 == "both" else {layer0}
    return frozenset(filter(None, (*parts, match, copy)))


def smallest(results: xr.Dataset) -> list[Cell]:
    """Cells that remove the plateau in most seeds while no cell that gives less does."""
    good = [cell for cell in CELLS if removes(results, representative(cell))]
    return [cell for cell in good if not any(given(other) < given(cell) for other in good)]


def _absent(name: str) -> Claim:
    def decide(results: xr.Dataset) -> Finding:
        return over_seeds(shape(results, name), learning_times(results).remarks([name]))

    return Claim(
        f"no plateau: {name}",
        f"With {name} given there is no plateau.",
        paper="absent" if name == "match" else "not in the paper",
        decide=decide,
    )


def _present(name: str, paper: str) -> Claim:
    def decide(results: xr.Dataset) -> Finding:
        verdicts = {
            seed: None if verdict is None else not verdict
            for seed, verdict in shape(results, name).items()
        }
        return over_seeds(verdicts, learning_times(results).remarks([name]))

    words = "nothing" if name == "nothing" else f"{name} alone"
    return Claim(f"a plateau: {name}", f"With {words} given there is a plateau.", decide, paper)


def _smallest_is_match(results: xr.Dataset) -> Finding:
    found = smallest(results)
    names = "; ".join(cell_name(cell) for cell in found) or "no cell"
    single = [cell for cell in found if len(given(cell)) == 1]
    only = bool(single) and all(given(cell) == {"match"} for cell in single)
    return Finding("holds" if only else "does not hold", names)


CLAIMS = (
    _present("nothing", "present"),
    _present("previous token", "present"),
    _present("v", "not in the paper"),
    _absent("match"),
    _absent("v + match"),
    _absent("q, k + copy"),
    Claim(
        "the smallest set is the match",
        "Of single parts (previous token, q and k inputs, v input, match, copy) the match is the "
        "only one that removes the plateau in most seeds.",
        paper="of three tried",
        decide=_smallest_is_match,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """All 20 cells, with those that stand for others."""
    times = learning_times(results)
    rows = []
    for cell in CELLS:
        name = representative(cell)
        verdicts = list(shape(results, name).values())
        counts = [verdicts.count(v) for v in (False, True, None)]
        same = "" if cell not in EQUIVALENT else f"same as {name}"
        rows.append(
            (
                cell[0] or "learned",
                cell[1] or "learned",
                cell[2] or "learned",
                thousands(times.median(name)),
                " / ".join(map(str, counts)),
                same,
            )
        )
    header = (
        "layer 0",
        "pattern",
        "output",
        "median sequences to learn",
        "plateau: yes / no / cannot tell",
        "",
    )
    least = "; ".join(cell_name(cell) for cell in smallest(results)) or "none"
    return [
        Table("All cells", header, rows),
        Table("Smallest sets that remove the plateau in most seeds", ("given",), [[least]]),
    ]


def draw(results: xr.Dataset) -> Figure:
    """Three panels: match and copy learned, match given, copy given; colours for layer 0."""
    figure = Figure(figsize=(13, 3.9), layout="constrained")
    panels = {
        ("", ""): "Match and copy learned",
        ("match", ""): "Match given",
        ("", "copy"): "Copy given",
    }
    for axes, ((match, copy), title) in zip(
        figure.subplots(1, 3, sharey=True), panels.items(), strict=True
    ):
        for layer0, colour in COLOURS.items():
            cell = (layer0, match, copy)
            if cell in EQUIVALENT:
                continue
            loss = results["loss"].sel(clamp=cell_name(cell), drop=True)
            curves(axes, loss, colour, layer0 or "nothing")
        own = [cell_name(c) for c in CELLS if c not in EQUIVALENT and c[1:] == (match, copy)]
        known = np.isfinite(results["loss"].sel(clamp=own).values).any(axis=(0, 1))
        chance(axes)
        axes.set(ylim=(0, 2.1), xlim=(0, float(results["sequences"].values[known].max())))
        over_sequences(axes)
        axes.legend(frameon=False, fontsize=8.5, title="of layer 0 is given", alignment="left")
        tidy(axes, title)
        if (match, copy) == ("", ""):
            axes.set_ylabel("training loss (nats)")
    return figure


experiment = Experiment(
    name="factorial",
    title="What is the least that removes the plateau?",
    paper="beyond Singh et al. 2024, section 4",
    summary="Layer 0 is learned, or gives previous-token attention, perfect inputs of queries and "
    "keys, a plain input of values, or both; the pattern of head 3 of layer 1 is learned or "
    f"matches perfectly; the output is learned or copies. Of 20 cells {len(FACTORIAL)} differ, and "
    "these were trained. Every seed thin, medians bold.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(FACTORIAL_CELLS,),
    seconds=lambda options: 4.0,
)
