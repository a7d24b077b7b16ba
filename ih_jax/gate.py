"""The gate for what files say: JSON and numbers, checked before anything is computed from them.

JSON is compared with a declared model, a `msgspec.Struct` whose fields have ranges. Every refusal
is a `UserError` of one line that names the field, what it holds and what it may hold. What stands
under a path is for `paths` to say, whether it fits into memory for `memory`.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import inspect

from ih_jax import paths
from ih_jax.errors import UserError

MOST_BYTES = 64 * 2**20  # of a JSON file
MOST_DEPTH = 32  # of lists and objects in each other
SHOWN = 60  # characters of a value in a message

T = TypeVar("T", bound=msgspec.Struct)

# Types for the fields of models. Every number has both ends: NaN and infinity are in no range.
Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Size = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
# Sequences or tokens; whole numbers stay whole, so that a study made of its card has its digest.
Seen = Annotated[int, msgspec.Meta(ge=0, le=10**15)] | Annotated[float, msgspec.Meta(ge=0, le=1e15)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


# --- JSON ---------------------------------------------------------------------------------------


def read_json(path: Path, model: type[T]) -> T:
    """The JSON of a file as an instance of `model`, a `msgspec.Struct`. Raises UserError."""
    return checked(parse_json(path), model, paths.shown_path(path))


def parse_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The JSON of a file, of which nothing is known but its size and depth.

    NaN and infinity are read, as Python writes them: the ranges of a model refuse them by name.

    Raises:
        UserError: there is no regular file, it is too large, is not JSON, or is nested deeper than
            `MOST_DEPTH`.
    """
    too_deep = UserError(
        f"{paths.shown_path(path)} is nested deeper than {MOST_DEPTH} levels: that is none of the "
        "files that are read here"
    )
    try:
        found = json.loads(paths.read_bytes(path, most))
    except RecursionError:
        raise too_deep from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{paths.shown_path(path)} is not JSON ({paths.reason(error)})") from None
    level = [found]
    for _ in range(MOST_DEPTH):
        for each in _strings(level):
            try:
                each.encode()
            except UnicodeEncodeError:
                raise UserError(
                    f"{paths.shown_path(path)} holds {shown(each)}, which is no text"
                ) from None
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if any(isinstance(each, dict | list) for each in level):
        raise too_deep
    return found


def _strings(level: Sequence[Any]) -> Iterator[str]:
    """The texts of one level, and the names of its objects' fields."""
    for each in level:
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            yield from each


def checked(found: Any, model: type[T], where: str, strict: bool = True) -> T:
    """What was parsed, as an instance of `model`; fields that the model has not are passed over.

    Args:
        found: of JSON or of a command line.
        model: a `msgspec.Struct`.
        where: what it is of, such as the path of its file; the message begins with it.
        strict: text is no number; not so in the words of a command line.

    Raises:
        UserError: a field is missing, of another type or out of range.
    """
    try:
        return msgspec.convert(found, model, strict=strict)
    except msgspec.ValidationError as error:
        said = str(error)
    if not isinstance(found, dict):
        raise UserError(f"{where} holds {shown(found)}: an object with named fields is needed")
    missing = [
        field.encode_name
        for field in msgspec.structs.fields(model)
        if field.required and field.encode_name not in found
    ]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}")
    at = re.search(r"at `\$(.*)`$", said)
    name, value, wanted = _follow(
        re.findall(r"[^.\[\]]+|\.\.\.", at[1] if at else ""), found, model
    )
    raise UserError(f"{where}: {name} is {shown(value)}: give {accepted(wanted)}")


def _follow(path: Sequence[str], value: Any, model: Any) -> tuple[str, Any, Any]:
    """The name, the value and the type at the end of a path into JSON and into its model."""
    name = ""
    for step in path:
        model = _arm(model, value)
        if isinstance(value, list):
            inner = typing.get_args(model)
            fixed = typing.get_origin(model) is tuple and inner[-1] is not Ellipsis
            model, value = inner[int(step) if fixed else 0], value[int(step)]
            name += f"[{step}]"
        elif step == "...":  # of an object with any keys: msgspec does not say which
            model = typing.get_args(model)[1]
            key = next(key for key, each in value.items() if not _fits(each, model))
            value, name = value[key], f"{name}[{shown(key)}]"
        else:
            field = next(f for f in msgspec.structs.fields(model) if f.encode_name == step)
            model, value = field.type, value.get(step)
            name += f".{step}" if name else step
    return name, value, model


