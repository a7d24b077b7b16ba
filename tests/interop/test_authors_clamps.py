"""Options of the authors' code as clamps, and golden numbers of real features where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

import ih_jax as ih
from ih_jax.interop.icl_dynamics.clamps import clamp_from_options
from ih_jax.interop.icl_dynamics.options import parse_options

DATA = os.environ.get("IH_JAX_DATA_DIR")


@pytest.mark.parametrize(
    ("options", "clamp"),
    [
        ("", ih.Clamp()),
        ("--opto_ablate_heads 1:3 1:5", ih.ablate(1, [3, 5])),
        (
            "--opto_induction_heads 1:3 --opto_induction_head_strength 0.75",
            ih.induction(1, 3, strength=0.75),
        ),
        (
            "--opto_prev_token_heads 0:2 --opto_prev_token_only_label",
            ih.previous_token(0, 2, rows="label"),
        ),
        ("--opto_perfect_copy_from_head_pattern 1:3", ih.copy_from(1, 3, base="clean")),
        ("--opto_set_head_temperature 1:3:0.5", ih.temperature(1, {3: 0.5}, base="clean")),
        ("--opto_final_layer_silence_non_label_attn 3 5", ih.labels_only(1, [3, 5])),
    ],
)
def test_options_mean_these_clamps(options, clamp):
    assert clamp_from_options(options).clamp == clamp
    assert clamp_from_options(parse_options(options)).clamp == clamp


def test_with_preserved_patterns_only_label_has_no_effect_as_in_that_code():
    options = "--opto_prev_token_heads 0:2 --opto_prev_token_only_label --opto_preserve_patterns"
    expected = ih.preserve("patterns").overlay(ih.previous_token(0, 2))
    assert clamp_from_options(options).clamp == expected


def test_grafts_are_refused_with_the_way_to_make_them():
    with pytest.raises(ih.UserError, match="grafts need weights"):
        clamp_from_options({"opto_graft_in_model_till_layer": 0})


@pytest.mark.skipif(DATA is None, reason="needs Omniglot features: set IH_JAX_DATA_DIR")
def test_on_real_features_a_matched_head_learns_as_in_the_reference():
    """30k sequences to a loss of 0.277 in the authors' code (init seed 5), within 1.6 times."""
    from ih_jax.claims import time_to

    only_h3 = ih.ablate(1, [0, 1, 2, 4, 5, 6, 7])
    study = ih.sweep(
        ih.fewshot(Path(DATA) / "omniglot_small_rot4_efficientnet_lite0.h5"),
        clamp=ih.induction(1, 3) & only_h3,
        init=[5, 6],
        sequences=60_000,
        evaluate=range(0, 60_001, 2_000),
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        results = study.train(folder, progress=False).results
    times = [
        time_to(results["sequences"].values, curve.values)
        for curve in results["loss"].sel(clamp="none")
    ]
    assert not any(censored for _, censored in times)
    assert 30_000 / 1.6 < np.median([time for time, _ in times]) < 30_000 * 1.6


def test_beyond_two_layers_copying_reads_the_shifted_stream():
    """With 3 layers that code's pattern pass has the shifted embedding as its whole stream."""
    options = "--opto_specific_fn perfect_prev_token_input --opto_perfect_copy_from_head_pattern "
    assert clamp_from_options(options + "1:0", 3).base == ih.perfect_previous_layer()
    base = clamp_from_options(options + "2:0", 3).base
    assert [part.held.kind for part in base.parts] == ["rule"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--opto_inductions_heads 1:3", "did you mean 'opto_induction_heads'"),
        ("--opto_ablate_heads 1-3", "layer:head, such as 1:3"),
        ("--opto_induction_heads 1:3 --opto_induction_head_strength x", "give a number"),
        ("1:3", "belongs to no option"),
    ],
)
def test_options_that_say_nothing_are_refused(options, message):
    with pytest.raises(ih.UserError, match=message):
        clamp_from_options(options)


def test_a_value_may_follow_an_equals_sign():
    options = "--opto_induction_heads 1:3 --opto_induction_head_strength=0.75"
    assert clamp_from_options(options).clamp == ih.induction(1, 3, strength=0.75)
