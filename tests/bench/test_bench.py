"""What `ih-jax bench` writes and keeps. Speeds are not judged here: the machine may be busy."""

import json
import math
import os
import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from ih_jax.bench import beside, bound, contexts, costs, report, starting, steps
from ih_jax.bench.timing import effort
from ih_jax.cli.main import main
from ih_jax.data.batches import Batch
from ih_jax.data.evaluations import EVALUATION_SETS
from ih_jax.model.params import Config, init
from ih_jax.model.transformer import forward
from ih_jax.sweeps import arithmetic, estimate
from ih_jax.sweeps.blocks import StepCost
from ih_jax.sweeps.chunk import compiler_options
from ih_jax.sweeps.programs import known_cost
from ih_jax.tasks.fewshot import fewshot

RESULTS = Path(__file__).parents[2] / "results" / "bench"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A tiny measurement, once for the whole file: programs that are small to compile."""
    folder = tmp_path_factory.mktemp("bench")
    little = partial(fewshot, evaluation_sets=EVALUATION_SETS[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for room in (steps, beside):
            patch.setattr(room, "fewshot", lambda **_: little(evaluation_sequences=32))
        little_block = bound.Setting("little", lambda: steps.study_of("none", 2)[0], 2)
        patch.setattr(bound, "settings", lambda width: [little_block])
        patch.setattr(starting, "FIRST_STEP", "import time, jax; jax.devices(); print(time.time())")
        patch.setattr(beside, "TOLD_SEQUENCES", 640)
        patch.setattr(beside, "TOLD_WIDTH", 2)
        measured = costs.measure(effort((1, 2), 1, 0.01), lambda what: None)
        report.write(measured, folder)
        known = known_cost(jax.local_devices()[0])
    return folder, measured, known


def numbers_of(tree, at=""):
    """Every number in JSON, by where it stands."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from numbers_of(value, f"{at}.{key}")
    elif isinstance(tree, list):
        for value in tree:
            yield from numbers_of(value, at)
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield at, tree


def test_everything_measured_is_written_as_finite_numbers(found):
    folder, measured, _ = found
    written = json.loads((folder / "bench.json").read_text())
    assert written == json.loads(json.dumps(measured))
    assert set(written) == {
        "device",
        "warm_start_s",
        "growth",
        "peak_gflops",
        "matmul_size",
        "bandwidth_gb_per_s",
        "widths",
        "headline",
        "baseline",
        "bounds",
        "evaluation",
        "checkpoint",
        "on_scores",
        "cost",
    }
    # A difference of two times, or of two sizes, may be anything on a busy machine.
    differences = ("s_per_evaluation", "share_of_run", "megabytes_grown", "overhead_runs")
    for where, number in numbers_of(written):
        assert math.isfinite(number), where
        assert number > 0 or any(each in where for each in differences), where


def test_every_width_is_measured_with_and_without_clamps(found):
    _, measured, _ = found
    rows = [(row["width"], row["clamps"]) for row in measured["widths"]]
    assert rows == [(1, "none"), (1, "mixed"), (2, "none"), (2, "mixed")]
    assert len({frozenset(row) for row in measured["widths"]}) == 1


def test_the_figure_and_the_tables_are_whole(found):
    folder, measured, _ = found
    assert {"bench.json", "cost.png", "cost.svg"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.glob("*.writing"))
    widths, of_bounds, summary = report.tables(measured)
    assert of_bounds.row_count == 1
    assert widths.row_count == 4
    assert summary.row_count == len(report.sentences(measured))


