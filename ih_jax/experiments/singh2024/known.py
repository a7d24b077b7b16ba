"""Numbers of others: the tables of Singh et al. 2024, and eight networks of their authors' code.

The paper's are printed by the authors' notebooks or read off its figures (times to within 3,000
sequences, losses to .005), for initialisation seeds 5 to 9. The others were trained for a million
sequences with the authors' code, initialisation seeds 5 to 12, on Omniglot features of another
network, and measured as ours are, on every seventh training sequence: `authors.json`. Claims are
tried on both before ours are looked at.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
from collections.abc import Callable

import numpy as np
import xarray as xr

from ih_jax.claims import Bounds, Reported, time_of

SEEDS = (5, 6, 7, 8, 9)
K = 1_000.0

# Fig. 3b: strength of each head of layer 1 at the end. [seed, head]
STRENGTH = np.array(
    [
        [0.4181, 0.7359, 0.7083, 0.8452, 0.2888, 0.5533, 0.1039, 0.5703],
        [0.3188, 0.6106, 0.3148, 0.0566, 0.0610, 0.8934, 0.6970, 0.2674],
        [0.1513, 0.4942, 0.0844, 0.1755, 0.1482, 0.5487, 0.2873, 0.9057],
        [0.6334, 0.7993, 0.2481, 0.5888, 0.3304, 0.6521, 0.6192, 0.3923],
        [0.0772, 0.1923, 0.8247, 0.4971, 0.5397, 0.3723, 0.4045, 0.1609],
    ]
)
# Fig. 4a: accuracy with this head of layer 1 alone; with the strongest ablated; with all.
ONLY_ACCURACY = np.array(
    [
        [0.4032, 0.7651, 0.7517, 0.9802, 0.4285, 0.6465, 0.2916, 0.5885],
        [0.4463, 0.7316, 0.4840, 0.3742, 0.3510, 0.9924, 0.7769, 0.3992],
        [0.3704, 0.6285, 0.3412, 0.3702, 0.3460, 0.6823, 0.4215, 0.99907],
        [0.7845, 0.9328, 0.4478, 0.7190, 0.4982, 0.7240, 0.6927, 0.4554],
        [0.4166, 0.4220, 0.9158, 0.5846, 0.7200, 0.5742, 0.6433, 0.4967],
    ]
)
WITHOUT_STRONGEST = np.array([0.989, 0.945, 0.888, 0.993, 0.930])
ACCURACY = np.array([0.99998724, 0.99980867, 0.99998724, 0.9993112, 0.99760205])
# Section 3.1: accuracy with layer 0 ablated as the logits see it.
DIRECT_ACCURACY = np.array([0.9998597, 0.99936223, 0.99989796, 0.99834186, 0.99501276])
# Fig. 13: loss with this head alone, seeds 5 to 9.
ONLY_LOSS = np.array(
    [
        [1.46, 0.656, 0.657, 0.117, 1.40, 1.02, 1.935, 1.05],
        [1.395, 0.71, 1.30, 1.62, 1.62, 0.07, 0.61, 1.49],
        [1.75, 0.97, 1.87, 1.87, 1.92, 0.83, 1.56, 0.02],
        [0.61, 0.246, 1.33, 0.73, 1.23, 0.77, 0.79, 1.33],
        [1.35, 1.37, 0.24, 1.02, 0.755, 1.01, 0.885, 1.22],
    ]
)
NEVER = math.inf
# Fig. 4b: sequences to a loss of 0.4 ln 2 with this head alone (NEVER: not by a million), and all.
ALONE = K * np.array(
    [
        [380, 475, 402.5, 310, 335, 615, 575, 460],
        [595, 330, 520, 837.5, 990, 337.5, 390, 865],
        [705, 335, 732.5, 445, 645, 725, 540, 345],
        [450, 640, 870, 550, 735, 630, 680, 730],
        [740, NEVER, 390, 495, 570, 610, NEVER, 855],
    ]
)
ALL = K * np.array([275, 340, 285, 405, 525])
RELABEL = K * np.array([350, 385, 375, 465, 625])  # fig. 3a: the same on held-out label pairs

# Fig. 5b and its like, head 3 of layer 1: the same by what was clamped. Without a clamp and with
# previous-token attention four of these ended at 400,000; without one, fig. 6 trains on.
CLAMPED = {
    "none": K * np.array([311, 831, 441, 548, 491]),
    "layer1": K * np.array([79, 84, 73, 76, 87]),
    "match": K * np.array([33, 40, 38, 38, 47]),
    "copy": K * np.array([41, 50, 59, 62, 73]),
    "layer1+copy": K * np.array([28, 29, 20, 28, 31]),
}
# Fig. 6, head 3: by the number of classes (50, 100, 200) and of labels (5, 10, 15). [seed, number]
BY_CLASSES = {
    "none": [[307, 383, 416], [831, 1050, 1104], [441, 519, 630], [548, 665, 746], [491, 573, 626]],
    "layer1+copy": [[28, 31, 35], [28, 30, 31], [20, 22, 23], [27, 31, 33], [31, 33, 35]],
    "match": [[32, 33, 34], [38, 39, 41], [37, 37, 39], [38, 40, 38], [46, 47, 49]],
    "layer1": [[78, 92, 104], [84, 97, 105], [72, 81, 92], [75, 83, 87], [86, 103, 116]],
}
BY_LABELS = {
    "none": [
        [308, 877, 1426],
        [833, 998, 1884],
        [444, 1631, 1501],
        [550, 1453, 1219],
        [492, 1106, 1399],
    ],
    "match": [[33, 82, 119], [40, 75, 129], [38, 87, 124], [38, 82, 118], [47, 88, 127]],
    "layer1": [[79, 123, 160], [84, 138, 177], [73, 116, 163], [76, 116, 153], [87, 139, 178]],
}

# Fig. 16 and table 3, seed 5: accuracy of a head alone with a perfect match; by right label.
MATCH_ACCURACY = np.array([0.50048, 0.82805, 0.82728, 0.99926, 0.62097, 0.76430, 0.28459, 0.70702])
LABEL_ACCURACY = np.array(
    [
        [0.19, 0.71, 0.42, 0.74, 0.46],
        [0.94, 1.0, 0.255, 0.95, 0.955],
        [1.0, 0.51, 0.86, 0.76, 0.96],
        [1.0, 1.0, 1.0, 1.0, 1.0],
        [0.80, 0.27, 0.60, 0.66, 0.74],
        [0.89, 0.94, 0.145, 0.815, 0.965],
        [0.33, 0.50, 0.045, 0.33, 0.24],
        [0.925, 0.695, 0.36, 0.86, 0.70],
    ]
)
# Tables 2 and 3, seed 5: the share of the strongest's mistakes that a head gets right.
CORRECTED = np.array([0.2408, 0.6478, 0.7167, np.nan, 0.3297, 0.5641, 0.1661, 0.4610])
MATCH_CORRECTED = np.array([0.2414, 0.8621, 0.2069, np.nan, 0.2241, 0.5, 0.0, 0.4483])

# Fig. 11, seed 5: accuracy with one head of layer 1 and one of layer 0. [kept, head, early]
KEPT = ("pv", "pp")
PAIR = np.array(
    [
        [
            [0.3428, 0.2782, 0.3203, 0.2909, 0.2948, 0.2839, 0.2991, 0.2846],
            [0.3944, 0.4869, 0.6661, 0.3913, 0.4050, 0.5514, 0.4123, 0.4162],
            [0.4152, 0.4915, 0.5663, 0.4232, 0.3846, 0.4618, 0.3870, 0.3472],
            [0.4740, 0.7262, 0.9139, 0.4405, 0.5939, 0.7203, 0.4662, 0.4586],
            [0.3235, 0.2785, 0.2859, 0.3075, 0.2864, 0.2828, 0.2834, 0.2417],
            [0.4099, 0.4120, 0.5424, 0.3654, 0.3700, 0.4344, 0.3193, 0.3414],
            [0.2581, 0.2010, 0.2139, 0.2359, 0.2297, 0.2136, 0.2305, 0.2271],
            [0.3858, 0.4170, 0.4585, 0.3878, 0.3997, 0.4033, 0.3463, 0.3615],
        ],
        [
            [0.3248, 0.1968, 0.2068, 0.3181, 0.2398, 0.2166, 0.2817, 0.2428],
            [0.4350, 0.2403, 0.2207, 0.5325, 0.3379, 0.2174, 0.6256, 0.2678],
            [0.4736, 0.2053, 0.2261, 0.4535, 0.2818, 0.2212, 0.4061, 0.2447],
            [0.4381, 0.2025, 0.2341, 0.4135, 0.4034, 0.2168, 0.8240, 0.5723],
            [0.3082, 0.2043, 0.2128, 0.3020, 0.2311, 0.2143, 0.3276, 0.2551],
            [0.4333, 0.2140, 0.2173, 0.3823, 0.2622, 0.2051, 0.4440, 0.3424],
            [0.2555, 0.2078, 0.2207, 0.2282, 0.2319, 0.2116, 0.2325, 0.2134],
            [0.4413, 0.2040, 0.2062, 0.4397, 0.1969, 0.2078, 0.4194, 0.2400],
        ],
    ]
)
CHOSEN = (1, 2, 5)  # heads of layer 0 that the authors took for previous-token heads, by eye


def later(time: float, end: float = 1e6) -> Bounds:
    """A time as `Bounds`; NEVER: later than `end`."""
    return Bounds(end, math.inf) if time == NEVER else Bounds(time, time)


def time_in(one: xr.Dataset, name: str, along: str = "sequences", **where: object) -> Bounds:
    """When one network's curve `name` has learned; of a table, its `name`_time (inf: never)."""
    if f"{name}_time" in one:
        return later(float(one[f"{name}_time"].sel(where)))
    return time_of(one[name].sel(where).rename({along: "sequences"}))


