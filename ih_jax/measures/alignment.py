"""How two objectives act on the same weights: alignment of their gradients, and what a step does.

"Compete" and "cooperate" as numbers: where the gradients of two losses point the same way, a step
down one of them lowers the other; where they point against each other, it raises it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Sequences
from ih_jax.errors import UserError
from ih_jax.measures.base import measure
from ih_jax.model.params import Config, Params
from ih_jax.tasks.fewshot_scores import query_loss

STEP = 1e-3
Loss = Callable[[Params, Holds, Any], Array]  # of the weights, the clamp of training, sequences


def gradient_alignment(
    objectives: Sequence[str],
    config: Config,
    loss: Loss | None = None,
    step: float = STEP,
) -> Callable[[Params, Holds, Mapping[str, Sequences]], dict[str, Array]]:
    """A measure: how several objectives act on the same weights.

        loss [objective]                   nats (or the unit of `loss`)
        size [objective, group]            Euclidean norm of the gradient g_a, by group of weights
        cosine [objective, other, group]   g_a.g_b / |g_a| |g_b| over the weights of a group; NaN
                                           where either is 0
        change [objective, other]          loss_a(w - step g_b / |g_b|) - loss_a(w): what a small
                                           step down the other does; about -step |g_a| cosine

    An objective is a loss on sequences of its own: the probe is {objective: sequences}, such as
    `measures.probes.of_sets` gives. Groups are those of `groups_of`, "all" first. Weights that the
    clamp of training freezes count as 0 and do not move.

    Args:
        objectives: their names, two or more.
        config: of the networks.
        loss: `loss(params, clamp, sequences)` gives a scalar; None: nats of the query's label, as
            the few-shot task has it. For a task of your own, its loss of `ih.apply`.
        step: length of the step, in units of weight.

    Raises:
        UserError: there are fewer than two names, one is given twice, or `step` is not above 0;
            (when measured) the probe lacks an objective.
    """
    names = list(objectives)
    if isinstance(objectives, str) or len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"objectives is {objectives!r}: give two or more different names")
    if not step > 0:
        raise UserError(f"step is {step!r}: give a length above 0")
    of = query_label if loss is None else loss

    @measure(
        dims={
            "loss": ("objective",),
            "size": ("objective", "group"),
            "cosine": ("objective", "other", "group"),
            "change": ("objective", "other"),
        },
        coords={"objective": names, "other": names, "group": group_names(config)},
        name="gradient_alignment",
        description={
            "size": "Norm of the gradient",
            "cosine": "Cosine of two objectives' gradients",
            "change": "Change of a loss after a small step down another",
        },
    )
    def of_network(
        params: Params, clamp: Holds, probe: Mapping[str, Sequences]
    ) -> dict[str, Array]:
        absent = [name for name in names if not isinstance(probe, Mapping) or name not in probe]
        if absent:
            raise UserError(
                f"the probe has no sequences for {', '.join(absent)}: give {{name: sequences}} for "
                "each objective, such as measures.probes.of_sets(...)"
            )

        def losses(weights: Params) -> Array:
            return jnp.stack([of(weights, clamp, probe[name]) for name in names])

        found = [
            jax.value_and_grad(lambda weights, own=name: of(weights, clamp, probe[own]))(params)
            for name in names
        ]
        values = jnp.stack([value for value, _ in found])
        gradients = [_that_learn(slope, clamp) for _, slope in found]
        groups = [[_flat(each) for each in groups_of(slope).values()] for slope in gradients]
        size = jnp.stack([jnp.stack([jnp.linalg.norm(g) for g in own]) for own in groups])
        products = jnp.stack(
            [
                jnp.stack(
                    [jnp.stack([a @ b for a, b in zip(one, two, strict=True)]) for two in groups]
                )
                for one in groups
            ]
        )
        changes = []
        for slope, own in zip(gradients, size, strict=True):
            length = jnp.where(own[0] > 0, step / jnp.where(own[0] > 0, own[0], 1.0), 0.0)
            moved = jax.tree.map(lambda w, g, by=length: w - by * g, params, slope)
            changes.append(losses(moved) - values)
        return {
            "loss": values,
            "size": size,
            "cosine": products / (size[:, None] * size[None]),
            "change": jnp.stack(changes, axis=1),
        }

    return of_network


def query_label(params: Params, clamp: Holds, batch: Any) -> Array:
    """Nats of the query's label, mean over few-shot sequences."""
    return query_loss(forward(params, batch, clamp, "query"), batch)


def groups_of(weights: Params) -> dict[str, list[Array]]:
    """Weights (or a gradient) by what they do; every array is in one group, and in "all".

    "embed" (exemplars or tokens, labels, positions); for each layer "layer 0 QK" (queries, keys,
    smearing, distances), "layer 0 OV" (values, outputs) and, where there is one, "layer 0 MLP";
    "norms"; and "unembed".
    """
    found: dict[str, list[Any]] = {
        "all": jax.tree.leaves(weights),
        "embed": [weights.W_E, weights.b_E, weights.W_L, weights.W_pos],
    }
    norms: list[Any] = []
    for layer, block in enumerate(weights.blocks):
        attention = block.attention
        of_queries = [attention.W_QKV[:2], attention.smear, attention.distances]
        found[f"layer {layer} QK"] = of_queries
        found[f"layer {layer} OV"] = [attention.W_QKV[2], attention.W_out]
        if block.mlp is not None:
            found[f"layer {layer} MLP"] = jax.tree.leaves(block.mlp)
        norms += jax.tree.leaves((block.norm1, block.norm2))
    norms += jax.tree.leaves(weights.norm)
    if norms:
        found["norms"] = norms
    found["unembed"] = [weights.W_U, weights.b_U]
    return {name: [x for x in own if x is not None] for name, own in found.items()}


def group_names(config: Config) -> list[str]:
    """The names of `groups_of`, in its order."""
    layers = []
    for layer in range(config.layers):
        parts = ["QK", "OV", *(["MLP"] if config.mlp_ratio is not None else [])]
        layers += [f"layer {layer} {part}" for part in parts]
    return ["all", "embed", *layers, *(["norms"] if config.norm else []), "unembed"]


def _flat(arrays: Sequence[Array]) -> Array:
    return jnp.concatenate([x.ravel() for x in arrays])


def _that_learn(slope: Params, clamp: Holds) -> Params:
    """A gradient with 0 for the weights that the clamp freezes."""
    if clamp.frozen is None:
        return slope
    return jax.tree.map(lambda g, frozen: jnp.where(frozen > 0, 0.0, g), slope, clamp.frozen)
