"""The commands and their options: one dataclass a command, whose docstrings are the help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional, UseAppendAction

from ih_jax.bench import timing
from ih_jax.data.images import encoders, omniglot
from ih_jax.data.languages.text import Kind
from ih_jax.experiments import networks


@dataclass(frozen=True)
class Run:
    """Train what an experiment needs, then measure, draw and check its claims.

    EXPERIMENT is a name that `ih-jax list` shows, "paper" for all of Singh et al. 2024, "beyond"
    for what goes beyond it, "findings" for questions of our own, "olsson" for Olsson et al. 2022,
    "transience" and "coopetition" for Singh et al. 2023 and 2025, "reddy2024", "garg2022", or a
    Python file that defines `study` or `experiment`. Networks that were trained before, for any
    experiment, are not trained again.
    """

    experiment: Positional[str]
    """Name of an experiment, of a set ("paper" and so on), or a file such as my_study.py."""
    quick: bool = False
    """Fewer seeds, shorter runs and coarser grids: figures that look the same, sooner."""
    seeds: int | None = None
    """Number of networks; by default 2, or 1 with --quick."""
    first_seed: int = networks.FIRST_SEED
    """Number of the first network, and seed of its initial weights; the others follow it."""
    vary: str | None = None
    """What differs between networks: "init" (initial weights), "order" (of sequences), "labels"
    (the split of label pairs), "classes" (which ones train), with commas between them. With fewer
    than 16 seeds "init", from 16 on all: a quarter as many initial weights, each with 4 draws of
    the data."""
    data: str = "glyphs"
    """"glyphs" (generated here, nothing to download), "omniglot" (drawings, encoded on first use)
    or the path of an HDF5 feature file."""
    data_key: str | None = None
    """Name of the dataset in the file, if it holds several."""
    images: tuple[Path, ...] = ()
    """With --data omniglot: its folders or zip archives; by default those in IH_JAX_DATA_DIR."""
    download: bool = False
    """With --data omniglot: download the drawings, with tensorflow-datasets."""
    encoder: encoders.Name = "random-conv"
    """With --data omniglot: the encoder that turns drawings into features."""
    weights: Path | None = None
    """With --encoder resnet18: a safetensors file of ImageNet weights."""
    classes: int = 50
    """Number of classes to train on."""
    exemplars: int = 1
    """Number of exemplars per class to train on."""
    labels: int = 5
    """Number of labels; each sequence uses two of them."""
    clamps: tuple[str, ...] = ()
    """Names of the experiment's clamps to train; by default all of them."""
    text: str | None = None
    """With olsson-text, olsson-lent and their variants: a file or folder of text, a folder that
    `ih-jax text` made, or "tfds:NAME"; by default Python's standard library."""
    tokenizer: Kind | None = None
    """With olsson-text, olsson-lent and their variants: how text is split into tokens; by default
    by a BPE trained on the text."""
    scale: float = 1.0
    """Fraction of the training to do, up to 1; a small one is for trying things out."""
    out: Path | None = None
    """Results folder; by default results/EXPERIMENT, or runs/NAME for a file that defines a study.
    For a set such as "paper", the folder that holds theirs; by default results."""
    trainings: Path | None = None
    """Folder of trained networks, read and added to; by default `trainings` in --out, or in
    results."""
    resume: bool = False
    """Continue a run that was stopped."""
    share: str | None = None
    """Share the training with other processes that see the same folder: "claim" (each takes work
    that no other has taken) or RANK/COUNT (a fixed share; ranks start at 0)."""
    width: int | None = None
    """Number of runs that train together in one program; by default chosen for this machine."""
    log: Literal["tensorboard", "wandb"] | None = None
    """Write learning curves for TensorBoard (into the sweep's folder) or Weights & Biases while
    they form; WANDB_MODE=offline in the environment needs no account."""
    disk: float = 5.0
    """Most GB of weights on disk at once. Where all networks have more, experiments train and
    measure a part of them at a time, and then forget its weights."""
    no_figures: bool = False
    """Write the numbers (results.nc) alone; `ih-jax plot` makes figures, claims and READMEs of them
    later, on any machine and without the trained networks."""
    quiet: bool = False
    """Do not show progress."""


@dataclass(frozen=True)
class List:
    """List the experiments and what each costs."""


@dataclass(frozen=True)
class Plot:
    """Redraw the figure and rewrite the README of a results folder, without training."""

    folder: Positional[Path]
    """A folder that `ih-jax run` wrote, or a folder of such folders."""
    file: Path | None = None
    """The Python file that defines the experiment, if it has moved since the run."""
    beside: tuple[Path, ...] = ()
    """Of a folder of folders: others with the same experiments on other data, which get columns in
    its report."""


@dataclass(frozen=True)
class Bench:
    """Measure what training costs on this machine; sweeps then choose their block widths by it.

    Takes about ten minutes; leave the machine otherwise idle meanwhile.
    """

    out: Path = Path("results/bench")
    """Folder for bench.json and the figure (cost.png and cost.svg)."""
    widths: tuple[int, ...] = timing.Effort.widths
    """Block widths to time: numbers of runs that train together in one program."""
    pairs: int = timing.Effort.pairs
    """Number of alternating timings per ratio."""
    quick: bool = False
    """Time widths 1, 4 and 16 only, with three pairs."""
    contexts: bool = False
    """Time language models of 64, 128 and 256 dimensions at 128, 512 and 1,024 tokens instead,
    beside PyTorch's fused attention where it is installed, into contexts.json."""
    bound: bool = False
    """Measure only how far steps are from the least time of their products, into bound.json."""


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
    """Keep upright characters only; do not add rotated and mirrored ones as further classes."""
    drawings: int = omniglot.KEPT
    """Number of drawings per character."""
    seed: int = 0
    """Seed that decides the order of classes."""
    out: Path | None = None
    """Path of the feature file; by default in the cache folder."""


