"""Sweeps on disk: labels, weights, measures, resuming, and everything that can go wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import xarray as xr

import ih_jax as ih
from ih_jax.data.images import features
from ih_jax.sweeps import sharing, store

pytestmark = pytest.mark.every_device

STUDY = """
import ih_jax as ih
from ih_jax.data.images import features
study = ih.sweep(
    ih.fewshot(features.of_gaussian(12, 8, exemplars=2), classes=8, test_classes=4, batch=8,
               val_exemplars=1, evaluation_sequences=16),
    clamp={"none": None, "match": ih.induction(1, 1), "pulse": ih.ablate(1, 0).during(80, 160)},
    init=[3, 4], learning_rate=[1e-3, 1e-2], d_model=16, heads=2,
    sequences={"none": 1600, "match": 800, "pulse": 800},
    evaluate=range(0, 1601, 160), checkpoints=range(0, 1601, 400),
)
"""


def make(**changes):
    settings = {
        "clamp": {"none": None, "match": ih.induction(1, 1)},
        "init": [3, 4],
        "d_model": 16,
        "heads": 2,
        "learning_rate": 1e-3,
        "sequences": {"none": 1600, "match": 800},
        "evaluate": range(0, 1601, 160),
        "checkpoints": range(0, 1601, 400),
    }
    task = ih.fewshot(
        features.of_gaussian(12, 8, exemplars=2),
        classes=8,
        test_classes=4,
        val_exemplars=1,
        batch=8,
        evaluation_sequences=16,
    )
    return ih.sweep(task, **{**settings, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return make().train(folder, progress=False)


def same_weights(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_results_are_labelled_by_axis_set_and_sequences_seen(trained):
    results = trained.results
    assert results["loss"].dims == ("clamp", "init", "sequences")
    assert results["eval_loss"].dims == ("clamp", "init", "set", "eval_sequences")
    assert results["sequences"].values.tolist() == list(range(0, 1601, 160))
    assert set(results["set"].values) == {
        "fsl_train",
        "fsl_val_rl",
        "fsl_train_valex",
        "fsl_test_class",
    }
    none, match = (results["loss"].sel(clamp=c) for c in ("none", "match"))
    assert np.isfinite(none).all()
    assert np.isnan(match.sel(sequences=slice(801, None))).all()
    assert np.isfinite(match.sel(sequences=slice(None, 800))).all()
    at_end = results["eval_loss"].sel(set="fsl_train", eval_sequences=1600, clamp="none")
    np.testing.assert_array_equal(at_end, none.sel(sequences=1600))
    on_disk = xr.load_dataset(trained.folder / "results.nc", engine="h5netcdf")
    xr.testing.assert_identical(on_disk.drop_attrs(), results.drop_attrs())


def test_the_card_says_what_was_run(trained):
    card = json.loads((trained.folder / "card.json").read_text())
    assert card["finished"]
    assert card["runs"] == 4
    assert ih.Clamp.from_json(card["study"]["clamps"]["match"]) == ih.induction(1, 1)
    assert card["signature"]["jax"]
    assert card["devices"]
    assert card["seconds"] > 0
    assert sorted(run for block in card["blocks"] for run in block) == [0, 1, 2, 3]


def test_weights_come_back_and_score_as_recorded(trained):
    run = trained.run(clamp="none", init=4)
    assert trained.steps(run) == [0, 50, 100, 150, 200]
    start = ih.init(jax.random.key(4), trained.study.runs[run].config)
    for a, b in zip(*map(jax.tree.leaves, (trained.params(run, 0), start)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert not same_weights(trained.params(run, 200), start)
    with pytest.raises(ih.UserError, match="not kept at step 7"):
        trained.params(run, 7)
    with pytest.raises(ih.UserError, match=r"runs 0\.\.3"):
        trained.params(99, 0)


def test_a_measure_sees_every_run_and_checkpoint_under_its_own_clamp(trained):
    def to_labels(params, clamp, probe):
        """The query's attention to the label tokens that carry the target, by head."""
        pattern = ih.apply(params, probe, clamp).pattern[1][:, :, -1, 1::2]
        right = probe.labels[:, None, :-1] == probe.labels[:, None, -1:]
        return (pattern * right).sum(-1).mean(0)

    found = trained.measure(to_labels)
    assert found.dims[:3] == ("clamp", "init", "sequences")
    assert found["sequences"].values.tolist() == [0, 400, 800, 1200, 1600]
    np.testing.assert_allclose(found.sel(clamp="match", sequences=800)[:, 1], 1.0, atol=1e-6)
    assert np.isnan(found.sel(clamp="match", sequences=1200)).all()
    direct = to_labels(trained.params(0, 100), None, probe := trained_probe(trained))
    again = trained.measure(to_labels, probe, runs=[0], steps=[100])
    np.testing.assert_allclose(again.values[0, 0, 0], direct, rtol=1e-5)
    several = trained.measure(lambda p, c, b: {"a": p.b_E, "b": p.b_E.sum()}, probe, runs=[1])
    assert set(several) == {"a", "b"}


def trained_probe(trained):
    from ih_jax.data.fewshot import sample

    task = trained.study.task
    return sample(jax.random.key(0), task.layout, task.source("train"), 32)


