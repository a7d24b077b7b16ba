"""Training: one run as a pure loop, many runs side by side under one `vmap`.

Papers: Singh et al. 2024, section 2 and appendix A (Adam, learning rate 1e-5, batch 32); language
models are trained as in Olsson et al. 2022, "Model Details" (warm-up, weight decay).

A chunk of training is one compiled program: a scan over the evaluations in it, each after a loop
over steps with traced bounds. So one program serves every schedule, and 20 and 30 steps give the
bits of 50.

Glossary of shapes: R runs of a block, N evaluations of a chunk, S evaluation sets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array

from ih_jax.clamps.apply import forward
from ih_jax.clamps.holds import Holds
from ih_jax.data.batches import Sequences
from ih_jax.data.fewshot import Leaf
from ih_jax.model.params import Config, Params, init
from ih_jax.tasks.base import Objective, TaskArrays

Optimiser = Literal["adam", "sgd"]
Schedule = Literal["constant", "warmup", "warmup_decay", "cosine"]
EVALUATE_AT_ONCE = 1280  # tokens
# Tokens of a step of runs that take turns with the rest of their block, so that what a step touches
# stays in the cache: four runs of the few-shot paper, one of a language model.
AT_ONCE = {"cpu": 640}
LONG = 16  # tokens of a sequence; beyond, attention is the most of a step, and products are large
TRAIN_SET, ALL_SETS = 1, 2  # how much an evaluation looks at; 0 is nothing


@dataclass(frozen=True)
class Program:
    """What is compiled, apart from shapes: the static half of a run."""

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
    """The numbers of an optimiser, one value a run."""

    learning_rate: Leaf
    weight_decay: Leaf  # decoupled, as in AdamW; used if the program decays
    clip_norm: Leaf  # of the whole gradient; used if the program clips
    warmup_steps: Leaf
    decay_steps: Leaf
    initial_scale: Leaf  # multiplies every weight matrix at the start
    first_learning_rate: Leaf  # where warm-up starts
    last_learning_rate: Leaf  # where decay ends


@struct.dataclass
class Run:
    """One run's arrays; stacked, those of many."""

    init: Leaf  # int32 seed of the initial weights
    order: Leaf  # int32 seed of the sequences' order
    task: TaskArrays
    holds: Holds
    hyper: Hyper


class State(NamedTuple):
    """What training changes."""

    params: Params
    moments: Any  # of the optimiser
    diverged: Array  # int32: the step at which the loss was not finite; -1: it never was


def start(program: Program, run: Run) -> State:
    """A run before its first step."""
    params = init(jax.random.key(run.init), program.config, run.hyper.initial_scale)
    return State(params, _direction(program).init(params), jnp.int32(-1))


def _direction(program: Program) -> optax.GradientTransformation:
    """From gradients to steps of unit learning rate, downhill negated later."""
    if program.optimiser == "sgd":
        return optax.identity()
    return optax.scale_by_adam(b1=0.9, b2=program.beta2, eps=1e-8)


def learning_rate(program: Program, hyper: Hyper, step: Array) -> Leaf:
    """At a step, counted from 0.

    "constant"; "warmup": linear up to the rate, then constant; "warmup_decay": linear up, then
    down by the square root law; "cosine": linear up, then half a cosine down. The last two as in
    the authors' code of Singh et al. 2024.
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


def step(program: Program, run: Run, state: State, number: Array) -> State:
    """One step of one run; a run whose loss is not finite stays where it was."""
    key = jax.random.fold_in(jax.random.key(run.order), number)
    task = program.task
    batch = task.sample(key, run.task.train, program.batch)
    holds = run.holds.at(number * program.unit)

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


def evaluate(program: Program, run: Run, params: Params, seen: Array, sets: Sequence[int]) -> Array:
    """[len(sets), M] metrics of one run on these evaluation sets, each fixed by the seed."""
    holds, task = run.holds.at(seen), program.task
    key = jax.random.key(run.task.evaluation_seed)
    # A few sequences at a time stay in the cache; all at once would not.
    at_once = max(EVALUATE_AT_ONCE // program.tokens, 1)
    found = []
    for index in sets:
        source = run.task.evaluation[index]
        own = jax.random.fold_in(key, index)
        batch: Sequences = task.sample(own, source, program.evaluation_sequences)

        def score(piece: Sequences) -> Array:
            return task.scores(forward(params, piece, holds, task.rows), piece, run.task)

        whole = batch.mean_of(score, at_once)
        found.append(jnp.where(task.there_are(source), whole, jnp.nan))
    return jnp.stack(found)


class Block(NamedTuple):
    """Runs that train together: leaves that differ are stacked, those that all share are not."""

    varying: list[Leaf]
    shared: list[Leaf]


@dataclass(frozen=True)
class Packing:
    """How runs of a sweep become blocks: which leaves vary, and the tree they belong to."""

    varies: tuple[bool, ...]
    tree: Any

    def pack(self, runs: Run, which: Sequence[int]) -> Block:
        """The block of these runs (stacked along the first axis)."""
        leaves = jax.tree.leaves(runs)
        pairs = list(zip(leaves, self.varies, strict=True))
        index = np.asarray(which)
        return Block([x[index] for x, v in pairs if v], [x[0] for x, v in pairs if not v])

    def one(self, varying: Sequence[Leaf], shared: Sequence[Leaf]) -> Run:
        """One run from its own leaves and the shared ones."""
        own, common = iter(varying), iter(shared)
        return jax.tree.unflatten(  # type: ignore[no-any-return]
            self.tree, [next(own) if v else next(common) for v in self.varies]
        )


def packing(runs: Run) -> Packing:
    """The packing of a group. A sweep has one, so that bits do not depend on blocks."""
    leaves, tree = jax.tree.flatten(runs)
    # Seeds are always a run's own: a sweep over one seed runs the same program as one over many.
    own = {id(runs.init), id(runs.hyper.learning_rate)}

    def differs(leaf: Leaf) -> bool:
        if isinstance(leaf, np.ndarray) and leaf.strides[:1] == (0,):
            return False  # one array of all runs: see `stack_runs`
        return not np.array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))

    varies = tuple(id(leaf) in own or differs(leaf) for leaf in leaves)
    return Packing(varies, tree)


def stack_runs(runs: Sequence[Run], holds: Holds) -> Run:
    """Runs along a new first axis, with `holds` (already stacked) as theirs."""
    bare = [run.replace(holds=Holds()) for run in runs]  # type: ignore[attr-defined]

    def stack(*leaves: Leaf) -> np.ndarray:
        if all(leaf is leaves[0] for leaf in leaves):  # a corpus, say: no copies
            return np.broadcast_to(leaves[0], (len(leaves), *leaves[0].shape))
        return np.stack(leaves)

    stacked = jax.tree.map(stack, *bare)
    return stacked.replace(holds=holds)  # type: ignore[no-any-return]


def starter(program: Program, pack: Packing) -> Callable[[Block], State]:
    """The compiled function that gives a block's first state."""

    def begin(block: Block) -> State:
        return jax.vmap(lambda own: start(program, pack.one(own, block.shared)))(block.varying)

    return jax.jit(begin)


