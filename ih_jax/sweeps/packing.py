"""Packing runs into blocks: which of their arrays are stacked, and which are shared by all.

A block is the runs that one compiled program trains side by side. What differs between the runs of
a sweep is stacked along a first axis; what is the same in all of them (features, a corpus) is kept
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from ih_jax.data.batches import Leaf
from ih_jax.sweeps.loop import RunArrays


class Packed(NamedTuple):
    """The arrays of a block of runs, as the compiled functions of `chunk` take them."""

    varying: list[Leaf]  # [R, ...] each
    shared: list[Leaf]  # without a run axis


@dataclass(frozen=True)
class Packing:
    """Which leaves of `RunArrays` vary between the runs of a group, and their tree."""

    varies: tuple[bool, ...]
    tree: Any

    def pack(self, runs: RunArrays, which: Sequence[int]) -> Packed:
        """The block of these runs, by their places in `runs` (stacked along the first axis)."""
        leaves = jax.tree.leaves(runs)
        pairs = list(zip(leaves, self.varies, strict=True))
        index = np.asarray(which)
        return Packed([x[index] for x, v in pairs if v], [x[0] for x, v in pairs if not v])

    def one(self, varying: Sequence[Leaf], shared: Sequence[Leaf]) -> RunArrays:
        """One run, from its own leaves and the shared ones."""
        own, common = iter(varying), iter(shared)
        run: RunArrays = jax.tree.unflatten(
            self.tree, [next(own) if v else next(common) for v in self.varies]
        )
        return run


def packing(runs: RunArrays) -> Packing:
    """The packing of a group of runs, one for all its blocks: bits do not depend on blocks."""
    leaves, tree = jax.tree.flatten(runs)
    # Seeds are always a run's own: a sweep over one seed runs the same program as one over many.
    own = {id(runs.init), id(runs.hyper.learning_rate)}

    def differs(leaf: Leaf) -> bool:
        if isinstance(leaf, np.ndarray) and leaf.strides[:1] == (0,):
            return False  # one array for all runs: see `runs`
        return not np.array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))

    varies = tuple(id(leaf) in own or differs(leaf) for leaf in leaves)
    return Packing(varies, tree)
