"""A run of the authors' code, read: its options, checkpoints and log.

A run is a folder with `config.json` (its options), `checkpoints/SEQUENCES.eqx` and, as a rule,
`log.h5`. A checkpoint is a sequence of .npy records, the leaves of {iter, model, opt_state, seeds}:
of the model every field counts, numbers and flags too, so its arrays are those with a shape. No
pickle is read: records of objects are refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import xarray as xr

from ih_jax import array_files, gate, memory, paths
from ih_jax.clamps.clamp import Clamp
from ih_jax.data.evaluations import EVALUATION_SETS, STRATEGIES, EvaluationSet
from ih_jax.errors import UserError
from ih_jax.interop.icl_dynamics import evaluators
from ih_jax.interop.icl_dynamics.clamps import clamp_from_options
from ih_jax.interop.icl_dynamics.options import SIN_TIME, RunOptions, read_run_options
from ih_jax.interop.icl_dynamics.weights import (
    bytes_of,
    count_of,
    names_of,
    params_from_arrays,
    shapes_of,
)
from ih_jax.model.params import Config, Params
from ih_jax.tasks.fewshot_scores import METRICS

MOST_BYTES = 2**30  # of one checkpoint; the paper's have 1.4 MB
LOGGED = ("loss", "acc", "in_context_acc")  # in log.h5, for METRICS


@dataclass(frozen=True)
class AuthorsRun:
    """What a folder of the authors' code holds, in our terms."""

    name: str
    options: RunOptions
    recorded: Mapping[str, Any]  # all of config.json
    config: Config
    clamp: Clamp
    checkpoints: Mapping[int, Params]  # by sequences seen
    # METRICS [sequences, set], means of the log; NaN where it has none. None: there is no log.
    scores: xr.Dataset | None
    sets: Sequence[EvaluationSet] = ()  # what it was evaluated on


def read(folder: str | Path) -> AuthorsRun:
    """A run of the authors' code.

    Raises:
        UserError: a file is missing, is not what it should be, or does not fit the others.
    """
    folder = Path(folder)
    options, clamp_options, recorded = read_run_options(folder / "config.json")
    files = sorted((folder / "checkpoints").glob("[!.]*.eqx"))  # not those that macOS adds
    if not files:
        raise UserError(f"{folder}/checkpoints holds no .eqx file: give the folder of one run")
    translation = clamp_from_options(clamp_options, options.depth)
    if translation.base.parts:
        raise UserError(
            f"{folder}: its copy reads a pass with {translation.base.describe()}, which no one "
            "clamp says: measure its checkpoints with read_checkpoint and passes of your own"
        )
    whole = sum(paths.regular(file).stat().st_size for file in files)
    memory.check(whole, f"{folder}/checkpoints: what its {len(files)} files hold")
    checkpoints: dict[int, Params] = {}
    before: tuple[Path, int] | None = None
    for file in files:
        seen, params = read_checkpoint(file, options)
        if before is not None and seen <= before[1]:
            raise UserError(
                f"{file} is of {seen} sequences, after {before[0].name} of {before[1]}: "
                "checkpoints must be in the order of their names, each of more sequences"
            )
        checkpoints[seen] = params
        before = file, seen
    config = next(iter(checkpoints.values())).config
    log = folder / "log.h5"
    loaded = list(_loaded(folder, options))
    names = [name for each in (options, *loaded) for name in each.pe_names or []]
    scores = read_log(log, names) if log.exists() or log.is_symlink() else None
    if scores is not None and not _with_losses(scores):
        scores = None  # a log that says nothing
    name = options.run or folder.resolve().name
    sets = evaluators.of_run(options, loaded, [] if scores is None else _with_losses(scores))
    return AuthorsRun(name, options, recorded, config, translation.clamp, checkpoints, scores, sets)


def _loaded(folder: Path, options: RunOptions) -> Iterator[RunOptions]:
    """The options of the runs whose sequences a run loaded, where they lie beside it."""
    for file in options.load_eval_data or []:
        config = folder.resolve().parent / PurePosixPath(file).parent.name / "config.json"
        if PurePosixPath(file).parent.name not in ("", ".", "..") and config.exists():
            with contextlib.suppress(UserError):  # a run that is not asked for
                yield read_run_options(config)[0]


def _with_losses(scores: xr.Dataset) -> list[str]:
    """The sets that a log has losses of."""
    seen = scores["loss"].notnull().any("sequences")
    return [str(name) for name in scores["set"].values[seen.values]]


