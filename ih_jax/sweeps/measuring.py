"""Measuring: one function of a network, applied to the checkpoints of many runs on all devices.

A measure is `function(params, clamp, probe)` for one network, of one array or of {name: array};
`array_labels` says what the axes of these are called.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from ih_jax import errors, memory, platforms
from ih_jax.data.batches import Leaf, Sequences
from ih_jax.errors import UserError
from ih_jax.model.params import Params
from ih_jax.sweeps.array_labels import VALUE, Measure, called, check_dims, labelled
from ih_jax.sweeps.chunk import compiler_options, runs_at_once
from ih_jax.sweeps.packing import packing
from ih_jax.sweeps.programs import workers
from ih_jax.sweeps.runs import Group, RunSpec
from ih_jax.sweeps.study import Study
from ih_jax.tasks.base import Task

NETWORKS_AT_ONCE = 64  # (run, checkpoint) pairs in a device's memory together

# Sequences that all networks see, or a function that gives those of a network from its task.
# Several by name, for a measure that compares them.
Some = Sequences | Mapping[str, Sequences]
Probe = Some | Callable[[Task], Some]
Read = Callable[[int, int], Params]  # the weights of (run, step), in NumPy
Checkpoint = tuple[RunSpec, int]  # a run and a step
Measured = tuple[int, int, dict[str, np.ndarray]]  # run, step, arrays by name


def over_checkpoints(
    study: Study,
    function: Measure,
    steps: Mapping[int, Sequence[int]],
    found: Iterable[Measured],
) -> xr.Dataset | xr.DataArray:
    """What a measure gives, with the axes of the study and its own; NaN where nothing was measured.

    Args:
        study, function, steps: as `measured` takes them.
        found: what it gives of them.

    Raises:
        UserError: the measure's dims do not fit its arrays, or these take more memory than is free.
    """
    chosen = sorted({step for each in steps.values() for step in each})
    place = {step: number for number, step in enumerate(chosen)}
    filled: dict[str, np.ndarray] = {}
    for run, step, arrays in found:
        if not filled:
            check_dims(study, function, arrays)  # said before all is measured
            shape = (len(study.runs), len(chosen))
            memory.check(
                4 * math.prod(shape) * sum(value.size for value in arrays.values()),
                f"the measure of {shape[0]:,} runs at {shape[1]:,} checkpoints",
            )
            filled = {
                name: np.full((*shape, *value.shape), np.nan, np.float32)
                for name, value in arrays.items()
            }
        for name, value in arrays.items():
            filled[name][run, place[step]] = value
    return labelled(study, function, chosen, filled)


def measured(
    study: Study,
    read: Read,
    function: Measure,
    steps: Mapping[int, Sequence[int]],
    probe: Probe | None,
    sequences: int,
    own: Mapping[int, Any] | None = None,
    near: Callable[[int, int], Any] | None = None,
) -> Iterator[Measured]:
    """What a measure gives, one network after the other: (run, step, arrays by name).

    Args:
        study: whose runs these are.
        read: the weights of a run at a step.
        function: the measure; jitted, mapped over networks and laid over all devices.
        steps: {run: steps}, which networks to measure.
        probe: sequences that all networks see, or `probe(task)`, those of the networks of this task
            (of one shape); None: each run's own training evaluation set.
        sequences: how many the latter has.
        own: {run: arrays}, which the measure takes as a fourth argument.
        near: a key of (run, step) by which those that lie together on disk come together; None:
            run after run.
    """
    one_task = len({id(run.task) for run in study.runs}) == 1
    if callable(probe) and one_task:
        probe = probe(study.runs[0].task)
    for group in study.groups:
        wanted = [(run, step) for run in group.runs for step in steps.get(run.index, ())]
        if near is not None:
            wanted.sort(key=lambda each: near(each[0].index, each[1]))
        if not callable(probe):
            if wanted:
                on = _compiled(group, function, probe, sequences)
                yield from _on_all_devices(functools.partial(on, None), wanted, read, own)
            continue
        by_task: dict[int, list[Checkpoint]] = {}
        for each in wanted:
            by_task.setdefault(id(each[0].task), []).append(each)
        on = _compiled(group, function, None, sequences)
        for some in by_task.values():  # one compiled function, given the sequences of each task
            theirs = probe(some[0][0].task)
            yield from _on_all_devices(functools.partial(on, theirs), some, read, own)


def check_call(function: Measure, count: int) -> None:
    """Raises UserError where a measure cannot be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        named = ("params", "clamp", "probe", "own")[:count]
        raise UserError(
            f"{called(function)} cannot be called with {count} arguments: give a "
            f"function({', '.join(named)})"
        ) from None
    except ValueError:  # Python does not know what it takes
        return


