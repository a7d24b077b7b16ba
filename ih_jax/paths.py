"""Paths that users give: what stands there, whether it can be read or written, how it is named.

Whatever is no regular file (a pipe, a device, a folder) is refused before it is opened: reading it
could take forever. Every refusal is a `UserError` of one line.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ih_jax.errors import UserError, given

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
SHOWN = 400  # letters of a path in a message
# How files begin that commands write, after so many other bytes.
BEGINNINGS = {
    "PNG picture": (0, b"\x89PNG"),
    "web page": (0, b"<!doctype html>"),
    "safetensors file": (8, b"{"),
    "HDF5 file": (0, b"\x89HDF"),
}


def path(name: str, value: object) -> Path:
    """A path that a user gave. Raises UserError where it is empty or no text."""
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str) and text and "\0" not in text:
            return Path(text)
    raise UserError(f"{name} is {given(value)}: give the path of a file or folder")


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


def in_utf8(path: Path) -> Path:
    """The path, if its name and those of the folders that it is in are UTF-8 text.

    Raises:
        UserError: one is not; what stores arrays cannot open it.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"the path {shown_path(path.absolute())} is no UTF-8 text: rename its folders, or "
            "give a path outside of them"
        ) from None
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


def is_mendable(error: BaseException) -> bool:
    """Whether what the system says is for a user to put right: a name, a kind of file, a right.

    Everything else, such as a full disk, is the machine's.
    """
    return isinstance(error, OSError) and error.errno in MENDABLE


def shown_path(path: Path) -> str:
    """A path that can be printed, whatever bytes its name is made of, and however many."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"


def reason(error: BaseException) -> str:
    """What an error says, in one short line."""
    try:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    except Exception:  # whatever class it is of, a user's own among them
        return type(error).__name__
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).split(". ")[0][:200].rstrip(".")
