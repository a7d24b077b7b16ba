"""The machine: what it is, and what it can do at most.

The peak is what all devices multiply at once.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np

from ih_jax import platforms
from ih_jax.bench.timing import Json, Measure, at_once, calibrated, median, repeated
from ih_jax.sweeps import cards
from ih_jax.sweeps.chunk import compiler_options

TOKENS = 5  # of a sequence of the few-shot paper; products are compiled as its steps are


def describe(devices: Sequence[jax.Device]) -> Json:
    """The machine, what runs on it, and when."""
    device = devices[0]
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": len(devices),
        "cpu_model": cpu_model(),
        "machine": platform.platform(),
        "matmul_precision": str(platforms.precision_of(device.platform)),
        "compiler_options": compiler_options(device.platform, TOKENS),
        "versions": cards.versions("ih_jax", "jax", "jaxlib"),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": cards.commit(),
    }


def cpu_model() -> str:
    """As the kernel names it, where it does."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Matmul:
    """A product of square float32 matrices, one on every device at once."""

    size: int
    devices: int
    measure: Measure

    def gflops(self, seconds: float) -> float:
        return self.devices * 2 * self.size**3 / seconds / 1e9


def fastest_matmul(devices: Sequence[jax.Device], seconds: float) -> Matmul:
    """The size that these devices multiply fastest."""
    platform = devices[0].platform
    sizes = (512, 1024, 2048) if platform == "cpu" else (2048, 4096, 8192)
    options = compiler_options(platform, TOKENS)
    found = []
    for size in sizes:
        entries = np.random.default_rng(0).normal(size=(size, size)) / math.sqrt(size)
        takes = []
        for device in devices:
            factor = jax.device_put(entries.astype(np.float32), device)
            # A chain: products that do not wait for each other may run at once.
            product = jax.jit(lambda x, y: x @ y, compiler_options=options)
            compiled = product.lower(factor, factor).compile()
            takes.append(repeated(partial(compiled, factor), factor))
        found.append(Matmul(size, len(devices), calibrated(at_once(takes), seconds)))
    return max(found, key=lambda each: each.gflops(median(each.measure)))


def bandwidth(devices: Sequence[jax.Device], seconds: float) -> float:
    """GB/s, read and written, of x / 2 + 1 in place on arrays beyond every cache."""
    size = 2**25 if devices[0].platform == "cpu" else 2**28
    arrays = [jax.device_put(np.ones(size, np.float32), device) for device in devices]
    size_of_all = sum(array.nbytes for array in arrays)
    change = jax.jit(lambda x: x * 0.5 + 1.0, donate_argnums=0)
    takes = [repeated(change, array) for array in arrays]
    return 2 * size_of_all / median(calibrated(at_once(takes), seconds)) / 1e9
