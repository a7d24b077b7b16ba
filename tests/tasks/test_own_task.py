"""A task of one's own: trained, resumed, found again from its card, and refused where it errs."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import ih_jax as ih

pytestmark = pytest.mark.users_code

TASK = '''
from dataclasses import dataclass
import jax, jax.numpy as jnp
import ih_jax as ih

@ih.task("two_queries")
@dataclass(frozen=True)
class TwoQueries(ih.Task):
    """x1 y1 x2 y2 xa xb: both queries are asked for their labels."""
    features: int = 4
    outputs: int = 3
    shape: tuple = (1, 2)
    noise: float = 0.0
    arrays = ("noise",)
    metrics = {"loss": "nats", "accuracy": ""}

    def sample(self, key, source, sequences):
        a, b, c = jax.random.split(key, 3)
        x = jax.random.normal(a, (sequences, 2, self.features))
        y = jax.vmap(lambda k: jax.random.permutation(k, self.outputs)[:2])(
            jax.random.split(b, sequences))
        z = jnp.zeros_like(x[:, 0])
        query = x + self.noise * jax.random.normal(c, x.shape)
        vectors = jnp.stack([x[:, 0], z, x[:, 1], z, query[:, 0], query[:, 1]], axis=1)
        none = jnp.full(sequences, -1)
        labels = jnp.stack([none, y[:, 0], none, y[:, 1], none, none], axis=1)
        return ih.Vectors(vectors, labels, targets=y)

    def loss(self, activations, batch):
        log_p = jax.nn.log_softmax(activations.logits[:, -2:])
        return -jnp.take_along_axis(log_p, batch.targets[..., None], axis=-1).mean()

    def scores(self, activations, batch):
        return {"accuracy": (activations.logits[:, -2:].argmax(-1) == batch.targets).mean()}
'''
SMALL = {"d_model": 16, "heads": 2, "layers": 1, "batch": 8, "evaluation_sequences": 16}


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "two_queries.py").write_text(TASK)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("two_queries", None)
    import two_queries

    return two_queries.TwoQueries


def test_trains_and_a_fresh_process_finds_it_again(own, tmp_path):
    folder = tmp_path / "run"
    clamps = {"none": None, "ablated": ih.ablate(0, [0]), "previous": ih.previous_token(0, 1)}
    study = ih.sweep(own(), clamp=clamps, noise=[0.0, 0.5], sequences=80, **SMALL)
    assert len(study.groups) == 1 and study.axes["noise"] == [0.0, 0.5]
    found = study.train(folder, progress=False)
    assert found.results["loss"].attrs["units"] == "nats"
    assert np.isfinite(found.results["accuracy"].values).all()
    say = "import ih_jax as ih, sys; print(ih.load(sys.argv[1]).study.task)"
    for where, words in ((tmp_path, "shape=(1, 2)"), (Path("/"), "import that file first")):
        told = subprocess.run(
            [sys.executable, "-c", say, str(folder)], cwd=where, capture_output=True, text=True
        )
        assert words in told.stdout + told.stderr


KILLED = """
import os, signal, sys
import ih_jax as ih, two_queries
from ih_jax.sweeps import writer

writer.SAVE_EVERY_SECONDS = 0.0
add, calls = writer.Writer.add, []

def add_and_die(*arguments):
    add(*arguments)
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

writer.Writer.add = add_and_die
two_queries.study.train(sys.argv[1], progress=False, width=1)
"""
STUDY = f"""
settings = {SMALL!r}
study = ih.sweep(TwoQueries(), noise=[0.0, 0.5], sequences=80, checkpoints=[0, 40, 80],
                 evaluate=[0, 40, 80], **settings)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_and_resumed_it_gives_the_bits_of_one_never_killed(own, tmp_path):
    (tmp_path / "two_queries.py").write_text(TASK + STUDY)
    sys.modules.pop("two_queries", None)
    from two_queries import study

    folder = tmp_path / "killed"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert not json.loads((folder / "card.json").read_text())["finished"]
    again = study.train(folder, progress=False, resume=True)
    whole = study.train(tmp_path / "whole", progress=False, width=1)
    xr.testing.assert_identical(again.results, whole.results)
    for run in range(2):
        ours, theirs = (jax.tree.leaves(t.params(run, t.steps(run)[-1])) for t in (again, whole))
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_tuple_is_never_an_axis(own):
    study = ih.sweep(own(), shape=(3, 4), sequences=80, **SMALL)
    assert "shape" not in study.axes and study.runs[0].task.shape == (3, 4)


@dataclass(frozen=True)
class OfPairs(ih.Kind):
    """A stranger's, that says what it reads."""

    reads_pairs = True

    def holds(self, place):
        return ()


@pytest.mark.parametrize(
    "clamp",
    [
        ih.induction(0, 0),
        ih.labels_only(0, 0),
        ih.previous_token(0, 0, rows="label"),
        ih.Clamp.of(OfPairs()),
    ],
)
def test_clamps_of_pairs_are_refused(own, clamp):
    with pytest.raises(ih.UserError, match="applies only to few-shot"):
        ih.sweep(own(), clamp=clamp, sequences=80, **SMALL)


def test_label_tokens_embed_as_labels_and_vectors_as_vectors():
    params = ih.init(jax.random.key(0), ih.Config(features=3, labels=4, layers=1))
    x, labels = jnp.ones((2, 3, 3)), jnp.array([[-1, 2, 9], [0, -1, -1]])
    found = ih.apply(params, ih.Vectors(x, labels)).embed
    vector = params.W_E @ jnp.ones(3) + params.b_E
    np.testing.assert_allclose(found[0, 0], vector, rtol=1e-6)
    np.testing.assert_allclose(found[0, 1], params.W_L[:, 2], rtol=1e-6)
    assert not found[0, 2].any()
    np.testing.assert_allclose(found[1, 0], params.W_L[:, 0], rtol=1e-6)


def test_a_loss_that_is_no_scalar_is_refused():
    @ih.task("many_losses")
    @dataclass(frozen=True)
    class ManyLosses(ih.Task):
        def sample(self, key, source, sequences):
            return ih.Vectors(jax.random.normal(key, (sequences, 3, 2)))

        def loss(self, activations, batch):
            return activations.logits[..., 0].mean(0)

    with pytest.raises(ih.UserError, match="give a scalar"):
        ih.sweep(ManyLosses(), sequences=80, **SMALL)
