"""Gaussian classes: labels in weights and in context, bursts, frequencies, evaluation sets."""

import jax
import numpy as np
import pytest

import ih_jax as ih

TASK = ih.GaussianClasses(
    dimensions=24, pairs=4, labels=3, classes=6, most_classes=12, noise=0.05, burst=2
)


# One program for all: what differs between these tasks and sets is in their sources.
sample = jax.jit(lambda source: TASK.sample(jax.random.key(3), source, 600))


def drawn(task=TASK, which="train"):
    """Labels of the context, answers, whether pairs match, and the class nearest to each item."""
    batch = sample(task.source(which))
    items = np.asarray(batch.vectors[:, ::2])
    near = (items @ task.source("train")["centres"].T).argmax(-1)
    labels, targets = np.asarray(batch.labels), jax.tree.map(np.asarray, batch.targets)
    assert (labels[:, ::2] == -1).all()
    return labels[:, 1::2], targets["answer"], targets["match"], near


def test_labels_are_those_of_the_classes_in_training():
    labels, answer, match, near = drawn()
    assert (labels == near[:, :-1] % 3).mean() > 0.999
    assert (answer == near[:, -1] % 3).mean() > 0.999
    assert (match == (near[:, :-1] == near[:, -1:])).mean() > 0.999
    assert set(near.ravel()) <= set(range(6))


def test_bursts_repeat_a_class_and_the_query_is_of_one_of_them():
    _, _, match, near = drawn()
    assert set(match.sum(1)) <= {2, 4}
    counts = [np.unique(row, return_counts=True)[1] for row in near[:, :-1]]
    assert all((count % 2 == 0).all() for count in counts)
    assert match[:, 0].mean() == pytest.approx(match[:, 3].mean(), abs=0.08)
    _, _, loose, _ = drawn(TASK.replace(bursty=0.0))
    assert loose.mean() == pytest.approx(1 / 6, abs=0.02)


def test_new_classes_can_only_be_named_from_the_context():
    labels, answer, match, near = drawn(which="icl")
    given = np.where(match, labels, -1)
    assert (given.max(1) == answer).all()
    assert all(len(set(row[row >= 0])) == 1 for row in given)
    # The labels say nothing of the known class that an item happens to be nearest to.
    assert (answer == near[:, -1] % 3).mean() == pytest.approx(1 / 3, abs=0.08)


def test_swapped_labels_are_moved_in_context_and_answer():
    labels, answer, _, near = drawn(which="swapped")
    assert (labels == (near[:, :-1] + 1) % 3).mean() > 0.999
    assert (answer == (near[:, -1] + 1) % 3).mean() > 0.999


def test_in_weights_the_class_is_not_in_the_context():
    _, answer, match, near = drawn(which="iwl")
    assert not match.any()
    assert (answer == near[:, -1] % 3).mean() > 0.999


def test_frequencies_follow_zipfs_law_and_noise_is_relative():
    _, _, _, near = drawn(TASK.replace(zipf=1.0, bursty=0.0))
    shares = np.bincount(near.ravel(), minlength=6) / near.size
    np.testing.assert_allclose(shares, 1 / np.arange(1, 7) / sum(1 / np.arange(1, 7)), atol=0.03)
    batch = sample(TASK.replace(noise=1.0).source("train"))
    lengths = np.square(np.asarray(batch.vectors[:, ::2])).sum(-1)
    assert lengths.mean() == pytest.approx(1, abs=0.35)


def test_settings_that_are_arrays_share_a_program():
    varied = {"classes": [3, 12], "burst": [1, 4], "noise": [0.1, 1.0], "centres_seed": [0, 1]}
    study = ih.sweep(TASK, **varied, layers=1, sequences=64)
    assert len(study.groups) == 1
    again = type(study).from_card(study.describe())
    assert [run.task for run in again.runs] == [run.task for run in study.runs]


def test_settings_out_of_range_are_refused():
    for wrong, word in (
        ({"classes": 7}, "multiple of labels"),
        ({"classes": 15}, "raise most_classes"),
        ({"burst": 3}, "divides pairs"),
        ({"bursty": 1.5}, "share"),
    ):
        with pytest.raises(ih.UserError, match=word):
            TASK.replace(**wrong)
