"""Parse a command line into a command, or into one line that says what is wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from ih_jax.cli import options
from ih_jax.errors import UserError, nearest

COMMANDS: dict[str, Any] = {
    "run": options.Run,
    "list": options.List,
    "plot": options.Plot,
    "bench": options.Bench,
    "features": options.MakeFeatures,
    "data": options.Data,
    "import": options.Import,
    "export": options.Export,
    "heads": options.Heads,
    "view": options.View,
    "status": options.Status,
}
Command = (
    Annotated[options.Run, tyro.conf.subcommand("run")]
    | Annotated[options.List, tyro.conf.subcommand("list")]
    | Annotated[options.Plot, tyro.conf.subcommand("plot")]
    | Annotated[options.Bench, tyro.conf.subcommand("bench")]
    | Annotated[options.MakeFeatures, tyro.conf.subcommand("features")]
    | Annotated[options.Data, tyro.conf.subcommand("data")]
    | Annotated[options.Import, tyro.conf.subcommand("import")]
    | Annotated[options.Export, tyro.conf.subcommand("export")]
    | Annotated[options.Heads, tyro.conf.subcommand("heads")]
    | Annotated[options.View, tyro.conf.subcommand("view")]
    | Annotated[options.Status, tyro.conf.subcommand("status")]
)


def parse(arguments: Sequence[str] | None, about: str) -> Any:
    """The command that these arguments (None: the process's own) ask for: an object of `options`.

    Raises:
        UserError: an option is given twice, or tyro finds a mistake (its box, in one line).
        SystemExit: after --help.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _refuse_twice(words)
    said = io.StringIO()
    read: Any = tyro.cli
    try:
        with contextlib.redirect_stderr(said):
            return read(Command, args=words, prog="ih-jax", description=about)
    except SystemExit as left:
        if not left.code:
            raise
    raise UserError(_in_one_line(said.getvalue(), words)) from None


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
