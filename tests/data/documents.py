"""Documents for tests of text, and what rows of them say."""

from pathlib import Path

from ih_jax.data.languages.text import Text, decode

KINDS = ("bytes", "characters", "bpe")
DOCUMENTS = 30


def that_tell_their_names(root: Path) -> Path:
    """Documents of which each says its number, some in folders below."""
    (root / "b" / "c").mkdir(parents=True)
    for i in range(DOCUMENTS):
        place = ("", "b/", "b/c/")[i % 3]
        said = "".join(f"line {j} of {i}, naïve 漢字 {'=' * (i + j)}\n" for j in range(12))
        (root / f"{place}{i:02d}.txt").write_text(said, encoding="utf-8")
    return root


def words(recipe: Text, held_out: bool = False) -> str:
    """What the rows say."""
    return decode(recipe, recipe.source(held_out)["rows"].ravel())
