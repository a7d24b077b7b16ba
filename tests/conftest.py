"""What tests share: one cache of compiled programs, and shapes that differ in rank do not meet."""

import os
import shutil
import tempfile
from collections.abc import Iterator

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

import jax  # noqa: E402

# Arrays of different rank may not meet: a forgotten axis is an error, not a broadcast. A user's own
# code may let them, so tests that run some are marked.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def users_code(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a user writes may broadcast: in tests marked `users_code`."""
    ours = request.node.get_closest_marker("users_code") is None
    with jax.numpy_rank_promotion("raise" if ours else "allow"):
        yield


def pytest_sessionfinish() -> None:
    if OWNER:
        shutil.rmtree(CACHE, ignore_errors=True)
