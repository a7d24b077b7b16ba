"""The page in a real browser: it shows what `measure` and `apply` say, and makes no requests.

Needs Playwright and Debian's Chromium (apt-get install chromium); skipped without them.
"""

import json
import re
import shutil

import jax
import numpy as np
import pytest
import viewed_runs as runs

import ih_jax as ih
from ih_jax.claims import learning
from ih_jax.measures import circuits, context, heads
from ih_jax.reports.viewer import looking
from ih_jax.reports.viewer.viewing import View, view

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install it")

SIZES = {"desk": (1440, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def fewshot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fewshot") / "run"
    trained = runs.fewshot(folder)
    return trained, view(folder).save(folder / "view.html")


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language") / "run"
    trained = runs.language(folder)
    return trained, view(trained).save(folder / "view.html")


@pytest.fixture
def opened(browser):
    """Opens a page; afterwards there was no error, and nothing from elsewhere was asked for."""
    windows, wrong = [], []

    def open_page(path, state="", size="desk", **settings):
        width, height = SIZES[size]
        window = browser.new_context(viewport={"width": width, "height": height}, **settings)
        windows.append(window)
        page = window.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
        page.on(
            "request",
            lambda r: r.url.startswith(("file:", "data:", "blob:")) or wrong.append(r.url),
        )
        page.goto(f"{path.as_uri()}{state}")
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for window in windows:
        window.close()
    assert not wrong


def arrays_in(page, name):
    """The values of a blob, decoded in the browser: {name: (array, step of rounding)}."""
    found = page.evaluate(
        """async (name) => Object.fromEntries(Object.entries(await ihv.blob(name)).map(
            ([key, x]) => [key, [x.shape, Array.from(x.codes, (_, i) => x.flat(i)).map(
                (v) => Number.isNaN(v) ? null : v), x.step]]))""",
        name,
    )
    return {
        key: (np.array(values, float).reshape(shape), step)
        for key, (shape, values, step) in found.items()
    }


def close(found, expected):
    values, step = found
    np.testing.assert_allclose(values, expected, atol=step / 2 + 1e-6, rtol=1e-5)


def probe_of(trained, run):
    """The sequences that the page shows come from here."""
    spec = trained.study.runs[run]
    key = jax.random.fold_in(jax.random.key(spec.task.evaluation_seed), 0)
    source = spec.task.run_arrays().evaluation[0]
    count = looking.PROBE[looking.kind_of(spec.task)]
    return spec.task.objective().sample(key, source, count)


# --- values -------------------------------------------------------------------------------------


def test_scores_wiring_and_curves_are_those_of_measure(fewshot, opened):
    trained, path = fewshot
    page = opened(path)
    own = {"sequences": looking.PROBE["fewshot"]}
    strength = trained.measure(heads.induction_strength, **own).values.reshape(4, -1, 8)
    previous = trained.measure(heads.previous_token_strength, **own).values.reshape(4, -1, 2, 8)
    wiring = trained.measure(circuits.composition())
    for run in range(4):
        found = arrays_in(page, f"0/run-{run}")
        scores, step = found["score_induction"]
        assert np.isnan(scores[:, 0]).all()
        close((scores[:, 1], step), strength[run])
        close(found["score_previous"], previous[run])
        for i, name in enumerate("QKV"):
            whole, step = found["wiring"]
            expected = wiring[name].values.reshape(4, -1, 8, 8)[run]
            close((whole[:, 0, i], step), expected)
    curves = arrays_in(page, "0/curves")
    loss = trained.results["loss"].values.reshape(4, -1)
    close(curves["loss"], loss.T)


def test_attention_and_logits_are_those_of_apply(fewshot, opened):
    trained, path = fewshot
    page = opened(path)
    about = json.loads(page.locator("#about").text_content())["sweeps"][0]
    for run in (0, 3):
        step = about["runs"][run]["details"][1]
        spec, probe = trained.study.runs[run], probe_of(trained, run)
        seen = step * trained.study.unit
        sites = ih.apply(trained.params(run, step), probe, spec.clamp, seen=seen)
        found = arrays_in(page, f"0/run-{run}")
        labels = np.asarray(about["sequences"][about["runs"][run]["sequences"]]["labels"])
        # The first sequences shown are the first of the probe.
        assert np.array_equal(labels[:5], probe.labels[:5])
        q, k = looking.lower_triangle(5)
        pattern, rounding = found["pattern"]
        for layer in range(2):
            expected = np.asarray(sites.pattern[layer])[:5][:, :, q, k]
            close((pattern[1, :5, layer], rounding), expected)
        logits, rounding = found["logits"]
        close((logits[1, :5], rounding), np.asarray(sites.logits)[:5])


def test_what_is_written_on_the_page_is_what_is_in_it(fewshot, opened):
    trained, path = fewshot
    step = trained.steps(2)[2]
    page = opened(path, f"#run=2&step={step}&seq=1&head=1.3")
    spec, probe = trained.study.runs[2], probe_of(trained, 2)
    sites = ih.apply(trained.params(2, step), probe, spec.clamp, seen=step * trained.study.unit)
    shares = page.locator(".pane.first .token").evaluate_all("n => n.map(x => +x.dataset.a)")
    np.testing.assert_allclose(shares, sites.pattern[1][1, 3, -1], atol=0.0021)
    logits = page.locator(".pane.first .answer").evaluate_all("n => n.map(x => +x.dataset.logit)")
    np.testing.assert_allclose(logits, sites.logits[1, -1], atol=1e-3)
    p = page.locator(".pane.first .answer").evaluate_all("n => n.map(x => +x.dataset.p)")
    np.testing.assert_allclose(p, jax.nn.softmax(sites.logits[1, -1]), atol=1e-3)
    told = page.locator(".pane.first .told").text_content()
    assert told.startswith("Head 1.3: the query attends")
    time = learning.time_to(
        trained.results["sequences"], trained.results["loss"].values.reshape(4, -1)[2]
    )
    row = page.locator("tr[data-run='2']").text_content()
    assert (">" in row) == time.censored


def test_a_language_models_losses_are_those_of_measure_and_apply(language, opened):
    trained, path = language
    page = opened(path)
    count = looking.PROBE["language"]
    by_token = trained.measure(context.loss_by_token, sequences=count).values.reshape(2, -1, 23)
    matching = trained.measure(heads.prefix_matching(), sequences=count).values
    about = json.loads(page.locator("#about").text_content())["sweeps"][0]
    for run in range(2):
        found = arrays_in(page, f"0/run-{run}")
        close(found["loss_by_token"], by_token[run])
        close(found["score_induction"], matching.reshape(2, -1, 2, 4)[run])
        step = about["runs"][run]["details"][-1]
        sites = ih.apply(trained.params(run, step), probe_of(trained, run))
        log_p = jax.nn.log_softmax(sites.logits[0, :-1])
        tokens = np.asarray(probe_of(trained, run).tokens[0])
        losses, rounding = found["loss"]
        close((losses[-1, 0], rounding), -np.asarray(log_p)[np.arange(23), tokens[1:]])
        said, _ = found["said"]
        assert np.array_equal(said[-1, 0, :, 0], log_p.argmax(-1))


# --- what a person does -------------------------------------------------------------------------


def test_keys_and_clicks_move_through_time_runs_and_sequences(fewshot, opened):
    _, path = fewshot
    page = opened(path, "#run=0&step=0")
    first = page.locator(".time b").text_content()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".time b")).not_to_have_text(first)
    page.keyboard.press("End")
    page.keyboard.press("]")
    page.wait_for_selector(".pane.first .pane-title b:has-text('run 1')")
    page.keyboard.press("2")
    page.wait_for_selector(".pane.first .picker button[aria-pressed=true]:has-text('2')")
    page.click("tr[data-run='2'] td:nth-child(3)")
    page.wait_for_selector(".pane.first .pane-title b:has-text('run 2')")
    page.click("tr[data-run='0'] .beside")
    page.wait_for_selector(".pane.second .pane-title b:has-text('run 0')")
    page.locator(".pane.first .head").nth(4).click()
    expect(page).to_have_url(re.compile("head=0.4"))
    again = opened(path, page.evaluate("location.hash"))
    again.wait_for_selector(".pane.second .pane-title b:has-text('run 0')")
    for what in (".time b", ".pane.first .told", ".pane.second .told"):
        assert again.locator(what).text_content() == page.locator(what).text_content()
    page.fill("input[type=search]", "init > 1")
    assert page.locator("tbody tr").count() == 2
    page.click("th:nth-child(1) button")
    page.click("th:nth-child(1) button")
    ids = page.locator("tbody tr").evaluate_all("n => n.map(x => +x.dataset.run)")
    assert ids in ([1, 3], [3, 1])


