"""Turned and mirrored pictures, as classes of their own (Santoro et al. 2016)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def oriented(images: NDArray[Any], quarter_turns: int, mirrored: bool) -> NDArray[Any]:
    """Images [..., S, S], mirrored first where asked for, then turned to the left."""
    return np.rot90(images[..., ::-1] if mirrored else images, quarter_turns, axes=(-2, -1))
