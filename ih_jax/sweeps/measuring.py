"""Measuring: one function of a network, applied to the checkpoints of many runs on all devices.

A measure is `function(params, clamp, probe)` for one network, of one array or of {name: array}. It
may say what the axes of its arrays are called (`measures.base.measure`); `labelled` reads that.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from ih_jax import errors, platforms
from ih_jax.data.batches import Leaf, Sequences
from ih_jax.errors import UserError
from ih_jax.model.params import Params
from ih_jax.sweeps.chunk import compiler_options, runs_at_once
from ih_jax.sweeps.packing import packing
from ih_jax.sweeps.programs import workers
from ih_jax.sweeps.results import axis_labels
from ih_jax.sweeps.runs import Group, RunSpec
from ih_jax.sweeps.study import Study
from ih_jax.tasks.base import Task

NETWORKS_AT_ONCE = 64  # (run, checkpoint) pairs in a device's memory together
LABELS = "labels_of_arrays"  # the attribute of a measure that names its dims
VALUE = "value"  # the name of the array of a measure that gives only one

Measure = Callable[..., Any]  # of (params, clamp, probe), and of what is a network's own
# Sequences that all networks see, or a function that gives those of a network from its task.
# Several by name, for a measure that compares them.
Some = Sequences | Mapping[str, Sequences]
Probe = Some | Callable[[Task], Some]
Read = Callable[[int, int], Params]  # the weights of (run, step), in NumPy
Checkpoint = tuple[RunSpec, int]  # a run and a step
Coords = Mapping[str, Sequence[Any] | Callable[[int], Sequence[Any]]]  # labels, or of a size


@dataclass(frozen=True)
class ArrayLabels:
    """What a measure says of its arrays: see `measures.base.measure`, which attaches it."""

    dims: tuple[str, ...] | Mapping[str, tuple[str, ...]]
    coords: Mapping[str, Sequence[Any] | Callable[[int], Sequence[Any]]] = field(
        default_factory=dict
    )
    name: str | None = None
    units: str | Mapping[str, str] = ""
    description: str | Mapping[str, str] = ""


def measured(
    study: Study,
    read: Read,
    function: Measure,
    steps: Mapping[int, Sequence[int]],
    probe: Probe | None,
    sequences: int,
    own: Mapping[int, Any] | None = None,
    near: Callable[[int, int], Any] | None = None,
) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
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


def _array(function: Measure, value: Any) -> Array:
    """What a measure gave, as an array. Raises UserError where it is none."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        raise UserError(
            f"{_called(function)} gives {errors.given(value)}: give an array, or a dict of arrays "
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
            found = function(params, run.holds.at(step * program.unit), batch, *own)
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


# --- labels of the arrays -----------------------------------------------------------------------


def labels_of(function: Measure) -> ArrayLabels | None:
    """What a measure says of its arrays, through `functools.partial` too; None if it is silent."""
    inner = getattr(function, "func", function)
    found: ArrayLabels | None = getattr(function, LABELS, getattr(inner, LABELS, None))
    return found


def dims_of(function: Measure, arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[str, ...]]:
    """The dims of what a measure gave for one network; `<name>_0` ... where it does not name them.

    Raises UserError where what it says and what it gave differ.
    """
    labels = labels_of(function)
    if labels is None:
        return {k: tuple(f"{k}_{i}" for i in range(v.ndim)) for k, v in arrays.items()}
    who, dims = _called(function), labels.dims
    if not isinstance(dims, Mapping):
        if list(arrays) != [VALUE]:
            raise UserError(
                f"{who} gives arrays {', '.join(arrays)}, but dims of a single one, {dims}: give "
                "dims={name: (...)} with the dims of each"
            )
        dims = {VALUE: dims}
    if set(dims) != set(arrays):
        given = "one array" if list(arrays) == [VALUE] else f"arrays {', '.join(arrays)}"
        raise UserError(
            f"{who} gives {given}, but dims of {', '.join(dims)}: name the dims of each array that "
            "it gives, and of no other"
        )
    for name, own in dims.items():
        if len(own) != arrays[name].ndim:
            what = who if name == VALUE else f"{name} of {who}"
            raise UserError(
                f"{what} has shape {arrays[name].shape} for one network, but dims {own}: "
                f"name {arrays[name].ndim} dims, one for each axis"
            )
    return {name: tuple(own) for name, own in dims.items()}


