"""What is no mistake of a user: the machine failed (1), or this package did (70, with a report)."""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from ih_jax import files, paths
from ih_jax.sweeps import cards

USERS, MACHINE, OURS = 2, 1, 70  # exit codes; 70 is EX_SOFTWARE of sysexits.h
# How XLA says that memory is full; its errors are of one class, whatever they mean.
NO_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")


def end(error: Exception, said: Callable[[str, int], int]) -> int:
    """Say in a line what has failed; where that is this package, write a report.

    Args:
        error: anything but a `UserError`.
        said: prints a line and gives the exit code that goes with it.
    """
    if paths.is_mendable(error):
        assert isinstance(error, OSError)
        where = "" if error.filename is None else f"{paths.shown_path(Path(str(error.filename)))}: "
        return said(f"{where}{paths.reason(error)}: give another file or folder", USERS)
    kept = "everything saved so far is kept: fix the problem, then rerun with --resume"
    if isinstance(error, OSError):
        return said(f"{error}; {kept}", MACHINE)
    if isinstance(error, MemoryError) or any(word in str(error) for word in NO_MEMORY):
        return said(f"this machine's memory is full ({paths.reason(error)}); {kept}", MACHINE)
    kind = f"{type(error).__name__}: {paths.reason(error)}"
    return said(
        f"this is a fault of ih-jax, not yours ({kind}): please send {report(error)} with what you "
        "did to those who maintain it",
        OURS,
    )


def report(error: BaseException) -> str:
    """Write version, command and traceback into a file in the cache folder, and say where."""
    versions = cards.versions("ih_jax", "jax", "jaxlib", "numpy")
    text = "\n".join(
        [
            "A fault of ih-jax. This file holds its version, the command and where it failed.",
            f"versions: {versions}, Python {sys.version.split()[0]}, {sys.platform}",
            f"commit: {cards.commit()}",
            f"command: {shlex.join(sys.argv)}",
            f"time: {time.strftime('%Y-%m-%d %H:%M:%S')}",
            "",
            *traceback.format_exception(error),
        ]
    )
    text = text.encode("utf-8", "backslashreplace").decode()
    name = f"{time.strftime('%Y%m%d-%H%M%S')}.txt"
    for folder in (
        files.cache_folder() / "reports",
        Path(tempfile.gettempdir()) / "ih_jax-reports",
    ):
        try:
            files.write_text(folder / name, text)
        except OSError:
            continue
        return str(folder / name)
    print(text, file=sys.stderr)
    return "the lines above"
