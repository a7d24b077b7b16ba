"""What stands on disk: a folder of results, and trajectories in it by block and part.

    FOLDER/
        card.json            what was run: tasks, clamps, versions, devices, times
        results.nc           labelled results (netCDF), written when all blocks are done
        trajectory/
            block-0003/
                part-0007/
                    arrays/         Orbax: the block's weights at the part's checkpoints [K, R, ...]
                    scores.npy      its scores, which are read of many blocks, without Orbax
                    manifest.json   written last: a checksum for every array
                state-0007/  beside the newest parts, until all is done: the state to go on from

A card with "forgotten" says why `trajectory` is gone: measured, and given up to save room.

A part is written under another name, synced and then renamed, so it is whole or it is not there.
Orbax notices a truncated file but not an altered one; the checksums do.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import jax
import msgspec
import numpy as np
import orbax.checkpoint as ocp

from ih_jax import array_files, files, gate, memory, paths
from ih_jax.errors import UserError
from ih_jax.sweeps.card_file import read_card, write_card

LAYOUT_VERSION = 1
SCORES = "scores"  # the leaf that has a file of its own
MOST_SCORES = 2**31  # bytes of it
LOCKS = ("trajectory/.writer", "trajectory/.turn")  # in the folder of a sweep
_ONE_AT_A_TIME = threading.Lock()


def silence_late_threads() -> None:
    """Keep what Orbax's threads say after a save has failed off the terminal.

    Their callbacks meet an event loop that is closed by then, and Python prints a traceback for
    each; `save_part` has said in one line what is wrong. For programs, since the hook is global.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            before(unraisable)

    sys.unraisablehook = hook


class Manifest(msgspec.Struct):
    """A manifest.json: what is said about a part, and a checksum for every array."""

    about: dict[str, Any]
    checksums: dict[str, str]


class About(msgspec.Struct):
    """What the manifest of a block's part says about it."""

    steps: list[gate.Count]
    score_steps: list[gate.Count]
    diverged: list[Annotated[int, msgspec.Meta(ge=-1, le=10**12)]]
    runs: list[gate.Count]


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a results folder for what is done inside, unless it is there.

    Where that fails before anything is in the folder, what was made for it is removed.

    Raises:
        UserError: the folder cannot be made or written, or its path is no UTF-8 text.
    """
    inside = False
    paths.in_utf8(folder)
    try:
        with files.made(folder, LOCKS):
            with tempfile.TemporaryFile(dir=folder):
                pass  # under no name that another process, making the same folder, could meet
            inside = True
            yield
    except OSError as error:
        if inside:
            raise
        raise UserError(
            f"cannot write results to {paths.shown_path(folder)} ({paths.reason(error)}): give a "
            "folder that is writable"
        ) from None


def _named_leaves(tree: Any) -> dict[str, np.ndarray]:
    """Arrays by a name that says where they stand."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _checksum(array: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def part_path(folder: Path, block: int, part: int) -> Path:
    return folder / "trajectory" / f"block-{block:04d}" / f"part-{part:04d}"


@contextlib.contextmanager
def _orbax() -> Iterator[ocp.Checkpointer]:
    """A checkpointer, one at a time: two that save at once in one process wait for each other."""
    log = logging.getLogger("absl")
    with _ONE_AT_A_TIME:
        # Orbax logs, its threads with a traceback each, what is raised here in one line.
        log.addFilter(_is_news)
        try:
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
                yield checkpointer
        finally:
            log.removeFilter(_is_news)


@contextlib.contextmanager
def _plainly(path: Path) -> Iterator[Path]:
    """A folder by a path that Orbax does not take for a pattern ("[v2]"), which it loses arrays of.

    Through a link of another name, where it would.
    """
    if glob.escape(str(path)) == str(path) and str(path).isprintable():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ih_jax-") as folder:
        link = Path(folder) / "part"
        link.symlink_to(path, target_is_directory=True)
        yield link


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR and "_SignalingThread" not in str(record.msg)


def save_part(path: Path, tree: Any, about: dict[str, Any]) -> None:
    """Write arrays and what is said about them, whole or not at all.

    Args:
        path: the part's folder.
        tree: a pytree of arrays; None leaves are left out.
        about: JSON for the manifest: steps, what comes next.
    """
    leaves = _named_leaves(tree)
    in_orbax = {name: leaf for name, leaf in leaves.items() if name != SCORES}
    manifest = {
        "layout": LAYOUT_VERSION,
        "about": about,
        "checksums": {name: _checksum(leaf) for name, leaf in leaves.items()},
    }
    with files.atomic(path) as temporary:
        temporary.mkdir()
        try:
            if in_orbax:
                with _orbax() as checkpointer, _plainly(temporary.absolute()) as plain:
                    checkpointer.save(plain / "arrays", args=ocp.args.StandardSave(in_orbax))
        except Exception as error:
            # A full disk has many names in Orbax and tensorstore.
            raise OSError(f"{path} could not be written: {_reason(error)}") from None
        if SCORES in leaves:
            np.save(temporary / f"{SCORES}.npy", leaves[SCORES])
        (temporary / "manifest.json").write_text(json.dumps(manifest))


