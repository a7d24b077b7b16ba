"""Files of arrays from outside (HDF5, netCDF, NumPy records), checked before they are read.

What a file's header declares is compared with free memory first, and nothing that it stores in
another file is followed. Refusals are those of the gate: a `UserError` of one line.
"""

from __future__ import annotations

import mmap
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from ih_jax import memory
from ih_jax.errors import UserError
from ih_jax.paths import reason, regular, shown_path

HEAP = b"GCOL\x01\0\0\0"  # what a global heap of HDF5 begins with, which holds strings
HEAD = 16  # bytes of its head, and of that of each object in it

# A .npy record's header is a Python dictionary: {'descr': '<f4', 'fortran_order': False, ...}
NPY_ENTRY = re.compile(
    r"'(descr)'\s*:\s*'([<>|=]?[a-zA-Z?]\d*)'"
    r"|'(fortran_order)'\s*:\s*(True|False)"
    r"|'(shape)'\s*:\s*(\(\)|\(\d+,\)|\(\d+(?:,\s*\d+)+,?\))"
)
NPY_HEADER = re.compile(
    rf"\s*\{{\s*(?:{NPY_ENTRY.pattern})(?:\s*,\s*(?:{NPY_ENTRY.pattern}))*\s*,?\s*\}}\s*"
)
LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}  # of the header's length, by the format's version
MOST_HEADER = 10_000  # bytes, as NumPy reads at most


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file, open for reading. Raises UserError where it is none."""
    regular(path)
    try:
        _check_heaps(path)
        return h5py.File(path, "r")
    except UserError:
        raise
    except Exception as error:  # h5py and HDF5 raise many kinds for damaged files
        why = reason(error).split("(")[-1].rstrip(")")
        raise UserError(
            f"{shown_path(path)} cannot be read as HDF5 ({why}): is it whole, and an HDF5 file?"
        ) from None


def hdf5_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A numeric dataset of a file, of which nothing is read yet.

    Raises:
        UserError: there is none of this name; it is a group, empty, of other than numbers, or in
            another file (external or virtual storage, external links).
    """
    where = f"{shown_path(Path(file.filename))}: {name}"
    found = _inside(file, name, where)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{where} is {'missing' if found is None else 'a group'}: give a dataset")
    if found.shape is None:
        raise UserError(f"{where} is an empty dataset: give one with numbers")
    if found.dtype.kind not in "biuf":
        raise UserError(f"{where} is of {found.dtype}: numbers are needed")
    if found.external or found.is_virtual:
        raise UserError(f"{where} is stored in another file: copy it into this one")
    # HDF5 unpacks whole chunks, whatever is asked for.
    chunk = int(np.prod(found.chunks or (1,), dtype=object)) * found.dtype.itemsize
    memory.check(chunk, f"{where}: a chunk of it")
    return found


def hdf5_array(file: h5py.File, name: str) -> np.ndarray:
    """A numeric dataset, whole. Raises UserError as `hdf5_dataset`, or where it takes more memory
    than is free."""
    found = hdf5_dataset(file, name)
    needed = int(np.prod(found.shape, dtype=object)) * found.dtype.itemsize
    memory.check(needed, f"{shown_path(Path(file.filename))}: {name}")
    return np.asarray(found[()])


def hdf5_has(file: h5py.File, name: str) -> bool:
    """Whether a file holds something of this name. Raises UserError as `hdf5_array`."""
    return _inside(file, name, f"{shown_path(Path(file.filename))}: {name}") is not None


def _inside(file: h5py.File, name: str, where: str) -> Any:
    """What stands under a name, without opening another file; None: nothing."""
    found: Any = file
    for part in name.split("/"):
        if not isinstance(found, h5py.Group):
            raise UserError(f"{where} is inside a dataset: a group is needed there")
        if part not in list(found):
            return None
        if isinstance(found.get(part, getlink=True), h5py.ExternalLink):
            raise UserError(f"{where} is in another file: copy it into this one")
        try:
            found = found.get(part)
        except Exception as error:  # a soft link in a circle, or damage
            raise UserError(f"{where} cannot be followed ({reason(error)})") from None
    return found


