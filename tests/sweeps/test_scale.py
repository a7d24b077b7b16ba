"""Studies of many runs: what is repeated stands once, and reading one run does not read all."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ih_jax as ih
from ih_jax import memory
from ih_jax.clamps.clamp import Clamp
from ih_jax.sweeps import store
from ih_jax.sweeps.blocks import BlockPlan
from ih_jax.sweeps.card_file import write_card
from ih_jax.sweeps.loop import State
from ih_jax.sweeps.packing import packing
from ih_jax.sweeps.writer import Writer

MANY = 10_000


@pytest.fixture(scope="module")
def study() -> ih.Sweep:
    return ih.sweep(
        ih.fewshot(classes=8),
        init=range(MANY // 2),
        weights_seed={i: 7 + i // 4 for i in range(MANY // 2)},
        learning_rate=1e-4,
        clamp={"none": None, "held": ih.induction(1, 3)},
        sequences={"none": 320, "held": 640},
    )


def test_what_runs_have_in_common_is_described_once(
    study: ih.Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(study.runs) == MANY
    assert len({id(run.common) for run in study.runs}) == 2
    held = study.runs[MANY // 2 + 5]
    assert held.names == {"clamp": "held", "init": 5}
    assert (held.settings["init"], held.settings["weights_seed"]) == (5, 8)
    assert (held.steps, held.settings["sequences"]) == (20, 640)
    # The clamps' arrays are made once for each clamp, not for each run.
    made = []
    real = Clamp.arrays
    monkeypatch.setattr(Clamp, "arrays", lambda self, config: made.append(1) or real(self, config))
    (group,) = study.groups
    arrays = group.arrays
    assert len(made) == 2
    places = [0, 5, MANY // 2 + 5]
    assert np.array_equal(np.asarray(arrays.init)[places], [7, 8, 8])
    gates = np.asarray(arrays.holds.holds[0].gate)
    assert not gates[:5].any() and gates[MANY // 2 + 5].any()
    # The features of all runs are one array.
    assert arrays.task.train.table.strides[0] == 0
    assert len(packing(arrays).pack(arrays, places).varying[0]) == 3


def seeded(seeds: int) -> ih.Sweep:
    """A study whose tasks have data of their own: by network, and by number of classes."""
    task = ih.GaussianClasses(dimensions=8, pairs=2, labels=2, classes=4, most_classes=8, batch=2)
    own = {i: i for i in range(seeds)}
    return ih.sweep(task, init=range(seeds), classes=[4, 8], centres_seed=own, sequences=20)


def test_a_task_is_traced_once_whatever_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = ih.GaussianClasses.sample
    traced = []
    for seeds in (1, 30):
        count = []
        monkeypatch.setattr(
            ih.GaussianClasses,
            "sample",
            lambda *given, count=count: count.append(1) or sample(*given),
        )
        study = seeded(seeds)
        assert (len(study.commons), len(study.groups)) == (2 * seeds, 1)
        assert {run.task.context_length for run in study.runs} == {5}
        traced.append(len(count))
    assert traced[0] == traced[1] > 0


def test_data_of_many_tasks_is_there_once_and_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    study = seeded(3)
    (group,) = study.groups
    train, *others = (group.arrays.task.train, *group.arrays.task.evaluation)
    for run, own in zip(study.runs, train["centres"], strict=True):
        assert np.array_equal(own, run.task.source("train")["centres"])
    assert all(each["centres"] is train["centres"] for each in others)
    monkeypatch.setattr(memory, "LITTLE", 0)
    big = seeded(4)
    monkeypatch.setattr(memory, "free", lambda: 1000)
    with pytest.raises(ih.UserError, match="the data of 8 runs, which learn 8 tasks, takes"):
        big.check()


def test_networks_with_one_clamp_are_described_together() -> None:
    heads = [ih.induction(1, head) for head in range(3)]
    study = ih.sweep(
        ih.fewshot(classes=8),
        init=range(300),
        clamp={"own": {i: heads[i % 3] for i in range(300)}},
        label_split={i: i // 150 for i in range(300)},
        sequences=320,
    )
    assert len(study.commons) == 6
    for run in study.runs:
        assert run.clamp is heads[run.names["init"] % 3]
        assert run.task.label_split == run.names["init"] // 150


def test_networks_of_the_same_data_have_it_in_common() -> None:
    split = {i: i // 500 for i in range(2_000)}
    study = ih.sweep(ih.fewshot(classes=8), init=range(2_000), label_split=split, sequences=320)
    assert len(study.commons) == 4
    assert [run.task.label_split for run in study.runs] == list(split.values())


def test_seeds_given_with_the_network_are_checked_for_every_network() -> None:
    with pytest.raises(ih.UserError, match="order is -1"):
        ih.sweep(ih.fewshot(classes=8), init=[0, 1, 2], order={0: 1, 1: -1, 2: 3}, sequences=320)
    with pytest.raises(ih.UserError, match="learning_rate is 0"):
        ih.sweep(ih.fewshot(classes=8), learning_rate=[1e-3, 0], sequences=320)
    with pytest.raises(ih.UserError, match="order is given for init 0, not for 1"):
        ih.sweep(ih.fewshot(classes=8), init=[0, 1], order={0: 1}, sequences=320)


def test_more_runs_than_a_study_may_have() -> None:
    with pytest.raises(ih.UserError, match="a study of 4,000,000 runs: give at most 2,000,000"):
        ih.sweep(ih.fewshot(classes=8), init=range(2_000), order=range(2_000), sequences=320)


def test_a_horizon_is_no_axis() -> None:
    with pytest.raises(ih.UserError, match=r"sequences is \[320, 640\]: it is no axis"):
        ih.sweep(ih.fewshot(classes=8), sequences=[320, 640])


def test_a_message_does_not_list_all_of_many_names() -> None:
    labels = ih.errors.unknown("init", 10**9, map(str, range(10**5)))
    assert len(str(labels)) < 300
    assert "(100,000 in all)" in str(labels)


def test_a_run_of_many_is_found_by_its_labels(study: ih.Sweep, tmp_path) -> None:
    blocks = np.arange(MANY).reshape(-1, 10).tolist()
    write_card(tmp_path, {"study": study.describe(), "blocks": blocks, "width": 10, "runs": MANY})
    t = ih.load(tmp_path, study)
    assert t.run(clamp="held", init=9) == MANY // 2 + 9
    block, place, spec = t._find(2_345)
    assert (block.number, place, spec.index) == (234, 5, 2_345)
    with pytest.raises(ih.UserError, match=r"5000 runs have clamp='held': give one of init \(0, 1"):
        t.run(clamp="held")


def test_scores_are_read_without_the_weights(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.arange(24, dtype=np.float32).reshape(2, 3, 1, 4)
    part = store.part_path(tmp_path, 0, 0)
    about = {"steps": [1], "score_steps": [0, 1], "diverged": [-1] * 3, "runs": [0, 1, 2]}
    store.save_part(
        part, {"params": {"W": np.ones((1, 3, 2), np.float32)}, "scores": scores}, about
    )
    assert sorted(store.load_part(part)[0]) == ["params.W", "scores"]
    monkeypatch.setattr(store, "_orbax", lambda: pytest.fail("Orbax was asked"))
    assert np.array_equal(store.load_scores(part), scores)
    damaged = bytearray((part / "scores.npy").read_bytes())
    damaged[-3] ^= 1
    (part / "scores.npy").write_bytes(bytes(damaged))
    with pytest.raises(store.Damaged, match="scores differ"):
        store.load_scores(part)


def test_scores_that_cannot_be_read_are_damage(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = store.part_path(tmp_path, 0, 0)
    store.save_part(part, {}, {"score_steps": [0]})
    with pytest.raises(store.Damaged, match="part-0000 is not what was written: scores"):
        store.load_scores(part)
    (part / "scores.npy").write_bytes(b"of a disk that fails")

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store.array_files, "npy_records", fails)
    with pytest.raises(store.Damaged, match=r"part-0000 cannot be read .Input/output error"):
        store.load_scores(part)


def test_a_whole_block_keeps_no_state(tmp_path) -> None:
    """Not even where the process died after it had written the last part."""
    plan = BlockPlan(number=0, group=0, members=(0,), runs=(0,), steps=10)
    about = {"steps": [plan.steps], "score_steps": [], "diverged": [-1], "runs": [0]}
    store.save_part(store.part_path(tmp_path, 0, 0), {}, about)
    for name in ("state-0000", "state-0001.writing"):
        store.part_path(tmp_path, 0, 0).with_name(name).mkdir()
    with ThreadPoolExecutor(1) as saver:
        assert Writer(tmp_path, plan, saver).last_good(None) == (None, plan.steps)
    assert [path.name for path in tmp_path.glob("trajectory/*/*")] == ["part-0000"]


def test_arrays_that_declare_more_than_memory_are_not_read(tmp_path, monkeypatch) -> None:
    part = store.part_path(tmp_path, 0, 0)
    store.save_part(part, {"params": {"W": np.ones((1, 3, 2), np.float32)}}, {"steps": [1]})
    monkeypatch.setattr(ih.memory, "LITTLE", 0)
    monkeypatch.setattr(ih.memory, "free", lambda: 20)
    with pytest.raises(store.Damaged, match="its arrays takes"):
        store.load_part(part)


def test_common_settings_are_of_a_program() -> None:
    """Whatever a program is compiled for must be in what runs share."""
    study = ih.sweep(
        ih.fewshot(classes=8), weight_decay=[0.0, 0.1], beta2=[0.9, 0.99], sequences=64
    )
    assert len({id(run.common) for run in study.runs}) == len(study.groups) == 4


def test_a_finished_block_keeps_no_state_and_a_damaged_one_begins_again(tmp_path, capsys) -> None:
    plan = BlockPlan(0, 0, (0, 1), (0, 1), 4)
    weights = {"W": np.arange(6, dtype=np.float32).reshape(2, 3)}
    state = State(weights, (), np.full(2, -1, np.int32))
    scores = np.ones((1, 2, 1, 3), np.float32)
    folder = store.part_path(tmp_path, 0, 0).parent

    def states() -> list[str]:
        return sorted(path.name for path in folder.glob("state-*"))

    with ThreadPoolExecutor(1) as saver:
        writer = Writer(tmp_path, plan, saver)
        for step in (0, 2):
            writer.add([(step, 2, True)], scores, state)
            writer.flush(state, step)
        writer.wait()
        assert states()[-1] == "state-0001"
        found, at = Writer(tmp_path, plan, saver).last_good(state)
        assert at == 2
        assert found is not None
        assert np.array_equal(found.params["W"], weights["W"])
        writer.add([(4, 2, True)], scores, state)
        writer.flush(state, 4)
        writer.wait()
        assert states() == []
        assert Writer(tmp_path, plan, saver).last_good(state) == (None, 4)
        manifest = folder / "part-0001" / "manifest.json"
        manifest.write_text(manifest.read_text()[:-9])
        assert Writer(tmp_path, plan, saver).last_good(state) == (None, 0)
    assert "part-0001" in capsys.readouterr().out
    assert list(folder.iterdir()) == []


def test_more_tasks_than_a_study_may_have() -> None:
    own = {i: i for i in range(150_000)}
    with pytest.raises(ih.UserError, match="150,000 different tasks, models and clamps: give at"):
        ih.sweep(ih.Regression(), init=range(150_000), tasks_seed=own, sequences=64)
