"""Drawings of characters from Omniglot's own folders or zip archives, read safely.

Layout: .../alphabet/character/drawing.png, as Omniglot is published (Lake et al. 2015). Nothing is
unpacked to disk, so no path of an archive can lead anywhere; members are read up to a size, and
what is no drawing is refused by name.

Shapes: C characters, E drawings of each, S pixels a side.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ih_jax import memory, paths
from ih_jax.data.images.orientation import oriented
from ih_jax.errors import UserError

MOST_BYTES = 2**20  # of one drawing, unpacked; Omniglot's have a few hundred
MOST_DRAWINGS = 200_000
MOST_PIXELS = 2048  # a side
MOST_HELD = 1_500_000_000  # bytes of all drawings, twice: one by one and as an array
IGNORED = ("__MACOSX", ".DS_Store", "Thumbs.db")


@dataclass(frozen=True)
class Drawings:
    """Characters with their drawings, ink 1 and paper 0."""

    characters: tuple[str, ...]  # "alphabet/character"
    images: NDArray[np.uint8]  # [C, E, S, S]
    checksum: str  # of names and pixels

    @property
    def alphabets(self) -> tuple[str, ...]:
        """Each once, in order."""
        return tuple(dict.fromkeys(name.split("/")[0] for name in self.characters))


def read(*sources: str | Path) -> Drawings:
    """All distinct characters of folders and archives, in the order of their names.

    A character that several hold, such as Omniglot's two small sets, is taken once. Where
    characters have different numbers of drawings, each gives as many as the fewest.

    Raises:
        UserError: nothing is there, something is no archive or holds other things than drawings, or
            drawings differ in size.
    """
    found: dict[str, dict[str, tuple[str, NDArray[np.uint8]]]] = {}
    count = held = 0
    for path in [paths.path("images", each) for each in sources]:
        begun = count
        for where, content in _members(path):
            parts = _parts(where)
            if len(parts) < 3:
                raise UserError(
                    f"{path}: {where} is not alphabet/character/drawing.png: give Omniglot's "
                    "folders or archives"
                )
            alphabet, character, drawing = parts[-3:]
            image = _decode(path, where, content)
            # Twice: the drawings one by one, then all of them as one array.
            held += 2 * image.nbytes
            if held > MOST_HELD:
                raise UserError(
                    f"{path} holds more than {count:,} drawings of {image.shape[0]} pixels a side, "
                    f"which take {held / 1e9:.1f} GB of memory: give fewer or smaller ones, of at "
                    f"most {MOST_HELD / 1e9:.1f} GB"
                )
            if count % 256 == 0:
                memory.check(held, f"{path}: what it holds after {count:,} drawings")
            own = found.setdefault(f"{alphabet}/{character}", {})
            own.setdefault(drawing, (f"{path}: {where}", image))
            count += 1
            if count > MOST_DRAWINGS:
                raise UserError(f"{path} holds more than {MOST_DRAWINGS:,} drawings: give fewer")
        if count == begun:
            raise UserError(
                f"{path} holds no drawings: alphabet/character/drawing.png is looked for"
            )
    if not found:
        raise UserError("no folder or archive is given: give Omniglot's, with --images")
    fewest = min(len(drawings) for drawings in found.values())
    names = sorted(found)
    rows = [[found[name][d] for d in sorted(found[name])[:fewest]] for name in names]
    shape = rows[0][0][1].shape
    for where, image in (each for row in rows for each in row):
        if image.shape != shape:
            raise UserError(
                f"{where} has {image.shape[1]} x {image.shape[0]} pixels, others "
                f"{shape[1]} x {shape[0]}: all drawings must have one size"
            )
    images = np.empty((len(rows), fewest, *shape), np.uint8)
    for own_images, row in zip(images, rows, strict=True):
        for number, (_, image) in enumerate(row):
            own_images[number] = image
    digest = hashlib.sha256("\n".join(names).encode() + images.tobytes())
    return Drawings(tuple(names), images, digest.hexdigest()[:16])


def turned(images: NDArray[np.uint8], turns: Sequence[int], flips: bool) -> NDArray[np.uint8]:
    """[C * V, E, S, S]: every character in each of V orientations, the V of one side by side.

    Quarter turns to the left, then the same of the mirror image where `flips`. Turned characters
    are classes of their own (Santoro et al. 2016).
    """
    sides = (False, True) if flips else (False,)
    found = [oriented(images, k, mirrored) for mirrored in sides for k in turns]
    stacked = np.stack(found, axis=1)  # [C, V, E, S, S]
    return np.ascontiguousarray(stacked.reshape(-1, *images.shape[1:]))


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every drawing in a folder or archive."""
    if paths.is_there(path) and path.is_dir():
        for file in sorted(path.rglob("*")):
            where = file.relative_to(path).as_posix()
            if _is_ignored(where) or not paths.is_there(file) or file.is_dir():
                continue
            if not file.resolve().is_relative_to(path.resolve()):
                raise UserError(
                    f"{path}: {where} is a link that leads out of the folder: remove it"
                )
            _refuse_other(path, where, file.stat().st_size)
            try:
                where.encode()
            except UnicodeEncodeError:
                raise UserError(
                    f"{path}: {paths.shown_path(Path(where))} is no UTF-8 text: rename it"
                ) from None
            # The folder itself may be the alphabet's parent's name: keep what is below it.
            yield f"{path.name}/{where}", paths.read_bytes(file, MOST_BYTES)
        return
    if not paths.is_there(path):
        raise UserError(f"{path} does not exist: give Omniglot's folders or zip archives")
    paths.regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                where = info.filename
                if info.is_dir() or _is_ignored(where):
                    continue
                if where.startswith("/") or ".." in _parts(where):
                    raise UserError(f"{path}: {where!r} leads out of the archive: it is not read")
                _refuse_other(path, where, info.file_size)
                with archive.open(info) as member:
                    content = member.read(MOST_BYTES + 1)
                _refuse_other(path, where, len(content))  # the archive may have said less
                yield where, content
    except UserError:
        raise
    except Exception as error:  # zipfile and what unpacks its members raise many kinds
        raise UserError(
            f"{path} is no whole zip archive ({paths.reason(error)}): load it again"
        ) from None


