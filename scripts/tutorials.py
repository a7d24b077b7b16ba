"""A hook of MkDocs: runs the notebooks under docs/tutorials, and shows what their cells gave.

They are notebooks in Jupytext's Markdown format. An error in a cell ends the build.
`IH_JAX_TUTORIALS=0 mkdocs serve` shows them without running anything.
"""

from __future__ import annotations

import html
import logging
import os
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = "tutorials/"
SECONDS = 1800  # for a cell, on a busy machine
LOG = logging.getLogger("mkdocs.hooks.tutorials")
MARK = "<div data-output='{}'></div>"  # in the Markdown, where a cell's output goes

_notebooks: dict[str, Any] = {}  # by page, as run in this build


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A notebook's Markdown, with a mark for the output of each of its cells."""
    if not _is_notebook(page):
        return markdown
    notebook, seconds = ran(markdown)
    _notebooks[page.file.src_uri] = notebook
    parts = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        if cell.get("outputs"):
            parts.append(MARK.format(number))
    name = Path(page.file.src_uri).stem
    took = f"It took {seconds:.0f} s when this page was made." if seconds else ""
    about = (
        f'<p class="notebook">A notebook: <a href="../{name}.ipynb" download>{name}.ipynb</a> '
        f"has this page with its output. {took}</p>"
    )
    return "\n\n".join([*parts[:1], about, *parts[1:]])


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """The outputs in place of their marks."""
    if _is_notebook(page):
        for number, cell in enumerate(_notebooks[page.file.src_uri].cells):
            shown = "".join(_shown(output) for output in cell.get("outputs", ()))
            content = content.replace(MARK.format(number), f'<div class="output">{shown}</div>')
    return content


def on_post_build(config: Any, **_: Any) -> None:
    """Each notebook as a file beside its page."""
    for source, notebook in _notebooks.items():
        nbformat.write(notebook, Path(config.site_dir, source).with_suffix(".ipynb"))


@cache
def ran(markdown: str) -> tuple[Any, float]:
    """(the notebook with its outputs, seconds that it took; 0 where it was not to run)."""
    notebook = jupytext.reads(markdown, fmt="md")
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    if os.environ.get("IH_JAX_TUTORIALS", "1") == "0":
        return notebook, 0.0
    # A program is compiled for each device that trains: small ones are done sooner on one.
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:  # what a tutorial writes goes with it
        NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=40"],  # of its transport; errors stay
        ).execute()
    for cell in notebook.cells:
        kept = []
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":  # of compilers and libraries: no reader's matter
                LOG.info(output.text)
            else:
                kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept
    return notebook, time.monotonic() - begin


def _is_notebook(page: Any) -> bool:
    return page.file.src_uri.startswith(FOLDER) and not page.file.src_uri.endswith("index.md")


def _shown(output: Any) -> str:
    """An output of a cell as HTML, in the richest form that a page can hold."""
    if output.output_type == "stream":
        return _text(output.text)
    data = output.get("data", {})
    if "text/html" in data:
        return f'<div class="rich">{data["text/html"]}</div>'
    if "image/png" in data:
        url = f"data:image/png;base64,{data['image/png'].strip()}"
        return f'<img src="{url}" alt="the figure that this cell draws">'
    return _text(data.get("text/plain", ""))


def _text(text: str) -> str:
    return f"<pre><code>{html.escape(text)}</code></pre>"
