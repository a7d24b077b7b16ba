"""The phase change: in-context learning appears in a narrow window, with induction heads.

Paper: Olsson et al. 2022, argument 1. Command: ih-jax run olsson-phase-change (--quick: one and two
layers, one seed). On 2 CPU cores: an hour for five seeds, 2 minutes with --quick.
Expected: every model of two layers or more changes; a one-layer model does not. Within the window
the in-context learning score gets most of its final value, induction heads form, the loss curve has
a bump, the loss begins to fall along the context, and the path of per-token losses turns. After it
the score is constant, and about the same for all sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ih_jax.claims import phase_change as changes
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import curves, over_sequences, tidy
from ih_jax.experiments.olsson2022 import heat_maps, models
from ih_jax.experiments.olsson2022.colours import colour_of
from ih_jax.experiments.olsson2022.phase_change_claims import CLAIMS
from ih_jax.experiments.olsson2022.trainings import DEPTHS, SMEARED
from ih_jax.measures import context

# Pairs of early and late positions; the first is that of the curves (10/64 and the end), the second
# the paper's shares of its context (50/512 and 500/512), then others.
PAIRS = ((10, 63), (6, 62), (4, 40), (20, 63), (30, 63))
BY_INDEX, QUICK_BY_INDEX = 10_000, 2_000  # examples on which losses by index are measured
SNAPSHOTS = 5  # every so many checkpoints they are
MAPPED = ("1L", "2L", "3L", "6L", "2L MLP", "1L smeared", "2L smeared")


def measure(options: Options, found: Found) -> xr.Dataset:
    """Curves, scores at several pairs, best heads, paths of per-token losses, losses by index."""
    every = models.every(found)
    seen = models.watch(found, every)
    results = models.curves(found, every, loss="loss", score="in_context_score")
    own = {}
    for name, each in seen.items():
        by_index = each["token_loss"]
        score = context.in_context_scores(by_index.values, PAIRS)
        own[name] = xr.Dataset(
            {
                "score_at": (("init", "checkpoint", "pair"), score),
                "prefix_matching": models.best(each["prefix_matching"]),
                "previous_token": models.best(each["previous_token"]),
            },
            coords={"pair": [f"{a} to {b}" for a, b in PAIRS]},
        )
    results = results.merge(models.side_by_side(own))
    results["index_loss"] = _losses_by_index(options, found)
    results["path"] = _paths(seen)
    results["first_init"] = int(results["init"][0])
    return results


def _losses_by_index(options: Options, found: Found) -> xr.DataArray:
    """[model, snapshot, index] of the first seed, on many examples."""
    own = {}
    for model in models.every(found):
        trained = found[model.training]
        batch = models.sample(trained, QUICK_BY_INDEX if options.quick else BY_INDEX)
        one = dataclasses.replace(model, inits=(options.inits[0],))
        steps = models.steps_of(trained, model, SNAPSHOTS)
        own[model.name] = models.measured(trained, one, context.loss_by_token, batch, steps)
    every = models.side_by_side(own)["loss_by_token"].sel(init=options.inits[0], drop=True)
    return every.rename(checkpoint="snapshot")


def _paths(seen: dict[str, xr.Dataset]) -> xr.DataArray:
    """[model, init, checkpoint, 2]: the first two components, jointly over models of a kind."""
    paths: dict[str, np.ndarray] = {}
    for names in ([n for n in seen if "MLP" not in n], [n for n in seen if "MLP" in n]):
        if not names:
            continue
        stacked = np.stack([seen[name]["vector"].values for name in names])  # [M, I, S, B]
        found = np.stack(
            [
                changes.principal_components(own.reshape(-1, own.shape[-1])).coordinates
                for own in stacked.swapaxes(0, 1)
            ]
        )
        paths |= dict(
            zip(names, found.reshape(len(found), len(names), -1, 2).swapaxes(0, 1), strict=True)
        )
    one = next(iter(seen.values()))
    return xr.DataArray(
        np.stack([paths[name] for name in seen]),
        dims=("model", "init", "checkpoint", "component"),
        coords={"model": list(seen), "init": one["init"], "checkpoint": one["checkpoint"]},
    )


def tables(results: xr.Dataset) -> list[Table]:
    """Windows and final scores, medians over seeds."""
    rows = []
    for name in (str(each) for each in results["model"].values):
        windows = [models.window_of(results.sel(init=s), name) for s in results["init"].values]
        known = [each for each in windows if each is not None]
        final = results["score"].sel(model=name).isel(tokens=slice(-20, None)).median()
        heads = results["prefix_matching"].sel(model=name).isel(checkpoint=-1).median()
        middle = f"{np.median([w.middle for w in known]) / 1e6:.2f}M" if known else "none"
        share = f"{np.median([w.share for w in known]):.2f}" if known else ""
        rows.append(
            (
                name,
                f"{len(known)} of {len(windows)}",
                middle,
                share,
                f"{float(final):.2f}",
                f"{float(heads):.2f}",
            )
        )
    header = (
        "model",
        "changes",
        "middle (tokens)",
        "share of the score in the window",
        "final score (nats)",
        "best prefix matching",
    )
    return [Table("Windows, medians over seeds", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Losses, scores and heads over training; losses by index as heat maps; paths that turn."""
    names = [str(name) for name in results["model"].values]
    kinds = [[n for n in names if "MLP" not in n], [n for n in names if "MLP" in n]]
    kinds = [kind for kind in kinds if kind]
    figure = Figure(figsize=(15, 3.7 * len(kinds) + 3.2), layout="constrained")
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(len(kinds), 0.85)))
    rows = np.atleast_2d(above.subplots(len(kinds), 4))
    for axes, kind in zip(rows, kinds, strict=True):
        for name in kind:
            own, dash = results.sel(model=name), "--" if "smeared" in name else "-"
            for each, what in zip(axes, ("loss", "score", "prefix_matching"), strict=False):
                curves(each, own[what], colour_of(name), name, ls=dash)
            _path(axes[3], own["path"].isel(init=0).values, colour_of(name), name)
        _dress(axes, "with MLPs" if "MLP" in kind[0] else "attention only")
    heat_maps.draw(below, results, [name for name in MAPPED if name in names])
    return figure


