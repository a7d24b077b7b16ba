"""The phase change of a language model: its window, its bump in the loss, and where networks go.

Paper: Olsson et al. 2022, arguments 1 and 2 and "Per-token losses". In NumPy, from what
`measures.context` gives over training.

Glossary: S snapshots of one run, N snapshots of many, T tokens of a sequence; nats throughout.
Positions and indices are those of the token that is predicted, 1 to T - 1 (BOS is 0).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ih_jax.errors import UserError

SHARE = 0.75  # of the change, that a phase change's window holds (Olsson et al. 2022, argument 1)
LEAST = 0.15  # nats; a smaller change of the in-context learning score does not count
NEAR = 2**0.5  # half an octave of indices on either side
STILL = 0.05  # of the travel before; a network that goes no further has no direction
FEWEST = 5  # snapshots in which a phase change can be seen
NOISE_OF_DIFFERENCES = 1.4826 / 2**0.5  # standard deviation, of normal noise, over their median


def derivative_by_log_index(losses: ArrayLike, factor: float = NEAR) -> np.ndarray:
    """[..., T - 1]: d loss / d ln(index), of losses [..., T - 1].

    Olsson et al. 2022: before the phase change about 0 beyond the first tens of tokens, after it
    negative to the end of the context. At each index it is the slope of the least-squares line
    through all indices within the factor, and next to it: late ones lie so close in ln(index) that
    differences of neighbours are noise.
    """
    values = np.asarray(losses, float)
    return _slopes_nearby(values, np.log(np.arange(1, values.shape[-1] + 1)), factor)


def derivative_by_log_tokens(
    loss: ArrayLike, tokens: ArrayLike, factor: float = NEAR
) -> np.ndarray:
    """[..., S]: d loss / d ln(tokens seen); NaN where none were seen.

    Olsson et al. 2022, "loss derivative" by model size. Slopes of lines, as in
    `derivative_by_log_index`.

    Args:
        loss: [..., S].
        tokens: [S], rising.
        factor: how far the line through each reaches, in tokens.
    """
    values, seen = np.asarray(loss, float), np.asarray(tokens, float)
    found = np.full(values.shape, np.nan)
    some = seen > 0
    found[..., some] = _slopes_nearby(values[..., some], np.log(seen[some]), factor)
    return found


def _slopes_nearby(values: np.ndarray, x: np.ndarray, factor: float) -> np.ndarray:
    """[..., S]: slopes of the lines through all of x [S] within ln(factor), and the next ones."""
    place = np.arange(len(x))
    near = np.abs(x[:, None] - x) <= np.log(factor)
    near |= np.abs(place[:, None] - place) <= 1
    centred = np.where(near, x - (near @ x / near.sum(1))[:, None], 0)
    return values @ (centred / np.sum(centred**2, axis=1, keepdims=True)).T


class Components(NamedTuple):
    """Principal components of per-token losses."""

    coordinates: np.ndarray  # [N, count], nats
    explained: np.ndarray  # [count], shares of the variance
    directions: np.ndarray  # [count, B], orthonormal
    mean: np.ndarray  # [B]


def principal_components(vectors: ArrayLike, count: int = 2) -> Components:
    """The first principal components of vectors [N, B]: snapshots of all models of a kind together.

    Olsson et al. 2022, "per-token losses": centred, not scaled. The sign of a direction is such
    that its largest element is positive.

    Raises:
        UserError: a vector is not finite (leave out snapshots past a run's horizon), or there are
            too few for so many components.
    """
    values = np.asarray(vectors, float)
    if not np.isfinite(values).all():
        raise UserError("per-token losses are not finite: leave out snapshots past the horizon")
    if not 1 <= count <= min(values.shape):
        raise UserError(f"{count} components of vectors {values.shape}: give 1 to the lesser size")
    mean = values.mean(0)
    _, sizes, directions = np.linalg.svd(values - mean, full_matrices=False)
    directions = directions[:count]
    largest = np.abs(directions).argmax(1)
    directions *= np.sign(directions[np.arange(count), largest])[:, None]
    total = max(np.sum(sizes**2), np.finfo(float).tiny)
    return Components((values - mean) @ directions.T, sizes[:count] ** 2 / total, directions, mean)


class Window(NamedTuple):
    """When a phase change happened; tokens seen."""

    start: float
    end: float
    middle: float  # where half of the change within the window was made
    change: float  # nats, of the in-context learning score within the window; negative
    share: float  # of the final score, that forms within the window
    duration: float  # share of training that the window takes


def turning_angle(trajectory: ArrayLike, tokens: ArrayLike, window: Window) -> float:
    """Degrees, 0 to 180, between the directions of travel before a window and from there on.

    Before: from the first snapshot to that at the window's start; after: from there to the last,
    through the window, where most of the way is made. NaN where a network, such as one without a
    phase change, all but stands still: where the way after is less than a twentieth of that before
    (or the other way round), noise decides its direction. The window may be another run's, to
    compare with.

    Args:
        trajectory: [S, 2] or [S, count], `Components.coordinates` of one run.
        tokens: [S], rising.
        window: only its start is used.
    """
    path, seen = np.asarray(trajectory, float), np.asarray(tokens, float)
    start = np.abs(seen - window.start).argmin()
    before, after = path[start] - path[0], path[-1] - path[start]
    sizes = np.linalg.norm([before, after], axis=1)
    if not sizes.min() > STILL * sizes.max():
        return float("nan")
    return float(np.degrees(np.arccos(np.clip(before @ after / sizes.prod(), -1, 1))))


def phase_change(
    scores: ArrayLike, tokens: ArrayLike, share: float = SHARE, least: float = LEAST
) -> Window | None:
    """The window in which a run's in-context learning score changes; None where it does not.

    The shortest interval between two snapshots in which at least `share` of the change from the
    score's first plateau to its final value is made. Only the score is looked at, so that whatever
    else happens within the window is a finding. In detail:

    1. The score is smoothed by a running median of three snapshots.
    2. Its final value is the median of the last tenth of the snapshots (three at least).
    3. Its first plateau is the median of those before the steepest fall: that over a twentieth of
       the snapshots. What a network learns early, or before the first snapshots, is left out.
    4. A change of less than `least` nats, or a rise, does not count; nor does one that reaches
       `least` only by the noise of the plateau (twice its standard error, from the differences
       of snapshots).

    Args:
        scores: [S], nats. Snapshots of NaN (past a run's horizon) are left out.
        tokens: [S], tokens seen, rising.
        share: see above.
        least: nats.

    Raises:
        UserError: fewer than 5 snapshots.
    """
    every, over = np.asarray(scores, float), np.asarray(tokens, float)
    known = np.isfinite(every)
    every, over = every[known], over[known]
    count = len(every)
    if count < FEWEST:
        raise UserError(f"{count} snapshots of the score: give {FEWEST} or more")
    smooth, final = _smooth(every)
    step = max(1, count // 20)
    steepest = int(np.argmax(smooth[:-step] - smooth[step:]))
    plateau = float(np.median(smooth[: steepest + 1]))
    noise = float(np.median(np.abs(np.diff(every)))) * NOISE_OF_DIFFERENCES
    if plateau - final - 2 * noise / (steepest + 1) ** 0.5 < least:
        return None
    fall = smooth[:, None] - smooth
    lasting = over - over[:, None]
    enough = (fall >= share * (plateau - final)) & (lasting > 0)
    lasting = np.where(enough, lasting, np.inf)
    if not enough.any():
        return None  # the final value is that of a few snapshots which smoothing does away with
    # Of equally short intervals that with the largest fall.
    best = np.where(np.isclose(lasting, lasting.min()), fall, -np.inf)
    start, end = np.unravel_index(best.argmax(), best.shape)
    made = np.maximum.accumulate(smooth[start] - smooth[start : end + 1])
    change = float(smooth[end] - smooth[start])
    return Window(
        start=float(over[start]),
        end=float(over[end]),
        middle=float(np.interp(-change / 2, made, over[start : end + 1])),
        change=change,
        share=change / final if final else float("nan"),
        duration=float((over[end] - over[start]) / (over[-1] - over[0])),
    )


def largest_fall(scores: ArrayLike, tokens: ArrayLike, within: float = 0.2) -> tuple[float, float]:
    """(nats, share of the final value): the most that a score falls within a share of training.

    Olsson et al. 2022, argument 1: more than 75% of the final in-context learning score forms in
    the window. Smoothed, and with a final value, as in `phase_change`, but without its plateau:
    what formed before counts against the share. (0, 0) for a score that ends at 0 or above.

    Args:
        scores: [S], nats; snapshots of NaN are left out.
        tokens: [S], rising.
        within: of training.
    """
    every, over = np.asarray(scores, float), np.asarray(tokens, float)
    known = np.isfinite(every)
    every, over = every[known], over[known]
    smooth, final = _smooth(every)
    if not final < 0:
        return 0.0, 0.0
    fall = fall_within(smooth, over, within)
    return fall, fall / -final


def fall_within(values: ArrayLike, tokens: ArrayLike, within: float = 0.2) -> float:
    """The most that a curve falls within a share of training; 0 where it never falls.

    Args:
        values: [S], such as nats.
        tokens: [S], rising.
        within: of training.
    """
    curve, over = np.asarray(values, float), np.asarray(tokens, float)
    lasting = over - over[:, None]
    short = (lasting >= 0) & (lasting <= within * (over[-1] - over[0]) * (1 + 1e-9))
    return float(np.where(short, curve[:, None] - curve, 0.0).max())


def _smooth(values: np.ndarray) -> tuple[np.ndarray, float]:
    """A running median of three, and the median of the last tenth (three snapshots at least)."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 3), axis=1)
    return smooth, float(np.median(values[-max(3, len(values) // 10) :]))


class Bump(NamedTuple):
    """Where a learning curve is least convex."""

    height: float  # nats above the lower convex hull
    tokens: float  # where


def bump(loss: ArrayLike, tokens: ArrayLike) -> Bump:
    """The greatest height of a loss curve above its lower convex hull, and where it is.

    Olsson et al. 2022, argument 1: the phase change is the only place of the loss curve, over
    tokens, that is not convex. 0 for a convex curve; noise gives about its own size. For convexity
    in ln(tokens) give that, from the first drop of the loss on: over ln(tokens) every curve begins
    with a shoulder, as long as the loss is that of the first weights.

    Args:
        loss: [S]; snapshots of NaN are left out.
        tokens: [S], rising.
    """
    values, over = np.asarray(loss, float), np.asarray(tokens, float)
    known = np.isfinite(values)
    values, over = values[known], over[known]
    hull: list[int] = []
    for i in range(len(values)):
        while len(hull) > 1:
            a, b = hull[-2:]
            # b is not below the line from a to i.
            rise = (values[i] - values[a]) * (over[b] - over[a])
            if (values[b] - values[a]) * (over[i] - over[a]) < rise:
                break
            hull.pop()
        hull.append(i)
    above = values - np.interp(over, over[hull], values[hull])
    at = int(above.argmax())
    return Bump(float(above[at]), float(over[at]))
