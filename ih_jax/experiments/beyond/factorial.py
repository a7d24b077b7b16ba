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

from ih_jax.claims import (
    Claim,
    every,
    in_most,
    learning_times,
    of_networks,
    plateau,
    plateaus,
    thousands,
    yes,
)
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


def absent(one: xr.Dataset, name: str) -> bool | None:
    """Whether one network has no plateau with a cell; None: cannot tell."""
    curve = one["loss"].sel(clamp=name)
    found = plateau(curve["sequences"].values, curve.values)
    return found.absent


def present(one: xr.Dataset, name: str) -> bool | None:
    """Whether one network has a plateau with a cell; None: cannot tell."""
    without = absent(one, name)
    return None if without is None else not without


def only_match(one: xr.Dataset) -> bool | None:
    """Whether, of single parts, the match removes the plateau of one network and no other does."""
    return every([absent(one, "match"), *(present(one, name) for name in OTHER_PARTS)])


OTHER_PARTS = ("previous token", "q, k", "v", "copy")
PLATEAU = "speed of learning that falls and later rises to 3 times its minimum"


def _claim(name: str, says: str, cell: str, there: bool, paper: str = "not in the paper") -> Claim:
    seen = present if there else absent
    return Claim(
        name,
        says,
        in_most(
            "plateau" if there else "no plateau", of_networks(lambda one: seen(one, cell)), yes
        ),
        paper=paper,
        source="ours, after section 4",
        estimand=f"share of networks with{'' if there else 'out'} a {PLATEAU}",
        kind="hypothesis",
        primary=False,
    )


CLAIMS = (
    Claim(
        "the smallest set is the match",
        "Of single parts (previous token, q and k inputs, v input, match, copy) the match is the "
        "only one that removes the plateau.",
        in_most("only the match", of_networks(only_match), yes),
        paper="of three tried",
        source="ours, after section 4",
        estimand=f"share of networks without a {PLATEAU} with the match given, and with one with "
        "any other part given",
        kind="hypothesis",
    ),
    _claim("a plateau: v", "With the input of values alone there is a plateau.", "v", True),
    _claim(
        "a plateau: previous token",
        "With previous-token attention alone there is a plateau.",
        "previous token",
        True,
        "present",
    ),
    _claim(
        "no plateau: v + match",
        "With the input of values and the match, what is left is copying: no plateau.",
        "v + match",
        False,
    ),
    _claim(
        "no plateau: q, k + copy",
        "With inputs of queries and keys and the copy, what is left is matching: no plateau.",
        "q, k + copy",
        False,
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
