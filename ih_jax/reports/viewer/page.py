"""One HTML file: what was gathered, the library and our own script and style, all inside it.

The page asks for nothing from elsewhere, and its policy forbids it to. Whatever comes from users is
in JSON in which no tag can end, and reaches the document only as text.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from ih_jax.experiments.drawing import HEAD_COLOURS

FORMAT = 1  # version of the data in the page
STYLES = ("vendor/uplot/uPlot.min.css", "viewer.css")
LIBRARY = "vendor/uplot/uPlot.iife.min.js"
VIEWS = (
    "decode.js",
    "base.js",
    "state.js",
    "charts.js",
    "tokens.js",
    "attention.js",
    "logits.js",
    "scores.js",
    "wiring.js",
    "language.js",
)
SCRIPTS = (*VIEWS, "runs.js", "timeline.js", "main.js")
OF_NETWORK = (*VIEWS, "network.js")  # one network at one checkpoint: no curves, so no library
HEADS = ("decode.js", "base.js", "heads.js")  # of a pretrained network's heads
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


def page(
    title: str,
    sweeps: Sequence[Mapping[str, Any]],
    blobs: Mapping[str, Mapping[str, Any]],
    views: Sequence[str] = (),
) -> str:
    """The whole file as text.

    Args:
        title: shown above and in the window's title.
        sweeps: `Gathered.about` of each.
        blobs: `packing.blob` by name; sweep 0's curves are "0/curves".
        views: of one network alone, by the names in `ihv.views`; none: the page of a run.
    """
    about = {
        "title": title,
        "views": list(views),
        "sweeps": list(sweeps),
        "blobs": {name: {k: v for k, v in b.items() if k != "data"} for name, b in blobs.items()},
    }
    return document(about, blobs, OF_NETWORK if views else SCRIPTS, curves=not views)


def document(
    about: Mapping[str, Any],
    blobs: Mapping[str, Mapping[str, Any]],
    scripts: Sequence[str],
    *,
    curves: bool,
) -> str:
    """The whole file as text, of any page.

    Args:
        about: what the scripts show, as JSON; its title is that of the window.
        blobs: arrays.
        scripts: names of files.
        curves: whether they draw curves.
    """
    title = html.escape(str(about["title"]))
    said = {"format": FORMAT, **about, "colours": list(HEAD_COLOURS)}
    data = "\n".join(
        f'<script type="text/plain" data-blob="{html.escape(name)}">{each["data"]}</script>'
        for name, each in blobs.items()
    )
    wanted = STYLES if curves else STYLES[1:]
    styles = "\n".join(f"<style>\n{_asset(name)}</style>" for name in wanted)
    licence = _asset("vendor/uplot/LICENSE").replace("--", "- -")
    library = f"""<!-- uPlot (curves), bundled under its licence:
{licence}-->
<script>{_asset(LIBRARY)}</script>"""
    own = "\n".join(f"<script>\n{_asset(name)}</script>" for name in scripts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="ih-jax view">
<link rel="icon" href="data:,">
<title>{title}</title>
{styles}
</head>
<body>
<noscript>This page draws what it shows with a script of its own: please allow scripts.</noscript>
<div id="app"></div>
<script type="application/json" id="about">{in_html(said)}</script>
{data}
{library if curves else ""}
{own}
</body>
</html>
"""


def in_html(value: Any) -> str:
    """JSON that no HTML parser takes for anything else; NaN and infinity become null."""
    text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _asset(name: str) -> str:
    text = resources.files(__package__).joinpath("page", *name.split("/")).read_text("utf-8")
    if name.endswith(".js"):
        text = text.replace("</script", "<\\/script")
    return text
