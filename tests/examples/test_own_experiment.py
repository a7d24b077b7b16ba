"""The example of an experiment of one's own: trained, decided, drawn, resumed, drawn afresh."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.users_code

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_experiment.py"


def ih_jax(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "ih_jax.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(cwd / "cache")},
    )


RUN = ("run", "own_experiment.py", "--seeds", 2, "--scale", 0.001)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example run at a thousandth of its length."""
    made = tmp_path_factory.mktemp("own")
    shutil.copy(EXAMPLE, made)
    done = ih_jax(*RUN, cwd=made)
    assert done.returncode == 0, done.stderr
    return made


def contents(results):
    return {path.name: path.read_bytes() for path in results.iterdir() if path.is_file()}


def test_the_example_is_short():
    assert 20 <= len(EXAMPLE.read_text().splitlines()) <= 40


def test_results_claims_and_figure_are_in_the_folder(folder):
    results = folder / "results" / "given-attention"
    assert {"README.md", "card.json", "figure.png", "figure.svg", "results.nc"} <= {
        path.name for path in results.iterdir()
    }
    readme = (results / "README.md").read_text()
    assert "Given its attention, a head learns sooner." in readme
    assert "**too few networks**" in readme  # a thousandth of the training tells nothing
    assert "own_experiment.py --seeds 2 --scale 0.001" in readme


def test_plot_in_a_fresh_process_gives_the_same_bytes(folder):
    results = folder / "results" / "given-attention"
    before = contents(results)
    (results / "figure.png").unlink()
    drawn = ih_jax("plot", "results/given-attention", cwd=folder)
    assert drawn.returncode == 0, drawn.stderr
    assert "sooner" in drawn.stdout
    assert contents(results) == before


def test_resume_neither_trains_nor_measures_again(folder):
    resumed = ih_jax(*RUN, "--resume", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "already trained" in resumed.stdout
    assert "its results are already in" in resumed.stdout


def test_changed_code_is_measured_again_and_a_moved_file_is_named(folder):
    file, moved = folder / "own_experiment.py", folder / "moved.py"
    file.write_text(file.read_text() + "\n# changed\n")
    again = ih_jax(*RUN, "--resume", cwd=folder)
    assert "measuring given-attention" in again.stdout, again.stderr
    file.rename(moved)
    lost = ih_jax("plot", "results/given-attention", cwd=folder)
    assert lost.returncode == 2
    assert "--file" in lost.stderr
    assert lost.stderr.count("\n") == 1
    found = ih_jax("plot", "results/given-attention", "--file", "moved.py", cwd=folder)
    assert found.returncode == 0, found.stderr
