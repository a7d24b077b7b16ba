"""What each evaluation set asks: which strategies can answer its sequences, and which cannot."""

import jax
import numpy as np
import pytest

import ih_jax as ih
from ih_jax.data.evaluations import NAMED, STRATEGIES, EvaluationSet, named
from ih_jax.data.fewshot import Burst, Kind
from ih_jax.errors import UserError
from ih_jax.tasks.fewshot import FewShot
from ih_jax.tasks.fewshot_cards import settings_of

MANY = 2048
CLASSES = 9
FEATURES = np.arange(12 * 3 * 2, dtype=np.float32).reshape(12, 3, 2)
FAST = {"xla_backend_optimization_level": 0}


def own(**settings):
    """Classes 0 to 8 train, each with a label of its own; 9 to 11 are unseen."""
    given = {"classes": CLASSES, "labels": CLASSES, "scheme": "none", "exemplars": 2}
    given |= {"own_labels": "modulo", "evaluation_sets": tuple(STRATEGIES), **settings}
    return ih.fewshot(FEATURES, **given)


def drawn(task, which):
    draw = jax.jit(task.sample, static_argnums=2, compiler_options=FAST)
    return jax.tree.map(np.asarray, draw(jax.random.key(0), task.source(which), MANY))


@pytest.mark.parametrize("labels", [CLASSES, 4])
def test_each_set_can_be_answered_by_the_strategies_that_it_is_named_after(labels):
    """Answers of two ideal networks: one looks the class up in the context, one knows labels."""
    task = own(labels=labels, pairs=4 if labels == CLASSES else 2)
    by_context, by_weights, to_copy = {}, {}, {}
    for name in STRATEGIES:
        batch = drawn(task, name)
        context, answer = batch.labels[:, :-1], batch.labels[:, -1:]
        same = batch.classes[:, :-1] == batch.classes[:, -1:]
        by_context[name] = np.mean(np.where(same, context == answer, True).all(1) & same.any(1))
        by_weights[name] = np.mean(batch.classes[:, -1] % labels == answer[:, 0])
        to_copy[name] = (context == answer).sum(1)
        assert batch.classes.max() < CLASSES
        assert set(np.unique(batch.rows % 2)) == {0, 1}
    half = task.pairs // 2
    assert [by_context[name] for name in ("train_eval", "icl", "flip_icl")] == [1, 1, 1]
    assert [by_context[name] for name in ("pure_iwl", "iwl_copy_avail")] == [0, 0]
    assert by_weights["train_eval"] == by_weights["pure_iwl"] == by_weights["iwl_copy_avail"] == 1
    assert by_weights["flip_icl"] == 0  # against the weights
    assert abs(by_weights["icl"] - 1 / labels) < 0.1  # the new labels say nothing of the class
    for name in ("train_eval", "icl", "flip_icl"):
        assert np.all(to_copy[name] == half)
    assert np.all(to_copy["pure_iwl"] == 0)
    assert np.all(to_copy["iwl_copy_avail"] == 1)


def test_new_labels_are_the_first_two_and_flipped_ones_are_those_of_the_other_class():
    task = own()
    assert set(np.unique(drawn(task, "icl").labels)) == {0, 1}
    flipped = drawn(task, "flip_icl")
    distractor = flipped.kinds == Kind.DISTRACTOR
    assert np.array_equal(flipped.labels[distractor], flipped.classes[:, -1])
    assert np.array_equal(flipped.labels[:, -1], flipped.classes[distractor])


def test_sets_of_strategies_are_of_equally_frequent_classes_and_unmatched_exemplars():
    task = own(zipf=3.0, matched_exemplars=True)
    query = drawn(task, "train_eval")
    assert np.bincount(query.classes[:, -1]).min() > MANY / CLASSES / 2
    bursty = query.kinds[:, :-1] == Kind.BURSTY
    assert np.mean((query.rows[:, :-1] == query.rows[:, -1:])[bursty]) < 0.6
    training = drawn(task, "train")
    assert np.bincount(training.classes[:, -1], minlength=CLASSES)[-1] < MANY / CLASSES / 2
    bursty = training.kinds[:, :-1] == Kind.BURSTY
    assert np.all((training.rows[:, :-1] == training.rows[:, -1:])[bursty])


