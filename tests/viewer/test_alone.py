"""Views of one network in a notebook: in a real browser they show what `activations` says.

Needs Playwright and Debian's Chromium (apt-get install chromium); skipped without them.
"""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from planted import plant

import ih_jax as ih
from ih_jax.data.images.features import of_gaussian
from ih_jax.data.languages.synthetic import Bigrams
from ih_jax.measures import heads
from ih_jax.reports.viewer import looking

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install it")

NASTY = "x</script><img src=y onerror=\"document.title='bad'\">'"
HELD = ih.induction(1, 3) & ih.ablate(1, [0])


def fewshot(held=None):
    """A network of random weights; its name is not safe in HTML."""
    task = ih.fewshot(of_gaussian(8, 12), classes=6, test_classes=2, evaluation_sequences=16)
    params = ih.init(jax.random.key(0), task.config(d_model=16, heads=4))
    return ih.Network(params, held or ih.Clamp(), task, 640.0, NASTY)


def language():
    task = ih.language(Bigrams(tokens=12, length=16))
    params = ih.init(jax.random.key(0), task.config(d_model=16, heads=4, layers=2))
    return ih.Network(params, task=task, seen=100.0)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def shown(browser, tmp_path):
    """Shows a view as a notebook does, in a frame; afterwards nothing went wrong in it."""
    wrong, windows = [], []

    def show(view, width=900):
        window = browser.new_context(viewport={"width": width, "height": 700})
        windows.append(window)
        page = window.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(r.url))
        path = tmp_path / "notebook.html"
        path.write_text(f"<!doctype html><title>notebook</title>{view._repr_html_()}")
        page.goto(path.as_uri())
        frame = page.frames[1]
        frame.wait_for_selector("html[data-ready]")
        return frame

    yield show
    for window in windows:
        window.close()
    assert not wrong


def arrays_in(frame):
    """Every array that the view holds, as the browser decodes it."""
    found = frame.evaluate(
        """async () => Object.entries(await ihv.blob("0/run-0")).map(([key, x]) =>
            [key, x.shape, Array.from(x.codes, (_, i) => x.flat(i)).map(
                (v) => Number.isNaN(v) ? null : v)])"""
    )
    return {key: np.array(values, float).reshape(shape)[0] for key, shape, values in found}


@pytest.mark.parametrize("clamp", ["own", None, ih.previous_token(0, 2)])
def test_attention_is_that_of_activations_under_any_clamp(clamp, shown):
    network = fewshot(HELD)
    batch = network.batch(3)
    frame = shown(network.attention(batch, clamp))
    expected = network.activations(batch, clamp)
    q, k = looking.lower_triangle(5)
    for layer in range(2):
        own = np.asarray(expected.pattern[layer])[:, :, q, k]
        np.testing.assert_allclose(arrays_in(frame)["pattern"][:, layer], own, atol=1e-5)
    # A head and a sequence chosen by hand, the query pointed at: what is written under each token.
    frame.locator(".head").nth(4 + 1).click()
    frame.locator(".picker button").nth(2).click()
    shares = frame.locator(".token").evaluate_all("n => n.map(x => +x.dataset.a)")
    np.testing.assert_allclose(shares, expected.pattern[1][2, 1, -1], atol=1e-5)
    held = frame.locator(".head", has=frame.locator("svg.lock")).count()
    assert held == {"own": 2, None: 0}.get(clamp if clamp != ih.previous_token(0, 2) else "", 1)


def test_logits_and_what_heads_add_are_those_of_head_logits(shown):
    network = fewshot()
    batch = network.batch(2, set="fsl_test_class")
    frame = shown(network.view(batch, "logits"))
    parts, found = network.head_logits(batch), arrays_in(frame)
    np.testing.assert_allclose(found["logits"], parts.logits, atol=1e-4)
    own = parts.heads.isel(position=-1).transpose("sequence", "layer", "head", "label")
    np.testing.assert_allclose(found["added"], own, atol=1e-4)
    target = int(batch.labels[0, -1])
    bars = frame.locator(".bar").evaluate_all("n => n.map(x => +x.dataset.value)")
    np.testing.assert_allclose(bars[:8], own[0, :, :, target].values.ravel(), atol=1e-4)


def test_a_language_models_view_is_that_of_activations(shown):
    network = language()
    batch = network.batch(2)
    frame = shown(network.view(batch, ["attention", "logits"]))
    found, expected = arrays_in(frame), network.activations(batch)
    log_p = np.asarray(jax.nn.log_softmax(expected.logits))[:, :-1]
    following = np.asarray(batch.tokens)[:, 1:, None]
    losses = -np.take_along_axis(log_p, following, 2)[..., 0]
    np.testing.assert_allclose(found["loss"], losses, atol=1e-4)
    assert np.array_equal(found["said"][..., 0], log_p.argmax(-1))
    parts = network.head_logits(batch).heads
    own = (parts - parts.mean("label")).isel(position=slice(0, -1)).values
    added = np.take_along_axis(own, following[None, None], -1)[..., 0]
    np.testing.assert_allclose(found["added"], added.transpose(2, 3, 0, 1), atol=1e-4)