def test_the_bound_alone_is_a_file_and_a_table_of_its_own(found, tmp_path):
    alone = {name: found[1][name] for name in ("device", "peak_gflops", "matmul_size", "bounds")}
    report.write(alone, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bound.json"]
    (table,) = report.tables(alone)
    assert table.row_count == 1


def dots(function, *arguments):
    """Floating-point operations of the products of matrices that a function is compiled to."""
    options = compiler_options("cpu", 5)
    text = jax.jit(function, compiler_options=options).lower(*arguments).compile().as_text()
    shapes = dict(re.findall(r"%?([\w.\-]+) = \w+\[([\d,]*)\]", text))
    products = re.findall(r" = \w+\[([\d,]*)\]\S* dot\(%?([\w.\-]+).*?lhs_c\w+={(\d+)}", text)
    total = 0
    for out, left, axis in products:
        size = [int(n) for n in out.split(",")]
        total += 2 * math.prod(size) * int(shapes[left].split(",")[int(axis)])
    return total


@pytest.mark.parametrize(("rows", "mlp_ratio"), [(10, None), (40, 2.0), (600, None)])
def test_what_is_counted_is_what_a_step_is_compiled_to(rows, mlp_ratio):
    """Attention apart, which on five tokens is no product of matrices."""
    config = Config(features=24, labels=4, d_model=16, heads=2, mlp_ratio=mlp_ratio)
    table = np.ones((rows, 24), np.float32)
    index = np.zeros((8, 3), np.int32)
    params = init(jax.random.key(0), config)

    def loss(params, index):
        sites = forward(params, Batch(table, index, index), rows="query")
        return (sites["logits"][0] ** 2).sum()

    counted = arithmetic.count(config, 8, 5, rows, query_only=True)
    # Columns of layer 0 beyond the 24 exemplars and 4 labels that are counted: those of a table
    # that is laid out as a whole, and of labels that are none; beyond 512, tokens themselves.
    columns = (8 * 5 if rows > 512 else rows + 5) - (min(rows, 24) + 4)
    more = 3 * 2 * 3 * 16 * 16 * columns
    if 24 < rows <= 512:
        more += 2 * 2 * 16 * 24 * (rows - 24)  # embedding the whole table
    found = dots(jax.grad(loss), params, index)
    assert found == counted.matrices + counted.laid_out + more


def test_estimates_are_what_was_measured_within_a_factor_of_1_3():
    """Of steps of other features, labels and tasks, in the committed measurement."""
    measured = json.loads((RESULTS / "bound.json").read_text())
    devices = measured["device"]["count"]
    for setting, one in zip(bound.settings(16), measured["bounds"], strict=True):
        assert setting.what == one["what"]
        study = setting.study()
        program, task = study.groups[0].program, study.runs[0].task
        step = task.batch * estimate.sequence_seconds(program, task)  # of the reference machine
        speed = estimate.Machine(devices, "cpu", one["peak_gflops"]).speed
        found = 1e-3 * one["ms_per_step_per_run"] * devices  # of one device
        assert 1 / 1.3 < step / speed / found < 1.3, setting.what


def test_later_sweeps_know_the_cost(found):
    _, measured, known = found
    assert known == StepCost(measured["cost"]["overhead_runs"], measured["cost"]["widest"])


def test_the_compilation_cache_is_the_users_again(found):
    assert jax.config.values["jax_compilation_cache_dir"] == os.environ["IH_JAX_TEST_CACHE"]


def test_the_fit_finds_the_cost_it_was_made_from():
    def row(width, slope=1.0):
        per_run = slope * (width + 0.3) / width
        return {"width": width, "clamps": "none", "fits": True, "ms_per_step_per_run": per_run}

    cost = steps.fit_cost([row(1), row(2), row(4), row(8), row(16), row(32, slope=1.2)])
    assert cost.widest == 16
    assert cost.overhead == pytest.approx(0.3)


@pytest.mark.parametrize("width", [1, 5, 6, 16])
def test_mixed_clamps_take_turns(width):
    study, members = steps.study_of("mixed", width)
    names = [study.runs[member].names["clamp"] for member in members]
    assert len(set(members)) == width
    counts = [names.count(name) for name in study.clamps]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--widths", "0"], "--widths is 0"),
        (["--widths", "4", "-2"], "--widths is -2"),
        (["--pairs", "0"], "--pairs is 0"),
    ],
)
def test_a_bad_number_is_one_line_and_exit_code_2(arguments, told, tmp_path, capsys):
    assert main(["bench", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_contexts_are_tokens_a_second_beside_torch_where_it_is(monkeypatch):
    monkeypatch.setattr(contexts, "_ours", lambda width, context: (lambda: 0.5, 2e6))
    monkeypatch.setattr(contexts, "_theirs", lambda width, context: (lambda: 1.5, 3e6))
    theirs = {"torch_tokens_per_s": 4096 / 1.5, "torch_megabytes": 3.0, "times_torch": 3.0}
    for version, also in (("2.0", theirs), (None, {})):
        monkeypatch.setattr(contexts, "_torch_version", lambda version=version: version)
        found = contexts.measure(2, lambda what: None, (8,), (16, 32))
        assert [row["context"] for row in found["rows"]] == [16, 32]
        assert all(row["tokens_per_s"] == 8192 for row in found["rows"])
        assert set(found["rows"][1]) == {"width", "context", "megabytes", "tokens_per_s", *also}
        assert also.items() <= found["rows"][1].items()
        assert contexts.table(found).row_count == 2


def test_options_that_contexts_have_no_use_for_are_refused(tmp_path, capsys):
    both = ["bench", "--contexts", "--bound", "--out", str(tmp_path / "new")]
    assert main(both) == 2
    assert "give one of --contexts and --bound" in capsys.readouterr().err
    asked = ["bench", "--contexts", "--widths", "1", "--out", str(tmp_path / "new")]
    assert main(asked) == 2
    assert "has widths of its own" in capsys.readouterr().err
