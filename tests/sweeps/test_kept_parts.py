"""Weights that are read again and again: what was read last stays in memory, the rest goes."""

import jax
import numpy as np

from ih_jax.model.params import Config, init
from ih_jax.sweeps import kept_parts, store
from ih_jax.sweeps.kept_parts import KeptParts
from ih_jax.sweeps.records import BlockRecord

CONFIG = Config(features=3, labels=2, d_model=8, heads=2)


def test_what_was_read_last_is_kept(tmp_path, monkeypatch) -> None:
    params = init(jax.random.key(0), CONFIG)
    for step in range(3):
        weights = jax.tree.map(lambda leaf, step=step: np.asarray(leaf)[None, None] + step, params)
        about = {"steps": [step], "score_steps": [], "diverged": [-1], "runs": [0]}
        store.save_part(store.part_path(tmp_path, 0, step), {"params": weights}, about)
    block, parts = BlockRecord(tmp_path, 0, (0,)), KeptParts()
    one = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    monkeypatch.setattr(kept_parts, "MOST_KEPT", 2.5 * one)
    read: list[str] = []
    load = store.load_part
    monkeypatch.setattr(store, "load_part", lambda path: (read.append(path.name), load(path))[1])
    for step in (0, 1, 0, 2, 0, 1):  # 2 drops 1, which 0 has outlived
        found = parts.read(block, 0, CONFIG, step)
        np.testing.assert_array_equal(found.W_U, params.W_U + step)
    assert read == ["part-0000", "part-0001", "part-0002", "part-0001"]
    assert parts.bytes == 2 * one


def test_a_folder_whose_name_is_a_pattern_keeps_its_weights(tmp_path) -> None:
    params = init(jax.random.key(0), CONFIG)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf)[None, None], params)
    about = {"steps": [0], "score_steps": [], "diverged": [-1], "runs": [0]}
    for name in ("br [v2]", "all*", "why?"):
        path = store.part_path(tmp_path / name, 0, 0)
        store.save_part(path, {"params": weights}, about)
        found, _ = store.load_part(path)
        np.testing.assert_array_equal(found["params.W_U"], weights.W_U)
        assert sorted(each.name for each in path.parent.iterdir()) == ["part-0000"]