def _arm(model: Any, value: Any) -> Any:
    """The part of a type that says what is in a list or in an object."""
    while typing.get_origin(model) is Annotated:
        model = typing.get_args(model)[0]
    if typing.get_origin(model) in (types.UnionType, typing.Union):
        arms = [_arm(arm, value) for arm in typing.get_args(model)]
        kinds = (list, tuple) if isinstance(value, list) else (dict,)
        for arm in arms:
            is_struct = isinstance(arm, type) and issubclass(arm, msgspec.Struct)
            if typing.get_origin(arm) in kinds or (is_struct and isinstance(value, dict)):
                return arm
    return model


def _fits(value: Any, model: Any) -> bool:
    try:
        msgspec.convert(value, model)
    except msgspec.ValidationError:
        return False
    return True


def shown(value: Any) -> str:
    """A value for a message: as JSON, cut short; numbers of many digits by their length."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return f"a whole number of {len(str(abs(value)))} digits"
    is_nested = isinstance(value, dict | list)
    text = _cut_short(value) if is_nested else json.dumps(value, default=repr)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."


def _cut_short(value: Any) -> str:
    """The beginning of a list or an object, without what stands deep in it."""
    if not isinstance(value, dict | list):
        return shown(value)
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: ..." for key in list(value)[:4]]
        return "{" + ", ".join(parts) + ("}" if len(value) <= 4 else ", ...}")
    parts = ["..." if isinstance(each, dict | list) else shown(each) for each in value[:8]]
    return "[" + ", ".join(parts) + ("]" if len(value) <= 8 else ", ...]")


# --- what a field may hold, in words -----------------------------------------------------------


def accepted(model: Any) -> str:
    """What a type of a model accepts, such as "a whole number from 1 to 12"."""
    return _words(inspect.type_info(model))


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            said = (kind.extra_json_schema or {}).get("description")
            return str(said or _words(kind.type))
        case inspect.IntType():
            return "a whole number" + _between(kind)
        case inspect.FloatType():
            return "a number" + _between(kind)
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.StrType():
            return "text" + (f" like {kind.pattern}" if kind.pattern else _length(kind, "letters"))
        case inspect.LiteralType():
            return " or ".join(json.dumps(each) for each in kind.values)
        case inspect.TupleType():
            return f"a list of {len(kind.item_types)}, each {_words(kind.item_types[0])}"
        case inspect.ListType() | inspect.VarTupleType():
            return f"a list{_length(kind, 'entries')}, each {_words(kind.item_type)}"
        case inspect.UnionType():
            return ", or ".join(_words(each) for each in kind.types)
        case inspect.DictType():
            return f"an object, each of its values {_words(kind.value_type)}"
        case inspect.StructType():
            return "an object with named fields"
    return "another value"


def _between(kind: inspect.IntType | inspect.FloatType) -> str:
    low, above, high = (
        None if end is None else f"{end:,.12g}" for end in (kind.ge, kind.gt, kind.le)
    )
    if above is not None:
        return f" above {above}" + ("" if high is None else f", at most {high}")
    return ("" if low is None else f" from {low}") + ("" if high is None else f" to {high}")


def _length(kind: Any, unit: str) -> str:
    least, most = kind.min_length, kind.max_length
    if least is not None and least == most:
        return f" of {least} {unit}"
    said = [f"at least {least}"] * (least is not None) + [f"at most {most}"] * (most is not None)
    return f" of {' and '.join(said)} {unit}" if said else ""


def finite(array: np.ndarray, what: str) -> np.ndarray:
    """The array, if it holds neither NaN nor infinity.

    Args:
        array: of any shape.
        what: the subject of the message, such as "model.safetensors: h.0.attn.c_attn.weight".

    Raises:
        UserError: it does; the line says how many of its numbers.
    """
    if array.dtype.kind in "biu":
        return array
    # One sum of the whole is quick, and finite unless a number is not (or the sum overflows).
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return array
        odd = int(array.size - np.isfinite(array.astype(np.float64)).sum())
    if odd:
        raise UserError(
            f"{what} has {odd:,} of {array.size:,} numbers that are NaN or infinite: the network "
            "diverged or the file is damaged; give another checkpoint"
        )
    return array
