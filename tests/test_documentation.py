"""README and docs: their code runs, their links lead somewhere, and the API is whole."""

import functools
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import matplotlib
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import ih_jax as ih

pytestmark = pytest.mark.users_code

matplotlib.use("Agg")

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
# Notebooks run where the site is built (`scripts/tutorials.py`), and not a second time here.
NOTEBOOKS = [page for page in PAGES if page.parent.name == "tutorials" and page.stem != "index"]
MANY_WORDS = 1_000


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def has_python(page: Path) -> bool:
    return re.search(r"^ *```python", page.read_text(), re.MULTILINE) is not None


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs both make them."""
    headings = re.findall(r"^#+ +(.+)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if has_python(page) and page not in NOTEBOOKS], ids=name_of
)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fewshot", "language"):  # as many sequences as a page needs to show how
        few = functools.partial(getattr(ih, name), evaluation_sequences=16)
        monkeypatch.setattr(ih, name, few)
    document = Sybil(parsers=[PythonCodeBlockParser()], pattern="*.md").parse(page)
    # A page is a module, as a user's file is: what it defines is found again by name.
    module = types.ModuleType("page_" + re.sub(r"\W", "_", name_of(page)))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    document.namespace = vars(module)
    blocks = list(document.examples())
    assert len(blocks) == page.read_text().count("```python")  # none is passed over
    for block in blocks:
        block.evaluate()


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name_of(page)} links to {link}"
        if anchor and "api" not in there.parts:
            assert anchor in anchors(there), f"{name_of(page)} links to {link}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= MANY_WORDS


def committed(path):
    """A file as it was committed: the README's own first command puts its results into the tree."""
    shown = subprocess.run(["git", "-C", ROOT, "show", f"HEAD:{path}"], capture_output=True)
    return (ROOT / path).read_text() if shown.returncode else shown.stdout.decode()


def test_the_readme_reports_the_committed_results():
    readme = " ".join(committed("README.md").split())
    tables = {
        name: committed(f"results/{name}/README.md")
        for name in ("replication/fig5b", "glyphs/fig5b")
    }
    for clamp in ("none", "previous-token attention", "layer1", "match", "copy", "layer1+copy"):
        row = rf"^\| {re.escape(clamp)} \| (.*?) \| (.*?) \| (.*?) \|"
        paper, *ours = re.search(row, tables["replication/fig5b"], re.MULTILINE).groups()
        _, *glyphs = re.search(row, tables["glyphs/fig5b"], re.MULTILINE).groups()
        cells = [clamp, paper, *("{} ({})".format(*each) for each in (ours, glyphs))]
        assert f"| {' | '.join(cells)} |" in readme, cells
    in_short = readme.replace(" are mixed", " mixed").replace(" needs more", " need more")
    for folder in ("replication", "omniglot", "olsson"):
        page = committed(f"results/{folder}/README.md")
        line = rf"^\*\*{folder}\*\*.*?(\d+) primary claims: ([^;.]*)"
        count, verdicts = re.search(line, page, re.MULTILINE).groups()
        told = f"[{count} primary statements](results/{folder}/README.md) {verdicts}"
        assert told.replace("too few networks", "need more networks") in in_short, told


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES[1:]:
        assert str(page.relative_to(ROOT / "docs")) in navigation


def test_every_public_name_is_on_a_page_of_the_api_and_has_a_docstring():
    shown = set()
    for page in (ROOT / "docs" / "api").glob("*.md"):
        shown |= set(re.findall(r"^::: ih_jax\.(\w+)$", page.read_text(), re.MULTILINE))
    public = set(ih.__all__)
    assert public - shown == set(), "not in docs/api"
    assert {name for name in shown if name[0].isupper()} - public == set(), "not public"
    without = [name for name in public if not inspect.getdoc(getattr(ih, name))]
    assert not without, f"without a docstring: {without}"
