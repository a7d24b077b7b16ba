"""The compiled functions of a block: its first state, and training through a chunk of steps.

A chunk is one compiled program: a scan over the evaluations in it, each after a loop over steps
with traced bounds. So one program serves every schedule, and 20 and 30 steps give the bits of 50.

Glossary of shapes: R runs of a block, N evaluations of a chunk, S evaluation sets, M metrics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ih_jax import platforms
from ih_jax.data.batches import size_of_pieces
from ih_jax.sweeps.loop import (
    ALL_SETS,
    TRAIN_SET,
    Program,
    RunArrays,
    State,
    evaluate,
    start,
    step,
)
from ih_jax.sweeps.packing import Packed, Packing

LONG = 16  # tokens of a sequence, beyond which attention dominates a step and products are large

Advance = Callable[[State, Packed, Array, Array], tuple[State, Array]]


def starter(program: Program, pack: Packing) -> Callable[[Packed], State]:
    """The compiled function that gives a block's first state."""

    def begin(block: Packed) -> State:
        return jax.vmap(lambda own: start(program, pack.one(own, block.shared)))(block.varying)

    return jax.jit(begin)


def advancer(program: Program, pack: Packing, sets: int, platform: str) -> Advance:
    """The compiled function that trains a block through a chunk.

    It takes (state, block, bounds [N + 1] steps, kinds [N]): before evaluation i it trains from
    bounds[i] to bounds[i + 1]; kinds[i] is 0, TRAIN_SET or ALL_SETS. It gives the new state and
    the scores [N, R, S, M], NaN where nothing was evaluated. The state is donated.

    All runs step together; where a cache would overflow, a few go through the chunk after the
    others.
    """

    def advance(state: State, block: Packed, bounds: Array, kinds: Array) -> tuple[State, Array]:
        with platforms.matmul_precision(platform):
            return whole(state, block, bounds, kinds)

    def whole(state: State, block: Packed, bounds: Array, kinds: Array) -> tuple[State, Array]:
        width = state.diverged.shape[0]
        some = runs_at_once(width, program.batch * program.tokens, platform)
        if some == width:
            return _advance_together(program, pack, sets, state, block, bounds, kinds)
        parts = jax.tree.map(
            lambda x: x.reshape(width // some, some, *x.shape[1:]), (state, block.varying)
        )
        state, scores = jax.lax.map(
            lambda own: _advance_together(
                program, pack, sets, own[0], Packed(own[1], block.shared), bounds, kinds
            ),
            parts,
        )
        state = jax.tree.map(lambda x: x.reshape(width, *x.shape[2:]), state)
        return state, jnp.moveaxis(scores, 0, 1).reshape(len(kinds), width, *scores.shape[3:])

    options = compiler_options(platform, program.tokens)
    return jax.jit(advance, donate_argnums=0, compiler_options=options)


def _advance_together(
    program: Program,
    pack: Packing,
    sets: int,
    state: State,
    block: Packed,
    bounds: Array,
    kinds: Array,
) -> tuple[State, Array]:
    """What `advancer` describes, for runs that all step together."""

    def stretch(state: State, plan: tuple[Array, Array, Array]) -> tuple[State, Array]:
        begin, end, kind = plan

        def steps(number: Array, state: State) -> State:
            found: State = _each(
                program, pack, block, state, lambda run, one: step(program, run, one, number)
            )
            return found

        state = jax.lax.fori_loop(begin, end, steps, state)
        return state, _scores(
            program, pack, sets, block, state, jnp.float32(end) * program.unit, kind
        )

    return jax.lax.scan(stretch, state, (bounds[:-1], bounds[1:], kinds))


def _scores(
    program: Program,
    pack: Packing,
    sets: int,
    block: Packed,
    state: State,
    seen: Array,
    kind: Array,
) -> Array:
    """[R, S, M]: scores of every run, NaN on the evaluation sets that `kind` leaves out."""
    metrics = len(program.task.metrics)

    def on(some: range, least: int) -> Array:
        nothing = jnp.full((state.diverged.shape[0], len(some), metrics), jnp.nan)

        def look(run: RunArrays, one: State) -> Array:
            return evaluate(program, run, one.params, seen, some)

        found: Array = jax.lax.cond(
            kind >= least, lambda: _each(program, pack, block, state, look), lambda: nothing
        )
        return found

    first = on(range(1), TRAIN_SET)
    if sets == 1:
        return first
    return jnp.concatenate([first, on(range(1, sets), ALL_SETS)], axis=1)


def _each(
    program: Program,
    pack: Packing,
    block: Packed,
    state: State,
    function: Callable[[RunArrays, State], Any],
) -> Any:
    """What `function(run, its state)` gives for every run of a block, along a first axis."""
    # One run alone needs no vmap, under which its large products would be slower.
    if program.tokens > LONG and len(state.diverged) == 1:
        own, one = jax.tree.map(lambda x: x[0], (block.varying, state))
        found = function(pack.one(own, block.shared), one)
        return jax.tree.map(lambda x: x[None], found)
    return jax.vmap(lambda own, one: function(pack.one(own, block.shared), one))(
        block.varying, state
    )


def runs_at_once(width: int, tokens: int, platform: str) -> int:
    """How many of a block's runs step together, where each takes so many tokens a step.

    The largest divisor of the width within the platform's `tokens_per_step`; all runs if the best
    is below half of that.
    """
    fitting = platforms.of(platform).tokens_per_step or width * tokens
    most = min(width, max(fitting // tokens, 1))
    return size_of_pieces(width, most, least=most // 2 + 1)


def compiler_options(platform: str, tokens: int) -> dict[str, platforms.Option]:
    """Options for programs on sequences of so many tokens: quicker, or the same bits every time.

    Those of the platform, if this version of XLA knows them.
    """
    own = platforms.of(platform)
    options = {**own.options, **(own.short_options if tokens <= LONG else {})}
    if not options:
        return {}
    with contextlib.suppress(Exception):
        jax.jit(lambda x: x + 1, compiler_options=options).lower(1.0).compile()
        return options
    return {}
