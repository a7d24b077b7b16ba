"""Every program of every experiment lowers for GPUs and TPUs, with no option that only a CPU knows.

Lowering needs no such device: JAX translates a program for any platform that it knows. What it
cannot show is what XLA makes of it there (`scripts/accelerator_check.py` does, on the device).
"""

import contextlib
from typing import Any

import jax
import numpy as np
import pytest

from ih_jax.clamps.clamp import Clamp
from ih_jax.experiments.base import Options
from ih_jax.experiments.register import registry
from ih_jax.reports.planning import trainings_of
from ih_jax.sweeps import chunk
from ih_jax.sweeps.packing import packing
from ih_jax.sweeps.runs import Group

PLATFORMS = ("cuda", "tpu")  # as lowering calls them
ONLY_CPU = ("xla_cpu", "lapack", "python_cpu_callback")
WIDTH = 2


def programs() -> dict[str, tuple[Group, int]]:
    """A group and its number of evaluation sets for each kind of program of all trainings.

    Programs that differ in sizes only are of one kind.
    """
    found: dict[Any, tuple[str, tuple[Group, int]]] = {}
    for training in trainings_of(list(registry().values())):
        with contextlib.suppress(KeyError):  # clamps the heads of networks that are not trained yet
            study = training.study(Options(seeds=2, quick=True), {})
            for number, group in enumerate(study.groups):
                program, config = group.program, group.program.config
                shape = config.positions, config.norm, config.smeared_keys, bool(config.mlp_ratio)
                training_of = program.optimiser, program.schedule, program.clips, program.decays
                holds = Clamp.stack([run.clamp for run in group.runs], config)
                kind = (type(study.task), shape, training_of, jax.tree.structure(holds))
                sets = len(study.task.evaluation_names)
                found.setdefault(kind, (f"{training.name}-{number}", (group, sets)))
    return dict(found.values())


PROGRAMS = programs()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_lowers_for_accelerators(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    group, sets = PROGRAMS[name]
    options: list[str] = []
    jit = jax.jit

    def listening(*args: Any, compiler_options: Any = None, **settings: Any) -> Any:
        options.extend(compiler_options or {})
        return jit(*args, **settings)

    pack = packing(group.arrays)
    block = pack.pack(group.arrays, [0] * WIDTH)
    state = jax.eval_shape(chunk.starter(group.program, pack), block)
    monkeypatch.setattr(jax, "jit", listening)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    advance = chunk.advancer(group.program, pack, sets, "gpu")
    traced = advance.trace(state, block, np.zeros(3, np.int32), np.zeros(2, np.int32))
    text = traced.lower(lowering_platforms=PLATFORMS).as_text()
    assert not [word for word in ONLY_CPU if word in text or word in " ".join(options)]
