"""Weights as they lie on disk, in parts: each part is read whole, and those read last are kept."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import jax

from ih_jax import memory
from ih_jax.model.params import Config, Params, init
from ih_jax.sweeps import store
from ih_jax.sweeps.records import BlockRecord

# Of the machine's memory, and bytes: for weights that were read and may be read again.
MEMORY_SHARE, MOST_KEPT = 1 / 8, 10**9


@dataclass
class KeptParts:
    """The weights of parts that are in memory, by path, that read last at the end."""

    weights: dict[Path, Params] = field(default_factory=dict)
    bytes: int = 0  # of these

    def read(self, block: BlockRecord, place: int, config: Config, step: int) -> Params:
        """The weights of the network at `place` of a block after `step` steps, in NumPy.

        Raises:
            store.Damaged: what is on disk is not what was written.
        """
        path, about = block.parts[block.part_of[step]]
        whole = self.weights.pop(path, None)
        if whole is not None:
            self.weights[path] = whole  # read last
        else:
            leaves, _ = store.load_part(path)
            at = (len(about["steps"]), len(block.runs))
            whole = store.rebuild(_shapes(config), leaves, "params", at)
            self._keep(path, whole)
        index = about["steps"].index(step)
        found: Params = jax.tree.map(lambda leaf: leaf[index, place], whole)
        return found

    def _keep(self, path: Path, weights: Params) -> None:
        """Keep a part's weights in memory, and drop earlier ones that leave no room for it."""
        self.weights[path] = weights
        self.bytes += _bytes(weights)
        room = min(MEMORY_SHARE * memory.total(), MOST_KEPT)
        while self.bytes > room and len(self.weights) > 1:
            self.bytes -= _bytes(self.weights.pop(next(iter(self.weights))))


@functools.cache
def _shapes(config: Config) -> Params:
    """The weights of a network, as shapes."""
    found: Params = jax.eval_shape(lambda: init(jax.random.key(0), config))
    return found


def _bytes(weights: Params) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