def read_netcdf(path: Path) -> xr.Dataset:
    """The labelled arrays of a netCDF file, whole.

    Raises:
        UserError: it is no such file, a part of it is stored in another file, or it takes more
            memory than is free.
    """
    with open_hdf5(path) as file:
        names: list[str] = []
        try:
            file.visititems_links(lambda name, link: _no_external_link(path, name, link))
            file.visititems(
                lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
            )
            needed = 0
            for name in names:
                item = file[name]
                if item.external or item.is_virtual:
                    raise UserError(f"{shown_path(path)}: {name} is stored in another file")
                if item.shape is not None:
                    needed += int(np.prod(item.shape, dtype=object)) * item.dtype.itemsize
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{shown_path(path)} is damaged ({reason(error)})") from None
    memory.check(needed, shown_path(path))
    try:
        return xr.load_dataset(path, engine="h5netcdf")
    except Exception as error:  # h5netcdf and HDF5 raise many kinds
        raise UserError(
            f"{shown_path(path)} is no netCDF file of ours ({reason(error)}): make it again"
        ) from None


def _check_heaps(path: Path) -> None:
    """Raises UserError where HDF5 would go through a damaged global heap for ever.

    A heap is a row of objects, each with its size in its head; object 0 is what is left free. HDF5
    goes on by that size, whatever it is (HDF5 file format 3.0, III.E). Other damage it tells of.
    """
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        heap = whole.find(HEAP)
        while heap >= 0:
            if not _is_passed(whole, heap):
                raise UserError(f"{shown_path(path)} is damaged (its global heap): make it again")
            heap = whole.find(HEAP, heap + 1)


def _is_passed(whole: mmap.mmap, heap: int) -> bool:
    """Whether HDF5 comes to the end of a heap that begins here."""
    at, end = heap + HEAD, heap + int.from_bytes(whole[heap + 8 : heap + HEAD], "little")
    while at + HEAD <= min(end, len(whole)):
        number = int.from_bytes(whole[at : at + 2], "little")
        size = int.from_bytes(whole[at + 8 : at + HEAD], "little")
        step = size if number == 0 else HEAD + -(-size // 8) * 8  # the former counts its head
        if not 0 < step < 2**63:  # it stays where it is, or goes back
            return False
        at += step
    return True


def _no_external_link(path: Path, name: str, link: object) -> None:
    if isinstance(link, h5py.ExternalLink):
        raise UserError(f"{shown_path(path)}: {name} is in another file: copy it into this one")


def npy_records(path: Path, most: int) -> Iterator[np.ndarray]:
    """The .npy records of a file, one after another; none of objects, so that nothing is pickled.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        UserError: it is too large or no whole sequence of records; the size that each declares is
            compared with what is left of the file before it is read.
    """
    size = regular(path).stat().st_size
    if size > most:
        raise UserError(f"{shown_path(path)} has {size:,} bytes: at most {most:,} are read")
    count = 0
    with open(path, "rb") as stream:
        while stream.tell() < size:
            try:
                yield _record(stream, size)
            except Exception as error:  # NumPy's parser of headers raises many kinds
                raise UserError(
                    f"{shown_path(path)} is no whole sequence of .npy records (record {count}: "
                    f"{reason(error)})"
                ) from None
            count += 1


def _record(stream: typing.BinaryIO, size: int) -> np.ndarray:
    shape, by_columns, dtype = _npy_header(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    left = size - stream.tell()
    if needed > left:
        raise ValueError(f"its shape {shape} takes {needed:,} bytes, and {left:,} follow")
    found = np.frombuffer(stream.read(needed), dtype)
    return found.reshape(shape, order="F" if by_columns else "C")


def _npy_header(stream: typing.BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and dtype of the record that begins here.

    NumPy's own reader lets Python parse the header (`ast.literal_eval`), which CPython before
    3.11.8 and 3.12.2 may refuse for a sound one: where a garbage collection falls into it and
    parses in turn (python/cpython#106905). A sweep's scores were called damaged so.
    """
    version = np.lib.format.read_magic(stream)
    if version not in LENGTH_BYTES:
        raise ValueError(f"its version is {version}")
    length = int.from_bytes(stream.read(LENGTH_BYTES[version]), "little")
    if length > MOST_HEADER:
        raise ValueError(f"its header has {length:,} bytes")
    header = stream.read(length).decode("latin1")
    entries: dict[str, str] = {}
    for each in NPY_ENTRY.finditer(header):
        name, value = filter(None, each.groups())
        entries[name] = value
    if not NPY_HEADER.fullmatch(header) or set(entries) != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"its header is {header.strip()[:100]!r}")
    shape = tuple(map(int, re.findall(r"\d+", entries["shape"])))
    return shape, entries["fortran_order"] == "True", np.dtype(entries["descr"])
