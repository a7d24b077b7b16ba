"""The gate: each refusal is one line that names the field, what it holds and what it may hold."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import h5py
import msgspec
import numpy as np
import pytest

from ih_jax import array_files, gate, memory
from ih_jax.errors import UserError


class Inner(msgspec.Struct):
    kind: Literal["a", "b"]


class Model(msgspec.Struct):
    count: Annotated[int, msgspec.Meta(ge=1, le=12)]
    share: gate.Share = 0.0
    sizes: Annotated[list[gate.Size], msgspec.Meta(min_length=1, max_length=3)] | None = None
    three: tuple[gate.Count, gate.Count, gate.Count] = (0, 0, 0)
    names: dict[str, str] = {}
    inner: Inner | None = None
    on: bool = False


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(UserError) as raised:
        call(*arguments)
    said = str(raised.value)
    assert said and "\n" not in said and len(said) < 500
    return said


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "x lacks count"),
        ([], "x holds []: an object"),
        (5, "x holds 5: an object"),
        ({"count": "two"}, 'count is "two": give a whole number from 1 to 12'),
        ({"count": 2.5}, "count is 2.5: give a whole number"),
        ({"count": True}, "count is true: give a whole number"),
        ({"count": None}, "count is null: give a whole number"),
        ({"count": 10**400}, "count is a whole number of 401 digits: give"),
        ({"count": 0}, "count is 0: give a whole number from 1 to 12"),
        ({"count": 1, "share": float("nan")}, "share is NaN: give a number from 0 to 1"),
        ({"count": 1, "share": float("inf")}, "share is Infinity: give a number from 0 to 1"),
        ({"count": 1, "share": 10**400}, "share is a whole number of 401 digits"),
        ({"count": 1, "sizes": []}, "sizes is []: give a list of at least 1 and at most 3 entries"),
        ({"count": 1, "sizes": 5}, "sizes is 5: give a list"),
        ({"count": 1, "sizes": [1, -2]}, "sizes[1] is -2: give a whole number from 1"),
        ({"count": 1, "three": [1, 2]}, "three is [1, 2]: give a list of 3"),
        ({"count": 1, "three": [1, 2, "x"]}, 'three[2] is "x": give a whole number'),
        ({"count": 1, "names": {"k": [1]}}, 'names["k"] is [1]: give text'),
        ({"count": 1, "names": [[]]}, "names is [...]: give an object"),
        ({"count": 1, "inner": {"kind": "c"}}, 'inner.kind is "c": give "a" or "b"'),
        ({"count": 1, "on": "yes"}, 'on is "yes": give true or false'),
    ],
    ids=lambda each: json.dumps(each)[:30] if not isinstance(each, str) else "",
)
def test_what_a_model_refuses(found: Any, message: str) -> None:
    assert message in refusal(gate.checked, found, Model, "x")


def test_what_fits_is_taken_and_other_fields_are_passed_over() -> None:
    found = gate.checked({"count": 3, "sizes": [1, 2], "other": [[[]]]}, Model, "x")
    assert found == Model(count=3, sizes=[1, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe{", "is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[" * 1000, "is nested deeper than 32 levels"),
        (b"[" * 1000 + b"]" * 1000, "is nested deeper than 32 levels"),
        (b"[" * 100_000 + b"]" * 100_000, "is nested deeper than 32 levels"),
        (b"[" * 40 + b"]" * 40, "is nested deeper than 32 levels"),
        (b'{"a": "\\ud800"}', 'holds "\\ud800", which is no text'),
        (b'{"\\ud800": 1}', 'holds "\\ud800", which is no text'),
        (b" " * 200, "200 bytes: at most 100 are read"),
    ],
    ids=lambda each: each[:10].decode("latin1") if isinstance(each, bytes) else "",
)
def test_what_is_no_json_of_ours(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text)
    most = 100 if text.isspace() else 10**6
    assert message in refusal(gate.parse_json, path, most)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    assert "is a pipe" in refusal(gate.parse_json, tmp_path / "pipe")
    assert "is a pipe" in refusal(gate.parse_json, tmp_path / "link")
    assert "is a folder" in refusal(gate.parse_json, tmp_path)
    assert "is a device" in refusal(gate.parse_json, Path("/dev/zero"))
    assert "there is no" in refusal(gate.parse_json, tmp_path / "nothing")
    assert "cannot be read" in refusal(gate.parse_json, tmp_path / ("x" * 300))
    assert "there is no" in refusal(gate.parse_json, tmp_path / os.fsdecode(b"\xff"))


def test_more_than_the_free_memory_is_refused_with_both_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Free:
        available = 3 * 10**9

    monkeypatch.setattr(memory.psutil, "virtual_memory", Free)
    said = refusal(memory.check, 10**30, "a network of 10 layers")
    assert "1,000,000,000,000,000,000,000.0 GB" in said and "3.0 GB are free" in said
    memory.check(2 * 10**9, "another")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_weights_are_finite_or_named(dtype: str) -> None:
    array = np.ones((3, 4), dtype)
    assert gate.finite(array, "w") is array
    # The sum of these is not finite, though each of them is.
    largest = np.full(4, np.finfo(dtype).max)
    assert gate.finite(largest, "w") is largest
    array[1, 2] = np.inf
    array[0, 0] = np.nan
    assert "w has 2 of 12 numbers that are NaN or infinite" in refusal(gate.finite, array, "w")


def test_odd_hdf5(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(80))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones(3)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["fine/x"] = np.ones(3)
        file["group/x"] = 1
        file["words"] = "some"
        file["null"] = h5py.Empty("f")
        file["away"] = h5py.ExternalLink("other.h5", "x")
        file.create_dataset("huge", (10**9, 10**6, 16), chunks=(1, 1000, 16), dtype="f4")
        file.create_dataset("outside", (10,), "f8", external=[(str(tmp_path / "secret"), 0, 80)])
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", (3,))
        file.create_virtual_dataset("virtual", layout)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(array_files.hdf5_array(file, "fine/x"), np.ones(3))
        for name, message in {
            "nothing": "is missing",
            "fine/x/y": "is inside a dataset",
            "group": "is a group",
            "words": "numbers are needed",
            "null": "is an empty dataset",
            "away": "is in another file",
            "huge": "GB of memory",
            "outside": "is stored in another file",
            "virtual": "is stored in another file",
        }.items():
            assert message in refusal(array_files.hdf5_array, file, name), name
