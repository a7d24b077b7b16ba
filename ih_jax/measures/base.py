"""What a measure is, and how it names the dims of its arrays.

A measure is a function of one network, `measure(params, clamp, batch)`, that returns an array or
{name: array}; `Trajectories.measure` maps it over runs and checkpoints. `@measure` names the axes
of these arrays, so that results have `layer` and `head` instead of `sharpness_0`, `sharpness_1`:

    @measure(dims=("layer", "head"))
    def sharpness(params, clamp, batch):
        patterns = ih.apply(params, batch, clamp).pattern
        return jnp.stack([pattern.max(-1).mean((0, 2)) for pattern in patterns])

Any function without the decorator is a measure too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ih_jax.errors import UserError, given
from ih_jax.sweeps.array_labels import LABELS, ArrayLabels, Coords

F = TypeVar("F", bound=Callable[..., Any])
# Of a network: `Params`, or what stands for them in one of another architecture, as
# `model.transformer.forward` takes them.
Weights = Any
Dims = Sequence[str] | Mapping[str, Sequence[str]]


def measure(
    *,
    dims: Dims,
    coords: Coords | None = None,
    name: str | None = None,
    units: str | Mapping[str, str] = "",
    description: str | Mapping[str, str] = "",
) -> Callable[[F], F]:
    """A decorator that names the dims of what a measure returns for one network.

    Args:
        dims: the names of the array's axes, in order; () for a number. For a measure that returns
            {name: array}: {name: names of its axes}.
        coords: {dim: labels}, or {dim: function from its size to labels}; a dim without labels is
            numbered from 0.
        name: what the array is called in results; None: the function's name.
        units: of the array, or {name: units}; shown in xarray's plots.
        description: of the array, or {name: description}; shown in xarray's plots.

    Returns:
        A decorator that marks the function and returns it unchanged.

    Raises:
        UserError: dims are not names, an array has the same name twice, or coords name a dim that
            is not there. (When measured:) an array has more or fewer axes than names.
    """
    if isinstance(dims, Mapping):
        named = {array: _checked(own) for array, own in dims.items()}
        all_dims = {dim for own in named.values() for dim in own}
        labels = ArrayLabels(named, coords or {}, name, units, description)
    else:
        one = _checked(dims)
        all_dims = set(one)
        labels = ArrayLabels(one, coords or {}, name, units, description)
    for dim in labels.coords:
        if dim not in all_dims:
            raise UserError(
                f"coords for {dim!r}, but dims are {', '.join(sorted(all_dims)) or 'none'}: "
                "give coords for these only"
            )

    def decorate(function: F) -> F:
        setattr(function, LABELS, labels)
        return function

    return decorate


def _checked(dims: Sequence[str]) -> tuple[str, ...]:
    if isinstance(dims, str):
        raise UserError(f'dims is {dims!r}: give a tuple of names, such as ("{dims}",)')
    own = tuple(dims) if isinstance(dims, Iterable) else (dims,)
    if not all(isinstance(dim, str) for dim in own) or len(set(own)) < len(own):
        raise UserError(f"dims is {given(dims)}: give a tuple of different names")
    return own
