"""Every kind of wrong command: one line, the right exit code, and nothing left behind."""

import errno
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

import ih_jax as ih
from ih_jax.cli import main as program
from ih_jax.cli import options
from ih_jax.cli.main import main
from ih_jax.data.images import features
from ih_jax.errors import UserError
from ih_jax.interop.pretrained.reading import checkpoints
from ih_jax.interop.pretrained.text import encode

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": {"e": 0}, "unk_token": "e"},
}
STUDY = "import ih_jax as ih\nstudy = ih.sweep(ih.fewshot(classes=8), sequences=320)\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a study and a file of features."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IH_JAX_DATA_DIR", raising=False)
    (tmp_path / "study.py").write_text(STUDY)
    with h5py.File(tmp_path / "good.h5", "w") as file:
        file["feat"] = np.random.default_rng(0).normal(size=(60, 3, 4))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def left_in(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in found if "__pycache__" not in name}


def refused(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    before = left_in(folder)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("ih-jax: ")
    assert said.count("\n") == 1, said
    assert left_in(folder) == before
    return said


RUN = ["run", "fig5b", "--quiet"]
FEATURES = ["features", "--images", "x.zip", "--encoder", "pixels"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*RUN, "--seeds", "0"], "--seeds is 0: give a whole number from 1"),
        ([*RUN, "--seeds", "-1"], "--seeds is -1"),
        ([*RUN, "--seeds", "1" + "0" * 30], "--seeds is a whole number of about 31 digits"),
        ([*RUN, "--seeds", str(2**63)], "--seeds is 9223372036854775808"),
        (
            [*RUN, "--seeds", "2000000000"],
            "seeds is 2000000000: give a whole number from 1 to 10,000",
        ),
        ([*RUN, "--width", "0"], "--width is 0"),
        ([*RUN, "--classes", "-3"], "--classes is -3"),
        ([*RUN, "--classes", "1000000"], "the data has 1623"),
        ([*RUN, "--exemplars", "0"], "exemplars 0: give 2 or more, 1 or more"),
        ([*RUN, "--labels", "1000000"], "pairs of 1,000,000 labels takes"),
        ([*RUN, "--labels", "10000"], "labels takes 5.0 GB: give at most 4,000 labels, or scheme="),
        ([*RUN, "--scale", "nan"], "--scale is nan: give a finite number"),
        ([*RUN, "--scale", "inf"], "--scale is inf"),
        ([*RUN, "--scale", "0"], "--scale is 0.0"),
        ([*FEATURES, "--drawings", "0"], "--drawings is 0"),
        ([*FEATURES, "--seed", "-1"], "--seed is -1"),
        (["heads", "--model", "x", "--seed", "-1"], "--seed is -1"),
        (["export", "x", "--out", "y", "--run", "-1"], "--run is -1"),
        (["view", "x", "--megabytes", "nan"], "--megabytes is nan"),
        (["bench", "--out", "b", "--widths", "0"], "--widths is 0"),
        (["bench", "--out", "b", "--pairs", "0"], "--pairs is 0"),
    ],
    ids=lambda each: " ".join(each[-2:])[:30] if isinstance(each, list) else "",
)
def test_numbers(here: Path, capsys: Any, arguments: list[str], message: str) -> None:
    assert message in refused(here, capsys, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*RUN, "--data-key", "x"], "--data-key does not apply to data glyphs"),
        ([*RUN, "--download"], "--download does not apply to data glyphs"),
        ([*RUN, "--encoder", "pixels"], "--encoder does not apply to data glyphs"),
        ([*RUN, "--data", "good.h5", "--download"], "--download does not apply to data good.h5"),
        ([*RUN, "--data", "omniglot", "--data-key", "x"], "--data-key does not apply"),
        ([*RUN, "--data", "omniglot", "--images", "x.zip", "--download"], "give either"),
        ([*RUN, "--data", "omniglot", "--images"], "--images is given without a value"),
        ([*RUN, "--clamps"], "--clamps is given without a value"),
        ([*RUN, "--clamps", "none", "none"], "--clamps has a value twice"),
        ([*RUN, "--out", ""], "--out is empty"),
        ([*RUN, "--out="], "--out is empty"),
        ([*RUN, "--data", ""], "--data is empty"),
        (["run", ""], "an argument is empty"),
        (["run", "study.toml"], "give one that `ih-jax list` shows, or a file whose name ends in"),
        (["run", "olsson-smoke", "--text", "x"], "--text does not apply"),
        (["run", "study.py", "--scale", "0.5"], "--scale does not apply"),
        (["heads", "--model", "x", "--model", "x"], "--model has a value twice"),
        ([*FEATURES, "--weights", "good.h5"], "only with it"),
        (["bench", "--quick", "--pairs", "5", "--out", "b"], "--quick has widths and pairs"),
        ([*RUN, "--data", "caf\udce9.h5"], "is no UTF-8 text"),
        (["run", "fig5a", "--labels", "7"], "does not apply to fig5a, which trains nothing"),
        (["run", "fig5a", "--scale", "0.5"], "does not apply to fig5a, which trains nothing"),
        (["run", "garg-diversity", "--classes", "7"], "whose trainings it would leave as they"),
        (["run", "garg-diversity", "--vary", "order"], "whose trainings it would leave as they"),
        ([*RUN, "--vary", "init,"], "unknown factor ''"),
    ],
    ids=lambda each: (
        " ".join(each[1:])[:40].encode("ascii", "replace").decode()
        if isinstance(each, list)
        else ""
    ),
)
def test_options_that_do_nothing(
    here: Path, capsys: Any, arguments: list[str], message: str
) -> None:
    assert message in refused(here, capsys, arguments)


