"""Which heads carry in-context learning? Heads removed along training, one by one and together.

Paper: Olsson et al. 2022, argument 3. Command: ih-jax run olsson-ablations (networks of
olsson-phase-change). Removal is pattern-preserving unless said otherwise. Expected: removing an
induction head moves the in-context learning score towards 0 and the per-token losses back against
the direction of the phase change; removing others does little, or the opposite.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ih_jax.claims import (
    Claim,
    below,
    correlation,
    in_most,
    more_than,
    pooled,
)
from ih_jax.claims import phase_change as changes
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Tokens
from ih_jax.experiments.base import Experiment, Found, Options, Table
from ih_jax.experiments.drawing import FAINT, HEAD_COLOURS, over_sequences, tidy
from ih_jax.experiments.olsson2022 import models
from ih_jax.experiments.olsson2022.models import INDUCTION, Model, of_models
from ih_jax.experiments.olsson2022.trainings import DEPTHS, SMEARED
from ih_jax.measures import context, heads, removal
from ih_jax.model.params import Params
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.language import Language

EXAMPLES, QUICK_EXAMPLES = 250, 200
EVERY, QUICK_EVERY = 8, 10  # of the checkpoints
PREVIOUS = 0.5  # attention to the previous token from which on a head is called one for it


def measure(options: Options, found: Found) -> xr.Dataset:
    """What removal of each head does over training, and of all induction heads at the end."""
    own = {}
    for model in models.every(found):
        own[model.name] = _of_model(options, found[model.training], model)
    results = models.curves(found, models.every(found), curve="in_context_score")
    return results.merge(models.side_by_side(own))


def _of_model(options: Options, trained: Trajectories, model: Model) -> xr.Dataset:
    task = trained.study.runs[0].task
    assert isinstance(task, Language)
    early, late = task.positions()
    count = QUICK_EXAMPLES if options.quick else EXAMPLES
    batch = models.sample(trained, count)
    at = context.random_positions(count, batch.positions)
    steps = models.steps_of(trained, model, QUICK_EVERY if options.quick else EVERY)
    alone = removal.ablation_losses(at, early, late, "patterns")
    change = models.measured(trained, model, alone, batch, steps)
    before_after = _directions(trained, model, batch, at)
    results = xr.Dataset(
        {
            "score": change["score"],
            "loss": change["loss"],
            "projection": change["vector"].dot(before_after, dim="example"),
        }
    )
    end = steps[-1:]
    full = models.measured(
        trained, model, removal.ablation_losses(at, early, late, "full"), batch, end
    )
    results["full_score"] = full["score"].isel(checkpoint=0, drop=True)
    seen = models.measured(
        trained,
        model,
        models.head_scores,
        batch,
        end,
    )
    results = results.merge(seen.isel(checkpoint=0, drop=True))
    losses = models.measured(trained, model, context.loss_by_token, batch, end)
    scores = context.in_context_scores(losses["loss_by_token"].values[:, 0], [(early, late)])
    results["whole"] = ("init", scores[..., 0])
    kinds: tuple[removal.Kind, ...] = ("patterns", "full")
    for kind in kinds:
        joint = models.measured(
            trained,
            model,
            removal.joint_ablation_losses(_induction, at, early, late, kind),
            batch,
            end,
        )
        results[f"joint_{kind}"] = joint["score"].isel(checkpoint=0, drop=True)
    return results


def _induction(params: Params, clamp: Holds, batch: Tokens) -> Array:
    """[L, H]: whether a head is an induction head."""
    return heads.prefix_matching()(params, clamp, batch) >= INDUCTION


def _directions(trained: Trajectories, model: Model, batch: Tokens, at: np.ndarray) -> xr.DataArray:
    """[init, example]: the unit vector from before the window to after it; NaN without a window."""
    curve = models.curves_of(trained, model, "in_context_score")
    steps = models.steps_of(trained, model)
    seen = np.array(steps) * trained.study.unit
    found = []
    for init in curve["init"].values:
        window = changes.phase_change(curve.sel(init=init).values, curve["tokens"].values)
        if window is None:
            found.append(np.full(len(at), np.nan))
            continue
        ends = [steps[int(np.abs(seen - each).argmin())] for each in (window.start, window.end)]
        vectors = models.measured(trained, model, context.per_token_losses(at), batch, ends)
        before, after = vectors["per_token_losses"].sel(init=init).values
        found.append((after - before) / np.linalg.norm(after - before))
    return xr.DataArray(np.stack(found), dims=("init", "example"), coords={"init": curve["init"]})


# --- what claims read ---------------------------------------------------------------------------


def names_of(results: xr.Dataset, mlp: bool) -> list[str]:
    """Models of two layers or more, with or without MLPs, without smeared keys."""
    every = [str(name) for name in results["model"].values]
    deep = [n for n in every if not n.startswith("1L") and "smeared" not in n]
    return [n for n in deep if ("MLP" in n) is mlp]


def _end(seed: xr.Dataset, name: str) -> tuple[np.ndarray, ...]:
    """Of every head at the end: score and projection, prefix matching, previous token."""
    own = seed.sel(model=name).isel(checkpoint=-1)
    flat = [
        own[each].values.ravel()
        for each in ("score", "projection", "prefix_matching", "previous_token")
    ]
    there = np.isfinite(flat[2])
    return tuple(each[there] for each in flat)


def _whole(seed: xr.Dataset, name: str) -> float:
    return float(seed["whole"].sel(model=name))


def _removed(kind: str) -> Callable[[xr.Dataset, str], float]:
    """Share of a network's score that goes with all induction heads."""

    def value(seed: xr.Dataset, name: str) -> float:
        return float(seed[f"joint_{kind}"].sel(model=name)) / -models.enough(_whole(seed, name))

    return value


