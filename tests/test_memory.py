"""Sizes are compared with what this process can have, not with what the machine has."""

import sys

import pytest

from ih_jax import memory
from ih_jax.errors import UserError


class Free:
    available = 64 * 10**9
    total = 100 * 10**9


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """64 GB are free, and the process is in the group a/b."""
    monkeypatch.setattr(memory.psutil, "virtual_memory", Free)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("1:name=systemd:/x\n0::/a/b\n")
    (tmp_path / "cgroup/a/b").mkdir(parents=True)
    return tmp_path / "cgroup"


def limited(group, most: str, used: int, inactive: int = 0) -> None:
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def test_a_machine_without_limits_gives_what_it_has(machine):
    assert memory.free() == Free.available
    limited(machine / "a/b", "max", 10)
    assert memory.free() == Free.available
    (machine.parent / "own").unlink()  # no Linux
    assert memory.free() == Free.available


def test_all_that_a_process_can_have_is_the_least_limit(machine):
    assert memory.total() == Free.total
    limited(machine / "a/b", "max", 3 * 10**9)
    limited(machine / "a", str(8 * 10**9), 3 * 10**9)  # of a batch job, say
    assert memory.total() == 8 * 10**9


def test_a_batch_job_of_the_first_cgroups_is_in_a_group_of_its_own(machine):
    job = machine / "memory/slurm/job_2"
    job.mkdir(parents=True)
    (machine.parent / "own").write_text("9:memory:/slurm/job_2\n1:name=systemd:/x\n")
    (machine / "memory/memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    (job / "memory.limit_in_bytes").write_text("2000000000\n")
    assert memory.total() == 2 * 10**9


def test_a_container_gives_what_its_groups_leave_beside_pages_of_files(machine):
    limited(machine / "a/b", str(4 * 10**9), 3 * 10**9, 10**9)
    assert memory.free() == 2 * 10**9
    limited(machine / "a", str(3 * 10**9), 2 * 10**9)  # the group above it has less left
    assert memory.free() == 10**9
    with pytest.raises(UserError, match=r"x takes 1.5 GB of memory, and 1.0 GB are free here"):
        memory.check(3 * 10**9 // 2, "x")
    memory.check(10**9 // 2, "x")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_a_limit_of_the_process_counts(machine, monkeypatch):
    import resource

    have = memory.psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda which: (have + 10**9, -1))
    assert abs(memory.free() - 10**9) < 10**8
