"""Omniglot's characters as a file of features: read, turned, encoded, shuffled, kept.

A file has the layout of the paper's own (`ENCODER/SIDE/feat`, [classes, drawings, features]), with
what each class shows beside it: `character`, `quarter_turns`, `mirrored`. Turned and mirrored
characters are classes of their own, and it is split by character: no character is both trained on
and unseen. Its name in the cache holds a digest of all that made it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ih_jax import array_files, files, memory, paths
from ih_jax.data.images import drawings as images_
from ih_jax.data.images.drawings import Drawings
from ih_jax.data.images.encoders import Encoder
from ih_jax.data.images.features import Features
from ih_jax.errors import UserError, whole

FORMAT = 1  # of the file; another is made anew
ARCHIVES = (
    "images_background.zip",
    "images_evaluation.zip",
    "images_background_small1.zip",
    "images_background_small2.zip",
)
KEPT = 5  # drawings of each character, as the paper's file


def find_archives() -> list[Path]:
    """Omniglot's archives in the folder IH_JAX_DATA_DIR. Raises UserError where there are none."""
    folder = os.environ.get("IH_JAX_DATA_DIR")
    found = archives_in(Path(folder)) if folder else []
    if not found:
        raise UserError(
            "there are no drawings of Omniglot: give --images with its archives or folders "
            "(github.com/brendenlake/omniglot, in python/), set IH_JAX_DATA_DIR to a folder that "
            f"holds some of {', '.join(ARCHIVES)}, or load them with --download"
        )
    return found


def archives_in(folder: Path) -> list[Path]:
    """Omniglot's archives in a folder. The two large ones hold the small ones, which are left out.

    A large one alone leaves the small ones in: characters of both are taken once all the same.
    """
    found = [folder / name for name in ARCHIVES if (folder / name).is_file()]
    large = [path for path in found if "small" not in path.name]
    return large if len(large) == len(ARCHIVES) // 2 else found


def from_tfds(folder: Path) -> Drawings:
    """The drawings of all splits of tensorflow-datasets' own `omniglot`, downloaded where needed.

    Its records do not say who drew them: drawings of a character are in the order of their pixels.

    Args:
        folder: where tensorflow-datasets keeps what it loads.

    Raises:
        UserError: TensorFlow is not installed, or the download fails.
    """
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder("omniglot", data_dir=folder)
        builder.download_and_prepare()
        records = [
            record
            for split in builder.info.splits
            for record in tfds.as_numpy(builder.as_dataset(split=split))
        ]
    except ImportError as error:
        raise UserError(
            f"tensorflow-datasets needs TensorFlow ({error}): pip install 'ih_jax[omniglot]', or "
            "give --images with Omniglot's archives"
        ) from None
    except Exception as error:  # of TensorFlow, of the network, of checksums
        raise UserError(
            f"tensorflow-datasets could not load omniglot ({str(error).splitlines()[0][:200]}): "
            "give --images with its archives"
        ) from None
    alphabet = builder.info.features["alphabet"].int2str
    found: dict[str, set[bytes]] = {}
    side = 0
    for record in records:
        ink = (record["image"][..., 0] < 128).astype(np.uint8)
        side = len(ink)
        number = int(record["alphabet_char_id"]) + 1
        name = f"{alphabet(int(record['alphabet']))}/character{number:02d}"
        found.setdefault(name, set()).add(ink.tobytes())  # splits overlap
    names = sorted(found)
    fewest = min(len(each) for each in found.values())
    pages = [sorted(found[name])[:fewest] for name in names]
    images = np.frombuffer(b"".join(page for row in pages for page in row), np.uint8)
    images = images.reshape(len(names), fewest, side, side)
    digest = hashlib.sha256("\n".join(names).encode() + images.tobytes())
    return Drawings(tuple(names), images, digest.hexdigest()[:16])


def drawings_of(sources: Sequence[str | Path], cache: Path, download: bool = False) -> Drawings:
    """Of these folders and archives; of none: of a download, or of those in IH_JAX_DATA_DIR.

    A folder may be one of drawings or one that holds Omniglot's archives.
    """
    if download and not sources:
        return from_tfds(cache / "tensorflow-datasets")
    found = [each for path in sources for each in archives_in(Path(path)) or [Path(path)]]
    return images_.read(*(found or find_archives()))


