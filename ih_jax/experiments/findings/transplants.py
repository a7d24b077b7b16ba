"""Heads of layer 1 in another network's body, before training: does the winner come with them?

Of our own. Command: ih-jax run transplants --seeds 16 --first-seed 2008. On 2 CPU cores: about half
a minute a seed (1.4 million sequences). Expected, if what the heads are at the start decides: in
another body the same head becomes strongest, as strong as at home; if layer 0, embeddings and
unembedding decide, it does not. And if heads share where they start together: with a perfect layer
0 from the start more of them do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import ih_jax as ih
from ih_jax.claims import Claim, correlation, in_most, more_than, of_networks, pooled, yes
from ih_jax.data.batches import Batch
from ih_jax.experiments.base import Experiment, Found, Options, Table, Training, evenly
from ih_jax.experiments.drawing import FAINT, HEAD_COLOURS, strip, tidy
from ih_jax.experiments.findings.heads import at_end, lead, when_learned, winner
from ih_jax.experiments.looking import QUICK_EVERY, along
from ih_jax.experiments.singh2024 import roles
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.probes import exhaustive, subset
from ih_jax.tasks.base import Task

LEAST = 3  # networks in the ring
CHANCE = 1 / 8
EVERY = 2  # checkpoints
CASES = {"home": "at home", "away": "in the next body", "given": "at home, layer 0 given"}


def seeds(options: Options) -> list[int]:
    """The networks of the ring; their heads go into the next one's body, the last's into the first.

    All see one draw of the data: that of the seed after them.
    """
    return list(range(options.first_seed, options.first_seed + max(options.seeds, LEAST)))


def _sweep(
    options: Options, name: str, clamp: dict[str, ih.Clamp], sequences: int, shift: int
) -> ih.Sweep:
    ring = seeds(options)
    bodies = {each: ring[(i + shift) % len(ring)] for i, each in enumerate(ring)}
    draw = ring[-1] + 1
    return ih.sweep(
        options.task(label_split=draw, class_split=draw),
        name=name,
        clamp=clamp,
        init=ring,
        weights_seed=bodies,
        heads_seed={each: each for each in ring},
        order=draw,
        sequences=sequences,
        evaluate=evenly(sequences, 150),
        checkpoints=evenly(sequences, 50),
    )


def home(options: Options, found: Found) -> ih.Sweep:
    """Networks as they are: 600,000 sequences, all heads free."""
    return _sweep(options, "home", {"none": ih.Clamp()}, options.horizon(600_000), 0)


def away(options: Options, found: Found) -> ih.Sweep:
    """The same heads of layer 1 in the next network's body."""
    return _sweep(options, "away", {"none": ih.Clamp()}, options.horizon(600_000), 1)


def given(options: Options, found: Found) -> ih.Sweep:
    """Networks as they are with what a perfect layer 0 would bring, 200,000 sequences."""
    clamp = {"none": ih.perfect_previous_layer()}
    return _sweep(options, "given", clamp, options.horizon(200_000), 0)


HOME = Training("home", home)
AWAY = Training("away", away)
GIVEN = Training("given", given)


def measure(options: Options, found: Found) -> xr.Dataset:
    """Of each case the strengths [case, init, checkpoint, head] and losses [case, init, sequences].

    Grids of the shorter runs end sooner: NaN beyond. Strengths are those on a seventh of the
    training sequences, at every second checkpoint.
    """

    def some(task: Task) -> Batch:
        return subset(exhaustive(task), QUICK_EVERY)

    cases = []
    for case in (name for name in CASES if name in found):
        trained = found[case]
        steps = trained.steps(0)[::-EVERY][::-1]
        strength = along(trained, induction_strength, some, steps=steps)
        loss = trained.results["loss"].sel(clamp="none", drop=True)
        both = xr.merge(
            [strength.rename(induction_strength="strength"), loss.reset_coords(drop=True)]
        )
        kept = [name for name in both.coords if name not in both.dims]
        cases.append(both.drop_vars(kept).assign_coords(case=case))
    return xr.concat(cases, "case", join="outer", combine_attrs="drop_conflicts")


def case(one: xr.Dataset, name: str) -> xr.Dataset:
    """One network in one case, without what lies beyond its end."""
    own = one.sel(case=name)
    return own.dropna("checkpoint", subset=["strength"]).dropna("sequences", subset=["loss"])


def cases_of(results: xr.Dataset) -> list[str]:
    """The cases that were run."""
    return [name for name in CASES if name in results["case"].values]


def same_winner(a: str, b: str) -> Callable[[xr.Dataset], bool | float]:
    """Whether a network has the same strongest head in two cases; NaN where one was not run."""

    def value(one: xr.Dataset) -> bool | float:
        if not {a, b} <= {*cases_of(one)}:
            return math.nan
        return winner(case(one, a)) == winner(case(one, b))

    return value


def more_share(one: xr.Dataset) -> float:
    """Heads' worth with layer 0 given less that without, where the loss is 0.4 ln 2."""
    if "given" not in cases_of(one):
        return math.nan
    both = [when_learned(case(one, name)) for name in ("given", "home")]
    return math.nan if np.isnan(both).any() else roles.worth(both[0]) - roles.worth(both[1])


def strengths(one: xr.Dataset) -> np.ndarray:
    """[1, 2] the strongest head at home and in the next body, at the end."""
    return np.array([[at_end(case(one, name)).max() for name in ("home", "away")]])


def by_body(results: xr.Dataset) -> list[tuple[xr.Dataset, xr.Dataset]]:
    """Every body with its own heads, and with those of the network before."""
    inits = results["init"].values.tolist()
    return [
        (case(results.sel(init=own), "home"), case(results.sel(init=inits[i - 1]), "away"))
        for i, own in enumerate(inits)
    ]


