"""The compiled programs of a study, the memory they take, and the width that fits.

A program is compiled for each device; all devices of a kind give the same bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import psutil
from jax import Array
from jax.sharding import SingleDeviceSharding

from ih_jax import files, gate, memory, platforms
from ih_jax.errors import UserError, whole
from ih_jax.sweeps.blocks import StepCost, check_width, choose_width
from ih_jax.sweeps.chunk import advancer, starter
from ih_jax.sweeps.loop import RunArrays, State
from ih_jax.sweeps.packing import Packed, Packing, packing
from ih_jax.sweeps.study import Study

CHUNK = 8  # evaluations in one call of the compiled program
MOST_WIDTH = 4096  # that a file of measured costs may name
SPARE = 0.9  # share of the memory that a program may ask for


class Compiled(NamedTuple):
    """One group's program on one device."""

    runs: RunArrays  # all runs of the group, stacked
    packing: Packing
    start: Callable[[Packed], State]
    advance: Any  # see `chunk.advancer`; bounds [CHUNK + 1], kinds [CHUNK]

    @property
    def bytes(self) -> int:
        """What a block takes of the device's memory while it trains, as XLA counts it."""
        found = self.advance.memory_analysis()
        if found is None:
            return 0
        return int(
            found.argument_size_in_bytes
            + found.output_size_in_bytes
            + found.temp_size_in_bytes
            - found.alias_size_in_bytes
        )


class Programs:
    """The programs of a study's groups for blocks of one width, compiled when first asked for."""

    def __init__(self, study: Study, width: int) -> None:
        self.study, self.width = study, width
        self._sets = len(study.task.evaluation_names)
        self._lock = threading.Lock()
        self._traced: dict[int, tuple[RunArrays, Packing, Any, Any, threading.Lock]] = {}
        self._compiled: dict[tuple[int, Any], Compiled] = {}
        self._turns: dict[tuple[int, Any], threading.Lock] = {}

    def of(self, group: int, device: jax.Device) -> Compiled:
        """The program of a group on a device."""
        key = (group, device)
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:  # of two workers on one device, the second finds the program of the first
            if key not in self._compiled:
                self._compiled[key] = self._compile(group, device)
        return self._compiled[key]

    def state(self, group: int) -> State:
        """Shapes of a block's state."""
        runs, pack, begin, _, _ = self._functions(group)
        return jax.eval_shape(begin, pack.pack(runs, [0] * self.width))  # type: ignore[no-any-return]

    def _functions(self, group: int) -> tuple[RunArrays, Packing, Any, Any, threading.Lock]:
        with self._lock:
            if group not in self._traced:
                program = self.study.groups[group].program
                runs = self.study.groups[group].arrays
                pack = packing(runs)
                advance = advancer(program, pack, self._sets, jax.local_devices()[0].platform)
                begin = starter(program, pack)
                self._traced[group] = runs, pack, begin, advance, threading.Lock()
            return self._traced[group]

    def _compile(self, group: int, device: jax.Device) -> Compiled:
        runs, pack, begin, advance, turn = self._functions(group)
        place = SingleDeviceSharding(device)

        def there(tree: Any) -> Any:
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree
            )

        block = there(pack.pack(runs, [0] * self.width))
        chunk = there((np.zeros(CHUNK + 1, np.int32), np.zeros(CHUNK, np.int32)))
        with turn:  # the second device finds the trace of the first
            lowered = advance.lower(there(self.state(group)), block, *chunk)
        return Compiled(runs, pack, begin, lowered.compile())

    def largest(self) -> int:
        """The group whose runs hold most."""

        def size(group: int) -> float:
            program = self.study.groups[group].program
            config, tokens = program.config, program.batch * program.tokens
            each = 12 * config.d_model + tokens * (1 + program.tokens / config.d_head)
            return config.layers * config.d_model * each

        return max(range(len(self.study.groups)), key=size)