def test_nothing_is_drawn_to_refuse_an_option(
    here: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr(features, "_drawn", fail)
    said = refused(here, capsys, ["run", "singh2025-grafts", "--quiet", "--labels", "7"])
    assert "whose trainings it would leave as they" in said


ODD = {"pipe": "is a pipe", "loop": "cannot be read", ".": "is a folder", "/dev/zero": "a device"}
READERS = {
    "data": ["data", "{}", "--out", "new.png"],
    "run --data": [*RUN, "--data", "{}"],
    "import --data": ["import", "x", "--data", "{}", "--out", "new"],
    "weights": ["features", "--images", "x", "--encoder", "resnet18", "--weights", "{}"],
    "images": ["features", "--encoder", "pixels", "--images", "{}"],
    "plot --file": ["plot", "made", "--file", "{}"],
    "text": ["run", "olsson-text", "--quiet", "--text", "{}"],
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_where_one_belongs(here: Path, capsys: Any, odd: str, reader: str) -> None:
    (here / "made").mkdir()
    with h5py.File(here / "made" / "results.nc", "w") as file:
        file.attrs["experiment"] = "fig5b"
    arguments = [word.replace("{}", odd) for word in READERS[reader]]
    said = refused(here, capsys, arguments)
    if reader == "import --data":  # the run is read first
        assert "there is no" in said
    elif odd != "." or reader not in ("images", "text"):
        assert ODD[odd] in said


def test_a_link_in_a_circle_is_not_taken_for_nothing(here: Path) -> None:
    (here / "model").mkdir()
    for name in ("tokenizer.json", "config.json"):
        (here / "model" / name).symlink_to(name)
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        encode(here / "model" / "tokenizer.json", ["text"], None)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        checkpoints(here / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"normalizer": {"type": "Sequence", "normalizers": [{"content": "e" * 99}] * 5}},
            "9.51e+09",
        ),
        ({"normalizer": []}, "cannot be read"),
    ],
)
def test_a_tokenizer_that_swells_texts(here: Path, change: Any, message: str) -> None:
    (here / "tokenizer.json").write_text(json.dumps({**TOKENIZER, **change}))
    with pytest.raises(UserError, match=re.escape(message)):
        encode(here / "tokenizer.json", ["e"], None)


