"""SVGs are as large as what one sees of them."""

import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ih_jax.experiments.drawing import MOST_POINTS, save_svg


def drawn(path: Path, thin: int) -> str:
    figure = Figure()
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for _ in range(thin):
        axes.plot(rng.normal(size=500), lw=0.6, alpha=0.3)
    axes.plot(rng.normal(size=500), lw=2, color="#0072B2")
    save_svg(figure, path)
    return path.read_text()


def test_many_thin_lines_become_pixels_and_few_stay_lines(tmp_path):
    few, many = (drawn(tmp_path / f"{n}.svg", n) for n in (5, MOST_POINTS // 500 + 20))
    assert "<image" not in few and "<image" in many
    assert len(many) < 400_000
    line = r'<path d="([^"]*)"[^>]*stroke: #0072b2'
    assert re.search(line, few) and re.search(line, many)  # medians are never pixels
    longest = max(re.findall(r"\.(\d+)", re.search(line, few)[1]), key=len)
    assert len(longest) == 2
