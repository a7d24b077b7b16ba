"""The colour of each model, the same in every figure."""

from __future__ import annotations

SHADES = ("0.6", "#7FB2D6", "#56A0C8", "#2F6DA8", "#1F4E87", "#0B2F5B")  # by layers
MLP_SHADES = ("0.6", "#F2B877", "#E69F00", "#D55E00", "#A34400", "#6B2B00")
SMEARED = {"1L smeared": "#009E73", "2L smeared": "#CC79A7"}


def colour_of(name: str) -> str:
    """A shade by layers: blue, with MLPs orange; one layer is grey; smeared keys green and pink."""
    if name in SMEARED:
        return SMEARED[name]
    shades = MLP_SHADES if "MLP" in name else SHADES
    return shades[int(name[0]) - 1]
