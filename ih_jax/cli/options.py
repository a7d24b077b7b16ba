"""What a person may type after `ih-jax`: one dataclass a command, its docstrings the help."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from ih_jax.bench import timing
from ih_jax.data.images import encoders, omniglot
from ih_jax.errors import UserError


@dataclass(frozen=True)
class Run:
    """Train what an experiment needs, then measure, draw and check its claims.

    EXPERIMENT is a name that `ih-jax list` shows, "paper" for all of Singh et al. 2024, "beyond"
    for what goes beyond it, "olsson" for Olsson et al. 2022, or a Python file that defines `study`.
    What was trained before, for any experiment, is not trained again.
    """

    experiment: Positional[str]
    """Name of an experiment, "paper", "beyond", "olsson", or a file such as my_study.py."""
    quick: bool = False
    """Fewer seeds, shorter runs and coarser grids: figures that look the same, sooner."""
    seeds: int | None = None
    """How many initialisation seeds; by default 2, with --quick 1."""
    data: str = "glyphs"
    """"glyphs" (drawn here, nothing to download), "omniglot" (its drawings, encoded when needed) or
    an HDF5 file of features."""
    data_key: str | None = None
    """Which dataset of the file, where it holds several."""
    images: tuple[Path, ...] = ()
    """With --data omniglot: its folders or zip archives; by default those in IH_JAX_DATA_DIR."""
    download: bool = False
    """With --data omniglot: load the drawings from the network, with tensorflow-datasets."""
    encoder: encoders.Name = "random-conv"
    """With --data omniglot: what makes features of drawings."""
    weights: Path | None = None
    """With --encoder resnet18: a safetensors file of ImageNet weights."""
    classes: int = 50
    """Classes to train on."""
    exemplars: int = 1
    """Exemplars of each class to train on."""
    labels: int = 5
    """Labels, of which a sequence uses two."""
    clamps: tuple[str, ...] = ()
    """Train only these of the experiment's clamps."""
    text: str | None = None
    """With olsson-text: a file or folder, or "tfds:NAME"; by default Python's standard library."""
    tokenizer: Literal["bytes", "characters", "bpe"] | None = None
    """With olsson-text: what a token is; by default a BPE trained on the text."""
    scale: float = 1.0
    """Share of the sequences to train for, to try things out."""
    out: Path | None = None
    """Results folder; by default results/EXPERIMENT (runs/NAME for a file). With "paper", the
    folder of all of them; by default results."""
    trainings: Path | None = None
    """Where trained networks are kept and looked for; by default trainings in --out or results."""
    resume: bool = False
    """Go on with what was stopped."""
    share: str | None = None
    """Train beside other processes on the same folder, here or on machines that see it: "claim"
    (each takes what nobody has), or RANK/COUNT (a fixed share, from 0/COUNT)."""
    width: int | None = None
    """Runs that train together in one program; chosen if not given."""
    quiet: bool = False
    """No progress bar."""


@dataclass(frozen=True)
class List:
    """List the experiments and what each costs."""


@dataclass(frozen=True)
class Plot:
    """Draw and grade a results folder again, without training."""

    folder: Positional[Path]
    """A folder that `ih-jax run` wrote."""


@dataclass(frozen=True)
class Bench:
    """Measure what training costs on this machine, so that sweeps choose block widths by it.

    Takes about ten minutes; leave the machine alone meanwhile. All devices work at once.
    """

    out: Path = Path("results/bench")
    """Where costs.json and the figure cost.png, cost.svg go."""
    widths: tuple[int, ...] = timing.Effort.widths
    """Runs that train together in one program."""
    pairs: int = timing.Effort.pairs
    """How often the two sides of a ratio take turns."""
    quick: bool = False
    """Widths 1, 4 and 16, three pairs."""


@dataclass(frozen=True)
class MakeFeatures:
    """Make features of Omniglot's drawings: a file that --data takes."""

    images: tuple[Path, ...] = ()
    """Omniglot's folders or zip archives; by default those in IH_JAX_DATA_DIR."""
    download: bool = False
    """Load the drawings from the network, with tensorflow-datasets."""
    encoder: encoders.Name = "random-conv"
    """What makes features of drawings."""
    weights: Path | None = None
    """With --encoder resnet18: a safetensors file of ImageNet weights."""
    upright: bool = False
    """Only characters as they stand, without turned and mirrored ones as further classes."""
    drawings: int = omniglot.KEPT
    """Of each character."""
    seed: int = 0
    """Of the order of classes."""
    out: Path | None = None
    """The file; by default one in the cache folder."""


