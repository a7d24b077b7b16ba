"""Which networks are trained: numbers, initial weights, draws of the data, and who shares what."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import ih_jax as ih
from ih_jax.errors import UserError
from ih_jax.experiments.base import Experiment, Options, Training
from ih_jax.experiments.beyond import trainings as beyond
from ih_jax.experiments.looking import at_end, probe
from ih_jax.experiments.networks import DRAWS, FACTORS
from ih_jax.experiments.singh2024 import trainings
from ih_jax.measures.heads import induction_strength
from ih_jax.reports import planning, running, variance
from ih_jax.sweeps.study import Study

OF_DATA = ("order", "label_split", "class_split")


def test_few_networks_differ_in_their_weights_alone() -> None:
    assert Options().inits == [5, 6]
    assert Options(seeds=15).paired() == {}
    assert Options(seeds=64, vary=("init",)).paired() == {}


def test_64_networks_are_16_weights_times_4_draws() -> None:
    options = Options(seeds=64, first_seed=1000)
    paired = options.paired()
    assert set(paired) == {"weights_seed", *OF_DATA}
    draws = {n: tuple(paired[name][n] for name in OF_DATA) for n in options.inits}
    weights = paired["weights_seed"]
    assert len(set(weights.values())) == 16
    assert len(set(draws.values())) == DRAWS
    assert len({(weights[n], draws[n]) for n in options.inits}) == 64  # each pair once
    used = {seed for draw in draws.values() for seed in draw}
    assert not used & set(weights.values())  # no number seeds both


def test_a_factor_that_does_not_vary_keeps_its_seed() -> None:
    paired = Options(seeds=16, vary=("init", "order")).paired()
    assert set(paired) == {"weights_seed", "order"}


def test_the_clamps_of_a_network_share_weights_and_data() -> None:
    options = Options(seeds=16, first_seed=1000, classes=8)
    study = trainings.clamps(options, {})
    for number in options.inits:
        mine = [run for run in study.runs if run.names["init"] == number]
        assert len(mine) == len(trainings.CLAMPS)
        assert len({run.settings["weights_seed"] for run in mine}) == 1
        assert len({run.settings["order"] for run in mine}) == 1
        assert len({id(run.task) for run in mine}) == 1
    own = [run.task.splits()["classes"]["train"].tolist() for run in study.runs[:16]]
    assert own[0] == own[3] != own[4]  # four weights a draw


def test_a_graft_is_of_a_network_that_saw_the_same_data() -> None:
    options = Options(seeds=16, first_seed=1000)
    for number in options.inits:
        own = trainings.donors(options, number)
        assert own[0] == number
        assert len(set(own)) == 3
        assert {(each - 1000) // 4 for each in own} == {(number - 1000) // 4}
    part = Options(seeds=16, first_seed=1000, part=(1003, 1004))
    assert set(trainings.main_seeds(part)) >= {*trainings.donors(options, 1003)}


def test_networks_of_the_same_weights_are_not_grafted_into_each_other() -> None:
    with pytest.raises(UserError, match=r"networks vary in order, .*: let init vary, too"):
        trainings.grafts(Options(seeds=8, vary=("order",)), {})


def test_few_networks_that_see_other_data_are_topped_up_too() -> None:
    options = Options(seeds=2, vary=("order",))
    study = trainings.main(options, {})
    assert [run.names["init"] for run in study.runs] == [5, 6, 7]
    assert len({run.settings["order"] for run in study.runs}) == 3
    assert len({run.settings["weights_seed"] for run in study.runs}) == 1
    factorial = beyond.factorial(options, {})
    assert len({run.settings["order"] for run in factorial.runs}) == beyond.FACTORIAL_SEEDS


def test_parts_of_a_topped_up_factorial_train_each_network_once() -> None:
    own = [
        {run.names["init"] for run in beyond.factorial(part, {}).runs}
        for part in Options(seeds=2).in_parts(2)
    ]
    assert [sorted(each) for each in own] == [[5], [6, 7, 8, 9, 10, 11, 12]]


def test_the_first_pulse_begins_at_the_first_step() -> None:
    onsets, _ = beyond.pulse_grid(Options())
    assert onsets[0] == 0
    assert any(name.startswith("match 0+") for name in beyond.pulses(Options(), {}).clamps)


def test_the_default_is_found_again_by_its_old_digest() -> None:
    # Networks trained by earlier versions are not trained again.
    found = planning.digest(trainings.main(Options(), {}))
    assert found == "52c93ef5"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seeds": 18}, "give 16 or 20"),
        ({"seeds": 4, "vary": FACTORS}, "give 12 or 16"),
        ({"vary": ("inti",)}, "did you mean 'init'"),
        ({"vary": ()}, "nothing varies"),
    ],
)
def test_mistakes_are_said_in_one_line(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        Options(**settings)
    assert "\n" not in str(caught.value)


def test_a_study_with_settings_by_network_comes_back_from_its_card() -> None:
    study = trainings.main(Options(seeds=12, vary=FACTORS, classes=8, scale=0.001), {})
    again = Study.from_card(study.describe())
    assert again.paired == study.paired
    assert [run.settings for run in again.runs] == [run.settings for run in study.runs]


def _sweep(options: Options, found: object) -> ih.Sweep:
    return ih.sweep(
        options.task(evaluation_sequences=16, batch=8),
        init=options.inits,
        **options.paired(),
        sequences=64,
        checkpoints=[0, 64],
        evaluate=[0, 64],
        learning_rate=1e-2,
        d_model=16,
        heads=2,
    )


def _measure(options: Options, found: object) -> xr.Dataset:
    strength = at_end(found["own"], induction_strength, probe(options))
    return strength.assign(loss=found["own"].results["loss"].sel(clamp="none", drop=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve networks, measured, with a table of variance components."""
    folder = tmp_path_factory.mktemp("networks")
    own = Experiment(
        name="own",
        trainings=(Training("own", _sweep),),
        measure=_measure,
        quantities={"last loss": lambda network: float(network["loss"][-1])},
    )
    options = Options(seeds=12, first_seed=1000, vary=FACTORS, classes=6)
    how = running.How(out=folder, progress=False, console=Console(quiet=True), width=4)
    running.run([own], options, how)
    return folder


