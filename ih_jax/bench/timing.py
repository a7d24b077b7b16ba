"""Timing, and what a machine can do: products of matrices, and memory.

A `Take` does something n times; a `Measure` is one measurement of it, calibrated to last long
enough. Every device works at once, each on its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from ih_jax.sweeps.chunk import compiler_options

REPEATS = 3  # of a measurement that is not paired
TOKENS = 5  # of a sequence of the few-shot paper; products are compiled as its steps are

Take = Callable[[int], float]  # does something n times; gives the seconds of all
Measure = Callable[[], float]  # seconds of one


def calibrated(take: Take, seconds: float, least: int = 1) -> Measure:
    """One measurement of at least about `seconds` and `least` times, compiled and warm."""
    count = least
    take(count)
    while (took := take(count)) < 0.8 * seconds:
        count = math.ceil(count * min(10.0, 1.1 * seconds / max(took, 1e-9)))
    return lambda: take(count) / count


def median(measure: Measure, repeats: int = REPEATS) -> float:
    return float(np.median([measure() for _ in range(repeats)]))


def alternate(measures: Sequence[Measure], rounds: int) -> np.ndarray:
    """[rounds, len(measures)] seconds of one, all measures taking turns."""
    return np.array([[measure() for measure in measures] for _ in range(rounds)])


def repeated(function: Callable[[Any], Any], first: Any) -> Take:
    """Takes of a function of its own result. What it gives may be donated."""
    kept = first

    def take(count: int) -> float:
        nonlocal kept
        began = time.perf_counter()
        for _ in range(count):
            kept = function(kept)
        jax.block_until_ready(kept)
        return time.perf_counter() - began

    return take


def at_once(takes: Sequence[Take]) -> Take:
    """Takes by all devices, each in its own thread; the seconds until the last is done."""
    if len(takes) == 1:
        return takes[0]

    def take(count: int) -> float:
        with ThreadPoolExecutor(len(takes)) as pool:
            began = time.perf_counter()
            for each in [pool.submit(one, count) for one in takes]:
                each.result()
            return time.perf_counter() - began

    return take


# What the machine can do


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
