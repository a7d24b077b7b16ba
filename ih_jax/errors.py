"""Mistakes of a user: one line that says what was given, what is accepted and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user can put right. The command line prints its one line and exits with 2."""


def unknown(what: str, given: object, known: Iterable[str]) -> UserError:
    """The error for a name that is not one of those known, with the nearest of them.

    Args:
        what: what the name should be of, such as "setting" or "clamp".
        given: what the user wrote.
        known: the names that are accepted, in the order in which they are to be listed.

    Returns:
        "unknown setting 'lr': did you mean 'learning_rate'? give one of init, order, ..."
    """
    names = list(dict.fromkeys(known))
    near = nearest(str(given), names)
    suggestion = f"did you mean {near!r}? " if near else ""
    return UserError(f"unknown {what} {given!r}: {suggestion}give one of {', '.join(names)}")


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name most like the given one; None where none is near.

    Initials count: "lr" is near "learning_rate".
    """
    names = list(known)
    folded = {name.lower().replace("-", "_"): name for name in reversed(names)}
    wanted = given.lower().replace("-", "_")
    for name, original in folded.items():
        if len(wanted) > 1 and wanted == "".join(word[:1] for word in name.split("_")):
            return original
    found = get_close_matches(wanted, folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None
