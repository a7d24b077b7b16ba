"""A network to look inside: what patches and parts of logits must be, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import network, sequences, small

import ih_jax as ih
from ih_jax.clamps.apply import apply
from ih_jax.data.images.features import of_gaussian

TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}


def look_at(**settings):
    return ih.Network(network(small(layers=3, **settings)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    task = ih.fewshot(of_gaussian(8, 8), classes=8, batch=8, evaluation_sequences=16)
    clamps = {"none": None, "match": ih.induction(1, 1)}
    study = ih.sweep(
        task, clamp=clamps, init=[3, 4], d_model=16, heads=2, sequences=80, checkpoints=[0, 40, 80]
    )
    return study.train(tmp_path_factory.mktemp("networks"), progress=False, width=4)


# --- a network of a run -------------------------------------------------------------------------


def test_the_network_of_a_run_is_its_weights_clamp_and_task(trained):
    found = trained.network(clamp="match", init=4)
    number = trained.run(clamp="match", init=4)
    assert found.seen == 80
    assert found.clamp == ih.induction(1, 1)
    np.testing.assert_array_equal(found.params.W_E, trained.params(number, 10).W_E)
    early = trained.network(clamp="match", init=4, sequences=40)
    np.testing.assert_array_equal(early.params.W_E, trained.network(run=number, step=5).params.W_E)
    batch = found.batch(16, seed=2)
    own = apply(found.params, batch, found.clamp)
    np.testing.assert_array_equal(found.activations(batch).logits, own.logits)
    free = apply(found.params, batch)
    np.testing.assert_array_equal(found.activations(batch, clamp=None).logits, free.logits)
    assert not np.array_equal(own.logits, free.logits)
    scores = found.scores(evaluated_on(found.task))
    recorded = trained.results.sel(clamp="match", init=4, sequences=80)
    assert list(scores) == ["loss", "accuracy", "in_context_accuracy"]
    for metric, score in scores.items():
        assert score == pytest.approx(float(recorded[metric]), abs=1e-4)
    assert found.loss(batch) == pytest.approx(found.scores(batch)["loss"])


def evaluated_on(task):
    """The 16 sequences that training evaluates on first."""
    key = jax.random.fold_in(jax.random.key(task.evaluation_seed), 0)
    return task.objective().sample(
        key, jax.tree.map(jnp.asarray, task.run_arrays().evaluation[0]), 16
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"clamp": "non"}, "unknown clamp 'non': did you mean 'none'"),
        ({"clamp": "none", "init": 9}, "unknown init '?9'?: .*give one of 3, 4"),
        ({"clamp": "none"}, r"2 runs have clamp='none': give one of init \(3, 4\)"),
        ({"inits": 3}, "unknown axis 'inits': did you mean 'init'"),
        ({"run": 0, "sequences": 41}, "no checkpoint at 41 sequences: .* are at 0, 40, 80"),
        ({"run": 0, "step": 7}, "not kept at step 7"),
        ({"run": 0, "init": 3}, "give either"),
        ({"run": 0, "step": 5, "sequences": 40}, "give either"),
    ],
)
def test_a_network_that_is_not_there_is_refused_in_one_line(trained, asked, message):
    with pytest.raises(ih.UserError, match=message) as error:
        trained.network(**asked)
    assert "\n" not in str(error.value)


def test_trajectories_and_networks_show_themselves(trained):
    text = repr(trained)
    for part in (str(trained.folder), "clamp: none, match", "init: 3, 4", "3, 0 to 80 sequences"):
        assert part in text
        assert part in trained._repr_html_()
    assert "finished yes" in text
    found = trained.network(clamp="match", init=4)
    assert "clamp match, init 4" in repr(found)
    assert "80 sequences" in repr(found)
    assert "2 layers of 2 heads" in found._repr_html_()
    assert "&lt;" in ih.Network(found.params, name="<b>")._repr_html_()


# --- batches ------------------------------------------------------------------------------------


def test_batches_of_ones_own(trained):
    found = trained.network(run=0)
    ours = found.batch(16)
    again = found.batch_of(ours.examples, ours.labels)
    np.testing.assert_allclose(
        found.activations(again).logits, found.activations(ours).logits, **TOLERANCE
    )
    one = found.batch_of(np.ones((3, 8)), [0, 1, 1])
    assert one.examples.shape == (1, 3, 8)
    assert one.labels.tolist() == [[0, 1, 1]]
    for wrong, message in (
        ({"examples": np.ones((3, 7)), "labels": [0, 1, 1]}, r"give \[B, P, 8\]"),
        ({"examples": np.ones((3, 8)), "labels": [0, 1, 5]}, "0 to 4"),
        ({"examples": np.ones((3, 8)), "labels": [0, 1, 1.5]}, "whole numbers, 0 to 4"),
        ({"examples": np.ones((3, 8))}, "give a label for each example"),
        ({}, r"give examples and labels, vectors \(.*\), text, or tokens"),
        ({"examples": np.ones((3, 8)), "text": "x"}, "examples and text together"),
        ({"tokens": [0, 1]}, "does not read tokens"),
        ({"text": "x"}, "not trained on a text"),
    ):
        with pytest.raises(ih.UserError, match=message):
            found.batch_of(**wrong)
    with pytest.raises(ih.UserError, match="unknown evaluation set 'fsl_tran'"):
        found.batch(4, set="fsl_tran")
    with pytest.raises(ih.UserError, match="has no task"):
        look_at().batch(4)


def test_a_text_is_read_with_the_tokens_of_its_recipe(tmp_path):
    from ih_jax.data.languages.text import Text

    (tmp_path / "text.txt").write_text("to be or not to be, that is the question " * 60)
    task = ih.language(Text(str(tmp_path / "text.txt"), length=24))
    config = task.config(heads=2, d_model=16, max_positions=24)
    found = ih.Network(ih.init(jax.random.key(0), config), task=task)
    batch = found.batch_of(text="to be")
    assert batch.tokens.shape == (1, 6)
    assert batch.tokens[0].tolist() == [task.data.bos, *b"to be"]
    np.testing.assert_array_equal(found.batch_of(tokens=batch.tokens).tokens, batch.tokens)
    assert found.batch_of(text=["to be", "or no"]).tokens.shape == (2, 6)
    with pytest.raises(ih.UserError, match="same number of tokens"):
        found.batch_of(text=["to be", "or"])
    with pytest.raises(ih.UserError, match="this network reads tokens"):
        found.batch_of(np.ones((3, 8)), [0, 1, 1])
    assert found.batch(2).tokens.shape == (2, 24)


def test_vectors_of_ones_own_with_labels_between_them_or_without():
    """A few-shot sequence told as vectors and labels is read alike."""
    found = look_at()
    batch = sequences(found.config)
    shape = (6, 5)  # x y x y x, where labels stand vectors are not read
    vectors, labels = np.full((*shape, 6), 7.0), np.full(shape, -1)
    vectors[:, ::2], labels[:, 1::2] = batch.examples, batch.labels[:, :-1]
    told = found.batch_of(vectors=vectors, labels=labels)
    ours = found.activations(batch)
    np.testing.assert_allclose(found.activations(told).logits, ours.logits, **TOLERANCE)
    one = found.batch_of(vectors=vectors[0], labels=labels[0])
    np.testing.assert_array_equal(one.vectors[0], told.vectors[0])
    bare = found.batch_of(vectors=vectors)
    assert bare.labels is None
    assert not np.allclose(found.activations(bare).logits, ours.logits, **TOLERANCE)
    # Batches of every kind have the source's size, or are refused.
    whole = found.patch(bare, told, "resid_post", layer=2)
    np.testing.assert_allclose(whole.logits, ours.logits, **TOLERANCE)
    for given in (one, found.batch_of(vectors=vectors[0])):
        with pytest.raises(ih.UserError, match=r"the source has 6 sequences .* the batch 1 of 5"):
            found.patch(given, ours, "z")
    for wrong, message in (
        ({"vectors": vectors[..., :5]}, r"give \[B, T, 6\]"),
        ({"vectors": vectors, "labels": labels[0]}, r"labels \(5,\) for vectors \(6, 5, 6\)"),
        ({"vectors": vectors, "labels": labels - 1}, "-1 to 3"),
    ):
        with pytest.raises(ih.UserError, match=message):
            found.batch_of(**wrong)


# --- activation patching ------------------------------------------------------------------------

CONFIGS = [
    {},
    {"positions": "shortformer", "norm": False},
    {"positions": "learned", "mlp_ratio": 2.0, "smeared_keys": True},
]


@pytest.mark.parametrize("settings", CONFIGS)
@pytest.mark.parametrize(
    "where",
    [
        {"site": "resid_post", "layer": 2},
        {"site": "resid_pre", "layer": 0},
        {"site": "logits"},
        {"site": "attn_out", "positions": range(5)},
    ],
)
def test_a_patch_of_all_that_counts_gives_the_sources_logits(settings, where):
    found = look_at(**settings)
    a, b = (sequences(found.config, seed=seed) for seed in (1, 2))
    logits = found.activations(b).logits
    patched = found.patch(a, b, **where).logits
    if where["site"] == "attn_out":  # only if the stream begins alike
        assert not np.allclose(patched, logits, **TOLERANCE)
        assert not np.allclose(patched, found.activations(a).logits, **TOLERANCE)
    else:
        np.testing.assert_allclose(patched, logits, **TOLERANCE)


@pytest.mark.parametrize("settings", CONFIGS)
def test_a_patch_changes_what_it_names_and_what_follows(settings):
    found = look_at(**settings)
    a, b = (sequences(found.config, seed=seed) for seed in (1, 2))
    mine, other = found.activations(a), found.activations(b)
    patched = found.patch(a, b, "z", layer=1, heads=[2], positions=[-1, 1])
    expected = np.array(mine.z[1])
    expected[:, [1, 4], 2] = np.asarray(other.z[1])[:, [1, 4], 2]
    np.testing.assert_allclose(patched.z[1], expected, **TOLERANCE)
    np.testing.assert_allclose(patched.z[0], mine.z[0], **TOLERANCE)
    block = found.params.blocks[1].attention
    attn_out = np.einsum("bthe,hed->btd", expected, block.W_O)
    np.testing.assert_allclose(patched.attn_out[1], attn_out, **TOLERANCE)
    assert not np.allclose(patched.logits, mine.logits, **TOLERANCE)
    assert np.allclose(patched.logits[:, 0], mine.logits[:, 0], **TOLERANCE)  # causality


def test_a_patch_with_itself_changes_nothing_and_reads_any_source():
    found = look_at()
    batch = sequences(found.config)
    mine = found.activations(batch)
    for source in (batch, mine, found):
        patched = found.patch(batch, source, "pattern", layer=[0, 2], heads=1)
        np.testing.assert_allclose(patched.logits, mine.logits, **TOLERANCE)
    other = ih.Network(network(found.config, seed=5))
    put_in = found.patch(batch, other, "resid_post", layer=2)
    W = dataclasses.replace(
        other.params, W_U=found.params.W_U, b_U=found.params.b_U, norm=found.params.norm
    )
    np.testing.assert_allclose(put_in.logits, apply(W, batch).logits, **TOLERANCE)


def test_an_ablated_head_stays_so_but_for_what_is_patched():
    found = dataclasses.replace(look_at(), clamp=ih.ablate(0, [1]))
    a, b = (sequences(found.config, seed=seed) for seed in (1, 2))
    assert not np.any(found.patch(a, b, "z", layer=0).z[0][:, :, 1])
    free = found.activations(b, clamp=None)
    assert np.any(found.patch(a, free, "z", layer=0).z[0][:, :, 1])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"site": "Z"}, "unknown site 'Z': did you mean 'z'"),
        ({"site": "z", "layer": 3}, r"layer 3 is out of range: give 0\.\.2"),
        ({"site": "z", "heads": [4]}, r"head 4 is out of range: give 0\.\.3"),
        ({"site": "resid_post", "heads": [0]}, "has no heads"),
        ({"site": "z", "positions": 5}, r"position 5 is out of range: give 0\.\.4"),
        ({"site": "mlp_out"}, "no MLPs"),
    ],
)
def test_a_patch_names_what_is_there(where, message):
    found = look_at()
    with pytest.raises(ih.UserError, match=message):
        found.patch(sequences(found.config), sequences(found.config, seed=1), **where)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda n, b: n.activations(5), "batch is 5: make one with network.batch"),
        (lambda n, b: n.activations(b, 5), "clamp is 5: give"),
        (lambda n, b: n.patch(b, 5, "z"), "source is 5: make one"),
        (lambda n, b: n.patch(b, b, 5), "unknown site 5"),
        (lambda n, b: n.patch(b, b, "z", layer="x"), "one of layer is 'x'|layer is 'x'"),
        (lambda n, b: n.patch(b, b, "z", 0, heads=2.5), "one of heads is 2.5"),
        (lambda n, b: n.patch(b, b, "z", 0, positions=[None]), "one of positions is None"),
        (lambda n, b: n.patch_path(b, b, (0, 0), 5), "no reader"),
        (lambda n, b: n.patch_path(b, b, (0, 0), (1, 0), 5), "inputs is 5"),
        (lambda n, b: n.batch_of("x", "y"), "examples is 'x': give an array of numbers"),
        (lambda n, b: n.batch_of([[np.nan] * 6] * 3, [0] * 3), "examples has 18 of 18 numbers"),
        (lambda n, b: n.with_params(5), "params is 5: give weights"),
        (lambda n, b: n.view(b, show=5), "show is 5: give one or more of"),
        (lambda n, b: n.view(b, head="x"), "head 'x': give .layer, head."),
    ],
)
def test_what_is_no_batch_clamp_head_or_array(asked, message):
    found = ih.Network(network(small(layers=3)))
    with pytest.raises(ih.UserError, match=message):
        asked(found, sequences(found.config))


@pytest.mark.parametrize("given", [{"sequences": -1}, {"sequences": "x"}, {"seed": 10**30}])
def test_a_batch_is_drawn_with_whole_numbers(given):
    found = ih.Network(network(small()), task=ih.fewshot(classes=8))
    with pytest.raises(ih.UserError, match=r"(sequences|seed) is .*: give a whole number from"):
        found.batch(**given)
    with pytest.raises(ih.UserError, match="a batch of 1,000,000,000,000 sequences takes"):
        found.batch(10**12)


def test_sources_have_the_size_of_the_batch():
    found = look_at()
    source = found.activations(sequences(found.config))
    with pytest.raises(ih.UserError, match=r"the source has 6 sequences .* the batch 4 of 5"):
        found.patch(sequences(found.config, 4), source, "z")
    with pytest.raises(ih.UserError, match="give one of the same shape"):
        found.patch(sequences(found.config), ih.Network(network(small())), "z")


# --- path patching ------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", CONFIGS)
def test_a_path_into_all_heads_of_the_next_layer_is_activation_patching_for_them(settings):
    found = look_at(**{**settings, "mlp_ratio": None})  # nothing between the two layers
    a, b = (sequences(found.config, seed=seed) for seed in (1, 2))
    by_path = found.patch_path(a, b, (0, 2), [(1, h) for h in range(4)])
    whole = found.patch(a, b, "z", layer=0, heads=[2])
    np.testing.assert_allclose(by_path.z[1], whole.z[1], **TOLERANCE)
    np.testing.assert_allclose(by_path.pattern[1], whole.pattern[1], **TOLERANCE)
    assert not np.allclose(by_path.logits, whole.logits, **TOLERANCE)  # the path to the logits
    assert not np.allclose(by_path.z[1], found.activations(a).z[1], **TOLERANCE)


@pytest.mark.parametrize("settings", CONFIGS)
def test_a_path_into_one_input_of_one_head(settings):
    found = look_at(**settings)
    a, b = (sequences(found.config, seed=seed) for seed in (1, 2))
    mine, other = found.activations(a), found.activations(b)
    attention = found.params.blocks[0].attention
    change = np.einsum("bte,ed->btd", other.z[0][:, :, 2] - mine.z[0][:, :, 2], attention.W_O[2])
    norm, late = found.params.blocks[2].norm1, found.params.blocks[2].attention
    stream = np.asarray(mine.resid_pre[2]) + change  # past layer 1, which keeps what it had
    if norm is not None:
        centred = stream - stream.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        stream = scaled * np.asarray(norm.scale) + np.asarray(norm.bias)
    v = stream @ np.asarray(late.W_V[3])
    patched = found.patch_path(a, b, (0, 2), (2, 3), inputs="v")
    np.testing.assert_allclose(patched.v[2][:, :, 3], v, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(patched.v[2][:, :, :3], mine.v[2][:, :, :3], **TOLERANCE)
    np.testing.assert_allclose(patched.pattern[2], mine.pattern[2], **TOLERANCE)
    np.testing.assert_allclose(patched.resid_pre[2], mine.resid_pre[2], **TOLERANCE)
    z = np.einsum("bqk,bke->bqe", mine.pattern[2][:, 3], v)
    np.testing.assert_allclose(patched.z[2][:, :, 3], z, rtol=1e-3, atol=1e-4)
    by_key = found.patch_path(a, b, (0, 2), (2, 3), inputs=["k"])
    np.testing.assert_allclose(by_key.v[2], mine.v[2], **TOLERANCE)
    assert not np.allclose(by_key.pattern[2][:, 3], mine.pattern[2][:, 3], **TOLERANCE)


def test_a_path_to_the_logits_without_a_norm_adds_what_the_head_writes():
    found = look_at(norm=False)
    a, b = (sequences(found.config, seed=seed) for seed in (1, 2))
    mine, other = (found.head_logits(each).heads.sel(layer=1, head=0) for each in (a, b))
    patched = found.patch_path(a, b, (1, 0), "logits").logits
    expected = found.activations(a).logits + (other - mine).values
    np.testing.assert_allclose(patched, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (((1, 0), (1, 1)), "heads of one layer, 2 or later"),
        (((0, 0), [(1, 1), (2, 1)]), "heads of one layer, 1 or later"),
        (((0, 4), (1, 1)), r"head \(0, 4\) is not in the model"),
        ((2, (1, 1)), r"head 2: give \(layer, head\)"),
        (((0, 0), "logit"), 'or "logits"'),
        (((0, 0), (1, 1), "x"), "give one or more of q, k, v"),
        (((0, 0), []), "no reader"),
    ],
)
def test_a_path_goes_from_a_head_to_a_later_one(path, message):
    found = look_at()
    with pytest.raises(ih.UserError, match=message):
        found.patch_path(sequences(found.config), sequences(found.config, seed=1), *path)


# --- what heads add to logits -------------------------------------------------------------------


@pytest.mark.parametrize("settings", CONFIGS)
def test_parts_sum_to_the_logits_and_nothing_is_held(settings):
    found = look_at(**settings)
    batch = sequences(found.config)
    parts = found.head_logits(batch)
    assert parts.heads.dims == ("layer", "head", "sequence", "position", "label")
    assert parts.heads.shape == (3, 4, 6, 5, 4)
    np.testing.assert_allclose(parts.held, 0, atol=2e-4)
    whole = parts.heads.sum(("layer", "head")) + parts.mlp.sum("layer")
    whole = (whole + parts.embedding + parts.bias).transpose("sequence", "position", "label")
    np.testing.assert_allclose(whole, found.activations(batch).logits, rtol=1e-3, atol=2e-4)


def test_a_head_adds_its_output_through_the_norm_as_it_is():
    found = look_at()
    batch = sequences(found.config)
    seen, params = found.activations(batch), found.params
    final = np.asarray(seen.resid_post[-1])
    deviation = np.sqrt(final.var(-1, keepdims=True) + 1e-5)
    written = np.einsum("bte,ed->btd", seen.z[1][:, :, 3], params.blocks[1].attention.W_O[3])
    centred = (written - written.mean(-1, keepdims=True)) / deviation
    expected = (centred * np.asarray(params.norm.scale)) @ np.asarray(params.W_U).T
    parts = found.head_logits(batch)
    np.testing.assert_allclose(parts.heads.sel(layer=1, head=3), expected, rtol=1e-3, atol=1e-4)


def test_what_a_clamp_puts_on_the_stream_is_told_apart():
    clamp = ih.hold("resid_post", jnp.ones(16), layer=1) & ih.ablate(0, [2])
    found = dataclasses.replace(look_at(), clamp=clamp)
    parts = found.head_logits(sequences(found.config))
    assert not np.any(parts.heads.sel(layer=0, head=2))
    assert np.abs(parts.held).max() > 0.1


def test_language_networks_too():
    found = look_at(features=0)
    tokens = np.random.default_rng(0).integers(0, 4, (6, 5))
    batch = found.batch_of(tokens=tokens)
    parts = found.head_logits(batch)
    np.testing.assert_allclose(parts.held, 0, atol=5e-4)
    other = found.batch_of(tokens=tokens[:, ::-1])
    last = found.config.layers - 1
    patched = found.patch(batch, other, "resid_post", layer=last)
    np.testing.assert_allclose(patched.logits, found.activations(other).logits, **TOLERANCE)
