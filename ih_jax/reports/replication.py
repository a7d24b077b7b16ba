"""One page on a set of experiments: what replicates, what is mixed and why, what fails.

README.md and forest.png of a folder of experiments, made from their findings: a table of the
primary statements, a picture of their rates over networks, and lists; secondary ones are folded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ih_jax import files
from ih_jax.claims import Claim, Finding, word
from ih_jax.experiments.drawing import FAINT, QUIET, tidy
from ih_jax.reports.tables import Findings, counts, ends, markdown

DataSets = Mapping[str, Mapping[str, Findings]]  # by data set, then by experiment
Line = tuple[str, Claim, list[Finding | None]]  # experiment, claim, its finding by data set
Networks = Mapping[str, Mapping[str, str]]  # their numbers, by data set, then by experiment

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
CERTAIN = ("replicates", "supported")
OPTIONAL = ("paper", "authors' code")  # columns that are left out where they say nothing
AGAINST = ("fails", "refuted")
TO_READ = (
    "A line is a statement of the paper. It *replicates* where the 95% interval of the share of "
    "networks in which it is so lies above one half, *fails* where it lies below, is *mixed* "
    "where the interval contains one half and is narrower than .3; else there are *too few "
    "networks*. What is pooled over heads is judged by its own interval, networks resampled (a "
    "share of heads by that of a rate), and that something makes no difference by a margin stated "
    "before. n is the number of networks that the paper shows. *Same size*: the paper's numbers "
    "are such as ours give. Each statement, its rule and its estimand stand on its figure's page."
)
INTERVALS = (
    "Intervals of a rate are mid-P, Clopper and Pearson's with half the probability of what was "
    "seen: 5 of 5 gives .55 to 1, where the exact one begins at .48. Networks that share initial "
    "weights or a draw of the data are not independent and count for fewer: 64 of 64, of 16 "
    "weights times 4 draws, as 16 of 16."
)
AUTHORS = "*Authors' code*: networks trained by the authors' code, judged by the same rule."
TO_READ_NETWORKS = "*Networks* are the numbers of those that a line stands on."
FIRST_LOOK = (
    "Networks 5 to 12 had been looked at when the rules were written: take what stands on them as "
    "a first look."
)
LATER = "†"  # marks statements that were not primary from the start
BECAME_PRIMARY = (
    "Counted among the secondary statements until {days}, and primary since, each for a fact of "
    "its own, whatever its verdict: networks that were trained before had been judged by then."
)
TO_READ_OWN = (
    "A line is a hypothesis of ours. It is *supported* where the 95% interval of the share of "
    "networks in which it is so lies above one half or above the rate that it names, or where the "
    "interval of what it estimates lies on the side that it says; *refuted* where it lies on the "
    "other side; else there are *too few networks* to tell. Each hypothesis, its rule and its "
    "estimand stand on its figure's page."
)


def write(
    folder: Path,
    title: str,
    sets: DataSets,
    ran: Mapping[str, str],
    networks: Networks,
    first_look: bool = False,
) -> Path:
    """Write README.md and forest.png of a folder and return the page's path.

    Args:
        folder: has a folder of each experiment, to which lines link.
        title: of the page.
        sets: findings by data set; those in `folder` first.
        ran: what was run, in words, by data set.
        networks: the numbers of networks, of data sets whose experiments have not all the same.
        first_look: whether some were networks that had been seen when the rules were written.
    """
    lines = list(_lines(sets))
    primary = [line for line in lines if line[1].primary]
    if primary:
        with matplotlib.rc_context({"svg.hashsalt": title}):
            figure = forest(primary, list(sets))
            with files.atomic(folder / "forest.png") as partial:
                figure.savefig(partial, format="png", dpi=150, metadata={"Software": None})
    path = folder / "README.md"
    files.write_text(path, page(title, lines, sets, ran, networks, first_look))
    return path


def page(
    title: str,
    lines: Sequence[Line],
    sets: DataSets,
    ran: Mapping[str, str],
    networks: Networks,
    first_look: bool = False,
) -> str:
    """The text of the page, in Markdown; arguments as of `write`."""
    primary = [line for line in lines if line[1].primary]
    papers = [line for line in primary if line[1].kind == "replication"]
    own = [line for line in primary if line[1].kind == "hypothesis"]
    rest = [line for line in lines if not line[1].primary]
    names = list(sets)
    parts = [f"# {title}"]
    parts += [f"**{name}** ({ran[name]}): {counts(findings)}." for name, findings in sets.items()]
    authors = any(_of_authors(findings) is not None for _, _, findings in lines)
    to_read = [TO_READ if papers else TO_READ_OWN]
    to_read += [AUTHORS] * authors + [TO_READ_NETWORKS] * bool(networks)
    parts += [" ".join(to_read + [FIRST_LOOK] * first_look), INTERVALS]
    if papers:
        parts += ["## Statements", _table(papers, names, networks)]
    days = sorted({claim.primary_since for _, claim, _ in primary if claim.primary_since})
    if days:
        parts += [f"{LATER} {BECAME_PRIMARY.format(days=' and '.join(days))}"]
    if primary:
        parts += ["![Share of networks in which each statement is so](forest.png)"]
        grey = " Grey: networks of the authors' code." if authors else ""
        if _pooled(primary):
            parts += [
                "Left, the share of networks in which each statement is so, with its 95% interval; "
                "right, numbers pooled over heads and medians over networks, with theirs, in units "
                f"of their own (the line: 0).{grey}"
            ]
        else:
            said = "The share of networks in which each statement is so, with its 95% interval."
            parts += [f"{said}{grey}"]
    parts += _sections(papers, names)
    if own:
        parts += ["## Hypotheses of ours", _table(own, names, networks)]
    if rest:
        said = "Secondary claims: the same facts seen otherwise, and lesser ones"
        parts += [
            f"<details><summary>{said}</summary>",
            _table(rest, names, networks),
            "</details>",
        ]
    return "\n\n".join(parts) + "\n"


def _lines(sets: DataSets) -> Iterator[Line]:
    """Every claim once, with its finding on each data set."""
    experiments = dict.fromkeys(name for findings in sets.values() for name in findings)
    for experiment in experiments:
        found: dict[str, tuple[Claim, dict[str, Finding]]] = {}
        for data, findings in sets.items():
            for claim, finding in findings.get(experiment, ()):
                found.setdefault(claim.name, (claim, {}))[1][data] = finding
        for claim, by_data in found.values():
            yield experiment, claim, [by_data.get(data) for data in sets]


def _table(lines: Sequence[Line], names: Sequence[str], networks: Networks) -> str:
    rows = []
    for experiment, claim, findings in lines:
        n = claim.reported.networks if claim.reported else 0
        name = f"{claim.name} {LATER}" if claim.primary_since else claim.name
        row = [f"[{experiment}]({experiment}/README.md)", name, claim.statement]
        row.append(f"{claim.paper} (n = {n})" if n else claim.paper)
        for data, finding in zip(names, findings, strict=True):
            numbers = [networks[data].get(experiment, "")] if data in networks else []
            if finding is None:
                row += ["not run", "", *numbers]
                continue
            sized = finding.size if _sized(finding) else None
            size = f" {sized.size.capitalize()}." if sized is not None else ""
            row += [f"**{word(claim, finding)}**.{size}", _ours(finding), *numbers]
        theirs = _of_authors(findings)
        row.append(f"{theirs.verdict}: {_first_part(theirs.ours)}" if theirs else "")
        rows.append(row)
    header = ["", "claim", "statement", "paper"]
    for name in names:
        header += ["verdict", "ours"] if len(names) == 1 else [name, f"ours, {name}"]
        header += [f"networks{f', {name}' * (len(names) > 1)}"] if name in networks else []
    header.append("authors' code")
    told = [
        i for i, name in enumerate(header) if name not in OPTIONAL or any(row[i] for row in rows)
    ]
    return markdown([header[i] for i in told], [[row[i] for i in told] for row in rows])


def _first_part(text: str) -> str:
    """What stands before the first semicolon, its bracket closed."""
    first = text.split(";")[0]
    return first + ")" * (first.count("(") - first.count(")"))


def _sized(finding: Finding) -> bool:
    return finding.size is not None and finding.size.size != "too few networks"


def _ours(finding: Finding) -> str:
    """The share of networks with its interval, and the estimate with its own."""
    if finding.share is None or not finding.networks:
        return finding.ours
    k, n = finding.share
    between = _interval(finding)
    rate = f" ({ends(between)})" if between else ""
    estimates = [f"{name} {effect.show()}" for name, effect in finding.effects.items()]
    return "; ".join([f"{k} of {n}{rate}", *estimates])


def _sections(lines: Sequence[Line], names: Sequence[str]) -> list[str]:
    """Lists of what replicates everywhere, what fails, and what is between, with reasons."""
    groups: dict[str, list[str]] = {"replicates": [], "fails": [], "mixed": []}
    for experiment, claim, findings in lines:
        known = [f for f in findings if f is not None]
        verdicts = {finding.verdict for finding in known}
        link = f"[{claim.name}]({experiment}/README.md)"
        if verdicts and verdicts <= set(CERTAIN):
            groups["replicates"].append(link)
            continue
        group = "fails" if verdicts and verdicts <= set(AGAINST) else "mixed"
        each = []
        for name, finding in zip(names, findings, strict=True):
            if finding is not None:
                whose = f"{name}: " if len(names) > 1 else ""
                why = f" ({finding.detail})" if finding.detail else ""
                each.append(f"{whose}{finding.verdict}, {finding.ours}{why}")
        groups[group].append(f"- {link}. {claim.statement} {'. '.join(each)}.")
    parts = []
    if groups["replicates"]:
        parts += ["## What replicates", ", ".join(groups["replicates"]) + "."]
    if groups["mixed"]:
        parts += ["## What is mixed, or needs more networks", "\n".join(groups["mixed"])]
    if groups["fails"]:
        parts += ["## What fails", "\n".join(groups["fails"])]
    return [part.replace("<", "&lt;") for part in parts]


def forest(lines: Sequence[Line], names: Sequence[str]) -> Figure:
    """Rates over networks of every statement, left, and what is pooled over heads, right."""
    rates, pooled = _rates(lines), _pooled(lines)
    count = max(len(rates), len(pooled), 4)
    panels = [(rates, 0.5), (pooled, 0.0)] if pooled else [(rates, 0.5)]
    figure = Figure(figsize=(6.5 * len(panels), 1.2 + 0.27 * count))
    figure.set_layout_engine("constrained")
    row_of_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    left = row_of_axes[0]
    for axes, (some, middle) in zip(row_of_axes, panels, strict=True):
        for row, (_, _, findings) in enumerate(some):
            first = row - 0.11 * (len(findings) - 1)
            for number, finding in enumerate(findings):
                _draw(axes, first + 0.22 * number, finding, COLOURS[number % len(COLOURS)])
            _draw(axes, first + 0.22 * len(findings), _of_authors(findings), QUIET)
        labels = [f"{experiment}  {claim.name}" for experiment, claim, _ in some]
        axes.set_yticks(range(len(some)), labels, fontsize=7.5)
        axes.set_ylim(count - 0.5, -0.5)
        axes.axvline(middle, color=FAINT, lw=0.8, zorder=0)
        axes.grid(axis="y", color="0.95")
        axes.set_axisbelow(True)
    left.set(xlim=(-0.02, 1.02), xlabel="share of networks in which it is so")
    tidy(left, "Statements over networks")
    if pooled:
        row_of_axes[1].set_xlabel("estimate, in its own unit")
        tidy(row_of_axes[1], "Pooled estimates")
    authors = any(_of_authors(findings) is not None for _, _, findings in lines)
    for number, name in enumerate(names):
        left.plot([], [], "o-", color=COLOURS[number % len(COLOURS)], ms=4, label=name)
    if authors:
        left.plot([], [], "D", mfc="none", mec=QUIET, ms=4.5, label="authors' code")
    if authors or len(names) > 1:
        figure.legend(frameon=False, fontsize=8, loc="outside lower left", ncols=len(names) + 1)
    return figure


def _rates(lines: Sequence[Line]) -> list[Line]:
    """Statements about a share of networks."""
    return [line for line in lines if any(f is not None and f.share for f in line[2])]


def _pooled(lines: Sequence[Line]) -> list[Line]:
    """Others that have an estimate with an interval."""
    rates = _rates(lines)
    has = [line for line in lines if any(f is not None and _interval(f) for f in line[2])]
    return [line for line in has if line not in rates]


def _of_authors(findings: Sequence[Finding | None]) -> Finding | None:
    """Of the authors' code, which is the same beside all of a line's own findings."""
    beside = [found.beside.get("authors' code") for found in findings if found is not None]
    return next((found for found in beside if found is not None), None)


def _draw(axes: Axes, place: float, finding: Finding | None, colour: str) -> None:
    """A rate, or what is pooled, as a dot with its interval; quiet ones are the authors'."""
    interval = None if finding is None else _interval(finding)
    if finding is None or interval is None or not finding.networks:
        return
    theirs = colour == QUIET
    axes.plot(interval, [place, place], color=colour, lw=0.8 if theirs else 1.6)
    value = finding.estimate if finding.share is None else finding.share[0] / finding.share[1]
    if value is not None and math.isfinite(value):
        mark, fill = ("D", "none") if theirs else ("o", colour)
        axes.plot(value, place, mark, ms=4, color=colour, mfc=fill, mew=0.9)


def _interval(finding: Finding) -> tuple[float, float] | None:
    """Of a rate over networks, else of what is pooled; None where nothing is known."""
    known = finding.interval
    return known if known is not None and all(map(math.isfinite, known)) else None