def _is_ignored(where: str) -> bool:
    return any(part in IGNORED for part in _parts(where))


def _parts(where: str) -> list[str]:
    """The folders and the name of a path with slashes; pathlib takes seconds for Omniglot's."""
    return [part for part in where.split("/") if part not in ("", ".")]


def _refuse_other(path: Path, where: str, size: int) -> None:
    if not where.lower().endswith(".png"):
        raise UserError(f"{path} holds {where!r}, which is no drawing (.png): give Omniglot's own")
    if size > MOST_BYTES:
        raise UserError(
            f"{path}: {where} has {size:,} bytes unpacked, drawings at most {MOST_BYTES:,}"
        )


def _decode(path: str | Path, where: str, content: bytes) -> NDArray[np.uint8]:
    """[S, S], ink 1: dark on light in the file."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if max(image.size) > MOST_PIXELS or image.size[0] != image.size[1]:
                raise UserError(
                    f"{path}: {where} has {image.size[0]} x {image.size[1]} pixels: square "
                    f"drawings of at most {MOST_PIXELS} a side are read"
                )
            if image.mode == "1":  # as Omniglot is published: paper is 1
                return (~np.asarray(image)).astype(np.uint8)
            return (np.asarray(image.convert("L")) < 128).astype(np.uint8)
    except UserError:
        raise
    except Exception as error:  # Pillow raises many kinds, and warns of bombs by one of them
        raise UserError(f"{path}: {where!r} is no PNG image ({paths.reason(error)})") from None
