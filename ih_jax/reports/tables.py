"""Tables: in Markdown for a README, and as a terminal shows them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ih_jax.claims import Claim, Finding, word

Findings = Sequence[tuple[Claim, Finding]]
COLOURS = {
    "replicates": "green",
    "supported": "green",
    "fails": "red",
    "refuted": "red",
    "mixed": "yellow",
    "too few networks": "yellow",
}
HEADER = ("claim", "paper", "ours", "verdict", "networks, 95%", "paper's size", "paper and authors")


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
    """How many claims got which verdict, primary ones, secondary ones and hypotheses apart.

    "12 primary claims: 9 replicate, 2 mixed, 1 too few networks; 8 secondary: 8 replicate".
    """
    order = ("primary claims", "secondary", "hypotheses of ours")
    groups: dict[str, list[str]] = {group: [] for group in order}
    for claim, finding in (pair for each in all_findings.values() for pair in each):
        group = "primary claims" if claim.primary else "secondary"
        group = "hypotheses of ours" if claim.kind == "hypothesis" else group
        groups[group].append(word(claim, finding))
    said = []
    for group, verdicts in ((group, each) for group, each in groups.items() if each):
        each = [f"{verdicts.count(v)} {_many(v, verdicts.count(v))}" for v in COLOURS]
        said.append(f"{len(verdicts)} {group}: " + ", ".join(e for e in each if e[0] != "0"))
    return "; ".join(said) or "no claims"


def _many(verdict: str, count: int) -> str:
    if count == 1:
        return verdict
    plural = {"replicates": "replicate", "fails": "fail"}
    return plural.get(verdict, verdict)


def row(claim: Claim, finding: Finding) -> tuple[str, ...]:
    """A claim as tables show it: cells under HEADER."""
    name = claim.name if claim.primary else f"({claim.name})"
    beside = [f"{whose}: {each.ours.split(';')[0]}" for whose, each in finding.beside.items()]
    n = claim.reported.networks if claim.reported else 0
    paper = f"{claim.paper} (n = {n})" if n else claim.paper
    size = f"{finding.size.size}; {finding.size.said}" if finding.size else ""
    return name, paper, finding.ours, word(claim, finding), share(finding), size, "; ".join(beside)


def share(finding: Finding) -> str:
    """In how many networks a statement is seen to be so, with an interval for the rate."""
    if finding.share is None:
        return f"{finding.networks}" if finding.networks else ""
    shown = "{} of {}".format(*finding.share)
    if finding.interval is None:
        return shown
    return f"{shown} ({ends(finding.interval)})"


def ends(interval: tuple[float, float]) -> str:
    """An interval of a rate; with more digits where .50 would hide on which side it lies."""

    def shown(end: float) -> str:
        digits = next((n for n in (2, 3, 4) if round(end, n) != 0.5), 2)
        return f"{end:.{digits}f}"

    return " to ".join(map(shown, interval))


def _terminal(named: Sequence[tuple[str, Findings]], colour: bool, width: int) -> str:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    if len(named) > 1:
        made.add_column("experiment")
    for name in HEADER[:5]:  # the rest is in the README
        made.add_column(name, ratio=None, overflow="fold")
    for experiment, findings in named:
        for number, (claim, finding) in enumerate(findings):
            *cells, verdict, of_networks = row(claim, finding)[:5]
            first = [experiment if number == 0 else ""] if len(named) > 1 else []
            made.add_row(*first, *cells, Text(verdict, style=COLOURS[verdict]), of_networks)
    text = io.StringIO()
    console = Console(
        file=text,
        width=width,
        force_terminal=colour,
        no_color=not colour,
        markup=False,
        emoji=False,
    )
    console.print(made)
    return text.getvalue()
