"""Folders that are not whole are shown as far as they can be, with a word about the rest."""

import json
import re
import shutil

import pytest
import viewed_runs

import ih_jax as ih
from ih_jax.reports.viewer.viewing import view


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewing") / "run"
    viewed_runs.language(folder)
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def sweeps_of(page):
    text = re.search(r'id="about">(.*?)</script>', page.html, re.DOTALL).group(1)
    return json.loads(text)["sweeps"]


def change_card(folder, change):
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def test_a_sweep_that_is_still_training_is_shown_as_far_as_it_is(copied):
    change_card(copied, lambda card: card.update(finished=False))
    (copied / "results.nc").unlink()
    (about,) = sweeps_of(view(copied))
    assert not about["finished"]
    assert "has not finished" in about["notes"][0]
    assert all(run["steps"] for run in about["runs"])


def test_a_study_that_cannot_be_made_again_has_its_curves(copied):
    change_card(
        copied, lambda card: card["study"]["clamps"].update(none='[{"kind": "gone with its file"}]')
    )
    page = view(copied)
    (about,) = sweeps_of(page)
    assert "Only curves can be shown" in about["notes"][0]
    assert "gone with its file" in about["notes"][0]
    assert [run["steps"] for run in about["runs"]] == [[], []]
    assert all(run["found"]["loss"] > 0 for run in about["runs"])
    (chosen,) = sweeps_of(view(copied, runs=[1]))
    assert [run["id"] for run in chosen["runs"]] == [1]
    assert chosen["runs"][0]["found"] == about["runs"][1]["found"]
    (copied / "results.nc").unlink()
    with pytest.raises(ih.UserError, match="gone with its file"):
        view(copied)


def test_an_experiment_shows_its_trainings(copied, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    card = {"experiment": "mine", "trainings": [{"name": "one", "folder": "../copy"}] * 2}
    (folder / "card.json").write_text(json.dumps(card))
    page = view(folder, megabytes=2)
    assert "<title>mine</title>" in page.html
    assert len(sweeps_of(page)) == 2
    with pytest.raises(ih.UserError, match="2 trainings"):
        view(folder, runs=[0])
    shutil.rmtree(copied)
    with pytest.raises(ih.UserError, match="one, which is not at"):
        view(folder)


def test_other_folders_are_refused_in_a_line(tmp_path):
    with pytest.raises(ih.UserError, match="no run card"):
        view(tmp_path)
    (tmp_path / "card.json").write_text('{"experiment": "x", "trainings": []}')
    with pytest.raises(ih.UserError, match="no trainings"):
        view(tmp_path)
