"""The page of a pretrained network's heads: its values, what is odd in it, and how it is used."""

import json
import re
import shutil

import numpy as np
import pytest
import xarray as xr

import ih_jax as ih
from ih_jax.cli.main import main
from ih_jax.interop.head_page import view
from ih_jax.interop.head_scores import SCORES

NAME = "n</script><img src=y onerror=\"document.title='bad'\">'"


@pytest.fixture
def folder(tmp_path):
    """Scores of 3 layers of 4 heads, one of which is an induction head, one unknown."""
    values = np.random.default_rng(0).uniform(0, 0.4, (len(SCORES), 3, 4)).astype(np.float32)
    found = xr.Dataset(
        {name: (("layer", "head"), own) for name, own in zip(SCORES, values, strict=True)},
        {"layer": range(3), "head": range(4)},
        {
            "name": NAME,
            "model": "nowhere",
            "architecture": "gpt2",
            "probes": json.dumps(dict.fromkeys(SCORES, "random tokens")),
        },
    )
    found["prefix_matching"].values[2, 1] = 0.9
    found["copying"].values[0, 0] = np.nan
    found.to_netcdf(tmp_path / "heads.nc", engine="h5netcdf")
    return tmp_path


def about(page):
    text = re.search(r'id="about">(.*?)</script>', page.html, re.DOTALL).group(1)
    return json.loads(text)


def test_the_page_holds_the_scores_that_were_written(folder, capsys):
    assert main(["view", str(folder), "--quiet"]) == 0
    assert "view.html" in capsys.readouterr().out
    said = about(view(folder))
    scores = xr.load_dataset(folder / "heads.nc", engine="h5netcdf")
    for each in said["scores"]:
        found = np.array(each["values"], float)
        np.testing.assert_allclose(found, scores[each["key"]].values, atol=1e-4)
    assert said["kinds"][2][1] == "induction"
    assert said["said"][0].startswith("Induction heads: 2.1")


def test_a_file_that_is_no_scores_is_refused(folder):
    (folder / "heads.nc").write_text("no")
    with pytest.raises(ih.UserError, match="cannot be read"):
        view(folder)


def test_a_person_finds_the_induction_head(folder):
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium: apt-get install it")
    path, wrong = view(folder).save(folder / "view.html"), []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(m.text))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        assert page.title() == NAME
        assert page.locator("img").count() == 0
        assert "Head 2.1" in page.locator(".own").text_content()
        page.locator(".map button[title^='head 0.0']").click()
        page.keyboard.press("ArrowUp")
        assert "Head 1.0" in page.locator(".own").text_content()
        page.fill("input[type=search]", "induction")
        assert page.locator("tbody tr").count() == 1
        page.locator("tbody tr").click()
        assert "head=2.1" in page.url
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert not wrong
