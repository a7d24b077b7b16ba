"""What a page stores comes back within the rounding that it states."""

import json

import numpy as np
import pytest

from ih_jax.reports.viewer import fitting, packing
from ih_jax.reports.viewer.describing import Looked
from ih_jax.reports.viewer.gathering import pack_run
from ih_jax.reports.viewer.page import in_html, page


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3, 4), (1, 6), (0, 3)])
def test_values_come_back_within_the_error_stated(bits, shape):
    values = np.random.default_rng(0).normal(size=shape) * 30
    packed = packing.pack(values, bits)
    found = packing.unpack(packing.blob({"x": packed}))["x"]
    assert found.shape == shape
    assert np.all(np.abs(found - values) <= packed.error * (1 + 1e-9))
    spread = np.ptp(values) if values.size else 0
    assert packed.error <= 0.501 * spread / (2**bits - 2)


def test_nan_and_infinity_come_back_as_nan():
    values = np.array([[0.0, np.nan], [np.inf, 1.0], [-np.inf, 0.5]])
    found = packing.unpack(packing.blob({"x": packing.pack(values)}))["x"]
    assert np.array_equal(np.isnan(found), ~np.isfinite(values))
    assert np.isnan(packing.pack([np.nan, np.nan]).values).all()


@pytest.mark.parametrize("most", [3, 254, 255, 60_000])
def test_indices_come_back_exactly(most):
    values = np.array([[0, most], [most, 1]])
    found = packing.unpack(packing.blob({"x": packing.indices(values)}))["x"]
    assert np.array_equal(found, values)


def test_arrays_of_a_blob_do_not_run_into_each_other():
    rng = np.random.default_rng(1)
    arrays = {f"a{i}": packing.pack(rng.normal(size=(4, i + 1)), (8, 16)[i % 2]) for i in range(5)}
    found = packing.unpack(packing.blob(arrays))
    for name, packed in arrays.items():
        np.testing.assert_allclose(found[name], packed.values)


def test_what_changes_slowly_is_small():
    slow = np.repeat(np.random.default_rng(2).random((1, 2000)), 50, axis=0)
    fast = np.random.default_rng(2).random((50, 2000))
    sizes = [len(packing.blob({"x": packing.pack(x)})["data"]) for x in (slow, fast)]
    assert sizes[0] < sizes[1] / 20


def test_excluded_logits_do_not_blur_the_others():
    logits = np.array([[10.86, 5.25, -1e9], [10.85, -3.0, -1e9]], np.float32)
    looked = Looked(details={step: {"logits": row} for step, row in enumerate(logits)})
    packed = pack_run(looked)["logits"]
    assert packed.error < 1e-3
    np.testing.assert_allclose(packed.values[:, :2], logits[:, :2], atol=packed.error * 1.01)
    assert np.isnan(packed.values[:, 2]).all()


# --- what fits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fewshot", "language", "other"])
@pytest.mark.parametrize("runs", [1, 50, 5000])
def test_less_is_looked_at_the_less_room_there_is(kind, runs):
    sizes = [2_000.0] * runs
    last = np.inf
    for budget in (1e9, 1e7, 1e6, 1e5):
        room = fitting.room(kind, sizes, 100, budget)
        amount = room.runs * room.checkpoints * room.sequences
        assert 1 <= room.runs <= runs
        assert room.checkpoints >= min(100, fitting.FEWEST_DETAILED)
        assert amount <= last
        assert amount * 2_000 <= budget or (room.runs == 1 and room.sequences <= 3)
        last = amount


def test_checkpoints_kept_are_closer_together_where_the_loss_falls():
    steps = list(range(0, 1001, 10))
    loss = 1 / (1 + np.exp((np.array(steps) - 500) / 10))
    kept = fitting.spread(steps, 20, steps, loss.tolist())
    assert kept[0] == 0 and kept[-1] == 1000 and len(kept) <= 20
    assert kept == sorted(set(kept)) and set(kept) <= set(steps)
    near = [abs(step - 500) <= 50 for step in kept]
    assert sum(near) >= 6  # of 20, in a tenth of the time
    assert fitting.spread(steps, 200, steps, loss.tolist()) == steps
    assert fitting.spread([7], 5, [], []) == [7]


# --- the page as text ---------------------------------------------------------------------------

NASTY = "</script><script>alert(1)</script><!-- \" ' & \u2028 é"


def test_nothing_in_json_ends_its_element():
    text = in_html({"name": NASTY, "x": [float("nan"), float("inf"), 1.5], NASTY: 1})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"name": NASTY, "x": [None, None, 1.5], NASTY: 1}


def test_a_page_names_no_other_place_and_shows_its_title_as_text():
    text = page(NASTY, [], {})
    assert "<script>alert" not in text
    assert "default-src 'none'" in text
    # The library's licence names where it is from; nothing else has an address but SVG's name.
    addresses = {word for word in text.split('"') if word.startswith(("http:", "https:", "//"))}
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "Leon Sorokin" in text
