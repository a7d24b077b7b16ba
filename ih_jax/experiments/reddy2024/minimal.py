"""An induction head of two parameters, and the three nested logits by which it learns to copy.

Paper: Reddy 2024, sections "minimal model" and "the loss landscape of the induction head". The
equations below are derived here, from what the paper says of them (a head that is a previous-token
logit and a match logit; three nested logits of which the classifier is the third): the numbers of
its own equations (7 to 9) may be arranged otherwise.

N pairs of distinct classes and labels stand in the context, in orthonormal directions; the query
is the class of pair c, uniform. The first layer's head looks, at the label of pair i (from 0), at
the item before it with logit b1 and at each of the 2 i + 1 other tokens so far with logit 0; the
second one looks, from the query, at the labels, with b2 times what of the query's class each of
them then holds; the classifier gives label l the logit xi times the attention to it:

    a_i = s(b1 - ln(2 i + 1))                    share of the label's own item, s the sigmoid
    e_i = (1 - a_i) / (2 i + 1)                  of any other token so far
    q(c) = softmax_i(b2 m_i),  m_c = a_c, m_i = e_i for i > c, else 0
    loss = mean_c -ln(exp(xi q_c) / (sum_i exp(xi q_i) + L - N))

Each logit is inside the next. Gradient flow, d/dt (b1, b2, xi) = -grad loss, waits where the inner
ones are small. If there are more labels than pairs, xi grows from the start, since naming any label
of the context beats naming one of L: the loss falls from ln L towards ln N, and that is what makes
the other two gradients large. With L = N nothing is to be gained from it, and the flow waits at the
saddle. With xi held the first two are the induction head of two parameters.

Glossary of shapes: S times; parameters [3], b1, b2 and xi.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PARAMETERS = ("b1", "b2", "xi")
START = (0.01, 0.01, 0.01)
STEP = 0.1  # of time; halving it changes no number by more than 1e-7


def attention(b1: float, b2: float, pairs: int) -> tuple[Floats, Floats, Floats]:
    """q(c)_i, m and dm/db1, each [N, N], rows by the query's pair c."""
    others = 2 * np.arange(pairs) + 1.0
    own = 1 / (1 + others * np.exp(-b1))
    rest = (1 - own) / others
    later = np.triu(np.ones((pairs, pairs)), 1)
    match = np.diag(own) + later * rest
    slope = np.diag(own * (1 - own)) - later * rest * own
    scores = b2 * match
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True), match, slope


def loss(parameters: Sequence[float] | Floats, pairs: int, labels: int) -> float:
    """Nats, mean over which pair is asked for."""
    b1, b2, xi = parameters
    q, _, _ = attention(b1, b2, pairs)
    top = np.exp(xi * q)
    chosen = np.diag(top) / (top.sum(1) + labels - pairs)
    return float(-np.log(chosen).mean())


def attention_to_right(parameters: Sequence[float] | Floats, pairs: int) -> float:
    """Attention to the right label, mean over which pair is asked for."""
    return float(np.diag(attention(parameters[0], parameters[1], pairs)[0]).mean())


def gradient(parameters: Sequence[float] | Floats, pairs: int, labels: int) -> Floats:
    """[3], of `loss`."""
    b1, b2, xi = parameters
    q, match, slope = attention(b1, b2, pairs)
    top = np.exp(xi * q)
    p = top / (top.sum(1, keepdims=True) + labels - pairs)
    miss = p - np.eye(pairs)  # d loss / d (xi q)
    of_scores = q * xi * (miss - (miss * q).sum(1, keepdims=True))
    each = (b2 * of_scores * slope).sum(), (of_scores * match).sum(), (miss * q).sum()
    return np.array(each) / pairs


def flow(
    pairs: int,
    labels: int,
    until: float,
    start: Sequence[float] = START,
    held: Sequence[str] = (),
    step: float = STEP,
    points: int = 400,
) -> xr.Dataset:
    """Gradient flow of the parameters, by Runge and Kutta's method of fourth order.

    Args:
        pairs: N.
        labels: L, at least N.
        until: the last time.
        start: b1, b2 and xi at time 0.
        held: those that do not move: ("xi",) is the induction head of two parameters.
        step: at most so much time a step.
        points: S, times that are kept, from 0 on, equally far apart.

    Returns:
        b1, b2, xi, loss and attention (to the right label), [time].
    """
    if labels < pairs:
        raise ValueError(f"{pairs} pairs have distinct labels: give at least as many labels")
    moves = np.array([name not in held for name in PARAMETERS], float)

    def down(at: Floats) -> Floats:
        return -moves * gradient(at, pairs, labels)

    times = np.linspace(0, until, points)
    between = max(1, int(np.ceil(times[1] / step)))
    h = times[1] / between
    now = np.array(start, float)
    seen = [now]
    for _ in times[1:]:
        for _ in range(between):
            k1 = down(now)
            k2 = down(now + h / 2 * k1)
            k3 = down(now + h / 2 * k2)
            k4 = down(now + h * k3)
            now = now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        seen.append(now)
    path = np.stack(seen)
    found = {name: ("time", path[:, i]) for i, name in enumerate(PARAMETERS)}
    found["loss"] = ("time", np.array([loss(each, pairs, labels) for each in path]))
    found["attention"] = ("time", np.array([attention_to_right(each, pairs) for each in path]))
    return xr.Dataset(found, coords={"time": times})
