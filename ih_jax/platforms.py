"""What differs between CPUs, GPUs and TPUs, in one place: sizes, compiler options, precision.

Everything else in the package is the same program on all of them. The numbers of the CPU were
measured on two AVX-512 cores; `scripts/accelerator_check.py` measures an accelerator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import jax


@dataclass(frozen=True)
class Platform:
    """How programs are cut and compiled on one kind of device; None means all at once."""

    # Tokens that the runs stepping together take in a step; the rest of their block waits its
    # turn, so that what a step touches stays in the cache.
    tokens_per_step: int | None = None
    attention_sequences: int | None = None  # long sequences going through attention together
    probe_tokens: int = 65_536  # tokens of a language probe measured together
    # XLA's options for programs on short sequences, {name: value}.
    short_options: Mapping[str, str] = field(default_factory=dict)
    # Of float32 products. Left to themselves, accelerators round their factors to fewer bits
    # (TF32, bfloat16), and results would no longer be those of a CPU to 1e-5.
    matmul_precision: str | None = "highest"
    # A step of a block costs what its runs do and that of so many more, up to a width beyond which
    # a run costs more again. Launching kernels binds an accelerator until thousands of small runs
    # fill it.
    overhead: float = 200.0
    widest: int = 1024


CPU = Platform(
    tokens_per_step=640,  # four runs of the few-shot paper, one language model
    attention_sequences=4,
    probe_tokens=1024,
    # XLA's fusion of products into its other library slows the batch-last layout of short
    # sequences down; the large products of long ones it makes faster.
    short_options={"xla_cpu_experimental_ynn_fusion_type": ""},
    matmul_precision=None,  # a CPU multiplies float32 as such
    overhead=0.3,
    widest=8,
)
PLATFORMS = {"cpu": CPU}
ACCELERATOR = Platform()


def of(name: str) -> Platform:
    """By the name that JAX gives a device's platform: "cpu", "gpu", "tpu" or another."""
    return PLATFORMS.get(name, ACCELERATOR)


def here() -> Platform:
    """That of the devices JAX uses by default."""
    return of(jax.default_backend())


def matmul_precision(name: str) -> AbstractContextManager[object]:
    """While a program for a platform is traced: the precision of its products.

    A precision that the user has set (`jax_default_matmul_precision`) stays.
    """
    wanted = of(name).matmul_precision
    if wanted is None or jax.config.values["jax_default_matmul_precision"] is not None:
        return contextlib.nullcontext()
    return jax.default_matmul_precision(wanted)
