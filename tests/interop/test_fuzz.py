"""Whatever stands in a foreign file: reading it gives a result, or one line on what is wrong."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from test_authors_runs import OPTIONS, run_options, weights, write_checkpoint
from test_pretrained import SIZES, tensors

from ih_jax.errors import UserError
from ih_jax.interop.icl_dynamics.clamps import clamp_from_options
from ih_jax.interop.icl_dynamics.options import OPTIONS as CLAMPS
from ih_jax.interop.icl_dynamics.options import read_run_options
from ih_jax.interop.icl_dynamics.runs import read_checkpoint, read_log
from ih_jax.interop.pretrained import reading

few = settings(max_examples=60, deadline=None, derandomize=True)

NUMBERS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([10**9, 2**31, 2**63, 10**30, 10**400, -1, 2.5, 1e300]),
    st.floats(),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5), st.just("1:3"))
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
GPT2 = {"model_type": "gpt2", "bos_token_id": 0, **SIZES["gpt2"]}
NEOX = {"model_type": "gpt_neox", "rope_scaling": None, "rope_theta": 1e4, **SIZES["gpt_neox"]}
LLAMA = {
    **{name: value for name, value in NEOX.items() if name != "rotary_pct"},
    "model_type": "mistral",
    "num_key_value_heads": 1,
    "head_dim": None,
    "layer_types": None,
    "sliding_window": None,
}


def changed(valid: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Valid JSON, in which some fields hold something else or are missing."""
    changes = st.dictionaries(st.sampled_from(sorted(valid)), JSON, min_size=1, max_size=3)
    dropped = st.sets(st.sampled_from(sorted(valid)), max_size=1)
    return st.builds(
        lambda new, gone: {k: v for k, v in {**valid, **new}.items() if k not in gone},
        changes,
        dropped,
    )


def mutated(valid: bytes) -> st.SearchStrategy[bytes]:
    """The bytes of a valid file, cut short or with some of them replaced."""
    places = st.lists(
        st.tuples(st.integers(0, len(valid) - 1), st.binary(min_size=1, max_size=8)), max_size=3
    )

    def apply(places: list[tuple[int, bytes]], end: int) -> bytes:
        found = bytearray(valid)
        for at, new in places:
            found[at : at + len(new)] = new
        return bytes(found[:end])

    # Most damage is in headers: half of the places are there.
    early = st.lists(
        st.tuples(st.integers(0, min(len(valid), 300) - 1), st.binary(min_size=1, max_size=8)),
        min_size=1,
        max_size=3,
    )
    whole = st.just(len(valid))
    return st.builds(apply, st.one_of(places, early), st.one_of(whole, st.integers(0, len(valid))))


def result_or_line(read: Callable[[], Any]) -> Any:
    """What is read; None where it is refused, in one line that can be printed."""
    try:
        return read()
    except UserError as error:
        said = str(error)
        assert said and "\n" not in said and len(said) < 2000
        said.encode()
    return None


@contextmanager
def file_of(content: bytes | Any, name: str = "config.json") -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        yield path


@few
@given(
    st.one_of(st.binary(max_size=40), JSON, changed(OPTIONS), mutated(json.dumps(OPTIONS).encode()))
)
def test_options_of_the_authors_runs(content: Any) -> None:
    with file_of(content) as path:
        found = result_or_line(lambda: read_run_options(path))
        if found is not None:
            result_or_line(lambda: clamp_from_options(found[1]))


@few
@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(
            st.sampled_from([f"--{name}" for name in CLAMPS])
            | st.sampled_from(["1:3", "0:2:0.5", "nan", "5", "=", "'"])
            | st.text(max_size=4),
            max_size=5,
        ).map(" ".join),
    )
)
def test_options_of_the_authors_command_line(text: str) -> None:
    result_or_line(lambda: clamp_from_options(text))


@few
@given(st.one_of(st.binary(max_size=40), JSON, changed(GPT2), changed(NEOX), changed(LLAMA)))
def test_configs_of_pretrained_networks(content: Any) -> None:
    with file_of(content) as path:
        result_or_line(lambda: reading.read_config(path.parent))


@few
@given(
    st.one_of(
        st.binary(max_size=40),
        JSON,
        st.dictionaries(st.text(max_size=9), JSON).map(lambda placed: {"weight_map": placed}),
    )
)
def test_an_index_of_shards(content: Any) -> None:
    with file_of(content, reading.INDEX) as path:
        (path.parent / "config.json").write_text(json.dumps(GPT2))
        result_or_line(lambda: reading.read(path.parent))


def checkpoint() -> bytes:
    with file_of(b"", "x.eqx") as path:
        write_checkpoint(path, 640, weights(1))
        return path.read_bytes()


@few
@given(st.one_of(st.binary(max_size=200), mutated(checkpoint())))
def test_checkpoints_of_the_authors_runs(content: bytes) -> None:
    with file_of(content, "x.eqx") as path:
        found = result_or_line(lambda: read_checkpoint(path, run_options()))
        if found is not None:
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found[1]))


def log() -> bytes:
    with file_of(b"", "log.h5") as path:
        with h5py.File(path, "w") as file:
            file["eval_iter"] = np.arange(3)
            for name in ("loss", "acc", "in_context_acc"):
                file[f"fsl_train/{name}"] = np.ones((3, 4), np.float32)
        return path.read_bytes()


@few
@given(st.one_of(st.binary(max_size=200), mutated(log())))
def test_logs_of_the_authors_runs(content: bytes) -> None:
    with file_of(content, "log.h5") as path:
        result_or_line(lambda: read_log(path))


@few
@given(st.one_of(st.binary(max_size=200), mutated(save(tensors("gpt2", SIZES["gpt2"])))))
def test_weights_of_pretrained_networks(content: bytes) -> None:
    with file_of(content, reading.WEIGHTS) as path:
        (path.parent / "config.json").write_text(json.dumps(GPT2))
        found = result_or_line(lambda: reading.read(path.parent))
        if found is not None:
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.weights))


@pytest.mark.parametrize("valid", [GPT2, NEOX, LLAMA], ids=lambda each: each["model_type"])
def test_what_is_changed_is_read_as_it_stands(valid: dict[str, Any]) -> None:
    with file_of(valid) as path:
        assert reading.read_config(path.parent).layers == 2
