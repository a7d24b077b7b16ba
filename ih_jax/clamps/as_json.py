"""Clamps as JSON: a list of parts, each {"kind": ..., its settings, "during": [start, stop]}.

Weights stand as run, step and checksum, a rule's function as "module:name". What is read is
rebuilt by the kind's own class, so it passes the checks that a user's own call passes.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from ih_jax.clamps.kind import Kind, kind_named
from ih_jax.clamps.values import Weights, name_of
from ih_jax.errors import UserError
from ih_jax.model.params import Params

Functions = Mapping[str, Callable[..., Any]]


def written(held: Kind, during: list[float | None] | None) -> dict[str, Any]:
    """A part as what `json.dumps` takes: its kind, its settings in order of their names, when."""
    out: dict[str, Any] = {"kind": held.kind}
    for name in sorted(each.name for each in fields(held)):
        value = getattr(held, name)
        if isinstance(value, Weights):
            value = {"run": value.run, "step": value.step, "checksum": value.checksum}
        elif callable(value):
            value = name_of(value)
        out[name] = value
    try:
        json.dumps(out)
    except TypeError as error:
        raise UserError(
            f"{held.describe()} cannot be written as JSON: {error}: keep its settings as numbers, "
            "words, tuples, functions or ih_jax.Weights"
        ) from None
    return out if during is None else out | {"during": during}


def read(
    text: str, weights: Mapping[str, Params], functions: Functions
) -> Iterator[tuple[Kind, tuple[float, float] | None]]:
    """What the kind of each part of the JSON makes of its settings, and its times if it has any."""
    try:
        parts = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"a clamp is not JSON: {error}: give what Clamp.to_json wrote") from None
    if not isinstance(parts, list) or not all(isinstance(each, dict) for each in parts):
        raise UserError('a clamp in JSON is a list of parts such as {"kind": "ablate", ...}')
    for each in parts:
        yield _read_part(each, weights, functions), _read_times(each)


def _read_part(each: dict[str, Any], weights: Mapping[str, Params], functions: Functions) -> Kind:
    made = kind_named(each.get("kind"))
    settings = {name: v for name, v in each.items() if name not in ("kind", "during")}
    accepted = {field.name for field in fields(made)}
    if settings.keys() != accepted:
        raise UserError(
            f"clamp {made.kind} has settings {', '.join(sorted(settings)) or 'none'}: "
            f"it takes exactly {', '.join(sorted(accepted)) or 'none'}"
        )
    if "weights" in settings:
        settings["weights"] = _find_weights(settings["weights"], weights)
    if "function" in settings:
        settings["function"] = _find_function(settings["function"], functions)
    try:
        return made(**settings)
    except UserError as error:
        raise UserError(f"clamp {made.kind}: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"clamp {made.kind}: settings {settings!r} are not understood: {error}"
        ) from None


def _read_times(each: dict[str, Any]) -> tuple[float, float] | None:
    if "during" not in each:
        return None
    try:
        start, stop = each["during"]
        return float(start), float("inf") if stop is None else float(stop)
    except (TypeError, ValueError):
        raise UserError(f"during is {each['during']!r}: give [start, stop or null]") from None


def _find_weights(record: Any, weights: Mapping[str, Params]) -> Weights:
    if not isinstance(record, dict) or not {"run", "step", "checksum"} <= record.keys():
        raise UserError(f"weights of a graft are {record!r}: give run, step and checksum")
    checksum = str(record["checksum"])
    if checksum not in weights:
        raise UserError(
            f"a graft needs the weights of run {record['run']!r} at step {record['step']} "
            f"(checksum {checksum}): pass them as weights={{checksum: params}}"
        )
    found = Weights(weights[checksum], record["run"], record["step"])
    if found.checksum != checksum:
        raise UserError(
            f"weights given for checksum {checksum} have checksum {found.checksum}: "
            "give the ones that the clamp was written with"
        )
    return found


def _find_function(name: Any, functions: Functions) -> Any:
    if not isinstance(name, str):
        raise UserError(f"the function of a rule is {name!r}: give 'module:name'")
    if name in functions:
        return functions[name]
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError):
        raise UserError(
            f"the rule {name} was not found: import its module, or pass it as "
            f"functions={{{name!r}: function}}"
        ) from None
    return found
