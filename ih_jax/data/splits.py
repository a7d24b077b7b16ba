"""Which classes, exemplars and label pairs of few-shot data train, and which are held out."""

from __future__ import annotations

from typing import Literal

import jax
import numpy as np

from ih_jax.data.images.features import Features
from ih_jax.errors import UserError

Generator = Literal["old", "new"]  # of JAX before 0.5, and since


def split_label_pairs(
    labels: int,
    shares: tuple[float, float, float] = (8, 2, 0),
    seed: int = 20,
    generator: Generator = "old",
) -> dict[str, np.ndarray]:
    """Unordered label pairs [*, 2], a < b: train, val and test by `shares`, and all.

    The paper's split (section 2): 8 and 2 of the 10 pairs of 5 labels. If a label is missing from
    the training pairs, other orders are tried. `generator`: which one of JAX draws the order.
    Raises ValueError for fewer than 2 labels, or if no order of 100 keeps every label in training.
    """
    if labels < 2 or len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError(f"{labels} labels, shares {shares}: give 2 or more, and 3 numbers >= 0")
    pairs = np.stack(np.triu_indices(labels, 1), axis=1)
    test, val = (int(len(pairs) * share / sum(shares)) for share in (shares[2], shares[1]))
    for attempt in range(100):
        with jax.threefry_partitionable(generator == "new"):
            key = jax.random.PRNGKey(seed)
            key = jax.random.fold_in(key, attempt) if attempt else key
            order = np.asarray(jax.random.permutation(key, pairs))
        train = order[test + val :]
        if len(np.unique(train)) == labels:
            return {"train": train, "val": order[test:][:val], "test": order[:test], "all": pairs}
    raise ValueError(
        f"{len(train)} training pairs of {len(pairs)} left out a label of {labels} in 100 orders: "
        f"raise the training share in {shares}"
    )


def _check(available: int, what: str, **parts: int) -> None:
    """Raise ValueError if the parts ask for more than there is."""
    if min(parts.values()) < 0 or sum(parts.values()) > available:
        asked = " + ".join(f"{name} {count}" for name, count in parts.items())
        raise ValueError(
            f"{sum(parts.values())} {what} asked for ({asked}), the data has {available}"
        )


def split_classes(
    available: int, train: int, test: int, seed: int | None = None
) -> dict[str, np.ndarray]:
    """Class indices: train is the first, test the last, val those between (Singh et al. 2024).

    In the order of the file, or shuffled with a seed. Raises ValueError if too many are asked for.
    """
    _check(available, "classes", train=train, test=test)
    order = (
        np.arange(available) if seed is None else np.random.default_rng(seed).permutation(available)
    )
    end = available - test
    return {"train": order[:train], "val": order[train:end], "test": order[end:]}


def split_by_group(classes: dict[str, np.ndarray], data: Features) -> dict[str, np.ndarray]:
    """Without variants of a class to train on among the others.

    Unseen classes move up from "val" in the places of those left out. Raises UserError where there
    are too few.
    """
    if data.groups is None:
        return classes
    trained = set(data.groups[classes["train"]].tolist())
    rest = np.concatenate([classes["val"], classes["test"]])
    fresh = rest[[group not in trained for group in data.groups[rest].tolist()]]
    count = len(classes["test"])
    if len(fresh) < count:
        raise UserError(
            f"{data.name} has {len(fresh)} classes of other characters than those trained on, "
            f"{count} unseen ones are asked for: lower test_classes or classes"
        )
    cut = len(fresh) - count
    return {**classes, "val": fresh[:cut], "test": fresh[cut:]}


def split_exemplars(available: int, train: int, val: int) -> dict[str, np.ndarray]:
    """Exemplar indices: train is the first, val the next, test the rest. Raises as above."""
    _check(available, "exemplars", train=train, val=val)
    order = np.arange(available)
    return {"train": order[:train], "val": order[train:][:val], "test": order[train + val :]}
