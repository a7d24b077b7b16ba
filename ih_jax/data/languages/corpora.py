"""Corpora: the documents of Python's own source, of a file or folder, or of tensorflow-datasets."""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path

from ih_jax import memory, paths
from ih_jax.errors import UserError

Document = tuple[str, bytes]  # its name, what it holds
PYTHON, TFDS = "python", "tfds:"
SEPARATOR = b"\0"
# Beside the library, tests, and what differs between machines with the same Python.
NOT_PYTHON = ("*-packages", "idlelib", "test", "tests", "idle_test", "_sysconfigdata*")


def read(corpus: str | Path, limit: int, download: bool = False) -> list[Document]:
    """The documents of a corpus, each once, by name, up to `limit` bytes.

    Raises:
        UserError: the corpus does not exist, has no text, or cannot be read.
    """
    return list(one_by_one(corpus, limit, download))


def one_by_one(corpus: str | Path, limit: int, download: bool = False) -> Iterator[Document]:
    """What `read` gives, of which one document at a time is in memory (but of tfds all)."""
    if str(corpus).startswith(TFDS):
        documents: Iterable[Document] = _of_tfds(str(corpus).removeprefix(TFDS), limit, download)
    elif download:
        raise UserError(f"corpus {str(corpus)!r} is not downloaded, {TFDS}NAME is: leave it out")
    elif corpus == PYTHON:
        documents = _of_folder(Path(sysconfig.get_path("stdlib")), limit, ".py", NOT_PYTHON)
    else:
        path = find(corpus)
        documents = _of_folder(path, limit) if path.is_dir() else [("", _bytes(path, limit))]
    known: set[bytes] = set()
    for name, text in documents:
        if limit <= 0:
            break
        digest = blake2b(text, digest_size=32).digest()
        if text and SEPARATOR not in text and digest not in known:
            known.add(digest)
            yield name, up_to(text, limit)
            limit -= len(text)
    if not known:
        raise UserError(
            f"corpus {str(corpus)!r} holds no text (hidden files, symbolic links and files with "
            "zero bytes are none): give another"
        )


def find(corpus: str | Path) -> Path:
    """The file or folder, or that of the same name in IH_JAX_DATA_DIR. Raises UserError."""
    folder = os.environ.get("IH_JAX_DATA_DIR")
    path = paths.path("corpus", corpus).expanduser()
    for candidate in (path, *([Path(folder) / path] if folder else [])):
        if paths.is_there(candidate):
            return candidate if candidate.is_dir() else paths.regular(candidate)
    also = f" nor in IH_JAX_DATA_DIR ({folder})" if folder else ""
    raise UserError(
        f"no text at {str(corpus)!r}{also}: give a file, a folder, {PYTHON!r} or '{TFDS}NAME'"
    )


def _of_folder(
    root: Path, limit: int, suffix: str = "", but: Sequence[str] = ()
) -> Iterator[Document]:
    """Files below `root`, by relative path; links might lead out of it, and are left out.

    Only those whose names end with `suffix`, and neither files nor folders of the patterns `but`.
    """

    def wanted(name: str) -> bool:
        return not any(fnmatchcase(name, pattern) for pattern in (".*", *but))

    found: dict[str, Path] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = filter(wanted, folders)
        for path in (Path(folder, name) for name in files if wanted(name)):
            if path.name.endswith(suffix) and path.is_file() and not path.is_symlink():
                found[path.relative_to(root).as_posix()] = path
    for name in sorted(found):
        yield name, _bytes(found[name], limit)


def _bytes(path: Path, limit: int) -> bytes:
    """The start of a file, with what shows whether the limit cuts a character in two."""
    try:
        with path.open("rb") as file:
            # Asked for more than there is, Python would first make room for it.
            size = min(limit, os.fstat(file.fileno()).st_size) + 1
            memory.check(size, f"{paths.shown_path(path)}: its text")
            return file.read(size)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}): "
            "fix that, or move the file elsewhere"
        ) from None


@functools.lru_cache(maxsize=2)
def _of_tfds(name: str, limit: int, download: bool) -> tuple[Document, ...]:
    """The first texts of the training split of a set, up to the limit."""
    if ":" in name:  # of a community: to look for it is to ask the network
        raise UserError(f"corpus '{TFDS}{name}': give a set of tensorflow-datasets' own")
    found: list[Document] = []
    read = 0
    try:
        import tensorflow_datasets as tfds

        records = tfds.load(name, split="train", download=download, try_gcs=False)
        for number, record in enumerate(tfds.as_numpy(records)):
            texts = [key for key, value in record.items() if isinstance(value, bytes)]
            if "text" not in texts and len(texts) != 1:
                break
            found.append((f"{number:09d}", record["text" if "text" in texts else texts[0]]))
            read += len(found[-1][1])
            if read > limit:
                break
    except ImportError as error:
        raise UserError(
            f"tensorflow-datasets needs TensorFlow ({error}): pip install 'ih_jax[omniglot]', or "
            "give a file or folder as corpus"
        ) from None
    except Exception as error:  # of TensorFlow, of the network, of checksums
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        more = "" if download else "download=True to load it from the network, "
        raise UserError(
            f"tensorflow-datasets could not load {name} ({reason}): give {more}"
            "another set, or a file or folder as corpus"
        ) from None
    if not found:
        raise UserError(f"{name} has no feature that is its text: give another set")
    return tuple(found)


def up_to(text: bytes, end: int) -> bytes:
    """The first `end` bytes, or up to three less where that would cut a character in two."""
    at = end
    while 0 < at < len(text) and end - at < 3 and text[at] & 0xC0 == 0x80:
        at -= 1
    return text[:at]