def test_the_keyboard_stays_where_it_is(fewshot, opened):
    _, path = fewshot
    page = opened(path, "#run=0&head=0.0")
    page.locator(".pane.first .head").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("head=0.3"))
    page.keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile("head=1.3"))
    page.locator(".pane.first .node[role=button]").nth(2).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("head=0.2"))
    page.locator("th button").nth(1).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator("th").nth(1).get_attribute("aria-sort") == "descending"


def test_a_pulse_is_a_lock_that_opens_when_it_is_over(fewshot, opened):
    trained, path = fewshot
    steps = trained.steps(2)
    inside = next(s for s in steps if 1_000 <= s * trained.study.unit < 2_000)
    page = opened(path, f"#run=2&step={inside}")
    head = page.locator(".pane.first .head").nth(8 + 3)
    assert "; held:" in head.get_attribute("title")
    assert "1k–2k" in head.text_content()
    page.keyboard.press("End")
    expect(head).to_have_attribute("title", re.compile("not held now"))


def test_a_notebook_shows_the_page_in_a_frame(fewshot, browser, tmp_path):
    _, path = fewshot
    cell = tmp_path / "cell.html"
    cell.write_text(f"<!doctype html><title>notebook</title>{View(path.read_text())._repr_html_()}")
    page = browser.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(cell.as_uri())
    frame = page.frames[1]
    frame.wait_for_selector("html[data-ready]")
    frame.click("tr[data-run='2'] td:nth-child(3)")
    frame.wait_for_selector(".pane.first .pane-title b:has-text('run 2')")
    assert page.title() == "notebook"
    page.close()
    assert not wrong


