"""The regression task: its tokens, its sets of tasks, what a network may know when it answers."""

import jax
import numpy as np
import pytest

import ih_jax as ih
from ih_jax.tasks.regression import predictions

TASK = ih.Regression(dimensions=2, examples=4, tasks=3, most_tasks=8)


# One program for all: what differs between these tasks and sets is in their sources.
sample = jax.jit(lambda source: TASK.sample(jax.random.key(0), source, 400))


def drawn(task, which="train"):
    return sample(task.source(which))


def test_tokens_are_x_and_y_in_turn_and_ys_are_those_of_w():
    batch = drawn(TASK)
    x, y = batch.vectors[:, ::2, 1:], batch.vectors[:, 1::2, 0]
    assert batch.positions == TASK.context_length == 7
    np.testing.assert_array_equal(y, batch.targets["y"][:, :-1])
    assert (np.asarray(batch.vectors[:, ::2, 0]) == 0).all()
    assert (np.asarray(batch.vectors[:, 1::2, 1:]) == 0).all()
    residual = batch.targets["y"] - (x * batch.targets["w"][:, None]).sum(-1)
    assert abs(float(residual.var()) - TASK.noise) < 0.03


def test_training_draws_from_the_set_and_new_tasks_are_new():
    known = TASK.source("train")["set"][:3]
    w = np.asarray(drawn(TASK).targets["w"])
    assert {tuple(row) for row in w} == {tuple(row) for row in known}
    new = np.asarray(drawn(TASK, "new").targets["w"])
    assert len(np.unique(new, axis=0)) == len(new)
    larger = TASK.replace(tasks=5).source("train")
    np.testing.assert_array_equal(larger["set"], TASK.source("train")["set"])
    assert len(np.unique(np.asarray(drawn(TASK.replace(tasks=0)).targets["w"]), axis=0)) == 400


def test_an_answer_knows_the_examples_before_it_alone():
    config = TASK.config(d_model=8, heads=2, layers=1, positions="learned")
    params = jax.jit(lambda: ih.init(jax.random.key(1), config))()
    told = jax.jit(lambda vectors: predictions(ih.apply(params, ih.Vectors(vectors))))
    vectors = np.asarray(drawn(TASK).vectors)[:2]
    first = told(vectors)
    for token in range(7):
        moved = vectors.copy()
        moved[0, token] += 1
        changed = np.asarray(told(moved) != first)
        assert changed[0].tolist() == [2 * k >= token for k in range(4)]
        assert not changed[1].any()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ih.UserError, match="raise most_tasks"):
        ih.Regression(tasks=2000)
    with pytest.raises(ih.UserError, match="noise"):
        ih.Regression(noise=0.0)


def test_sets_of_different_sizes_share_a_program_and_cards_find_the_task():
    study = ih.sweep(TASK, tasks=[1, 3, 0], tasks_seed=[0, 1], layers=1, sequences=64)
    assert len(study.groups) == 1
    again = type(study).from_card(study.describe())
    assert [run.task for run in again.runs] == [run.task for run in study.runs]
