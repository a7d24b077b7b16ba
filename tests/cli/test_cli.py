"""The command line: what it writes, and one line with exit code 2 for each mistake."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

from ih_jax.cli.main import main, program

EXAMPLES = Path(__file__).parents[2] / "examples"


def ih_jax(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "ih_jax.cli.main", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(cwd / "cache"), **environment},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def small_run(folder):
    """fig5b at a 500th of its length, once for the whole file."""
    done = ih_jax(
        "run", "fig5b", "--seeds", 1, "--scale", 0.002, "--clamps", "none", "copy", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done


def test_run_writes_a_folder_and_prints_the_claims(folder, small_run):
    results = folder / "results" / "fig5b"
    names = {path.name for path in results.iterdir()}
    assert {"card.json", "results.nc", "figure.png", "figure.svg", "README.md"} <= names
    assert not [name for name in names if "writing" in name or "partial" in name]
    assert "too few" in small_run.stdout
    readme = (results / "README.md").read_text()
    assert "glyphs" in readme
    assert "| claim | paper | ours |" in readme
    card = json.loads((results / "card.json").read_text())
    assert card["experiment"] == "fig5b"
    assert "fig5b --seeds 1" in card["command"]


def test_plot_draws_again_without_training(folder, small_run, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    figure = folder / "results" / "fig5b" / "figure.png"
    before = figure.read_bytes()
    figure.unlink()
    assert main(["plot", "results/fig5b"]) == 0
    assert "too few" in capsys.readouterr().out
    assert figure.read_bytes() == before


def test_a_reader_that_went_away_is_no_error(folder, small_run):
    child = subprocess.Popen(
        [sys.executable, "-m", "ih_jax.cli.main", "plot", "results/fig5b"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child.stdout.close()
    assert (child.stderr.read(), child.wait(timeout=300)) == ("", 141)


def test_list_names_every_experiment(capsys):
    assert main(["list"]) == 0
    assert "fig5b" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "told"),
    [([], "{run,list,plot,bench"), (["run"], "--data-key"), (["plot"], "results folder")],
)
def test_help_says_what_a_person_needs(command, told, capsys):
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert "usage" in said
    assert told in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["run", "fig5b", "--sedes", "3"],
            "did you mean '--seeds'?",
        ),
        (["run", "fig5b", "--seeds", "two"], "--seeds"),
        (["run", "olsson-text", "--tokenizer", "words"], "'bytes'"),
        (["run"], "Missing from ih-jax run"),
        (["rum", "fig5b"], "did you mean 'run'?"),
        ([], "{run, list"),
        (["heads"], "--model"),
    ],
)
def test_what_cannot_be_read_gets_one_line_and_exit_code_2(arguments, words, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("ih-jax: ")
    assert said.count("\n") == 1
    assert said.rstrip().endswith("--help")


BAD_STUDIES = {
    "no_study.py": "x = 1",
    "a_study.py": "import ih_jax as ih\nstudy = ih.sweep(ih.fewshot(classes=8), sequences=320)",
    "range.py": "import ih_jax as ih\nstudy = ih.sweep(ih.fewshot(), clamp=ih.ablate(1, 9))",
    "both.py": "import ih_jax as ih\nc = ih.previous_token(1, 3) & ih.induction(1, 3)",
    "labels.py": "import ih_jax as ih\nih.fewshot(labels=1)",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "fig5c"], "did you mean 'fig5b'?"),
        (["run", "fig5b", "--clamps", "macth"], "unknown clamp 'macth': did you mean 'match'?"),
        (["run", "fig5b", "--data", "nowhere.h5"], "no feature file"),
        (["run", "fig5b", "--seeds", "0"], "--seeds is 0"),
        (["run", "fig5b", "--labels", "1"], "labels is 1: give 2 or more"),
        (["run", "fig5b", "--classes", "3000"], "the data has 1623"),
        (["run", "fig5b", "--exemplars", "30"], "the data has 20"),
        (["run", "missing.py"], "no file missing.py"),
        (["run", "no_study.py"], "defines no `study` and no `experiment`"),
        (["run", "range.py"], "head 9"),
        (["run", "both.py"], "layer 1 head 3"),
        (["run", "labels.py"], "labels is 1"),
        (["run", "a_study.py", "--scale", "0.1"], "--scale does not apply to a_study.py"),
        (["run", "a_study.py", "--seeds", "3"], "--seeds does not apply to a_study.py"),
        (["run", "fig5b", "--text", "here"], "--text does not apply to fig5b"),
        (["run", "olsson-smoke", "--classes", "9"], "--classes does not apply to olsson-smoke"),
        (["plot", "nowhere"], "results.nc"),
        (["run", "fig5b", "--out", "taken"], "writable"),
        (["run", "fig5b", "--out", "other"], "belongs to experiment 'fig4'"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(
    folder, small_run, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(folder)
    for name, text in BAD_STUDIES.items():
        (folder / name).write_text(text)
    (folder / "taken").write_text("")
    (folder / "other").mkdir(exist_ok=True)
    (folder / "other" / "card.json").write_text('{"experiment": "fig4"}')
    before = {p for p in folder.rglob("*") if "cache" not in p.parts}
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1, said
    after = {
        p for p in folder.rglob("*") if "cache" not in p.parts and "__pycache__" not in p.parts
    }
    assert after <= before, "something was left behind"


def test_a_study_file_with_its_own_rule_measure_and_pulse_runs(folder):
    text = (EXAMPLES / "two_back_pulse.py").read_text()
    assert len(text.splitlines()) < 50
    (folder / "two_back_pulse.py").write_text(
        text.replace("200_000", "640")
        .replace("50_000", "320")
        .replace("classes=50", "classes=8, evaluation_sequences=16")
    )
    done = ih_jax("run", "two_back_pulse.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "two back" in done.stdout
    assert (folder / "runs" / "two_back_pulse" / "results.nc").is_file()


def test_a_study_file_on_text_runs(folder):
    text = (EXAMPLES / "long_text.py").read_text()
    for before, after in (
        ("1_600", "1"),
        ("61", "3"),
        ('"bpe")', '"bpe", limit=300_000)'),
        ("batch=8)", "batch=8, evaluation_sequences=4)"),
    ):
        assert before in text
        text = text.replace(before, after)
    (folder / "long_text.py").write_text(text)
    done = ih_jax("run", "long_text.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "prefix_matching" in done.stdout


EXPERIMENT = """
import ih_jax as ih
study = ih.sweep(ih.fewshot(classes=8, evaluation_sequences=16), init=[0], sequences=320)
def measure(options, found):
    return found["typo"].results
