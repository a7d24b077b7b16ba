"""Mistakes of a user: one line that says what was given, what is accepted and what to do."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sized
from dataclasses import fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

LARGEST = 2**31 - 1  # whole number that devices hold
LARGEST_REAL = 3e38  # and about their largest other number
SHOWN = 60  # characters of a value in a message
MOST_GIVEN = 10_000_000  # whole numbers in a list of them
MOST_COMPARED = 1_000  # known names that a wrong one is compared with


class UserError(ValueError):
    """Something the user can put right. The command line prints its one line and exits with 2."""


def unknown(what: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is not one of those known, with the nearest of them.

    Args:
        what: what the name should be of, such as "setting" or "clamp".
        name: what the user wrote.
        known: the names that are accepted, in the order in which they are to be listed.

    Returns:
        "unknown setting 'lr': did you mean 'learning_rate'? give one of init, order, ..."
    """
    names = list(dict.fromkeys(known))
    near = nearest(str(name), names[:MOST_COMPARED])
    suggestion = f"did you mean {near!r}? " if near else ""
    return UserError(f"unknown {what} {given(name)}: {suggestion}give one of {several(names)}")


def several(names: Iterable[object], most: int = 100) -> str:
    """Names for a message; of very many the first and the last, and how many there are."""
    every = list(names)
    if len(every) <= most:
        return ", ".join(map(str, every))
    return f"{', '.join(map(str, every[:8]))}, ... {every[-1]} ({len(every):,} in all)"


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name most like the given one; None where none is near.

    Initials count: "lr" is near "learning_rate".
    """
    names = list(known)
    folded = {name.lower().replace("-", "_"): name for name in reversed(names)}
    wanted = given.lower().replace("-", "_")
    for name, original in folded.items():
        if len(wanted) > 1 and wanted == "".join(word[:1] for word in name.split("_")):
            return original
    found = get_close_matches(wanted, folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def given(value: object) -> str:
    """What a user gave, for a message: cut short, numbers of many digits by their count."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return f"a whole number of about {int(value.bit_length() * math.log10(2)) + 1:,} digits"
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."


def word(name: str, value: Any) -> str:
    """Text that names something. Raises UserError for anything else, and for none."""
    if isinstance(value, str) and value:
        return value
    raise UserError(f"{name} is {given(value)}: give a name")


def whole(name: str, value: Any, least: int = 0, most: int = LARGEST) -> int:
    """A whole number of Python or NumPy within limits. Raises UserError for anything else."""
    if isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most:
        return int(value)
    raise UserError(f"{name} is {given(value)}: give a whole number from {least:,} to {most:,}")


def wholes(name: str, values: Any, least: int = 0) -> list[int]:
    """Several whole numbers, such as numbers of runs. Raises UserError for anything else."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise UserError(f"{name} is {given(values)}: give a list of whole numbers")
    if isinstance(values, Sized) and len(values) > MOST_GIVEN:
        raise UserError(f"{name}: {len(values):,} are given: give at most {MOST_GIVEN:,}")
    return [whole(f"one of {name}", each, least) for each in values]


def one_or_several(name: str, value: Any, least: int = 0) -> list[int]:
    """A whole number, or several, such as heads. Raises UserError for anything else."""
    return wholes(name, value if isinstance(value, Iterable) else [value], least)


def real(name: str, value: Any, least: float = -math.inf, above: float = -math.inf) -> float:
    """A number within limits that is finite in 32 bits. Raises UserError for anything else."""
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if abs(found) <= LARGEST_REAL and found >= least and found > above:
            return found
    limits = f" above {above:g}" if above > -math.inf else ""
    limits += f" of {least:g} or more" if least > -math.inf else ""
    raise UserError(f"{name} is {given(value)}: give a finite number{limits}")


def check_fields(of: Any) -> None:
    """Raise UserError where a field of a dataclass holds another type than it is declared with.

    Only fields that this package declares as numbers or switches are looked at: whole numbers must
    fit 32 bits, others be finite. What range each may have is for the class itself to say.
    """
    cls: Any = type(of)
    for name, kind, may_be_none in _declared(cls):
        value: Any = getattr(of, name, None)
        if value is None and may_be_none:
            continue
        if kind == "int":
            # The class says where its range begins.
            is_whole = isinstance(value, Integral) and not isinstance(value, bool)
            if not is_whole or not -LARGEST <= value <= LARGEST:
                raise UserError(f"{name} is {given(value)}: give a whole number up to {LARGEST:,}")
        elif kind == "float":
            real(name, value)
        # NumPy's own switches are no bool: they are named so.
        elif kind == "bool" and type(value).__name__ not in ("bool", "bool_"):
            raise UserError(f"{name} is {given(value)}: give True or False")


@functools.lru_cache(1000)  # a study of many seeds makes a task for each
def _declared(cls: type) -> list[tuple[str, str, bool]]:
    """(field, kind, whether it may be None) of the numbers and switches that we declare."""
    package = __name__.partition(".")[0]
    ours: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        own = vars(each).get("__annotations__", {})
        if each.__module__.partition(".")[0] == package:
            ours |= {k: str(v) for k, v in own.items()}
        else:
            ours = {k: v for k, v in ours.items() if k not in own}
    found = []
    for field in fields(cls):
        kind, _, optional = ours.get(field.name, "").partition(" | ")
        if field.init and kind in ("int", "float", "bool"):
            found.append((field.name, kind, optional == "None"))
    return found