def _dress(axes: Sequence[Axes], kind: str) -> None:
    titles = (
        "Loss (nats)",
        "In-context learning score",
        "Best prefix matching",
        "Paths of per-token losses, one seed",
    )
    for each, title in zip(axes, titles, strict=True):
        tidy(each, f"{title}, {kind}" if each is axes[0] else title)
    for each in axes[:3]:
        over_sequences(each, "tokens seen")
    axes[0].set(ylim=(2.0, 3.1))
    axes[2].set(ylim=(0, 1))
    axes[0].legend(frameon=False, fontsize=8, ncols=2)
    axes[3].set(xlabel="first component", ylabel="second component")


def _path(axes: Axes, path: np.ndarray, colour: str, name: str) -> None:
    axes.plot(path[3:, 0], path[3:, 1], color=colour, lw=1.2, label=name)
    axes.plot(*path[-1], "o", ms=4, color=colour)


experiment = Experiment(
    name="olsson-phase-change",
    title="A phase change, in which in-context learning and induction heads appear",
    paper="Olsson et al. 2022, argument 1",
    summary="Language models of one to six layers, without and with MLPs, read sequences in which "
    "a global table of bigrams has exceptions that hold within one sequence only. Bigrams are "
    "learned first; then there is a plateau; then, in models of two layers or more, a change.",
    differs="The change is there in all 50 networks of two layers or more, and in none of one "
    "layer (the one in the table is the first look: a score of noise that falls to -.1). 48 "
    "of the 50 get 75% of their score within a fifth of "
    "training (most 77% to 86%), two with two layers 74% to 75%. After their windows scores still "
    "move by 8% to 17%: windows, told by the steepest part, end while the curve still bends. "
    "Fifteen snapshots, spaced evenly in the logarithm of tokens, have one or two within a window "
    "and put 72% to 77% of the score into a fifth of training: too few to tell whether it is 75%. "
    "The largest slope before a window is that of one layer with MLPs (-.054). Unlike in "
    "the paper, not all sizes change at the same time: two layers need twice the tokens of three "
    "to six. The networks were trained in two sittings, between which the code changed in ways "
    "that may round differently. The wording of claims on windows was corrected once after seed 5 "
    "had been seen with --quick (commit e1971dd).",
    trainings=(DEPTHS, SMEARED),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 40.0 if options.quick else 240.0 * options.seeds,
)
