"""The labelled results of a sweep: curves of all runs, by axis, evaluation set and progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ih_jax import files
from ih_jax.sweeps import store
from ih_jax.sweeps.records import BlockRecord
from ih_jax.sweeps.study import Study


def assemble(study: Study, blocks: Sequence[BlockRecord]) -> xr.Dataset:
    """The curves of all runs, labelled.

    Variables: the task's metrics, such as `loss` (nats), on the first evaluation set [axes ...,
    sequences]; `eval_loss` ... on every set [axes ..., set, eval_sequences]; `horizon` (sequences)
    and `diverged_at` (sequences; NaN: never) [axes ...]. NaN past a run's horizon. Where a task
    counts tokens, these dims are `tokens` and `eval_tokens`. Settings that go with the network are
    coordinates along `init`.
    """
    unit, over = study.unit, study.task.unit
    names, metrics = study.task.evaluation_names, list(study.runs[0].program.task.metrics)
    longest = max(run.steps for run in study.runs)
    table = study.timetable(longest)
    dense = [step for step, kind, _ in table if kind > 0]
    sparse = [step for step, kind, _ in table if kind > 1]
    curves = np.full((len(study.runs), len(dense), len(metrics)), np.nan, np.float32)
    sets = np.full((len(study.runs), len(names), len(sparse), len(metrics)), np.nan, np.float32)
    diverged = np.full(len(study.runs), np.nan, np.float32)
    horizons = np.array([run.steps for run in study.runs], np.int64)
    dense_at, sparse_at = ({step: i for i, step in enumerate(each)} for each in (dense, sparse))
    for block in blocks:
        steps, scores = block.scores()
        if steps and scores.shape != (len(steps), len(block.runs), len(names), len(metrics)):
            raise store.Damaged(f"{block.path} has scores of shape {scores.shape}: they do not fit")
        wrong = [step for step in steps if step not in dense_at]
        if wrong:
            raise store.Damaged(
                f"{block.path} has scores of step {wrong[0]}, at which none were due"
            )
        runs, at = np.array(block.runs), np.array(block.diverged)
        # Past its horizon a run only fills its block.
        fell = (at >= 0) & (at < horizons[runs])
        diverged[runs[fell]] = at[fell] * unit
        for step, row in zip(steps, scores, strict=True):
            kept = (step <= horizons[runs]) & ((at < 0) | (at >= step))
            curves[runs[kept], dense_at[step]] = row[kept, 0]
            if step in sparse_at:
                sets[runs[kept], :, sparse_at[step]] = row[kept]
    axes = dict(study.axes)
    shape = study.shape
    data: dict[str, Any] = {}
    for i, metric in enumerate(metrics):
        data[metric] = ([*axes, over], curves[..., i].reshape(*shape, -1))
        whole = sets[..., i].reshape(*shape, len(names), -1)
        data[f"eval_{metric}"] = ([*axes, "set", f"eval_{over}"], whole)
    data["horizon"] = (list(axes), (horizons * unit).reshape(shape))
    data["diverged_at"] = (list(axes), diverged.reshape(shape))
    coordinates = {
        **axis_labels(study),
        over: np.array(dense) * unit,
        f"eval_{over}": np.array(sparse) * unit,
        "set": list(names),
        **network_labels(study),
    }
    found = xr.Dataset(data, coordinates)
    for metric, metric_unit in study.runs[0].program.task.metrics.items():
        if metric_unit:
            found[metric].attrs["units"] = metric_unit
    found[over].attrs["long_name"] = f"{over} seen"
    return found


def axis_labels(study: Study) -> dict[str, list[Any]]:
    """The study's axes; labels that netCDF cannot hold (no numbers, no text) become text."""

    def label(value: Any) -> Any:
        return value if isinstance(value, int | float | str | np.generic) else str(value)

    return {axis: [label(value) for value in labels] for axis, labels in study.axes.items()}


def network_labels(study: Study) -> dict[str, tuple[str, list[Any]]]:
    """Coordinates along `init`: the settings that go with the network; NaN where one is None."""
    return {
        setting: ("init", [np.nan if values[i] is None else values[i] for i in study.axes["init"]])
        for setting, values in study.paired.items()
    }


def save_results(results: xr.Dataset, path: Path) -> None:
    """Write labelled results as compressed netCDF, whole or not at all."""
    encoding = {name: {"zlib": True, "complevel": 4} for name in results.data_vars}
    with files.atomic(path) as temporary:
        results.to_netcdf(temporary, engine="h5netcdf", encoding=encoding)
