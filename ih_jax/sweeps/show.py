"""How objects show themselves in a notebook: a heading and a small table."""

from __future__ import annotations

import html
from collections.abc import Mapping


def table(title: str, rows: Mapping[str, object]) -> str:
    """HTML of a title over rows of a name and what it is; everything is escaped."""
    lines = "".join(
        f'<tr><th style="text-align:left">{html.escape(str(name))}</th>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f"<strong>{html.escape(title)}</strong><table>{lines}</table>"
