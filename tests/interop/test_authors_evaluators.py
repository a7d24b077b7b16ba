"""Evaluators of the authors' code are sets of ours: what they draw, and which are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
from test_authors_runs import FEATURES, OPTIONS, run_options

import ih_jax as ih
from ih_jax.data.evaluations import EVALUATION_SETS, STRATEGIES, EvaluationSet
from ih_jax.data.images.features import of_array
from ih_jax.interop.icl_dynamics import evaluators, runs
from ih_jax.interop.icl_dynamics.importing import task_of

DATA = of_array(np.arange(12 * 3 * FEATURES, dtype=np.float32).reshape(12, 3, FEATURES))
FAST = {"xla_backend_optimization_level": 0}
OWN = {"fs_relabel": 0, "fs_relabel_split": None, "model_output_classes": None}
# As the sweep of Singh et al. 2025 gives them.
COOPETITION: dict[str, Any] = {
    "pe_names": ["train_eval", "iwl_copy_avail", "flip_icl", "icl", "pure_iwl"],
    "pe_classes": ["train"] * 5,
    "pe_exemplars": ["train"] * 5,
    "pe_burstiness": [1, 0, 1, 1, 0],
    "pe_fs_relabel_scheme": ["None", "None", "flip", "01", "None"],
    "pe_no_support": [0, 1, 0, 0, 1],
    "pe_unique_rest": [0, 1, 0, 0, 1],
    "pe_assign_query_label_random": [0, 1, 0, 0, 0],
}


def sets_of(task: ih.FewShot) -> dict[str, EvaluationSet]:
    return {each.name: each for each in task.evaluation_sets}


def test_sets_by_option_draw_the_very_sequences_of_ours_by_name() -> None:
    o = run_options(**OWN, **COOPETITION)
    theirs = task_of(o, DATA, evaluators.of_run(o, [], []))
    assert theirs.labels == theirs.logits == 6 and theirs.scheme == "none"
    ours = theirs.replace(evaluation_sets=tuple(COOPETITION["pe_names"]))
    assert theirs.evaluation_names == ours.evaluation_names
    for name in ("iwl_copy_avail", "flip_icl"):
        drawn = []
        for task in (theirs, ours):
            draw = jax.jit(task.sample, static_argnums=2, compiler_options=FAST)
            drawn.append(draw(jax.random.key(0), task.source(name), 64))
        for a, b in zip(*(jax.tree.leaves(each) for each in drawn), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_run_that_says_nothing_has_the_four_sets_and_those_of_its_log() -> None:
    sets = evaluators.of_run(run_options(), [], ["icl", "unheard_of"])
    assert [each.name for each in sets] == [*(each.name for each in EVALUATION_SETS), "icl"]
    kept = task_of(run_options(), DATA, sets).evaluation_sets
    assert kept == (*EVALUATION_SETS, STRATEGIES["icl"](2))


def test_the_four_sets_go_by_their_names_whatever_describes_them() -> None:
    """So that a run's card says what it said before."""
    four = {
        "pe_names": [each.name for each in EVALUATION_SETS],
        "pe_classes": ["train", "train", "train", "test"],
        "pe_exemplars": ["train", "train", "val", "train"],
        "pe_burstiness": [1] * 4,
        "pe_fs_relabel_scheme": ["train", "val", "train", "train"],
    }
    o = run_options(**four)
    assert task_of(o, DATA, evaluators.of_run(o, [], [])).evaluation_sets == EVALUATION_SETS
    zipf = run_options(**four, zipf_alpha=1.0)  # that code evaluates on equally frequent classes
    kept = sets_of(task_of(zipf, DATA, evaluators.of_run(zipf, [], [])))
    assert kept["fsl_train"].uniform and kept["fsl_test_class"] == EVALUATION_SETS[3]


def test_what_a_run_cannot_be_evaluated_on_is_left_out() -> None:
    names = ["own", "longer", "unseen", "nowhere", "kept", "crowded", "unswapped"]
    o = run_options(
        pe_names=names,
        pe_classes=["train", "train", "test", "train", "test", "train", "train"],
        pe_exemplars=["train", "train", "train", "test", "all", "train", "train"],
        pe_burstiness=[1, 1, 1, 1, 1, 3, 1],
        pe_distract=[1, 1, 1, 1, 1, 1, 0],
        pe_fs_relabel_scheme=["None", "01", "None", "01", "01", "01", "flip"],
        pe_context_len=[2, 4, 2, 2, 2, 2, 2],
    )
    assert task_of(o, DATA, evaluators.of_run(o, [], [])).evaluation_names == ("kept",)


def test_sequences_of_another_run_are_of_its_classes_and_exemplars(tmp_path: Path) -> None:
    maker = {**OPTIONS, **OWN, **COOPETITION, "class_split": [4, 0, 8], "exemplar_split": [1, 0, 2]}
    (tmp_path / "maker").mkdir()
    (tmp_path / "maker" / "config.json").write_text(json.dumps(maker))
    paths = ["/elsewhere/maker/eval.h5", "/gone/eval.h5", "../../eval.h5"]
    o = run_options(**OWN, load_eval_data=paths, pe_names=[], match_query_and_distractors=True)
    (found,) = runs._loaded(tmp_path / "user", o)
    kept = sets_of(task_of(o, DATA, evaluators.of_run(o, [found], [])))
    assert list(kept) == COOPETITION["pe_names"]
    for each in kept.values():
        assert (each.first_classes, each.first_exemplars) == (4, 1)
        assert each.matched_exemplars is False  # as its maker was, not its user


def test_a_log_is_read_for_every_set_it_may_have(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "log.h5", "w") as log:
        log["eval_iter"] = np.array([0, 32])
        for name in ("icl", "mine", "other"):
            log[f"{name}/loss"] = np.full((2, 5), 0.25, np.float32)
    found = runs.read_log(tmp_path / "log.h5", ["mine"])
    assert set(found["set"].values) == {*(each.name for each in EVALUATION_SETS), "icl", "mine"}
    assert float(found["loss"].sel(set="mine", sequences=32)) == 0.25


def test_lists_of_evaluators_must_be_as_long_as_their_names(tmp_path: Path) -> None:
    bad = {**OPTIONS, **COOPETITION, "pe_burstiness": [1]}
    (tmp_path / "config.json").write_text(json.dumps(bad))
    with pytest.raises(ih.UserError, match="pe_burstiness has 1 entries: give 5"):
        runs.read_run_options(tmp_path / "config.json")