@dataclass(frozen=True)
class Data:
    """Show what data holds: classes, drawings, norms, how far apart classes are; and a picture."""

    data: Positional[str] = "glyphs"
    """"glyphs", "omniglot" or an HDF5 file of features."""
    data_key: str | None = None
    """Which dataset of the file, where it holds several."""
    images: tuple[Path, ...] = ()
    """With omniglot: its folders or zip archives; by default those in IH_JAX_DATA_DIR."""
    download: bool = False
    """With omniglot: load the drawings from the network, with tensorflow-datasets."""
    encoder: encoders.Name = "random-conv"
    """With omniglot: what makes features of drawings."""
    weights: Path | None = None
    """With --encoder resnet18: a safetensors file of ImageNet weights."""
    out: Path = Path("data.png")
    """The picture: drawings where there are some, else how alike classes are."""


@dataclass(frozen=True)
class Import:
    """Read a run of the authors' code (icl-dynamics) and write it as a sweep of ours."""

    folder: Positional[Path]
    """The run's folder: config.json, checkpoints/*.eqx, log.h5."""
    data: str
    """HDF5 file of the features that it was trained on."""
    out: Path
    """A new folder; `ih_jax.load` and every measure read it."""
    data_key: str | None = None
    """Which dataset of the file, where it holds several."""


@dataclass(frozen=True)
class Export:
    """Write a network as safetensors, with the names and config of TransformerLens."""

    folder: Positional[Path]
    """A sweep: the folder that holds its card.json and trajectory."""
    out: Path
    """The file."""
    run: int = 0
    """Which run, by number."""
    step: int | None = None
    """Which checkpoint; by default the last."""


@dataclass(frozen=True)
class Heads:
    """Find induction and previous-token heads of a pretrained network.

    GPT-2, GPT-NeoX (Pythia), Llama, Mistral, Qwen 2 and 3. Scores of Olsson et al. 2022, with a
    table and a figure. Needs no torch, and no internet connection unless the model is on the hub.
    """

    model: str
    """A folder with config.json and model.safetensors, or hub:OWNER/NAME or
    hub:OWNER/NAME@REVISION to load one from the Hugging Face hub."""
    out: Path | None = None
    """Results folder; by default results/heads-NAME."""
    seed: int = 0
    """Of the random tokens that it is shown."""
    quiet: bool = False
    """No line that says what is measured."""


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[MakeFeatures, tyro.conf.subcommand("features")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Heads, tyro.conf.subcommand("heads")]
)


def parse(arguments: Sequence[str] | None, about: str) -> Command:
    """The command that these words (None: those of the process) mean.

    Raises:
        UserError: an option is given twice; or, in one line, what tyro says of a mistake in a box.
        SystemExit: after --help.
    """
    _refuse_twice(sys.argv[1:] if arguments is None else arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(Command, args=arguments, prog="ih-jax", description=about)  # type: ignore[call-overload, no-any-return]
    except SystemExit as left:
        if not left.code:
            raise
    raise UserError(_in_one_line(said.getvalue())) from None


def _refuse_twice(words: Sequence[str]) -> None:
    """Raise UserError for an option that is given twice: all but the last would do nothing."""
    names = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} is given {names.count(name)} times: give it once")


def _in_one_line(box: str) -> str:
    """What stands first in a box, below its title, and where help is.

    tyro draws boxes of lines or, where the terminal may not have them, of dashes and spaces.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    rows = [line.strip("│|╭╮╰╯─ ") for line in plain.splitlines()][1:]
    rows = ["" if set(row) <= {"-"} else row for row in rows]
    words = itertools.takewhile(bool, itertools.dropwhile(lambda row: not row, rows))
    what = " ".join(words).rstrip(". ") or "these words mean no command"
    where = re.search(r"ih-jax(?: [a-z]+)? --help", plain)
    return f"{what}: see {where.group() if where else 'ih-jax --help'}"
