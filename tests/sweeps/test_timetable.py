"""When runs are evaluated where the study does not say."""

import pytest

import ih_jax as ih
from ih_jax.data.images.features import of_gaussian
from ih_jax.sweeps.loop import ALL_SETS
from ih_jax.sweeps.timetable import A_LOOK, SHARE

DATA = of_gaussian(200, 4)


def study(task=None, **settings):
    return ih.sweep(ih.fewshot(DATA) if task is None else task, init=[0], **settings)


def share(made) -> float:
    """What the evaluations of a run cost, of its training."""
    steps, sets = made.runs[0].steps, len(made.task.evaluation_names)
    looks = sum(sets if kind == ALL_SETS else 1 for _, kind, _ in made.timetable(steps) if kind)
    return A_LOOK * looks * made.task.evaluation_sequences / (steps * made.task.batch)


@pytest.mark.parametrize("sequences", [3_200, 5_000, 20_000, 64_000, 99_000])
def test_a_short_run_is_evaluated_for_a_fifth_of_its_training(sequences: int) -> None:
    made = study(sequences=sequences)
    assert SHARE / 2 < share(made) <= SHARE + 1e-9
    assert {0, made.runs[0].steps} <= set(made.evaluations)
    assert share(study(sequences=sequences, evaluate="grid")) > 2 * SHARE


def test_a_very_short_run_is_evaluated_at_start_and_end() -> None:
    assert study(sequences=64).evaluations == [0, 2]


def test_what_a_study_or_a_task_says_of_evaluations_stands() -> None:
    assert study(sequences=3_200, evaluate=[0, 3_200]).task.evaluation_sequences == 1_000
    few = study(ih.fewshot(DATA, evaluation_sequences=64), sequences=3_200)
    assert few.task.evaluation_sequences == 64
    assert share(few) <= SHARE
    named = study(sequences=3_200, evaluation_sequences=1_000)
    assert {run.task.evaluation_sequences for run in named.runs} == {1_000}


def test_longer_runs_and_old_cards_have_the_grid() -> None:
    long = study(sequences=100_000)
    assert long.evaluations == study(sequences=100_000, evaluate="grid").evaluations
    assert long.task.evaluation_sequences == 1_000
    assert long.describe()["evaluate"] is None
    mixed = study(clamp={"a": None, "b": ih.ablate(0, 0)}, sequences={"a": 200_000, "b": 2_000})
    assert mixed.describe()["evaluate"] is None
    old = study(sequences=3_200, evaluate="grid")  # as every study was before there were others
    assert old.describe()["evaluate"] is None
    assert type(old).from_card(old.describe()).evaluations == old.evaluations
    assert len(old.evaluations) > 20
    new = study(sequences=9_000)
    assert type(new).from_card(new.describe()).evaluations == new.evaluations


def test_a_language_model_s_sequences_count_not_its_tokens() -> None:
    task = ih.language(length=32)
    short, long = (study(task, tokens=32 * n) for n in (5_000, 100_000))
    assert share(short) <= SHARE + 1e-9
    assert long.describe()["evaluate"] is None


def test_another_word_than_grid_is_refused() -> None:
    with pytest.raises(ih.UserError, match="evaluate is 'gird': give a list of sequences seen, or"):
        study(sequences=3_200, evaluate="gird")
