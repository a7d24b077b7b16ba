"""What tells heads apart before training: what each copies, and how quickly each starts to match.

Glossary: H heads of the last layer, E d_head, D d_model, C labels, B sequences.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Batch
from ih_jax.errors import UserError
from ih_jax.measures.base import measure
from ih_jax.measures.heads import induction_strength
from ih_jax.measures.probes import by_pieces
from ih_jax.model.layers import EPSILON
from ih_jax.model.params import Params
from ih_jax.tasks.fewshot_scores import query_loss


@measure(dims={"copying": ("head",), "growth": ("head",)})
def head_starts(params: Params, clamp: Holds, batch: Batch) -> dict[str, Array]:
    """{"copying": [H], "growth": [H]} of the heads of the last layer of a few-shot network.

    copying: the logit of a label that a head adds where it attends to that label's token, less
    what it adds to the other labels': mean over labels of W_U W_O W_V n(e), with e the embedding
    of the label and n a layer norm; what layer 0 adds to e is left out.

    growth: d strength / d step of `induction_strength`, were every weight moved by the sign of its
    negative gradient, which is Adam's first step at a learning rate of 1.

    Raises UserError for a language model.
    """
    if params.W_L is None:
        raise UserError("head_starts: this network has no labels: give a few-shot network")
    embedded = params.W_L.T  # [C, D]
    centred = embedded - embedded.mean(-1, keepdims=True)
    normed = centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + EPSILON)
    last = params.blocks[-1].attention
    logits = jnp.einsum("cd,hde,hef,kf->hck", normed, last.W_V, last.W_O, params.W_U)
    own = jnp.diagonal(logits, axis1=1, axis2=2).mean(-1)  # [H]
    C = logits.shape[-1]
    others = (logits.sum((1, 2)) / C - own) / max(C - 1, 1)

    def loss(weights: Params) -> Array:
        def of(piece: Batch) -> Array:
            return query_loss(forward(weights, piece, clamp, "query"), piece)

        mean: Array = by_pieces(of, batch)
        return mean

    down = jax.tree.map(lambda g: -jnp.sign(g), jax.grad(loss)(params))
    slopes = jax.jacrev(lambda p: induction_strength(p, clamp, batch))(params)  # [H, ...] each
    along = jax.tree.map(
        lambda slope, step: (slope * step[None]).reshape(len(own), -1).sum(1), slopes, down
    )
    growth = sum(jax.tree.leaves(along), jnp.zeros(len(own)))
    return {"copying": own - others, "growth": growth}
