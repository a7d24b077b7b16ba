"""A language of three: what each sequence is, and what is asked of it."""

import jax
import numpy as np
import pytest

from ih_jax.data.languages import Mixture, Templates, Translations
from ih_jax.data.languages.mixture import PARTS
from ih_jax.data.languages.recipe import of_card
from ih_jax.errors import UserError

MIXED = Mixture()


def draw(recipe, sequences=300):
    source = {name: np.float32(value) for name, value in recipe.source().items()}
    return np.asarray(recipe.sample(jax.random.key(0), source, sequences).tokens)


def is_repeated(row):
    return any(
        np.array_equal(row[1 + span :], row[1:-span])
        for span in range(MIXED.shortest, MIXED.longest + 1)
    )


def part_of(row):
    """Read off the sequence itself: what repeats, or the vocabulary."""
    if is_repeated(row):
        return "repeats"
    return "translations" if (row[1:] < Translations.tokens).all() else "templates"


def test_a_sequence_is_one_of_the_three_in_the_shares_that_were_given():
    tokens = draw(Mixture(repeats=0.5, translations=0.2))
    shares = np.unique([part_of(row) for row in tokens], return_counts=True)
    assert dict(zip(*shares, strict=True)) == pytest.approx(
        {"repeats": 150, "translations": 60, "templates": 90}, abs=30
    )
    assert (tokens[:, 0] == MIXED.bos).all()
    assert (tokens[:, 1:] < MIXED.tokens).all()
    assert of_card(MIXED.describe()) == MIXED


@pytest.mark.parametrize("part", PARTS)
def test_one_part_alone_is_of_that_part(part):
    assert {part_of(row) for row in draw(MIXED.only(part), 40)} == {part}


def test_what_is_asked_can_be_told_from_what_came_before():
    copied, translated, labelled = (draw(MIXED.only(part), 30) for part in PARTS)
    for b, t in zip(*np.nonzero(MIXED.repeated(copied)), strict=True):
        row = copied[b]
        earlier = np.flatnonzero(row[:t] == row[t])
        assert any(row[j + 1] == row[t + 1] for j in earlier)
    aligned = MIXED.aligned(translated)
    b, t = np.nonzero(aligned >= 0)
    assert len(b) > 100
    assert np.array_equal(translated[b, aligned[b, t]] + Translations().words, translated[b, t + 1])
    b, query, key = np.nonzero(MIXED.right_labels(labelled))
    assert len(b) > 100
    assert np.array_equal(labelled[b, query + 1], labelled[b, key])
    colon = Translations.tokens + Templates().colon
    assert set(labelled[b, query].tolist()) == {colon}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tokens": 50}, "tokens is 50: give 72"),
        ({"repeats": 0.7, "translations": 0.5}, "1 or less together"),
        ({"repeats": -0.1}, "repeats is -0.1"),
        ({"shortest": 0}, "shortest 0"),
        ({"length": 12}, "up to 4"),
    ],
)
def test_shares_and_sizes_that_do_not_fit_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        Mixture(**settings)
