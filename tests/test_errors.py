"""Errors name the nearest of what is known."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

import ih_jax as ih
from ih_jax.clamps import per_seed
from ih_jax.data.languages.synthetic import RandomRepeats
from ih_jax.errors import UserError, nearest, real, unknown, whole, wholes
from ih_jax.sweeps.measuring import check_call
from ih_jax.tasks.base import Task

KNOWN = ["learning_rate", "weight_decay", "layers", "olsson-text", "fig5b"]


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("lr", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("Layer", "layers"),
        ("olsson_text", "olsson-text"),
        ("fig5", "fig5b"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_suggested(given: str, near: str | None) -> None:
    assert nearest(given, KNOWN) == near
    said = str(unknown("setting", given, KNOWN))
    assert (f"did you mean {near!r}?" in said) == (near is not None)
    assert said.endswith(", ".join(KNOWN))


def test_a_long_name_is_cut_short() -> None:
    assert len(str(unknown("setting", "x" * 5_000, KNOWN))) < 200


@pytest.mark.parametrize("registered", [ih.task, ih.clamp_kind, ih.recipe])
def test_what_is_registered_has_a_name(registered: Any) -> None:
    with pytest.raises(UserError, match="is 5: "):
        registered(5)


NO_NUMBERS = ["1", None, True, [], b"1", object(), 1j]


@pytest.mark.parametrize("value", [*NO_NUMBERS, -1, 8, 2**63, 10**400, 2.0, float("nan")])
def test_what_is_no_whole_number_in_range_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"x is .*: give a whole number from 0 to 7") as raised:
        whole("x", value, most=7)
    assert len(str(raised.value)) < 150


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -1, 10**400, 1e39, float("nan"), float("inf")])
def test_what_is_no_finite_number_in_range_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"x is .*: give a finite number above 0") as raised:
        real("x", value, above=0)
    assert len(str(raised.value)) < 150


def test_numbers_of_numpy_are_numbers() -> None:
    assert whole("x", np.int64(3)) == 3
    assert real("x", np.float32(0.5)) == 0.5
    assert real("x", 2) == 2


@dataclass(frozen=True)
class Own(Task):
    """A task of a user's own, whose fields are a user's affair."""

    limit: float = float("inf")
    count: int = "many"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 2.5}, "batch is 2.5: give a whole number"),
        ({"batch": "x"}, "batch is 'x': give a whole number"),
        ({"batch": 10**30}, "batch is a whole number of about 31 digits"),
        ({"batch": 0}, "batch 0"),
        ({"evaluation_seed": -1}, "evaluation_seed is -1: give a whole number from 0"),
    ],
)
def test_only_our_own_fields_are_checked_by_their_types(
    settings: dict[str, Any], message: str
) -> None:
    assert Own().limit == float("inf")
    with pytest.raises(UserError, match=message):
        Own(**settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ih.init(jax.random.key(0), 5), "config is 5: give an ih_jax.Config"),
        (lambda: ih.Experiment("x", measure=print, quantities=5), "quantities is 5"),
        (lambda: ih.sweep(ih.fewshot(), clamp={5: None, "5": None}), "clamp has a name twice"),
        (lambda: ih.load("x" * 5_000), r"x{190,200} \.\.\. x{150,200}"),
    ],
)
def test_what_is_made_is_checked_when_it_is_made(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        make()
    assert len(str(raised.value)) < 1_000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: ih.Clamp.from_json("[" * 100_000), "a clamp is not JSON"),
        (lambda: per_seed.from_json("[" * 100_000), "a clamp is not JSON"),
        (lambda: per_seed.from_json(5), "a clamp is not JSON"),
        (
            lambda: ih.sweep(ih.fewshot(classes=8), clamp={"a": {"b": ih.ablate(1, 0)}}),
            "clamp 'a' is .*: give a Clamp, such as",
        ),
        (lambda: ih.ablate(0, 0).during("soon", 5), r"during\('soon', 5\): give 0 <= start"),
        (lambda: ih.ablate(0, 0).during(0, 10**400), "during.*401 digits.*give 0 <= start"),
        (lambda: ih.Weights(5), "params of Weights is 5: give Params"),
        (lambda: ih.measure(dims=5), "dims is 5: give a tuple"),
        (lambda: ih.Sweep.from_card(5), "card.json: study holds 5"),
        (lambda: ih.Options(part=5), "part is 5: give a tuple"),
        (lambda: ih.with_bos(5, -1), "recipe is 5: give a recipe of a language"),
        (lambda: ih.with_bos(RandomRepeats(), 3), "rows is 3: give tokens"),
        (lambda: ih.apply(5, 6), r"apply\(5, 6\): give Params"),
        (lambda: ih.init(5, ih.Config()), "key is 5: give a key of JAX"),
        (lambda: wholes("runs", range(10**9)), "runs: 1,000,000,000 are given: give at most"),
        (lambda: check_call(lambda p: 0, 3), r"cannot be called with 3 arguments: .*\(params, cl"),
        (lambda: check_call(lambda p, c, b: 0, 4), "cannot be called with 4 arguments"),
    ],
)
def test_what_is_of_another_type_is_told_in_a_line(wrong: Any, message: str) -> None:
    with pytest.raises(ih.UserError, match=message):
        wrong()
