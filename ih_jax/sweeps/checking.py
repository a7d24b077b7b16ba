"""Whether a task of one's own fits its model and its clamps, told before anything is compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.kinds.attention import Induction
from ih_jax.data.batches import Batch, Tokens
from ih_jax.errors import UserError
from ih_jax.model.params import init
from ih_jax.sweeps.loop import Program
from ih_jax.tasks.base import OwnObjective, Task


def check_own(program: Program, task: Task, clamp: Clamp) -> None:
    """Trace a step's forward pass, loss and scores, if the task is not one of this package.

    Raises UserError for a clamp that the task's batches do not fit, for a loss or scores that are
    not as announced, and for settings that a program cannot keep.
    """
    objective = program.task
    if not isinstance(objective, OwnObjective):
        return
    try:
        hash(program)
    except TypeError as error:
        raise UserError(
            f"task {task.kind!r} has a setting that a program cannot keep ({error}): give numbers, "
            "strings or tuples, and arrays through `source`"
        ) from None
    arrays = jax.tree.map(jnp.asarray, task.run_arrays())
    holds = clamp.arrays(program.config)

    def step(key: Array) -> tuple[Array, ...]:
        params = init(key, program.config)
        found = []
        for source in (arrays.train, *arrays.evaluation):
            batch = objective.sample(key, source, program.batch)
            if not isinstance(batch, Batch):
                _refuse_clamps_of_pairs(clamp, isinstance(batch, Tokens))
            sites = forward(params, batch, holds, objective.rows)
            found += [objective.loss(sites, batch, arrays), objective.scores(sites, batch, arrays)]
        return tuple(found)

    jax.eval_shape(step, jax.random.key(0))


def _refuse_clamps_of_pairs(clamp: Clamp, tokens: bool) -> None:
    for held in (part.held for part in clamp.parts):
        by_label = getattr(held, "rows", "all") == "label"
        # Induction has a form for tokens as well.
        of_pairs = held.reads_pairs or (isinstance(held, Induction) and not tokens)
        if by_label or of_pairs:
            what = f'{held.kind} with rows="label"' if by_label else held.kind
            raise UserError(
                f"{what} applies only to few-shot tasks of exemplars and labels: leave it out"
            )