@dataclass(frozen=True)
class Data:
    """Describe data (classes, drawings, norms, distances between classes) and draw a picture."""

    data: Positional[str] = "glyphs"
    """"glyphs", "omniglot" or an HDF5 file of features."""
    data_key: str | None = None
    """Name of the dataset in the file, if it holds several."""
    images: tuple[Path, ...] = ()
    """With omniglot: its folders or zip archives; by default those in IH_JAX_DATA_DIR."""
    download: bool = False
    """With omniglot: download the drawings, with tensorflow-datasets."""
    encoder: encoders.Name = "random-conv"
    """With omniglot: the encoder that turns drawings into features."""
    weights: Path | None = None
    """With --encoder resnet18: a safetensors file of ImageNet weights."""
    out: Path = Path("data.png")
    """Path of the picture: drawings if there are any, otherwise how similar classes are."""


@dataclass(frozen=True)
class Text:
    """Make token files of a text, once, for studies and experiments to read from disk.

    Documents are packed in the order of their names, a share of them held out. The folder that is
    made can be given to `ih-jax run olsson-text --text`, or to TokenFiles in a study.
    """

    corpus: Positional[str]
    """A folder of text or a file, "python" (the source of Python's standard library), or
    "tfds:NAME"."""
    out: Path | None = None
    """The folder to make; by default tokens/NAME."""
    tokenizer: Kind = "bpe"
    """How text is split into tokens."""
    vocabulary: int = 4096
    """With --tokenizer bpe: most tokens that it may have."""
    held_out: float = 0.1
    """Share of documents that are not trained on (of a single document its end)."""
    limit: int | None = None
    """Most bytes of text to read; by default all."""
    download: bool = False
    """With tfds:NAME: download it, with tensorflow-datasets."""
    quiet: bool = False
    """Do not show progress."""


@dataclass(frozen=True)
class Import:
    """Read a run of the authors' code (icl-dynamics) and import it as a sweep."""

    folder: Positional[Path]
    """The run's folder, with config.json, checkpoints/*.eqx and, if it was kept, log.h5."""
    data: str
    """HDF5 file of the features that it was trained on."""
    out: Path
    """The new folder, which `ih_jax.load` and every measure can read."""
    data_key: str | None = None
    """Name of the dataset in the file, if it holds several."""
    label_generator: Literal["old", "new"] | None = None
    """Which generator split its label pairs: that of JAX before 0.5 (old), or a later one's (new);
    by default as the losses of its log tell."""


@dataclass(frozen=True)
class Export:
    """Write a network as safetensors, with the names and config that TransformerLens uses.

    With --names own: with those of ih_jax, which `ih_jax.interop.plain.load` reads again.
    """

    folder: Positional[Path]
    """Folder of a sweep, with card.json and trajectory/."""
    out: Path
    """Path of the safetensors file."""
    run: int = 0
    """Number of the run."""
    step: int | None = None
    """Step of the checkpoint; by default the last."""
    names: Literal["transformer-lens", "own"] = "transformer-lens"
    """Whose names tensors have."""


@dataclass(frozen=True)
class Heads:
    """Find the induction heads and previous-token heads of a pretrained network.

    Reads GPT-2, GPT-Neo, GPT-NeoX (Pythia), GPT-J, OPT, BLOOM, Llama, Mistral, Qwen 2 and 3, OLMo 1
    and 2, and Gemma 2; writes the scores of Olsson et al. 2022 as a table and a figure. Needs no
    PyTorch, and no internet connection unless the model is on the hub.
    """

    model: UseAppendAction[tuple[str, ...]]
    """A folder with config.json and model.safetensors, or hub:OWNER/NAME or
    hub:OWNER/NAME@REVISION to download one from the Hugging Face hub. Given several times, or a
    folder of checkpoints (checkpoint-500, step1000): all of them, as a series over training."""
    out: Path | None = None
    """Results folder; by default results/heads-NAME."""
    seed: int = 0
    """Seed of the random tokens that the network is shown."""
    length: int | None = None
    """Number of random tokens that are repeated; by default 25, or as many as fit."""
    repeats: int | None = None
    """How often they are repeated; by default 4 times, or as often as fits."""
    bos: str | None = None
    """Token before each sequence, a number or "none"; by default what config.json names."""
    quiet: bool = False
    """Do not show progress."""


@dataclass(frozen=True)
class Status:
    """Say how a run stands: done, training or stopped, what is on disk, and what to do next."""

    folder: Positional[Path]
    """Folder of a sweep, or of an experiment that `ih-jax run` writes."""
    check: bool = False
    """Read every checkpoint, and compare it with its checksum."""


@dataclass(frozen=True)
class View:
    """Write a web page that shows how a run's networks formed.

    It is one HTML file that works without an internet connection. A sweep that is still training is
    shown as far as it has got.
    """

    folder: Positional[Path]
    """Folder of a sweep, of an experiment that `ih-jax run` wrote, or of a pretrained network's
    heads (`ih-jax heads`)."""
    out: Path | None = None
    """Path of the page; by default view.html in the folder."""
    open: bool = False
    """Open it in the browser."""
    runs: tuple[int, ...] = ()
    """Numbers of the runs to show; by default all that fit."""
    megabytes: float = 15.0
    """Largest size of the file, in MB; what does not fit is left out, and the page says so."""
    quiet: bool = False
    """Do not show progress."""
