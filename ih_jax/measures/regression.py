"""What in-context linear regression can do at best: closed-form predictors, and a network beside.

Papers: Garg et al. 2022 (2208.01066), least squares; Raventos et al. 2023 (2306.15063), section 2:
ridge, which is Bayes' answer where every w is drawn from N(0, I), and Bayes' answer where it is one
of a finite set ("dMMSE").

Glossary of shapes: B sequences, n examples, D dimensions of x, M tasks (vectors w) in a set. Each
prediction of y_k uses the examples before the k-th, so that the first uses none.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax.clamps.apply import apply
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Vectors
from ih_jax.errors import UserError, unknown, whole
from ih_jax.measures.base import measure
from ih_jax.model.params import Params
from ih_jax.tasks.regression import Regression, predictions

PREDICTORS = ("network", "least_squares", "ridge", "finite_set")


def least_squares(x: Array, y: Array) -> Array:
    """[B, n]: w_k.x_k, w_k the shortest vector of least squares over the examples before k.

    Args:
        x: [B, n, D].
        y: [B, n].
    """
    fitted = [jnp.linalg.pinv(x[:, :k]) @ y[:, :k, None] for k in range(1, x.shape[1])]
    w = jnp.stack([jnp.zeros_like(x[:, 0]), *(each[..., 0] for each in fitted)], axis=1)
    return jnp.einsum("bnd,bnd->bn", x, w)


def ridge(x: Array, y: Array, penalty: Array | float) -> Array:
    """[B, n]: w_k.x_k, w_k = (X'X + penalty I)^-1 X'y over the examples before k.

    With the variance of the noise as penalty, the mean of y_k given all before where w is drawn
    from N(0, I). Arguments as in `least_squares`.
    """
    products = jnp.cumsum(jnp.einsum("bnd,bne->bnde", x, x), axis=1)
    sums = jnp.cumsum(x * y[..., None], axis=1)
    before, below = _before(products), _before(sums)
    penalised = before + penalty * jnp.eye(x.shape[-1])[None, None]
    w = jnp.linalg.solve(penalised, below[..., None])[..., 0]
    return jnp.einsum("bnd,bnd->bn", x, w)


def finite_set(x: Array, y: Array, tasks: Array, noise: Array | float) -> Array:
    """[B, n]: the mean of y_k given all before, where w is one of a set, each as likely.

        sum_m p_m w_m.x_k,   p_m = softmax over m of -sum_{i<k} (y_i - w_m.x_i)^2 / (2 noise)

    Args:
        x, y: as in `least_squares`.
        tasks: [M, D], the set.
        noise: variance of y about w.x.
    """
    each = jnp.einsum("bnd,md->bnm", x, tasks)
    logs = jnp.cumsum(-((y[..., None] - each) ** 2) / (2 * noise), axis=1)
    return jnp.einsum("bnm,bnm->bn", jax.nn.softmax(_before(logs), axis=-1), each)


def _before(sums: Array) -> Array:
    """Running sums, [B, n, ...], without the example itself: 0 at the first."""
    return jnp.concatenate([jnp.zeros_like(sums[:, :1]), sums[:, :-1]], axis=1)


def with_answers(task: Regression, sequences: int, which: str = "train", seed: int = 0) -> Vectors:
    """Sequences of a task, with what each predictor answers among their targets.

    A probe for `against_the_best`. The set of "finite_set" is that of training, whichever sequences
    are asked for; of a task without a set (`tasks` 0) it is NaN.

    Args:
        task: with values of its own, such as `study.runs[0].task`.
        sequences: B.
        which: "train", or "new": every w drawn anew.
        seed: of the sequences.

    Raises:
        UserError: the task has no such sequences, or there are none of them.
    """
    if which not in task.evaluation_names:
        raise unknown("evaluation set", which, task.evaluation_names)
    sequences = whole("sequences", sequences, least=1)
    source = task.source(which)
    batch = task.sample(jax.random.key(seed), source, sequences)
    x, y = batch.vectors[:, ::2, 1:], batch.targets["y"]
    known = jnp.asarray(source["set"][: task.tasks])
    answers = {
        "least_squares": least_squares(x, y),
        "ridge": ridge(x, y, task.noise),
        "finite_set": finite_set(x, y, known, task.noise) if task.tasks else jnp.nan * y,
    }
    return Vectors(batch.vectors, targets={**batch.targets, **answers})


@measure(
    dims={"error": ("predictor", "seen"), "distance": ("predictor", "seen")},
    coords={"predictor": list(PREDICTORS)},
    name="against_the_best",
    description={
        "error": "Mean squared error of a prediction of y",
        "distance": "Mean squared difference of a prediction from the network's",
    },
)
def against_the_best(params: Params, clamp: Holds, batch: Vectors) -> dict[str, Array]:
    """Errors of the network and of closed forms, and how far the network is from each.

        error [predictor, n]     mean over B of (prediction - y)^2
        distance [predictor, n]  mean over B of (prediction - the network's)^2; the network's own: 0

    By examples seen, 0 to n - 1. The probe is one of `with_answers`.

    Raises:
        UserError: the probe has no answers.
    """
    targets = getattr(batch, "targets", None)
    known = targets if isinstance(targets, Mapping) else {}
    missing = [name for name in PREDICTORS[1:] if name not in known]
    if missing:
        raise UserError(
            f"against_the_best: the probe has no answers of {', '.join(missing)}: give "
            "probe=lambda task: with_answers(task, 1000)"
        )
    network = predictions(apply(params, batch, clamp))
    told = jnp.stack([network, *(batch.targets[name] for name in PREDICTORS[1:])])
    return {
        "error": jnp.mean((told - batch.targets["y"][None]) ** 2, axis=1),
        "distance": jnp.mean((told - network[None]) ** 2, axis=1),
    }
