"""Feature vectors of classes: the embedded glyphs, files, arrays and synthetic classes.

Shapes: C classes, E exemplars a class, F features.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ih_jax import array_files, memory, paths
from ih_jax.data.images import glyphs
from ih_jax.errors import UserError, real, whole

Floats = NDArray[np.float32]
CLASS_BYTES = 50  # of a class, beside its features
SHOWN = 8  # datasets in a message
MOST_FEATURES = 100_000  # of an exemplar; an image of 256 x 256 pixels has 65,536
MOST = 10_000_000  # classes, and exemplars of a class


@dataclass(frozen=True)
class Features:
    """A source of feature vectors. `select` reads no more than is asked for."""

    name: str
    classes: int
    exemplars: int
    features: int
    read: Callable[[Sequence[int], Sequence[int]], Floats] = field(repr=False, compare=False)
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False)  # for `of_origin`
    # [C] what classes are variants of, where splits must keep variants on one side.
    groups: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.features > MOST_FEATURES:
            raise UserError(
                f"{self.name} has {self.features:,} features an exemplar: give at most "
                f"{MOST_FEATURES:,}, such as those of an encoder or their principal components"
            )
        if max(self.classes, self.exemplars) > MOST:
            raise UserError(
                f"{self.name} has {self.classes:,} classes of {self.exemplars:,} exemplars: give "
                f"at most {MOST:,} of each"
            )

    def select(self, classes: Sequence[int], exemplars: Sequence[int]) -> Floats:
        """[len(classes), len(exemplars), F] float32. Raises UserError for NaN or infinity."""
        values = np.asarray(self.read(classes, exemplars), np.float32)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            c, e, f = bad[0]
            raise UserError(
                f"{self.name}: {len(bad)} of {values.size} features are NaN or infinite, the first "
                f"at class {classes[c]}, exemplar {exemplars[e]}, feature {f}: "
                "correct them, or leave them out"
            )
        return values

    def checksum(self, classes: Sequence[int], exemplars: Sequence[int]) -> str:
        """Hexadecimal, of the features that `select` gives."""
        return hashlib.sha256(self.select(classes, exemplars).tobytes()).hexdigest()[:16]


def of_glyphs(seed: int = 0, orientations: int = 1) -> Features:
    """The embedded default: invented characters, drawn on demand.

    Args:
        seed: of the characters.
        orientations: 1: upright alone, 1,623 classes; up to 8: turned and mirrored, too, each a
            class of its own (12,984), upright ones first. Splits keep a character on one side.

    Raises UserError for other numbers.
    """
    whole("orientations", orientations, least=1, most=glyphs.ORIENTATIONS)
    turned = orientations > 1
    return Features(
        "glyphs",
        glyphs.CLASSES * orientations,
        glyphs.DRAWINGS,
        glyphs.FEATURES,
        lambda classes, exemplars: _drawn(tuple(classes), tuple(exemplars), seed),
        {"kind": "glyphs", "seed": seed} | ({"orientations": orientations} if turned else {}),
        np.tile(np.arange(glyphs.CLASSES), orientations) if turned else None,
    )


@lru_cache(maxsize=4)  # a task with many classes asks for the same ones again, for every set
def _drawn(classes: tuple[int, ...], exemplars: tuple[int, ...], seed: int) -> Floats:
    drawn = glyphs.features(classes, exemplars, seed)
    drawn.flags.writeable = False
    return drawn


def of_array(values: ArrayLike, name: str = "array") -> Features:
    """Features given as an array [C, E, F]."""
    try:
        given = values if isinstance(values, np.ndarray) else np.asarray(values)
        memory.check(4 * given.size, f"{name}: features of shape {given.shape}")
        with np.errstate(over="ignore"):  # infinity is refused by `select`
            array = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{name}: features are no array of numbers ({paths.reason(error)})"
        ) from None
    if array.ndim != 3 or 0 in array.shape:
        raise UserError(f"features have shape {array.shape}: give [classes, exemplars, features]")
    C, E, F = array.shape
    return Features(name, C, E, F, lambda c, e: array[np.ix_(list(c), list(e))])


def of_one_hot(classes: int) -> Features:
    """One-hot classes with one exemplar each. Raises UserError for more than memory holds."""
    whole("classes", classes, least=1)
    memory.check(8 * classes**2, f"{classes:,} one-hot classes")
    made = of_array(np.eye(classes, dtype=np.float32)[:, None], f"one-hot:{classes}")
    return replace(made, origin={"kind": "one_hot", "classes": classes})


def of_gaussian(
    classes: int, features: int, exemplars: int = 5, spread: float = 0.0, seed: int = 0
) -> Features:
    """Gaussian class means of variance 1 a feature; exemplars lie `spread` (std) around them.

    Raises UserError for numbers out of range, and for more than memory holds.
    """
    sizes = {"classes": classes, "features": features, "exemplars": exemplars}
    for size, value in sizes.items():
        whole(size, value, least=1)
    whole("seed", seed)
    real("spread", spread, least=0)
    memory.check(24 * math.prod(sizes.values()), f"{classes:,} Gaussian classes")
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((classes, 1, features))
    values = means + spread * rng.standard_normal((classes, exemplars, features))
    made = of_array(values, f"gaussian:{classes}x{exemplars}x{features},{spread:g},{seed}")
    return replace(made, origin={"kind": "gaussian", **sizes, "spread": spread, "seed": seed})


def find_file(path: str | Path) -> Path:
    """The file, or the one of that name in the folder IH_JAX_DATA_DIR. Raises UserError."""
    path = paths.path("data", path)
    folder = os.environ.get("IH_JAX_DATA_DIR")
    for candidate in (path, Path(folder) / path if folder else path):
        if paths.is_there(candidate):
            return paths.regular(candidate)
    also = f" nor in IH_JAX_DATA_DIR ({folder})" if folder else ""
    shown = paths.shown_path(path)
    raise UserError(f"no feature file at {shown}{also}: give an HDF5 file, or leave out --data")


def of_file(path: str | Path, key: str | None = None) -> Features:
    """Features in an HDF5 file: a dataset [classes, exemplars, features], by its key.

    The key may be left out where the file holds one such dataset.

    Raises:
        UserError: the file or dataset is missing, of another shape, damaged or stored in another
            file (the line says which keys there are), or what it declares takes more memory than is
            free.
    """
    path = find_file(path)
    shapes: dict[str, tuple[int, ...]] = {}

    def look(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            shapes[name] = item.shape or ()

    with array_files.open_hdf5(path) as file, _readable(path):
        file.visititems(look)
        key = _choose_key(path, key, shapes)
        C, E, F = shapes[key]
        # What is kept of each class while classes are split.
        memory.check(CLASS_BYTES * C, f"{path}: {key}: the order of {C:,} classes")
        array_files.hdf5_dataset(file, key)[-1, -1, -1]  # a truncated file fails here, not in a run
        groups = _groups(path, file, C)

    def read(classes: Sequence[int], exemplars: Sequence[int]) -> Floats:
        with array_files.open_hdf5(path) as file, _readable(path):
            found = array_files.hdf5_dataset(file, key)
            # HDF5 reads slices fast and lists slowly: the span that holds all, then the choice.
            c, e = np.asarray(classes), np.asarray(exemplars)
            span = (int(np.ptp(c)) + 1) * (int(np.ptp(e)) + 1)
            needed = F * (span * found.dtype.itemsize + 8 * len(c) * len(e))
            memory.check(needed, f"{path}: {key}: reading {len(c):,} of {C:,} classes")
            values = found[c.min() : c.max() + 1, e.min() : e.max() + 1]
            with np.errstate(over="ignore"):  # infinity is refused by `select`
                return np.asarray(values[np.ix_(c - c.min(), e - e.min())], np.float32)

    origin = {"kind": "file", "path": str(path.absolute()), "key": key}
    return Features(f"{path.name}:{key}", C, E, F, read, origin, groups)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what HDF5 says of a damaged file into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # h5py and HDF5 raise many kinds
        raise UserError(
            f"{path} cannot be read whole ({paths.reason(error)}): is it a damaged HDF5 file?"
        ) from None


def _groups(path: Path, file: h5py.File, classes: int) -> NDArray[np.int64] | None:
    """The characters that classes show, of a file that says it is to be split by them."""
    if not isinstance(by := file.attrs.get("split_by"), str) or by != "character":
        return None
    if not array_files.hdf5_has(file, "character"):
        raise UserError(f"{path} is to be split by character, but does not say which classes show")
    found = array_files.hdf5_dataset(file, "character")
    if found.shape != (classes,) or found.dtype.kind not in "iu":
        raise UserError(f"{path}: character is no whole number for each of {classes:,} classes")
    numbers = np.asarray(found[()], np.int64)
    if numbers.min() < 0 or numbers.max() >= classes:
        raise UserError(
            f"{path}: character holds {numbers.min():,} to {numbers.max():,}: numbers of "
            f"{classes:,} classes, counted from 0, are needed"
        )
    return numbers


def of_origin(origin: Mapping[str, Any]) -> Features:
    """The features of a run card. Raises UserError for an array that was given in memory."""
    makers: dict[str, Callable[..., Features]] = {
        "glyphs": of_glyphs,
        "one_hot": of_one_hot,
        "gaussian": of_gaussian,
        "file": of_file,
    }
    settings = dict(origin)
    kind = settings.pop("kind", "array")
    if not isinstance(kind, str) or kind not in makers:
        raise UserError("the features were an array in memory: they cannot be read again from disk")
    return makers[kind](**settings)


def _choose_key(path: Path, key: str | None, shapes: dict[str, tuple[int, ...]]) -> str:
    some = sorted(shapes.items())
    known = ", ".join(f"{name} {list(shape)}" for name, shape in some[:SHOWN]) or "none"
    known += f" and {len(some) - SHOWN:,} more" if len(some) > SHOWN else ""
    fitting = [name for name, shape in shapes.items() if len(shape) == 3 and 0 not in shape]
    if key is None:
        if len(fitting) != 1:
            raise UserError(
                f"{path} has {len(fitting)} datasets [classes, exemplars, features]: "
                f"choose with --data-key; it holds {known}"
            )
        return fitting[0]
    key = key.strip("/")
    if key not in shapes:
        raise UserError(f"{path} has no dataset {key!r}: it holds {known}")
    if key not in fitting:
        raise UserError(
            f"{path}: {key} has shape {list(shapes[key])}: [classes, exemplars, features] is needed"
        )
    return key
