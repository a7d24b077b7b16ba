"""A small few-shot network for tests of measures, and how they are measured."""

import jax
from networks import (
    QUICK,
    small,
)

from ih_jax.clamps.holds import Holds
from ih_jax.sweeps.chunk import compiler_options

CONFIG = small()
OPTIONS = QUICK | compiler_options(jax.devices()[0].platform, 5)


def measured(measure, params, batch, clamp=None, config=CONFIG):
    holds = Holds() if clamp is None else clamp.arrays(config)
    return jax.device_get(jax.jit(measure, compiler_options=OPTIONS)(params, holds, batch))
