"""What a process that trains says about itself, beside the weights, so that others can see it.

    FOLDER/trajectory/.process-HOST-PID.json

It is written every few seconds, and removed when the process has trained its share; that of a
process that was stopped or killed stays until the next one trains.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import psutil

from ih_jax import files, gate

EVERY_SECONDS = 5.0
SILENT_SECONDS = 60.0  # after which a process on another machine counts as gone
NAME = ".process-*.json"
MOST_BYTES = 10_000  # of one


@dataclass(frozen=True)
class Presence:
    """One process that trains, or trained, a sweep. Times are seconds since 1970."""

    host: str
    pid: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    started: float  # the process, so that another with the same number is not taken for it
    began: float  # to train
    heard: float  # of it last
    seen: float  # sequences or tokens that it has trained since it began, by all runs
    speed: float  # of these a second, compilation not counted; 0: not known yet
    command: str
    stopped: bool = False  # before it was done: by Ctrl-C, or by an error

    @property
    def alive(self) -> bool:
        """Whether it still trains, as far as this machine can tell."""
        if self.stopped:
            return False
        if self.host != socket.gethostname():
            return time.time() - self.heard < SILENT_SECONDS
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 2.0
        except psutil.Error:
            return False


def all_of(folder: Path) -> list[Presence]:
    """Those that train, or stopped before they were done, in a sweep's folder."""
    found = []
    for path in sorted((folder / "trajectory").glob(NAME)):
        # It may be gone by now, or be that of another version.
        with contextlib.suppress(OSError, ValueError):
            found.append(msgspec.convert(gate.parse_json(path, MOST_BYTES), Presence))
    return found


@contextlib.contextmanager
def present(folder: Path, seen: Callable[[], float]) -> Iterator[None]:
    """Say that this process trains here; `seen` says how much it has."""
    trajectory = folder / "trajectory"
    host, pid = socket.gethostname(), os.getpid()
    path = trajectory / NAME.replace("*", f"{host}-{pid}")
    started, began = psutil.Process().create_time(), time.time()
    first: tuple[float, float] | None = None  # when anything was trained first, and how much
    done = threading.Event()

    def say(stopped: bool = False) -> None:
        nonlocal first
        now, so_far = time.time(), seen()
        if first is None and so_far:
            first = (now, so_far)
        speed = (so_far - first[1]) / (now - first[0]) if first and now > first[0] else 0.0
        command = " ".join(sys.argv)
        own = Presence(host, pid, started, began, now, so_far, speed, command, stopped)
        # A full disk must not stop what trains; it will be met, and said, where weights are saved.
        with contextlib.suppress(OSError):
            files.write_text(path, json.dumps(asdict(own)))

    def keep_saying() -> None:
        while not done.wait(EVERY_SECONDS):
            say()

    for other in all_of(folder):
        if other.host == host and not other.alive:
            gone = trajectory / NAME.replace("*", f"{other.host}-{other.pid}")
            gone.unlink(missing_ok=True)
    say()
    thread = threading.Thread(target=keep_saying, name="presence", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        done.set()
        thread.join()
        say(stopped=True)
        raise
    done.set()
    thread.join()
    path.unlink(missing_ok=True)
