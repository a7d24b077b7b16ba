"""Ctrl-C while a sweep trains: everything so far is saved first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Interrupted(Exception):
    """Training was stopped by Ctrl-C; everything up to the last chunk is saved."""


@contextlib.contextmanager
def stop_on_interrupt(stop: threading.Event, folder: Path) -> Iterator[None]:
    """Ctrl-C sets the event instead of raising; a second one raises.

    Raises Interrupted at the end of the block if the event is set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        _if_stopped(stop, folder)
        return

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    _if_stopped(stop, folder)


def _if_stopped(stop: threading.Event, folder: Path) -> None:
    if stop.is_set():
        raise Interrupted(
            f"stopped; everything so far is saved in {folder}: continue with --resume (resume=True)"
        )
