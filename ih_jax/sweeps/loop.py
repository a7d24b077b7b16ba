"""How one run trains: its arrays, its first state, one step, one evaluation.

Everything here is a pure function of one run; `packing` and `chunk` put many runs side by side.

Papers: Singh et al. 2024, section 2 and appendix A (Adam, learning rate 1e-5, batch 32); language
models are trained as in Olsson et al. 2022, "Model Details" (warm-up, weight decay).

Glossary of shapes: S evaluation sets, M metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Leaf, Sequences
from ih_jax.model.params import Config, Params, init
from ih_jax.tasks.base import Objective, TaskArrays

Optimiser = Literal["adam", "sgd"]
Schedule = Literal["constant", "warmup", "warmup_decay", "cosine"]
EVALUATION_TOKENS = 1280  # evaluated together: they stay in the cache, where all at once would not
TRAIN_SET, ALL_SETS = 1, 2  # what an evaluation covers; 0: nothing


@dataclass(frozen=True)
class Program:
    """The static half of a run: what is compiled, apart from shapes."""

    config: Config
    task: Objective
    tokens: int  # T, of a sequence
    batch: int = 32
    evaluation_sequences: int = 1000
    optimiser: Optimiser = "adam"
    schedule: Schedule = "constant"
    clips: bool = False
    decays: bool = False
    beta2: float = 0.999  # of Adam

    @property
    def unit(self) -> int:
        """How far a step takes a run along its axis: sequences or tokens seen."""
        return self.batch * self.task.unit_per_sequence


@struct.dataclass
class Hyper:
    """The optimiser's numbers, one value per run."""

    learning_rate: Leaf
    weight_decay: Leaf  # decoupled, as in AdamW; used if the program decays
    clip_norm: Leaf  # of the whole gradient; used if the program clips
    warmup_steps: Leaf
    decay_steps: Leaf
    initial_scale: Leaf  # multiplies every weight matrix at the start
    first_learning_rate: Leaf  # where warm-up starts
    last_learning_rate: Leaf  # where decay ends


@struct.dataclass
class RunArrays:
    """The traced half of a run; stacked, that of many runs."""

    init: Leaf  # int32 seed of the initial weights
    order: Leaf  # int32 seed of the sequences' order
    task: TaskArrays
    holds: Holds
    hyper: Hyper
    heads: Leaf | None = None  # int32 seed of the last layer's heads, where it is one of their own


class State(NamedTuple):
    """What training changes in a run."""

    params: Params
    moments: Any  # of the optimiser
    diverged: Array  # int32: the step at which the loss was not finite; -1: it never was


def start(program: Program, run: RunArrays) -> State:
    """The state of a run before its first step."""
    params = init(jax.random.key(run.init), program.config, run.hyper.initial_scale)
    if run.heads is not None:
        donor = init(jax.random.key(run.heads), program.config, run.hyper.initial_scale)
        last = params.blocks[-1].replace(attention=donor.blocks[-1].attention)  # type: ignore[attr-defined]
        params = params.replace(blocks=(*params.blocks[:-1], last))  # type: ignore[attr-defined]
    return State(params, _direction(program).init(params), jnp.int32(-1))


def _direction(program: Program) -> optax.GradientTransformation:
    """From gradients to uphill steps of unit learning rate; `step` goes the other way."""
    if program.optimiser == "sgd":
        return optax.identity()
    return optax.scale_by_adam(b1=0.9, b2=program.beta2, eps=1e-8)


def learning_rate(program: Program, hyper: Hyper, step: Array) -> Leaf:
    """The learning rate at a step, counted from 0.

    "constant"; "warmup": linear up to the rate, then constant; "warmup_decay": linear up, then
    down with the square root of what is left; "cosine": linear up, then half a cosine down. The
    last two follow the code of Singh et al. 2024.
    """
    peak, first, last = hyper.learning_rate, hyper.first_learning_rate, hyper.last_learning_rate
    if program.schedule == "constant":
        return peak
    n = step.astype(jnp.float32)
    up = first + (peak - first) * n / jnp.maximum(hyper.warmup_steps, 1.0)
    down: Leaf
    if program.schedule == "warmup":
        down = peak
    elif program.schedule == "warmup_decay":
        done = jnp.clip((n - hyper.warmup_steps) / jnp.maximum(hyper.decay_steps, 1.0), 0.0, 1.0)
        # The guard keeps the gradient of a power finite; nobody differentiates it, but jit checks.
        down = last + (peak - last) * jnp.sqrt(jnp.maximum(1.0 - done, 0.0))
    else:
        span = jnp.maximum(hyper.decay_steps - hyper.warmup_steps, 1.0)
        done = jnp.clip((n - hyper.warmup_steps) / span, 0.0, 1.0)
        down = last + (peak - last) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
    return jnp.where(n < hyper.warmup_steps, up, down)


def step(program: Program, run: RunArrays, state: State, number: Array) -> State:
    """One training step of one run; a run whose loss is not finite stays where it was."""
    key = jax.random.fold_in(jax.random.key(run.order), number)
    task = program.task
    batch = task.sample(key, run.task.train, program.batch)
    # Tokens may be more than an int32 counts; times are compared as float32 anyway.
    holds = run.holds.at(jnp.float32(number) * program.unit)

    def loss_of(params: Params) -> Array:
        return task.loss(forward(params, batch, holds, task.rows), batch, run.task)

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    if program.clips:
        norm = optax.tree.norm(gradients)
        shrink = jnp.minimum(1.0, run.hyper.clip_norm / jnp.maximum(norm, 1e-16))
        gradients = jax.tree.map(lambda g: g * shrink, gradients)
    updates, moments = _direction(program).update(gradients, state.moments)
    if program.decays:
        decay = run.hyper.weight_decay
        updates = jax.tree.map(lambda u, p: u + decay * p, updates, state.params)
    rate = learning_rate(program, run.hyper, number)
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
    if holds.frozen is not None:
        params = jax.tree.map(
            lambda mask, old, new: jnp.where(mask > 0, old, new), holds.frozen, state.params, params
        )
    alive = (state.diverged < 0) & jnp.isfinite(loss)
    kept = jax.tree.map(
        lambda new, old: jnp.where(alive, new, old),
        (params, moments),
        (state.params, state.moments),
    )
    first = jnp.where(alive, state.diverged, jnp.where(state.diverged < 0, number, state.diverged))
    return State(kept[0], kept[1], first)


def evaluate(
    program: Program, run: RunArrays, params: Params, seen: Array, sets: Sequence[int]
) -> Array:
    """[len(sets), M] metrics of one run on these evaluation sets, each fixed by the seed."""
    holds, task = run.holds.at(seen), program.task
    key = jax.random.key(run.task.evaluation_seed)
    at_once = max(EVALUATION_TOKENS // program.tokens, 1)
    found = []
    for index in sets:
        source = run.task.evaluation[index]
        own = jax.random.fold_in(key, index)
        batch: Sequences = task.sample(own, source, program.evaluation_sequences)

        def score(piece: Sequences) -> Array:
            return task.scores(forward(params, piece, holds, task.rows), piece, run.task)

        whole = batch.mean_of(score, at_once)
        found.append(jnp.where(task.has_sequences(source), whole, jnp.nan))
    return jnp.stack(found)
