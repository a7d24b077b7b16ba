"""What experiments measure networks on: which sequences, and which checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import xarray as xr

from ih_jax.data.batches import Batch
from ih_jax.experiments.base import Options
from ih_jax.measures.probes import by_context, exhaustive, subset
from ih_jax.model.params import Config
from ih_jax.sweeps.array_labels import Measure
from ih_jax.sweeps.measuring import Probe
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.base import Task

QUICK_EVERY = 7  # with --quick, every seventh sequence is used
HEADS = 8  # of a layer


def probe(options: Options) -> Callable[[Task], Batch]:
    """Every training sequence of a network (78,400 in the paper's setting); with --quick a 7th."""

    def of_task(task: Task) -> Batch:
        every = exhaustive(task)
        return subset(every, QUICK_EVERY) if options.quick else by_context(every)

    return of_task


def config(trained: Trajectories) -> Config:
    """The shape of the networks."""
    return trained.study.runs[0].config


def at_end(
    trained: Trajectories, measure: Measure, batch: Probe, clamp: str = "none"
) -> xr.Dataset:
    """A measure of the last checkpoint, [init, ...]; arguments as in `along`."""
    runs = _runs(trained, clamp)
    end = max(trained.steps(runs[0]))
    return along(trained, measure, batch, clamp, [end]).isel(checkpoint=0, drop=True)


def along(
    trained: Trajectories,
    measure: Measure,
    batch: Probe,
    clamp: str = "none",
    steps: Sequence[int] | None = None,
) -> xr.Dataset:
    """A measure of the checkpoints of all runs with a clamp, [init, checkpoint, ...].

    `checkpoint` is in sequences seen; the other dims are those that the measure names.
    """
    found = trained.measure(measure, batch, runs=_runs(trained, clamp), steps=steps)
    dataset = found.to_dataset() if isinstance(found, xr.DataArray) else found
    dataset = dataset.sel(clamp=clamp, drop=True).rename(sequences="checkpoint")
    extra = [axis for axis in trained.study.axes if axis not in ("clamp", "init")]
    return dataset.squeeze(extra, drop=True)


def _runs(trained: Trajectories, clamp: str) -> list[int]:
    """The runs with this clamp, one an init."""
    return [trained.run(clamp=clamp, init=seed) for seed in trained.study.axes["init"]]