def ablations() -> xr.Dataset:
    """Fig. 4 and 13 as `ablations.measure_with_heads_alone` has them, times instead of curves."""
    without = np.full(STRENGTH.shape, np.nan)
    without[range(len(SEEDS)), STRENGTH.argmax(1)] = WITHOUT_STRONGEST
    by_head = {
        "strength": STRENGTH,
        "only_accuracy": ONLY_ACCURACY,
        "only_loss": ONLY_LOSS,
        "without_accuracy": without,
        "alone_loss_time": ALONE,
    }
    return xr.Dataset(
        {
            **{name: (("init", "head"), values) for name, values in by_head.items()},
            "accuracy": ("init", ACCURACY),
            "loss_of_all_time": ("init", ALL),
        },
        {"init": list(SEEDS), "head": range(8)},
    )


def clamped() -> xr.Dataset:
    """Fig. 5b: time to learn by clamp, [clamp, init]."""
    times = np.stack(list(CLAMPED.values()))
    return xr.Dataset(
        {"loss_time": (("clamp", "init"), times)}, {"clamp": list(CLAMPED), "init": list(SEEDS)}
    )


def scaling() -> xr.Dataset:
    """Fig. 6: time to learn, [clamp, init, classes] and [clamp, init, labels]."""
    parts = [
        xr.Dataset(
            {f"loss_by_{axis}_time": (("clamp", "init", axis), K * np.array(list(of.values())))},
            {"clamp": list(of), "init": list(SEEDS), axis: numbers},
        )
        for axis, of, numbers in (
            ("classes", BY_CLASSES, [50, 100, 200]),
            ("labels", BY_LABELS, [5, 10, 15]),
        )
    ]
    return xr.merge(parts, join="outer", compat="no_conflicts")


