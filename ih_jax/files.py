"""Files and folders written whole or not at all, and the folder of the package's cache."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import platformdirs

WRITING = ".writing"  # how the name of what is not yet whole ends


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Write a file or a folder whole or not at all.

    Yields another name in the same folder. When the block has ended without an error, what stands
    under that name is synced to disk and takes the place of `path`; after an error it is removed,
    and `path` is as it was. The folder that `path` stands in is made if it is not there.

        with atomic(folder / "figure.png") as temporary:
            figure.savefig(temporary, format="png")

    Raises:
        OSError: as the system reports it, for a full disk say.
    """
    with made(path.parent), _replaced(path) as temporary:
        yield temporary


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    # Another process or thread that writes the same file has a name of its own.
    own = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{own}{WRITING}")
    _remove(temporary)
    try:
        yield temporary
        _sync(temporary)
        if path.is_dir() and not temporary.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if temporary.is_dir():
            _remove(path)  # a folder cannot be renamed onto one that is not empty
        os.replace(temporary, path)
    finally:
        _remove(temporary)
    _sync_folder(path.parent)


@contextlib.contextmanager
def made(folder: Path, locks: Sequence[str] = ()) -> Iterator[None]:
    """Have a folder while something is written into it, made with those above it if need be.

    After an error, folders that were made for it and are still empty are removed again; `locks` are
    files in it that hold nothing and go with them.

    Raises:
        OSError: as the system reports it.
    """
    folder = folder.absolute()
    new = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if folder in new and {*locks} >= {
                each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()
            }:
                shutil.rmtree(folder, ignore_errors=True)
            for each in new:
                if os.path.lexists(each):
                    each.rmdir()  # fails where it is not empty
        raise


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all. Raises OSError as `atomic` does."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def cache_folder() -> Path:
    """Where compiled programs, measured costs and encoded images are kept between processes.

    `$XDG_CACHE_HOME/ih_jax` where that variable is set, on any system; else what the system has for
    caches, such as `~/.cache/ih_jax` on Linux. It need not exist.
    """
    told = os.environ.get("XDG_CACHE_HOME")
    return Path(told, "ih_jax") if told else platformdirs.user_cache_path("ih_jax", appauthor=False)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have a file, or everything in a folder, on disk and not only in memory."""
    if not path.is_dir():
        with open(path, "r+b") as file:  # Windows syncs only what is open for writing
            os.fsync(file.fileno())
        return
    for inside in path.iterdir():
        _sync(inside)
    _sync_folder(path)


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, where the system can."""
    if os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise  # some network file systems sync files only
    finally:
        os.close(descriptor)