def _reason(error: Exception) -> str:
    """An error in a few words: what the system said, where a library quotes it."""
    text = str(error)
    if "No space left on device" in text or "RESOURCE_EXHAUSTED" in text:
        return "no space left on device"
    return f"{type(error).__name__}: {text.splitlines()[0][:200] if text else ''}"


def load_part(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a part by name, and what is said about them.

    Raises:
        UserError: the path is no UTF-8 text.
        Damaged: the part is not whole, or an array is not what was written.
    """
    paths.in_utf8(path)
    try:
        manifest = read_manifest(path)
        leaves = _scores_of(path)
        if set(manifest.checksums) - set(leaves):
            with _orbax() as checkpointer, _plainly(path.absolute()) as plain:
                _check_sizes(checkpointer.metadata(plain / "arrays"), path)
                found = checkpointer.restore(plain / "arrays")
            leaves |= {name: np.asarray(value) for name, value in found.items()}
    except Damaged:
        raise
    except Exception as error:
        # Orbax and tensorstore raise many kinds; each means that this part cannot be used.
        raise Damaged(f"{path} cannot be read ({type(error).__name__})") from None
    _compare(path, leaves, manifest.checksums)
    return leaves, manifest.about


def load_scores(path: Path) -> np.ndarray:
    """The scores of a part [N, R, S, M]: evaluations, runs, evaluation sets, metrics.

    Raises:
        Damaged: they are not what was written.
    """
    manifest, scores = read_manifest(path), _scores_of(path)
    if not scores:  # of a folder of before they had a file of their own
        scores = load_part(path)[0]
    found = {name: values for name, values in scores.items() if name == SCORES}
    _compare(path, found, {SCORES: manifest.checksums.get(SCORES, "")})
    return scores[SCORES]


def _scores_of(path: Path) -> dict[str, np.ndarray]:
    """What is in a part's file of scores, under its name; nothing where there is none."""
    file = path / f"{SCORES}.npy"
    try:
        if not paths.is_there(file):
            return {}
        return {SCORES: next(array_files.npy_records(file, MOST_SCORES))}
    except (UserError, OSError, StopIteration) as error:
        raise Damaged(f"{path} cannot be read ({paths.reason(error)})") from None


def _check_sizes(metadata: Any, path: Path) -> None:
    """Raises Damaged where arrays of a part declare more than the memory that is free."""
    arrays = getattr(metadata, "item_metadata", metadata)
    sizes = []
    for each in jax.tree.leaves(getattr(arrays, "tree", arrays)):
        chunk = getattr(getattr(each, "storage", None), "chunk_shape", None) or (1,)
        numbers = max(int(np.prod(shape, dtype=object)) for shape in (each.shape, chunk))
        sizes.append(numbers * np.dtype(each.dtype).itemsize)
    try:
        memory.check(sum(sizes), f"{path}: its arrays")
    except UserError as error:
        raise Damaged(str(error)) from None


def _compare(path: Path, leaves: dict[str, np.ndarray], checksums: dict[str, str]) -> None:
    """Raises Damaged where an array is not what was written, is missing or was added."""
    wrong = [
        name
        for name in sorted({*checksums, *leaves})
        if name not in leaves or _checksum(leaves[name]) != checksums.get(name)
    ]
    if wrong:
        raise Damaged(f"{path} is not what was written: {', '.join(wrong[:3])} differ")


def read_manifest(path: Path) -> Manifest:
    """The manifest of a part. Raises Damaged where it is none."""
    try:
        return gate.read_json(path / "manifest.json", Manifest)
    except UserError as error:
        raise Damaged(str(error)) from None


class Damaged(Exception):
    """A part on disk that is not whole or not what was written; its one line names it."""


def rebuild(
    like: Any, leaves: dict[str, np.ndarray], prefix: str, stacked: tuple[int, ...] = ()
) -> Any:
    """The pytree of the shape of `like` from leaves named as `save_part` named them.

    Args:
        like: a pytree of shapes.
        leaves: arrays by name.
        prefix: what their names begin with.
        stacked: sizes of the axes that stand before those of `like`.

    Raises:
        Damaged: one is missing, or of another shape.
    """
    found = []
    for path, shape in jax.tree_util.tree_leaves_with_path(like):
        name = f"{prefix}.{jax.tree_util.keystr(path, simple=True, separator='.')}"
        wanted = (*stacked, *shape.shape)
        if name not in leaves or leaves[name].shape != wanted:
            there = f"of shape {leaves[name].shape}" if name in leaves else "missing"
            raise Damaged(
                f"{name} is {there}, but {wanted} by card.json: card and weights are not of one run"
            )
        found.append(leaves[name])
    return jax.tree.unflatten(jax.tree.structure(like), found)


def forget_state(path: Path) -> None:
    """Drop a part's saved state: newer parts have one, and it is three times the weights."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def forget_states(folder: Path, block: int) -> None:
    """Drop what a process that died left of a block that is whole: states, and half a state."""
    for path in part_path(folder, block, 0).parent.glob("state-*"):
        forget_state(path)


def forget(folder: Path, why: str) -> None:
    """Delete the weights of a finished sweep, and say why on its card; its curves stay.

    The card comes first: whoever finds weights gone knows why.
    """
    card = read_card(folder)
    if "forgotten" not in card:
        write_card(folder, {**card, "forgotten": why})
    forget_state(folder / "trajectory")