def test_a_tokenizer_does_not_pad(here: Path) -> None:
    padding = {
        "strategy": {"Fixed": 10**10},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "e",
    }
    (here / "tokenizer.json").write_text(json.dumps({**TOKENIZER, "padding": padding}))
    assert encode(here / "tokenizer.json", ["e"], None) == [[0]]


WRITERS = {
    "data": ["data", "good.h5", "--out", "{}"],
    "features": [*FEATURES, "--out", "{}"],
    "export": ["export", "x", "--out", "{}"],
    "run --out": [*RUN, "--out", "{}"],
    "run --trainings": [*RUN, "--out", "new", "--trainings", "{}"],
    "study --out": ["run", "study.py", "--quiet", "--out", "{}"],
}


@pytest.mark.parametrize("place", ["good.h5/inside", "pipe", "loop"])
@pytest.mark.parametrize("writer", WRITERS)
def test_places_where_nothing_can_be_written(
    here: Path, capsys: Any, place: str, writer: str
) -> None:
    refused(here, capsys, [word.replace("{}", place) for word in WRITERS[writer]])


OVER = {"data": WRITERS["data"], "export": WRITERS["export"], "view": ["view", ".", "--out", "{}"]}


@pytest.mark.parametrize("writer", OVER)
def test_a_file_of_another_kind_is_not_written_over(here: Path, capsys: Any, writer: str) -> None:
    before = (here / "good.h5").read_bytes()
    said = refused(here, capsys, [word.replace("{}", "good.h5") for word in OVER[writer]])
    assert "is there and is no " in said
    assert (here / "good.h5").read_bytes() == before


def fails(error: BaseException) -> Any:
    def run(command: Any) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("x is 1:\ngive 2"), 2, "x is 1: give 2"),
        (FileNotFoundError(errno.ENOENT, "No such file", "y"), 2, "y: No such file"),
        (PermissionError(errno.EACCES, "Permission denied", "y"), 2, "y: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
        (OSError(errno.EIO, "Input/output error"), 1, "--resume"),
        (MemoryError(), 1, "memory is full"),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), 1, "memory is full"),
        (KeyboardInterrupt(), 130, "stopped"),
        (ZeroDivisionError("division by zero"), 70, "a fault of ih-jax, not yours"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else "",
)
def test_exit_codes(
    tmp_path: Path, monkeypatch: Any, capsys: Any, error: Any, code: int, message: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(program.CALLED, options.List, fails(error))
    assert main(["list"]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    reports = list(tmp_path.rglob("*.txt"))
    assert len(reports) == (code == 70)


def test_a_pipe_that_rich_finds_closed_is_no_error(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(program.CALLED, options.List, fails(SystemExit(1)))
    assert main(["list"]) == 141
    assert not capsys.readouterr().err


def test_a_fault_of_ours_is_reported_in_full(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(program.CALLED, options.List, fails(ZeroDivisionError("division by zero")))
    assert main(["list"]) == 70
    place = re.search(r"send (\S+) ", capsys.readouterr().err)
    assert place is not None
    text = Path(place[1]).read_text()
    for part in ("versions: ", "command: ", "Traceback", "ZeroDivisionError", "test_refusals.py"):
        assert part in text


@pytest.mark.parametrize("finished", [False, True])
def test_results_are_announced_when_all_shares_are_trained(
    here: Path, monkeypatch: Any, capsys: Any, finished: bool
) -> None:
    (here / "study.py").write_text(
        "import ih_jax as ih\nstudy = ih.sweep(ih.Regression(), sequences=64)\n"
        "def after(t): print('after')\n"
    )
    trained = SimpleNamespace(finished=finished)
    monkeypatch.setattr(ih.Sweep, "train", lambda self, folder, **how: trained)
    assert main(["run", "study.py", "--share", "0/2", "--out", "o"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("ih_jax.load('o')" in said and "after" in said) == finished
    assert ("share 0/2 is trained; there are results when all shares are" in said) != finished
