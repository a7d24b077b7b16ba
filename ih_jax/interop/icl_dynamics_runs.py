"""A run of the authors' code (github aadityasingh/icl-dynamics), read, and written as a sweep.

A run is a folder with `config.json` (its options), `checkpoints/SEQUENCES.eqx` and `log.h5`. A
checkpoint is a sequence of .npy records, the leaves of {iter, model, opt_state, seeds}: of the
model every field counts, numbers and flags too, so its arrays are those with a shape. No pickle is
read: records of objects are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import xarray as xr

from ih_jax.clamps.clamp import Clamp
from ih_jax.data.fewshot import EVALUATION_SETS, Burst
from ih_jax.data.images.features import Features, of_file
from ih_jax.errors import UserError
from ih_jax.interop.icl_dynamics import POSITIONS, clamp_from_options, params_from_arrays
from ih_jax.model.params import Config, Params
from ih_jax.sweeps import cards, store
from ih_jax.sweeps.blocks import Plan, plan_blocks
from ih_jax.sweeps.engine import Sweep
from ih_jax.sweeps.results import assemble, save_results
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.fewshot import METRICS, FewShot, fewshot

MOST_BYTES = 2**30  # of one checkpoint; the paper's have 1.4 MB
LOGGED = ("loss", "acc", "in_context_acc")  # in log.h5, for METRICS
KNOWN_OPTIMISERS = {"adam": "adam", "sgd": "sgd"}


@dataclass(frozen=True)
class AuthorsRun:
    """What a folder of the authors' code holds, in our terms."""

    name: str
    options: Mapping[str, Any]
    config: Config
    clamp: Clamp
    checkpoints: Mapping[int, Params]  # by sequences seen
    scores: xr.Dataset  # METRICS [sequences, set], means of the log; NaN where it has none

    def sweep(self, data: Features) -> Sweep:
        """The study of this one run, on the features that it was trained on."""
        o = self.options
        return Sweep(
            _task(o, data),
            clamp={self.name: self.clamp},
            name=self.name,
            init=int(o["init_seed"]),
            order=int(o["train_seed"]),
            sequences=int(o["train_iters"]),
            learning_rate=float(o["lr"]),
            optimiser=KNOWN_OPTIMISERS[o["optimizer"]],
            weight_decay=float(o.get("weight_decay") or 0.0),
            initial_scale=float(o.get("init_rescale") or 1.0),
            evaluate=self.scores["sequences"].values.tolist(),
            checkpoints=sorted(self.checkpoints),
            **_model_settings(self.config),
        )


def read(folder: str | Path) -> AuthorsRun:
    """A run of the authors' code.

    Raises:
        UserError: a file is missing, is not what it should be, or does not fit the others.
    """
    folder = Path(folder)
    options = _options(folder / "config.json")
    files = sorted((folder / "checkpoints").glob("*.eqx"))
    if not files:
        raise UserError(f"{folder}/checkpoints holds no .eqx file: give the folder of one run")
    checkpoints, config = {}, None
    for file in files:
        seen, params = read_checkpoint(file, options)
        checkpoints[seen] = params
        config = params.config
    assert config is not None
    translation = clamp_from_options(
        {name: _words(value) for name, value in options.items() if name.startswith("opto_")},
        config.layers,
    )
    if translation.base.parts:
        raise UserError(
            f"{folder}: its copy reads a pass with {translation.base.describe()}, which no one "
            "clamp says: measure its checkpoints with read_checkpoint and your own passes"
        )
    scores = read_log(folder / "log.h5")
    name = str(options.get("run") or folder.name)
    return AuthorsRun(name, options, config, translation.clamp, checkpoints, scores)


