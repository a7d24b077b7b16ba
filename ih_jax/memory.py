"""The memory that is free here: what is declared is compared with it before anything is made."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil

from ih_jax.errors import UserError

# Fewer bytes than this are always there, and asking the system takes longer than making them.
LITTLE = 2**24
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def check(needed: int, what: str) -> None:
    """Raise UserError where something would take more memory than is free here now.

    Args:
        needed: bytes.
        what: the subject of the message, such as "config.json: a network of 10 layers".
    """
    if needed <= LITTLE:
        return
    there = free()
    if needed > there:
        raise UserError(
            f"{what} takes {_gigabytes(needed)} GB of memory, and {_gigabytes(there)} GB are free "
            "here: take a machine with more, or correct what was declared"
        )


def free() -> int:
    """Bytes that this process can have: of the machine, of its container, of its own limit."""
    return max(0, min(psutil.virtual_memory().available, _free_in_container(), _free_in_process()))


def _free_in_container() -> int:
    """What the cgroups leave that this process is in (Linux; containers, batch systems)."""
    least = sys.maxsize
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = OWN_CGROUP.read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
        group = CGROUPS / own.lstrip("/")
        for each in (group, *group.parents):
            if each == CGROUPS.parent:
                break
            with contextlib.suppress(OSError, ValueError):  # a group without a limit says "max"
                most = int((each / "memory.max").read_text())
                used = int((each / "memory.current").read_text())
                kept = dict(row.split() for row in (each / "memory.stat").read_text().splitlines())
                # Pages of files that were read are given up when memory is asked for.
                least = min(least, most - used + int(kept.get("inactive_file", 0)))
    return least


def _free_in_process() -> int:
    """What `ulimit -v` leaves; there is no such limit on Windows."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            return int(most - psutil.Process().memory_info().vms)
    return sys.maxsize


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f}" if count >= 1e8 else f"{count / 1e9:.2g}"
