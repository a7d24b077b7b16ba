"""A run of the authors' code: its byte layout written here at a small size, and a real one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest

import ih_jax as ih
from ih_jax import gate
from ih_jax.clamps.apply import forward
from ih_jax.cli.main import main
from ih_jax.data.images.features import of_file
from ih_jax.data.splits import split_label_pairs
from ih_jax.interop.icl_dynamics.evaluating import evaluated
from ih_jax.interop.icl_dynamics.importing import import_run, study_of
from ih_jax.interop.icl_dynamics.options import RunOptions
from ih_jax.interop.icl_dynamics.runs import read, read_checkpoint
from ih_jax.interop.icl_dynamics.weights import arrays_from_params, names_of
from ih_jax.tasks.fewshot_scores import scores

DATA = os.environ.get("IH_JAX_DATA_DIR")
REAL = None if DATA is None else Path(DATA).parent / "reference" / "icl_dynamics_run"
CLASSES, FEATURES, SEEN = 12, 7, (0, 640)
OPTIONS: dict[str, Any] = {
    "run": "small",
    "depth": 2,
    "d_model": 8,
    "num_heads": 2,
    "mlp_ratio": None,
    "pos_embedding_type": "rope",
    "no_norm": False,
    "not_causal": False,
    "init_rescale": 1.0,
    "model_output_classes": 5,
    "init_seed": 5,
    "train_seed": 0,
    "train_iters": 640,
    "train_bs": 32,
    "lr": 1e-3,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "eval_seed": 1,
    "class_split": [6, 2, 4],
    "exemplar_split": [1, 2, 0],
    "fs_relabel": 5,
    "fs_relabel_split": [8.0, 2.0, 0.0],
    "fs_relabel_split_seed": 20,
    "data_type": "file",
    "train_context_len": 2,
    "mixing_coeffs": [1.0],
    "pt_burstiness": [1],
    "opto_induction_heads": ["1:1"],
    "opto_induction_head_strength": 1.0,
    "opto_ablate_heads": ["1:0"],
    "opto_preserve_patterns": False,
}


def weights(seed: int, **model: Any) -> ih.Params:
    config = ih.Config(features=FEATURES, labels=5, d_model=8, heads=2, **model)
    return ih.init(jax.random.key(seed), config)


def run_options(**changed: Any) -> RunOptions:
    return gate.checked({**OPTIONS, **changed}, RunOptions, "config.json")


def write_checkpoint(path: Path, seen: int, params: ih.Params, **options: Any) -> None:
    """Records as that code leaves them: scalars of the model among its arrays, then moments."""
    named, names = arrays_from_params(params), names_of(run_options(**options))
    arrays = [np.asarray(named[name]) for name in names]
    c = params.config
    with open(path, "wb") as file:

        def put(record: Any) -> None:
            np.lib.format.write_array(file, np.asarray(record), allow_pickle=False)

        put(seen)
        put(8)  # the width, among the model's fields
        for name, array in zip(names, arrays, strict=True):
            if name.endswith("qkv.weight"):
                for flag in (c.heads, True, c.positions == "rope", 1e4, c.d_head**-0.5):
                    put(flag)
            put(array)
            put(False)
            put(0.0)
        put(np.int32(seen // 32))
        for _ in range(2):
            for array in arrays:
                put(0 * array)
        put(np.zeros(2, np.uint32))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(OPTIONS))
    for seen in SEEN:
        write_checkpoint(folder / "checkpoints" / f"{seen:011d}.eqx", seen, weights(seen))
    random = np.random.default_rng(0)
    with h5py.File(folder / "log.h5", "w") as log:
        log["eval_iter"] = np.array([0, 320, 640])
        for name in ("fsl_train", "fsl_val_rl"):
            log[f"{name}/loss"] = random.uniform(0, 2, (3, 10)).astype(np.float32)
            log[f"{name}/acc"] = random.uniform(size=(3, 10)) > 0.5
            log[f"{name}/in_context_acc"] = random.uniform(size=(3, 10)) > 0.5
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file["resnet18/224/feat"] = np.random.default_rng(1).normal(size=(CLASSES, 3, FEATURES))
    return path


def test_a_run_is_read_in_our_terms(run: Path) -> None:
    found = read(run)
    assert found.clamp == ih.induction(1, 1) & ih.ablate(1, 0)
    assert sorted(found.checkpoints) == list(SEEN)
    jax.tree.map(np.testing.assert_array_equal, found.checkpoints[640], weights(640))


def test_it_is_a_sweep_that_everything_reads(run: Path, data: Path, tmp_path: Path) -> None:
    import_run(run, data, None, tmp_path / "out")
    found = ih.load(tmp_path / "out")
    assert found.steps(0) == [0, 20]
    jax.tree.map(np.testing.assert_array_equal, found.params(0, 20), weights(640))
    with h5py.File(run / "log.h5") as log:
        logged = {name: log[f"{name}/loss"][()].mean(1) for name in ("fsl_train", "fsl_val_rl")}
    results = found.results.sel(clamp="small", init=5)
    np.testing.assert_allclose(results["loss"], logged["fsl_train"], rtol=1e-5)
    for name, values in logged.items():
        np.testing.assert_allclose(results["eval_loss"].sel(set=name), values, rtol=1e-5)
    assert np.isnan(results["eval_loss"].sel(set="fsl_test_class")).all()
    loss = found.measure(lambda p, c, b: scores(forward(p, b, c, "query"), b)[0], sequences=50)
    assert np.isfinite(loss).all()


@pytest.mark.parametrize(
    "model", [{"mlp_ratio": 2.0}, {"norm": False}, {"positions": "sinusoidal"}], ids=str
)
def test_other_models(tmp_path: Path, model: dict[str, Any]) -> None:
    theirs = {
        "mlp_ratio": model.get("mlp_ratio"),
        "no_norm": not model.get("norm", True),
        "pos_embedding_type": model.get("positions", "rope"),
    }
    params = weights(3, **model)
    write_checkpoint(tmp_path / "x.eqx", 64, params, **theirs)
    seen, found = read_checkpoint(tmp_path / "x.eqx", run_options(**theirs))
    assert seen == 64
    jax.tree.map(np.testing.assert_array_equal, found, params)


def truncate(run: Path) -> None:
    path = run / "checkpoints" / "00000000640.eqx"
    path.write_bytes(path.read_bytes()[:-200])


def pickled(run: Path) -> None:
    with open(run / "checkpoints" / "00000000640.eqx", "wb") as file:
        np.lib.format.write_array(file, np.array([{}], object))


def another_width(run: Path) -> None:
    (run / "config.json").write_text(json.dumps({**OPTIONS, "d_model": 16}))


def one_layer_more(run: Path) -> None:
    (run / "config.json").write_text(json.dumps({**OPTIONS, "depth": 3}))


def no_checkpoints(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()


def says(**changed: Any) -> Any:
    """A harm: config.json says other things."""
    return lambda run: (run / "config.json").write_text(json.dumps({**OPTIONS, **changed}))


def with_weights(seen: int, params: ih.Params, name: str = "00000000640.eqx") -> Any:
    """A harm: a checkpoint holds other weights, or is of another number of sequences."""
    return lambda run: write_checkpoint(run / "checkpoints" / name, seen, params)


def nan_weight() -> ih.Params:
    params = weights(640)
    return params.replace(W_U=params.W_U.at[1, 2].set(np.nan))


def pipe(name: str) -> Any:
    def harm(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return harm


def logs(**arrays: Any) -> Any:
    def harm(run: Path) -> None:
        with h5py.File(run / "log.h5", "a") as log:
            for name, array in arrays.items():
                del log[name]
                log[name] = array

    return harm


def declares_more(run: Path) -> None:
    with open(run / "checkpoints" / "00000000640.eqx", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**9)}
        np.lib.format.write_array_header_1_0(file, header)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (says(depth="two"), 'depth is "two": give a whole number'),
        (says(depth=2.5), "depth is 2.5: give a whole number"),
        (says(depth=10**8, d_model=1024, num_heads=8), "GB of memory"),
        (says(depth=10**5), "arrays, the model of config.json"),
        (says(class_split=5), "class_split is 5: give a list of 3"),
        (says(class_split=[6, 2]), "class_split is .*: give a list of 3"),
        (says(zipf_alpha="x"), 'zipf_alpha is "x": give a number'),
        (says(mlp_ratio=float("nan")), "mlp_ratio is NaN: give a number"),
        (says(mlp_ratio=0.01), "no hidden unit"),
        (says(d_model=10**400), "d_model is a whole number of 401 digits: give"),
        (says(num_heads=3), "does not split into 3 heads"),
        (says(train_context_len=0), "train_context_len is 0: give a whole number from 1"),
        (says(mixing_coeffs=[float("nan")]), r"mixing_coeffs\[0\] is NaN: give a number"),
        (says(mixing_coeffs=[0.0]), "mixing_coeffs is .*: give one number above 0"),
        (says(mixing_coeffs=[1, 2]), "mixing_coeffs has 2 entries: give 1"),
        (says(pt_distract=[True, False]), "pt_distract has 2 entries: give 1"),
        (says(noise_scale_train=float("nan")), "noise_scale_train is NaN: give a number"),
        (says(lr=float("inf")), "lr is Infinity: give a number"),
        (says(init_seed=-1), "init_seed is -1: give a whole number from 0"),
        (says(eval_seed=2**31), "eval_seed is 2147483648: give a whole number from 0"),
        (says(optimizer="lion"), 'optimizer is "lion": give "adam" or "sgd"'),
        (says(not_causal=True), "not_causal is true: give false"),
        (says(sin_time=5.0, pos_embedding_type="sinusoidal"), "sin_time is 5"),
        (says(opto_induction_heads=["1-1"]), "opto_induction_heads.* layer:head"),
        (says(opto_induction_head_strength="x"), "opto_induction_head_strength is"),
        (says(opto_induction_head=[]), "did you mean 'opto_induction_heads'"),
        (lambda run: (run / "config.json").write_text("[" * 1000), "nested deeper than 32"),
        (with_weights(640, nan_weight()), "unembed.weight has 1 of 40 numbers that are NaN"),
        (with_weights(0, weights(0)), "is of 0 sequences, after 00000000000.eqx of 0"),
        (with_weights(64, weights(0), "00000000700.eqx"), "is of 64 sequences, after .* of 640"),
        (with_weights(-5, weights(0)), "does not begin with the number of sequences"),
        (declares_more, "and 0 follow"),
        (pipe("config.json"), "is a pipe"),
        (pipe("checkpoints/00000000640.eqx"), "is a pipe"),
        (pipe("log.h5"), "is a pipe"),
        (logs(eval_iter=[0, 640, 320]), "eval_iter is not in order"),
        (says(model_output_classes=12), r"model_output_classes is 12, .* has 5 labels"),
        (says(sin_time=30.0), "sin_time is 30: rope and sinusoidal positions"),
        (says(num_heads=4), r"num_heads is 2, 4 by config.json: give config.json what"),
        (says(pos_embedding_type="sinusoidal"), r"rope of pos_embedding_type is True, False by"),
        (says(class_split=[6, 2, 3]), r"12 classes, .* is \[6, 2, 3\], 11 in all"),
        (says(exemplar_split=[1, 4, 0]), r"3 exemplars, .* is \[1, 4, 0\], 5 in all"),
        (says(train_iters=320), r"not at steps of train_bs \(32\) up to train_iters \(320\)"),
        (logs(eval_iter=[0.0, np.nan, 640.0]), "no whole numbers"),
        (logs(eval_iter=h5py.Empty("i8")), "is an empty dataset"),
        (logs(fsl_train=np.ones(3)), "fsl_train/loss is inside a dataset"),
        (truncate, "no whole sequence of .npy records"),
        (pickled, "no whole sequence of .npy records"),
        (another_width, "has shape"),
        (one_layer_more, "example_embed|has shape|arrays"),
        (no_checkpoints, "holds no .eqx file"),
        (lambda run: (run / "config.json").unlink(), "there is no"),
        (lambda run: (run / "config.json").write_text("{"), "is not JSON"),
        (lambda run: (run / "config.json").write_text("{}"), "lacks depth"),
        (lambda run: (run / "log.h5").write_bytes(b"no"), "log.h5 cannot be read as HDF5"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    run: Path, data: Path, tmp_path: Path, harm: Any, message: str
) -> None:
    harm(run)
    with pytest.raises(ih.UserError, match=message) as error:
        import_run(run, data, None, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_what_is_beside_a_run_or_twice_in_its_log_does_no_harm(
    run: Path, data: Path, tmp_path: Path
) -> None:
    (run / "checkpoints" / "._00000000640.eqx").write_bytes(b"macOS")
    with h5py.File(run / "log.h5", "a") as log:  # a resumed run looks again where it begins
        for name in log["fsl_train"]:
            rows = log[f"fsl_train/{name}"][()]
            del log[f"fsl_train/{name}"], log[f"fsl_val_rl/{name}"]
            log[f"fsl_train/{name}"] = rows[[0, 0, 1, 2]]
        del log["eval_iter"]
        log["eval_iter"] = [0, 320, 320, 640]
        last = log["fsl_train/loss"][2].mean()
    found = import_run(run, data, None, tmp_path / "out").results["loss"].squeeze()
    assert found["sequences"].values.tolist() == [0, 320, 640]
    assert found.sel(sequences=320) == pytest.approx(float(last), rel=1e-5)


def test_a_log_that_says_nothing_is_none(run: Path, data: Path, tmp_path: Path) -> None:
    with h5py.File(run / "log.h5", "a") as log:
        del log["fsl_train"], log["fsl_val_rl"]
    assert read(run).scores is None
    assert np.isfinite(import_run(run, data, None, tmp_path / "out").results["loss"]).all()


def test_other_features_and_full_folders_are_refused(run: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.ones((CLASSES, 3, FEATURES + 1))
    with pytest.raises(ih.UserError, match="the run's weights take 7"):
        import_run(run, other, None, tmp_path / "out")
    with pytest.raises(ih.UserError, match="is not empty"):
        import_run(run, data, None, run)


def test_the_command(run: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = ["import", str(run), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "2 checkpoints" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_run_without_a_log_has_the_scores_of_its_checkpoints(
    run: Path, data: Path, tmp_path: Path
) -> None:
    (run / "log.h5").unlink()
    found = import_run(run, data, None, tmp_path / "out")
    assert found.card["label_pairs"]["generator"] == "old"
    assert "no log" in found.card["label_pairs"]["known"]
    loss = found.results["loss"].sel(clamp="small", init=5)
    assert loss["sequences"].values.tolist() == list(SEEN)
    fresh = found.measure(lambda p, c, b: scores(forward(p, b, c, "query"), b)[0], sequences=4000)
    np.testing.assert_allclose(loss, fresh.squeeze(), rtol=1e-4)


def favours(pairs: np.ndarray) -> ih.Params:
    """A network that has the more of a head start, the oftener a label stands in these pairs."""
    counts = np.bincount(np.asarray(pairs).ravel(), minlength=5)
    params = weights(640)
    # Where the tokens of labels are known, a large embedding stands out in the logits.
    scale = np.float32(1 + 40 * (counts == counts.max()))
    return params.replace(W_L=params.W_L * scale[None] * 50)


@pytest.mark.parametrize("generator", ["old", "new"])
def test_the_log_tells_which_generator_split_the_label_pairs(
    run: Path, data: Path, tmp_path: Path, generator: str
) -> None:
    made = read(run)
    params = favours(split_label_pairs(5, (8, 2, 0), 20, "old")["val"])
    write_checkpoint(run / "checkpoints" / "00000000640.eqx", 640, params)
    made = read(run)
    own = evaluated(study_of(made, of_file(data), generator), made.checkpoints)
    with h5py.File(run / "log.h5", "w") as log:
        log["eval_iter"] = np.array(SEEN)
        for name in ("fsl_train", "fsl_val_rl"):
            loss = own["loss"].sel(set=name).values
            log[f"{name}/loss"] = np.tile(loss[:, None], (1, 10)).astype(np.float32)
            log[f"{name}/acc"] = np.zeros((2, 10))
            log[f"{name}/in_context_acc"] = np.zeros((2, 10))
    found = import_run(run, data, None, tmp_path / "out")
    assert found.card["label_pairs"] == {
        "generator": generator,
        "known": "told by the losses of the log",
    }
    pairs = split_label_pairs(5, (8, 2, 0), 20, generator)["train"]
    again = ih.load(tmp_path / "out").study.task.splits()["label_pairs"]["train"]
    np.testing.assert_array_equal(again, pairs)


def test_a_log_that_does_not_tell_is_not_believed(run: Path, data: Path, tmp_path: Path) -> None:
    found = import_run(run, data, None, tmp_path / "out")  # its losses are random
    assert found.card["label_pairs"]["known"].startswith("the log does not tell")
    asked = import_run(run, data, None, tmp_path / "asked", "new")
    assert asked.card["label_pairs"] == {"generator": "new", "known": "as asked for"}


@pytest.mark.skipif(REAL is None or not REAL.is_dir(), reason="needs a real run of the authors'")
def test_a_real_run_has_the_loss_that_it_recorded(tmp_path: Path) -> None:
    assert REAL is not None
    features = "omniglot_small_rot4_efficientnet_lite0.h5"
    found = import_run(REAL, features, None, tmp_path / "out")
    assert found.card["label_pairs"]["known"] == "told by the losses of the log"
    fresh = found.measure(
        lambda p, c, b: scores(forward(p, b, c, "query"), b)[0], steps=[200], sequences=20_000
    )
    with h5py.File(REAL / "log.h5") as log:
        recorded = log["fsl_train/loss"][-1]
    error = recorded.std() / np.sqrt(len(recorded))
    assert abs(fresh.item() - recorded.mean()) < 3 * error