def _array(function: Measure, value: Any) -> Array:
    """What a measure gave, as an array. Raises UserError where it is none."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        raise UserError(
            f"{called(function)} gives {errors.given(value)}: give an array, or a dict of arrays "
            "by name"
        ) from None


OnDevice = Callable[[jax.Device, list[Checkpoint], Any], dict[str, np.ndarray]]
OfProbe = Callable[[Some | None, jax.Device, list[Checkpoint], Any], dict[str, np.ndarray]]


def _compiled(group: Group, function: Measure, probe: Some | None, sequences: int) -> OfProbe:
    """The measure of several networks of a group on one device: arrays along a new first axis.

    What it gives takes the sequences, where they are not the same for all networks (`probe`), then
    the device, the networks, and their weights with what else is their own.
    """
    arrays, program = group.arrays, group.program
    pack = packing(arrays)
    place = {run.index: i for i, run in enumerate(group.runs)}
    platform = jax.devices()[0].platform
    # Where networks are measured one at a time, no vmap stands in the way of large products.
    fitting = runs_at_once(NETWORKS_AT_ONCE, program.batch * program.tokens, platform)
    together = fitting if fitting > 1 else None

    def of_one(
        given: Some | None,
        shared: list[Leaf],
        varying: list[Leaf],
        weights: tuple[Params, tuple[Any, ...]],
        step: Array,
    ) -> Any:
        run, (params, own) = pack.one(varying, shared), weights
        batch = probe if given is None else given
        if batch is None:
            key = jax.random.fold_in(jax.random.key(run.task.evaluation_seed), 0)
            batch = program.task.sample(key, run.task.evaluation[0], sequences)
        with platforms.matmul_precision(platform):
            found = function(params, run.holds.at(jnp.float32(step) * program.unit), batch, *own)
        named = found if isinstance(found, dict) else {VALUE: found}
        return {name: _array(function, value) for name, value in named.items()}

    # Without these options a gradient of shared weights under vmap corrupts memory on CPU
    # (JAX 0.10.2), and a measure may well differentiate.
    @functools.partial(jax.jit, compiler_options=compiler_options(platform, program.tokens))
    def of_many(
        given: Some | None,
        varying: list[Leaf],
        shared: list[Leaf],
        weights: tuple[Params, tuple[Any, ...]],
        step: Array,
    ) -> Any:
        return jax.lax.map(
            lambda network: of_one(given, shared, *network),
            (varying, weights, step),
            batch_size=together,
        )

    def on(
        given: Some | None, device: jax.Device, some: list[Checkpoint], weights: Any
    ) -> dict[str, np.ndarray]:
        block = pack.pack(arrays, [place[run.index] for run, _ in some])
        at = np.array([step for _, step in some], np.int32)
        there = jax.device_put((given, block.varying, block.shared, weights, at), device)
        found: dict[str, np.ndarray] = jax.tree.map(np.asarray, of_many(*there))
        return found

    return on


def _on_all_devices(
    on: OnDevice, wanted: list[Checkpoint], read: Read, own: Mapping[int, Any] | None
) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
    """Pieces of these networks on each device in turn, read while earlier ones are measured."""
    devices = workers()
    size = min(NETWORKS_AT_ONCE, -(-len(wanted) // len(devices)))
    waiting: deque[tuple[list[Checkpoint], Future[dict[str, np.ndarray]]]] = deque()
    with contextlib.ExitStack() as stack:
        # A thread for each device: what runs on one must not hold up what is read for the next.
        pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in devices]
        for number, begin in enumerate(range(0, len(wanted), size)):
            some = wanted[begin : begin + size]
            # The last piece is filled up, so that one program serves all.
            padded = some + [some[-1]] * (size - len(some))
            each = [
                (read(run.index, step), () if own is None else (own[run.index],))
                for run, step in padded
            ]
            weights = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
            turn = number % len(devices)
            waiting.append((some, pools[turn].submit(on, devices[turn], padded, weights)))
            if len(waiting) > 2 * len(devices):
                yield from _one_by_one(*waiting.popleft())
        while waiting:
            yield from _one_by_one(*waiting.popleft())


def _one_by_one(
    some: list[Checkpoint], future: Future[dict[str, np.ndarray]]
) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
    found = future.result()
    for place, (run, step) in enumerate(some):
        yield run.index, step, {name: values[place] for name, values in found.items()}
