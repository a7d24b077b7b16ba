"""What is measured along training: accuracies by set, and how far the induction head has come.

Paper: Reddy 2024, section 3, "progress measures": attention from a label to the item before it in
the first layer; from the query, in the second layer, to labels at all and to the right ones.

Glossary of shapes: B sequences, N pairs, T = 2 N + 1 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

import ih_jax as ih
from ih_jax.clamps.holds import Holds
from ih_jax.tasks.gaussian import SETS, GaussianClasses, query_logits

OBJECTIVES = ("icl", "iwl")


@ih.measure(
    dims={"accuracy": ("asked",), "previous": (), "to_labels": (), "match": ()},
    coords={"asked": list(SETS)},
    name="progress",
    description={
        "accuracy": "Share of right answers",
        "previous": "Attention of labels to the item before, first layer",
        "to_labels": "Attention of the query to labels, second layer",
        "match": "Share of that on labels of the query's class",
    },
)
def progress(params: ih.Params, clamp: Holds, probe: Mapping[str, ih.Vectors]) -> dict[str, Array]:
    """Accuracies, and the progress of the induction head on classes never seen.

        accuracy [set]   by evaluation set (`tasks.gaussian.SETS`)
        previous         first layer: mean over labels of the attention to their own item
        to_labels        second layer: attention of the query to all labels
        match            second layer: of that, the share on labels of the query's class

    Heads of a layer are averaged. The probe is one of `measures.probes.of_sets(SETS)`.
    """
    right = []
    for name in SETS:
        told = query_logits(ih.apply(params, probe[name], clamp, rows="query")).argmax(-1)
        right.append(jnp.mean(told == probe[name].targets["answer"]))
    batch = probe["icl"]
    pattern = ih.apply(params, batch, clamp).pattern  # a layer each: [B, H, T, T]
    first, second = pattern[0].mean(1), pattern[1].mean(1)[:, -1]
    labels = jnp.arange(1, batch.positions, 2)
    on_labels = second[:, labels]  # [B, N]
    shares = jnp.where(batch.targets["match"], on_labels, 0.0).sum(1) / on_labels.sum(1)
    return {
        "accuracy": jnp.stack(right),
        "previous": first[:, labels, labels - 1].mean(),
        "to_labels": on_labels.sum(1).mean(),
        "match": shares.mean(),
    }


def label_loss(params: ih.Params, clamp: Holds, batch: ih.Vectors) -> Array:
    """Nats, as the task has it: what `gradient_alignment` differentiates."""
    task = GaussianClasses(labels=params.config.labels, classes=params.config.labels)
    return task.loss(ih.apply(params, batch, clamp, rows="query"), batch)