def test_results_say_which_weights_and_which_draw(made: Path) -> None:
    results = xr.load_dataset(made / "results.nc", engine="h5netcdf")
    assert results["weights_seed"].values.tolist() == [1000, 1001, 1002] * 4
    assert results["order"].values.tolist() == [1003 + n // 3 for n in range(12)]
    assert results["init"].values.tolist() == list(range(1000, 1012))


def test_a_network_is_measured_on_its_own_classes(made: Path) -> None:
    results = xr.load_dataset(made / "results.nc", engine="h5netcdf")
    (training,) = (made / "trainings").iterdir()
    trained = ih.load(training)
    for number in (1000, 1011):
        run = trained.run(init=number)
        task = trained.study.runs[run].task
        alone = trained.measure(
            induction_strength, probe(Options())(task), runs=[run], steps=trained.steps(run)[-1:]
        )
        np.testing.assert_allclose(
            results["induction_strength"].sel(init=number),
            alone.sel(init=number).squeeze(),
            atol=1e-6,
        )


def test_a_network_starts_from_its_weights_whatever_its_number(made: Path) -> None:
    (training,) = (made / "trainings").iterdir()
    trained = ih.load(training)
    first = [np.asarray(trained.params(trained.run(init=n), 0).W_E) for n in (1000, 1001, 1003)]
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])


def test_readme_tells_what_is_due_to_what(made: Path) -> None:
    text = (made / "README.md").read_text()
    assert variance.TITLE in text
    assert "| last loss |" in text
    assert "seeds of orders | 1003, 1004, 1005, 1006" in text


def test_a_number_named_as_a_seed_stays_what_it_is(made: Path) -> None:
    (training,) = (made / "trainings").iterdir()
    named = Experiment(
        name="named",
        trainings=(Training("own", _sweep),),
        measure=lambda o, f: xr.Dataset(
            {"order": (("init", "rank"), np.zeros((12, 2)))}, {"init": range(1000, 1012)}
        ),
    )
    found = named.measured(Options(), {"own": ih.load(training)})
    assert found["order"].dims == ("init", "rank")
    assert found["label_split"].dims == ("init",)


def test_a_measure_takes_what_is_a_runs_own(made: Path) -> None:
    (training,) = (made / "trainings").iterdir()
    trained = ih.load(training)
    own = {run: np.float32([run, 2 * run]) for run in range(12)}
    found = trained.measure(lambda p, c, b, mine: mine.sum(), own=own, steps=[0], sequences=4)
    np.testing.assert_array_equal(found.values.ravel(), 3.0 * np.arange(12))
