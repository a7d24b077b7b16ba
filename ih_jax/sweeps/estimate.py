"""How long training will take, said before it starts.

A run of the few-shot paper's model (67,000 weights, sequences of five tokens, batch 32) costs the
same for every step, so seconds follow from steps, evaluations and programs to compile. The cost of
a language model is counted: 6 operations a weight and token, and attention. The constants are of a
reference machine, two AVX-512 cores; another one is compared with it by half a second of matrix
products. Blocks are laid over devices as the engine lays them, so that idle devices count.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ih_jax.sweeps.blocks import plan_blocks
from ih_jax.sweeps.chunk import LONG
from ih_jax.sweeps.loop import ALL_SETS, Program
from ih_jax.sweeps.programs import workers
from ih_jax.sweeps.study import Study

# Of the reference machine.
GFLOPS = 100.0  # of products of matrices of 1,024, all cores together
STEP_MILLISECONDS = 1.25  # of one run by 32 sequences on one core
STEP_SEQUENCES = 32
BLOCK = 0.3  # what a step of a block costs beside its runs, in runs
LOOK = 0.3  # what evaluating a sequence costs, in training by one
LANGUAGE_GFLOPS = 36.0  # of a language model's step, on one core
COMPILE_SECONDS = 12.0  # of a program, on each core that runs it
WIDTHS = (1, 2, 4, 8)
TIMED_SECONDS = 0.5


@dataclass(frozen=True)
class Machine:
    """What is known of a machine before it trains anything."""

    devices: int
    kind: str  # as JAX says: cpu, gpu, tpu
    gflops: float

    @property
    def speed(self) -> float:
        """Times the reference machine, which has two devices, by a device."""
        return self.gflops / self.devices / (GFLOPS / 2)

    def describe(self) -> str:
        """As a person would write it."""
        return f"{self.devices} {self.kind} devices, {self.gflops:.0f} GFLOP/s"


REFERENCE = Machine(2, "cpu", GFLOPS)


def this_machine() -> Machine:
    """Measures for half a second."""
    devices = workers()
    return Machine(len(devices), devices[0].platform, _gflops())


def training_seconds(study: Study, machine: Machine = REFERENCE) -> float:
    """Of training a study, compilation included. NaN on devices that are not CPUs."""
    if machine.kind != "cpu":
        return float("nan")
    return min(_seconds(study, machine, width) for width in WIDTHS) / machine.speed


def seen(studies: Iterable[Study]) -> int:
    """Sequences (or tokens, as a study counts) that all runs see together."""
    return sum(run.steps * run.program.unit for study in studies for run in study.runs)


def _seconds(study: Study, machine: Machine, width: int) -> float:
    """For blocks of this width, on the reference machine with this many devices."""
    busy = [0.0] * machine.devices
    compiled: list[set[int]] = [set() for _ in busy]
    for block in plan_blocks(study, width):
        device = busy.index(min(busy))
        batch = study.task.batch
        looks = _looks(study, block.steps) * LOOK
        program = study.groups[block.group].program
        idle = BLOCK if program.tokens <= LONG else 0.0
        steps = (width + idle) * block.steps * batch + width * looks
        busy[device] += steps * _sequence_seconds(program)
        if block.group not in compiled[device]:
            compiled[device].add(block.group)
            busy[device] += COMPILE_SECONDS
    return max(busy)


def _sequence_seconds(program: Program) -> float:
    """Of training one run by one sequence, on one core of the reference machine."""
    if program.tokens <= LONG:
        return STEP_MILLISECONDS / 1000 / STEP_SEQUENCES
    config = program.config
    D, of_mlp = config.d_model, 2 * (config.mlp_ratio or 0)
    weights = config.layers * D * D * (4 + of_mlp) + 2 * D * config.labels
    attention = 12 * config.layers * D * program.tokens
    return program.tokens * (6 * weights + attention) / (LANGUAGE_GFLOPS * 1e9)


def _looks(study: Study, steps: int) -> int:
    """Sequences on which one run of so many steps is evaluated."""
    sets = len(study.task.evaluation_names)
    kinds = [kind for _, kind, _ in study.timetable(steps)]
    evaluated = sum((sets if kind == ALL_SETS else 1) for kind in kinds if kind)
    return evaluated * study.task.evaluation_sequences


def _gflops() -> float:
    """Of products of float32 matrices, in NumPy, which uses all cores."""
    size, done = 1024, 0
    matrix = np.ones((size, size), np.float32)
    matrix @ matrix  # starts the threads
    began = time.perf_counter()
    while time.perf_counter() - began < TIMED_SECONDS:
        matrix @ matrix
        done += 1
    return done * 2 * size**3 / (time.perf_counter() - began) / 1e9