CLAIMS = (
    Claim(
        "the winner comes with the heads",
        "In another network's body the same head becomes strongest, more often than one time in "
        "eight.",
        in_most("same head", of_networks(same_winner("home", "away")), yes, CHANCE),
        source="ours",
        estimand="share of sets of heads whose strongest head at the end (600,000 sequences) is "
        "the same at home and in the next body, on the same data; above 1/8",
        kind="hypothesis",
    ),
    Claim(
        "specialists come with the heads",
        "Heads that have a strong one at home have a strong one in another body.",
        pooled("correlation", of_networks(strengths), correlation(), rows="sets of heads"),
        source="ours",
        estimand="correlation over sets of heads of the strength of the strongest at the end, at "
        "home with that in the next body",
        kind="hypothesis",
    ),
    Claim(
        "with layer 0 given more heads share",
        "Where layer 0 need not be learned, more heads of layer 1 become induction heads.",
        in_most("heads' worth more", of_networks(more_share), more_than(0)),
        source="ours",
        estimand="(sum s)^2 / sum s^2 of strengths s where the loss is 0.4 ln 2, with a perfect "
        "layer 0 less without, of the same network on the same data",
        kind="hypothesis",
    ),
    Claim(
        "the same head wins with layer 0 given",
        "Where layer 0 need not be learned, the same head becomes strongest, more often than one "
        "time in eight.",
        in_most("same head", of_networks(same_winner("home", "given")), yes, CHANCE),
        source="ours",
        estimand="share of networks whose strongest head at the end is the same; above 1/8",
        kind="hypothesis",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Every set of heads in its three cases, and what bodies have in common."""
    rows = []
    words = [CASES[name] for name in cases_of(results)]
    for init in results["init"].values.tolist():
        one = results.sel(init=init)
        cells = [case(one, name) for name in cases_of(results)]
        shown = [f"{winner(c)} ({at_end(c).max():.2f})" for c in cells]
        rows.append([str(init), *shown, *(f"{roles.worth(when_learned(c)):.1f}" for c in cells)])
    pairs = by_body(results)
    same = sum(winner(a) == winner(b) for a, b in pairs)
    values = np.array([[at_end(a).max(), at_end(b).max()] for a, b in pairs])
    return [
        Table(
            "Strongest head at the end (its strength), and heads' worth where the loss is 0.4 ln 2",
            ("heads", *words, *(f"worth, {each}" for each in words)),
            rows,
        ),
        Table(
            "The same body with other heads, as a control",
            ("same strongest head", "correlation of the strongest"),
            [[f"{same} of {len(pairs)}", f"{correlation()([values]):.2f}"]],
        ),
    ]


def draw(results: xr.Dataset) -> Figure:
    """Winners in each case; the strongest at home and away; how many share."""
    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1))
    inits = results["init"].values.tolist()
    for row, init in enumerate(inits):
        for column, name in enumerate(cases_of(results)):
            own = case(results.sel(init=init), name)
            head = winner(own)
            left.plot(column, row, "o", ms=13, color=HEAD_COLOURS[head % 8], alpha=0.9)
            left.text(column, row, str(head), ha="center", va="center", color="white", fontsize=8)
            if lead(at_end(own)) < 0.05:
                left.text(column + 0.16, row, "close", va="center", fontsize=7, color="0.4")
    left.set_yticks(range(len(inits)), inits, fontsize=8)
    left.set_xticks(range(3), ["at home", "next body", "layer 0 given"], fontsize=8.5)
    left.set(xlim=(-0.5, 2.6), ylim=(len(inits) - 0.4, -0.6), ylabel="heads of layer 1 (seed)")
    tidy(left, "Strongest head at the end")
    heads = np.concatenate([strengths(results.sel(init=init)) for init in inits])
    bodies = np.array([[at_end(a).max(), at_end(b).max()] for a, b in by_body(results)])
    middle.plot(*heads.T, "o", color="#0072B2", ms=6, label="same heads, other body")
    middle.plot(*bodies.T, "s", color="#D55E00", mfc="none", ms=5, label="same body, other heads")
    middle.plot([0, 1], [0, 1], color=FAINT, lw=0.8, zorder=0)
    middle.set(xlim=(0, 1), ylim=(0, 1), xlabel="strongest head at home")
    middle.set_ylabel("strongest head after the exchange")
    middle.legend(frameon=False, fontsize=8, loc="upper left")
    tidy(middle, "How strong it becomes")
    for place, name in enumerate(n for n in ("home", "given") if n in cases_of(results)):
        each = [roles.worth(when_learned(case(results.sel(init=i), name))) for i in inits]
        strip(right, place, each, ("#0072B2", "#009E73")[place])
    right.set_xticks([0, 1], ["layer 0 learned", "layer 0 given"])
    right.set(xlim=(-0.6, 1.6), ylim=(0, 8), ylabel="heads' worth where the loss is 0.4 ln 2")
    tidy(right, "How many share")
    return figure


experiment = Experiment(
    name="transplants",
    title="Does the winning head come with the heads or with the body?",
    paper="ours",
    summary="Before training, the heads of layer 1 (queries, keys, values and outputs) of each "
    "network are put into the body (embeddings, layer 0, unembedding) of the next; all see the "
    "same data. Networks at home are trained a second time with the inputs that a perfect layer 0 "
    "would bring.",
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    trainings=(HOME, AWAY, GIVEN),
    seconds=lambda options: 8.0 * max(options.seeds, 3),
)