def test_every_run_may_have_the_sets_that_need_no_labels_of_its_own():
    task = ih.fewshot(FEATURES, classes=9, evaluation_sets=("fsl_train", "icl"))
    assert task.evaluation_names == ("fsl_train", "icl")
    batch = drawn(task, "icl")
    assert set(np.unique(batch.labels)) == {0, 1}
    assert np.array_equal(
        drawn(task, "train").rows, drawn(task.replace(scheme="flip"), "train").rows
    )
    with pytest.raises(UserError, match=r"'pure_iwl'.*own labels.*8.*5 labels.*modulo"):
        task.replace(evaluation_sets=("pure_iwl",))
    binned = task.replace(evaluation_sets=("pure_iwl",), own_labels="modulo")
    assert drawn(binned, "pure_iwl").labels.max() == 4


def test_own_labels_are_of_the_classes_that_train_whatever_their_split():
    task = own(class_split=3)
    trained = task.splits()["classes"]["train"]
    assert sorted(task.labels_of_classes()[trained]) == list(range(CLASSES))
    others = np.setdiff1d(np.arange(12), trained)
    assert task.labels_of_classes()[others].min() >= CLASSES


def test_fresh_labels_are_any_two_that_differ():
    batch = drawn(own(labels=4, scheme="fresh", evaluation_sets=("icl",)), "train")
    bursty = batch.kinds[:, 0] == Kind.BURSTY
    other = np.where(bursty, batch.labels[:, 1], batch.labels[:, 0])
    counts = np.bincount(batch.labels[:, -1] * 4 + other, minlength=16).reshape(4, 4)
    assert np.all(np.diag(counts) == 0)
    expected = MANY / 12
    assert np.all(np.abs(counts[~np.eye(4, dtype=bool)] - expected) < 5 * np.sqrt(expected))


def test_a_label_is_the_class_s_own_with_a_probability():
    """Components of a mixture may differ in where labels come from."""
    mixture = (Burst(scheme="none"), Burst(scheme="fresh"), Burst(0, random_query_label=True))
    task = own(mixture=mixture, mixture_weights=(0.5, 0.25, 0.25))
    batch = drawn(task, "train")
    known = batch.labels == batch.classes
    absent = (batch.kinds[:, :-1] == Kind.OTHER).all(1)
    assert abs(absent.mean() - 0.25) < 0.05
    assert np.all((batch.labels[:, :-1] == batch.labels[:, -1:])[absent].any(1))
    assert np.all(known[absent, -1])
    assert abs(known[~absent].all(1).mean() - 2 / 3 - 1 / 3 / 72) < 0.05


def test_cards_keep_names_and_sets_of_ones_own():
    mine = EvaluationSet("mine", "test", "all", "01", Burst(1), "relabel", first_exemplars=1)
    task = own(evaluation_sets=("icl", mine), mixture=(Burst(scheme="fresh"),))
    described = task.describe()
    assert described["evaluation_sets"][0] == "icl"
    settings = settings_of(FewShot, described)
    assert settings["evaluation_sets"] == task.evaluation_sets
    assert settings["mixture"] == task.mixture
    assert drawn(task, "mine").classes.max() == 2  # of the three unseen ones


def test_names_that_are_unknown_or_come_twice():
    with pytest.raises(UserError, match="pure_iwl"):
        named("pure_iw", 2)
    with pytest.raises(UserError, match="once"):
        own(evaluation_sets=("icl", "icl"))
    with pytest.raises(UserError, match="names"):
        own(evaluation_sets=(3,))
    with pytest.raises(UserError, match="other labels"):
        own(labels=2, classes=2, evaluation_sets=("pure_iwl",))
    assert {named(name, 2).name for name in NAMED} == set(NAMED)


def test_no_set_of_ones_own_has_the_training_sets_name():
    with pytest.raises(ih.UserError, match="'train', which the training set is called"):
        ih.fewshot(classes=8, evaluation_sets=(EvaluationSet("train"),))
