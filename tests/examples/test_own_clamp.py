"""The example of a clamp kind: trained, drawn, loaded in a fresh process, stopped and resumed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ih_jax as ih
from ih_jax.clamps.kind import KINDS

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_clamp.py"
# The example with little to do.
SHORT = f"""
import sys
import runpy
import ih_jax as ih
sweep = ih.sweep
ih.sweep = lambda task, **settings: sweep(
    ih.fewshot(classes=20, labels=5, evaluation_sequences=16),
    **{{**settings, "sequences": 640, "evaluate": [0, 320, 640], "checkpoints": [0, 320, 640]}},
)
found = runpy.run_path({str(EXAMPLE)!r})
"""


def in_a_fresh_process(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SHORT + program, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own_clamp")
    in_a_fresh_process(
        "trajectories = found['study'].train(sys.argv[1], progress=False, width=2)\n"
        "found['after'](trajectories)",
        folder,
    )
    return folder


def test_it_is_as_short_as_the_documentation_says():
    lines = [line for line in EXAMPLE.read_text().splitlines() if line.strip()]
    assert len(lines) <= 40


def test_it_ends_in_a_figure(trained):
    assert (trained / "own_clamp.png").read_bytes().startswith(b"\x89PNG")


def test_another_process_loads_it_and_finds_the_clamp(trained):
    said = in_a_fresh_process(
        "t = ih.load(sys.argv[1])\n"
        "print(t.study.clamps['2 back'])\n"
        "print(t.measure(lambda p, c, b: ih.apply(p, b, c).pattern[0][:, :2, -1, -3].mean())"
        ".sel(clamp='2 back').isel(sequences=-1).values.round(3).tolist())",
        trained,
    ).splitlines()
    assert said[0] == "look_back(0, [0, 1], 2)"
    assert said[1] == "[1.0, 1.0]"  # the query attends to the token two places back


def test_a_process_that_does_not_know_the_kind_is_told_to_import_it(trained):
    clamps = ih.load(trained).card["study"]["clamps"]
    known = dict(KINDS)
    KINDS.pop("look_back", None)
    try:
        with pytest.raises(ih.UserError, match=r"'look_back'.*import the module") as error:
            ih.Clamp.from_json(clamps["2 back"])
    finally:
        KINDS.update(known)
    assert "\n" not in str(error.value)


def test_stopped_half_way_it_goes_on_to_the_same_bits(trained, tmp_path):
    """One process trains its share of the runs; another finds them there and trains the rest."""
    in_a_fresh_process(
        "found['study'].train(sys.argv[1], progress=False, width=2, share='0/2')", tmp_path
    )
    assert not ih.load(tmp_path).card.get("finished")
    in_a_fresh_process("found['study'].train(sys.argv[1], progress=False, resume=True)", tmp_path)
    again, whole = ih.load(tmp_path).results, ih.load(trained).results
    assert np.isfinite(whole["loss"]).all()
    xr.testing.assert_identical(again, whole)
