"""What may befall a sweep: killed, interrupted, disk full, bits flipped, several processes, NaN.

After each, the sweep goes on to the bits of one that nothing befell.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

import ih_jax as ih
from ih_jax.data.evaluations import EVALUATION_SETS
from ih_jax.data.images import features
from ih_jax.sweeps import store

pytestmark = pytest.mark.every_device

# Children start from a server that has imported everything: a start takes a second, not four.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["ih_jax", "ih_jax.cli.main"])


def study(**changes):
    """Twelve small runs in six blocks of two, each saved ten times."""
    settings = {
        "clamp": {
            "none": None,
            "match": ih.induction(1, 1),
            "pulse": ih.ablate(1, 0).during(80, 160),
        },
        "init": [3, 4],
        "learning_rate": [1e-3, 1e-2],
        "d_model": 16,
        "heads": 2,
        "sequences": {"none": 3200, "match": 1600, "pulse": 1600},
        "evaluate": range(0, 3201, 320),
        "checkpoints": range(0, 3201, 320),
    }
    task = ih.fewshot(
        features.of_gaussian(12, 8, exemplars=2),
        classes=8,
        test_classes=4,
        val_exemplars=1,
        batch=8,
        evaluation_sequences=16,
        evaluation_sets=EVALUATION_SETS[:2],
    )
    return ih.sweep(task, **{**settings, **changes})


def train(folder, cache, share=None, pause=0.0, interrupt_after=0):
    """What a child process does: all of the sweep or its share, saving after every chunk.

    With `interrupt_after` it gets SIGINT, as by Ctrl-C, once that many chunks are trained.
    """
    from ih_jax.sweeps import engine, sharing, writer

    jax.config.update("jax_num_cpu_devices", 2)
    engine.use_compilation_cache(Path(cache))
    writer.SAVE_EVERY_SECONDS = sharing.POLL_SECONDS = 0.0
    if pause:  # so that both of two processes get blocks
        ended = engine._train_block

        def slowly(*arguments):
            ended(*arguments)
            time.sleep(pause)

        engine._train_block = slowly
    if interrupt_after:
        trained, add = itertools.count(1), writer.Writer.add

        def add_and_interrupt(*arguments):
            add(*arguments)
            if next(trained) == interrupt_after:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(2 * engine.HEAR_EVERY_SECONDS)

        writer.Writer.add = add_and_interrupt
    with contextlib.suppress(ih.Interrupted):
        study().train(folder, progress=False, resume=share is None, width=2, share=share)


def start(folder, **settings):
    cache = jax.config.values["jax_compilation_cache_dir"]
    process = context.Process(target=train, args=(str(folder), cache), kwargs=settings)
    process.start()
    return process


def parts(folder):
    return len(list(folder.glob("trajectory/*/part-????")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep that nothing befell."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder)
    process.join()
    assert process.exitcode == 0
    return ih.load(folder)


def assert_same_bits(folder, whole):
    found = ih.load(folder)
    assert found.card["finished"]
    xr.testing.assert_identical(found.results, whole.results)
    for run in range(len(whole.study.runs)):
        assert found.steps(run) == whole.steps(run)
        for step in whole.steps(run):
            pairs = zip(
                jax.tree.leaves(found.params(run, step)),
                jax.tree.leaves(whole.params(run, step)),
                strict=True,
            )
            assert all(np.array_equal(a, b) for a, b in pairs), (run, step)


def test_killed_at_twenty_random_moments(tmp_path, whole):
    """As many sweeps as twenty kills take: how far one gets between kills is up to the machine."""
    moments = np.random.default_rng(20)
    kills = sweeps = 0
    folder = tmp_path / "0"
    while kills < 20:
        before = parts(folder)
        process = start(folder)
        if moments.random() < 0.25:  # while it starts, or reads what is there
            process.join(moments.uniform(0.2, 3.0))
        else:  # while it trains and writes
            while process.is_alive() and parts(folder) <= before:
                time.sleep(0.002)
            process.join(moments.uniform(0, 0.15))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            assert_same_bits(folder, whole)
            sweeps += 1
            folder = tmp_path / str(sweeps)
        else:
            assert process.exitcode == -signal.SIGKILL
    process = start(folder)
    process.join()
    assert process.exitcode == 0
    assert_same_bits(folder, whole)


def test_interrupted_it_saves_and_goes_on(tmp_path, whole):
    for chunks in (3, 5):
        process = start(tmp_path, interrupt_after=chunks)
        process.join()
        assert process.exitcode == 0
        assert not ih.load(tmp_path).card["finished"]
        # The chunks that its device, and perhaps the other one, had trained.
        assert parts(tmp_path) >= chunks
    start(tmp_path).join()
    assert_same_bits(tmp_path, whole)


def test_two_processes_share_a_sweep_and_one_is_killed(tmp_path, whole):
    first, second = (start(tmp_path, share="claim", pause=0.3) for _ in range(2))
    while first.is_alive() and parts(tmp_path) < 3:
        time.sleep(0.002)
    first.kill()
    first.join()
    second.join()
    assert second.exitcode == 0
    assert_same_bits(tmp_path, whole)


def test_fixed_shares_are_put_together(tmp_path, whole):
    processes = [start(tmp_path, share=f"{rank}/3") for rank in range(3)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert_same_bits(tmp_path, whole)


def test_a_process_that_shares_trains_what_is_damaged_again(tmp_path, whole):
    folder = tmp_path / "copy"
    shutil.copytree(whole.folder, folder)
    (folder / "results.nc").unlink()
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "finished": False}))
    last = sorted(folder.glob("trajectory/block-0001/part-????"))[-1]
    (last / "manifest.json").write_text("{")
    study().train(folder, progress=False, share="claim")
    assert_same_bits(folder, whole)


@pytest.mark.parametrize("share", ["", "2", "3/3", "-1/2", "all"])
def test_a_share_that_is_none_is_refused(tmp_path, share):
    with pytest.raises(ih.UserError, match="RANK/COUNT"):
        study().train(tmp_path / "x", share=share)
    assert not (tmp_path / "x").exists()


def test_no_flipped_bit_goes_unseen(tmp_path, whole):
    draw = np.random.default_rng(7)
    folder = tmp_path / "copy"
    shutil.copytree(whole.folder, folder)
    every = sorted(p for p in folder.glob("trajectory/*/part-*") if p.is_dir())
    seen = 0
    for _ in range(60):
        part = every[draw.integers(len(every))]
        good, _ = store.load_part(part)
        files = sorted(p for p in part.rglob("*") if p.is_file() and p.stat().st_size)
        # By size, as a disk's errors would fall.
        sizes = np.array([p.stat().st_size for p in files], float)
        path = files[draw.choice(len(files), p=sizes / sizes.sum())]
        before = path.read_bytes()
        data = bytearray(before)
        data[draw.integers(len(data))] ^= 1 << draw.integers(8)
        path.write_bytes(bytes(data))
        try:
            found, _ = store.load_part(part)
            assert {k: v.tobytes() for k, v in found.items()} == {
                k: v.tobytes() for k, v in good.items()
            }, path
        except store.Damaged as damage:
            seen += part.name in str(damage)
        path.write_bytes(before)
    assert seen > 20


def test_damage_is_named_and_trained_again(tmp_path, whole, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(whole.folder, folder)
    damaged = sorted(folder.glob("trajectory/block-0001/part-????"))[2]
    largest = max((p for p in damaged.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 4
    largest.write_bytes(bytes(data))
    (folder / "results.nc").unlink()
    study().train(folder, progress=False, resume=True)
    assert damaged.name in capsys.readouterr().out
    assert_same_bits(folder, whole)


ON_A_SMALL_DISK = """
set -u
mount -t tmpfs -o size=$2 tmpfs "$1" || exit 77
"$3" -m ih_jax.cli run study.py --out "$1/out" --quiet --width 2 ; echo "first $?"
mount -o remount,size=200m "$1"
"$3" -m ih_jax.cli run study.py --out "$1/out" --quiet --resume ; echo "second $?"
cp -r "$1/out" "$4"
"""


@pytest.mark.parametrize("size", ["700k", "1500k"])
def test_a_full_disk_stops_it_and_room_lets_it_go_on(tmp_path, whole, size):
    """On a file system of its own: needs the right to mount one, as root or in a user namespace."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "study.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from ih_jax.sweeps import writer, engine\nwriter.SAVE_EVERY_SECONDS = 0.0\n"
        "engine._refuse_full_disk = lambda *_: None  # the disk fills while it trains\n"
        "import test_faults\nstudy = test_faults.study()\n"
    )
    out = tmp_path / "kept"
    done = subprocess.run(
        [
            "unshare",
            "-rm",
            "bash",
            "-c",
            ON_A_SMALL_DISK,
            "bash",
            str(disk),
            size,
            sys.executable,
            str(out),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system lets nobody mount a small file system")
    assert "first 1" in done.stdout, done.stdout + done.stderr
    # Threads of Orbax may have had their say before; the last word says what to do.
    last = done.stderr.split("first")[0].strip().splitlines()[-1]
    assert last.startswith("ih-jax: "), done.stderr
    assert "no space left" in last.lower(), last
    assert "--resume" in last
    assert "second 0" in done.stdout, done.stdout + done.stderr
    assert_same_bits(out, whole)


def test_a_sweep_larger_than_the_disk_is_refused(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ih.UserError, match="keep fewer checkpoints"):
        study().train(tmp_path / "x", progress=False)
    assert not (tmp_path / "x" / "card.json").exists()


def test_a_diverging_run_leaves_its_neighbours_bits_alone(tmp_path, capsys):
    few = {"clamp": None, "sequences": 1600, "init": [3]}
    found = {}
    for name, rates in (("good", [1e-3, 1e-2]), ("bad", [1e-3, 1e38])):
        trained = study(**few, learning_rate=rates).train(tmp_path / name, progress=False, width=2)
        found[name] = trained.results["loss"].sel(learning_rate=1e-3)
    xr.testing.assert_identical(found["good"].drop_attrs(), found["bad"].drop_attrs())
    bad = trained.results.sel(learning_rate=1e38)
    assert float(bad["diverged_at"].squeeze()) < 1600
    assert np.isnan(bad["loss"].sel(sequences=1600)).all()
    assert np.isnan(trained.results.sel(learning_rate=1e-3)["diverged_at"]).all()
