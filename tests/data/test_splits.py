"""What must be true of splits of labels, classes and exemplars (Singh et al. 2024, section 2)."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest

from ih_jax.data.evaluations import EVALUATION_SETS
from ih_jax.data.splits import split_classes, split_exemplars, split_label_pairs


def as_set(pairs):
    return {tuple(pair) for pair in pairs.tolist()}


def test_label_pairs_of_the_paper():
    split = split_label_pairs(5, (8, 2, 0), 20)
    assert as_set(split["val"]) == {(1, 3), (0, 2)}
    train = {(1, 2), (2, 3), (0, 4), (0, 3), (0, 1), (2, 4), (1, 4), (3, 4)}
    assert as_set(split["train"]) == train
    assert split["test"].shape == (0, 2)
    sizes = [[len(split_label_pairs(n)[part]) for part in ("train", "val")] for n in (10, 15)]
    assert sizes == [[36, 9], [84, 21]]


@pytest.mark.parametrize("shares", [(8, 2, 0), (6, 2, 2), (0.5, 0.25, 0.25)])
@pytest.mark.parametrize("labels", [5, 6, 11])
def test_label_pairs_are_parted_and_every_label_trains(labels, shares):
    split = split_label_pairs(labels, shares, seed=1)
    everything = set(itertools.combinations(range(labels), 2))
    assert as_set(split["all"]) == everything
    parts = [as_set(split[name]) for name in ("train", "val", "test")]
    assert set.union(*parts) == everything
    assert sum(len(part) for part in parts) == len(everything)
    fractions = [int(len(everything) * share / sum(shares)) for share in shares]
    assert [len(part) for part in parts[1:]] == fractions[1:]
    assert {label for pair in parts[0] for label in pair} == set(range(labels))


def test_label_pairs_try_other_orders_until_every_label_trains():
    # 3 of 10 pairs can cover 5 labels but seldom do.
    splits = [split_label_pairs(5, (3, 7, 0), seed) for seed in range(8)]
    assert all(set(np.unique(split["train"])) == set(range(5)) for split in splits)
    jax.tree.map(np.testing.assert_array_equal, splits[3], split_label_pairs(5, (3, 7, 0), 3))
    with pytest.raises(ValueError, match="2 training pairs of 10 left out a label"):
        split_label_pairs(5, (2, 8, 0))


def test_label_pairs_leave_the_generator_as_it_was():
    before = jax.random.uniform(jax.random.key(0), (5,))
    split_label_pairs(7)
    jax.tree.map(np.testing.assert_array_equal, before, jax.random.uniform(jax.random.key(0), (5,)))


def test_classes_are_split_in_the_order_of_the_file():
    split = split_classes(1623, 50, 100)
    assert np.array_equal(split["train"], np.arange(50))
    assert np.array_equal(split["val"], np.arange(50, 1523))
    assert np.array_equal(split["test"], np.arange(1523, 1623))
    assert len(split_classes(10, 10, 0)["test"]) == 0
    shuffled = split_classes(1623, 50, 100, seed=1)
    assert [len(shuffled[name]) for name in ("train", "val", "test")] == [50, 1473, 100]
    assert np.array_equal(np.sort(np.concatenate(list(shuffled.values()))), np.arange(1623))
    assert not np.array_equal(shuffled["train"], split["train"])
    jax.tree.map(np.testing.assert_array_equal, shuffled, split_classes(1623, 50, 100, seed=1))
    assert not np.array_equal(shuffled["train"], split_classes(1623, 50, 100, seed=2)["train"])


def test_exemplars_are_split_in_order():
    split = split_exemplars(20, 1, 4)
    assert [split[name].tolist() for name in ("train", "val")] == [[0], [1, 2, 3, 4]]
    assert split["test"].tolist() == list(range(5, 20))


def test_evaluation_sets_name_splits_that_exist():
    names = [each.name for each in EVALUATION_SETS]
    assert names == ["fsl_train", "fsl_val_rl", "fsl_train_valex", "fsl_test_class"]
    for each in EVALUATION_SETS:
        assert each.classes in split_classes(9, 3, 3)
        assert each.exemplars in split_exemplars(5, 1, 4)
        assert each.label_pairs in split_label_pairs(5)
    # Each differs from the training set in one thing only.
    splits = [(each.classes, each.exemplars, each.label_pairs) for each in EVALUATION_SETS]
    assert len(set(splits)) == 4
    assert [sum(part != "train" for part in split) for split in splits] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(split_label_pairs, 1), "1 labels"),
        (partial(split_label_pairs, 5, (0, 0, 0)), "shares"),
        (partial(split_label_pairs, 5, (9, -1, 0)), "shares"),
        (
            partial(split_classes, 242, 200, 100),
            r"300 classes asked for \(train 200 \+ test 100\), the data has 242",
        ),
        (
            partial(split_exemplars, 4, 1, 4),
            r"5 exemplars asked for \(train 1 \+ val 4\), the data has 4",
        ),
        (partial(split_exemplars, 4, -1, 4), "exemplars asked for"),
    ],
)
def test_mistakes_are_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
