"""How long training will take, said before it starts.

The operations of a step's products of matrices are counted. A step takes longer than these alone
would, by factors that follow from what `ih-jax bench --bound` measured, and half a second of
products says how quick this machine is. Blocks are laid over devices as the engine lays them, so
that idle devices count.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import jax
import numpy as np

from ih_jax.model.params import Config, init
from ih_jax.sweeps import arithmetic
from ih_jax.sweeps.blocks import plan_blocks
from ih_jax.sweeps.chunk import LONG
from ih_jax.sweeps.loop import ALL_SETS, Program
from ih_jax.sweeps.programs import workers
from ih_jax.sweeps.study import Study
from ih_jax.tasks.base import Task

GFLOPS = 100.0  # of the reference machine: products of matrices of 1,024, all cores together
# Operations that take as long as a step: so many for each of its products, and for each weight,
# which Adam moves. Of models of language attention decides, whose exponentials stand for products.
PRODUCT, WEIGHT = 2.3, 370.0
PRODUCT_OF_LANGUAGE = 4.0
BLOCK = 0.3  # what a step of a block costs beside its runs, in runs
LOOK = 0.3  # what evaluating a sequence costs, in training by one
COMPILE_SECONDS = 6.0  # of a program, on each core of the reference machine that runs it
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
    known: dict[tuple[int, int], float] = {}  # of a block, by group and steps: most are alike
    for block in plan_blocks(study, width):
        device = busy.index(min(busy))
        alike = block.group, block.steps
        if alike not in known:
            looks = _looks(study, block.steps) * LOOK
            program = study.groups[block.group].program
            idle = BLOCK if program.tokens <= LONG else 0.0
            steps = (width + idle) * block.steps * study.task.batch + width * looks
            known[alike] = steps * sequence_seconds(program, study.task)
        busy[device] += known[alike]
        if block.group not in compiled[device]:
            compiled[device].add(block.group)
            busy[device] += COMPILE_SECONDS
    return max(busy)


def sequence_seconds(program: Program, task: Task) -> float:
    """Of training one run by one sequence, on one core of the reference machine."""
    needed = arithmetic.of_program(program, task).needed
    if program.config.language:
        operations = PRODUCT_OF_LANGUAGE * needed
    else:
        operations = PRODUCT * needed + WEIGHT * _weights(program.config)
    return operations / program.batch / (GFLOPS / REFERENCE.devices * 1e9)


@functools.cache
def _weights(config: Config) -> int:
    """How many a network has."""
    shapes = jax.eval_shape(lambda: init(jax.random.key(0), config))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


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
