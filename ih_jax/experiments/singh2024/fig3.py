"""Figure 3: the phase change of the loss, and the strength of every induction head behind it.

Paper: Singh et al. 2024, section 3.1 and fig. 3. Command: ih-jax run fig3. On 2 CPU cores: about 1
minute per seed (a million sequences; 100 checkpoints on 78,400 sequences each).
Expected: a plateau of the training loss at about ln 2 (a random label from the context), then a
sharp fall; several induction heads, of which the strongest at the end is the first to form.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    Reported,
    in_most,
    more_than,
    no_difference,
    of_networks,
    plateau,
    ratio,
    time_of,
    yes,
)
from ih_jax.claims.bounds import UNMEASURED
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import HEAD_COLOURS, chance, curves, over_sequences, strip, tidy
from ih_jax.experiments.looking import along, probe
from ih_jax.experiments.singh2024 import roles
from ih_jax.experiments.singh2024.known import (
    ACCURACY,
    ALL,
    RELABEL,
    STRENGTH,
    authors,
    time_in,
)
from ih_jax.experiments.singh2024.quantities import OF_HEADS
from ih_jax.experiments.singh2024.trainings import MAIN
from ih_jax.measures.heads import induction_strength

HALF_WAY = math.log(2) / 2  # nats: half of the loss on the plateau
SETS = {  # evaluation sets, as the figure calls and colours them
    "fsl_train": ("train", "#0072B2"),
    "fsl_test_class": ("test (exemplars)", "#D55E00"),
    "fsl_val_rl": ("test (relabel)", "#009E73"),
}


def measure(options: Options, found: Found) -> xr.Dataset:
    """Curves [init, sequences], on other sets [init, set, eval_sequences]; strength [..., head]."""
    main = found["main"]
    curves = main.results.sel(clamp="none", init=options.inits, drop=True)
    batch = probe(options)
    strength = along(main, induction_strength, batch, inits=options.inits)
    kept = ["loss", "accuracy", "in_context_accuracy", "eval_loss"]
    return xr.merge([curves[kept], strength.rename(induction_strength="strength")])


def has_plateau(one: xr.Dataset) -> bool | None:
    """Whether the loss of one network slows down and then speeds up (`claims.plateau`)."""
    shape = plateau(one["sequences"].values, one["loss"].values)
    return shape.seen


def by_context(one: xr.Dataset) -> float:
    """Accuracy among the two labels of the context where learning is slowest; NaN: no plateau."""
    shape = plateau(one["sequences"].values, one["loss"].values)
    if not shape.present:
        return math.nan
    return float(one["in_context_accuracy"].sel(sequences=shape.at, method="nearest"))


def final_strength(one: xr.Dataset) -> np.ndarray:
    """[head] at the last checkpoint."""
    strength = one["strength"]
    last = strength.isel(checkpoint=-1) if "checkpoint" in strength.dims else strength
    return np.asarray(last.values)


def heads_worth(one: xr.Dataset) -> float:
    """How many equally strong heads the strengths at the end are worth: (sum s)^2 / sum s^2."""
    return roles.worth(final_strength(one))


def _time_to(one: xr.Dataset, level: float) -> Bounds:
    return time_of(one["loss"], level)


def _emerges(one: xr.Dataset) -> Bounds:
    """Time at which the strongest head is half as strong as at the end, over that of the loss."""
    strength = one["strength"].isel(head=int(np.argmax(final_strength(one))))
    if strength.sizes.get("checkpoint", 0) < 2:
        raise KeyError("checkpoint")
    end, n = float(strength[-1]), strength["checkpoint"].values
    above = np.flatnonzero(strength.values > end / 2)
    if not len(above) or above[0] == 0:
        return UNMEASURED
    i = int(above[0])
    a, b = (float(strength[j]) for j in (i - 1, i))
    half = float(n[i - 1] + (end / 2 - a) / (b - a) * (n[i] - n[i - 1]))
    fall = _time_to(one, HALF_WAY)
    return ratio(Bounds(half, half), fall) if fall.high < math.inf else UNMEASURED


def strongest_half_way(one: xr.Dataset) -> bool | None:
    """Whether the strongest head at the end is so already when the loss is half-way down."""
    fall = _time_to(one, HALF_WAY)
    if fall.high == math.inf:
        return None
    then = one["strength"].sel(checkpoint=fall.low, method="nearest").values
    return int(np.argmax(then)) == int(np.argmax(final_strength(one)))


def _strongest(one: xr.Dataset) -> float:
    return float(final_strength(one).max())


def _relabelled_later(one: xr.Dataset) -> Bounds:
    """Time to learn held-out label pairs over that to learn training pairs."""
    late, early = (
        time_in(one, "eval_loss", "eval_sequences", set=name)
        for name in ("fsl_val_rl", "fsl_train")
    )
    return ratio(late, early) if early.high < math.inf else UNMEASURED


def _accuracy(one: xr.Dataset) -> float:
    values = np.atleast_1d(one["accuracy"].values)
    return float(values[np.isfinite(values)][-1])


CLAIMS = (
    Claim(
        "a plateau, then a phase change",
        "The training loss waits on a plateau and then falls suddenly.",
        in_most("plateau", of_networks(has_plateau), yes),
        paper="5 of 5 seeds",
        reported=Reported(share=(5, 5)),
        source="section 3.1, fig. 3a",
        estimand="share of networks whose speed of learning, -d ln(loss) / d sequences, falls and "
        "later rises to 3 times its minimum",
    ),
    Claim(
        "a random label of the context",
        "On the plateau the network picks one of the two labels of the context at random.",
        no_difference("accuracy", of_networks(by_context), 0.45, 0.55),
        paper="loss about ln 2",
        source="section 3.1, fig. 3a",
        estimand="accuracy among the two labels of the context where learning is slowest; within a "
        "twentieth of one half",
        primary_since="2026-11-26",
    ),
    Claim(
        "learned by a million sequences",
        "The loss is below 0.4 ln 2 before the end of training.",
        in_most(
            "thousands of sequences",
            of_networks(lambda one: _in_thousands(time_in(one, "loss"))),
            lambda time: True if time.high < math.inf else None,
            form="{:.0f}".format,
        ),
        paper="275k, 340k, 285k, 405k, 525k",
        reported=Reported(values=tuple(ALL / 1000)),
        source="section 3.1, fig. 3a",
        estimand="time to a training loss of 0.4 ln 2",
        primary=False,
    ),
    Claim(
        "hardly a mistake at the end",
        "At the end the task is solved.",
        no_difference("accuracy", of_networks(_accuracy), 0.99, 1.0, "{:.4f}".format),
        paper=".9976 to .99999",
        reported=Reported(values=tuple(ACCURACY)),
        source="section 3.1, fig. 3a",
        estimand="accuracy after a million sequences; within a hundredth of 1",
        primary=False,
    ),
    Claim(
        "several induction heads",
        "More than one head of layer 1 becomes an induction head.",
        in_most("heads' worth", of_networks(heads_worth), more_than(2)),
        paper="5.1 to 7.2",
        reported=Reported(values=tuple(s.sum() ** 2 / np.sum(s**2) for s in STRENGTH)),
        source="section 3.1, fig. 3b",
        estimand="(sum s)^2 / sum s^2 of the eight strengths s at the end, which is k for k equal "
        "heads; more than that of two",
    ),
    Claim(
        "they emerge with the phase change",
        "Induction heads emerge when the loss falls.",
        no_difference("quotient of times", of_networks(_emerges), 2 / 3, 3 / 2),
        paper="1.08, .95, .98, 1.03, 1.08",
        reported=Reported(values=(1.08, 0.95, 0.98, 1.03, 1.08)),
        source="section 3.1, fig. 3",
        estimand="time at which the strongest head has half its final strength, over that at which "
        "the loss is half of ln 2; within a factor of 1.5",
    ),
    Claim(
        "a strong head",
        "The strongest head mostly attends to the right label.",
        in_most("strength", of_networks(_strongest), more_than(0.5)),
        paper=".85, .89, .91, .80, .82",
        reported=Reported(values=tuple(STRENGTH.max(1))),
        source="section 3.1, fig. 3b",
        estimand="strength of the strongest head at the end; above one half, three quarters of its "
        "attention to labels go to the right one",
        primary=False,
    ),
    Claim(
        "the strongest is so from the start",
        "Heads differ in when and how strongly they emerge; the strongest at the end leads already "
        "half-way through the phase change (at equal loss).",
        in_most("strongest half-way", of_networks(strongest_half_way), yes),
        paper="5 of 5 seeds",
        reported=Reported(share=(5, 5)),
        source="section 3.1, fig. 3b",
        estimand="whether the same head is strongest at the end and where the loss is half of ln 2",
        primary_since="2026-11-26",
    ),
    Claim(
        "held-out label pairs come later",
        "The loss on held-out label pairs falls later than that on training pairs.",
        in_most("quotient of times", of_networks(_relabelled_later), more_than(1)),
        paper="1.13 to 1.32",
        reported=Reported(values=tuple(RELABEL / ALL)),
        source="section 3.1, fig. 3a",
        estimand="times to a loss of 0.4 ln 2",
        primary_since="2026-11-26",
    ),
)


def _in_thousands(time: Bounds) -> Bounds:
    return Bounds(time.low / 1000, time.high / 1000)


def tables(results: xr.Dataset) -> list[Table]:
    """Strengths at the end by rank, over networks, beside the paper's."""
    each = [final_strength(results.sel(init=seed)) for seed in results["init"].values.tolist()]
    ours, theirs = (np.sort(values, axis=1)[:, ::-1] for values in (np.array(each), STRENGTH))
    rows = []
    for rank in range(ours.shape[1]):
        least, low, middle, high, most = np.quantile(ours[:, rank], [0, 0.25, 0.5, 0.75, 1])
        quartiles, span = f"{low:.2f} to {high:.2f}", f"{least:.2f} to {most:.2f}"
        paper = f"{np.median(theirs[:, rank]):.2f}" if rank < theirs.shape[1] else ""
        rows.append([str(rank + 1), paper, f"{middle:.2f}", quartiles, span])
    header = ("rank", "paper, median of 5", "ours, median", "quartiles", "range")
    return [Table("Strength of heads of layer 1 at the end, by rank", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Losses; strengths at the end by rank, of every network; the heads of the first three."""
    seeds = results["init"].values.tolist()
    shown = seeds[:3]
    figure = Figure(figsize=(8.4 + 2.5 * len(shown), 3.6), layout="constrained")
    panels = figure.subplots(1, 2 + len(shown), width_ratios=[1.6, 1.4, *(1 for _ in shown)])
    axes = panels[0]
    for name, (label, colour) in SETS.items():
        if name == "fsl_train":
            curves(axes, results["loss"], colour, label)
        elif name in results["set"].values:
            other = results["eval_loss"].sel(set=name, drop=True)
            curves(axes, other.rename(eval_sequences="sequences"), colour, label)
    chance(axes)
    axes.set(ylim=(0, 2.1), xlim=(0, float(results["sequences"][-1])), ylabel="loss (nats)")
    over_sequences(axes)
    axes.legend(frameon=False, fontsize=8.5)
    tidy(axes, "a  Losses: every network, medians bold")
    ranks = np.array([np.sort(final_strength(results.sel(init=seed)))[::-1] for seed in seeds])
    theirs = np.sort(STRENGTH, axis=1)[:, ::-1]
    for rank in range(ranks.shape[1]):
        paper = theirs[:, rank] if rank < theirs.shape[1] else ()
        strip(panels[1], rank + 1, ranks[:, rank], "#0072B2", paper)
    panels[1].set(ylim=(-0.1, 1), xlabel="rank among the heads of layer 1")
    tidy(panels[1], "b  Strength at the end (diamonds: paper)")
    for axes, seed in zip(panels[2:], shown, strict=True):
        for head in results["head"].values.tolist():
            values = results["strength"].sel(init=seed, head=head)
            axes.plot(
                values["checkpoint"], values, color=HEAD_COLOURS[head], lw=1.6, label=f"head {head}"
            )
        axes.set(ylim=(-0.1, 1), xlim=(0, float(results["checkpoint"][-1])))
        over_sequences(axes)
        tidy(axes, f"{'c  Strength, ' if seed == shown[0] else ''}network {seed}")
        if seed != shown[0]:
            axes.set_yticklabels([])
    panels[2].legend(frameon=False, fontsize=7, ncols=1, handlelength=1.2, labelspacing=0.2)
    return figure


experiment = Experiment(
    name="fig3",
    title="The phase change, and the induction heads behind it",
    paper="Singh et al. 2024, section 3.1, fig. 3",
    summary="A two-layer network with all heads free. The loss sits on a plateau where the network "
    "picks one of the two labels in the context at random, and then falls. Strength: attention of "
    "the query to right labels less that to wrong ones, mean over all training sequences.",
    differs="Networks differ in how much of a specialist their strongest head is (median strength "
    "of the paper's five .85). On Omniglot's features about one in ten, of the authors' code too, "
    "has no head above .5.",
    authors=lambda: authors("fig3"),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    quantities=OF_HEADS,
    trainings=(MAIN,),
    seconds=lambda options: (6.0 if options.quick else 45.0) * max(options.seeds, 3) / 3,
)
