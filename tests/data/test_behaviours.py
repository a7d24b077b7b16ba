"""Translations and templates: what is drawn, and what is said to be right."""

import jax
import numpy as np
import pytest

from ih_jax.data.languages.behaviours import Templates, Translations
from ih_jax.data.languages.recipe import of_card
from ih_jax.errors import UserError

SMALL = {
    "Translations": Translations(tokens=26, words=12, length=48, shortest=2, longest=5),
    "Templates": Templates(tokens=18, words=3, length=64),
}


def draw(recipe, sequences=200, seed=0):
    sample = jax.jit(recipe.sample, static_argnums=2)
    return np.asarray(sample(jax.random.key(seed), {}, sequences).tokens)


@pytest.fixture(params=SMALL)
def recipe(request):
    return SMALL[request.param]


def sentences(recipe, row):
    """The stretches between stops that are complete."""
    stops = np.flatnonzero(row == recipe.stop)
    return [each[each != recipe.stop].tolist() for each in np.split(row[1:], stops)][:-1]


def lines(recipe, row):
    """[lines, 5] those that are complete."""
    return row[1 : 1 + (len(row) - 1) // 5 * 5].reshape(-1, 5)


def kinds(recipe, line):
    return int(line[0]) // recipe.words, int(line[1]) // recipe.words


def test_sequences_begin_with_bos_and_hold_it_nowhere_else(recipe):
    tokens = draw(recipe)
    assert tokens.shape == (200, recipe.length)
    assert (tokens[:, 0] == recipe.bos).all()
    assert ((tokens[:, 1:] >= 0) & (tokens[:, 1:] < recipe.tokens)).all()
    assert np.array_equal(tokens, draw(recipe))
    assert not np.array_equal(tokens, draw(recipe, seed=1))
    assert of_card(recipe.describe()) == recipe


def test_each_sentence_is_followed_by_its_translation():
    recipe = SMALL["Translations"]
    sizes = set()
    for row in draw(recipe):
        found = sentences(recipe, row)
        for sentence, translation in zip(found[::2], found[1::2], strict=False):
            assert len(set(sentence)) == len(sentence)
            assert max(sentence) < recipe.words
            expected = []
            for word in sentence:
                expected += [word + recipe.words] + [recipe.particle] * (word % 3 == 0)
            assert translation == expected
            sizes.add(len(sentence))
    assert sizes == {2, 3, 4, 5}


def test_aligned_points_at_what_the_next_word_translates():
    recipe = SMALL["Translations"]
    tokens = draw(recipe)
    aligned = recipe.aligned(tokens)
    assert aligned.shape == (200, recipe.length - 1)
    following = tokens[:, 1:]
    translates = (following >= recipe.words) & (following < 2 * recipe.words)
    assert np.array_equal(aligned >= 0, translates)
    b, t = np.nonzero(translates)
    at = aligned[b, t]
    assert (at <= t).all()
    assert np.array_equal(tokens[b, at] + recipe.words, following[b, t])
    # The last time: in the sentence before, not in one further back.
    assert all(
        (tokens[i, k + 1 : q + 1] != tokens[i, k]).all() for i, k, q in zip(b, at, t, strict=True)
    )


def test_aligned_points_at_no_fixed_distance():
    recipe = SMALL["Translations"]
    aligned = recipe.aligned(draw(recipe))
    b, t = np.nonzero(aligned >= 0)
    assert len(np.unique(t - aligned[b, t])) > 4


def test_lines_of_one_template_have_one_label_and_others_have_others():
    recipe = SMALL["Templates"]
    templates, dealt = [], set()
    for row in draw(recipe):
        labels = {}
        for line in lines(recipe, row):
            first, second = kinds(recipe, line)
            assert first in (0, 1)
            assert second in (2, 3)
            assert line[2] == recipe.colon
            assert line[4] == recipe.colon + 1
            assert labels.setdefault((first, second), line[3]) == line[3]
        assert len(set(labels.values())) == len(labels)
        assert all(recipe.colon + 2 <= label < recipe.tokens for label in labels.values())
        templates.append(len(labels))
        dealt |= {(template, int(label)) for template, label in labels.items()}
    assert set(templates) <= {1, 2, 3, 4}
    assert np.mean(np.array(templates) > 1) > 0.95
    assert len(dealt) == 16  # each template has each label in some sequence


def test_right_labels_are_earlier_ones_of_the_same_template():
    recipe = SMALL["Templates"]
    tokens = draw(recipe, 40)
    right = recipe.right_labels(tokens)
    assert right.shape == (40, recipe.length, recipe.length)
    for row, found in zip(tokens, right, strict=True):
        expected = np.zeros_like(found)
        own = lines(recipe, row)
        for i, line in enumerate(own):
            for j, earlier in enumerate(own[:i]):
                same = kinds(recipe, line) == kinds(recipe, earlier)
                expected[1 + 5 * i + 2, 1 + 5 * j + 3] = same
        whole = 1 + 5 * len(own)
        assert np.array_equal(found[:whole, :whole], expected[:whole, :whole])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Translations(words=10), "tokens is 50: give 22"),
        (lambda: Translations(shortest=0), "shortest 0, longest 8: give 1 or more"),
        (lambda: Translations(shortest=5, longest=4), "shortest 5, longest 4"),
        (lambda: Translations(length=12), "up to 4"),
        (lambda: Templates(words=5), "tokens is 22: give 26"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()