def write(run: AuthorsRun, data: Features, folder: str | Path) -> Trajectories:
    """Write a run as a finished sweep of ours, which `load` and every measure can read.

    Raises:
        UserError: the folder holds something already or is not writable, or the features are not
            those that the run's weights take.
    """
    folder = Path(folder)
    if data.features != run.config.features:
        raise UserError(
            f"{data.name} has {data.features} features, the run's weights take "
            f"{run.config.features}: give the features that it was trained on"
        )
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: give a new folder with --out")
    study = run.sweep(data)
    study.check()
    store.make_folder(folder)
    batch = study.task.batch
    seen = sorted(run.checkpoints)
    weights = [jax.tree.map(np.asarray, run.checkpoints[each]) for each in seen]
    # [checkpoint, run, ...], of one run.
    params = jax.tree.map(lambda *leaves: np.stack(leaves)[:, None], *weights)
    names = list(study.task.evaluation_names)
    own = run.scores.reindex(set=names)
    scores = np.stack([own[metric].values for metric in METRICS], axis=-1)[:, None]
    about = {
        "steps": [-(-each // batch) for each in seen],
        "score_steps": [-(-int(each) // batch) for each in own["sequences"].values],
        "diverged": [-1],
        "runs": [0],
    }
    store.save_part(store.part_path(folder, 0, 0), {"params": params, "scores": scores}, about)
    plan = Plan(1, plan_blocks(study, 1), 0.0)
    card = cards.make_card(study, plan, {"imported": dict(run.options)})
    store.write_card(folder, card)
    trajectories = Trajectories(folder, study)
    results = assemble(study, trajectories.blocks)
    save_results(_with_all_sets(results, own, batch), folder / "results.nc")
    cards.finish(folder, card, 0.0)
    return Trajectories(folder, study)


def read_checkpoint(file: Path, options: Mapping[str, Any]) -> tuple[int, Params]:
    """Sequences seen, and the weights. Raises UserError for what is no checkpoint of the model."""
    records = _records(file)
    if not records or records[0].shape or records[0].dtype.kind not in "iu":
        raise UserError(f"{file} does not begin with the number of sequences seen")
    arrays = [record for record in records[1:] if record.ndim and record.dtype == np.float32]
    config, names = _expected(options, arrays, file)
    named = dict(zip(names, arrays, strict=False))
    for name, shape in _shapes(config, options).items():
        if named[name].shape != shape:
            raise UserError(
                f"{file}: {name} has shape {list(named[name].shape)}, {list(shape)} by config.json"
            )
    # What follows are the optimiser's moments, whole copies of the weights, or the file is another.
    rest = [array.shape for array in arrays[len(names) :]]
    own = [array.shape for array in arrays[: len(names)]]
    if rest not in ([], own, own * 2):
        raise UserError(
            f"{file}: {len(rest)} arrays follow the {len(own)} weights, and are no moments of an "
            "optimiser: is it of this config.json?"
        )
    return int(records[0]), params_from_arrays(named, config)


def read_log(file: Path) -> xr.Dataset:
    """Means over sequences of what log.h5 recorded: METRICS [sequences, set]."""
    try:
        with h5py.File(file, "r") as log:
            seen = np.asarray(log["eval_iter"][()])
            names = [each.name for each in EVALUATION_SETS]
            values = {metric: np.full((len(seen), len(names)), np.nan) for metric in METRICS}
            for metric, logged in zip(METRICS, LOGGED, strict=True):
                for column, name in enumerate(names):
                    if f"{name}/{logged}" in log:
                        recorded = np.asarray(log[f"{name}/{logged}"][()], float)
                        values[metric][:, column] = recorded.reshape(len(seen), -1).mean(1)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{file} is no log of the authors' code ({error})") from None
    return xr.Dataset(
        {metric: (("sequences", "set"), each) for metric, each in values.items()},
        {"sequences": seen, "set": names},
    )


# --- parts --------------------------------------------------------------------------------------


def _options(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except OSError:
        raise UserError(
            f"there is no {file}: give the folder of a run of the authors' code"
        ) from None
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error})") from None
    needed = (
        "depth",
        "d_model",
        "num_heads",
        "pos_embedding_type",
        "train_iters",
        "init_seed",
        "train_seed",
        "lr",
        "optimizer",
        "train_bs",
        "class_split",
        "exemplar_split",
        "fs_relabel",
    )
    missing = [name for name in needed if name not in found] if isinstance(found, dict) else needed
    if missing:
        raise UserError(f"{file} lacks {', '.join(missing)}: is it of the authors' code?")
    odd = {
        "not_causal": False,
        "pos_embedding_type": tuple(POSITIONS),
        "data_type": "file",
        "optimizer": tuple(KNOWN_OPTIMISERS),
    }
    for name, accepted in odd.items():
        given = found.get(name, accepted)
        if given != accepted and not (isinstance(accepted, tuple) and given in accepted):
            raise UserError(f"{file}: {name} is {given!r}: known is {accepted!r}")
    return dict(found)


def _words(value: Any) -> Any:
    """An option's value as a command line would give it: a list of words, or a switch."""
    if value is None or isinstance(value, bool):
        return value
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _records(file: Path) -> list[np.ndarray]:
    """The .npy records of a file, one after another."""
    size = file.stat().st_size
    if size > MOST_BYTES:
        raise UserError(f"{file} has {size} bytes: checkpoints up to {MOST_BYTES} are read")
    found = []
    try:
        with open(file, "rb") as stream:
            while stream.tell() < size:
                found.append(np.lib.format.read_array(stream, allow_pickle=False))
    except (ValueError, EOFError, OSError, MemoryError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{file} is no whole sequence of .npy records (record {len(found)}: {reason})"
        ) from None
    return found


def _names(options: Mapping[str, Any]) -> list[str]:
    """The weights in the order of the model's fields."""
    norm = not options.get("no_norm")
    mlp = options.get("mlp_ratio") is not None
    found = ["example_embed.weight", "example_embed.bias", "label_embed.weight"]
    if POSITIONS[options["pos_embedding_type"]] == "learned":
        found.append("pos_embed.weight")
    for layer in range(int(options["depth"])):
        at = f"blocks.{layer}"
        found += [f"{at}.norm1.weight", f"{at}.norm1.bias"] if norm else []
        found += [f"{at}.attn.qkv.weight", f"{at}.attn.proj.weight"]
        if mlp:
            found += [f"{at}.norm2.weight", f"{at}.norm2.bias"] if norm else []
            found += [
                f"{at}.mlp.{fc}.{part}" for fc in ("fc1", "fc2") for part in ("weight", "bias")
            ]
    found += ["norm.weight", "norm.bias"] if norm else []
    return [*found, "unembed.weight", "unembed.bias"]


def _expected(
    options: Mapping[str, Any], arrays: Sequence[np.ndarray], file: Path
) -> tuple[Config, list[str]]:
    """The model by config.json, and the names of its arrays."""
    names = _names(options)
    if len(arrays) < len(names):
        raise UserError(f"{file} has {len(arrays)} arrays, the model of config.json {len(names)}")
    first = arrays[0]
    if first.ndim != 2:
        raise UserError(
            f"{file}: its first array has shape {list(first.shape)}, not [width, features]"
        )
    positions = POSITIONS[options["pos_embedding_type"]]
    table = arrays[names.index("pos_embed.weight")] if positions == "learned" else None
    config = Config(
        features=first.shape[1],
        labels=int(options.get("model_output_classes") or options["fs_relabel"]),
        layers=int(options["depth"]),
        d_model=int(options["d_model"]),
        heads=int(options["num_heads"]),
        mlp_ratio=options.get("mlp_ratio"),
        positions=positions,  # type: ignore[arg-type]
        norm=not options.get("no_norm"),
        max_positions=Config.max_positions if table is None else int(table.shape[-1]),
    )
    return config, names


def _shapes(config: Config, options: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """What every weight's shape must be."""
    D, C = config.d_model, config.labels
    wide = int(D * (config.mlp_ratio or 0))
    by_end = {
        "example_embed.weight": (D, config.features),
        "example_embed.bias": (D,),
        "label_embed.weight": (D, C),
        "pos_embed.weight": (D, config.max_positions),
        "qkv.weight": (3 * D, D),
        "proj.weight": (D, D),
        "fc1.weight": (wide, D),
        "fc1.bias": (wide,),
        "fc2.weight": (D, wide),
        "fc2.bias": (D,),
        "unembed.weight": (C, D),
        "unembed.bias": (C,),
    }
    found = {}
    for name in _names(options):
        end = name if name in by_end else ".".join(name.split(".")[-2:])
        found[name] = by_end.get(end, (D,))  # the rest are layer norms
    return found


def _model_settings(config: Config) -> dict[str, Any]:
    names = ("layers", "d_model", "heads", "mlp_ratio", "positions", "norm", "max_positions")
    return {name: getattr(config, name) for name in names}


def _task(o: Mapping[str, Any], data: Features) -> FewShot:
    """The task of these options on these features."""
    train, _, test = (int(n) for n in o["class_split"])
    exemplars, val, _ = (int(n) for n in o["exemplar_split"])
    bursts = o.get("pt_burstiness") or [1]

    def of(name: str, default: bool) -> list[bool]:
        given = o.get(name)
        return [default] * len(bursts) if given is None else [bool(each) for each in given]

    mixture = tuple(
        Burst(int(burst), distractor, no_support, unique)
        for burst, distractor, no_support, unique in zip(
            bursts,
            of("pt_distract", True),
            of("pt_no_support", False),
            of("pt_unique_rest", False),
            strict=True,
        )
    )
    labels, logits = int(o["fs_relabel"]), o.get("model_output_classes")
    return fewshot(
        data,
        classes=train,
        test_classes=test,
        exemplars=exemplars,
        val_exemplars=val,
        labels=labels,
        labels_of_program=int(logits) if logits and int(logits) != labels else None,
        label_pair_shares=tuple(o.get("fs_relabel_split") or (8, 2, 0)),
        label_split=int(o.get("fs_relabel_split_seed", 20)),
        pairs=int(o.get("train_context_len") or 2),
        mixture=mixture,
        mixture_weights=tuple(float(w) for w in o.get("mixing_coeffs") or (1.0,)),
        zipf=float(o.get("zipf_alpha") or 0.0),
        noise=float(o.get("noise_scale_train") or 0.0),
        matched_exemplars=bool(o.get("match_query_and_distractors")),
        random_query_label=bool(o.get("assign_query_label_random")),
        batch=int(o["train_bs"]),
        evaluation_seed=int(o.get("eval_seed", 1)),
    )


def _with_all_sets(results: xr.Dataset, own: xr.Dataset, batch: int) -> xr.Dataset:
    """Results whose other sets have every evaluation of the log, where sweeps of ours have few."""
    seen = [-(-int(each) // batch) * batch for each in own["sequences"].values]
    kept = results.drop_vars([f"eval_{metric}" for metric in METRICS]).drop_vars("eval_sequences")
    lead = [dim for dim in results["loss"].dims if dim != "sequences"]
    for metric in METRICS:
        values = own[metric].transpose("set", "sequences").values
        shaped = values.reshape(*(1 for _ in lead), *values.shape)
        kept[f"eval_{metric}"] = ([*lead, "set", "eval_sequences"], shaped.astype(np.float32))
    return kept.assign_coords(eval_sequences=seen)


def import_run(
    folder: str | Path, data: str | Path, key: str | None, out: str | Path
) -> Trajectories:
    """Read a run of the authors' code and write it as a sweep in `out`; see `read` and `write`."""
    return write(read(folder), of_file(data, key), out)