def read_checkpoint(file: Path, options: RunOptions) -> tuple[int, Params]:
    """Sequences seen, and the weights.

    Args:
        file: SEQUENCES.eqx.
        options: of the same run, from `options.read_run_options`.

    Raises:
        UserError: it is no checkpoint of that model, or a weight is NaN or infinite.
    """
    memory.check(bytes_of(options), f"config.json: a network of depth {options.depth:,}")
    records = list(array_files.npy_records(file, MOST_BYTES))
    if not records or records[0].shape or records[0].dtype.kind not in "iu" or records[0] < 0:
        raise UserError(f"{file} does not begin with the number of sequences seen")
    arrays = [record for record in records[1:] if record.ndim and record.dtype == np.float32]
    count = count_of(options)
    if len(arrays) < count:
        raise UserError(f"{file} has {len(arrays)} arrays, the model of config.json {count:,}")
    names = names_of(options)
    config = _config_of(options, arrays, names, file)
    named = dict(zip(names, arrays, strict=False))
    for name, shape in shapes_of(config, names).items():
        if named[name].shape != shape:
            raise UserError(
                f"{file}: {name} has shape {list(named[name].shape)}, {list(shape)} by config.json"
            )
        gate.finite(named[name], f"{file}: {name}")
    _check_flags(records, options, file)
    # What follows are the optimiser's moments, whole copies of the weights, or the file is another.
    rest = [array.shape for array in arrays[count:]]
    own = [array.shape for array in arrays[:count]]
    if rest not in ([], own, own * 2):
        raise UserError(
            f"{file}: {len(rest)} arrays follow the {len(own)} weights, and are no moments of an "
            "optimiser: is it of this config.json?"
        )
    return int(records[0]), params_from_arrays(named, config)


def _check_flags(records: Sequence[np.ndarray], o: RunOptions, file: Path) -> None:
    """Raises UserError where a checkpoint's numbers and flags are not those of config.json.

    Before the matrix of queries, keys and values stand heads, causal, rope, sin_time and a scale. A
    run that continues another has the model of that one's config.json, not of its own.
    """
    kinds = "ibbff"
    shape = (3 * o.d_model, o.d_model)
    at = next((i for i, record in enumerate(records) if record.shape == shape), 0)
    flags = records[max(at - len(kinds), 0) : at]
    if "".join(flag.dtype.kind for flag in flags) != kinds or any(flag.ndim for flag in flags):
        return
    heads, causal, rope, time, _ = (flag.item() for flag in flags)
    for name, found, said in (
        ("num_heads", heads, o.num_heads),
        ("not_causal", not causal, False),
        ("rope of pos_embedding_type", rope, o.positions == "rope"),
        ("sin_time", time if rope else SIN_TIME, SIN_TIME),
    ):
        if found != said:
            raise UserError(
                f"{file}: {name} is {found}, {said} by config.json: give config.json what the "
                "network has (of a run that continues another, what that one's says)"
            )


def _config_of(
    o: RunOptions, arrays: Sequence[np.ndarray], names: Sequence[str], file: Path
) -> Config:
    """The model by config.json; what it leaves open is read from the arrays' shapes."""
    first = arrays[0]
    if first.ndim != 2:
        raise UserError(
            f"{file}: its first array has shape {list(first.shape)}, not [width, features]"
        )
    learned = o.positions == "learned"
    table = arrays[names.index("pos_embed.weight")] if learned else None
    try:
        return Config(
            features=first.shape[1],
            labels=o.labels,
            layers=o.depth,
            d_model=o.d_model,
            heads=o.num_heads,
            mlp_ratio=o.mlp_ratio,
            positions=o.positions,
            norm=not o.no_norm,
            max_positions=Config.max_positions if table is None else int(table.shape[-1]),
        )
    except UserError as error:
        raise UserError(f"config.json: {error}") from None


def read_log(file: Path, sets: Sequence[str] = ()) -> xr.Dataset:
    """Means over sequences of what log.h5 recorded: METRICS [sequences, set].

    Args:
        file: log.h5.
        sets: names of evaluators to look for, beside ours.

    Raises:
        UserError: it is no HDF5 file, or what it holds are not increasing numbers of sequences and
            as many rows of scores for each.
    """
    try:
        with array_files.open_hdf5(file) as log:
            seen = array_files.hdf5_array(log, "eval_iter")
            if seen.ndim != 1 or seen.dtype.kind not in "iu" or not len(seen):
                raise UserError(f"{file}: eval_iter has no whole numbers of sequences")
            if seen[0] < 0 or (seen[1:] < seen[:-1]).any():
                raise UserError(
                    f"{file}: eval_iter is not in order: without log.h5 the run is read, too"
                )
            last = np.append(seen[1:] > seen[:-1], True)
            others = [n for n in (*STRATEGIES, *sets) if array_files.hdf5_has(log, f"{n}/loss")]
            names = list(dict.fromkeys((*(each.name for each in EVALUATION_SETS), *others)))
            values = {metric: np.full((len(seen), len(names)), np.nan) for metric in METRICS}
            for metric, logged in zip(METRICS, LOGGED, strict=True):
                for column, name in enumerate(names):
                    if not array_files.hdf5_has(log, f"{name}/{logged}"):
                        continue
                    recorded = array_files.hdf5_array(log, f"{name}/{logged}").astype(float)
                    if recorded.ndim < 1 or len(recorded) != len(seen) or not recorded.size:
                        raise UserError(
                            f"{file}: {name}/{logged} has shape {list(recorded.shape)}: its first "
                            f"dimension must be eval_iter's, {len(seen)}"
                        )
                    values[metric][:, column] = recorded.reshape(len(seen), -1).mean(1)
            values = {metric: each[last] for metric, each in values.items()}
            seen = seen[last]
    except UserError:
        raise
    except Exception as error:  # h5py and HDF5 raise many kinds for damaged files
        raise UserError(f"{file} is no log of the authors' code ({paths.reason(error)})") from None
    return xr.Dataset(
        {metric: (("sequences", "set"), each) for metric, each in values.items()},
        {"sequences": seen, "set": names},
    )