experiment = ih.Experiment(name="own", trainings=(ih.Training("own", study),), measure=measure)
del study
"""
BAD_EXPERIMENTS = {
    "two.py": (EXPERIMENT.replace("del study", ""), "defines both `study` and `experiment`"),
    "broken.py": ("import ih_jax\n\nfoo(1)\n", "broken.py, line 3: NameError: name 'foo'"),
    "silent.py": (
        "class Odd(Exception):\n    def __str__(self): 1 / 0\nraise Odd",
        "line 3: Odd: (it cannot say",
    ),
    "endless.py": ("raise ValueError('x' * 100_000)", "x ..."),
    "grammar.py": ("x = 1\nif x\n", "grammar.py, line 2: "),
    "late.py": (EXPERIMENT, "late.py, line 5: KeyError: 'typo'"),
    "unnamed.py": (EXPERIMENT.replace('"own", tr', '"a/b", tr'), "line 6: name is 'a/b'"),
    "above.py": (EXPERIMENT.replace('"own", tr', '"..", tr'), "line 6: name is '..': give letters"),
    "outside.py": (EXPERIMENT.replace('"own", st', '"../x", st'), "line 6: name is '../x'"),
    "alone.py": (EXPERIMENT.replace("trainings=(", "claims=("), "claims is (Training("),
    "deaf.py": (EXPERIMENT.replace("measure=measure", "measure=5"), "measure is 5: give measure("),
}


@pytest.mark.parametrize("name", BAD_EXPERIMENTS)
def test_a_mistake_in_a_persons_file_is_named_by_file_and_line(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    text, told = BAD_EXPERIMENTS[name]
    (tmp_path / name).write_text(text)
    assert main(["run", name, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_code_inside_a_results_folder_is_never_run_unasked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "results" / "own"
    inside.mkdir(parents=True)
    file = inside / "own.py"
    file.write_text("raise SystemExit('it ran')")
    results = xr.Dataset(attrs={"experiment": "own", "experiment_file": str(file), "card": "{}"})
    results.to_netcdf(inside / "results.nc", engine="h5netcdf")
    assert main(["plot", "results/own"]) == 2
    assert "which is not run unasked" in capsys.readouterr().err


def test_where_output_goes_may_be_full(monkeypatch, capsys):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["--version"]) == 1
    assert main(["--help"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all("No space left on device" in line for line in said)
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    for ours in ("store.silence_late_threads", "stopping.obey_sigterm"):  # of a process of its own
        monkeypatch.setattr(f"ih_jax.cli.main.{ours}", lambda: None)
    monkeypatch.setattr(sys, "argv", ["ih-jax", "--version"])
    program()
    assert codes == [1]


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ih-jax ")


def test_status_says_how_a_run_stands_and_what_is_next(folder, small_run, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["status", "results/fig5b"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("fig5b") and "done" in said.splitlines()[0]
    assert "ih-jax view results/fig5b --open" in said
    (training,) = Path("results/trainings").glob("clamps-*")
    assert main(["status", str(training), "--check"]) == 0
    said = capsys.readouterr().out
    assert "2 runs, " in said and "losses" in said and "damaged" not in said
    card = json.loads((training / "card.json").read_text())
    (training / "card.json").write_text(json.dumps({**card, "finished": False}))
    try:
        assert main(["status", str(training)]) == 0
    finally:
        (training / "card.json").write_text(json.dumps(card))
    said = capsys.readouterr().out
    assert "stopped" in said
    assert said.rstrip().endswith("--resume") and "run fig5b --seeds 1" in said
    assert main(["status", "results"]) == 2
    assert "it holds fig5b" in capsys.readouterr().err
    assert main(["status", "nowhere"]) == 2
