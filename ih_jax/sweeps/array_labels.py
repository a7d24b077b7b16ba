"""What the axes of a measure's arrays are called, and arrays that carry these labels.

A measure may say it (`measures.base.measure`); where it does not, dims are numbered. Any function
whose arrays are labelled here is a measure: `function(params, clamp, probe)`, see `measuring`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from ih_jax.errors import UserError
from ih_jax.sweeps.results import axis_labels
from ih_jax.sweeps.study import Study

LABELS = "labels_of_arrays"  # the attribute of a measure that names its dims
VALUE = "value"  # the name of the array of a measure that gives only one

Measure = Callable[..., Any]  # of (params, clamp, probe), and of what is a network's own
Coords = Mapping[str, Sequence[Any] | Callable[[int], Sequence[Any]]]  # labels, or of a size


@dataclass(frozen=True)
class ArrayLabels:
    """What a measure says of its arrays: see `measures.base.measure`, which attaches it."""

    dims: tuple[str, ...] | Mapping[str, tuple[str, ...]]
    coords: Coords = field(default_factory=dict)
    name: str | None = None
    units: str | Mapping[str, str] = ""
    description: str | Mapping[str, str] = ""


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
    who, dims = called(function), labels.dims
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
        return arrays[VALUE].rename(called(function))
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
            raise UserError(f"{called(function)}: {name} has two dims {twice[0]!r}: rename one")
        taken = [dim for dim in own if dim in (*study.axes, study.task.unit)]
        if taken:
            raise UserError(
                f"{called(function)} has a dim {taken[0]!r}, which is an axis of the study: "
                "give it another name"
            )
    for dim, size in _sizes(function, arrays, dims).items():
        count = size if labels is None else len(_coordinate(labels, dim, size))
        if count != size:
            raise UserError(
                f"{called(function)}: the labels of a dim do not fit: {dim!r} has {size} entries "
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
                    f"{called(function)} has arrays with {sizes[dim]} and {size} along "
                    f"{dim!r}: give the dim another name in one of them"
                )
    return sizes


def called(function: Measure) -> str:
    """The measure's name, for messages and for the array that it gives."""
    labels = labels_of(function)
    if labels is not None and labels.name:
        return labels.name
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__name__", VALUE))
