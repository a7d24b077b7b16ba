"""What experiments look at networks with: which sequences, which checkpoints, named dims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from ih_jax.data.fewshot import Batch
from ih_jax.experiments.base import Options
from ih_jax.measures.probes import exhaustive, subset
from ih_jax.model.params import Config
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.base import Task

QUICK_EVERY = 7  # of all sequences, every so-manyth is looked at with --quick
HEADS = 8  # of a layer


def probe(options: Options, task: Task) -> Batch:
    """Every training sequence (78,400 in the paper's setting); every seventh with --quick."""
    every = exhaustive(task)
    return subset(every, QUICK_EVERY) if options.quick else every


def config(trained: Trajectories) -> Config:
    """The shape of the networks."""
    return trained.study.runs[0].config


def at_end(
    trained: Trajectories,
    measure: Callable[..., Any],
    batch: Batch,
    dims: Mapping[str, Sequence[Any]],
    clamp: str = "none",
) -> xr.Dataset:
    """A measure of the last checkpoint, [init, ...]; arguments as `along`."""
    runs = _runs(trained, clamp)
    end = max(trained.steps(runs[0]))
    return along(trained, measure, batch, dims, clamp, [end]).isel(checkpoint=0, drop=True)


def along(
    trained: Trajectories,
    measure: Callable[..., Any],
    batch: Batch,
    dims: Mapping[str, Sequence[Any]],
    clamp: str = "none",
    steps: Sequence[int] | None = None,
) -> xr.Dataset:
    """A measure of the checkpoints of all runs with a clamp: [init, checkpoint, ...].

    `dims` names the measure's own dims in their order, each with its labels; of a measure that
    gives several arrays, dims of the right length go to each (the first that are not taken).
    `checkpoint` is in sequences seen.
    """
    found = trained.measure(measure, batch, runs=_runs(trained, clamp), steps=steps)
    dataset = found.to_dataset() if isinstance(found, xr.DataArray) else found
    dataset = dataset.sel(clamp=clamp, drop=True).rename(sequences="checkpoint")
    extra = [d for d in dataset.dims if d in ("classes", "labels") and dataset.sizes[d] == 1]
    dataset = dataset.squeeze(extra, drop=True)
    taken = ("init", "checkpoint")
    return xr.Dataset(
        {
            str(name): _named(values, [dim for dim in values.dims if dim not in taken], dims)
            for name, values in dataset.items()
        }
    )


def _runs(trained: Trajectories, clamp: str) -> list[int]:
    """The runs with this clamp, one an init."""
    return [trained.run(clamp=clamp, init=seed) for seed in trained.study.axes["init"]]


def _named(
    values: xr.DataArray, own: Sequence[Any], dims: Mapping[str, Sequence[Any]]
) -> xr.DataArray:
    """The array with its own dims called by what fits them."""
    names: dict[Any, str] = {}
    for dim in own:
        length = values.sizes[dim]
        fits = [
            n for n, labels in dims.items() if len(labels) == length and n not in names.values()
        ]
        names[dim] = fits[0]
    labels = {name: np.asarray(dims[name]) for name in names.values()}
    return values.rename(names).assign_coords(labels)
