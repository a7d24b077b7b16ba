"""The gate for what comes from outside: files, JSON and numbers, checked before they are used.

What a file says is compared with a declared model (a `msgspec.Struct` whose fields have ranges)
before anything is computed from it. Every refusal is a `UserError` of one line that names the
field, what it holds and what it may hold.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import psutil
from msgspec import inspect

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
Seen = Annotated[float, msgspec.Meta(ge=0, le=1e15)]  # sequences or tokens
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


# --- files --------------------------------------------------------------------------------------


def path(name: str, given: object) -> Path:
    """A path that a user gave. Raises UserError where it is empty or no text."""
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        if isinstance(text, str) and text and "\0" not in text:
            return Path(text)
    raise UserError(f"{name} is {shown(given)}: give the path of a file or folder")


def regular(path: Path) -> Path:
    """The path, if it is a file that can be read to its end.

    Raises:
        UserError: there is none, or it is a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"there is no {shown_path(path)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{shown_path(path)} cannot be read ({reason(error)})") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{shown_path(path)} is {kind_of(mode)}: a regular file is needed")
    return path


def is_there(path: Path) -> bool:
    """Whether there is anything under a name; False also for a link to nothing.

    Raises:
        UserError: the system cannot say: the name is too long, or links go round in a circle.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise UserError(f"{shown_path(path)} cannot be read ({reason(error)})") from None
    return True


# How files begin that commands write, after so many other bytes.
BEGINNINGS = {
    "PNG picture": (0, b"\x89PNG"),
    "web page": (0, b"<!doctype html>"),
    "safetensors file": (8, b"{"),
    "HDF5 file": (0, b"\x89HDF"),
}


def new_file(path: Path, kind: str) -> Path:
    """The path, if a file can be written under it, in place of one of its kind or of nothing.

    Args:
        path: the file.
        kind: one of `BEGINNINGS`: what will be written.

    Raises:
        UserError: something else is there, or what should be its folder is none.
    """
    if not is_there(path):
        _writable_above(path)
        return path
    skipped, beginning = BEGINNINGS[kind]
    try:
        with open(regular(path), "rb") as file:
            found = file.read(skipped + len(beginning))
    except OSError as error:
        raise UserError(f"{shown_path(path)} cannot be read ({reason(error)})") from None
    if found and found[skipped:] != beginning:
        raise UserError(
            f"{shown_path(path)} is there and is no {kind}: give another file, or remove that one"
        )
    return path


def results_folder(path: Path) -> Path:
    """The path, if it is a folder or one can be made under it.

    Raises:
        UserError: something else is there, or what should be its folder is none.
    """
    if is_there(path):
        if not path.is_dir():
            what = kind_of(path.stat().st_mode)
            raise UserError(
                f"cannot write results to {shown_path(path)}, which is {what}: give a folder that "
                "is writable"
            )
        return path
    _writable_above(path)
    return path


def _writable_above(path: Path) -> None:
    above = next((each for each in path.absolute().parents if is_there(each)), Path("/"))
    if not above.is_dir() or not os.access(above, os.W_OK):
        what = "no folder" if not above.is_dir() else "not writable"
        raise UserError(f"cannot write {shown_path(path)}: {shown_path(above)} is {what}")


def kind_of(mode: int) -> str:
    """What something is that is no regular file, in words."""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe (FIFO)",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no file")


def read_bytes(path: Path, most: int) -> bytes:
    """A whole regular file of at most `most` bytes. Raises UserError."""
    size = regular(path).stat().st_size
    if size > most:
        raise UserError(
            f"{shown_path(path)} has {size:,} bytes: at most {most:,} are read of such a file"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{shown_path(path)} cannot be read ({reason(error)})") from None


MENDABLE = (
    errno.ENOENT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.ENXIO,
)


def is_mendable(error: BaseException) -> bool:
    """Whether what the system says is for a user to put right: a name, a kind of file, a right.

    Everything else, such as a full disk, is the machine's.
    """
    return isinstance(error, OSError) and error.errno in MENDABLE


def shown_path(path: Path) -> str:
    """A path that can be printed, whatever bytes its name is made of."""
    return os.fsencode(path).decode("utf-8", "replace")


def reason(error: BaseException) -> str:
    """What an error says, in one short line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).split(". ")[0][:200].rstrip(".")


# --- JSON ---------------------------------------------------------------------------------------


def read_json(path: Path, model: type[T]) -> T:
    """The JSON of a file as an instance of `model`, a `msgspec.Struct`. Raises UserError."""
    return checked(parse_json(path), model, shown_path(path))


def parse_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The JSON of a file, of which nothing is known but its size and depth.

    NaN and infinity are read, as Python writes them: the ranges of a model refuse them by name.

    Raises:
        UserError: there is no regular file, it is too large, is not JSON, or is nested deeper than
            `MOST_DEPTH`.
    """
    too_deep = UserError(
        f"{shown_path(path)} is nested deeper than {MOST_DEPTH} levels: that is none of the "
        "files that are read here"
    )
    try:
        found = json.loads(read_bytes(path, most))
    except RecursionError:
        raise too_deep from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{shown_path(path)} is not JSON ({reason(error)})") from None
    level = [found]
    for _ in range(MOST_DEPTH):
        for each in _strings(level):
            try:
                each.encode()
            except UnicodeEncodeError:
                raise UserError(
                    f"{shown_path(path)} holds {shown(each)}, which is no text"
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


# --- sizes and numbers --------------------------------------------------------------------------


def check_memory(needed: int, what: str) -> None:
    """Raise UserError where something would take more memory than is free here now.

    Args:
        needed: bytes.
        what: the subject of the message, such as "config.json: a network of 10 layers".
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{what} takes {_gigabytes(needed)} GB of memory, and {_gigabytes(free)} GB are free "
            "here: take a machine with more, or correct what was declared"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f}" if count >= 1e8 else f"{count / 1e9:.2g}"


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
