"""The traced half of the few-shot task: what is drawn, and how a forward pass over it scores.

Glossary of shapes: B sequences, C labels (logits), P exemplars of a sequence (query last).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax.data.batches import Batch, Leaf
from ih_jax.data.fewshot import Layout, Source, sample
from ih_jax.model.params import Rows
from ih_jax.model.sites import Sites
from ih_jax.tasks.base import TaskArrays

NO_ANSWER = -1e9  # the logit of a label that the run does not use
METRICS = {"loss": "nats", "accuracy": "", "in_context_accuracy": ""}


@dataclass(frozen=True)
class Objective:
    """The traced half (`tasks.base.Objective`)."""

    layout: Layout
    masks_labels: bool = False

    @property
    def metrics(self) -> Mapping[str, str]:
        """`METRICS`."""
        return METRICS

    @property
    def rows(self) -> Rows:
        """Only the query answers."""
        return "query"

    @property
    def unit_per_sequence(self) -> int:
        """Sequences are counted."""
        return 1

    def sample(self, key: Array, source: Source, sequences: int) -> Batch:
        """See `data.fewshot.sample`; an evaluation set may have a layout of its own."""
        return sample(key, source.layout or self.layout, source, sequences)

    def loss(self, sites: Sites, batch: Batch, arrays: TaskArrays) -> Array:
        """See `query_loss`."""
        return query_loss(sites, batch, self._label_count(arrays))

    def scores(self, sites: Sites, batch: Batch, arrays: TaskArrays) -> Array:
        """See `scores`."""
        return scores(sites, batch, self._label_count(arrays))

    def has_sequences(self, source: Source) -> Array:
        """Few labels leave no pairs to hold out."""
        return jnp.asarray(source.pair_count) > 0

    def _label_count(self, arrays: TaskArrays) -> Leaf | None:
        return arrays.scoring if self.masks_labels else None


def masked_logits(sites: Sites, label_count: Leaf | None = None) -> Array:
    """[C, B]: the query's logits, those of labels that the run does not use far below."""
    logits = sites["logits"][0][:, -1]
    if label_count is None:
        return logits
    return jnp.where(jnp.arange(logits.shape[0])[:, None] < label_count, logits, NO_ANSWER)


def query_loss(sites: Sites, batch: Batch, label_count: Leaf | None = None) -> Array:
    """Nats: mean cross-entropy at the query (Singh et al. 2024, section 2)."""
    log_p = jax.nn.log_softmax(masked_logits(sites, label_count), axis=0)
    target = jnp.arange(log_p.shape[0])[:, None] == batch.labels[None, :, -1]
    return -jnp.mean(jnp.sum(jnp.where(target, log_p, 0.0), axis=0))


def scores(sites: Sites, batch: Batch, label_count: Leaf | None = None) -> Array:
    """[3]: loss in nats, accuracy, and accuracy among the labels in context (`METRICS`)."""
    logits = masked_logits(sites, label_count)
    target = batch.labels[:, -1]
    labels = jnp.arange(logits.shape[0])[:, None, None]
    in_context = jnp.any(labels == batch.labels.T[None, :-1], axis=1)  # [C, B]
    among = jnp.where(in_context, logits, -jnp.inf)
    return jnp.stack(
        [
            query_loss(sites, batch, label_count),
            jnp.mean(jnp.argmax(logits, axis=0) == target),
            jnp.mean(jnp.argmax(among, axis=0) == target),
        ]
    )
