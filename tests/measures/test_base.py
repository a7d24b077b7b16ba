"""A measure names the dims of its arrays, and results have them; what does not fit is refused."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import ih_jax as ih
from ih_jax.data.images.features import of_gaussian
from ih_jax.measures import circuits, heads, performance
from ih_jax.sweeps.array_labels import check_dims


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    task = ih.fewshot(
        of_gaussian(12, 8, exemplars=2),
        classes=8,
        test_classes=4,
        val_exemplars=1,
        batch=8,
        evaluation_sequences=16,
    )
    study = ih.sweep(task, init=[3, 4], d_model=16, heads=2, sequences=80, checkpoints=[0, 80])
    return study.train(tmp_path_factory.mktemp("measured"), progress=False)


@ih.measure(dims=("layer", "head"), units="share", description="largest attention")
def sharpness(params, clamp, batch):
    """[L, H]: how much attention the favourite token gets."""
    patterns = ih.apply(params, batch, clamp).pattern
    return jnp.stack([pattern.max(-1).mean((0, 2)) for pattern in patterns])


def test_results_have_the_dims_that_a_measure_names_numbered_from_0(trained):
    found = trained.measure(sharpness, sequences=4)
    assert found.name == "sharpness"
    assert found.dims == ("clamp", "init", "sequences", "layer", "head")
    assert found["head"].values.tolist() == [0, 1]
    assert (found.attrs["units"], found.attrs["long_name"]) == ("share", "largest attention")
    params, clamp = trained.params(1, 10), trained.study.runs[1].clamp
    probe = ih.Batch.of(np.ones((2, 3, 8), np.float32), np.zeros((2, 3), np.int32))
    one = trained.measure(sharpness, probe).sel(clamp="none", init=4, sequences=80, layer=1)
    np.testing.assert_allclose(one, sharpness(params, clamp, probe)[1], rtol=1e-5)


def test_a_function_that_names_nothing_is_measured_all_the_same(trained):
    found = trained.measure(lambda p, c, b: p.b_U, sequences=4)
    assert found.dims == ("clamp", "init", "sequences", "value_0")


def test_arrays_of_a_dict_have_dims_of_their_own(trained):
    @ih.measure(dims={"bias": ("label",), "size": ()}, coords={"label": "abcde"})
    def unembedding(params, clamp, batch):
        return {"bias": params.b_U, "size": jnp.sum(params.W_U**2)}

    found = trained.measure(unembedding, sequences=4)
    assert isinstance(found, xr.Dataset)
    assert found["bias"].dims[-1] == "label"
    assert found["label"].values.tolist() == list("abcde")
    assert found["size"].dims == ("clamp", "init", "sequences")


def test_coords_may_follow_from_the_size(trained):
    counted = ih.measure(dims=("label",), coords={"label": lambda n: range(1, n + 1)})
    found = trained.measure(counted(lambda p, c, b: p.b_U), sequences=4)
    assert found["label"].values.tolist() == [1, 2, 3, 4, 5]


def test_names_stay_through_partial(trained):
    def head_sums(params, clamp, batch, layer):
        return params.blocks[layer].attention.W_out.sum((0, 2))

    named = functools.partial(ih.measure(dims=("head",))(head_sums), layer=1)
    assert trained.measure(named, sequences=4).dims[-1] == "head"


def test_built_in_measures_name_their_dims(trained):
    config = trained.study.runs[0].config
    clamps = {"whole": ih.Clamp(), "less": ih.ablate(1, 0)}
    held = trained.measure(performance.under(clamps, config), sequences=4)
    assert held["loss"].dims[-1] == "held"
    assert held["held"].values.tolist() == ["whole", "less"]
    assert trained.measure(heads.induction_strength, sequences=4).dims[-1] == "head"
    pairs = trained.measure(circuits.composition(), sequences=4)
    assert pairs["K"].dims[-2:] == ("writer", "reader")


@pytest.mark.parametrize(
    ("dims", "function", "message"),
    [
        (("head",), lambda p: p.W_U, "shape .5, 16. for one network, but dims .'head',.: name 2"),
        (("head",), lambda p: {"a": p.b_U}, "gives arrays a, but dims of a single one"),
        ({"a": ()}, lambda p: p.b_U.sum(), "gives one array, but dims of a"),
        ({"a": ("x",)}, lambda p: {"b": p.b_U}, "gives arrays b, but dims of a"),
        (("init",), lambda p: p.b_U, "a dim 'init', which is an axis of the study"),
        ({"a": ("x",), "b": ("x",)}, lambda p: {"a": p.b_U, "b": p.b_E}, "5 and 16 along 'x'"),
    ],
)
def test_what_is_named_must_be_what_is_given(trained, dims, function, message):
    def mine(params, clamp, batch):
        return function(params)

    with pytest.raises(ih.UserError, match=message):
        trained.measure(ih.measure(dims=dims)(mine), sequences=4)


def test_a_dim_of_two_sizes_is_refused_before_all_is_measured(trained):
    mine = ih.measure(dims={"a": ("x",), "b": ("y", "x")})(lambda p, c, b: {})
    arrays = {"a": np.zeros(5), "b": np.zeros((5, 16))}
    with pytest.raises(ih.UserError, match="5 and 16 along 'x'"):
        check_dims(trained.study, mine, arrays)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dims": "head"}, "such as"),
        ({"dims": ("head", "head")}, "different names"),
        ({"dims": ("head",), "coords": {"layer": [0]}}, "coords for 'layer'"),
    ],
)
def test_names_are_checked_at_once(settings, message):
    with pytest.raises(ih.UserError, match=message):
        ih.measure(**settings)


def test_labels_that_do_not_fit_are_refused_before_all_is_measured(trained):
    short = ih.measure(dims=("label",), coords={"label": [1, 2]})
    with pytest.raises(
        ih.UserError, match="labels of a dim do not fit: 'label' has 5 entries and 2"
    ):
        check_dims(trained.study, short(lambda p, c, b: p.b_U), {"value": np.zeros(5)})
