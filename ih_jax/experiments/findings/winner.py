"""Which head becomes the strongest induction head, and what tells so before training?

Of our own. Command: ih-jax run winner --seeds 64 (the networks of fig3 and fig4). Expected, if the
initial weights decide: networks of the same initial weights have the same strongest head whatever
data they see, and something that is known at the start tells which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ih_jax.claims import Claim, Measure, Networks, of_networks, pooled
from ih_jax.claims.intervals import of_share, of_statistic
from ih_jax.claims.networks import draws_of
from ih_jax.experiments.base import Experiment, Table
from ih_jax.experiments.drawing import FAINT, HEAD_COLOURS, QUIET, over_sequences, tidy
from ih_jax.experiments.findings.heads import AT_START, EARLY, at, at_end, measure, winner
from ih_jax.experiments.findings.held_out import apart, average, choices
from ih_jax.experiments.singh2024.trainings import MAIN, SINGLE_HEADS

Floats = NDArray[np.float64]
HEADS = 8
CHANCE = 1 / HEADS
PERMUTATIONS = 10_000
KNOWN: dict[str, Callable[[xr.Dataset], Sequence[np.ndarray]]] = {  # each [head]
    "strength at step 0": lambda one: [at(one, 0)],
    "copying at step 0": lambda one: [one["copying"].values],
    "growth at step 0": lambda one: [one["growth"].values],
    "all three at step 0": lambda one: [at(one, 0), *(one[n].values for n in AT_START[1:])],
    "strength at 30,000 sequences": lambda one: [at(one, EARLY)],
    "time to learn alone": lambda one: [-np.log(one["alone"].values)],
}


def told(known: str) -> Measure:
    """A measure of claims: [1, 2] of each network held out, nats above chance and right or not.

    Nats: log p + log 8, with p the probability that was given to the head that became strongest.
    """

    def measured(results: xr.Dataset) -> Networks:
        def row(one: xr.Dataset) -> np.ndarray:
            columns = np.array([winner(one), *np.stack(KNOWN[known](one), axis=-1).ravel()])
            return columns[None]

        rows = of_networks(row)(results)
        keys = list(rows.values)
        if not keys:
            return rows
        table = np.array([np.asarray(rows.values[key])[0] for key in keys])
        chosen, x = table[:, 0].astype(int), table[:, 1:].reshape(len(keys), HEADS, -1)
        p = choices(x, chosen, apart(keys))
        own = p[np.arange(len(keys)), chosen]
        found = np.stack([np.log(own) + math.log(HEADS), p.argmax(1) == chosen], axis=1)
        kept = {k: r[None] for k, r in zip(keys, found, strict=True) if np.isfinite(r).all()}
        return Networks(rows.varies, kept, rows.missing)

    return measured


def grid(results: xr.Dataset) -> tuple[NDArray[np.int64], list[int], list[int]]:
    """[weights, draws] the strongest heads, with the seeds of both; empty where none are shared."""
    draws = draws_of(results)
    if "weights_seed" not in results.coords or not draws:
        return np.zeros((0, 0), int), [], []
    weights = results["weights_seed"].values.astype(int).tolist()
    rows, columns = sorted(set(weights)), sorted(set(draws))
    heads = np.full((len(rows), len(columns)), -1)
    for i, (w, d) in enumerate(zip(weights, draws, strict=True)):
        heads[rows.index(w), columns.index(d)] = winner(results.isel(init=i))
    return heads, rows, columns


def agreement(results: xr.Dataset) -> Networks:
    """A measure of claims: [pairs, 1] of each of the initial weights, whether two draws agree."""
    heads, rows, _ = grid(results)
    pairs = {
        (f"weights {w}",): np.array([[float(a == b)] for a, b in itertools.combinations(row, 2)])
        for w, row in zip(rows, heads, strict=True)
    }
    return Networks(("init",), {key: own for key, own in pairs.items() if len(own)})


def by_permutation(heads: NDArray[np.int64]) -> tuple[float, float]:
    """Share of pairs of draws that agree if winners are dealt to weights anew, and p of ours."""
    rng = np.random.default_rng(0)

    def share(table: NDArray[np.int64]) -> float:
        pairs = itertools.combinations(range(table.shape[1]), 2)
        return float(np.mean([table[:, a] == table[:, b] for a, b in pairs]))

    dealt = [share(rng.permuted(heads, axis=0)) for _ in range(PERMUTATIONS)]
    above = int(np.sum(np.asarray(dealt) >= share(heads) - 1e-12))
    return float(np.mean(dealt)), (above + 1) / (PERMUTATIONS + 1)


def _told(name: str, statement: str, known: str, primary: bool = True) -> Claim:
    return Claim(
        name,
        statement,
        pooled("nats above chance", told(known), average, rows="networks"),
        source="ours",
        estimand=f"log probability given to the head that is strongest at the end, plus log 8, by "
        f"a conditional logit on {known}; of each network by those that share neither initial "
        "weights nor draw of the data; mean over networks",
        kind="hypothesis",
        primary=primary,
    )


CLAIMS = (
    Claim(
        "the initial weights decide",
        "Networks of the same initial weights have the same strongest head on other data, more "
        "often than one time in eight.",
        pooled("share of pairs", agreement, average, CHANCE, rows="pairs"),
        source="ours",
        estimand="share of pairs of draws of the data in which the same head is strongest at the "
        "end; mean over initial weights, which are resampled; above 1/8",
        kind="hypothesis",
    ),
    _told(
        "known at step 0",
        "Strength, copying and growth of heads before training tell which will be strongest.",
        "all three at step 0",
    ),
    _told(
        "known at 30,000 sequences",
        "Strengths after about a thousand steps, long before the loss falls, tell which head will "
        "be strongest.",
        "strength at 30,000 sequences",
    ),
    _told(
        "the quickest alone wins",
        "The head that learns soonest alone becomes the strongest among all.",
        "time to learn alone",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """How well each tells, and the agreement of draws."""
    rows = []
    for known in KNOWN:
        found = told(known)(results)
        if not found.values:
            continue
        samples, keys = [np.asarray(v) for v in found.values.values()], list(found.values)
        right = [bool(sample[0, 1]) for sample in samples]
        ends, nats = of_share(right, keys), of_statistic(average, samples, keys)
        rows.append(
            [
                known,
                f"{sum(right)} of {len(right)} ({ends[0]:.2f} to {ends[1]:.2f})",
                f"{average(samples):.2f} ({nats[0]:.2f} to {nats[1]:.2f})",
            ]
        )
    made = [
        Table(
            "Held-out networks: chance is 1 of 8 (0.125) and 0 nats; a sure and right guess 2.08",
            ("known", "strongest head named (95%)", "nats above chance (95%)"),
            rows or [["nothing: too few networks", "", ""]],
        )
    ]
    heads, weights, draws = grid(results)
    if len(weights) > 1 and len(draws) > 1:
        pairs = list(itertools.combinations(range(len(draws)), 2))
        same = int(sum(np.sum(heads[:, a] == heads[:, b]) for a, b in pairs))
        dealt, p = by_permutation(heads)
        everywhere = int(np.sum([len(set(row)) == 1 for row in heads.tolist()]))
        made.append(
            Table(
                "Same initial weights, other data",
                ("pairs that agree", "if dealt anew", "permutation p", "all draws agree"),
                [
                    [
                        f"{same} of {len(pairs) * len(weights)}",
                        f"{dealt:.3f}",
                        f"{p:.4f}",
                        f"{everywhere} of {len(weights)} weights",
                    ]
                ],
            )
        )
    return made


def draw(results: xr.Dataset) -> Figure:
    """Winners by weights and draw; how early they can be told; from what."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(0.8, 1.1, 1.3))
    heads, weights, draws = grid(results)
    if len(weights):
        colours = ListedColormap(list(HEAD_COLOURS))
        left.imshow(heads, cmap=colours, vmin=-0.5, vmax=7.5, aspect="auto")
        for (row, column), head in np.ndenumerate(heads):
            left.text(column, row, str(head), ha="center", va="center", color="white", fontsize=8)
        left.set_yticks(range(len(weights)), weights, fontsize=7)
        left.set_xticks(range(len(draws)), draws, fontsize=8)
        left.set(xlabel="draw of the data (seed)", ylabel="initial weights (seed)")
    tidy(left, "Strongest head at the end")
    final = results["strength"].isel(checkpoint=-1).argmax("head")
    same = (results["strength"].argmax("head") == final).mean("init")
    x = same["checkpoint"].values
    middle.plot(x, same.values, color="#0072B2", lw=1.8)
    fall = np.median([time for time in _falls(results) if np.isfinite(time)] or [np.nan])
    middle.axvline(fall, color=FAINT, lw=0.8, ls=":")
    middle.text(fall, 0.03, " it has half its strength", color=QUIET, fontsize=8)
    middle.axhline(CHANCE, color=FAINT, lw=0.8, ls="--")
    middle.text(x[-1], CHANCE + 0.01, "chance", color=QUIET, fontsize=8, ha="right")
    middle.set(ylim=(0, 1.03), ylabel="share of networks in which it leads already")
    over_sequences(middle)
    tidy(middle, "The later winner leads")
    for row, known in enumerate(KNOWN):
        found = told(known)(results)
        if not found.values:
            continue
        keys = list(found.values)
        outcomes = [bool(np.asarray(v)[0, 1]) for v in found.values.values()]
        ends = of_share(outcomes, keys)
        right.plot(ends, [row, row], color="#0072B2", lw=1.6)
        right.plot(np.mean(outcomes), row, "o", color="#0072B2", ms=5)
    right.axvline(CHANCE, color=FAINT, lw=0.8, ls="--", zorder=0)
    right.set_yticks(range(len(KNOWN)), list(KNOWN), fontsize=8.5)
    right.set(xlim=(0, 1), ylim=(len(KNOWN) - 0.5, -0.5))
    right.set_xlabel("share of held-out networks whose winner is named (95%)")
    tidy(right, "Told from")
    return figure


def _falls(results: xr.Dataset) -> list[float]:
    """By network, the sequences seen at which the strongest head has half of its strength."""
    times = []
    for init in results["init"].values.tolist():
        one = results.sel(init=init)
        own = one["strength"].isel(head=winner(one)).values
        above = np.flatnonzero(own > at_end(one).max() / 2)
        times.append(float(one["checkpoint"].values[above[0]]) if len(above) else math.nan)
    return times


experiment = Experiment(
    name="winner",
    title="What picks the winning head?",
    paper="ours",
    summary="Of eight heads of layer 1 one becomes the strongest induction head. Networks of the "
    "same initial weights see other classes, label pairs and orders of sequences; what is known of "
    "the heads before training, or early in it, is asked which will win. Copying: the logit that a "
    "head's weights add to a label it attends to, less that of the others. Growth: how quickly its "
    "strength changes in Adam's first step.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(MAIN, SINGLE_HEADS),
    seconds=lambda options: 8.0 * max(options.seeds, 3),
)
