"""The example of a recipe: trained, drawn, loaded in a fresh process, stopped and resumed."""

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
    task.replace(batch=4, evaluation_sequences=8, length=12, back=3),
    **{{**settings, "tokens": 480, "d_model": 16, "evaluate": [0, 240, 480], "checkpoints": [480]}},
)
import own_recipe as example
"""
TRAIN = """
example.after(example.study.train(sys.argv[1] + '/whole', progress=False, width=1))
example.study.train(sys.argv[1] + '/half', progress=False, width=1, share='0/2')
"""
# Another process finds the recipe by the card; the study itself is needed to resume.
READ = """
t = ih.load(sys.argv[1] + '/whole')
print(t.study.task.data)
print(t.results['loss'].dims, len(t.study.groups))
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
    folder = tmp_path_factory.mktemp("own_recipe")
    in_a_fresh_process(TRAIN, folder)
    return folder


@pytest.fixture(scope="module")
def said(folder) -> list[str]:
    return in_a_fresh_process(READ, folder)


@pytest.fixture
def echoes(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import own_recipe

    return own_recipe.Echoes


def test_it_is_as_short_as_the_documentation_says():
    lines = (EXAMPLES / "own_recipe.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 40


def test_it_ends_in_a_figure(folder):
    assert (folder / "whole" / "own_recipe.png").read_bytes().startswith(b"\x89PNG")


def test_another_process_loads_it_by_its_card(said):
    assert said[0].startswith("Echoes(")
    assert "length=12, back=3" in said[0]


def test_shares_are_an_axis_of_one_program(said):
    assert said[1] == "('clamp', 'init', 'share', 'tokens') 1"


def test_stopped_half_way_it_goes_on_to_the_same_bits(folder, said):
    assert said[2] == "False"
    again, whole = (xr.load_dataset(folder / each / "results.nc") for each in ("half", "whole"))
    assert np.isfinite(whole["loss"]).all()
    xr.testing.assert_identical(again, whole)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_tokens_echo_as_often_as_they_should(echoes, share):
    recipe = echoes(tokens=50, length=40, back=3, share=share)
    tokens = np.asarray(recipe.sample(jax.random.key(0), {"share": share}, 64).tokens)
    assert tokens.shape == (64, 40)
    assert (tokens[:, 0] == recipe.bos).all()
    assert tokens[:, 1:].max() < recipe.tokens
    echoed = (tokens[:, 4:] == tokens[:, 1:-3]).mean()
    by_chance = 1 / recipe.tokens
    assert abs(echoed - (share + (1 - share) * by_chance)) < 0.05


def test_a_token_before_the_sequence_is_refused(echoes):
    with pytest.raises(ih.UserError, match="give 1 to 11"):
        echoes(length=12, back=12)
