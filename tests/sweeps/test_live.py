"""While a sweep trains: what a function is told, and what a folder says about itself."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import threading

import numpy as np
import pytest
import xarray as xr
from test_sweep import make

import ih_jax as ih
from ih_jax.reports.viewer.viewing import view
from ih_jax.sweeps import hearing, presence, progress
from ih_jax.sweeps.status import status

LONG = {"sequences": 400_000, "evaluate": range(0, 400_001, 4_000), "checkpoints": [0, 400_000]}


def interrupts():
    """What presses Ctrl-C when it hears the first scores."""
    heard = []

    def press(study, runs, step, scores):
        if not heard:
            heard.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    return press


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make().train(tmp_path_factory.mktemp("plain"), progress=False)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A sweep that Ctrl-C stopped early, and how it stood while it trained."""
    folder, seen = tmp_path_factory.mktemp("stopped"), []

    def stop(study, runs, step, scores):
        if not seen:
            seen.append(status(folder))
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(ih.Interrupted):
        make(**LONG).train(folder, progress=False, on_scores=stop)
    return folder, seen[0]


def test_time_spent_before_an_interruption_counts(stopped, tmp_path):
    folder = shutil.copytree(stopped[0], tmp_path / "copy")
    card = ih.load(folder).card
    assert card["seconds"] > 0
    (folder / "card.json").write_text(json.dumps({**card, "seconds": 3_600.0}))
    with pytest.raises(ih.Interrupted):
        make(**LONG).train(folder, progress=False, resume=True, on_scores=interrupts())
    assert 3_600 < ih.load(folder).card["seconds"] < 7_200


def test_on_scores_is_told_what_the_results_hold_and_changes_no_bit(plain, tmp_path):
    told = {}

    def hear(study, runs, step, scores):
        for place, run in enumerate(runs):
            assert (run, step) not in told
            told[run, step] = {name: values[place] for name, values in scores.items()}

    heard = make().train(tmp_path, progress=False, on_scores=hear)
    xr.testing.assert_identical(heard.results, plain.results)
    results, study = plain.results, plain.study
    for metric in ("loss", "accuracy"):
        curves = results[metric].values.reshape(len(study.runs), -1)
        every = results[f"eval_{metric}"].values
        every = every.reshape(len(study.runs), *every.shape[-2:])
        for run, curve in enumerate(curves):
            for seen, value in zip(results["sequences"].values, curve, strict=True):
                if np.isfinite(value):
                    assert told[run, seen // study.unit][metric][0] == value
            for at, seen in enumerate(results["eval_sequences"].values):
                if np.isfinite(every[run, :, at]).any():
                    own = told[run, seen // study.unit][metric]
                    np.testing.assert_array_equal(own, every[run, :, at])
    assert len(told) == np.isfinite(results["loss"].values).sum()


def test_an_error_in_on_scores_is_said_once_and_stops_nothing(plain, tmp_path, capfd):
    def fail(study, runs, step, scores):
        raise ValueError("not my day")

    trained = make().train(tmp_path, progress=False, on_scores=fail)
    xr.testing.assert_identical(trained.results, plain.results)
    said = capfd.readouterr().err
    assert said.count("not my day") == 1
    assert "test_live.py, line" in said


def test_training_does_not_wait_for_a_slow_function(plain, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(hearing, "LEAST_SECONDS", 0.05)
    monkeypatch.setattr(hearing, "CATCH_UP", 0.0)
    called, go_on = [], threading.Event()

    def wait(study, runs, step, scores):
        called.append(step)
        go_on.wait(60)

    trained = make().train(tmp_path, progress=False, on_scores=wait)
    xr.testing.assert_identical(trained.results, plain.results)
    assert "on_scores is too slow" in capfd.readouterr().err
    go_on.set()
    assert len(called) == 1  # what it was not told by the end, it is not told later


def test_a_finished_sweep_says_so(plain):
    found = status(plain.folder, check=True)
    assert (found.state, found.damage, found.processes) == ("done", (), ())
    assert found.runs == found.runs_done == 4
    assert found.seen == found.total == 2 * 1600 + 2 * 800
    assert found.checkpoints == sum(len(plain.steps(run)) for run in range(4))
    loss = plain.results["loss"].values.reshape(4, -1)
    last = [row[np.isfinite(row)][-1] for row in loss]
    np.testing.assert_array_equal(found.losses, np.float32(last))


def test_how_far_a_sweep_goes_is_known_without_the_weights_of_its_grafts(plain, tmp_path):
    folder = shutil.copytree(plain.folder, tmp_path / "copy")
    card = json.loads((folder / "card.json").read_text())
    gone = {"run": "init 0", "step": 9, "checksum": "0" * 16}
    part = {"kind": "graft", "after": None, "upto": 0, "weights": gone}
    card["study"]["clamps"] |= dict.fromkeys(card["study"]["clamps"], json.dumps([part]))
    (folder / "card.json").write_text(json.dumps(card | {"finished": False}))
    with pytest.raises(ih.UserError, match="a graft needs the weights"):
        _ = ih.load(folder).study
    with presence.present(folder, lambda: 5.0):
        found = status(folder)
    assert (found.unit, found.runs_done) == ("sequences", 4)
    assert found.seen == found.total == 2 * 1600 + 2 * 800
    # Where not even that is known, nor is the time left.
    assert np.isnan(dataclasses.replace(found, total=float("nan")).seconds_left)


def test_a_sweep_says_who_trains_it_and_who_stopped(stopped):
    folder, while_training = stopped
    assert while_training.state == "training"
    assert [each.pid for each in while_training.processes] == [os.getpid()]
    found = status(folder)
    # The process that stopped it is still there, but a sweep is nobody's once train has ended.
    assert found.state == "stopped"
    assert [each.pid for each in found.processes] == [os.getpid()]
    assert 0 < found.seen < found.total
    assert np.isfinite(found.losses).any()


def test_a_process_that_is_gone_does_not_train(plain, tmp_path):
    folder = shutil.copytree(plain.folder, tmp_path / "copy")
    (folder / "results.nc").unlink()
    with contextlib.suppress(ZeroDivisionError), presence.present(folder, lambda: 5.0):
        (here,) = presence.all_of(folder)
        assert here.alive
        raise ZeroDivisionError
    (gone,) = presence.all_of(folder)
    assert not gone.alive


def test_a_stopped_sweep_can_be_viewed_as_far_as_it_is(stopped):
    folder, _ = stopped
    page = view(folder).html
    assert "has not finished" in page


def test_damage_is_found(plain, tmp_path):
    folder = shutil.copytree(plain.folder, tmp_path / "copy")
    (part, *_) = sorted(folder.glob("trajectory/block-0000/part-????"))
    largest = max((p for p in part.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    whole = largest.read_bytes()
    largest.write_bytes(whole[: len(whole) // 2])
    assert status(folder).damage == ()  # arrays are not read unless asked for
    (line,) = status(folder, check=True).damage
    assert "part-0000" in line
    (part / "manifest.json").write_text("{")
    (line,) = status(folder).damage
    assert "part-0000 cannot be read" in line


def test_the_bar_says_median_and_range():
    assert progress.in_words(np.array([np.nan, 1.0, 3.0, 2.5])) == "loss 2.500 (1.000–3.000)"
    assert progress.in_words(np.array([np.nan, 1.0])) == "loss 1.000"
    assert progress.in_words(np.full(3, np.nan)) == ""
