"""Glyphs: characters of invented alphabets, drawn on demand; the data that needs no download.

A stand-in for Omniglot (1,623 characters, each drawn by 20 people) and for the ImageNet network
that turned its images into features. Nothing is stored: drawing e of class c is a function of
(seed, c, e) alone, so only what is asked for is drawn, and any subset agrees with the whole.

A stroke is a heading that turns. With t in [0, 1] along the stroke,

    heading(t) = direction + bend (t - 1/2) + sway ((t - 1/2)^2 - 1/12) + corner [t > at]

and integrating the heading gives the line: bend makes arcs and loops, sway makes S shapes and
hooks, a corner makes angles. A character is one to four strokes, most hung on an earlier one. A
drawing perturbs these numbers, turns, shears, scales and shifts the character, changes the pen.

Classes 0 to 1,622 are upright. Those from 1,623 on are the same characters, turned and mirrored:
classes of their own, as Santoro et al. 2016 made 12,984 of Omniglot's 1,623.

Shapes: C classes, E drawings a class, M strokes, T points a stroke, S pixels a side, F features.
"""

from collections.abc import Sequence
from functools import cache
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ih_jax.data.images.orientation import oriented

CLASSES = 1623
ORIENTATIONS = 8  # upright, turned by 90, 180 and 270 degrees, and the mirror images of these
DRAWINGS = 20
SIZE = 32  # pixels a side that the encoder sees