def _shares(seed: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every head at the end: share of the score lost with it, and both its scores."""
    score, _, prefix, previous = _end(seed, name)
    return score / -models.enough(_whole(seed, name)), prefix, previous


def _matching_and_share(seed: xr.Dataset, name: str) -> np.ndarray:
    share, prefix, _ = _shares(seed, name)
    return np.stack([prefix, share], axis=1)


def _stand_out(seed: xr.Dataset, name: str) -> float:
    """Largest share lost with an induction head, less that with a head of neither kind."""
    share, prefix, previous = _shares(seed, name)
    others = (prefix < INDUCTION) & (previous < PREVIOUS)
    if not (prefix >= INDUCTION).any() or not others.any():
        return float("nan")
    return float(share[prefix >= INDUCTION].max() - share[others].max())


def _back(seed: xr.Dataset, name: str) -> float:
    """Mean projection of the induction heads, nats."""
    _, projection, prefix, _ = _end(seed, name)
    found = projection[(prefix >= INDUCTION) & np.isfinite(projection)]
    return float(found.mean()) if found.size else float("nan")


def _furthest(seed: xr.Dataset, name: str) -> float:
    """Prefix matching of the head whose removal goes furthest back."""
    _, projection, prefix, _ = _end(seed, name)
    known = np.isfinite(projection).all()
    return float(prefix[int(np.argmin(projection))]) if known else float("nan")


def _strengthened(seed: xr.Dataset, name: str) -> float:
    """Share of the heads of neither kind whose removal strengthens the score."""
    share, prefix, previous = _shares(seed, name)
    found = share[(prefix < INDUCTION) & (previous < PREVIOUS)]
    return float(np.mean(found < 0)) if np.isfinite(found).any() else float("nan")


def _before(seed: xr.Dataset, name: str) -> float:
    """Largest effect of a head before the window, over the largest at the end."""
    window = models.window_of(seed, name, "curve")
    if window is None:
        return float("nan")
    score = abs(seed["score"].sel(model=name))
    before = score.where(score["checkpoint"] <= window.start, drop=True)
    return float(before.max() / score.isel(checkpoint=-1).max())


def peak(seed: xr.Dataset, name: str) -> float:
    """The largest effect on the score, over the sum of all that serve it."""
    score = _end(seed, name)[0]
    served = score[score > 0]
    return float(served.max() / served.sum()) if served.size else float("nan")


def matters(seed: xr.Dataset, name: str) -> int:
    """Heads that take a tenth of the score with them and are not induction heads."""
    score, _, prefix, _ = _end(seed, name)
    share = score / -_whole(seed, name)
    return int(((share >= 0.1) & (prefix < INDUCTION)).sum())


def _attention_only(results: xr.Dataset) -> list[str]:
    return names_of(results, mlp=False)


def _with_mlps(results: xr.Dataset) -> list[str]:
    return names_of(results, mlp=True)


def _all(results: xr.Dataset) -> list[str]:
    return [*names_of(results, mlp=False), *names_of(results, mlp=True)]


SOURCE = "argument 3 (direct ablation)"
CLAIMS = (
    Claim(
        "induction heads carry it: attention only",
        "In small attention-only models induction heads account for most of in-context learning.",
        in_most("share", of_models(_attention_only, _removed("patterns")), more_than(0.5)),
        paper="almost all of it",
        source=SOURCE,
        estimand="share of a network's score that is lost with all heads of prefix matching above "
        "0.5, patterns preserved, above one half; over networks (model and seed)",
        grade="strong",
    ),
    Claim(
        "the same, all recomputed",
        "So with full removal.",
        in_most("share", of_models(_attention_only, _removed("full")), more_than(0.5)),
        paper="almost all of it",
        source=SOURCE,
        estimand="the same, with everything after the heads computed anew",
        primary=False,
        grade="strong",
    ),
    Claim(
        "induction heads carry it: with MLPs",
        "In small models with MLPs they account for the majority of it.",
        in_most("share", of_models(_with_mlps, _removed("patterns")), more_than(0.5)),
        paper="the majority",
        source=SOURCE,
        estimand="the same share, of models with MLPs",
        grade="medium",
    ),
    Claim(
        "the more it matches, the more it carries",
        "It is the heads that match prefixes whose removal costs in-context learning.",
        pooled(
            "rank correlation",
            of_models(_attention_only, _matching_and_share),
            correlation(ranks=True),
        ),
        paper="induction heads stand out",
        source=SOURCE,
        estimand="rank correlation of prefix matching with the share of the score lost with a "
        "head, over all heads of attention-only networks",
        primary=False,
        grade="strong",
    ),
    Claim(
        "others do not",
        "No other head costs as much as an induction head.",
        in_most("difference", of_models(_attention_only, _stand_out), more_than(0)),
        paper="about 0",
        source=SOURCE,
        estimand="largest share of the score lost with a head of prefix matching above 0.5, less "
        "the largest with one that has neither that nor previous-token attention above 0.5",
        grade="strong",
    ),
    Claim(
        "back along the change",
        "Removing an induction head undoes the change of per-token losses in the window.",
        in_most("nats", of_models(_all, _back), below(0)),
        paper="strongly negative",
        source=f"{SOURCE}: before-and-after vector",
        estimand="mean projection, over a network's induction heads, of what removal does to "
        "per-token losses on the direction of the change",
        grade="strong",
    ),
    Claim(
        "furthest back",
        "The head whose removal goes furthest back is an induction head.",
        in_most("prefix matching", of_models(_all, _furthest), more_than(0.5)),
        paper="induction heads stand out",
        source=f"{SOURCE}: before-and-after vector",
        estimand="prefix matching of the head of most negative projection, above 0.5",
        primary=False,
        grade="strong",
    ),
    Claim(
        "the opposite sign",
        "Removing one of most other heads strengthens in-context learning a little.",
        in_most("share of other heads", of_models(_all, _strengthened), more_than(0.5)),
        paper="most other heads slightly",
        source=SOURCE,
        estimand="share, of a network's heads of neither kind, of those whose removal makes the "
        "score more negative, above one half",
        grade="medium",
    ),
    Claim(
        "not before the window",
        "Heads come to matter in the window.",
        in_most("before / end", of_models(_all, _before), below(0.5)),
        paper="effects appear in the window",
        source=SOURCE,
        estimand="largest effect of a head on a network's score before its window, over the "
        "largest at the end, below one half",
        primary=False,
        grade="strong",
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """By model: how peaked effects are, and heads that matter without being induction heads."""
    rows = []
    for name in (str(each) for each in results["model"].values):
        seeds = [results.sel(init=s) for s in results["init"].values]
        whole = np.array([float(s["whole"].sel(model=name)) for s in seeds])
        joint = np.array([float(s["joint_patterns"].sel(model=name)) for s in seeds])
        full = np.array([float(s["joint_full"].sel(model=name)) for s in seeds])
        count = [int((s["prefix_matching"].sel(model=name) >= INDUCTION).sum()) for s in seeds]
        rows.append(
            (
                name,
                f"{np.median(whole):.2f}",
                f"{np.median(count):.0f}",
                f"{np.median(joint / -whole):.2f}",
                f"{np.median(full / -whole):.2f}",
                f"{np.median([peak(s, name) for s in seeds]):.2f}",
                f"{np.median([matters(s, name) for s in seeds]):.0f}",
            )
        )
    header = (
        "model",
        "score (nats)",
        "induction heads",
        "share removed with them, patterns kept",
        "fully",
        "largest effect / all",
        "other heads that matter",
    )
    return [Table("At the end, medians over seeds", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Effects of every head over training, first seed: on the score, and along the change."""
    wanted = ("2L", "3L", "6L", "2L MLP", "3L MLP", "6L MLP", "1L smeared", "2L smeared")
    names = [name for name in wanted if name in results["model"].values]
    figure = Figure(figsize=(3.1 * len(names), 6.4), layout="constrained")
    rows = figure.subplots(2, len(names), squeeze=False, sharex=True)
    seed = results.isel(init=0)
    for column, name in enumerate(names):
        for axes, what in zip(rows[:, column], ("score", "projection"), strict=True):
            _effects(axes, seed.sel(model=name), what)
        tidy(rows[0, column], name)
        tidy(rows[1, column])
        over_sequences(rows[1, column], "tokens seen")
    rows[0, 0].set_ylabel("change of the in-context score (nats)\nwhen a head is removed")
    rows[1, 0].set_ylabel("change along the before-and-after vector\n(nats)")
    marks = [
        ("induction head", HEAD_COLOURS[3]),
        ("previous-token head", HEAD_COLOURS[2]),
        ("other", FAINT),
    ]
    for label, colour in marks:
        rows[0, 0].plot([], [], color=colour, label=label)
    rows[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _effects(axes: Axes, own: xr.Dataset, what: str) -> None:
    axes.axhline(0, color=FAINT, lw=0.8, zorder=0)
    for layer, head in np.ndindex(own.sizes["layer"], own.sizes["head"]):
        one = own.isel(layer=layer, head=head)
        if not np.isfinite(one["prefix_matching"]):
            continue
        colour, width = FAINT, 0.8
        if one["previous_token"] >= PREVIOUS:
            colour, width = HEAD_COLOURS[2], 1.2
        if one["prefix_matching"] >= INDUCTION:
            colour, width = HEAD_COLOURS[3], 1.6
        axes.plot(
            one["checkpoint"].values,
            one[what].values,
            color=colour,
            lw=width,
            zorder=2 if colour != FAINT else 1,
        )


experiment = Experiment(
    name="olsson-ablations",
    title="Which heads carry in-context learning",
    paper="Olsson et al. 2022, argument 3",
    summary="Every head of every model is removed, one at a time, at checkpoints along training; "
    "at the end all induction heads (prefix matching of 0.5 or more) are removed together.",
    differs="Induction heads together carry nearly all of the score in models of two to four "
    "layers (93% to 102%, medians; 57% to 74% with six), but in every model three or four heads "
    "that are neither induction nor previous-token heads matter as much as single induction heads "
    "do: a tenth of the score to two thirds. All but five of these 91 (in the six models looked "
    "at) stand in layer 0, where patterns are kept and only what they write is lost, so they are "
    "something that induction heads or the logits read; what exactly was not examined. The paper's "
    "large models have such heads too, but few. In a language whose bigrams are half global, a "
    "head may well prepare both. For the same reason fewer than half of the other heads have the "
    "opposite sign, and heads of layer 0 have effects before the window.",
    trainings=(DEPTHS, SMEARED),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    seconds=lambda options: 60.0 if options.quick else 300.0 * options.seeds,
)
