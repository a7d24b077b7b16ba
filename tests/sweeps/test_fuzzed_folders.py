"""Whatever stands in a folder of a sweep, or in a study's settings: a result, or one line."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr
from fuzzing import JSON, SCALARS, changed, few, mutated, result_or_line
from hypothesis import given
from hypothesis import strategies as st

import ih_jax as ih
from ih_jax import array_files
from ih_jax.sweeps import cards, store
from ih_jax.sweeps.blocks import Plan, plan_blocks
from ih_jax.sweeps.card_file import read_card, write_card
from ih_jax.sweeps.results import assemble, save_results
from ih_jax.sweeps.settings import MODEL_SETTINGS, RUN_SETTINGS
from ih_jax.sweeps.status import status

STUDY = ih.sweep(
    ih.fewshot(np.random.default_rng(0).normal(size=(12, 2, 4)), classes=6, labels=3),
    clamp={"none": None, "match": ih.induction(1, 1)},
    sequences=64,
    layers=2,
    d_model=8,
    heads=2,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished sweep whose weights are those at the start: nothing is trained."""
    made = tmp_path_factory.mktemp("sweep") / "sweep"
    params = [ih.init(jax.random.key(i), STUDY.runs[0].config) for i in range(2)]
    # [checkpoint, run, ...]
    kept = jax.tree.map(lambda *each: np.stack([np.stack(each)] * 2), *params)
    scores = np.ones((2, 2, len(STUDY.task.evaluation_names), 3), np.float32)
    about = {"steps": [0, 2], "score_steps": [0, 2], "diverged": [-1, -1], "runs": [0, 1]}
    store.save_part(store.part_path(made, 0, 0), {"params": kept, "scores": scores}, about)
    plan = Plan(2, plan_blocks(STUDY, 2), 0.0)
    card = cards.make_card(STUDY, plan, {})
    write_card(made, {**card, "finished": True})
    save_results(assemble(STUDY, ih.load(made, STUDY).blocks), made / "results.nc")
    yield made
    shutil.rmtree(made)


def read_all(folder: Path, study: Any = None) -> Any:
    found = ih.load(folder, study)
    repr(found)
    return found.params(1, 2), found.results


def test_the_folder_is_read_as_it_stands(folder: Path) -> None:
    params, results = read_all(folder, STUDY)
    assert params.b_U.shape == (3,)
    assert float(results["loss"].mean()) == 1


