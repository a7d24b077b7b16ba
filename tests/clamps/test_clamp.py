"""What each constructor holds, and what training sees of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_clamps import CLAMPS, CONFIG, PLAIN, by_label, close, doubled, draw, under
from networks import QUICK, copies, look, network, query_loss, sequences, small

from ih_jax.clamps import kinds as c
from ih_jax.clamps.apply import apply
from ih_jax.clamps.clamp import Clamp
from ih_jax.data.batches import Batch
from ih_jax.errors import UserError
from ih_jax.model.sites import GLOBAL_SITES, SITES


@pytest.fixture(scope="module")
def trained() -> dict:
    """{rows: (query's logits, gradients)} of every clamp above, as training sees them."""
    params, batch = network(CONFIG), sequences(CONFIG, 4)
    holds = Clamp.stack(list(CLAMPS.values()), CONFIG)

    def view(rows):
        def loss(params, holds):
            activations = apply(params, batch, holds, rows=rows, seen=4.0)
            return query_loss(activations, batch), activations.logits[:, -1]

        both = jax.vmap(jax.value_and_grad(loss, has_aux=True))
        run = jax.jit(both, compiler_options=QUICK)
        (_, logits), gradients = run(copies(params, len(CLAMPS)), holds)
        return jax.device_get((logits, gradients))

    return {rows: view(rows) for rows in ("all", "query")}


@pytest.mark.parametrize("name", CLAMPS)
def test_the_query_alone_gives_what_all_rows_give(name: str, trained: dict) -> None:
    """Logits and gradients are the same on the fast path, and finite."""
    index = list(CLAMPS).index(name)
    whole, query = (jax.tree.map(lambda x: x[index], trained[rows]) for rows in ("all", "query"))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(query), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CLAMPS)
def test_every_clamp_but_the_empty_one_changes_what_is_learned(name: str, trained: dict) -> None:
    index = list(CLAMPS).index(name)
    logits, gradients = trained["query"]
    same_logits = np.allclose(logits[index], logits[0], atol=1e-5)
    same_gradients = all(np.allclose(g[index], g[0], atol=1e-5) for g in jax.tree.leaves(gradients))
    assert same_logits == (name in ("none", "freeze") or name.startswith("stop"))
    assert same_gradients == (name in ("none", "freeze"))


@pytest.mark.parametrize(
    "name", ["match", "perfect v", "copy_from clean", "graft after", "rule", "hold q 1"]
)
def test_a_run_in_a_stack_is_the_run_alone(name: str, trained: dict) -> None:
    """Parts that others have and it lacks do not touch it."""
    holds = CLAMPS[name].arrays(CONFIG)
    found = look(network(CONFIG), sequences(CONFIG, 4), holds, seen=4.0).logits[:, -1]
    stacked = trained["all"][0][list(CLAMPS).index(name)]
    np.testing.assert_allclose(found, stacked, rtol=1e-5, atol=1e-5)


# --- what each constructor holds ----------------------------------------------------------------


@pytest.fixture(scope="module")
def clean():
    return under(Clamp())


def test_ablate(clean) -> None:
    found = under(c.ablate(0, [1, 3]))
    assert not found.v[0][:, :, [1, 3]].any()
    assert not found.z[0][:, :, [1, 3]].any()
    assert close(found.v[0][:, :, [0, 2]], clean.v[0][:, :, [0, 2]])
    assert close(found.pattern[0], clean.pattern[0])


@pytest.mark.parametrize("rows", ["all", "label"])
def test_previous_token(rows: str, clean) -> None:
    found = under(c.previous_token(0, 2, strength=0.7, rows=rows)).pattern[0]
    expected = 0.7 * np.eye(5, k=-1) + 0.3 * np.eye(5)
    expected[0, 0] = 1
    held = slice(None) if rows == "all" else slice(1, None, 2)
    assert close(found[:, 2, held], expected[held])
    if rows == "label":
        assert close(found[:, 2, ::2], clean.pattern[0][:, 2, ::2])
    assert close(found[:, [0, 1, 3]], clean.pattern[0][:, [0, 1, 3]])


def labelled(*labels: list[int]) -> Batch:
    batch = sequences(PLAIN, len(labels), len(labels[0]) - 1)
    return Batch.of(batch.examples, jnp.asarray(labels, jnp.int32))


def test_induction(clean) -> None:
    batch = labelled([0, 1, 0], [2, 3, 3])
    pattern = under(c.induction(1, 2, strength=0.8), batch).pattern[1]
    assert close(pattern[:, 2, -1], [[0, 0.8, 0, 0.2, 0], [0, 0.2, 0, 0.8, 0]])
    unheld = under(Clamp(), batch).pattern[1]
    assert close(pattern[:, 2, :-1], unheld[:, 2, :-1])
    assert close(pattern[:, 0], unheld[:, 0])


def test_induction_normalised_shares_among_right_and_wrong_labels() -> None:
    batch = labelled([0, 1, 0, 2, 0], [3, 1, 0, 2, 3], [1, 1, 1, 1, 1], [2, 2, 0, 0, 3])
    rows = under(c.induction(1, 2, strength=0.8, normalise=True), batch).pattern[1][:, 2, -1]
    assert close(rows[:, ::2], 0)
    assert close(rows[0, 1::2], [0.4, 0.1, 0.4, 0.1])
    assert close(rows[1, 1::2], [0.8, 0.2 / 3, 0.2 / 3, 0.2 / 3])
    assert close(rows[2:, 1::2], 0.25)  # where one side is empty, the other has all
    plain = under(c.induction(1, 2, strength=0.8), batch).pattern[1][:, 2, -1]
    assert close(plain[0, 1::2], [0.8, 0.2, 0.8, 0.2])


@pytest.mark.parametrize("by_rows", [False, True], ids=["examples", "table"])
def test_match_by_similarity(by_rows: bool) -> None:
    rng = np.random.default_rng(3)
    a, b, d = rng.normal(size=(3, 6))
    examples = jnp.asarray([[a, b, d, 2 * a], [b, a, a, 3 * a], [b, d, b, 0 * a]], jnp.float32)
    batch = Batch.of(examples, jnp.asarray([[0, 1, 2, 0]] * 3))
    if by_rows:
        batch = Batch(batch.table, jnp.arange(12).reshape(3, 4), batch.labels)
    hard, soft = c.match_by_similarity(1, 0), c.match_by_similarity(1, 1, temperature=0.5)
    pattern = under(hard & soft, batch).pattern[1]
    # The second has ties; in the third all are alike to a query of size 0.
    expected = [[1, 0, 0], [0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]]
    assert close(pattern[:, 0, -1, 1::2], expected)
    assert close(pattern[:, 0, -1, ::2], 0)
    unit = [x / np.linalg.norm(x) for x in (a, b, d)]
    weights = np.exp([unit[0] @ x / 0.5 for x in unit])
    assert close(pattern[0, 1, -1, 1::2], weights / weights.sum())


def test_labels_only(clean) -> None:
    pattern = under(c.labels_only(1, 2)).pattern[1]
    assert close(pattern[:, 2, -1, ::2], 0)
    kept = clean.pattern[1][:, 2, -1, 1::2]
    assert close(pattern[:, 2, -1, 1::2], kept / kept.sum(-1, keepdims=True))
    assert close(pattern[:, 2, :-1], clean.pattern[1][:, 2, :-1])


@pytest.mark.parametrize("rows", ["all", "label"])
def test_no_previous_token(rows: str, clean) -> None:
    pattern = under(c.no_previous_token(0, 2, rows=rows)).pattern[0]
    for row in range(5):
        expected = clean.pattern[0][:, 2, row].copy()
        if row > 0 and (rows == "all" or row % 2):
            expected[:, row - 1] = 0
            expected /= expected.sum(-1, keepdims=True)
        assert close(pattern[:, 2, row], expected)
    assert close(pattern[:, 1], clean.pattern[0][:, 1])


def test_a_row_that_is_blocked_all_over_stays_causal_and_finite() -> None:
    one_pair = labelled([0, 0])  # the query may look at neither the label nor anything else
    pattern = under(c.no_previous_token(1, 2) & c.labels_only(1, 2), one_pair).pattern[1]
    assert close(pattern[:, 2, -1].sum(-1), 1)
    assert close(np.triu(pattern, k=1), 0)


def test_temperature_of_clamped_and_of_clean_scores(clean) -> None:
    before = c.previous_token(0, [0, 1])
    unscaled = under(before).attn_scores[1]
    clamped = under(before & c.temperature(1, {2: 0.5, 3: 4.0})).attn_scores[1]
    lower = np.tril_indices(5)
    assert close(clamped[:, 2][:, *lower], unscaled[:, 2][:, *lower] / 0.5)
    assert close(clamped[:, 3][:, *lower], unscaled[:, 3][:, *lower] / 4)
    assert close(clamped[:, :2], unscaled[:, :2])
    cleaned = under(before & c.temperature(1, {2: 0.5}, base="clean")).attn_scores[1]
    assert close(cleaned[:, 2][:, *lower], clean.attn_scores[1][:, 2][:, *lower] / 0.5)
    assert close(cleaned[:, :2], clean.attn_scores[1][:, :2])  # as the authors' code has it
    assert not close(cleaned[:, :2][..., *lower], unscaled[:, :2][..., *lower], 1e-2)


def test_copy_from_reads_the_scores_on_labels(clean) -> None:
    batch = sequences(PLAIN)
    rows = np.arange(6)[:, None]
    in_context = np.asarray(batch.labels[:, :2])
    alone = under(c.copy_from(1, 2))
    assert close(alone.logits[rows, -1, in_context], clean.attn_scores[1][:, 2, -1, 1::2])
    assert (np.sort(alone.logits[:, -1], axis=-1)[:, :2] < -9e8).all()
    assert close(alone.logits[:, :-1], clean.logits[:, :-1])
    held = c.previous_token(0, [0, 1, 2, 3])
    clamped, cleaned = (
        under(held & c.copy_from(1, 2, base=base)).logits for base in ("clamped", "clean")
    )
    assert not close(clamped[rows, -1, in_context], alone.logits[rows, -1, in_context], 1e-2)
    assert close(cleaned[rows, -1, in_context], alone.logits[rows, -1, in_context])


@pytest.mark.parametrize("inputs", ["qkv", "k", "v", "qk"])
def test_perfect_previous_layer(inputs: str, clean) -> None:
    found = under(c.perfect_previous_layer(set(inputs)))
    tokens = clean.resid_pre[0]
    previous = tokens.copy()
    previous[:, 1:4] = tokens[:, :3]
    learned = clean.resid_post[0]
    assert close(found.q_input[1], previous if "q" in inputs else learned)
    assert close(found.k_input[1], previous if "k" in inputs else learned)
    assert close(found.v_input[1], tokens if "v" in inputs else learned)
    assert close(found.resid_pre[1], tokens if "v" in inputs else learned)
    assert close(found.resid_post[1] - found.attn_out[1], tokens if "v" in inputs else learned)


def test_preserve(clean) -> None:
    found = under(c.preserve("patterns") & c.ablate(0, [0, 1, 2]))
    assert close(found.pattern[1], clean.pattern[1])
    assert not close(found.v[1], clean.v[1], 1e-2)
    assert not found.v[0][:, :, :3].any()
    found = under(c.preserve("values", "queries") & c.ablate(0, [0, 1, 2]))
    assert close(found.v[1], clean.v[1])
    assert close(found.q[1], clean.q[1])
    assert not close(found.k[1], clean.k[1], 1e-2)


def test_graft(clean) -> None:
    donor = network(PLAIN, 5)
    batch = sequences(PLAIN)
    whole = jax.device_get(look(donor, batch))
    upto, after = under(c.graft(donor, upto=0)), under(c.graft(donor, after=0))
    assert close(upto.resid_post[0], whole.resid_post[0])
    assert close(after.resid_post[0], clean.resid_post[0])
    both = under(c.graft(donor, upto=0) & c.graft(donor, after=0))
    assert close(both.logits, whole.logits)
    assert not close(upto.logits, whole.logits, 1e-2)
    assert not close(after.logits, whole.logits, 1e-2)
    assert close(under(c.graft(donor, after=1)).resid_post[1], clean.resid_post[1])
    assert close(under(c.graft(donor, upto=1) & c.graft(donor, after=1)).logits, whole.logits)


def test_what_is_grafted_does_not_learn(trained: dict) -> None:
    gradients = trained["query"][1]
    upto, after = (list(CLAMPS).index(f"graft {which}") for which in ("upto", "after"))

    def learns(tree, run: int) -> bool:
        return any(np.asarray(leaf[run]).any() for leaf in jax.tree.leaves(tree))

    below = gradients.W_E, gradients.W_L, gradients.blocks[0]
    above = gradients.blocks[1], gradients.norm, gradients.W_U
    assert not any(learns(each, upto) for each in below)
    assert all(learns(x, upto) for x in above)
    assert not any(learns(each, after) for each in above)
    assert all(learns(x, after) for x in below)


def test_mean_and_resample(clean) -> None:
    found = under(c.mean("z", 0, heads=1)).z[0]
    assert close(found[:, :, 1], np.broadcast_to(clean.z[0][:, :, 1].mean(0), found[:, :, 1].shape))
    assert close(found[:, :, 0], clean.z[0][:, :, 0])
    found = under(c.resample("q", 0, heads=1)).q[0]
    assert close(found[:, :, 1], np.roll(clean.q[0][:, :, 1], 1, axis=0))
    assert close(found[:, :, [0, 2, 3]], clean.q[0][:, :, [0, 2, 3]])


def test_stop_gradient(trained: dict) -> None:
    gradients = trained["query"][1]
    names = list(CLAMPS)
    q, k, v = np.moveaxis(gradients.blocks[1].attention.W_QKV, 1, 0)
    assert not q[names.index("stop q")].any()
    assert k[names.index("stop q")].any()
    stopped = names.index("stop pattern")
    assert not q[stopped].any()
    assert not k[stopped].any()
    assert v[stopped].any()
    stopped = names.index("stop resid_pre")
    assert not gradients.W_E[stopped].any()
    assert q[stopped].any()
    assert gradients.W_E[0].any()


def test_freeze_marks_the_weights_that_do_not_learn() -> None:
    def full(*names: str):
        masks = c.freeze(*names).arrays(CONFIG).frozen
        return jax.tree.map(lambda m, p: np.broadcast_to(m, p.shape), masks, network(CONFIG))

    found = full("blocks.1.attention.W_K", "W_E", "norm")
    assert found.W_E.all()
    assert found.norm.bias.all()
    assert not found.W_L.any()
    assert found.blocks[1].attention.W_K.all()
    assert not found.blocks[1].attention.W_Q.any()
    assert not found.blocks[1].attention.W_V.any()
    assert not any(x.any() for x in jax.tree.leaves(found.blocks[0]))
    below = full("blocks.0")
    assert all(x.all() for x in jax.tree.leaves(below.blocks[0]))
    assert not any(x.any() for x in jax.tree.leaves(below.blocks[1]))
    both = (c.freeze("W_E") & c.freeze("W_U")).arrays(CONFIG).frozen
    assert both.W_E.all()
    assert both.W_U.all()
    assert not both.W_L.any()
    stacked = Clamp.stack([Clamp(), c.freeze("W_E")], CONFIG).frozen
    assert stacked.W_E.ravel().tolist() == [0, 1]
    with pytest.raises(UserError, match=r"unknown parameter 'W_X'.*W_E, b_E"):
        c.freeze("W_X").arrays(CONFIG)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_holding_a_site_at_its_own_value_changes_nothing(positions: str, layer: int) -> None:
    """A public value arrives at its own place, whatever the layout inside."""
    config = small(positions=positions, mlp_ratio=1.0)
    params, batch = network(config), sequences(config, 1)
    clean = jax.device_get(look(params, batch))
    sites = [site for site in SITES if site not in GLOBAL_SITES]
    own = {site: getattr(clean, site)[layer][0] for site in sites}
    own["attn_scores"] = np.maximum(own["attn_scores"], -1e9)

    @jax.jit
    def run(holds, params):
        return jax.vmap(lambda p, h: apply(p, batch, h).logits)(params, holds)

    def logits(values):
        clamps = [c.hold(site, value, layer=layer) for site, value in values.items()]
        return run(Clamp.stack(clamps, config), copies(params, len(clamps)))

    for site, found in zip(sites, logits(own), strict=True):
        np.testing.assert_allclose(found, clean.logits, atol=1e-5, err_msg=site)
    reversed_heads = {s: x[..., ::-1].copy() for s, x in own.items()}
    for site, found in zip(sites, logits(reversed_heads), strict=True):
        assert np.abs(found - clean.logits).max() > 1e-3, site


def test_hold_by_element_by_head_and_softly(clean) -> None:
    gate = (draw((5, 4, 4), 1) > 0.5).astype(float)
    value = draw((5, 4, 4))
    found = under(c.hold("k", value, gate=gate)).k[0]
    assert close(found, np.where(gate > 0, value, clean.k[0]))
    found = under(c.hold("z", 0.5, layer=1, heads=[0, 2], gate=0.25)).z[1]
    assert close(found[:, :, [0, 2]], 0.25 * 0.5 + 0.75 * clean.z[1][:, :, [0, 2]])
    assert close(found[:, :, [1, 3]], clean.z[1][:, :, [1, 3]])
    assert close(under(c.hold("embed", 0.0)).embed, 0)
    assert close(under(c.hold("logits", [[1, 2, 3, 4]])).logits, np.array([1, 2, 3, 4]))


def test_rules_of_ones_own_and_their_arguments(clean) -> None:
    both = c.rule("z", doubled, layer=1, heads=0, scale=3) & c.rule("z", doubled, layer=1, heads=2)
    found = under(both).z[1]
    assert close(found[:, :, 0], 3 * clean.z[1][:, :, 0])
    assert close(found[:, :, 2], 2 * clean.z[1][:, :, 2])
    assert close(found[:, :, [1, 3]], clean.z[1][:, :, [1, 3]])
    two = c.rule("z", doubled, heads=0, scale=3) & c.rule("z", doubled, heads=1, scale=5)
    found = under(two).z[0]
    assert close(found[:, :, :2], clean.z[0][:, :, :2] * np.array([3, 5])[:, None])
    batch = sequences(PLAIN)
    pattern = under(c.rule("pattern", by_label, layer=1, heads=3)).pattern[1]
    correct = np.asarray(batch.labels[:, :2] == batch.labels[:, 2:])
    assert close(pattern[:, 3, :, 1::2], np.broadcast_to(correct[:, None], (6, 5, 2)))


def test_a_rule_sees_the_exemplars_and_the_paired_queries(clean) -> None:
    def shifted(batch, activations):
        return activations.q[-1] + batch.examples[0, 0]

    batch = sequences(PLAIN)
    found = under(c.rule("q", shifted, layer=1)).q[1]
    assert close(found, clean.q[1] + np.asarray(batch.examples)[:, 0, 0][:, None, None, None])


def all_rows(batch, activations):
    """Adds to each row what is written at the one before it: needs every row."""
    written = activations.attn_out[-1]
    return written + jnp.concatenate([written[:1], written[:-1]])


def test_a_rule_that_needs_all_rows_gets_them() -> None:
    clamp = c.rule("attn_out", all_rows, layer=1).arrays(PLAIN)
    params, batch = network(PLAIN), sequences(PLAIN)
    whole, query = (look(params, batch, clamp, rows=rows) for rows in ("all", "query"))
    np.testing.assert_allclose(query.logits, whole.logits[:, -1:], atol=1e-6)
    plain = look(params, batch, rows="query")
    assert jax.tree.map(jnp.shape, query) == jax.tree.map(jnp.shape, plain)
    assert clamp.needs_all_rows
    assert not CLAMPS["rule"].arrays(CONFIG).needs_all_rows


def test_runs_whose_functions_share_a_name_are_not_confused() -> None:
    def made(scale):
        return lambda batch, activations: scale * activations.z[-1]

    clamps = [c.rule("z", made(scale)) for scale in (1.0, 2.0)]
    stacked = Clamp.stack(clamps, PLAIN)
    assert len(stacked.holds) == 2
    params, batch = network(PLAIN), sequences(PLAIN)
    for index, clamp in enumerate(clamps):
        own = jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
        alone = look(params, batch, clamp.arrays(PLAIN)).logits
        np.testing.assert_allclose(apply(params, batch, own).logits, alone, atol=1e-5)
    # The same function with other arguments is another part, and no trouble.
    assert len(Clamp.stack([c.rule("z", doubled), c.rule("z", doubled, scale=1)], PLAIN).holds) == 2


def test_times_within_times_are_those_of_both() -> None:
    both = c.ablate(1, 0).during(0, 10_000) & c.induction(1, 3)
    assert both.during(5_000, 50_000) == (
        c.ablate(1, 0).during(5_000, 10_000) & c.induction(1, 3).during(5_000, 50_000)
    )
