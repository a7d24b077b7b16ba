"""Frozen dataclasses that people register by name, and how a run card finds them again.

A card keeps the name, the settings as JSON, and for a class from outside this package also where it
is defined.
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from ih_jax.errors import UserError, unknown

T = TypeVar("T")
PACKAGE = __name__.partition(".")[0]


def defined(cls: type) -> dict[str, str]:
    """For the run card: {"module", "path"} of a class's definition; {} for one of this package.

    The file that Python was started with is a module by its own name.
    """
    if is_ours(cls):
        return {}
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None:
        return {"module": cls.__module__}
    main = cls.__module__ == "__main__"
    module = Path(file).stem if main else cls.__module__
    return {"module": module, "path": str(Path(file).absolute())}


def is_ours(cls: type) -> bool:
    """Whether this package defines a class."""
    return cls.__module__.partition(".")[0] == PACKAGE


def add(known: dict[str, type], what: str, name: str, cls: type) -> None:
    """Register a class; one of the same name from outside the package is replaced, as notebooks do.

    Raises UserError for the name of a class of this package.
    """
    if name in known and is_ours(known[name]) and known[name].__qualname__ != cls.__qualname__:
        raise UserError(f"{what} {name!r} is already part of {PACKAGE}: choose another name")
    known[name] = cls


def find(known: Mapping[str, type], what: str, name: str, where: Mapping[str, str]) -> type:
    """The class of this name; its module, as `defined` wrote it, is imported if need be.

    Raises UserError where it is not registered even then.
    """
    if name in known:
        return known[name]
    if not where:
        raise unknown(what, name, known)
    failed = ""
    try:
        importlib.import_module(where["module"])
    except Exception as error:  # whatever a user's file does when it is run
        failed = f" ({type(error).__name__}: {error})"
    if name not in known:
        place = where.get("path", where["module"])
        raise UserError(
            f"{what} {name!r} is defined in {place}, and importing {where['module']} did not "
            f"register it{failed}: import that file first, then load again"
        )
    return known[name]


def unchecked(instance: T, **values: Any) -> T:
    """A copy of a frozen dataclass with other values, which `__post_init__` does not check.

    For values that are traced, or that stand for "whatever a run has".
    """
    found = copy.copy(instance)
    for name, value in values.items():
        object.__setattr__(found, name, value)
    return found


def tuples(value: Any) -> Any:
    """A setting as it was before it went through JSON: lists are tuples, which hash."""
    return tuple(tuples(each) for each in value) if isinstance(value, list | tuple) else value


def for_card(value: Any) -> Any:
    """A setting as JSON takes it: a dataclass as the mapping of its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: for_card(getattr(value, f.name)) for f in fields(value) if f.init}
    if isinstance(value, list | tuple | range | np.ndarray):
        return [for_card(each) for each in value]
    if isinstance(value, Mapping):
        return {str(k): for_card(v) for k, v in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def of_card(cls: type, name: str, value: Any) -> Any:
    """The value of the field `name` of a dataclass that `for_card` wrote.

    The field's annotation says which dataclasses it holds.
    """
    try:
        hint = get_type_hints(cls).get(name)
    except NameError:  # an annotation that only its own function knows
        hint = None
    return _of_hint(hint, value)


def setting_of_card(cls: type, name: str, value: Any, never_axis: bool) -> Any:
    """A study's setting, one value or an axis of several; unchanged if no field of `cls`."""
    if name not in {f.name for f in fields(cls)}:
        return value
    if isinstance(value, list) and not never_axis:
        return [of_card(cls, name, each) for each in value]
    return of_card(cls, name, value)


def _of_hint(hint: Any, value: Any) -> Any:
    """`value` as its type says: of X, X | None, tuple[X, ...] or tuple[X, Y]."""
    inner = [each for each in get_args(hint) if each is not Ellipsis]
    if isinstance(value, Mapping):
        for each in (hint, *inner):
            if isinstance(each, type) and is_dataclass(each):
                return each(**{k: of_card(each, k, v) for k, v in value.items()})
    if isinstance(value, list | tuple):
        types = inner if len(inner) == len(value) else [inner[0] if inner else None] * len(value)
        return tuple(_of_hint(each, v) for each, v in zip(types, value, strict=True))
    return value