def labelled(
    study: Study, function: Measure, steps: Sequence[int], filled: Mapping[str, np.ndarray]
) -> xr.Dataset | xr.DataArray:
    """A measure's arrays [runs, steps, ...] with the study's axes, progress and their own dims.

    A dim that the measure names without labels is numbered from 0. A Dataset where the measure
    gives a dict. Its dims are those that `check_dims` has passed.
    """
    axes = {**axis_labels(study), study.task.unit: np.array(steps) * study.unit}
    labels = labels_of(function)
    dims = dims_of(function, {name: values[0, 0] for name, values in filled.items()})
    arrays = {}
    for name, own in dims.items():  # in this order: JAX sorts the arrays of a dict
        values = filled[name]
        sizes = dict(zip(own, values.shape[2:], strict=True))
        coords = dict(axes)
        if labels is not None:
            coords |= {dim: _coordinate(labels, dim, size) for dim, size in sizes.items()}
        whole = values.reshape(*study.shape, *values.shape[1:])
        arrays[name] = xr.DataArray(whole, dims=[*axes, *sizes], coords=coords, name=name)
        if labels is not None:
            _describe(arrays[name], name, labels)
    if list(arrays) == [VALUE]:
        return arrays[VALUE].rename(_called(function))
    return xr.Dataset(arrays)


def check_dims(
    study: Study, function: Measure, arrays: Mapping[str, np.ndarray]
) -> dict[str, tuple[str, ...]]:
    """As `dims_of`, of what a measure gave for the first network, before all are measured.

    Raises UserError also where a dim is an axis of the study, has two sizes, or is given more or
    fewer labels than that.
    """
    dims, labels = dims_of(function, arrays), labels_of(function)
    for name, own in dims.items():
        twice = [dim for i, dim in enumerate(own) if dim in own[:i]]
        if twice:
            raise UserError(f"{_called(function)}: {name} has two dims {twice[0]!r}: rename one")
        taken = [dim for dim in own if dim in (*study.axes, study.task.unit)]
        if taken:
            raise UserError(
                f"{_called(function)} has a dim {taken[0]!r}, which is an axis of the study: "
                "give it another name"
            )
    for dim, size in _sizes(function, arrays, dims).items():
        count = size if labels is None else len(_coordinate(labels, dim, size))
        if count != size:
            raise UserError(
                f"{_called(function)}: the labels of a dim do not fit: {dim!r} has {size} entries "
                f"and {count} labels: give one each"
            )
    return dims


def _coordinate(labels: ArrayLabels, dim: str, size: int) -> Sequence[Any] | np.ndarray:
    """The labels along a dim that the measure names; numbers from 0 where it gives none."""
    given = labels.coords.get(dim)
    if given is None:
        return np.arange(size)
    return list(given(size) if callable(given) else given)


def _describe(array: xr.DataArray, name: str, labels: ArrayLabels) -> None:
    """Units and description, where xarray's plots look for them."""
    for attribute, given in (("units", labels.units), ("long_name", labels.description)):
        text = given.get(name, "") if isinstance(given, Mapping) else given
        if text:
            array.attrs[attribute] = text


def _sizes(
    function: Measure, arrays: Mapping[str, np.ndarray], dims: Mapping[str, tuple[str, ...]]
) -> dict[str, int]:
    """The size of each dim. Raises UserError where one has two."""
    sizes: dict[str, int] = {}
    for name, own in dims.items():
        for dim, size in zip(own, arrays[name].shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                raise UserError(
                    f"{_called(function)} has arrays with {sizes[dim]} and {size} along "
                    f"{dim!r}: give the dim another name in one of them"
                )
    return sizes


def _called(function: Measure) -> str:
    """The measure's name, for messages and for the array that it gives."""
    labels = labels_of(function)
    if labels is not None and labels.name:
        return labels.name
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__name__", VALUE))
