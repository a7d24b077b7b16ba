"""Few tasks are remembered, many are not: linear regression in context beside its best predictors.

Papers: Garg et al. 2022 (2208.01066), Raventos et al. 2023 (2306.15063), fig. 2. Command: ih-jax
run garg-diversity. On 2 CPU cores: about 2 minutes for two seeds (4 networks a seed, 60,000
sequences each).
Expected: trained on 4 tasks a network answers as Bayes would for these 4; trained on tasks without
end as ridge does, and so for tasks that it never saw.

In the papers 8 dimensions and 16 examples, networks of 8 layers and 128 dimensions, millions of
sequences. Here 2 dimensions, 6 examples, 2 layers of 32 dimensions. In 2 dimensions Bayes' answer
for a set of 64 tasks is nearly ridge's, so that what Raventos et al. call non-Bayesian (ridge where
Bayes would still remember the set) cannot be told from it here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import ih_jax as ih
from ih_jax.claims import Claim, below, in_most, more_than, of_networks, yes
from ih_jax.experiments.base import Experiment, Found, Options, Table, Training
from ih_jax.experiments.drawing import tidy
from ih_jax.measures.regression import against_the_best, with_answers

SEQUENCES = 60_000
TASKS = (4, 16, 64, 0)  # 0: each sequence has a task of its own
FEW, ENDLESS = TASKS[0], TASKS[-1]
PROBED = 2000  # sequences of a probe
COLOURS = {"network": "#000000", "ridge": "#0072B2", "finite_set": "#D55E00"}
LABELS = {"network": "network, and median", "ridge": "ridge", "finite_set": "Bayes for the set"}


def trained(options: Options, found: Found) -> ih.Sweep:
    """Sets of 4, 16 and 64 tasks, and tasks without end."""
    seen = options.horizon(SEQUENCES)
    return ih.sweep(
        ih.Regression(dimensions=2, examples=6, most_tasks=max(TASKS), batch=64),
        name="diversity",
        tasks=list(TASKS),
        init=options.inits,
        order={init: init for init in options.inits},
        tasks_seed={init: init for init in options.inits},
        learning_rate=3e-3,
        d_model=32,
        sequences=seen,
        evaluate="grid",
        checkpoints=sorted({0, seen // 4, seen // 2, seen}),
    )


DIVERSITY = Training("garg_diversity", trained)


def measure(options: Options, found: Found) -> xr.Dataset:
    """Errors and distances at the end, [init, tasks, asked, predictor, seen].

    `asked`: on tasks of training ("train") and on new ones ("new"). Least squares is left out of
    means: after D examples it is nearly singular in some sequences.
    """
    networks = found["garg_diversity"]
    last = [max(networks.steps(0))]
    each = []
    for which in ("train", "new"):
        seen = networks.measure(
            against_the_best, lambda task, of=which: with_answers(task, PROBED, of), steps=last
        )
        assert isinstance(seen, xr.Dataset)
        each.append(seen.isel(clamp=0, sequences=0, drop=True))
    asked = xr.DataArray(["train", "new"], dims="asked", name="asked")
    return xr.concat(each, asked).transpose("init", "tasks", "asked", "predictor", "seen")


def distance(one: xr.Dataset, tasks: int, asked: str, predictor: str) -> float:
    """Mean squared distance of the network's answers from a predictor's, all examples."""
    where = {"tasks": tasks, "asked": asked, "predictor": predictor}
    return float(one["distance"].sel(where).mean())


def error(one: xr.Dataset, tasks: int, asked: str, predictor: str = "network") -> float:
    """Mean squared error of a predictor, all examples."""
    return float(one["error"].sel(tasks=tasks, asked=asked, predictor=predictor).mean())


def remembers(asked: str) -> Callable[[xr.Dataset], float]:
    """Distance from Bayes' answer for the set over that from ridge, trained on 4 tasks."""
    return lambda one: distance(one, FEW, asked, "finite_set") / distance(one, FEW, asked, "ridge")


def nearer_ridge(one: xr.Dataset) -> float:
    """Distance from ridge on new tasks, trained without end, over that of 4 tasks' network."""
    return distance(one, ENDLESS, "new", "ridge") / distance(one, FEW, "new", "ridge")


def generalises(one: xr.Dataset) -> float:
    """Excess error over ridge on new tasks, trained on 4 tasks over trained without end."""
    excess = [error(one, n, "new") - error(one, n, "new", "ridge") for n in (FEW, ENDLESS)]
    return excess[0] / excess[1]


def ordered(one: xr.Dataset) -> bool:
    """Whether the error on new tasks falls with every step of diversity."""
    errors = [error(one, n, "new") for n in TASKS]
    return bool(np.all(np.diff(errors) < 0))


