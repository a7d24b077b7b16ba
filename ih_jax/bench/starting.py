"""How long a process takes from its start to its first step, and the cache of compiled programs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

CACHE_SETTINGS = {
    "jax_compilation_cache_dir": None,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
FIRST_STEP = """
import sys, time
import jax
import ih_jax as ih
from ih_jax.sweeps.programs import Programs, chunk_arrays, first_state
device, width = jax.local_devices()[0], int(sys.argv[1])
compiled = Programs(ih.sweep(ih.fewshot(), init=range(width)), width).of(0, device)
block, state = first_state(compiled, range(width), device)
chunk = chunk_arrays(0, [(1, 0, False)], device)
jax.block_until_ready(compiled.advance(state, block, *chunk))
print(time.time())
"""


@contextlib.contextmanager
def fresh_cache() -> Iterator[Path]:
    """An empty folder of compiled programs instead of the user's."""
    before = {name: jax.config.values[name] for name in CACHE_SETTINGS}
    with tempfile.TemporaryDirectory(prefix="ih_jax-bench-") as folder:
        try:
            _use({**CACHE_SETTINGS, "jax_compilation_cache_dir": folder})
            yield Path(folder)
        finally:
            _use(before)


def _use(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def warm_start(width: int, folder: Path) -> float | None:
    """Seconds from the start of a process to the end of its block's first step.

    The first of two such processes fills the cache in `folder`, the second is timed. None where a
    second process may not use the device.
    """
    told = {name.upper(): str(value) for name, value in CACHE_SETTINGS.items()}
    told |= {"JAX_COMPILATION_CACHE_DIR": str(folder), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    took = None
    for _ in range(2):
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-c", FIRST_STEP, str(width)],
            capture_output=True,
            text=True,
            env={**os.environ, **told},
            check=False,
        )
        if done.returncode:
            return None
        took = float(done.stdout.split()[-1]) - began
    return took
