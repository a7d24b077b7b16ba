"""The example of a measure: trained, drawn, loaded in a fresh process, stopped and resumed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ih_jax as ih

pytestmark = pytest.mark.users_code

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_measure.py"
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


def in_a_fresh_process(program: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT + program, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The study trained and drawn in whole/; in half/, one process has left the rest undone."""
    folder = tmp_path_factory.mktemp("own_measure")
    program = """
study = found['study']
found['after'](study.train(sys.argv[1] + '/whole', progress=False, width=2))
study.train(sys.argv[1] + '/half', progress=False, width=2, share='0/2')
"""
    in_a_fresh_process(program, folder)
    return folder


@pytest.fixture(scope="module")
def measured(folder) -> Path:
    """The same after another process has resumed half/, loaded both and measured them again."""
    program = """
found['study'].train(sys.argv[1] + '/half', progress=False, resume=True)
for name in ('whole', 'half'):
    t = ih.load(sys.argv[1] + '/' + name)
    t.measure(found['spread'], sequences=16).to_netcdf(sys.argv[1] + '/' + name + '.nc')
"""
    in_a_fresh_process(program, folder)
    return folder


def test_it_is_as_short_as_the_documentation_says():
    assert 20 <= len(EXAMPLE.read_text().splitlines()) <= 40


def test_it_ends_in_a_figure(folder):
    assert (folder / "whole" / "own_measure.png").read_bytes().startswith(b"\x89PNG")


def test_results_have_the_dims_that_the_measure_names(measured):
    found = xr.load_dataarray(measured / "whole.nc")
    assert found.name == "spread"
    assert found.dims == ("clamp", "init", "sequences", "layer", "head")
    assert (found.sizes["layer"], found.sizes["head"]) == (2, 4)
    assert found.attrs["units"] == "tokens"
    assert np.all((found > 0.999) & (found < 5.001))  # of the five tokens of a sequence
    # A query whose attention is held on the previous token attends to that one token.
    held = found.sel(clamp="previous token", layer=0, head=[0, 1])
    np.testing.assert_allclose(held, 1, atol=1e-4)
    assert np.all(found.sel(clamp="none", sequences=0) > 1.5)


def test_stopped_half_way_it_goes_on_to_the_same_measurements(measured):
    assert ih.load(measured / "half").finished
    half, whole = (xr.load_dataarray(measured / f"{name}.nc") for name in ("half", "whole"))
    xr.testing.assert_identical(half, whole)
