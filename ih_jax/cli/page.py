"""`ih-jax view`."""

from __future__ import annotations

import webbrowser

from rich.console import Console
from rich.text import Text

from ih_jax import paths
from ih_jax.cli.options import View
from ih_jax.interop import head_page
from ih_jax.reports.viewer import viewing
from ih_jax.sweeps import engine

console = Console(markup=False, emoji=False)


def write_page(command: View) -> None:
    """Write the page of a run, and open it if asked to."""
    engine.use_compilation_cache()
    path = command.out or command.folder / "view.html"
    if command.out is not None or paths.is_there(command.folder):
        paths.new_file(path, "web page")
    shown = Console(quiet=command.quiet, stderr=True, markup=False, emoji=False)
    with shown.status("reading") as status:
        if head_page.is_one(command.folder):
            found = head_page.view(command.folder)
        else:
            found = viewing.view(
                command.folder,
                runs=command.runs or None,
                megabytes=command.megabytes,
                told=lambda what: status.update(Text(f"{what} ...")),
            )
        found.save(path)
    console.print(f"{path} ({len(found.html) / 1e6:.1f} MB)", soft_wrap=True)
    if command.open:
        webbrowser.open(path.absolute().as_uri())
