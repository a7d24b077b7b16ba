"""A run of the authors' code, written as a finished sweep of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import xarray as xr

from ih_jax import files, paths
from ih_jax.data.evaluations import EvaluationSet
from ih_jax.data.fewshot import Burst
from ih_jax.data.images.features import Features, of_file
from ih_jax.data.splits import Generator
from ih_jax.errors import UserError
from ih_jax.interop.icl_dynamics.evaluating import evaluated, split_of
from ih_jax.interop.icl_dynamics.evaluators import fitting
from ih_jax.interop.icl_dynamics.options import RunOptions
from ih_jax.interop.icl_dynamics.runs import AuthorsRun, read
from ih_jax.model.params import Config
from ih_jax.sweeps import cards, store
from ih_jax.sweeps.blocks import Plan, plan_blocks
from ih_jax.sweeps.card_file import write_card
from ih_jax.sweeps.engine import Sweep
from ih_jax.sweeps.results import assemble, save_results
from ih_jax.sweeps.trajectory import Trajectories
from ih_jax.tasks.fewshot import FewShot, fewshot
from ih_jax.tasks.fewshot_scores import METRICS

MOST_IN_PAIRS = 100  # labels; of more, all pairs are drawn without a table of them


def import_run(
    folder: str | Path,
    data: str | Path,
    key: str | None,
    out: str | Path,
    label_generator: Generator | None = None,
) -> Trajectories:
    """Read a run of the authors' code and write it as a sweep in `out`; see `read` and `write`."""
    return write(read(folder), of_file(data, key), out, label_generator)


def write(
    run: AuthorsRun, data: Features, folder: str | Path, label_generator: Generator | None = None
) -> Trajectories:
    """Write a run as a finished sweep of ours, which `load` and every measure can read.

    A run without a log has scores of its checkpoints alone, measured here.

    Args:
        run: as `read` gives it.
        data: the features that it was trained on.
        folder: a new one.
        label_generator: which of JAX's generators split its label pairs; None: as the log tells
            (`evaluating.split_of`). The card says which was taken, and why.

    Raises:
        UserError: the folder holds something already or is not writable, or the features are not
            those that the run's weights take.
    """
    folder = paths.path("out", folder).absolute()
    if data.features != run.config.features:
        raise UserError(
            f"{data.name} has {data.features} features, the run's weights take "
            f"{run.config.features}: give the features that it was trained on"
        )
    for what, split, shares, there in (
        ("classes", "class_split", run.options.class_split, data.classes),
        ("exemplars", "exemplar_split", run.options.exemplar_split, data.exemplars),
    ):
        if sum(shares) != there:
            raise UserError(
                f"{data.name} has {there:,} {what}, and {split} of the run is {list(shares)}, "
                f"{sum(shares):,} in all: give the features that it was trained on"
            )
    if paths.is_there(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty: give a new folder with --out")
    studies = {each: study_of(run, data, each) for each in get_args(Generator)}
    known = split_of(run, studies, label_generator)
    study = studies[known.generator]
    study.check()
    try:
        with store.new_folder(folder), files.atomic(folder) as temporary:
            _write(run, study, known._asdict(), temporary)
    except store.Damaged:
        raise UserError(
            f"the run {run.name!r}: checkpoints or rows of log.h5 are not at steps of train_bs "
            f"({run.options.train_bs}) up to train_iters ({run.options.train_iters:,}): give "
            "config.json those that it was trained with"
        ) from None
    return Trajectories(folder, study)


def _write(run: AuthorsRun, study: Sweep, split: dict[str, Any], folder: Path) -> None:
    batch = study.task.batch
    seen = sorted(run.checkpoints)
    weights = [jax.tree.map(np.asarray, run.checkpoints[each]) for each in seen]
    # [checkpoint, run, ...], of one run.
    params = jax.tree.map(lambda *leaves: np.stack(leaves)[:, None], *weights)
    names = list(study.task.evaluation_names)
    logged = evaluated(study, run.checkpoints) if run.scores is None else run.scores
    own = logged.reindex(set=names)
    scores = np.stack([own[metric].values for metric in METRICS], axis=-1)[:, None]
    about = {
        "steps": [-(-each // batch) for each in seen],
        "score_steps": [-(-int(each) // batch) for each in own["sequences"].values],
        "diverged": [-1],
        "runs": [0],
    }
    store.save_part(store.part_path(folder, 0, 0), {"params": params, "scores": scores}, about)
    plan = Plan(1, plan_blocks(study, 1), 0.0)
    how = {"imported": dict(run.recorded), "label_pairs": split}
    card = cards.make_card(study, plan, how)
    write_card(folder, card)
    results = assemble(study, Trajectories(folder, study).blocks)
    save_results(_with_all_sets(results, own, batch), folder / "results.nc")
    cards.finish(folder, card, 0.0)


def study_of(run: AuthorsRun, data: Features, label_generator: Generator = "old") -> Sweep:
    """The study of this one run, on the features that it was trained on."""
    o = run.options
    seen = run.checkpoints if run.scores is None else run.scores["sequences"].values.tolist()
    return Sweep(
        task_of(o, data, run.sets).replace(label_generator=label_generator),
        clamp={run.name: run.clamp},
        name=run.name,
        init=o.init_seed,
        order=o.train_seed,
        sequences=o.train_iters,
        learning_rate=o.lr,
        optimiser=o.optimizer,
        weight_decay=o.weight_decay or 0.0,
        initial_scale=o.init_rescale or 1.0,
        evaluate=sorted(seen),
        checkpoints=sorted(run.checkpoints),
        **_model_settings(run.config),
    )


def task_of(o: RunOptions, data: Features, sets: Sequence[EvaluationSet] = ()) -> FewShot:
    """The task of these options on these features. Raises UserError where they do not fit.

    `sets`: what the run is evaluated on; those that it cannot be are left out.
    """
    train, _, test = o.class_split
    exemplars, val, _ = o.exemplar_split
    bursts = o.pt_burstiness or [1]
    mixture = tuple(
        Burst(burst, bool(distractor), bool(no_support), bool(unique))
        for burst, distractor, no_support, unique in zip(
            bursts,
            o.pt_distract or [True] * len(bursts),
            o.pt_no_support or [False] * len(bursts),
            o.pt_unique_rest or [False] * len(bursts),
            strict=True,
        )
    )
    scheme = "none"  # classes keep their labels
    if o.fs_relabel:
        scheme = "relabel" if o.fs_relabel_split or o.fs_relabel <= MOST_IN_PAIRS else "fresh"
    task = fewshot(
        data,
        classes=train,
        test_classes=test,
        exemplars=exemplars,
        val_exemplars=val,
        labels=o.labels,
        label_pair_shares=o.fs_relabel_split or (1, 0, 0),
        scheme=scheme,
        label_split=o.fs_relabel_split_seed,
        pairs=o.pairs,
        mixture=mixture,
        mixture_weights=tuple(o.mixing_coeffs or (1.0,)),
        zipf=o.zipf_alpha or 0.0,
        noise=o.noise_scale_train or 0.0,
        matched_exemplars=bool(o.match_query_and_distractors),
        random_query_label=bool(o.assign_query_label_random),
        batch=o.train_bs,
        evaluation_seed=o.eval_seed,
    )
    return fitting(task, sets)


def _model_settings(config: Config) -> dict[str, Any]:
    names = ("layers", "d_model", "heads", "mlp_ratio", "positions", "norm", "max_positions")
    return {name: getattr(config, name) for name in names}


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