def seed_5() -> xr.Dataset:
    """What the paper shows of its network 5 only: fig. 11, 16, tables 2 and 3; one init."""
    previous_token = np.isin(np.arange(8), CHOSEN).astype(float)
    corrected = np.full((8, 8), np.nan)
    corrected[3], match_corrected = CORRECTED, corrected.copy()
    match_corrected[3] = MATCH_CORRECTED
    found = xr.Dataset(
        {
            "strength": ("head", STRENGTH[0]),
            "previous_token": ("early", previous_token),
            "pair": (("kept", "head", "early"), PAIR),
            "only": ("head", ONLY_ACCURACY[0]),
            "accuracy": ("head", ONLY_ACCURACY[0]),
            "only_accuracy": ("head", ONLY_ACCURACY[0]),
            "match_accuracy": ("head", MATCH_ACCURACY),
            "label_accuracy": (("head", "label"), LABEL_ACCURACY),
            "corrected": (("head", "other"), corrected),
            "match_corrected": (("head", "other"), match_corrected),
        },
        {"kept": list(KEPT), "head": range(8), "early": range(8), "label": range(5)},
    )
    return found.expand_dims(init=[5])


def reported(value: Callable[[xr.Dataset], Bounds | float], table: xr.Dataset) -> Reported:
    """The paper's numbers: what a measure of ours gives of its table, one value a network."""
    each = [value(table.sel(init=seed)) for seed in table["init"].values.tolist()]
    return Reported(values=tuple(v if isinstance(v, Bounds) else float(v) for v in each))


@functools.cache
def authors(experiment: str) -> xr.Dataset:
    """What was measured of the networks of the authors' code, as this experiment has it of ours."""
    text = importlib.resources.files(__package__).joinpath("authors.json").read_text("utf-8")
    every = json.loads(text)
    own = every[experiment]
    arrays = {
        name: (each["dims"], np.array(each["values"], float)) for name, each in own["data"].items()
    }
    return xr.Dataset(arrays, {"init": every["init"], **own["coords"]})