def test_what_heads_add_is_left_out_where_layers_normalise_the_stream(shown, tmp_path):
    network = ih.pretrained(plant(tmp_path / "planted", "opt"))
    config = dataclasses.replace(network.params.config, post_norm=True)
    network = dataclasses.replace(network, params=network.params.replace(config=config))
    frame = shown(network.view(network.batch(2)))
    assert "added" not in arrays_in(frame) and frame.locator(".bar").count() == 0
    assert "no sum over heads" in frame.locator("body").inner_text()


def test_scores_and_wiring_are_those_of_the_measures(shown):
    network = fewshot(HELD)
    frame = shown(network.view(show=["scores", "wiring"]))
    found = arrays_in(frame)
    probe = network.batch(looking.PROBE["fewshot"], set=network.task.evaluation_names[0])
    holds = network.clamp.arrays(network.config).at(network.seen)
    strength = heads.induction_strength(network.params, holds, probe)
    np.testing.assert_allclose(found["score_induction"][1], strength, atol=1e-4)
    cells = frame.locator(".map button").evaluate_all("n => n.map(x => +x.dataset.value)")
    np.testing.assert_allclose(cells, strength, atol=1e-4)
    assert found["wiring"].shape == (1, 3, 4, 4)
    assert "random weights" in frame.locator(".wiring .body").text_content()


def test_a_patch_is_shown_in_place_of_the_networks_own_pass(shown):
    network = fewshot()
    batch = network.batch(2)
    patched = network.patch(batch, network.batch(2, seed=1), "resid_post", layer=0)
    frame = shown(network.attention(batch, activations=patched))
    q, k = looking.lower_triangle(5)
    own = np.asarray(patched.pattern[1])[:, :, q, k]
    np.testing.assert_allclose(arrays_in(frame)["pattern"][:, 1], own, atol=1e-5)


def test_own_sequences_and_unsafe_names(shown):
    network = fewshot()
    features = np.random.default_rng(0).normal(size=(3, 12))
    features[2] = features[0]
    batch = network.batch_of(features, labels=[4, 1, 4])
    frame = shown(network.view(batch, ["attention", "logits"]), width=390)
    masks = frame.locator(".strip .tile").evaluate_all("n => n.map(x => x.style.maskImage)")
    assert masks[0] == masks[2] != masks[1]  # what is the same to the network looks the same
    assert NASTY in frame.locator(".pane-title").text_content()
    assert frame.title() == NASTY
    assert frame.locator("img").count() == 0
    assert frame.evaluate("document.documentElement.scrollWidth") <= 390
    height = frame.evaluate("frameElement.clientHeight")
    assert height >= frame.evaluate("document.getElementById('app').offsetHeight")


def test_a_network_without_a_task_and_vectors_of_ones_own(shown):
    network = ih.Network(language().params)
    frame = shown(network.view(network.batch_of(tokens=[[0, 3, 5, 3]])))
    assert frame.locator(".strip .token").all_text_contents()[1].startswith("3")
    assert "cannot be shown: 10 sequences of 0" in frame.locator(".note").text_content()
    config = ih.Config(features=3, labels=2, d_model=8, heads=2)
    network = ih.Network(ih.init(jax.random.key(0), config))
    vectors = network.batch_of(vectors=np.ones((2, 3)), labels=[-1, 1])
    frame = shown(network.view(vectors, ["attention", "logits"]))
    assert frame.locator(".strip .token[title='label 1']").count() == 1


def test_what_cannot_be_shown_is_refused():
    network = fewshot()
    batch = network.batch(14)
    view = network.attention(batch)
    assert repr(view).startswith("View(attention of x</script>")
    assert "12 sequences of 5 tokens" in repr(view)
    assert "12 of the batch's 14 sequences are shown" in view.html
    with pytest.raises(ih.UserError, match="view"):
        network.view(batch, "heads")
    with pytest.raises(ih.UserError, match=r"layer 0\.\.1, head 0\.\.3"):
        network.attention(batch, head=(2, 0))
    with pytest.raises(ih.UserError, match="14 sequences"):
        network.attention(network.batch(2), activations=network.activations(batch))
    with pytest.raises(ih.UserError, match="no task"):
        ih.Network(network.params).view()