FEATURES = 256  # a multiple of GRID^2
GRID = 2  # the encoder averages over GRID x GRID tiles of the page
# Multiplies the features, and with them the speed of learning under Adam at a given rate. Raised
# from 13.5 over 18 (both tried) so that unclamped networks learn well within 800,000 sequences. A
# feature vector is then about 35 long (EfficientNet-Lite0's, on Omniglot: 14).
SCALE = 20.0
# What the second layer's units must exceed. At 1.2 the cosine between classes is 0.65, as of
# EfficientNet-Lite0's features of Omniglot (0.63); at 0 it would be 0.85.
THRESHOLD = 1.2
HAND = 0.65  # how unlike two drawings of a character are; 0 makes them identical
STROKES = 4
POINTS = 64

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def draw(
    classes: Sequence[int], drawings: Sequence[int], size: int = SIZE, seed: int = 0
) -> Floats:
    """Images [C, E, size, size] in [0, 1]; 1 is ink.

    Raises IndexError for a class or drawing that does not exist, ValueError for a size below 8
    or a negative seed.
    """
    _check("class", classes, CLASSES * ORIENTATIONS)
    _check("drawing", drawings, DRAWINGS)
    if size < 8:
        raise ValueError(f"size {size} asked for; a glyph needs at least 8 pixels a side")
    if seed < 0:
        raise ValueError(f"seed {seed} asked for; a seed is 0 or more")
    images = np.empty((len(classes), len(drawings), size, size), np.float32)
    for i, c in enumerate(classes if images.size else []):  # one at a time: memory stays small
        orientation, character = divmod(int(c), CLASSES)
        pages = _ink(*_write(character, [int(e) for e in drawings], seed), size)
        mirrored, turns = divmod(orientation, ORIENTATIONS // 2)
        images[i] = oriented(pages, turns, mirrored=bool(mirrored))
    return images


def encode(images: NDArray[Any]) -> Floats:
    """Features [..., F], nonnegative, of images [..., S, S]; S a multiple of 32, 1 is ink.

    Fixed, never trained: 16 Gabor filters of 7 x 7, ReLU, 4 x 4 average, divided by the page's
    rms so that a thick pen is not a different character; FEATURES / GRID^2 random filters of
    5 x 5, ReLU above THRESHOLD; the mean over each tile of a GRID x GRID grid; times SCALE.
    A blank page gives zeros. Raises ValueError for another shape.
    """
    images = np.asarray(images, np.float32)
    if images.ndim < 2 or images.shape[-1] != images.shape[-2] or images.shape[-1] % SIZE:
        raise ValueError(
            f"images of shape {images.shape} given; encode takes [..., S, S], S divisible by {SIZE}"
        )
    pages = _pool(images.reshape(-1, *images.shape[-2:], 1), SIZE)
    out = np.empty((len(pages), FEATURES), np.float32)
    for i in range(0, len(pages), 32):  # patches of a few pages at a time fit in cache
        edges = _pool(_convolve(pages[i : i + 32], _gabors()), SIZE // 4)
        edges /= np.sqrt(np.mean(edges**2, (1, 2, 3), keepdims=True)) + 1e-6
        parts = _convolve(edges, _random_filters(), THRESHOLD)
        out[i : i + 32] = SCALE * _pool(parts, GRID).reshape(-1, FEATURES)
    return out.reshape(*images.shape[:-2], FEATURES)


def features(classes: Sequence[int], drawings: Sequence[int], seed: int = 0) -> Floats:
    """Features [C, E, F] of the given drawings of the given classes; errors as for `draw`."""
    return encode(draw(classes, drawings, SIZE, seed))


def sheet(
    path: str | PathLike[str],
    rows: int = 8,
    columns: int = 16,
    hands: int = 4,
    cell: int = 64,
    first: int = 0,
    seed: int = 0,
) -> None:
    """Write a PNG of rows x columns drawings, cells of `cell` pixels: `hands` drawings of a class
    side by side, classes from `first` on. Raises ValueError where `hands` does not divide columns.
    """
    from matplotlib.image import imsave  # here, so that training never loads a plotting library

    if not 1 <= hands <= DRAWINGS or columns % hands:
        raise ValueError(f"hands {hands}, columns {columns}; hands is 1..20 and divides columns")
    across, gap = columns // hands, cell // 2
    ink = draw(range(first, first + rows * across), range(hands), cell, seed)
    ink = ink.reshape(rows, across, hands, cell, cell).transpose(0, 3, 1, 2, 4)
    ink = ink.reshape(rows * cell, across, hands * cell)
    ink = np.pad(ink, [(gap, gap), (0, 0), (gap // 2, gap // 2)])
    imsave(path, 1 - 0.9 * ink.reshape(len(ink), -1), cmap="gray", vmin=0, vmax=1)


class _Character(NamedTuple):
    """What makes a class: the strokes' numbers, and how each hangs on an earlier one."""

    shape: Doubles  # [M, 4] direction, bend, sway, corner (radians)
    at: Doubles  # [M] where the corner is, fraction of the stroke
    length: Doubles  # [M] page sides, before the character is fitted to the page
    parent: NDArray[np.int64]  # [M] the earlier stroke
    hook: Doubles  # [M, 2] fraction along the parent, and along itself, where the two meet
    offset: Doubles  # [M, 2] from that point; most strokes touch
    size: float  # longer side, in page sides


def _check(what: str, asked: Sequence[int], count: int) -> None:
    for i in asked:
        if not 0 <= i < count:
            raise IndexError(f"{what} {i} asked for; glyphs has {count} (0..{count - 1})")


def _rng(seed: int, *place: int) -> np.random.Generator:
    # spawn_key, since default_rng((s, c)) and default_rng((s, c, 0)) are one and the same stream
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))


def _character(c: int, seed: int) -> _Character:
    rng = _rng(seed, c)
    strokes = int(rng.choice([1, 2, 3, 4], p=[0.08, 0.35, 0.37, 0.2]))
    u = rng.random((16, STROKES))
    # Chances that a stroke bends, sways, turns; a lone plain stroke would collide with others
    bends, sways, turns = (1.0, 0.8, 0.5) if strokes == 1 else (0.55, 0.15, 0.25)
    # Writing prefers the compass directions, and of these the vertical and horizontal
    direction = np.where(u[0] < 0.6, 2 * np.floor(4 * u[1]), np.floor(8 * u[1])) * np.pi / 4
    direction += 0.3 * (u[12] - 0.5)
    parent = np.floor(u[15] * np.arange(STROKES)).astype(np.int64)
    for m in range(1, strokes):  # a stroke leaves its parent at an angle, or the two would blot
        direction[m] += np.pi / 2 * (abs(np.cos(direction[m] - direction[parent[m]])) > 0.8)
    sign, arc = np.sign(u[4:7] - 0.5), np.where(u[2] < 0.75, 1.2 + 2.3 * u[3], 4.5 + 1.7 * u[3])
    bend = sign[0] * arc * (u[7] < bends)
    sway = sign[1] * (8 + 9 * u[8]) * (u[9] < sways)
    corner = sign[2] * (1.2 + 1.4 * u[10]) * (u[11] < turns)
    hooks, own = rng.choice([0, 0.25, 0.5, 0.75, 1], STROKES), rng.choice([0, 0, 0.5], STROKES)
    apart = rng.random((STROKES, 1)) < 0.3
    return _Character(
        shape=np.stack([direction, bend, sway, corner], -1)[:strokes],
        at=(0.25 + 0.5 * u[13])[:strokes],
        length=np.where(np.arange(STROKES) == 0, 0.9, 0.45 + 0.6 * u[14])[:strokes],
        parent=parent[:strokes],
        hook=np.stack([hooks, own], -1)[:strokes],
        offset=np.where(apart, rng.uniform(-0.4, 0.4, (STROKES, 2)), 0)[:strokes],
        size=rng.uniform(0.66, 0.84),
    )


def _write(c: int, drawings: list[int], seed: int) -> tuple[Doubles, Doubles]:
    """Points under the pen [E, M T, 2] (x right, y down) and its radius [E], in page sides."""
    a = _character(c, seed)
    noise = np.empty((len(drawings), 7 + STROKES * 12))
    for row, e in zip(noise, drawings, strict=True):
        row[:] = _rng(seed, c, e).standard_normal(len(row))
    noise = HAND * noise.clip(-2.2, 2.2)  # a hand varies; it does not slip off the page
    z, page = noise[:, 7:].reshape(-1, STROKES, 12)[:, : len(a.at)], noise[:, :7].T

    shape = a.shape + z[..., :4] * [0.07, 0.2, 0.9, 0.15]
    length = a.length * np.exp(0.09 * z[..., 4]) / POINTS
    hook = np.clip(a.hook + 0.035 * z[..., 5:7], 0, 1)
    offset = a.offset + 0.02 * z[..., 7:9]
    at = a.at + 0.03 * z[..., 9]

    t = (np.arange(POINTS) + 0.5) / POINTS
    turned = (1 + np.tanh((t - at[..., None]) / 0.04)) / 2  # a corner is a little round
    tremor = z[..., 10:11] * np.sin(9 * t) + z[..., 11:] * np.cos(14 * t)
    smooth = shape[..., :3] @ np.stack([np.ones(POINTS), t - 0.5, (t - 0.5) ** 2 - 1 / 12])
    heading = smooth + shape[..., 3:] * turned + 0.06 * tremor
    step = np.stack([np.cos(heading), np.sin(heading)], -1) * length[..., None, None]
    points = np.cumsum(step, 2)

    each = np.arange(len(drawings))
    on, own = np.rint(hook * (POINTS - 1)).astype(np.int64).transpose(2, 1, 0)
    for m in range(1, len(a.at)):
        target = points[each, a.parent[m], on[m]] + offset[:, m]
        points[:, m] += (target - points[each, m, own[m]])[:, None]

    turn, shear, aspect = 0.06 * page[0], 0.1 * page[1], np.exp(0.05 * page[2])
    x, y = points.reshape(len(drawings), -1, 2).transpose(2, 1, 0)
    x, y = aspect * (x - shear * y), y / aspect
    line = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], -1)
    low, high = line.min(0), line.max(0)
    fit = a.size * np.exp(0.06 * page[3]) / (high - low).max(-1)
    line = (line - (low + high) / 2) * fit[:, None] + 0.5 + 0.02 * page[4:6].T
    return line.swapaxes(0, 1), 0.025 * np.exp(0.12 * page[6])


def _ink(points: Doubles, pen: Doubles, size: int) -> Floats:
    """Pages [E, S, S]: ink within a pen's radius of a point, with an edge about a pixel wide."""
    pixel = (np.arange(size) + 0.5) / size
    apart = ((points[..., None] - pixel) ** 2).astype(np.float32)  # [E, M T, 2, S]
    near = np.full((len(points), size, size), 2, np.float32)
    for i in range(points.shape[1]):  # a point at a time: the pages stay in cache
        np.minimum(near, apart[:, i, 1, :, None] + apart[:, i, 0, None, :], out=near)
    edge = pen.astype(np.float32)[:, None, None] - np.sqrt(near)
    return np.asarray(np.clip(0.5 + size * edge, 0, 1), np.float32)


def _pool(pages: Floats, side: int) -> Floats:
    """Means of pages [N, S, S, K] over side x side equal tiles: [N, side, side, K]."""
    n, s, _, k = pages.shape
    tiles = pages.reshape(n, side, s // side, side, s // side, k)
    return np.asarray(tiles.mean((2, 4)), np.float32)


def _convolve(pages: Floats, filters: Floats, threshold: float = 0.0) -> Floats:
    """ReLU of pages [N, S, S, K] filtered by [K, w, w, F], blank beyond the edge: [N, S, S, F]."""
    k, w, _, f = filters.shape
    padded = np.pad(pages, [(0, 0), (w // 2, w // 2), (w // 2, w // 2), (0, 0)])
    patches = sliding_window_view(padded, (w, w), (1, 2)).reshape(-1, pages.shape[2], k * w * w)
    # One product a row of pixels: a page's features do not depend on its neighbours in the batch,
    # and products are too small for BLAS to share among threads, which wait longer than they work.
    out: Floats = np.maximum(patches @ filters.reshape(-1, f) - threshold, 0)
    return out.reshape(*pages.shape[:3], f)


@cache
def _gabors() -> Floats:
    """[1, 7, 7, 16]: 8 orientations, even (a line) and odd (an edge), each of zero mean."""
    y, x = np.mgrid[-3:4, -3:4]
    angle = np.arange(8) * np.pi / 8
    along = x[..., None] * np.cos(angle) + y[..., None] * np.sin(angle)
    window = np.exp(-(x**2 + y**2) / (2 * 1.8**2))[..., None]
    waves = np.concatenate([np.cos(1.4 * along), np.sin(1.4 * along)], -1) * window
    waves -= window * waves.sum((0, 1)) / window.sum()
    return np.asarray((waves / np.linalg.norm(waves, axis=(0, 1)))[None], np.float32)


@cache
def _random_filters() -> Floats:
    """[16, 5, 5, F / GRID^2]: Gaussian, the squares of a filter's weights summing to about 1."""
    shape = (_gabors().shape[-1], 5, 5, FEATURES // GRID**2)
    weights = _rng(0, CLASSES).standard_normal(shape)  # a stream that no class uses
    return np.asarray(weights / np.sqrt(np.prod(shape[:3])), np.float32)
