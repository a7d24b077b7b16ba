"""Which networks an experiment trains: their initial weights, and the draw of the data each sees.

Networks have numbers, from a first one on: the labels of the axis `init`. Few of them differ in
their initial weights alone, whose seeds the numbers are; classes, label pairs and order are the
same for all. A rate over such networks holds for that one draw of the data. From CROSSED_FROM
networks on they are a table of initial weights x draws of the data, four draws unless told
otherwise: every initial weights meet every draw, so that what is due to either can be told apart
(`claims.variance`). All clamps of one network have its weights and its draw.
"""

from __future__ import annotations

from typing import Literal, get_args

from ih_jax.errors import UserError, unknown

Factor = Literal["init", "order", "labels", "classes"]
FACTORS: tuple[Factor, ...] = get_args(Factor)
OF_DATA: dict[Factor, str] = {  # factor -> the setting of a few-shot study
    "order": "order",
    "labels": "label_split",
    "classes": "class_split",
}
FIRST_SEED = 5  # the paper's seed of initial weights; others follow it
CROSSED_FROM = 16  # networks, from which on the data varies too
DRAWS = 4  # of the data
LEAST_WEIGHTS = 3  # a draw has at least so many networks: grafts are of one into two others


def varied(count: int, vary: tuple[Factor, ...] | None) -> tuple[Factor, ...]:
    """What differs between so many networks: as asked for, else by their number."""
    if vary is not None:
        return vary
    return FACTORS if count >= CROSSED_FROM else ("init",)


def check(count: int, vary: tuple[Factor, ...] | None) -> None:
    """Raises UserError for an unknown factor, and for numbers that fill no table."""
    for factor in vary or ():
        if factor not in FACTORS:
            raise unknown("factor", factor, FACTORS)
    factors = varied(count, vary)
    if not factors:
        raise UserError(f"nothing varies: give one or more of {', '.join(FACTORS)}")
    crossed = "init" in factors and len(factors) > 1
    if crossed and (count % DRAWS or count < DRAWS * LEAST_WEIGHTS):
        least = max(DRAWS * LEAST_WEIGHTS, count - count % DRAWS)
        raise UserError(
            f"{count} networks do not fill a table of initial weights x {DRAWS} draws of the data: "
            f"give {least} or {least + DRAWS}, or vary only init"
        )


def seeds_of(first: int, count: int, vary: tuple[Factor, ...] | None) -> dict[str, dict[int, int]]:
    """{setting: {network: seed}} of what does not follow from the number alone; see the module.

    The seeds of draws come after those of the weights, so that no number is used for both.
    """
    factors = varied(count, vary)
    if factors == ("init",):
        return {}
    weights = _weights(count, factors)
    numbers = range(first, first + count)
    found = {"weights_seed": {n: first + (n - first) % weights for n in numbers}}
    for factor, setting in OF_DATA.items():
        if factor in factors:
            found[setting] = {n: first + weights + (n - first) // weights for n in numbers}
    return found


def weights_of(first: int, count: int, vary: tuple[Factor, ...] | None) -> dict[int, int]:
    """By network, the seed of its initial weights."""
    own = seeds_of(first, count, vary).get("weights_seed")
    return own or {n: n for n in range(first, first + count)}


def same_data(first: int, count: int, vary: tuple[Factor, ...] | None, network: int) -> list[int]:
    """The networks of the same draw."""
    weights = _weights(count, varied(count, vary))
    begin = first + (network - first) // weights * weights
    return list(range(begin, min(begin + weights, first + count)))


def _weights(count: int, factors: tuple[Factor, ...]) -> int:
    """How many initial weights there are."""
    if "init" not in factors:
        return 1
    return count if len(factors) == 1 else count // DRAWS
