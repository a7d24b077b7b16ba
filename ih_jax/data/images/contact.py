"""Pictures of data: sheets of drawings, and how alike classes are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ih_jax import files
from ih_jax.data.images.drawings import Drawings
from ih_jax.data.images.features import Features

ROWS, COLUMNS, MOST_CLASSES = 12, 10, 200


def sheet(drawings: Drawings, path: Path) -> None:
    """Characters from all alphabets in rows, their first drawings side by side."""
    chosen = np.linspace(0, len(drawings.characters) - 1, min(ROWS, len(drawings.characters)))
    columns = min(COLUMNS, drawings.images.shape[1])
    figure = Figure(figsize=(columns * 0.7 + 2.2, len(chosen) * 0.7), layout="constrained")
    panels = figure.subplots(len(chosen), columns, squeeze=False)
    for row, index in zip(panels, chosen.astype(int), strict=True):
        for column, axes in enumerate(row):
            axes.imshow(1 - drawings.images[index, column], cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color("0.85")
        name = drawings.characters[index].replace("_", " ").replace("/", "\n")
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    _save(figure, path)


def likeness(features: Features, path: Path) -> None:
    """Cosines between the first drawings of up to MOST_CLASSES classes, and their distribution."""
    chosen = np.linspace(0, features.classes - 1, min(MOST_CLASSES, features.classes)).astype(int)
    values = features.select(chosen.tolist(), [0])[:, 0]
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    alike = unit @ unit.T
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    image = left.imshow(alike, cmap="viridis")
    figure.colorbar(image, ax=left)
    left.set_title(f"Cosine between {len(chosen)} classes", loc="left", fontsize=10)
    left.set(xlabel="class", ylabel="class")
    right.hist(alike[np.triu_indices(len(chosen), 1)], bins=60, color="#0072B2")
    right.set(xlabel="cosine", ylabel="pairs of classes")
    right.spines[["top", "right"]].set_visible(False)
    right.set_title("All pairs", loc="left", fontsize=10)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
