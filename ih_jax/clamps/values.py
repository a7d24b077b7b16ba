"""Settings of clamps: checks on what a user gives, and the form in which it is kept.

Kept values compare, hash and can be written as JSON: numbers, names, nested tuples, functions and
weights from elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from ih_jax import errors
from ih_jax.errors import UserError, given, unknown
from ih_jax.model.params import Params
from ih_jax.model.sites import SITES, rank


@dataclass(frozen=True)
class Weights:
    """Weights from elsewhere; in JSON they stand as where they came from and a checksum."""

    params: Params
    run: str = ""
    step: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.params, Params):
            raise UserError(f"params of Weights is {given(self.params)}: give Params of a network")

    @cached_property
    def checksum(self) -> str:
        """Of all leaves in order, hexadecimal."""
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weights) and self.checksum == other.checksum

    def __hash__(self) -> int:
        return hash(self.checksum)


def name_of(function: Any) -> str:
    """module:name of a function."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def shown(value: Any) -> str:
    """A setting as a person would write it; long arrays by their shape."""
    if isinstance(value, Weights):
        return f"<weights {value.run or value.checksum}>"
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    if isinstance(value, float):
        value = float(f"{value:.7g}")  # arrays keep float32: 0.2, not 0.20000000298
    text = repr(value)
    return text if len(text) <= 60 else f"<array {np.shape(value)}>"


def indices_shown(heads: Sequence[int]) -> str:
    """One head as a number, several as a list."""
    return str(heads[0]) if len(heads) == 1 else str(list(heads))


def index(what: str, value: Any) -> int:
    """A layer or a head."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise UserError(f"{what} is {errors.given(value)}: give a whole number, counted from 0")
    return int(value)


def number(what: str, value: Any) -> float:
    """A finite number."""
    try:
        given = float(value)
    except (TypeError, ValueError, OverflowError):
        given = float("nan")
    if not np.isfinite(given):
        raise UserError(f"{what} is {value!r}: give a finite number")
    return given


def head_indices(heads: Any) -> tuple[int, ...]:
    """One head or several, in order and each once."""
    if isinstance(heads, Mapping | str) or not np.iterable(heads):
        heads = [heads]
    each = {index("head", head) for head in heads}
    if not each:
        raise UserError("no heads named: give one or more, counted from 0")
    return tuple(sorted(each))


def site_name(site: Any) -> str:
    if site not in SITES:
        raise unknown("site", site, SITES)
    return str(site)


def site_heads(site: str, heads: Any) -> tuple[int, ...] | None:
    """Heads at a site that has them; None: all, or a site without heads."""
    if heads is None:
        return None
    if rank(site_name(site)) == 2:
        raise UserError(f"site {site} has no heads, but heads {heads} are named: leave them out")
    return head_indices(heads)


def one_of(what: str, value: Any, accepted: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in accepted:
        raise UserError(f"{what} is {value!r}: give one of {', '.join(accepted)}")
    return value


def nested(name: str, value: Any) -> Any:
    """An array as nested tuples, which compare, hash and go into JSON."""
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{name} is {shown(value)}: give a number or an array of numbers") from None
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds a value that is not finite: give finite numbers")

    def tuples(x: Any) -> Any:
        return tuple(tuples(each) for each in x) if isinstance(x, list) else x

    return tuples(array.tolist())


def gate_values(gate: Any) -> Any:
    """Numbers in [0, 1], as `nested`."""
    given = nested("gate", gate)
    array = np.asarray(given, np.float32)
    if not ((array >= 0) & (array <= 1)).all():
        raise UserError(f"gate is {gate!r}: give numbers between 0 (leaves) and 1 (holds)")
    return given
