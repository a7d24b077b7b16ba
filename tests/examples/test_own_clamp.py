"""The example of a clamp kind: trained, drawn, loaded in a fresh process, stopped and resumed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ih_jax as ih
from ih_jax.clamps.kind import KINDS

pytestmark = pytest.mark.users_code

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


def in_a_fresh_process(program: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SHORT + program, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The study trained and drawn in whole/; in half/, one process has left the rest undone."""
    folder = tmp_path_factory.mktemp("own_clamp")
    program = """
study = found['study']
found['after'](study.train(sys.argv[1] + '/whole', progress=False, width=2))
study.train(sys.argv[1] + '/half', progress=False, width=2, share='0/2')
"""
    in_a_fresh_process(program, folder)
    return folder


@pytest.fixture(scope="module")
def said(folder) -> list[str]:
    """What another process says that loads whole/ and resumes half/."""
    program = """
t = ih.load(sys.argv[1] + '/whole')
print(t.study.clamps['2 back'])
looks = t.measure(lambda params, clamp, probe: ih.apply(params, probe, clamp).pattern[0])
held = looks.sel(clamp='2 back').isel(sequences=-1).values
print(float(held[:, :, :2, -1, -3].min()))
print(ih.load(sys.argv[1] + '/half').card.get('finished', False))
found['study'].train(sys.argv[1] + '/half', progress=False, resume=True)
"""
    return in_a_fresh_process(program, folder)


def test_it_is_as_short_as_the_documentation_says():
    lines = [line for line in EXAMPLE.read_text().splitlines() if line.strip()]
    assert len(lines) <= 40


def test_it_ends_in_a_figure(folder):
    assert (folder / "whole" / "own_clamp.png").read_bytes().startswith(b"\x89PNG")


def test_another_process_loads_it_and_finds_the_clamp(said):
    assert said[0] == "look_back(0, [0, 1], 2)"
    assert float(said[1]) == 1  # the query attends to the token two places back


def test_stopped_half_way_it_goes_on_to_the_same_bits(folder, said):
    assert said[2] == "False"
    again, whole = ih.load(folder / "half").results, ih.load(folder / "whole").results
    assert np.isfinite(whole["loss"]).all()
    xr.testing.assert_identical(again, whole)


def test_a_process_that_does_not_know_the_kind_is_told_to_import_it(folder, monkeypatch):
    text = ih.load(folder / "whole").card["study"]["clamps"]["2 back"]
    monkeypatch.delitem(KINDS, "look_back", raising=False)  # the documentation has it, too
    with pytest.raises(ih.UserError, match=r"'look_back'.*import the module") as error:
        ih.Clamp.from_json(text)
    assert "\n" not in str(error.value)
