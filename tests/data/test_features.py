"""Feature files: what is read, and one clear line for each way in which they can be wrong."""

import h5py
import numpy as np
import pytest

import ih_jax as ih
from ih_jax.data.images import features


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "features.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as f:
        f["resnet18/224/feat"] = rng.standard_normal((20, 5, 8)).astype(np.float16)
        f["labels"] = np.arange(20)
    return path


def test_a_file_gives_its_features_in_its_order(file):
    with h5py.File(file) as f:
        stored = f["resnet18/224/feat"][:].astype(np.float32)
    found = features.of_file(file)
    assert (found.classes, found.exemplars, found.features) == stored.shape
    np.testing.assert_array_equal(found.select([7, 2], [0, 3]), stored[np.ix_([7, 2], [0, 3])])
    again = features.of_origin(found.origin)
    np.testing.assert_array_equal(again.select([7, 2], [0, 3]), found.select([7, 2], [0, 3]))


def test_a_file_is_also_looked_for_in_the_data_folder(file, monkeypatch):
    monkeypatch.setenv("IH_JAX_DATA_DIR", str(file.parent))
    assert features.of_file("features.h5").classes == 20


def test_the_key_is_needed_only_where_there_is_a_choice(file):
    with h5py.File(file, "a") as f:
        f["other"] = np.zeros((4, 5, 6))
    with pytest.raises(ih.UserError, match=r"--data-key.*other \[4, 5, 6\].*resnet18/224/feat"):
        features.of_file(file)
    assert features.of_file(file, "other").features == 6


def wrong_key(path):
    return path, "efficientnet"


def of_labels(path):
    return path, "labels"


def missing(path):
    return path.with_name("nowhere.h5"), None


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path, None


def no_hdf5(path):
    path.write_text("hello")
    return path, None


def of_words(path):
    with h5py.File(path, "w") as f:
        f["words"] = np.full((3, 2, 2), b"x")
    return path, "words"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_key, r"no dataset 'efficientnet': it holds labels \[20\], resnet18/224/feat"),
        (of_labels, r"labels has shape \[20\]"),
        (missing, "no feature file at .*nowhere.h5"),
        (truncated, "cannot be read as HDF5"),
        (no_hdf5, "cannot be read as HDF5"),
        (of_words, "numbers are needed"),
    ],
)
def test_a_wrong_file_gets_one_line(file, spoil, message):
    path, key = spoil(file)
    with pytest.raises(ih.UserError, match=message) as caught:
        features.of_file(path, key)
    assert "\n" not in str(caught.value)


def test_features_that_are_not_finite_are_named(file):
    with h5py.File(file, "a") as f:
        f["resnet18/224/feat"][3, 0, 5] = np.nan
    task = ih.fewshot(file, classes=10, test_classes=5)
    with pytest.raises(ih.UserError, match="class 3, exemplar 0, feature 5"):
        task.run_arrays()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 30}, "30 classes asked for .* the data has 20"),
        ({"classes": 15, "test_classes": 10}, "25 classes asked for"),
        ({"classes": 5, "exemplars": 9, "val_exemplars": 0}, "exemplars asked for .* has 5"),
        ({"classes": 5, "labels": 1}, "labels is 1: give 2 or more"),
        ({"clases": 5}, "did you mean 'classes'"),
        ({"classes": 1}, "classes 1, exemplars 1: give 2 or more"),
        ({"classes": 5, "exemplars": 0}, "give 2 or more, 1 or more"),
    ],
)
def test_more_than_the_data_has_is_refused_with_how_many_there_are(file, settings, message):
    with pytest.raises(ih.UserError, match=message):
        ih.fewshot(file, **settings)


def test_synthetic_classes():
    one_hot = features.of_one_hot(4).select([0, 2], [0])
    np.testing.assert_array_equal(one_hot[:, 0], np.eye(4)[[0, 2]])
    near = features.of_gaussian(50, 200, exemplars=2, spread=0.1).select(range(50), [0, 1])
    assert abs(near.std() - 1) < 0.05
    assert abs((near[:, 0] - near[:, 1]).std() - 0.1 * 2**0.5) < 0.01


def test_glyphs_are_the_default_and_come_back_from_their_origin():
    task = ih.fewshot(classes=3, test_classes=2)
    assert task.data.name == "glyphs"
    again = features.of_origin(task.data.origin)
    np.testing.assert_array_equal(again.select([1], [0]), task.data.select([1], [0]))


def test_turned_glyphs_are_classes_of_their_own_and_stay_with_their_character():
    turned = features.of_glyphs(orientations=8)
    assert turned.classes == 12_984
    np.testing.assert_array_equal(turned.groups[[7, 7 + 1623, 7 + 7 * 1623]], [7, 7, 7])
    upright = features.of_glyphs().select([7], [0])
    again = features.of_origin(turned.origin).select([7, 7 + 1623], [0])
    np.testing.assert_array_equal(again[:1], upright)
    assert not np.allclose(again[1], again[0])
    with pytest.raises(ih.UserError, match="orientations is 9: give a whole number from 1 to 8"):
        features.of_glyphs(orientations=9)
