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
    trained: Trajectories,
    measure: Measure,
    batch: Probe,
    clamp: str = "none",
    inits: Sequence[int] | None = None,
) -> xr.Dataset:
    """A measure of the last checkpoint, [init, ...]; arguments as in `along`."""
    runs = _runs(trained, clamp, inits)
    end = max(trained.steps(runs[0]))
    return along(trained, measure, batch, clamp, [end], inits).isel(checkpoint=0, drop=True)


def along(
    trained: Trajectories,
    measure: Measure,
    batch: Probe,
    clamp: str = "none",
    steps: Sequence[int] | None = None,
    inits: Sequence[int] | None = None,
) -> xr.Dataset:
    """A measure of the checkpoints of the runs with a clamp, [init, checkpoint, ...].

    `checkpoint` is in sequences seen; the other dims are those that the measure names.

    Args:
        trained: the networks.
        measure: of one checkpoint.
        batch: what it is measured on.
        clamp: the name of the clamp that they were trained with.
        steps: only these checkpoints; None: all.
        inits: only these networks, as `options.inits` names those that were asked for (some are
            trained only because others are grafted into them); None: all.
    """
    found = trained.measure(measure, batch, runs=_runs(trained, clamp, inits), steps=steps)
    dataset = found.to_dataset() if isinstance(found, xr.DataArray) else found
    dataset = dataset.sel(clamp=clamp, drop=True).rename(sequences="checkpoint")
    if inits is not None:  # a measure of some runs has the axes of all
        dataset = dataset.sel(init=list(inits))
    extra = [axis for axis in trained.study.axes if axis not in ("clamp", "init")]
    return dataset.squeeze(extra, drop=True)


def _runs(trained: Trajectories, clamp: str, inits: Sequence[int] | None) -> list[int]:
    """The runs with this clamp, one an init."""
    some = trained.study.axes["init"] if inits is None else inits
    return [trained.run(clamp=clamp, init=seed) for seed in some]
