"""What tests of readers share: any bytes, any JSON, valid files with changes, and what must hold.

A hundred times as many examples, other ones each time: FUZZ_EXAMPLES=6000 pytest -k "fuzz".
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ih_jax import memory
from ih_jax.errors import UserError
from ih_jax.sweeps.store import Damaged

BY_HAND = "FUZZ_EXAMPLES" in os.environ
SECONDS, BYTES = 20, 2 * 10**9  # that a reader may take

few = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", 60)),
    deadline=None,
    derandomize=not BY_HAND,
    suppress_health_check=[HealthCheck.too_slow],
)

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
    """What is read; None where it is refused, in one line that can be printed.

    A reader that would not end is stopped, and none is told of more memory than it may take.
    """

    def late(number: int, frame: Any) -> None:
        raise TimeoutError(f"nothing after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory.psutil, "virtual_memory", _Memory)
            return read()
    except (UserError, Damaged) as error:
        said = str(error)
        assert said and "\n" not in said and len(said) < 2000
        said.encode()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return None


class _Memory:
    """What psutil says of the machine's memory."""

    available = total = BYTES


@contextmanager
def file_of(content: bytes | Any, name: str = "config.json") -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        yield path
