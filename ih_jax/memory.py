"""The memory that is free here: what is declared is compared with it before anything is made."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
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


def total() -> int:
    """Bytes that this process can have where nothing else takes any.

    The least of what the machine has, of the limits of its groups and of its own limit.
    """
    limits = [psutil.virtual_memory().total, _limit_of_process()]
    of_both = ((_cgroups(), "memory.max"), (_cgroups_1(), "memory.limit_in_bytes"))
    for each in (group / name for groups, name in of_both for group in groups):
        with contextlib.suppress(OSError, ValueError):  # a group without a limit says "max"
            limits.append(int(each.read_text()))
    return min(limits)


def _cgroups() -> list[Path]:
    """Those that this process is in, its own first (Linux; containers, batch systems)."""
    return _up_from(lambda line: line.startswith("0::"), CGROUPS)


def _cgroups_1() -> list[Path]:
    """The same of the first version of cgroups."""
    return _up_from(lambda line: line.split(":")[1:2] == ["memory"], CGROUPS / "memory")


def _up_from(is_own: Callable[[str], bool], root: Path) -> list[Path]:
    """The group in the line of OWN_CGROUP that is the process's own, and those above it."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        own = next(line for line in OWN_CGROUP.read_text().splitlines() if is_own(line))
        group = root / own.split(":", 2)[2].lstrip("/")
        return [each for each in (group, *group.parents) if each.is_relative_to(root)]
    return []


def _free_in_container() -> int:
    """What the cgroups leave that this process is in."""
    least = sys.maxsize
    for each in _cgroups():
        with contextlib.suppress(OSError, ValueError):
            most = int((each / "memory.max").read_text())
            used = int((each / "memory.current").read_text())
            kept = dict(row.split() for row in (each / "memory.stat").read_text().splitlines())
            # Pages of files that were read are given up when memory is asked for.
            least = min(least, most - used + int(kept.get("inactive_file", 0)))
    return least


def _free_in_process() -> int:
    """What `ulimit -v` leaves."""
    most = _limit_of_process()
    return most if most == sys.maxsize else int(most - psutil.Process().memory_info().vms)


def _limit_of_process() -> int:
    """`ulimit -v`; there is no such limit on Windows."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            return most
    return sys.maxsize


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f}" if count >= 1e8 else f"{count / 1e9:.2g}"
