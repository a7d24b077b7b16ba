"""In-context linear regression: x1 y1 x2 y2 ..., with y = w.x + noise for a w of each sequence.

Papers: Garg et al. 2022, *What can transformers learn in-context?* (2208.01066); Raventos et al.
2023, *Pretraining task diversity and the emergence of non-Bayesian in-context learning*
(2306.15063), whose training w are a finite set.

Glossary of shapes: B sequences, n examples, D dimensions of x, M tasks (vectors w) in the set.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax import memory
from ih_jax.data.batches import Vectors
from ih_jax.errors import UserError, real, whole
from ih_jax.model.activations import Activations
from ih_jax.tasks.base import Task, task


@task("regression")
@dataclass(frozen=True)
class Regression(Task):
    """Linear regression in context: at each x the network gives y from the examples before it.

    Tokens are vectors of D + 1 entries, (0, x) and (y, 0): 2 n - 1 of them, since nothing follows
    the last x. x is drawn from N(0, I), and w from N(0, I) or from a set of M that was. The loss is
    the squared error, mean over all n examples; evaluation set "new" draws every w anew.

    Attributes:
        dimensions: D.
        examples: n.
        noise: the variance of y about w.x.
        tasks: M, how many w there are; 0: every sequence has a new one. The first of a larger set
            are those of a smaller one.
        most_tasks: at most so many, of runs that share a compiled program.
        tasks_seed: draws the set.
    """

    dimensions: int = 8
    examples: int = 16
    noise: float = 0.25
    tasks: int = 0
    most_tasks: int = 1024
    tasks_seed: int = 0

    # The seed too: it decides what `source` holds, and no program reads it.
    arrays: ClassVar[tuple[str, ...]] = ("noise", "tasks", "tasks_seed")
    evaluation_names: ClassVar[tuple[str, ...]] = ("train", "new")
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1e-3,
        "positions": "learned",
        "mlp_ratio": 2.0,
        "heads": 4,
        "max_positions": 64,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("dimensions", self.dimensions, least=1)
        whole("examples", self.examples, least=2)
        whole("tasks_seed", self.tasks_seed)
        real("noise", self.noise, above=0)
        whole("most_tasks", self.most_tasks, least=1)
        memory.check(8 * self.most_tasks * self.dimensions, "a set of tasks")
        if whole("tasks", self.tasks) > self.most_tasks:
            raise UserError(
                f"tasks is {self.tasks:,}, most_tasks {self.most_tasks:,}: raise most_tasks"
            )

    def source(self, which: str) -> dict[str, np.ndarray]:
        """The set of w, [most_tasks, D]; how many are in use (0: new ones); the noise."""
        return {
            "set": _set_of(self.tasks_seed, self.most_tasks, self.dimensions),
            "tasks": np.asarray(0 if which == "new" else self.tasks, np.int32),
            "noise": np.asarray(self.noise, np.float32),
        }

    def sizes(self) -> tuple[Any, ...]:
        """Nothing: `most_tasks` and `dimensions` are part of the objective."""
        return ()

    def sample(self, key: Array, source: Any, sequences: int) -> Vectors:
        """Draw a batch; targets are {"y": [B, n], "w": [B, D]}."""
        B, n, D = sequences, self.examples, self.dimensions
        of_x, of_w, of_choice, of_noise = jax.random.split(key, 4)
        x = jax.random.normal(of_x, (B, n, D))
        count = source["tasks"]
        chosen = jax.random.randint(of_choice, (B,), 0, jnp.maximum(count, 1))
        w = jnp.where(count > 0, source["set"][chosen], jax.random.normal(of_w, (B, D)))
        y = jnp.einsum("bnd,bd->bn", x, w)
        y = y + jnp.sqrt(source["noise"]) * jax.random.normal(of_noise, (B, n))
        of_xs = jnp.pad(x, ((0, 0), (0, 0), (1, 0)))
        of_ys = jnp.pad(y[..., None], ((0, 0), (0, 0), (0, D)))
        tokens = jnp.stack([of_xs, of_ys], axis=2).reshape(B, 2 * n, D + 1)[:, :-1]
        return Vectors(tokens, targets={"y": y, "w": w})

    def loss(self, activations: Activations, batch: Vectors) -> Array:
        """The squared error, mean over sequences and examples."""
        return jnp.mean((predictions(activations) - batch.targets["y"]) ** 2)


@functools.lru_cache(1)  # both sets of a task, and all numbers of tasks, have the same
def _set_of(seed: int, tasks: int, dimensions: int) -> np.ndarray:
    """[tasks, dimensions]"""
    found = np.random.default_rng(seed).normal(size=(tasks, dimensions)).astype(np.float32)
    found.flags.writeable = False
    return found


def predictions(activations: Activations) -> Array:
    """[B, n]: what the network says y is at each x."""
    assert activations.logits is not None
    return activations.logits[:, ::2, 0]
