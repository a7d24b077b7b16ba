"""Arrays as text in a page: rounded to 8 or 16 bits, as differences over time, deflated, base64.

A blob is one such text with several arrays; its manifest says what they are and how far rounding
may have moved a value. The page undoes all of it (`page/decode.js`).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Bits = Literal[8, 16]


@dataclass(frozen=True)
class Packed:
    """An array as whole numbers: `low + code * step`; the highest code stands for NaN."""

    codes: NDArray[Any]  # uint8 or uint16
    low: float
    step: float
    kind: Literal["number", "index"] = "number"

    @property
    def error(self) -> float:
        """How far a finite value may lie from its code's, at most."""
        return 0.0 if self.kind == "index" else self.step / 2

    @property
    def values(self) -> NDArray[np.float64]:
        """What the codes stand for."""
        missing = self.codes == np.iinfo(self.codes.dtype).max
        return np.where(missing, np.nan, self.low + self.codes * self.step)


def pack(
    values: Any, bits: Bits = 16, low: float | None = None, high: float | None = None
) -> Packed:
    """Rounds an array to the codes of its range, or of `low` to `high`; beyond it is cut off.

    What is not finite becomes NaN.
    """
    given = np.asarray(values, np.float64)
    finite = np.isfinite(given)
    some = given[finite] if finite.any() else np.zeros(1)
    low = float(some.min()) if low is None else low
    high = float(some.max()) if high is None else high
    most = 2**bits - 1  # for NaN
    step = (high - low) / (most - 1)
    codes = np.full(given.shape, most, np.uint8 if bits == 8 else np.uint16)
    codes[finite] = np.clip(np.round((given[finite] - low) / (step or 1.0)), 0, most - 1)
    return Packed(codes, low, step)


def indices(values: Any) -> Packed:
    """Whole numbers of 0 or more, below 65,535, as they are."""
    given = np.asarray(values)
    kind = np.uint8 if given.size == 0 or given.max() < 255 else np.uint16
    return Packed(given.astype(kind), 0.0, 1.0, "index")


def blob(arrays: Mapping[str, Packed]) -> dict[str, Any]:
    """{"arrays": what is in it, "data": base64}.

    Each array is written as differences along its first axis, modulo its range, high bytes before
    low ones: what changes slowly over training is mostly zeros then.
    """
    manifest: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = 0
    for name, one in arrays.items():
        codes = one.codes
        differences = codes.copy()
        if codes.ndim and len(codes) > 1:
            differences[1:] -= codes[:-1]
        raw = differences.astype(differences.dtype.newbyteorder("<")).tobytes()
        if codes.dtype == np.uint16:
            raw = raw[1::2] + raw[::2]
        manifest[name] = {
            "bytes": codes.dtype.itemsize,
            "shape": list(codes.shape),
            "low": one.low,
            "step": one.step,
            "at": offset,
            "index": one.kind == "index",
        }
        parts.append(raw)
        offset += len(raw)
    data = base64.b64encode(zlib.compress(b"".join(parts), 9)).decode("ascii")
    return {"arrays": manifest, "size": offset, "data": data}


def unpack(made: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """The values of a blob, as the page has them."""
    raw = zlib.decompress(base64.b64decode(made["data"]))
    found = {}
    for name, about in made["arrays"].items():
        count = int(np.prod(about["shape"], dtype=int))
        size = about["bytes"]
        own: NDArray[Any] = np.frombuffer(raw, np.uint8, count * size, about["at"])
        if size == 2:
            own = own[:count].astype(np.uint16) << 8 | own[count:]
        codes = own.reshape(about["shape"])
        if codes.ndim and len(codes) > 1:
            codes = np.add.accumulate(codes, axis=0, dtype=codes.dtype)
        found[name] = Packed(codes, about["low"], about["step"]).values
        if about["index"]:
            found[name] = codes.astype(np.float64)
    return found
