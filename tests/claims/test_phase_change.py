"""The shape of learning curves: phase changes, bumps, falls."""

import numpy as np
import pytest

from ih_jax.claims import phase_change as changes
from ih_jax.errors import UserError

SEEN = np.linspace(0, 8e6, 101)  # tokens


def score_curve(middle: float = 2.4e6, width: float = 1e5, fall: float = -0.6) -> np.ndarray:
    """0, soon a plateau at -.08, a sudden fall, and a slow one to the end."""
    sudden = fall / (1 + np.exp(-(SEEN - middle) / width))
    early = -0.08 * (1 - np.exp(-SEEN / 2e5))
    return early + sudden - 0.05 * np.maximum(SEEN - middle, 0) / 8e6


@pytest.mark.parametrize("noise", [0, 0.02])
@pytest.mark.parametrize("seed", range(5))
def test_a_phase_change_is_where_the_score_falls(noise: float, seed: int) -> None:
    curve = score_curve() + noise * np.random.default_rng(seed).normal(size=101)
    found = changes.phase_change(curve, SEEN)
    assert found is not None
    # Three quarters of a logistic curve are within 1.95 widths on either side.
    assert 2.4e6 - 3.6e5 <= found.start < 2.4e6 < found.end <= 2.4e6 + 3.6e5
    assert abs(found.middle - 2.4e6) < 1e5
    assert -0.68 < found.change < -0.45
    assert 0.65 < found.share < 1
    assert 0.03 < found.duration < 0.09
    np.testing.assert_allclose(found.duration, (found.end - found.start) / 8e6)


@pytest.mark.parametrize("seed", range(5))
def test_a_score_that_does_not_change_has_no_window(seed: int) -> None:
    noise = 0.03 * np.random.default_rng(seed).normal(size=101)
    assert changes.phase_change(noise, SEEN) is None
    early = -0.11 * (1 - np.exp(-SEEN / 1e6))  # what one layer learns
    assert changes.phase_change(early + noise, SEEN) is None
    assert changes.phase_change(-score_curve() + noise, SEEN) is None  # it rises


def test_windows_of_odd_curves() -> None:
    step = np.where(SEEN < 1e6, 0.0, -0.5)
    found = changes.phase_change(step, SEEN)
    assert found is not None
    assert (found.start, found.end) == (960_000, 1_040_000)
    assert found.share == 1
    # At once: before there is a plateau.
    soon = changes.phase_change(score_curve(1.5e5, 4e4), SEEN)
    assert soon is not None
    assert soon.end <= 4e5
    # A slow fall all along is one long window, and no phase change to look at.
    slow = changes.phase_change(-0.5 * SEEN / 8e6, SEEN)
    assert slow is not None
    assert slow.duration > 0.6
    # A plateau that lies low is left out, so that the window does not reach back to the beginning.
    low = score_curve() - 0.25 * (1 - np.exp(-SEEN / 2e5))
    window = changes.phase_change(low, SEEN)
    assert window is not None
    assert window.duration < 0.09
    assert window.share < 0.75
    # Past the horizon of a shorter run there is nothing.
    short = np.where(SEEN > 5e6, np.nan, score_curve())
    again, whole = (changes.phase_change(each, SEEN) for each in (short, score_curve()))
    assert again is not None
    assert whole is not None
    assert (again.start, again.end) == (whole.start, whole.end)
    with pytest.raises(UserError, match="3 snapshots"):
        changes.phase_change([0, 0, -1], [0, 1, 2])


def test_a_bump_is_what_a_loss_curve_has_above_its_hull() -> None:
    convex = 2 + 1.5 * np.exp(-SEEN / 1e6)
    assert changes.bump(convex, SEEN).height < 1e-12
    # A straight line from 3 to 1, and in its middle a shoulder of .5.
    line = 3 - 2 * SEEN / 8e6
    found = changes.bump(line + 0.5 * (np.arange(101) == 50), SEEN)
    np.testing.assert_allclose(found, (0.5, 4e6))
    plateau = convex + score_curve()
    assert 0.2 < changes.bump(plateau, SEEN).height < 0.6
    assert 5e5 < changes.bump(plateau, SEEN).tokens < 2.4e6
    noisy = convex + 0.01 * np.random.default_rng(0).normal(size=101)
    assert changes.bump(noisy, SEEN).height < 0.06
    gone = np.where(SEEN > 7e6, np.nan, convex)
    assert changes.bump(gone, SEEN).height < 1e-12


def test_the_largest_fall_counts_what_formed_before_against_its_share() -> None:
    tokens = np.arange(101) * 1e5
    # To -.2 at once, a plateau, then to -1 within a tenth of training.
    score = np.where(tokens < 1e5, 0.0, -0.2) - 0.8 * np.clip((tokens - 5e6) / 1e6, 0, 1)
    fall, share = changes.largest_fall(score, tokens)
    assert fall == pytest.approx(0.8, abs=1e-6)
    assert share == pytest.approx(0.8, abs=1e-6)
    slow = -np.linspace(0, 1, 101)
    assert changes.largest_fall(slow, tokens)[0] == pytest.approx(0.2, abs=0.02)
    assert changes.largest_fall(slow, tokens, within=0.5)[0] == pytest.approx(0.5, abs=0.02)
    assert changes.largest_fall(np.full(101, 0.1), tokens) == (0, 0)
    known = np.where(np.arange(101) % 7 == 3, np.nan, score)
    assert changes.largest_fall(known, tokens)[0] == pytest.approx(0.8, abs=1e-6)