def fitting_programs(study: Study, width: int | None) -> Programs:
    """The programs of blocks as wide as fits the devices, at most `width` (None: chosen).

    A chosen width that does not fit is halved until it does, as XLA counts the largest group's
    program.

    Raises:
        UserError: `width` is too much, or not even one run fits.
    """
    devices = jax.local_devices()
    if width is not None:
        check_width(study, whole("width", width, least=1))
    chosen = width or choose_width(study, len(workers()), known_cost(devices[0]))
    while True:
        programs = Programs(study, chosen)
        with ThreadPoolExecutor(len(devices)) as pool:
            found = list(pool.map(lambda d, p=programs: p.of(p.largest(), d), devices))
        needed, free = found[0].bytes, memory_of(devices[0])
        if needed <= SPARE * free:
            return programs
        if width is not None or chosen == 1:
            raise UserError(
                f"a block of {chosen} runs takes {needed / 1e9:.1f} GB, the device has "
                f"{free / 1e9:.1f}: give a smaller --width, a smaller model or batch"
            )
        chosen //= 2


def memory_of(device: jax.Device) -> float:
    """Bytes that one device may use; a CPU's are shared by its host devices."""
    with contextlib.suppress(Exception):  # not every backend counts
        found = device.memory_stats()
        if found and found.get("bytes_limit"):
            return float(found["bytes_limit"])
    return memory.total() / len(workers())


def workers() -> list[jax.Device]:
    """The devices that train or measure, each as often as it does so side by side.

    A CPU has a device a core (`engine.use_all_cores`). Where JAX had started before this package
    was imported it has one device only; then as many blocks as there are cores train on that.
    """
    devices = jax.local_devices()
    asked_for = jax.config.values.get("jax_num_cpu_devices", -1) >= 1
    if devices[0].platform != "cpu" or asked_for:
        return devices
    return devices * max(1, cores() // len(devices))


def cores() -> int:
    """CPU cores that this process may run on, where the system says; else all that there are."""
    with contextlib.suppress(AttributeError, psutil.Error, OSError):  # macOS has no affinity
        return len(psutil.Process().cpu_affinity())
    return os.cpu_count() or 1


def known_cost(device: jax.Device) -> StepCost:
    """What steps cost on this kind of device: as `ih-jax bench` measured it here, or a guess."""
    with contextlib.suppress(OSError, ValueError, ArithmeticError, LookupError, TypeError):
        found = gate.parse_json(files.cache_folder() / "costs.json")[device.device_kind]
        cost = StepCost(float(found["overhead"]), int(found["widest"]))
        if np.isfinite(cost.overhead) and cost.overhead >= 0 and 1 <= cost.widest <= MOST_WIDTH:
            return cost
    platform = platforms.of(device.platform)
    return StepCost(platform.overhead, platform.widest)


def remember_cost(device: jax.Device, cost: StepCost) -> Path:
    """Keep what was measured of this kind of device for the sweeps to come."""
    path = files.cache_folder() / "costs.json"
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = dict(gate.parse_json(path))
    known[device.device_kind] = {"overhead": cost.overhead, "widest": cost.widest}
    files.write_text(path, json.dumps(known, indent=1) + "\n")
    return path


def first_state(
    compiled: Compiled, members: Sequence[int], device: jax.Device
) -> tuple[Packed, State]:
    """A block of these runs on a device, and its state before the first step."""
    block = jax.device_put(compiled.packing.pack(compiled.runs, members), device)
    return block, compiled.start(block)


def chunk_arrays(
    at: int, some: Sequence[tuple[int, int, bool]], device: jax.Device
) -> tuple[Array, Array]:
    """Bounds [CHUNK + 1] and kinds [CHUNK] of a piece of a timetable that begins at step `at`.

    What is left of the chunk trains and evaluates nothing.
    """
    bounds = np.array([at] + [step for step, _, _ in some], np.int32)
    kinds = np.array([kind for _, kind, _ in some], np.int32)
    pad = CHUNK - len(some)
    bounds = np.append(bounds, np.repeat(bounds[-1:], pad))
    kinds = np.append(kinds, np.zeros(pad, np.int32))
    return jax.device_put(bounds, device), jax.device_put(kinds, device)
