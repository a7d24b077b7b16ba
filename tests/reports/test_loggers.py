"""Curves written for TensorBoard and Weights & Biases are those of the results."""

import struct
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import ih_jax as ih
from ih_jax.reports import loggers

SEEN = [0, 10, 25]  # steps


@pytest.fixture
def study():
    return ih.sweep(ih.fewshot(classes=20, evaluation_sequences=16), init=[3, 4], sequences=800)


def curves(study):
    """Made up: {metric: [steps, runs, sets]}, of which one is not known."""
    sets = len(study.task.evaluation_names)
    values = np.random.default_rng(0).random((2, len(SEEN), 2, sets), np.float32)
    values[:, 1, :, 1:] = np.nan
    return dict(zip(("loss", "accuracy"), values, strict=True))


def tell(study, log):
    for at, step in enumerate(SEEN):
        log(study, [0, 1], step, {name: own[at] for name, own in curves(study).items()})


def events_of(path):
    """{tag: {step: value}} of a file of TensorBoard's: records of length, checksum, event."""
    from tensorboardX.proto import event_pb2

    data, at, found = path.read_bytes(), 0, {}
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
        at += 12 + length + 4
    return found


def test_tensorboard_has_the_curves_of_each_run(study, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    with loggers.logger("tensorboard", tmp_path) as log:
        tell(study, log)
    for run in range(2):
        (path,) = (tmp_path / "tensorboard" / f"run {run}, init {3 + run}").glob("events*")
        found = events_of(path)
        for metric, own in curves(study).items():
            first = {step * study.unit: own[at, run, 0] for at, step in enumerate(SEEN)}
            assert found[metric] == first
            (other,) = {
                name for name in found if name == f"{metric}/{study.task.evaluation_names[1]}"
            }
            assert sorted(found[other]) == [0, 25 * study.unit]


def test_wandb_works_offline_without_an_account(study, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with loggers.logger("wandb", tmp_path) as log:
        tell(study, log)
    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    for _ in range(300):  # its own process writes on for a moment
        if b"init 3" in run.read_bytes():
            return
        time.sleep(0.1)
    pytest.fail("no curve was written")


def test_what_wandb_refuses_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def init(dir, **settings):
        (Path(dir) / "wandb").mkdir()
        raise RuntimeError("No API key configured. Use `wandb login`")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with (
        pytest.raises(ih.UserError, match=r"cannot begin .No API key configured.: log in"),
        loggers.logger("wandb", tmp_path / "sweep"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_logger_that_is_not_installed_says_how_to_install_it(monkeypatch):
    for kind, library in (("tensorboard", "tensorboardX"), ("wandb", "wandb")):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ih.UserError, match=rf"pip install 'ih_jax\[{kind}\]'"):
            loggers.check(kind)
    loggers.check(None)
