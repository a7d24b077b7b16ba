"""Which runs a page shows."""

import pytest

import ih_jax as ih
from ih_jax.reports.viewer import fitting


def test_runs_are_those_that_were_asked_for_or_as_many_as_fit():
    assert fitting.shown(None, 3) == [0, 1, 2]
    assert fitting.shown(None, 10**6) == list(range(fitting.MOST_RUNS))
    assert fitting.shown([2, 0, 2], 3) == [2, 0]
    with pytest.raises(ih.UserError, match="runs is empty"):
        fitting.shown([], 3)
    for wrong in (-1, 3, 10**9):
        with pytest.raises(ih.UserError, match=rf"run {wrong} is out of range: .* runs 0..2"):
            fitting.shown([0, wrong], 3)