def advancer(
    program: Program, pack: Packing, sets: int, platform: str
) -> Callable[[State, Block, Array, Array], tuple[State, Array]]:
    """The compiled function that trains a block through a chunk.

    It takes (state, block, bounds [N + 1] steps, kinds [N]): before evaluation i it trains from
    bounds[i] to bounds[i + 1]; kinds[i] is 0, TRAIN_SET or ALL_SETS. It gives the new state and
    the scores [N, R, S, M], NaN where nothing was looked at. The state is donated.

    All runs step together; where a cache would overflow, a few go through the chunk after the
    others.
    """
    metrics = len(program.task.metrics)

    def advance(state: State, block: Block, bounds: Array, kinds: Array) -> tuple[State, Array]:
        def each(function: Callable[[Run, State], Any], state: State) -> Any:
            # One run alone needs no vmap, under which its large products would be slower.
            if program.tokens > LONG and len(state.diverged) == 1:
                own, one = jax.tree.map(lambda x: x[0], (block.varying, state))
                found = function(pack.one(own, block.shared), one)
                return jax.tree.map(lambda x: x[None], found)
            return jax.vmap(lambda own, one: function(pack.one(own, block.shared), one))(
                block.varying, state
            )

        def look(state: State, seen: Array, kind: Array) -> Array:
            def scores_of(some: range, least: int) -> Array:
                nothing = jnp.full((state.diverged.shape[0], len(some), metrics), jnp.nan)
                return jax.lax.cond(
                    kind >= least,
                    lambda: each(
                        lambda run, s: evaluate(program, run, s.params, seen, some), state
                    ),
                    lambda: nothing,
                )

            first = scores_of(range(1), TRAIN_SET)
            if sets == 1:
                return first
            return jnp.concatenate([first, scores_of(range(1, sets), ALL_SETS)], axis=1)

        def stretch(state: State, plan: tuple[Array, Array, Array]) -> tuple[State, Array]:
            begin, end, kind = plan
            state = jax.lax.fori_loop(
                begin,
                end,
                lambda i, s: each(lambda run, one: step(program, run, one, i), s),
                state,
            )
            return state, look(state, end * program.unit, kind)

        return jax.lax.scan(stretch, state, (bounds[:-1], bounds[1:], kinds))

    def advance_some(
        state: State, block: Block, bounds: Array, kinds: Array
    ) -> tuple[State, Array]:
        width = state.diverged.shape[0]
        some = runs_at_once(width, program.batch * program.tokens, platform)
        if some == width:
            return advance(state, block, bounds, kinds)
        parts = jax.tree.map(
            lambda x: x.reshape(width // some, some, *x.shape[1:]), (state, block.varying)
        )
        state, scores = jax.lax.map(
            lambda own: advance(own[0], Block(own[1], block.shared), bounds, kinds), parts
        )
        state = jax.tree.map(lambda x: x.reshape(width, *x.shape[2:]), state)
        return state, jnp.moveaxis(scores, 0, 1).reshape(len(kinds), width, *scores.shape[3:])

    options = compiler_options(platform, program.tokens)
    return jax.jit(advance_some, donate_argnums=0, compiler_options=options)


def runs_at_once(width: int, tokens: int, platform: str) -> int:
    """How many of a block's runs step together, each with so many tokens a step.

    The most up to `AT_ONCE` that the block has a whole number of; all if these are few.
    """
    most = min(width, max(AT_ONCE.get(platform, width * tokens) // tokens, 1))
    return next((n for n in range(most, most // 2, -1) if width % n == 0), width)


def compiler_options(platform: str, tokens: int) -> dict[str, str]:
    """Options that make the program faster where they are known, and none where not.

    On CPU, XLA's fusion of matrix products into its other library slows the batch-last layout of
    short sequences; the large products of long ones it makes faster.
    """
    if tokens > LONG:
        return {}
    options = {"cpu": {"xla_cpu_experimental_ynn_fusion_type": ""}}.get(platform, {})
    with contextlib.suppress(Exception):
        jax.jit(lambda x: x + 1, compiler_options=options).lower(1.0).compile()
        return options
    return {}
