"""Records of .npy files: what NumPy writes is read back whole, and nothing else passes."""

import ast
import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy_format

from ih_jax import array_files
from ih_jax.errors import UserError

MOST = 1_000_000  # bytes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "records"


class ParsesWhenCollected:
    """Garbage in a circle whose collection parses Python, as a traceback drawn by a hook does."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        # The parser's own fault, in CPython before 3.11.8 and 3.12.2.
        with contextlib.suppress(SystemError):
            ast.literal_eval("(1, 2)")


@pytest.fixture
def collections_that_parse() -> Iterator[None]:
    kept = gc.get_threshold()
    gc.set_threshold(5, 1, 1)
    yield
    gc.set_threshold(*kept)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "|i1", "<u8", "|b1", "<c8"])
def test_what_numpy_writes_is_read_back(file, dtype, order, version) -> None:
    arrays = [
        np.asarray(np.arange(np.prod(shape)).reshape(shape) % 2, dtype, order)
        for shape in ((), (1,), (3, 4), (2, 0, 5), (1, 2, 3, 4))
    ]
    with file.open("wb") as stream:
        for array in arrays:
            npy_format.write_array(stream, array, version)
    found = list(array_files.npy_records(file, MOST))
    assert [each.dtype for each in found] == [np.dtype(dtype)] * len(arrays)
    for read, written in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(read, written)


def test_a_sound_record_is_read_whatever_the_collector_does(file, collections_that_parse) -> None:
    """It was called damaged, about once in a run of all tests, by CPython before 3.11.8."""
    with file.open("wb") as stream:
        np.save(stream, np.ones((2, 3)))
    for _ in range(300):
        ParsesWhenCollected()
        (found,) = array_files.npy_records(file, MOST)
        assert found.shape == (2, 3)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", "its header is"),
        ("{'descr': '<f4', 'shape': (2,)}", "its header is"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': True}", "its header is"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", "its header is"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "its header is"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2 3)}", "its header is"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,,2)}", "its header is"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (,)}", "its header is"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2)}", "its header is"),
        ("{'descr': '<f4', 'fortran_order': 'x', 'shape': (2,)}", "its header is"),
        ("{'descr': 'f4,f4', 'fortran_order': False, 'shape': (1,)}", "its header is"),
        ("{'descr': '<q9', 'fortran_order': False, 'shape': (2,)}", "not understood"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "Python objects"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (9999,)}", "39,996 bytes, and 8"),
        ("__import__('os').getcwd()", "its header is"),
        ("{" + "'a': True, " * 2_000, "its header has 22,001 bytes"),
    ],
)
def test_another_header_is_refused_in_a_line(file, header, said) -> None:
    text = header.encode()
    file.write_bytes(npy_format.magic(1, 0) + len(text).to_bytes(2, "little") + text + bytes(8))
    with pytest.raises(UserError, match="no whole sequence of") as refused:
        list(array_files.npy_records(file, MOST))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_later_versions_and_larger_files_are_refused(file) -> None:
    with file.open("wb") as stream:
        npy_format.write_array(stream, np.ones(2), (3, 0))
    with pytest.raises(UserError, match=r"its version is \(3, 0\)"):
        list(array_files.npy_records(file, MOST))
    with pytest.raises(UserError, match="at most 10 are read"):
        list(array_files.npy_records(file, 10))
