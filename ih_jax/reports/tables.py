"""Tables: in Markdown for a README, and as a terminal shows them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from ih_jax.claims import Claim, Finding

Findings = Sequence[tuple[Claim, Finding]]
COLOURS = {"holds": "green", "does not hold": "red", "undecidable": "yellow"}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of these cells."""
    lines = [header, ["---"] * len(header), *rows]
    # A bare < would open a tag and a | would end the cell.
    safe = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in safe)


def of_claims(findings: Findings, colour: bool = False, width: int = 100) -> str:
    """The claims of one experiment as a terminal shows them."""
    return _terminal([("", findings)], colour, width)


def of_all_claims(
    all_findings: Mapping[str, Findings], colour: bool = False, width: int = 100
) -> str:
    """The claims of several experiments, by name, with the counts of their verdicts."""
    return f"{_terminal(list(all_findings.items()), colour, width)}\n{counts(all_findings)}\n"


def counts(all_findings: Mapping[str, Findings]) -> str:
    """How many claims got which verdict: "7 claims: 5 hold, 1 does not hold, 1 undecidable"."""
    every: list[str] = [finding.verdict for each in all_findings.values() for _, finding in each]
    holds, fails, open_ = (every.count(verdict) for verdict in COLOURS)
    return (
        f"{len(every)} claims: {holds} {'holds' if holds == 1 else 'hold'}, "
        f"{fails} {'does' if fails == 1 else 'do'} not hold, {open_} undecidable"
    )


def seeds(finding: Finding) -> str:
    """In how many seeds a claim is seen to hold, with an interval for the rate."""
    if finding.share is None:
        return ""
    share = "{} of {}".format(*finding.share)
    if finding.interval is None:
        return share
    return f"{share} ({finding.interval[0]:.2f} to {finding.interval[1]:.2f})"


def _terminal(named: Sequence[tuple[str, Findings]], colour: bool, width: int) -> str:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    if len(named) > 1:
        made.add_column("experiment")
    for name in ("claim", "paper", "ours", "verdict", "seeds"):
        made.add_column(name, ratio=None, overflow="fold")
    for experiment, findings in named:
        for number, (claim, finding) in enumerate(findings):
            row = (
                claim.name,
                claim.paper,
                finding.ours,
                f"[{COLOURS[finding.verdict]}]{finding.verdict}[/]",
                seeds(finding),
            )
            made.add_row(*([experiment if number == 0 else ""] if len(named) > 1 else []), *row)
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=colour, no_color=not colour)
    console.print(made)
    return text.getvalue()
