"""Blocks of one sweep given out to the devices of one process, or of many on many machines.

Processes share nothing but the sweep's folder. Who trains a block holds the lock of the block's
folder; the operating system (or the file server) drops the lock of a process that dies, and another
takes the block up where its last good part stands. No process waits for another to start, and all
give the same bits.
"""

from __future__ import annotations

import contextlib
import errno
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ih_jax.errors import UserError
from ih_jax.sweeps.blocks import BlockPlan

try:
    import portalocker
except ImportError:  # a system that has neither POSIX locks nor those of Windows
    portalocker = None  # type: ignore[assignment]

POLL_SECONDS = 2.0  # between looks at blocks that others hold
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class _Taken(Exception):
    """Another process holds the lock."""


class _NoLocks(Exception):
    """The system, or the file system that the file is on, has no locks."""


def _lock(file: TextIO, *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file; the lock goes when the file is closed or the process dies.

    Raises _Taken where it is held and `wait` is not set, and _NoLocks where there are none.
    """
    if portalocker is None:
        raise _NoLocks
    how = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    if not wait:
        how |= portalocker.LockFlags.NON_BLOCKING
    try:
        portalocker.lock(file, how)
    except portalocker.LockException as error:
        reason = error.args[0] if error.args else None
        if getattr(reason, "errno", None) in NO_LOCKS:
            raise _NoLocks from None
        raise _Taken from None


@dataclass(frozen=True)
class Share:
    """Which blocks a process may take: those with number % count == rank."""

    rank: int = 0
    count: int = 1

    @property
    def fixed(self) -> bool:
        """Whether this is one of several shares, so that other blocks are nobody's here."""
        return self.count > 1


def read_share(text: str) -> Share:
    """A share from words: "claim", any block that no other process holds; "RANK/COUNT", from 0."""
    if text == "claim":
        return Share()
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text) if isinstance(text, str) else None
    if found and int(found[1]) < int(found[2]):
        return Share(int(found[1]), int(found[2]))
    raise UserError(
        f'share is {text!r}: give "claim", or RANK/COUNT such as 0/4 (ranks count from 0)'
    )


@contextlib.contextmanager
def only_writer(trajectory: Path) -> Iterator[None]:
    """Have the sweep to oneself. Raises UserError if another process writes to it."""
    with _held(trajectory / ".writer", trajectory):
        yield


@contextlib.contextmanager
def one_of_many(trajectory: Path) -> Iterator[None]:
    """Write beside other processes that do the same, and beside none that wants it alone."""
    with _held(trajectory / ".writer", trajectory, shared=True):
        yield


@contextlib.contextmanager
def in_turn(trajectory: Path) -> Iterator[None]:
    """Wait for every other process that is in here, then be the only one."""
    with open(trajectory / ".turn", "a+") as file:
        # Without locks: what is done here is atomic anyway.
        with contextlib.suppress(_Taken, _NoLocks):
            _lock(file, wait=True)
        yield


@contextlib.contextmanager
def _held(path: Path, trajectory: Path, *, shared: bool = False) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file stays: to remove a lock's file is to give two processes a lock each.
    with open(path, "a+") as file:
        try:
            with contextlib.suppress(_NoLocks):
                _lock(file, shared=shared)
        except _Taken:
            raise UserError(
                f"another process is writing to {trajectory.parent}: wait for it, give "
                "another folder, or start all of them with --share claim"
            ) from None
        yield


class Blocks:
    """The blocks of a sweep that this process may still have to train; safe between threads."""

    def __init__(
        self,
        blocks: Sequence[BlockPlan],
        folder_of: Callable[[BlockPlan], Path],
        share: Share | None,
    ) -> None:
        """`share`: None where the process has the sweep to itself."""
        self.share = share
        own = share or Share()
        self.todo = [block for block in blocks if block.number % own.count == own.rank]
        self.folder_of = folder_of
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def next(self, stop: threading.Event) -> Iterator[BlockPlan | None]:
        """The next block, held inside the `with`; None where there is none.

        Waits while blocks that other processes hold may yet come back; one that comes back may be
        finished.
        """
        while not stop.is_set():
            with self.lock:
                if not self.todo:
                    break
                taken = self._take()
            if taken is None:
                stop.wait(POLL_SECONDS)
                continue
            block, claim = taken
            try:
                yield block
            finally:
                if claim is not None:
                    claim.close()  # drops the lock
            return
        yield None

    def _take(self) -> tuple[BlockPlan, TextIO | None] | None:
        for block in self.todo:
            if self.share is None:
                self.todo.remove(block)
                return block, None
            folder = self.folder_of(block)
            folder.mkdir(parents=True, exist_ok=True)
            claim = open(folder / ".claim", "a+")  # noqa: SIM115 (held by who takes the block)
            try:
                _lock(claim)
            except _Taken:
                claim.close()
                continue
            except _NoLocks:
                claim.close()
                if not self.share.fixed:
                    raise UserError(
                        f"{folder} is on a file system without locks: "
                        "give each process a share of its own, --share RANK/COUNT"
                    ) from None
                self.todo.remove(block)
                return block, None
            self.todo.remove(block)
            return block, claim
        return None
