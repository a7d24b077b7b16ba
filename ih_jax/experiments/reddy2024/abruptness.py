"""Why in-context learning comes abruptly: progress measures, spare labels, minimal models, clamps.

Paper: Reddy 2024, section 3, figs. 3 to 6. Command: ih-jax run reddy-abruptness. On 2 CPU cores:
about 3 minutes for two seeds (8 networks a seed, 20,000 sequences each, of which 6 are those of
reddy-phase-diagram), and 2 seconds for the minimal models.
Expected: attention to the item before a label and to labels of the query's class come with the
accuracy on new classes; with as many labels as pairs it all comes later, in networks and in the
model of three nested logits alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ih_jax.claims import (
    Bounds,
    Claim,
    at_least,
    below,
    exactly,
    first_at,
    in_most,
    more_than,
    of_networks,
    ratio,
)
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import HEAD_COLOURS, curves, over_sequences, tidy
from ih_jax.experiments.reddy2024 import minimal
from ih_jax.experiments.reddy2024.progress import OBJECTIVES, label_loss, progress
from ih_jax.experiments.reddy2024.trainings import (
    BETWEEN,
    GIVEN,
    GRID,
    MANY,
    NO_SPARE_LABELS,
    SETTING,
)
from ih_jax.measures.alignment import gradient_alignment
from ih_jax.measures.probes import of_sets
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.gaussian import SETS

SEQUENCES = 500  # of each evaluation set
UNTIL = 250.0  # of the minimal model's time
NAMES = ("many classes", "between", "between, given", "no spare labels")


def measure(options: Options, found: Found) -> xr.Dataset:
    """Progress over training, gradients' alignment, and the flows of the minimal models.

    Progress [network, init, checkpoint], accuracy [..., asked]; cosine and change [init, looked]
    with 64 classes; flow_* [spare, time].
    """
    where = {
        "many classes": ("reddy_grid", {"classes": MANY, "burst": 1}),
        "between": ("reddy_grid", {"classes": BETWEEN, "burst": 1}),
        "between, given": ("reddy_given", {}),
        "no spare labels": ("reddy_no_spare_labels", {}),
    }
    each = []
    for training, cell in where.values():
        trained = found[training]
        seen = trained.measure(progress, of_sets(tuple(SETS), SEQUENCES), runs=_runs(trained, cell))
        assert isinstance(seen, xr.Dataset)
        each.append(seen.isel(clamp=0, drop=True).sel(cell, drop=True))
    labels = xr.DataArray(list(where), dims="network", name="network")
    results = xr.concat(each, labels).rename(sequences="checkpoint")
    trained = found["reddy_grid"]
    runs = _runs(trained, where["between"][1])
    measured = trained.measure(
        gradient_alignment(OBJECTIVES, trained.study.runs[0].config, label_loss),
        of_sets(OBJECTIVES, SEQUENCES),
        runs=runs,
        steps=trained.steps(runs[0])[::4],
    )
    assert isinstance(measured, xr.Dataset)
    pair = measured.isel(clamp=0, drop=True).sel(where["between"][1], drop=True)
    pair = pair.rename(sequences="looked")
    icl, iwl = OBJECTIVES
    results["cosine"] = pair["cosine"].sel(objective=icl, other=iwl, drop=True)
    results["icl_after_iwl"] = pair["change"].sel(objective=icl, other=iwl, drop=True)
    results["iwl_after_icl"] = pair["change"].sel(objective=iwl, other=icl, drop=True)
    return results.merge(_flows())


def _runs(trained: Trajectories, cell: dict[str, int]) -> list[int]:
    """The runs of one cell of a study."""
    return [
        run.index
        for run in trained.study.runs
        if all(run.names[axis] == label for axis, label in cell.items())
    ]


def _flows() -> xr.Dataset:
    """The nested logits with spare labels and without, and the head of two parameters."""
    pairs, labels = SETTING["pairs"], SETTING["labels"]
    each = {
        "spare labels": minimal.flow(pairs, labels, UNTIL),
        "no spare labels": minimal.flow(pairs, pairs, UNTIL),
        "copying given": minimal.flow(pairs, labels, UNTIL, (0.01, 0.01, 8.0), ("xi",)),
    }
    kinds = xr.DataArray(list(each), dims="flow", name="flow")
    return xr.concat(each.values(), kinds).rename(loss="flow_loss", attention="flow_attention")


def time_to_share(one: xr.Dataset, network: str, what: str, share: float) -> Bounds:
    """Sequences until a curve has gone this share of the way from its first to its last value."""
    curve = _curve(one.sel(network=network), what)
    x = one["checkpoint"].values
    way = (curve - curve[0]) / (curve[-1] - curve[0])
    return first_at(x, way >= share)


def time_to_half(one: xr.Dataset, network: str, labels: int) -> Bounds:
    """Sequences until accuracy on new classes is half-way from chance to 1."""
    curve = _curve(one.sel(network=network), "icl")
    return first_at(one["checkpoint"].values, curve >= (1 + 1 / labels) / 2)


def _curve(one: xr.Dataset, what: str) -> np.ndarray:
    return (one["accuracy"].sel(asked=what) if what in SETS else one[what]).values


def at_once(one: xr.Dataset) -> float:
    """How long from a quarter to three quarters of the rise, over how long to a quarter."""
    first, last = (time_to_share(one, "many classes", "icl", share) for share in (0.25, 0.75))
    # By the looks at which it is seen: both times are known to one look.
    return (last.high - first.high) / first.high


def later_without_spare(one: xr.Dataset) -> Bounds:
    """Time to half-way with as many labels as pairs, over that with spare ones."""
    return ratio(
        time_to_half(one, "no spare labels", SETTING["pairs"]),
        time_to_half(one, "many classes", SETTING["labels"]),
    )


def before(what: str) -> Callable[[xr.Dataset], float]:
    """How much sooner a progress measure is half-way than the accuracy on new classes."""

    def of(one: xr.Dataset) -> float:
        own = time_to_share(one, "many classes", what, 0.5).high
        return time_to_share(one, "many classes", "icl", 0.5).high - own

    return of


def given_more(one: xr.Dataset) -> float:
    """Accuracy on new classes at the end with the previous token given, less without."""
    last = one["accuracy"].sel(asked="icl").isel(checkpoint=-1)
    return float(last.sel(network="between, given") - last.sel(network="between"))


def opposed(one: xr.Dataset) -> float:
    """The gradients' mean cosine over the second half of training, all weights."""
    cosine = one["cosine"].sel(group="all")
    return float(cosine.isel(looked=slice(cosine.sizes["looked"] // 2, None)).mean())


def flow_later(results: xr.Dataset) -> Bounds:
    """In the minimal model: time to half attention without spare labels over with."""

    def half(flow: str) -> Bounds:
        curve = results["flow_attention"].sel(flow=flow).values
        return first_at(results["time"].values, curve > 0.5)

    return ratio(half("no spare labels"), half("spare labels"))


SOURCE = "section 3"
CLAIMS = (
    Claim(
        "abrupt",
        "In-context learning comes abruptly: it rises in less time than it waits.",
        in_most("rise over wait", of_networks(at_once), below(1)),
        source="section 3, figs. 1d and 3a",
        estimand="sequences from a quarter to three quarters of the rise of accuracy on classes "
        "never seen, over sequences to a quarter; 1 is where waiting and rising take as long",
    ),
    Claim(
        "spare labels",
        "With as many labels as pairs, in-context learning comes later than with more labels.",
        in_most("times as long", of_networks(later_without_spare), more_than(1)),
        source="section 3, fig. A.5",
        estimand="sequences to half-way from chance to 1 on classes never seen, 4 labels over 8, "
        "512 classes",
    ),
    Claim(
        "previous token first",
        "The first layer's attention to the token before rises no later than in-context accuracy.",
        in_most("sequences sooner", of_networks(before("previous")), at_least(0)),
        source="section 3, fig. 4",
        estimand="sequences by which the measure is half-way of its rise before the accuracy is",
        primary=False,
    ),
    Claim(
        "match first",
        "The second layer's attention to the right label rises no later than in-context accuracy.",
        in_most("sequences sooner", of_networks(before("match")), at_least(0)),
        source="section 3, fig. 4",
        estimand="sequences by which the measure is half-way of its rise before the accuracy is",
        primary=False,
    ),
    Claim(
        "spare labels in the minimal model",
        "The three nested logits wait longer at the start where there are no spare labels.",
        exactly("times as long", flow_later, more_than(1)),
        source="section 3, fig. A.4",
        estimand="time of gradient flow to half the attention on the right label, 4 labels over 8, "
        "4 pairs; equations of `reddy2024.minimal`",
    ),
    Claim(
        "previous token given",
        "Given its previous-token head, a network with 64 classes learns more in context.",
        in_most("accuracy, more", of_networks(given_more), more_than(0)),
        estimand="accuracy on classes never seen at the end, with the clamp less without",
        kind="hypothesis",
    ),
    Claim(
        "objectives oppose",
        "With 64 classes, what helps on new classes hurts where the class is not in the context.",
        in_most("cosine", of_networks(opposed), below(0)),
        estimand="cosine of the two losses' gradients over all weights, mean over the second half "
        "of training",
        kind="hypothesis",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """When each curve is half-way, and how the two objectives act on each group of weights."""
    curves_of = ("icl", "previous", "to_labels", "match")
    rows = []
    for name in NAMES:
        times = [
            [time_to_share(results.sel(init=i), name, what, 0.5).high for i in results["init"]]
            for what in curves_of
        ]
        last = results["accuracy"].sel(network=name).isel(checkpoint=-1).median("init")
        rows.append(
            (
                name,
                *(_thousands(float(np.median(each))) for each in times),
                *(f"{float(last.sel(asked=which)):.2f}" for which in ("icl", "iwl")),
            )
        )
    half = results["cosine"].sizes["looked"] // 2
    cosine = results["cosine"].isel(looked=slice(half, None)).mean("looked").median("init")
    groups = [str(group) for group in cosine["group"].values]
    return [
        Table(
            "Sequences until half of the rise (median over networks), and accuracy at the end",
            ("network", *curves_of, "icl at the end", "iwl at the end"),
            rows,
        ),
        Table(
            "Cosine of the gradients of icl and iwl, 64 classes, second half of training",
            groups,
            [[f"{float(cosine.sel(group=group)):.2f}" for group in groups]],
        ),
    ]


def _thousands(sequences: float) -> str:
    return f"{sequences / 1000:.0f}k" if np.isfinite(sequences) else "held"


def draw(results: xr.Dataset) -> Figure:
    """Accuracies, progress measures, the minimal models, and the alignment of gradients."""
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    ((left, middle), (right, last)) = figure.subplots(2, 2)
    icl = results["accuracy"].sel(asked="icl")
    for name, colour in zip(NAMES, HEAD_COLOURS, strict=False):
        curves(left, icl.sel(network=name, drop=True).drop_vars("asked"), colour, name)
    left.set(ylabel="accuracy on new classes", ylim=(0, 1.02))
    tidy(left, "In-context learning")
    many = results.sel(network="many classes")
    for what, colour in zip(("previous", "to_labels", "match"), HEAD_COLOURS, strict=False):
        curves(middle, many[what], colour, what.replace("_", " "))
    middle.set(ylabel="attention", ylim=(0, 1.02))
    tidy(middle, "Progress measures, many classes")
    for flow, colour in zip(results["flow"].values, HEAD_COLOURS, strict=False):
        right.plot(
            results["time"], results["flow_attention"].sel(flow=flow), color=colour, label=flow
        )
    right.set(xlabel="time of gradient flow", ylabel="attention to the right label")
    tidy(right, "Three nested logits; two where copying is given")
    for group, colour in zip(("all", "layer 1 QK", "layer 1 OV"), HEAD_COLOURS, strict=False):
        own = results["cosine"].sel(group=group).drop_vars("group")
        curves(last, own, colour, group)
    last.axhline(0, lw=0.8, color="0.7", zorder=0)
    last.set(ylabel="cosine of gradients, icl and iwl", ylim=(-1, 1))
    tidy(last, f"Two objectives on the same weights, {BETWEEN} classes")
    for axes in (left, middle, last):
        over_sequences(axes)
    for axes in (left, middle, right, last):
        axes.legend(frameon=False, fontsize=9)
    return figure


experiment = Experiment(
    name="reddy-abruptness",
    title="In-context learning comes abruptly, by nested logits",
    paper="Reddy 2024, section 3, figs. 3 to 6, A.4, A.5",
    summary="An induction head is a chain: a label must find its item, the query the label, and "
    "the classifier must trust what was found. Progress of each link is followed in networks; "
    "three nested logits that descend the same loss are integrated beside them.",
    trainings=(GRID, NO_SPARE_LABELS, GIVEN),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs="The setting is that of reddy-phase-diagram. The equations of the minimal model are "
    "derived here from the paper's description; its own may be arranged otherwise. Accuracy on new "
    "classes rises in two steps here, as the figure shows: slowly to about .4 with attention to "
    "labels at all, which is guessing among those of the context, and then with the previous-token "
    "head and the match. Counted from chance to the end, the rise is therefore no abrupt one, and "
    "is half-way before either of them. With as many labels as pairs guessing among them is "
    "chance, and the wait that the minimal model shows is not seen.",
    seconds=lambda options: 40.0,
)