def test_names_are_text_and_nothing_else(fewshot, opened):
    _, path = fewshot
    page = opened(path, "#run=2")
    assert page.title() == "run"
    assert runs.NASTY in page.locator("tr[data-run='2']").text_content()
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["fewshot", "language"])
def test_nothing_is_wider_than_the_window(which, size, scheme, opened, request, tmp_path):
    _, path = request.getfixturevalue(which)
    for state in ("#run=0", "#run=0&with=1"):
        page = opened(path, state, size, color_scheme=scheme, reduced_motion="reduce")
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        name = f"{which}-{size}-{scheme}{'-two' * ('with' in state)}.png"
        page.screenshot(path=tmp_path / name)
        cards = page.locator(".pane.first .card:visible")
        boxes = [cards.nth(i).bounding_box() for i in range(cards.count())]
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
                below = a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
                assert beside or below
        for node in page.locator("[role=img]").all():
            if node.is_visible():
                assert node.get_attribute("aria-label")
        for button in page.locator("button:visible").all()[:80]:
            assert button.text_content().strip() or button.get_attribute("aria-label")


# --- what is odd --------------------------------------------------------------------------------


def test_one_run_one_checkpoint(tmp_path, opened):
    study = ih.sweep(
        ih.fewshot(classes=20, evaluation_sequences=16), sequences=640, checkpoints=[640]
    )
    page = opened(view(study.train(tmp_path / "one", progress=False)).save(tmp_path / "one.html"))
    assert "checkpoint 1 of 1" in page.locator(".time small").text_content()
    assert page.locator(".timeline .play").is_disabled()


def test_runs_that_diverge_are_shown_as_such(tmp_path, opened):
    study = ih.sweep(
        ih.fewshot(classes=20, evaluation_sequences=16),
        init=[0],
        learning_rate=[1e-3, 1e30],
        sequences=2_000,
    )
    page = opened(
        view(study.train(tmp_path / "nan", progress=False)).save(tmp_path / "nan.html"), "#run=1"
    )
    assert "diverged" in page.locator(".pane.first .pane-title").text_content()


def test_a_small_page_says_what_it_leaves_out(language, opened, tmp_path):
    trained, _ = language
    found = view(trained, runs=[1], megabytes=1)
    assert len(found.html) <= 1e6
    page = opened(found.save(tmp_path / "small.html"), "#run=1")
    assert page.locator("tbody tr").count() == 1
    assert "&lt;!doctype html&gt;" in found._repr_html_()
    with pytest.raises(ih.UserError, match="run 7 is out of range"):
        view(trained, runs=[7])
    with pytest.raises(ih.UserError, match="too little"):
        view(trained, megabytes=0.1)
