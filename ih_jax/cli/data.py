"""`ih-jax features`, `data` and `text`: the exemplars and the text that models are trained on."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from ih_jax import files, paths
from ih_jax.cli.options import Data, MakeFeatures, Run, Text
from ih_jax.data.images import contact, encoders, glyphs, omniglot
from ih_jax.data.images.features import of_file, of_glyphs
from ih_jax.data.languages import making_tokens
from ih_jax.errors import UserError
from ih_jax.sweeps import engine

console = Console(markup=False, emoji=False)


def make_features(command: MakeFeatures) -> None:
    """Encode drawings."""
    engine.use_compilation_cache()
    path = omniglot.prepare(
        command.images,
        encoders.make(command.encoder, command.weights),
        _features_cache(),
        variants=not command.upright,
        kept=command.drawings,
        seed=command.seed,
        out=command.out,
        download=command.download,
        progress=True,
    )
    features = of_file(path)
    console.print(
        f"{features.classes:,} classes of {features.exemplars} drawings, "
        f"{features.features} features: --data {path}"
    )


def show_data(command: Data) -> None:
    """Describe a data set, and draw a picture of it."""
    paths.new_file(command.out, "PNG picture")
    engine.use_compilation_cache()
    data = file_of(command)
    features = of_glyphs() if data is None else of_file(data, command.data_key)
    numbers = omniglot.nearest(features)
    told = {
        "classes": f"{features.classes:,}",
        "drawings of each": f"{features.exemplars}",
        "features": f"{features.features}",
        "length of a feature vector": f"{numbers['norm']:.1f}",
        "cosine between classes": f"{numbers['cosine']:.2f}",
        "drawings nearer to another class": f"{numbers['confused']:.0%}",
        "picture": f"{command.out}",
    }
    if command.data == "glyphs":
        glyphs.sheet(command.out)
    elif command.data == "omniglot":
        drawings = omniglot.drawings_of(command.images, _features_cache(), command.download)
        contact.sheet(drawings, command.out)
        told["characters"] = f"{len(drawings.characters)} of {len(drawings.alphabets)} alphabets"
    else:
        contact.likeness(features, command.out)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in told.items():
        table.add_row(name, value)
    console.print(table)


def make_token_files(command: Text) -> None:
    """Make token files of a text, with progress and a summary."""
    if command.tokenizer != "bpe" and command.vocabulary != Text.vocabulary:
        raise UserError(
            f"--vocabulary does not apply to --tokenizer {command.tokenizer}: leave it out"
        )
    corpus = making_tokens.Corpus(
        command.corpus,
        command.tokenizer,
        command.vocabulary,
        making_tokens.EVERYTHING if command.limit is None else command.limit,
        command.held_out,
        command.download,
    )
    out = command.out or Path("tokens", Path(command.corpus).stem.replace(":", "-"))
    with Progress(console=console, disable=command.quiet, transient=True) as progress:
        stages = dict[str, TaskID]()

        def told(stage: str, done: int, of: int) -> None:
            if stage not in stages:
                stages[stage] = progress.add_task(stage, total=of or None)
            progress.update(stages[stage], completed=done)

        card = making_tokens.make(corpus, out, told)
    console.print(
        f"{card.tokens.train:,} tokens to train on and {card.tokens.held_out:,} held out, of "
        f"{card.documents:,} documents ({card.bytes / 1e6:,.1f} MB), {card.vocabulary:,} "
        f"different ones: --text {out}"
    )


def file_of(command: Run | Data) -> str | None:
    """The feature file that --data asks for; None for glyphs.

    Raises UserError for options that this data does not read, as `encoders.make` and
    `omniglot.prepare` do.
    """
    of_file = command.data not in ("glyphs", "omniglot")
    unread = [] if of_file else ["data_key"]
    if command.data != "omniglot":
        unread += ["images", "download", "encoder", "weights"]
    for name in unread:
        if getattr(command, name) != getattr(type(command), name):
            raise UserError(
                f"--{name.replace('_', '-')} does not apply to data {command.data}: leave it out"
            )
    if command.data != "omniglot":
        return command.data if of_file else None
    encoder = encoders.make(command.encoder, command.weights)
    path = omniglot.prepare(
        command.images, encoder, _features_cache(), download=command.download, progress=True
    )
    return str(path)


def _features_cache() -> Path:
    return files.cache_folder() / "features"
