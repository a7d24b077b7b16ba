"""The example of a task: trained, drawn, loaded in a fresh process, stopped and resumed."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

import ih_jax as ih

pytestmark = pytest.mark.users_code

EXAMPLES = Path(__file__).parents[2] / "examples"
# The example with little to do.
SHORT = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import ih_jax as ih
sweep = ih.sweep
ih.sweep = lambda task, **settings: sweep(
    task.replace(batch=16, evaluation_sequences=32, examples=4),
    **{{**settings, "sequences": 640, "d_model": 16, "evaluate": [0, 320, 640],
       "checkpoints": [0, 640]}},
)
import linear_regression as example
"""
TRAIN = """
example.after(example.study.train(sys.argv[1] + '/whole', progress=False, width=1))
example.study.train(sys.argv[1] + '/half', progress=False, width=1, share='0/2')
"""
# Another process finds the task by its card; the study itself is needed to resume.
READ = """
t = ih.load(sys.argv[1] + '/whole')
print(t.study.task)
found = t.measure(example.errors)
print(found.network.dims, found.sizes['seen'])
print(float(found.least_squares.sel(seen=[2, 3]).max()) < 0.1)
print(ih.load(sys.argv[1] + '/half').card.get('finished', False))
example.study.train(sys.argv[1] + '/half', progress=False, resume=True)
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
    folder = tmp_path_factory.mktemp("linear_regression")
    in_a_fresh_process(TRAIN, folder)
    return folder


@pytest.fixture(scope="module")
def said(folder) -> list[str]:
    return in_a_fresh_process(READ, folder)


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import linear_regression

    return linear_regression


def test_it_is_as_short_as_the_documentation_says():
    lines = (EXAMPLES / "linear_regression.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 40


def test_it_ends_in_a_figure(folder):
    assert (folder / "whole" / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_another_process_loads_it_by_its_card(said):
    assert said[0].startswith("LinearRegression(")
    assert "examples=4" in said[0]


def test_errors_are_by_the_number_of_examples_seen(said):
    assert said[1] == "('clamp', 'init', 'sequences', 'seen') 3"
    assert said[2] == "True"  # two examples or more decide two weights


def test_stopped_half_way_it_goes_on_to_the_same_bits(folder, said):
    assert said[3] == "False"
    again, whole = (xr.load_dataset(folder / each / "results.nc") for each in ("half", "whole"))
    assert np.isfinite(whole["loss"]).all()
    xr.testing.assert_identical(again, whole)


def test_each_sequence_has_weights_of_its_own_and_ends_in_its_last_y(example):
    task = example.LinearRegression(dimensions=3, examples=6)
    batch = task.sample(jax.random.key(0), {}, 4)
    x, y = np.asarray(batch.vectors[:, ::2]), np.asarray(batch.targets)
    assert x.shape == (4, 6, 3)
    np.testing.assert_array_equal(batch.vectors[:, 1::2, 0], y)
    assert not batch.vectors[:, 1::2, 1:].any()
    fitted = [np.linalg.lstsq(x[n], y[n])[0] for n in range(4)]
    for n, w in enumerate(fitted):
        np.testing.assert_allclose(x[n] @ w, y[n], atol=1e-5)
    assert len({tuple(w.round(3)) for w in fitted}) == 4


def test_the_loss_is_of_y_at_each_x(example):
    batch = example.LinearRegression().sample(jax.random.key(0), {}, 4)
    config = ih.Config(features=2, labels=1, layers=1, d_model=8, heads=1)
    params = ih.init(jax.random.key(1), config)
    sites = ih.apply(params, batch)
    told = np.asarray(sites.logits)[:, [0, 2, 4, 6, 8, 10, 12, 14], 0]
    expected = np.mean((told - batch.targets) ** 2)
    np.testing.assert_allclose(example.LinearRegression().loss(sites, batch), expected, rtol=1e-6)
