"""What tests share: programs compiled quickly and once, one device, and ranks that do not meet."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

# Many tests train the same small networks: a program is compiled once for all of them, in whatever
# process they run. Set before JAX is imported, and inherited by the commands that tests start.
OWNER = "IH_JAX_TEST_CACHE" not in os.environ
if OWNER:
    os.environ["IH_JAX_TEST_CACHE"] = tempfile.mkdtemp(prefix="ih_jax-tests-")
CACHE = os.environ["IH_JAX_TEST_CACHE"]
os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# Most of the suite's time is compilation, and most programs run for less than they took to compile:
# they are compiled without what makes them fast, which is a quarter of the work. Tests of what
# optimised programs alone could get wrong ask for `optimised`.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
AS_FOR_USERS = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_use_fusion_emitters": True,
    "xla_cpu_parallel_codegen_split_count": 32,
}
if OWNER and "XLA_FLAGS" not in os.environ:
    flags = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items())
    # A flag that this XLA does not know would end every process.
    start = [sys.executable, "-c", "import jax; jax.devices()"]
    found = subprocess.run(start, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True)
    if found.returncode == 0:
        os.environ["XLA_FLAGS"] = flags

# A program is compiled for each device that trains. Commands that tests start have one; so have
# tests, but for those of modules marked `every_device`.
os.environ["JAX_NUM_CPU_DEVICES"] = "1"

import jax  # noqa: E402

# Arrays of different rank may not meet: a forgotten axis is an error, not a broadcast. A user's own
# code may let them, so tests that run some are marked.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(scope="module", autouse=True)
def every_device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Only modules marked `every_device` train on more than one."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("every_device") is None:
            every = jax.local_devices
            patch.setattr(jax, "local_devices", lambda *of, **which: every(*of, **which)[:1])
        yield


@pytest.fixture
def optimised(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Training is compiled as it is for users; gives the options that do so."""
    from ih_jax.sweeps import chunk  # after pytest has set up the checks of shapes

    ours = AS_FOR_USERS if "XLA_FLAGS" in os.environ else {}
    options = chunk.compiler_options
    monkeypatch.setattr(chunk, "compiler_options", lambda *about: options(*about) | ours)
    return ours


@pytest.fixture(autouse=True)
def users_code(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a user writes may broadcast: in tests marked `users_code`."""
    ours = request.node.get_closest_marker("users_code") is None
    with jax.numpy_rank_promotion("raise" if ours else "allow"):
        yield


def pytest_sessionfinish() -> None:
    if OWNER:
        shutil.rmtree(CACHE, ignore_errors=True)
