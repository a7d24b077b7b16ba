"""Where an experiment is defined: in this package, or in a user's Python file."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ih_jax import paths
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment
from ih_jax.experiments.register import find, registry
from ih_jax.reports import report
from ih_jax.sweeps.engine import Sweep
from ih_jax.sweeps.stopping import Interrupted

MOST_BYTES = 10_000_000  # of a Python file
STREAMS = {"stdout": "standard output", "stderr": "standard error"}
MOST_SAID = 1_000  # letters of what an error in it says


@dataclass(frozen=True)
class Source:
    """What a Python file defines: a study, or an experiment."""

    path: Path
    study: Sweep | None = None
    experiment: Experiment | None = None
    after: Callable[[Any], Any] | None = None  # of a study: called with its trajectories


def load(path: Path) -> Source:
    """Run a Python file and find what it defines.

    Raises:
        UserError: there is no such file, its code raises (with the line where it does), or it
            defines neither `study` nor `experiment`, or both.
    """
    if not paths.is_there(path):
        raise UserError(f"no file {path}: give a Python file that defines `study` or `experiment`")
    paths.read_bytes(path, MOST_BYTES)
    if path.suffix != ".py":
        raise UserError(
            f"{paths.shown_path(path)} is no Python file: give one whose name ends in .py"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that the rules it defines can be found by name
    with own_errors(path, always=True):
        spec.loader.exec_module(module)
    study, experiment = getattr(module, "study", None), getattr(module, "experiment", None)
    study = study if isinstance(study, Sweep) else None
    experiment = experiment if isinstance(experiment, Experiment) else None
    if study is None and experiment is None:
        raise UserError(
            f"{path} defines no `study` and no `experiment`: write study = ih_jax.sweep(...) or "
            "experiment = ih_jax.Experiment(...) in it"
        )
    if study is not None and experiment is not None:
        raise UserError(
            f"{path} defines both `study` and `experiment`: keep one (an experiment's study goes "
            "into an ih_jax.Training)"
        )
    after = getattr(module, "after", None)
    return Source(path, study, experiment, after if callable(after) else None)


@contextlib.contextmanager
def own_errors(path: Path, always: bool = False) -> Iterator[None]:
    """Turn what a user's file raises into a UserError that names the file and line.

    Args:
        path: the file.
        always: also add the file and line to UserErrors.
    """
    with _streams_kept(path), _as_user_errors(path, always):
        yield


@contextlib.contextmanager
def _as_user_errors(path: Path, always: bool) -> Iterator[None]:
    try:
        yield
    except SyntaxError as error:
        raise UserError(f"{error.filename or path}, line {error.lineno}: {error.msg}") from error
    except SystemExit as error:
        raise UserError(f"{path} ends Python ({error.code}): leave that to ih-jax") from error
    except MemoryError:
        raise  # the machine failed, not the file
    except (Interrupted, OSError) as error:
        if not paths.is_mendable(error):
            raise  # the machine failed, not the file
        raise _located(error, path) from error
    except UserError as error:
        if not always:
            raise
        raise _located(error, path) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # Python code may raise what is no Exception, such as its own
        if not _lines_in(error, path):
            raise  # a bug of ours, not theirs: a traceback helps
        raise _located(error, path) from error


@contextlib.contextmanager
def _streams_kept(path: Path) -> Iterator[None]:
    """Open standard output and errors again where a file closes them, and say so.

    Without them neither progress nor an error could be told. A file may well give them another
    place, such as a log.
    """
    kept: dict[str, tuple[int, int]] = {}  # name: descriptor, and a copy of it
    for name in STREAMS:
        if not _is_broken(name):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream in memory
                number = getattr(sys, name).fileno()
                kept[name] = number, os.dup(number)
    try:
        yield
    except BaseException as error:
        closed = _reopened(kept)
        if closed and not isinstance(error, UserError | KeyboardInterrupt | Interrupted):
            raise _closes(path, closed) from error
        raise
    else:
        if closed := _reopened(kept):
            raise _closes(path, closed)
    finally:
        for _, copy in kept.values():
            os.close(copy)


def _is_broken(name: str) -> bool:
    """Whether nothing can be written to one of `STREAMS`."""
    stream = getattr(sys, name)
    try:
        if stream.closed or not stream.writable():
            return True
        os.fstat(stream.fileno())
    except io.UnsupportedOperation:  # a stream in memory
        return False
    except (AttributeError, OSError, ValueError):
        return True
    return False


def _reopened(kept: Mapping[str, tuple[int, int]]) -> list[str]:
    """Those of `kept` that were closed, open again."""
    closed = [name for name in kept if _is_broken(name)]
    for name in closed:
        number, copy = kept[name]
        os.dup2(copy, number)
        again = io.FileIO(number, "w", closefd=False)
        setattr(sys, name, io.TextIOWrapper(again, errors="replace", line_buffering=True))
    return closed


def _closes(path: Path, names: Sequence[str]) -> UserError:
    what = " and ".join(STREAMS[name] for name in names)
    return UserError(f"{path} closes {what}, which ih-jax writes to: leave that open")


def _located(error: BaseException, path: Path) -> UserError:
    lines = _lines_in(error, path)
    where = f"{path}, line {lines[-1]}: " if lines else f"{path}: "
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    try:
        said = " ".join(str(error).split())
    except Exception:  # of a class of theirs
        said = "(it cannot say what is wrong)"
    return UserError(
        f"{where}{kind}{said if len(said) <= MOST_SAID else f'{said[:MOST_SAID]} ...'}"
    )


def _lines_in(error: BaseException, path: Path) -> list[int]:
    """The lines of a file in an error's traceback, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return [line for line in own if line is not None]


def experiment_of(folder: Path, file: Path | None = None) -> tuple[Experiment, Path | None]:
    """The experiment whose results a folder holds, and the file that defines it (None: ours).

    Args:
        folder: with results.nc.
        file: the file that defines it; None: the one that results.nc names. A file inside the
            folder is never run, since folders of results are passed around.

    Raises:
        UserError: no experiment made the results, or its file is gone or defines another one.
    """
    attributes = report.read(folder).attrs
    if "experiment" not in attributes:
        raise UserError(
            f"{folder}/results.nc was not made by an experiment: plot it with xarray instead"
        )
    name = attributes["experiment"]
    if not isinstance(name, str) or not isinstance(attributes.get("experiment_file", ""), str):
        raise UserError(f"{folder}/results.nc names its experiment by a number: it is damaged")
    if file is None and "experiment_file" not in attributes:
        return find(name), None
    path = file or Path(attributes["experiment_file"])
    if file is None and not path.is_file():
        raise UserError(
            f"{folder} was made by {path}, which is gone: give its new place with --file"
        )
    if file is None and folder.resolve() in path.resolve().parents:
        raise UserError(
            f"{folder} was made by a file inside it, which is not run unasked: check it, then give "
            f"--file {path}"
        )
    found = load(path).experiment
    if found is None or found.name != name:
        other = f"experiment {found.name!r}" if found else "a study"
        raise UserError(f"{path} defines {other}; {folder} holds results of {name!r}")
    return found, path


def experiments_in(folder: Path) -> dict[str, Experiment]:
    """The experiments whose results are in folders of this one, by those folders' names.

    Ours come first, in their order. Those whose file is gone are left out.
    """
    there = sorted(path.parent.name for path in folder.glob("*/results.nc"))
    ours = list(registry())
    there.sort(key=lambda name: ours.index(name) if name in ours else len(ours))
    found = {}
    for name in there:
        with contextlib.suppress(UserError):
            found[name], _ = experiment_of(folder / name)
    return found
