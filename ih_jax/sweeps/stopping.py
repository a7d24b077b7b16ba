"""Ctrl-C and SIGTERM while a sweep trains: everything so far is saved first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Interrupted(Exception):
    """Training was stopped by Ctrl-C; everything up to the last chunk is saved."""

    code = 128 + signal.SIGINT  # with which the command line exits


class Terminated(KeyboardInterrupt):
    """SIGTERM, in a program that has asked for it by `obey_sigterm`."""

    code = 128 + signal.SIGTERM


def obey_sigterm() -> None:
    """Have SIGTERM, which batch systems send before they kill, do what Ctrl-C does.

    For programs: until then it ends a process at once, and what it was about to write is lost.
    """
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated("stopped by SIGTERM")


@contextlib.contextmanager
def stop_on_interrupt(stop: threading.Event, folder: Path) -> Iterator[None]:
    """Ctrl-C sets the event instead of raising; a second one raises.

    SIGTERM too, after `obey_sigterm`. Raises Interrupted at the end of the block if the event is
    set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        _if_stopped(stop, folder, signal.SIGINT)
        return
    last: int = signal.SIGINT

    def handle(number: int, frame: Any) -> None:
        nonlocal last
        if stop.is_set():
            raise KeyboardInterrupt
        last = number
        stop.set()

    handled = [signal.SIGINT]
    if signal.getsignal(signal.SIGTERM) is _terminate:
        handled.append(signal.SIGTERM)
    before = {each: signal.signal(each, handle) for each in handled}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    _if_stopped(stop, folder, last)


def _if_stopped(stop: threading.Event, folder: Path, number: int) -> None:
    if stop.is_set():
        stopped = Interrupted(
            f"stopped; everything so far is saved in {folder}: continue with --resume (resume=True)"
        )
        stopped.code = 128 + number
        raise stopped
