"""What tokens look like in the page: drawings of exemplars, swatches, letters, text.

Glossary: X exemplars (rows of a task's table), S pixels a side, F features.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ih_jax import array_files
from ih_jax.data.images import drawings, glyphs, omniglot
from ih_jax.data.images.features import Features
from ih_jax.data.images.orientation import oriented
from ih_jax.data.languages.text import Text
from ih_jax.data.languages.token_files import TokenFiles
from ih_jax.tasks.fewshot import FewShot
from ih_jax.tasks.language import Language

SIDE = 32  # pixels of a drawing in the page
CELLS = 6  # a side of a swatch


def tiles(task: FewShot, rows: Sequence[int]) -> tuple[dict[int, str], str]:
    """A picture (data: URL) for each of these rows of the training table, and what they are.

    "drawings" where the data has them, else "swatches": means of stretches of the feature vector,
    so that what the network sees alike looks alike.
    """
    splits = task.splits()
    classes, exemplars = splits["classes"]["train"], splits["exemplars"]["train"]
    wanted = [(int(classes[r // len(exemplars)]), int(exemplars[r % len(exemplars)])) for r in rows]
    images = _drawn(task.data, wanted)
    what = "drawings"
    if images is None:
        vectors = np.stack([task.data.select([c], [e])[0, 0] for c, e in wanted])
        images, what = _swatches(vectors), "swatches"
    return {row: _url(image) for row, image in zip(rows, images, strict=True)}, what


def swatches(vectors: NDArray[np.float32]) -> list[str]:
    """A picture (data: URL) for each of these feature vectors [X, F]."""
    return [_url(image) for image in _swatches(vectors)]


def names(task: Language) -> list[str]:
    """A name for every token of the vocabulary, as text where it is text."""
    found = task.data.token_names()
    if isinstance(task.data, Text | TokenFiles):
        return [_as_text(name) for name in found]
    return found


def _as_text(name: str) -> str:
    """What Python's literal says, where it is one."""
    if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"":
        return name[1:-1]
    return name


def _drawn(data: Features, wanted: Sequence[tuple[int, int]]) -> NDArray[np.float32] | None:
    """[X, S, S], ink 1: the drawings that features were made of; None where they are not there."""
    origin = dict(data.origin)
    if origin.get("kind") == "glyphs":
        seed = int(origin.get("seed", 0))
        return np.stack([glyphs.draw([c], [e], SIDE, seed)[0, 0] for c, e in wanted])
    if origin.get("kind") == "file":
        return _of_omniglot(origin["path"], wanted)
    return None


def _of_omniglot(path: str, wanted: Sequence[tuple[int, int]]) -> NDArray[np.float32] | None:
    """As `_drawn`, for a file that `ih-jax features` made, if its drawings are still there."""
    try:
        with array_files.open_hdf5(Path(path)) as file:
            made_of = dict(json.loads(file.attrs["made_of"]))
            characters, turns, mirrored = (
                array_files.hdf5_array(file, key)
                for key in ("character", "quarter_turns", "mirrored")
            )
        found = drawings.read(*omniglot.find_archives())
        if found.checksum != made_of.get("drawings"):
            return None
        images = []
        for c, e in wanted:
            image = found.images[characters[c], e]
            images.append(_small(oriented(image, int(turns[c]), bool(mirrored[c]))))
    except (LookupError, OSError, TypeError, ValueError):  # a file of other people
        return None
    return np.stack(images)


def _small(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[S, S] of a drawing of any size, its strokes thickened before they are made small."""
    big = Image.fromarray(np.uint8(255 * image))
    made = np.asarray(big.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255
    return np.clip(made * 2.2, 0, 1)


def _swatches(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """[X, CELLS, CELLS], 0 to 1: ranks of the means of stretches of feature vectors [X, F]."""
    stretches = np.array_split(np.arange(vectors.shape[1]), min(CELLS**2, vectors.shape[1]))
    means = np.stack([vectors[:, s].mean(1) for s in stretches], axis=1)
    means = np.pad(means, ((0, 0), (0, CELLS**2 - means.shape[1])), mode="edge")
    centred = means - means.mean(0)
    order = centred.argsort(1).argsort(1) / (CELLS**2 - 1)
    return (order**2).reshape(-1, CELLS, CELLS).astype(np.float32)


def _url(image: NDArray[np.float32]) -> str:
    """A PNG whose transparency is the ink, so that the page colours it."""
    alpha = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    height, width = alpha.shape
    black = Image.new("L", (width, height), 0)
    picture = Image.merge("LA", (black, Image.fromarray(alpha)))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def labels(count: int) -> list[str]:
    """A letter for each label; numbers where there are more than letters."""
    return [chr(65 + i) if count <= 26 else str(i) for i in range(count)]


def described(value: Any) -> Any:
    """A label of an axis as JSON can hold it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