RAVENTOS = "Raventos et al. 2023, fig. 2"
CLAIMS = (
    Claim(
        "few tasks: the set",
        "Trained on few tasks a network answers as Bayes would for that set, not as ridge.",
        in_most("distance, set / ridge", of_networks(remembers("train")), below(1)),
        source=RAVENTOS,
        estimand="mean squared distance of its answers from Bayes' for the set, over that from "
        "ridge, 4 tasks, sequences of these tasks",
    ),
    Claim(
        "few tasks: also where they are wrong",
        "Trained on few tasks it does so for tasks that are not in the set, too.",
        in_most("distance, set / ridge", of_networks(remembers("new")), below(1)),
        source=RAVENTOS,
        estimand="the same on sequences of new tasks",
    ),
    Claim(
        "diverse tasks: ridge",
        "Trained on diverse tasks a network comes to answer as ridge does.",
        in_most("distance from ridge, endless / 4", of_networks(nearer_ridge), below(1)),
        source=RAVENTOS,
        estimand="mean squared distance from ridge on new tasks, trained on tasks without end over "
        "trained on 4",
    ),
    Claim(
        "diverse tasks: generalise",
        "Trained on diverse tasks a network generalises to tasks that it never saw.",
        in_most("excess error, 4 / endless", of_networks(generalises), more_than(1)),
        source=RAVENTOS,
        estimand="squared error on new tasks above ridge's, trained on 4 tasks over without end",
    ),
    Claim(
        "the more tasks, the better on new ones",
        "Error on new tasks falls as the set grows.",
        in_most("order", of_networks(ordered), yes),
        source=RAVENTOS,
        estimand="share of seeds in which it is lower for 16 tasks than for 4, for 64 than for 16, "
        "and without end than for 64",
        primary=False,
    ),
)


def tables(results: xr.Dataset) -> list[Table]:
    """Errors and distances, mean over examples, median over networks."""
    rows = []
    found = results.mean("seen").median("init")
    for asked in ("train", "new"):
        for tasks in TASKS:
            own = found.sel(asked=asked, tasks=tasks)
            numbers = [float(own["error"].sel(predictor=name)) for name in COLOURS]
            numbers += [float(own["distance"].sel(predictor=name)) for name in list(COLOURS)[1:]]
            rows.append((asked, str(tasks or "endless"), *(f"{n:.3f}" for n in numbers)))
    header = ("asked", "tasks", *(f"error: {name}" for name in COLOURS))
    header += tuple(f"from {name}" for name in list(COLOURS)[1:])
    return [Table("Squared error, and distance of the network's answers from each", header, rows)]


def draw(results: xr.Dataset) -> Figure:
    """Error by examples seen: tasks of training above, new ones below, a column a set."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(2, len(TASKS), sharex=True, sharey=True)
    for row, asked in zip(panels, ("train", "new"), strict=True):
        for axes, tasks in zip(row, TASKS, strict=True):
            for name, colour in COLOURS.items():
                own = results["error"].sel(tasks=tasks, asked=asked, predictor=name)
                label = LABELS[name]
                axes.plot(own["seen"], own.median("init"), "o-", ms=3, color=colour, label=label)
                if name == "network":
                    every = own.transpose("seen", "init")
                    axes.plot(own["seen"], every, color=colour, lw=0.6, alpha=0.4)
            title = f"{tasks} tasks" if tasks else "tasks without end"
            tidy(axes, f"{title}: {'those' if asked == 'train' else 'new ones'}")
    for axes in panels[-1]:
        axes.set_xlabel("examples seen")
    for axes in panels[:, 0]:
        axes.set_ylabel("squared error")
    panels[0, 0].set(yscale="log")
    panels[0, 0].legend(frameon=False, fontsize=9)
    return figure


experiment = Experiment(
    name="garg-diversity",
    title="Linear regression in context: few tasks are remembered",
    paper="Garg et al. 2022; Raventos et al. 2023, fig. 2",
    summary="A network sees examples (x, y) of a linear function and says y at the next x. The "
    "best answer is known: for functions drawn anew it is ridge, for a finite set of them a mean "
    "weighted by how well each fits. Which of the two does it give?",
    trainings=(DIVERSITY,),
    measure=measure,
    claims=CLAIMS,
    draw=draw,
    tables=tables,
    differs="A smaller setting (2 dimensions, 6 examples, 2 layers of width 32), in which the two "
    "answers differ for few tasks only; and 60,000 sequences, after which the error of networks is "
    "still well above that of the best answer, so that only which answer they are nearer to is "
    "told.",
    seconds=lambda options: 10.0,
)
