"""Parse a command line into a command, or into one line that says what is wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import itertools
import operator
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from ih_jax import paths
from ih_jax.cli import options
from ih_jax.errors import UserError, nearest, real, whole

COMMANDS: dict[str, Any] = {
    "run": options.Run,
    "list": options.List,
    "plot": options.Plot,
    "bench": options.Bench,
    "features": options.MakeFeatures,
    "data": options.Data,
    "text": options.Text,
    "import": options.Import,
    "export": options.Export,
    "heads": options.Heads,
    "view": options.View,
    "status": options.Status,
}
Command: Any = functools.reduce(
    operator.or_,
    (Annotated[made, tyro.conf.subcommand(name)] for name, made in COMMANDS.items()),
)


def parse(arguments: Sequence[str] | None, about: str) -> Any:
    """The command that these arguments (None: the process's own) ask for: an object of `options`.

    Raises:
        UserError: an option is given twice, or tyro finds a mistake (its box, in one line).
        SystemExit: after --help.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _refuse_unreadable(words)
    _refuse_twice(words)
    said = io.StringIO()
    read: Any = tyro.cli
    try:
        with contextlib.redirect_stderr(said):
            return checked(read(Command, args=words, prog="ih-jax", description=about), words)
    except SystemExit as left:
        if not left.code:
            sys.stdout.flush()  # here, where what cannot be written is still said
            raise
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{paths.reason(error)}: see ih-jax --help") from None
    raise UserError(_in_one_line(said.getvalue(), words)) from None


def _refuse_unreadable(words: Sequence[str]) -> None:
    """Raise UserError for a word that is no text, or that leaves an option or argument empty."""
    before = ""
    for word in words:
        name, equals, value = word.partition("=")
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{word!a} is no UTF-8 text: rename the file, or make a link to it"
            ) from None
        if "\0" in word:
            raise UserError(f"{word!a} holds a zero byte: give text without")
        if not word or (equals and not value and name.startswith("--")):
            what = name if name else before if before.startswith("--") else "an argument"
            raise UserError(f"{what} is empty: give a value, or leave it out")
        before = word


def _refuse_twice(words: Sequence[str]) -> None:
    """Raise UserError for an option that is given twice: all but the last would be ignored."""
    names = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    for name in names:
        if name == "--model" and words[0] == "heads":
            continue  # a series
        if names.count(name) > 1:
            raise UserError(f"{name} is given {names.count(name)} times: give it once")


def _in_one_line(box: str, words: Sequence[str]) -> str:
    """A box's first message, what may have been meant, and where to find help.

    tyro draws boxes with lines or, for terminals that lack them, with dashes and spaces.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    rows = [line.strip("│|╭╮╰╯─ ") for line in plain.splitlines()][1:]
    rows = ["" if set(row) <= {"-"} else row for row in rows]
    first = itertools.takewhile(bool, itertools.dropwhile(lambda row: not row, rows))
    what = " ".join(first).rstrip(". ") or "this is not a command"
    where = re.search(r"ih-jax(?: [a-z]+)? --help", plain)
    return f"{what}{_meant(words)}: see {where.group() if where else 'ih-jax --help'}"


def _meant(words: Sequence[str]) -> str:
    """A hint at the command or option nearest to the first unknown one; or nothing."""
    if not words:
        return ""
    if words[0] not in COMMANDS:
        near = nearest(words[0], COMMANDS)
        return f" (did you mean {near!r}?)" if near else ""
    names = [field.name.replace("_", "-") for field in dataclasses.fields(COMMANDS[words[0]])]
    for word in words[1:]:
        name = word.removeprefix("--").removeprefix("no-").partition("=")[0].replace("_", "-")
        if word.startswith("--") and name not in names:
            near = nearest(name, names)
            return f" (did you mean '--{near}'?)" if near else ""
    return ""


# Least values of numbers on the command line, by option; of others 0, or as a task says.
LEAST = {
    "seeds": 1,
    "width": 1,
    "drawings": 1,
    "widths": 1,
    "pairs": 1,
}


def checked(command: Any, words: Sequence[str]) -> Any:
    """The command, if its numbers are in range and its lists are not empty and have nothing twice.

    Raises:
        UserError: one is not; the line names the option.
    """
    given = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words}
    for field in dataclasses.fields(command):
        name, value = f"--{field.name.replace('_', '-')}", getattr(command, field.name)
        several = value if isinstance(value, tuple) else (value,)
        if isinstance(value, tuple) and field.name in given:
            if not value:
                raise UserError(f"{name} is given without a value: give one or more")
            if len(set(value)) < len(value):
                raise UserError(f"{name} has a value twice: give each once")
        for each in several:
            if isinstance(each, int) and not isinstance(each, bool):
                whole(name, each, LEAST.get(field.name, 0))
            elif isinstance(each, float):
                real(name, each)
    return command
