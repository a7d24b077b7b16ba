"""Classes that are Gaussian clouds, each with a label of its own: learnt in context or in weights.

Paper: Reddy 2024, *The mechanistic basis of data dependence and abrupt learning in an in-context
classification task* (2312.03002), section 2.

Glossary of shapes: B sequences, N pairs of the context, D dimensions of an item, K classes, L
labels (logits), T = 2 N + 1 tokens x1 l1 ... xN lN xq.
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
from ih_jax.model.params import Rows
from ih_jax.tasks.base import Task, task

# Of an evaluation set: (share of sequences with the query's class in the context, or -1: that of
# training; whether classes are new; by how much labels are moved on; whether the query's class is
# kept out of the context).
SETS: Mapping[str, tuple[float, bool, int, bool]] = {
    "train": (-1.0, False, 0, False),
    "icl": (1.0, True, 0, False),
    "swapped": (1.0, False, 1, False),
    "iwl": (0.0, False, 0, True),
}


@task("gaussian_classes")
@dataclass(frozen=True)
class GaussianClasses(Task):
    """Name the label of the last item, from the context or from what was learnt of its class.

    A class is a centre m ~ N(0, I/D), an item of it (m + noise z) / sqrt(1 + noise^2), z ~ N(0,
    I/D); class k has the label k mod L throughout. In a share `bursty` of the sequences N / `burst`
    classes are drawn by their frequencies, k^-zipf for the k-th, each stands `burst` times in the
    context, in random order, and the query is an item of one of them; in the others all N + 1
    classes are drawn by frequency.

    Evaluation sets, for K = 4, L = 2, N = 2, burst 1, with classes A, B, C, D and labels 0, 1, 0,
    1:

        train    as trained on               A 0 D 1 A, answer 0
        icl      classes never seen, labels  X 1 Y 0 Y, answer 0
                 drawn anew
        swapped  every label l is l + 1      A 1 D 0 A, answer 1
        iwl      the query's class is not    A 0 D 1 B, answer 1
                 in the context

    Attributes:
        dimensions: D.
        pairs: N.
        labels: L.
        classes: K, a multiple of L.
        most_classes: at most so many, of runs that share a compiled program.
        burst: B of the paper, a divisor of N.
        bursty: the paper's p_B.
        noise: the paper's epsilon.
        zipf: the paper's alpha.
        centres_seed: draws the centres; the first of more are those of fewer.
    """

    dimensions: int = 63
    pairs: int = 8
    labels: int = 32
    classes: int = 1024
    most_classes: int = 1024
    burst: int = 1
    bursty: float = 1.0
    noise: float = 0.1
    zipf: float = 0.0
    centres_seed: int = 0

    # The seed too: it decides what `source` holds, and no program reads it.
    arrays: ClassVar[tuple[str, ...]] = (
        "classes",
        "burst",
        "bursty",
        "noise",
        "zipf",
        "centres_seed",
    )
    rows: ClassVar[Rows] = "query"
    metrics: ClassVar[Mapping[str, str]] = {"loss": "nats", "accuracy": ""}
    evaluation_names: ClassVar[tuple[str, ...]] = tuple(SETS)
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1e-3,
        "positions": "learned",
        "mlp_ratio": 2.0,
        "heads": 1,
        "norm": False,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dimensions", "pairs", "burst"):
            whole(name, getattr(self, name), least=1)
        whole("labels", self.labels, least=2)
        whole("centres_seed", self.centres_seed)
        real("noise", self.noise, least=0)
        if not 0 <= real("bursty", self.bursty) <= 1:
            raise UserError(f"bursty is {self.bursty:g}: give a share from 0 to 1")
        if abs(real("zipf", self.zipf)) > 100:
            raise UserError(f"zipf is {self.zipf:g}: give an exponent of at most 100")
        if self.pairs % self.burst:
            raise UserError(
                f"burst is {self.burst}, pairs {self.pairs}: give a burst that divides pairs"
            )
        if whole("classes", self.classes, least=2) % self.labels:
            raise UserError(
                f"classes is {self.classes}, labels {self.labels}: give a multiple of labels"
            )
        if self.classes > self.most_classes:
            raise UserError(
                f"classes is {self.classes:,}, most_classes {self.most_classes:,}: "
                "raise most_classes"
            )
        memory.check(8 * self.most_classes * self.dimensions, "a table of classes")

    @property
    def outputs(self) -> int:
        """L."""
        return self.labels

    def source(self, which: str) -> dict[str, np.ndarray]:
        """Centres, [most_classes, D]; frequencies, as logs; and what `SETS` says of the set."""
        rank = np.arange(1, self.most_classes + 1)
        logs = np.where(rank <= self.classes, -self.zipf * np.log(rank), -np.inf)
        share, new, moved, kept_out = SETS[which]
        return {
            "centres": _centres(self.centres_seed, self.most_classes, self.dimensions),
            "log_frequency": logs.astype(np.float32),
            "burst": np.asarray(self.burst, np.int32),
            "bursty": np.asarray(self.bursty if share < 0 else share, np.float32),
            "noise": np.asarray(self.noise, np.float32),
            "new": np.asarray(new),
            "moved": np.asarray(moved, np.int32),
            "kept_out": np.asarray(kept_out),
        }

    def sizes(self) -> tuple[Any, ...]:
        """Nothing: `most_classes` and `dimensions` are part of the objective."""
        return ()

    def sample(self, key: Array, source: Any, sequences: int) -> Vectors:
        """Draw a batch; targets are {"answer": [B], "match": [B, N], whether pairs have the class}.

        The query's class is among those of the context by its place: two of them may be the same.
        """
        B, N, D = sequences, self.pairs, self.dimensions
        keys = jax.random.split(key, 8)
        logs = source["log_frequency"]
        query = jax.random.categorical(keys[0], logs, shape=(B,))
        # Without the query's class, where it is to be kept out of the context.
        own = jnp.arange(len(logs))[None] == query[:, None]
        logs = jnp.where(source["kept_out"] & own, -jnp.inf, logs[None])  # [B, most_classes]
        drawn = jax.random.categorical(keys[1], logs[:, None], shape=(B, N))
        order = jnp.argsort(jax.random.uniform(keys[2], (B, N)), axis=1)
        repeated = jnp.take_along_axis(drawn, order // source["burst"], axis=1)
        at = jax.random.randint(keys[3], (B, 1), 0, N)
        asked = jnp.take_along_axis(order // source["burst"], at, axis=1)[:, 0]
        bursts = jax.random.uniform(keys[4], (B,)) < source["bursty"]
        context = jnp.where(bursts[:, None], repeated, drawn)
        query = jnp.where(bursts, jnp.take_along_axis(repeated, at, axis=1)[:, 0], query)
        labels = (context % self.labels + source["moved"]) % self.labels
        answer = (query % self.labels + source["moved"]) % self.labels
        centres = source["centres"][jnp.concatenate([context, query[:, None]], axis=1)]
        # Classes never seen: a centre and a label for each of the N / burst places of a sequence.
        places = jnp.concatenate([order // source["burst"], asked[:, None]], axis=1)
        new = jax.random.normal(keys[5], (B, N, D)) / np.sqrt(D)
        new_labels = jax.random.randint(keys[6], (B, N), 0, self.labels)
        of_new = jnp.take_along_axis(new_labels, places, axis=1)
        centres = jnp.where(
            source["new"], jnp.take_along_axis(new, places[..., None], axis=1), centres
        )
        labels = jnp.where(source["new"], of_new[:, :-1], labels)
        answer = jnp.where(source["new"], of_new[:, -1], answer)
        of_asked = places[:, :-1] == asked[:, None]
        match = jnp.where(source["new"], of_asked, context == query[:, None])
        z = jax.random.normal(keys[7], (B, N + 1, D)) / np.sqrt(D)
        items = (centres + source["noise"] * z) / jnp.sqrt(1 + source["noise"] ** 2)
        tokens = jnp.zeros((B, 2 * N + 1, D)).at[:, ::2].set(items)
        of_tokens = jnp.full((B, 2 * N + 1), -1).at[:, 1::2].set(labels)
        return Vectors(tokens, of_tokens, targets={"answer": answer, "match": match})

    def loss(self, activations: Activations, batch: Vectors) -> Array:
        """Nats: the query's label, mean over sequences."""
        log_p = jax.nn.log_softmax(query_logits(activations))
        chosen = jnp.arange(self.labels)[None] == batch.targets["answer"][:, None]
        return -jnp.mean(jnp.sum(jnp.where(chosen, log_p, 0.0), axis=-1))

    def scores(self, activations: Activations, batch: Vectors) -> Mapping[str, Array]:
        """Share of sequences whose right label has the greatest logit."""
        told = query_logits(activations).argmax(-1)
        return {"accuracy": jnp.mean(told == batch.targets["answer"])}


@functools.lru_cache(1)  # all sets of a task, and all numbers of classes, have the same
def _centres(seed: int, classes: int, dimensions: int) -> np.ndarray:
    """[classes, dimensions]"""
    drawn = np.random.default_rng(seed).normal(size=(classes, dimensions))
    found = (drawn / np.sqrt(dimensions)).astype(np.float32)
    found.flags.writeable = False
    return found


def query_logits(activations: Activations) -> Array:
    """[B, L], of the last token."""
    assert activations.logits is not None
    return activations.logits[:, -1]
