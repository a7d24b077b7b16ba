"""Findings about the 64 networks of results/replication, without training them again.

    python scripts/findings.py FEATURES.h5 [OUT]

Makes OUT/winner, OUT/specialists and OUT/forecast (OUT: results/findings) from the numbers of fig3,
fig5b and fig18 in results/replication, and from what heads are like before training, which follows
from the seeds and takes a minute. FEATURES.h5 is the file that those networks were trained on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import numpy as np
import xarray as xr

import ih_jax as ih
from ih_jax.clamps.holds import Holds
from ih_jax.experiments.findings import forecast, heads, specialists, winner
from ih_jax.measures.beginning import head_starts
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.probes import exhaustive, subset
from ih_jax.model.params import init
from ih_jax.reports import report
from ih_jax.sweeps import cards
from ih_jax.sweeps.card_file import write_card
from ih_jax.sweeps.chunk import compiler_options

CHECKED = 2  # networks whose strengths before training are compared with those of fig3
REPLICATION = Path(__file__).parent.parent / "results" / "replication"


def main(features: str, out: str = "results/findings") -> None:
    """Write the three folders."""
    fig3, fig5b, fig18 = (report.read(REPLICATION / name) for name in ("fig3", "fig5b", "fig18"))
    alone = fig18["time"].drop_vars(("head",)).assign_coords(head=range(fig18.sizes["head"]))
    begin = _beginnings(features, fig3)
    seen = fig3["strength"].isel(checkpoint=0).values
    checked = begin.pop("strength")  # of the first networks
    off = np.abs(checked - seen[: len(checked)]).max()
    if off > 1e-4:
        raise SystemExit(f"heads before training are others than those of fig3, by {off:.2g}")
    made = fig3[["strength", "loss"]].assign(
        {**{name: (("init", "head"), values) for name, values in begin.items()}, "alone": alone}
    )
    _write(Path(out), features, winner.experiment, made, fig3, ("fig3", "fig18"))
    _write(Path(out), features, specialists.experiment, made, fig3, ("fig3", "fig18"))
    kept = fig5b[["loss", "diverged_at"]]
    _write(Path(out), features, forecast.experiment, kept, fig5b, ("fig5b",))


def _beginnings(features: str, results: xr.Dataset) -> dict[str, np.ndarray]:
    """{"strength", "copying", "growth"}: [init, head], before training."""
    found: dict[str, list[np.ndarray]] = {"strength": [], "copying": [], "growth": []}
    how = compiler_options(jax.default_backend(), 5)
    measured = jax.jit(head_starts, compiler_options=how)
    strength = jax.jit(induction_strength, compiler_options=how)
    for i in range(results.sizes["init"]):
        seeds = {n: int(results[n].values[i]) for n in ("label_split", "class_split")}
        task = ih.fewshot(features).replace(**seeds)
        every = exhaustive(task)
        config = ih.Config(features=task.data.features, labels=task.logits)
        params = init(jax.random.key(int(results["weights_seed"].values[i])), config)
        some = subset(every, heads.GRADIENT_EVERY)
        if i < CHECKED:
            found["strength"].append(np.asarray(strength(params, Holds(), every)))
        for name, value in measured(params, Holds(), some).items():
            found[name].append(np.asarray(value))
    return {name: np.stack(values) for name, values in found.items()}


def _write(
    out: Path,
    features: str,
    experiment: ih.Experiment,
    made: xr.Dataset,
    source: xr.Dataset,
    names: tuple[str, ...],
) -> None:
    """The folder of one experiment, with a card that says where its numbers are from."""
    card = json.loads(source.attrs["card"])
    of = " and ".join(f"results/replication/{name}" for name in names)
    said = {
        **{k: v for k, v in card.items() if k not in ("command", "wall_seconds", "clamps")},
        "command": f"python scripts/findings.py {Path(features).name}",
        "numbers from": of,
    }
    report.write(out / experiment.name, experiment, made.drop_attrs(), said)
    read = [json.loads((REPLICATION / name / "card.json").read_text()) for name in names]
    trainings = {each["name"]: each for one in read for each in one["trainings"]}
    write_card(
        out / experiment.name,
        {
            "experiment": experiment.name,
            "command": said["command"],
            "numbers from": of,
            "options": read[0]["options"],
            "trainings": list(trainings.values()),
            "devices": read[0]["devices"],
            "versions": cards.versions("ih_jax", "jax", "jaxlib", "numpy"),
            "commit": cards.commit(),
            "finished": True,
        },
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
