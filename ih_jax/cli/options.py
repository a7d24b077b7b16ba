"""The commands and their options: one dataclass a command, whose docstrings are the help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from ih_jax.bench import timing
from ih_jax.data.images import encoders, omniglot


@dataclass(frozen=True)
class Run:
    """Train what an experiment needs, then measure, draw and check its claims.

    EXPERIMENT is a name that `ih-jax list` shows, "paper" for all of Singh et al. 2024, "beyond"
    for what goes beyond it, "olsson" for Olsson et al. 2022, or a Python file that defines `study`
    or `experiment`. What was trained before, for any experiment, is not trained again.
    """

    experiment: Positional[str]
    """Name of an experiment, "paper", "beyond", "olsson", or a file such as my_study.py."""
    quick: bool = False
    """Fewer seeds, shorter runs and coarser grids: figures that look the same, sooner."""
    seeds: int | None = None
    """Number of initialization seeds; by default 2, or 1 with --quick."""
    data: str = "glyphs"
    """"glyphs" (drawn here, nothing to download), "omniglot" (its drawings, encoded when needed) or
    an HDF5 file of features."""
    data_key: str | None = None
    """Which dataset of the file, where it holds several."""
    images: tuple[Path, ...] = ()
    """With --data omniglot: its folders or zip archives; by default those in IH_JAX_DATA_DIR."""
    download: bool = False
    """With --data omniglot: download the drawings, with tensorflow-datasets."""
    encoder: encoders.Name = "random-conv"
    """With --data omniglot: the encoder that turns drawings into features."""
    weights: Path | None = None
    """With --encoder resnet18: a safetensors file of ImageNet weights."""
    classes: int = 50
    """Classes to train on."""
    exemplars: int = 1
    """Exemplars per class to train on."""
    labels: int = 5
    """Number of labels; each sequence uses two of them."""
    clamps: tuple[str, ...] = ()
    """Train only these of the experiment's clamps, by name."""
    text: str | None = None
    """With olsson-text: a file or folder, or "tfds:NAME"; by default Python's standard library."""
    tokenizer: Literal["bytes", "characters", "bpe"] | None = None
    """With olsson-text: what a token is; by default a BPE trained on the text."""
    scale: float = 1.0
    """Fraction of the training to do, to try things out."""
    out: Path | None = None
    """Results folder; by default results/EXPERIMENT (runs/NAME for a file). With "paper", the
    folder of all of them; by default results."""
    trainings: Path | None = None
    """Folder of trained networks, to read and to add to; by default `trainings` in --out or
    results."""
    resume: bool = False
    """Continue a run that was stopped."""
    share: str | None = None
    """Share the training with other processes that see the same folder: "claim" (each takes work
    that nobody has taken), or RANK/COUNT (a fixed share, from 0/COUNT)."""
    width: int | None = None
    """Number of runs that train together in one program; by default chosen for this machine."""
    quiet: bool = False
    """Do not show progress."""


@dataclass(frozen=True)
class List:
    """List the experiments and what each costs."""


@dataclass(frozen=True)
class Plot:
    """Make figure and README of a results folder again, without training."""

    folder: Positional[Path]
    """A folder that `ih-jax run` wrote, or a folder of such folders."""
    file: Path | None = None
    """The Python file that defines the experiment, if it has moved since the run."""


@dataclass(frozen=True)
class Bench:
    """Measure what training costs on this machine, so that sweeps choose block widths by it.

    Takes about ten minutes; do not use the machine for anything else meanwhile.
    """

    out: Path = Path("results/bench")
    """Where costs.json and the figure cost.png, cost.svg go."""
    widths: tuple[int, ...] = timing.Effort.widths
    """Numbers of runs that train together in one program, to be timed."""
    pairs: int = timing.Effort.pairs
    """Number of alternating timings per ratio."""
    quick: bool = False
    """Time widths 1, 4 and 16 only, with three pairs."""


@dataclass(frozen=True)
class MakeFeatures:
    """Encode Omniglot's drawings into a feature file, for --data."""

    images: tuple[Path, ...] = ()
    """Omniglot's folders or zip archives; by default those in IH_JAX_DATA_DIR."""
    download: bool = False
    """Download the drawings, with tensorflow-datasets."""
    encoder: encoders.Name = "random-conv"
    """The encoder that turns drawings into features."""
    weights: Path | None = None
    """With --encoder resnet18: a safetensors file of ImageNet weights."""
    upright: bool = False
    """Only upright characters, without rotated and mirrored ones as further classes."""
    drawings: int = omniglot.KEPT
    """Number of drawings per character."""
    seed: int = 0
    """Seed of the order of classes."""
    out: Path | None = None
    """The file; by default one in the cache folder."""


@dataclass(frozen=True)
class Data:
    """Describe data: classes, drawings, norms, how far apart classes are; and draw a picture."""

    data: Positional[str] = "glyphs"
    """"glyphs", "omniglot" or an HDF5 file of features."""
    data_key: str | None = None
    """Which dataset of the file, where it holds several."""
    images: tuple[Path, ...] = ()
    """With omniglot: its folders or zip archives; by default those in IH_JAX_DATA_DIR."""
    download: bool = False
    """With omniglot: download the drawings, with tensorflow-datasets."""
    encoder: encoders.Name = "random-conv"
    """With omniglot: the encoder that turns drawings into features."""
    weights: Path | None = None
    """With --encoder resnet18: a safetensors file of ImageNet weights."""
    out: Path = Path("data.png")
    """The picture: drawings if there are any, otherwise how similar classes are."""


@dataclass(frozen=True)
class Import:
    """Read a run of the authors' code (icl-dynamics) and import it as a sweep."""

    folder: Positional[Path]
    """The run's folder: config.json, checkpoints/*.eqx, log.h5."""
    data: str
    """HDF5 file of the features that it was trained on."""
    out: Path
    """A new folder, which `ih_jax.load` and every measure can read."""
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
    table and a figure. Needs no PyTorch, and no internet connection unless the model is on the hub.
    """

    model: str
    """A folder with config.json and model.safetensors, or hub:OWNER/NAME or
    hub:OWNER/NAME@REVISION to download one from the Hugging Face hub."""
    out: Path | None = None
    """Results folder; by default results/heads-NAME."""
    seed: int = 0
    """Seed of the random tokens that the network is shown."""
    quiet: bool = False
    """Do not show progress."""


@dataclass(frozen=True)
class View:
    """Write a page that shows how the networks of a run formed, for a browser.

    One HTML file that works without an internet connection. A sweep that is still training is
    shown as far as it is.
    """

    folder: Positional[Path]
    """A sweep, or an experiment that `ih-jax run` wrote."""
    out: Path | None = None
    """The file; by default view.html in the folder."""
    open: bool = False
    """Open it in the browser."""
    runs: tuple[int, ...] = ()
    """Show these runs of a sweep, by number; by default all that fit."""
    megabytes: float = 15.0
    """How large the file may be; what does not fit is left out, and the page says what."""
    quiet: bool = False
    """Do not show progress."""