def at_any_depth(valid: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Valid JSON in which one value, wherever, is another or gone."""
    places: list[tuple[str, ...]] = []

    def walk(value: Any, at: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                places.append((*at, name))
                walk(each, (*at, name))

    walk(valid, ())

    def put(place: tuple[str, ...], value: Any, gone: bool) -> dict[str, Any]:
        copy = json.loads(json.dumps(valid))
        at = copy
        for name in place[:-1]:
            at = at[name]
        if gone:
            del at[place[-1]]
        else:
            at[place[-1]] = value
        return dict(copy)

    return st.builds(put, st.sampled_from(places), JSON, st.booleans())


GLYPHS = ih.sweep(ih.fewshot(classes=6), sequences=64, layers=1, d_model=8, heads=2)
CARD = json.loads(
    json.dumps(cards.make_card(GLYPHS, Plan(1, plan_blocks(GLYPHS, 1), 0.0), {}), default=str)
)


@few
@given(content=st.one_of(st.binary(max_size=40), JSON, at_any_depth(CARD)))
def test_cards(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    made = tmp_path_factory.mktemp("card")
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (made / "card.json").write_bytes(text)

    def read() -> Any:
        found = ih.load(made)
        repr(found)
        return found.study

    result_or_line(read)


@few
@given(content=st.data())
def test_manifests(folder: Path, content: st.DataObject) -> None:
    path = store.part_path(folder, 0, 0) / "manifest.json"
    valid = json.loads(path.read_text())
    strategy = st.one_of(
        st.binary(max_size=40),
        JSON,
        at_any_depth(valid),
        changed(valid["about"]).map(lambda about: {**valid, "about": about}),
    )
    made = content.draw(strategy)
    path.write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())
    try:
        result_or_line(lambda: read_all(folder, STUDY))
    finally:
        path.write_text(json.dumps(valid))


@few
@given(content=st.data())
def test_results(folder: Path, content: st.DataObject) -> None:
    path = folder / "results.nc"
    valid = path.read_bytes()
    path.write_bytes(content.draw(st.one_of(st.binary(max_size=40), mutated(valid))))
    try:
        found = result_or_line(lambda: array_files.read_netcdf(path))
        assert found is None or isinstance(found, xr.Dataset)
    finally:
        path.write_bytes(valid)


@pytest.mark.parametrize("size", [0, 2**64 - 16])  # of the free space; of the first string
def test_a_global_heap_without_an_end(folder: Path, tmp_path: Path, size: int) -> None:
    # Found by the test above: HDF5 goes on by the size of what is free, for ever where that is 0.
    content = bytearray((folder / "results.nc").read_bytes())
    at = content.index(b"GCOL") + array_files.HEAD
    while size == 0 and int.from_bytes(content[at : at + 2], "little") != 0:
        at += array_files.HEAD + -(-int.from_bytes(content[at + 8 : at + 16], "little") // 8) * 8
    content[at + 8 : at + 16] = size.to_bytes(8, "little")
    path = tmp_path / "results.nc"
    path.write_bytes(content)
    with pytest.raises(ih.UserError, match="is damaged \\(its global heap"):
        array_files.read_netcdf(path)


SETTINGS = [*RUN_SETTINGS, *MODEL_SETTINGS, "evaluate", "checkpoints", "clamp", "name"]
AXES = st.lists(SCALARS, max_size=3)


@few
@given(st.sampled_from(SETTINGS), st.one_of(SCALARS, AXES))
def test_settings_of_studies(name: str, value: Any) -> None:
    task = STUDY.task
    result_or_line(lambda: ih.sweep(task, **{"sequences": 64, name: value}).check())


@few
@given(JSON.map(json.dumps) | mutated(STUDY.clamps["match"].to_json().encode()))
def test_clamps_as_json(text: Any) -> None:
    result_or_line(lambda: ih.Clamp.from_json(text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": 10**12}, "blocks does not hold each run once"),
        ({"blocks": [[0]], "runs": 1}, "the study has 2 runs"),
    ],
    ids=str,
)
def test_cards_that_count_other_runs(
    folder: Path, tmp_path: Path, change: Any, message: str
) -> None:
    card = read_card(folder)
    write_card(tmp_path, {**card, **change})
    with pytest.raises(ih.UserError, match=message):
        ih.load(tmp_path, STUDY)


def nothing(params: Any, clamp: Any, probe: Any) -> dict[str, Any]:
    """A measure that is never reached."""
    raise AssertionError


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda t: t.measure(nothing, runs=5), "runs is 5: give a list"),
        (lambda t: t.measure(nothing, runs=["x"]), "one of runs is 'x'"),
        (lambda t: t.measure(nothing, steps="2"), "steps is '2': give a list"),
        (lambda t: t.measure(len), "len cannot be called with 3 arguments"),
        (lambda t: t.view(runs=[-1]), "one of runs is -1"),
        (lambda t: t.view(megabytes=float("nan")), "megabytes is nan"),
    ],
)
def test_numbers_of_runs_and_sizes_that_are_none(folder: Path, ask: Any, message: str) -> None:
    with pytest.raises(ih.UserError, match=message):
        ask(ih.load(folder, STUDY))


def test_a_card_of_blocks_too_wide_for_memory(folder: Path, tmp_path: Path) -> None:
    write_card(tmp_path, {**read_card(folder), "width": 10**12, "finished": False})
    with pytest.raises(ih.UserError, match=r"a block of 1,000,000,000,000 runs takes"):
        STUDY.train(tmp_path, resume=True, progress=False)


@pytest.mark.parametrize("scores", [(1, 2, 4, 3), (2, 1, 4, 3), (2, 2, 4, 1)])
def test_scores_that_do_not_fit_the_card(folder: Path, tmp_path: Path, scores: Any) -> None:
    shutil.copytree(folder, tmp_path / "x")
    part = store.part_path(tmp_path / "x", 0, 0)
    leaves, about = store.load_part(part)
    leaves = {"params": leaves, "scores": np.ones(scores, np.float32)}
    store.save_part(part, leaves, about)
    (tmp_path / "x/results.nc").unlink()
    with pytest.raises(store.Damaged, match="they do not fit"):
        _ = ih.load(tmp_path / "x", STUDY).results
    with pytest.raises(store.Damaged, match="is missing, but"):
        ih.load(tmp_path / "x", STUDY).params(0, 0)


def test_results_of_another_training(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "x")
    path = tmp_path / "x/results.nc"
    save_results(ih.load(folder, STUDY).results.isel(clamp=[0]), path)
    with pytest.raises(
        store.Damaged, match="is not of this training: it tells of 1 runs, the card of 2"
    ):
        _ = ih.load(tmp_path / "x", STUDY).results
    assert "is not of this training" in status(tmp_path / "x").damage[-1]
    path.unlink()
    assert ih.load(tmp_path / "x", STUDY).results.equals(ih.load(folder, STUDY).results)


def test_weights_of_another_shape_than_the_card_says(folder: Path) -> None:
    other = ih.sweep(
        ih.fewshot(np.ones((12, 2, 4)), classes=6, labels=3),
        clamp={"none": None, "match": ih.induction(1, 1)},
        sequences=64,
        layers=2,
        d_model=16,
        heads=2,
    )
    with pytest.raises(store.Damaged, match=r"is of shape .* by card.json"):
        ih.load(folder, other).params(0, 0)


def test_a_part_without_its_arrays_is_one_line(folder: Path, tmp_path: Path, caplog: Any) -> None:
    shutil.copytree(folder, tmp_path / "x")
    part = store.part_path(tmp_path / "x", 0, 0)
    shutil.rmtree(part / "arrays")
    (part / "arrays").mkdir()
    with pytest.raises(store.Damaged, match="cannot be read"):
        store.load_part(part)
    assert not caplog.records  # Orbax would say it in lines of its own


def test_a_sweep_that_has_no_checkpoint_yet(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "x", ignore=shutil.ignore_patterns("part-*"))
    with pytest.raises(ih.UserError, match="run 1 has no checkpoint yet"):
        ih.load(tmp_path / "x", STUDY).last_step(1)


def test_a_folder_whose_card_cannot_be_read_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(ih.UserError, match="is not JSON"):
        STUDY.train(tmp_path, progress=False)
    assert [each.name for each in tmp_path.rglob("*")] == ["card.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_path_that_is_no_text_is_refused_before_training(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9") / "o"
    with pytest.raises(ih.UserError, match="is no UTF-8 text: rename"), store.new_folder(odd):
        pass
    with pytest.raises(ih.UserError, match="is no UTF-8 text: rename"):
        store.load_part(odd)
    assert not list(tmp_path.iterdir())