def prepare(
    sources: Sequence[str | Path],
    encoder: Encoder,
    cache: Path,
    *,
    variants: bool = True,
    kept: int = KEPT,
    seed: int = 0,
    out: Path | None = None,
    download: bool = False,
    progress: bool = False,
) -> Path:
    """The file of features of these drawings, made where it is not in the cache.

    Args:
        sources: folders and archives; none: see `drawings_of`.
        encoder: from drawings to features.
        cache: a folder for files of features.
        variants: four quarter turns of every character and of its mirror image, as classes.
        kept: drawings of each character; all where there are fewer than `KEPT`.
        seed: of the order of classes.
        out: write here instead of the cache.
        download: where no sources are given, load the drawings with tensorflow-datasets.
        progress: show a bar.

    Raises:
        UserError: as `images.read`, more drawings are asked for than there are, or `out` is there
            already and is of something else.
    """
    whole("drawings", kept, least=1)
    whole("seed", seed)
    if out is not None:
        paths.new_file(out, "HDF5 file")
    if download and sources:
        raise UserError("both drawings and a download are asked for: give either")
    drawings = drawings_of(sources, cache, download)
    there = drawings.images.shape[1]
    if kept > max(there, KEPT):
        raise UserError(f"drawings is {kept:,}, and characters have {there} here: give fewer")
    made_of = {
        "format": FORMAT,
        "drawings": drawings.checksum,
        "encoder": encoder.key,
        "variants": variants,
        "kept": kept,
        "seed": seed,
    }
    text = json.dumps(made_of, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = out or cache / f"omniglot-{encoder.name}-{digest}.h5"
    if path.is_file():
        if _made_of(path) == made_of:
            return path
        raise UserError(f"{path} was made otherwise ({_made_of(path)}): give another --out")
    _write(path, drawings, encoder, made_of, progress)
    return path


def _write(
    path: Path, drawings: Drawings, encoder: Encoder, made_of: dict[str, Any], progress: bool
) -> None:
    """Encode and write, whole or not at all."""
    turns, flips = ((0, 1, 2, 3), True) if made_of["variants"] else ((0,), False)
    each = len(turns) * (1 + flips)
    few = drawings.images[:, : made_of["kept"]]
    # Turned one by one, put together, and once more in the order of classes.
    memory.check(3 * each * few.nbytes, f"{few.shape[0] * each:,} turned characters")
    features = encoder(images_.turned(few, turns, flips), progress)
    classes = np.arange(len(features))
    order = np.random.default_rng(made_of["seed"]).permutation(classes)
    with files.atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset(
            f"{encoder.name}/{encoder.side}/feat",
            data=features[order],
            dtype=np.float32,
            compression="gzip",
            compression_opts=4,
        )
        file["character"] = (classes // each)[order]
        file["quarter_turns"] = (classes % len(turns))[order]
        file["mirrored"] = (classes % each >= len(turns))[order]
        file["names"] = np.array(drawings.characters, dtype=h5py.string_dtype())
        file.attrs["split_by"] = "character"
        file.attrs["made_of"] = json.dumps(made_of)


def _made_of(path: Path) -> dict[str, Any] | None:
    """What a file of features says it was made of; None where it says nothing or is damaged."""
    try:
        with array_files.open_hdf5(path) as file:
            return dict(json.loads(file.attrs["made_of"]))
    except (OSError, KeyError, ValueError, TypeError, RecursionError):
        return None


def nearest(features: Features, most: int = 500) -> dict[str, float]:
    """How far apart classes are: of up to `most` classes, their first and second drawings.

    norm: of a feature vector, mean; cosine: of two classes, mean; confused: the share of second
    drawings that are nearer, by cosine, to the first drawing of another class than of their own
    (NaN with one drawing a class).
    """
    chosen = np.linspace(0, features.classes - 1, min(most, features.classes)).astype(int)
    several = features.exemplars > 1
    values = features.select(chosen.tolist(), [0, 1] if several else [0])
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    unit = values / np.maximum(norms, 1e-12)
    alike = unit[:, 0] @ unit[:, 0].T
    n = len(chosen)
    found = {
        "norm": float(norms.mean()),
        "cosine": float((alike.sum() - np.trace(alike)) / max(1, n * (n - 1))),
        "confused": float("nan"),
    }
    if several:
        across = unit[:, 1] @ unit[:, 0].T
        found["confused"] = float((across.argmax(1) != np.arange(n)).mean())
    return found
