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

Option = str | bool | int


@dataclass(frozen=True)
class Platform:
    """How programs are cut and compiled on one kind of device; None means all at once."""

    # Tokens that the runs stepping together take in a step; the rest of their block waits its
    # turn, so that what a step touches stays in the cache.
    tokens_per_step: int | None = None
    attention_sequences: int | None = None  # long sequences going through attention together
    probe_tokens: int = 65_536  # tokens of a language probe measured together
    # XLA's options for all programs, and further ones for those on short sequences: {name: value}.
    options: Mapping[str, Option] = field(default_factory=dict)
    short_options: Mapping[str, Option] = field(default_factory=dict)
    # Of float32 products. Left to themselves, accelerators round their factors to fewer bits
    # (TF32, bfloat16), and results would no longer be those of a CPU to 1e-5.
    matmul_precision: str | None = "highest"
    # A step of a block costs what its runs do and that of so many more, up to a width beyond which
    # a run costs more again, or hardly less. Launching kernels binds an accelerator until hundreds
    # of small runs fill it (measured on an H200: 0.44 ms for 64 runs, 1.5 for 512, 5.1 for 2,048).
    overhead: float = 120.0
    widest: int = 2048


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
# Left to itself, XLA adds up gradients in any order and picks kernels by timing them, which changes
# the bits of a run from one compilation to the next. On an H200 preventing this costs 4%.
GPU = Platform(options={"xla_gpu_deterministic_ops": True, "xla_gpu_autotune_level": 0})
PLATFORMS = {"cpu": CPU, "gpu": GPU}
ACCELERATOR = Platform()


def of(name: str) -> Platform:
    """By the name that JAX gives a device's platform: "cpu", "gpu", "tpu" or another."""
    return PLATFORMS.get(name, ACCELERATOR)


def here() -> Platform:
    """That of the devices JAX uses by default."""
    return of(jax.default_backend())


def precision_of(name: str) -> str | None:
    """Of the products of programs for a platform: what the user has set, else the platform's."""
    own: str | None = jax.config.values["jax_default_matmul_precision"]
    return own or of(name).matmul_precision


def matmul_precision(name: str) -> AbstractContextManager[object]:
    """What a program for a platform is traced in, for its products to have `precision_of`."""
    wanted = precision_of(name)
    return contextlib.nullcontext() if wanted is None else jax.default_matmul_precision(wanted)
