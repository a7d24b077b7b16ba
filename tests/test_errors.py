"""Errors name the nearest of what is known."""

import pytest

from ih_jax.errors import nearest, unknown

KNOWN = ["learning_rate", "weight_decay", "layers", "olsson-text", "fig5b"]


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("lr", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("Layer", "layers"),
        ("olsson_text", "olsson-text"),
        ("fig5", "fig5b"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_suggested(given: str, near: str | None) -> None:
    assert nearest(given, KNOWN) == near
    said = str(unknown("setting", given, KNOWN))
    assert (f"did you mean {near!r}?" in said) == (near is not None)
    assert said.endswith(", ".join(KNOWN))
