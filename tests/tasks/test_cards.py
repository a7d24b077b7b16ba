"""What a run card keeps of tasks: trainings are found again, and studies made again."""

import json
from dataclasses import dataclass

import jax
import pytest

import ih_jax as ih
from ih_jax.data.evaluations import EVALUATION_SETS
from ih_jax.data.fewshot import Burst
from ih_jax.data.images.features import of_one_hot
from ih_jax.data.languages.synthetic import Bigrams
from ih_jax.reports.planning import digest

FEW_SHOT = ih.fewshot(of_one_hot(60), classes=20)


def through_a_card(study):
    return ih.Sweep.from_card(json.loads(json.dumps(study.describe())))


@dataclass(frozen=True)
class Step:
    at: int
    sizes: tuple[float, ...] = (1.0,)


@ih.task("steps")
@dataclass(frozen=True)
class Steps(ih.Task):
    steps: tuple[Step, ...] = (Step(0),)
    last: Step | None = None
    length: int = 4

    def sample(self, key, source, sequences):
        return ih.Vectors(jax.random.normal(key, (sequences, self.length, 2)))

    def loss(self, activations, batch):
        return (activations.logits**2).mean()


def test_trainings_of_earlier_versions_have_the_same_digest():
    """Computed at commit 5d7d99c; another digest would have them trained again."""
    grid = {"evaluate": "grid"}  # the default of that time
    clamps = {"none": None, "previous": ih.previous_token(0, 1)}
    few_shot = ih.sweep(FEW_SHOT, clamp=clamps, init=[1, 2], sequences=1000, **grid)
    assert digest(few_shot) == "ccf61ceb"
    language = ih.sweep(
        ih.language(Bigrams(own=0.5)), layers=[1, 2], tokens=10_000, evaluate="grid"
    )
    assert digest(language) == "c144a91a"


@pytest.mark.parametrize(
    "settings",
    [
        {"mixture": (Burst(2, False), Burst(0)), "mixture_weights": (1.0, 3.0), "pairs": 4},
        {"evaluation_sets": EVALUATION_SETS[:1], "zipf": [0.0, 1.0]},
    ],
)
def test_a_study_with_dataclasses_among_its_settings_is_made_again(settings):
    study = ih.sweep(FEW_SHOT, sequences=640, **settings)
    again = through_a_card(study)
    assert [run.task for run in again.runs] == [run.task for run in study.runs]
    assert again.describe() == study.describe()
    assert digest(again) == digest(study)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": (Step(1), Step(2, (0.5, 2.0)))},
        {"last": Step(3), "length": [3, 4]},
        {},
    ],
)
def test_so_is_that_of_a_task_of_ones_own(settings):
    task = Steps(steps=(Step(7, ()),), batch=4, evaluation_sequences=8)
    study = ih.sweep(task, layers=1, sequences=40, d_model=8, heads=1, **settings)
    again = through_a_card(study)
    assert again.task == task
    assert [run.task for run in again.runs] == [run.task for run in study.runs]