def test_numbers_do_not_depend_on_the_seam_or_on_packing(tmp_path, trained):
    alone = make(clamp=None, sequences=1600).train(tmp_path / "alone", progress=False)
    np.testing.assert_allclose(
        alone.results["loss"].sel(clamp="none"),
        trained.results["loss"].sel(clamp="none"),
        rtol=2e-4,
    )


def test_a_finished_sweep_is_not_trained_again_and_another_is_refused(trained):
    before = sorted((p, p.stat().st_mtime_ns) for p in trained.folder.glob("trajectory/*/part-*"))
    make().train(trained.folder, progress=False)
    after = sorted((p, p.stat().st_mtime_ns) for p in trained.folder.glob("trajectory/*/part-*"))
    assert before == after
    with pytest.raises(ih.UserError, match=r"learning_rate is 0\.001, this one's is 0\.5"):
        make(learning_rate=0.5).train(trained.folder, progress=False)


def test_two_writers_are_refused(trained):
    for lock in (sharing.only_writer, sharing.one_of_many):
        refused = pytest.raises(ih.UserError, match="another process")
        with lock(trained.folder / "trajectory"), refused:
            make().train(trained.folder, progress=False)
    refused = pytest.raises(ih.UserError, match="another process")
    with sharing.only_writer(trained.folder / "trajectory"), refused:
        make().train(trained.folder, progress=False, share="claim")
    make().train(trained.folder, progress=False)  # and once they are gone, it goes on


def test_an_altered_or_truncated_checkpoint_is_named(tmp_path):
    trained = make(init=[3], clamp=None, sequences=800).train(tmp_path, progress=False)
    part = store.part_path(tmp_path, 0, 0)
    files = sorted(
        (p for p in part.rglob("*") if p.is_file() and "manifest" not in p.name),
        key=lambda p: p.stat().st_size,
    )
    data = bytearray(files[-1].read_bytes())
    data[len(data) // 2] ^= 4
    files[-1].write_bytes(bytes(data))
    with pytest.raises(store.Damaged, match="part-0000"):
        trained.params(0, 0)
    files[-1].write_bytes(bytes(data[: len(data) // 2]))
    with pytest.raises(store.Damaged, match="part-0000"):
        trained.params(0, 0)


def run_script(folder, script, **settings):
    path = folder / "script.py"
    path.write_text(STUDY + script)
    return subprocess.Popen([sys.executable, str(path)], cwd=folder, **settings)


FREQUENT = """
import sys
from ih_jax.sweeps import writer
writer.SAVE_EVERY_SECONDS = 0.0
study.train(sys.path[0] + "/out", progress=False, resume=True)
"""


def test_a_sweep_stopped_twice_goes_on_to_the_same_bits(tmp_path):
    """By Ctrl-C and then by a kill, once so many parts are written."""
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run_script(whole, FREQUENT).wait() == 0
    broken = tmp_path / "broken"
    broken.mkdir()
    for how, parts in ((signal.SIGINT, 1), (signal.SIGKILL, 4)):
        process = run_script(broken, FREQUENT, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if len(list(broken.glob("out/trajectory/*/part-????"))) >= parts:
                process.send_signal(how)
                break
            time.sleep(0.01)
        process.wait()
    assert run_script(broken, FREQUENT).wait() == 0
    a, b = (ih.load(folder / "out") for folder in (whole, broken))
    xr.testing.assert_identical(a.results, b.results)
    for run in range(len(a.study.runs)):
        step = a.steps(run)[-1]
        assert same_weights(a.params(run, step), b.params(run, step))


def test_an_unfinished_sweep_is_refused_without_resume(tmp_path):
    make(init=[3], clamp=None, sequences=400).train(tmp_path, progress=False)
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**card, "finished": False}))
    with pytest.raises(ih.UserError, match="--resume"):
        make(init=[3], clamp=None, sequences=400).train(tmp_path, progress=False)


def test_a_damaged_part_is_trained_again_to_the_same_bits(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ih_jax.sweeps.writer.SAVE_EVERY_SECONDS", 0.0)
    trained = make(init=[3], clamp=None, sequences=1600).train(tmp_path, progress=False)
    before = trained.params(0, 200)
    parts = sorted(tmp_path.glob("trajectory/block-0000/part-*"))
    (parts[-1] / "manifest.json").write_text("{")
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**card, "finished": False}))
    again = make(init=[3], clamp=None, sequences=1600).train(tmp_path, progress=False, resume=True)
    assert parts[-1].name in capsys.readouterr().out
    assert same_weights(before, again.params(0, 200))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ih.UserError, match="writable"):
        make().train(tmp_path / "x", progress=False)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(ih.UserError, match="writable"):
        make().train(tmp_path / "x", progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lerning_rate": 1}, "did you mean 'learning_rate'"),
        ({"init": [1, 1]}, "each once"),
        ({"init": -1}, "init is -1"),
        ({"sequences": {"none": 100}}, "no horizon for clamp 'match'"),
        ({"optimiser": "lion"}, "adam, sgd"),
        ({"clamp": {"x": ih.ablate(5, 0)}, "sequences": 100}, "layer 5"),
        ({"clamp": {"x": ih.ablate(1, 7)}, "sequences": 100}, "head 7"),
        ({"clamp": {"x": "match"}, "sequences": 100}, "give a Clamp"),
        ({"labels": [1, 5]}, "labels is 1"),
        ({"heads": 3}, "does not split"),
    ],
)
def test_mistakes_get_one_line(changes, message):
    with pytest.raises(ih.UserError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)
