"""How well a trained network does when parts of it are removed or set: loss, accuracy, mistakes.

Paper: Singh et al. 2024, figs. 4a, 10 to 14 and 16, tables 1 to 3. The clamps of these analyses
stand *in place of* the one that a network was trained under, which is ignored: to keep what was
held in training, include it in them (fig. 10 ablates all but one head in both).

`under`, `mistakes` and `by_label` make a `measure(params, clamp, batch)` of one network, for
`Trajectories.measure` to map over runs and checkpoints. They take clamps as {name: clamp}, and
results are in that order; the functions at the end make the paper's clamps.

Glossary: K clamps, B sequences, C labels (logits), H heads; layers and heads count from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.clamps.kinds import ablate, induction, preserve
from ih_jax.data.batches import Batch
from ih_jax.errors import UserError
from ih_jax.measures.base import measure
from ih_jax.measures.probes import by_pieces
from ih_jax.measures.shared_passes import Passes, plan_passes, under_each
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import Sites
from ih_jax.tasks.fewshot_scores import METRICS, masked_logits, scores

Measure = Callable[[Params, Holds, Batch], dict[str, Array]]
Clamps = Mapping[str, Clamp]


def under(clamps: Clamps, config: Config, label_count: int | None = None) -> Measure:
    """A measure: loss (nats), accuracy and in_context_accuracy (shares) under each clamp, [K] each.

    They are `tasks.scores`, means over B (Singh et al. 2024, fig. 4a, accuracy; fig. 13, loss).

    Args:
        clamps: what to hold, by name, in place of the clamp of training.
        config: the networks' shape.
        label_count: labels in use, if the network has logits for more; None: all.

    Raises:
        UserError: there are no clamps, or one does not fit the model or is limited in time.
    """
    plan = _passes(clamps, config)
    used = None if label_count is None else np.asarray(label_count)

    @measure(dims=dict.fromkeys(METRICS, ("held",)), coords={"held": list(clamps)}, name="under")
    def of_network(params: Params, clamp: Holds, batch: Batch) -> dict[str, Array]:
        def of(piece: Batch) -> Array:
            return under_each(params, plan, piece, lambda sites: scores(sites, piece, used))

        found: Array = by_pieces(of, batch)
        return {metric: found[:, i] for i, metric in enumerate(METRICS)}

    return of_network


def _correct(params: Params, plan: Passes, batch: Batch, label_count: int | None) -> Array:
    """[K, B] bool: is the query's label the most likely one, under each clamp?"""
    used = None if label_count is None else np.asarray(label_count)

    def right(sites: Sites) -> Array:
        return jnp.argmax(masked_logits(sites, used), axis=0) == batch.labels[:, -1]

    return under_each(params, plan, batch, right)


def mistakes(clamps: Clamps, config: Config, label_count: int | None = None) -> Measure:
    """A measure: does one clamp get right what another gets wrong? Arguments as in `under`.

    With wrong_a(s) = 1 where sequence s is wrong under clamp a, and right_b = 1 - wrong_b:

        wrong [K]         mean over s of wrong_a(s); the accuracy is 1 less this
        missed [K]        their number, sum over s
        rescued [K, K]    a, b: mean over s of wrong_a(s) right_b(s); 0 on the diagonal
        corrected [K, K]  a, b: rescued / wrong_a, the share of a's mistakes that b gets right; NaN
                          where a makes none

    (Singh et al. 2024, tables 2 and 3, whose "ratio" is corrected over b's accuracy: 1 where the
    mistakes of a and b are independent.)
    """
    plan = _passes(clamps, config)

    names = list(clamps)

    @measure(
        dims={
            "wrong": ("held",),
            "missed": ("held",),
            "rescued": ("held", "other"),
            "corrected": ("held", "other"),
        },
        coords={"held": names, "other": names},
        name="mistakes",
    )
    def of_network(params: Params, clamp: Holds, batch: Batch) -> dict[str, Array]:
        def of(piece: Batch) -> tuple[Array, Array]:
            right = _correct(params, plan, piece, label_count).astype(jnp.float32)
            wrong = 1 - right
            return wrong.mean(1), jnp.einsum("ab,cb->ac", wrong, right) / right.shape[1]

        wrong, rescued = by_pieces(of, batch)
        return {
            "wrong": wrong,
            "missed": jnp.round(wrong * len(batch.labels)),
            "rescued": rescued,
            "corrected": rescued / wrong[:, None],
        }

    return of_network


def by_label(clamps: Clamps, config: Config, label_count: int | None = None) -> Measure:
    """A measure: which labels mistakes are made on, under each clamp. Arguments as in `under`.

        label_accuracy [K, C]  accuracy on the sequences whose right label this is; NaN if there are
                               none
        mistake_share [K, C]   share of a clamp's mistakes whose right label this is: sums to 1 over
                               labels; NaN if there are no mistakes

    (Singh et al. 2024, fig. 16b and c.)
    """
    plan = _passes(clamps, config)

    @measure(
        dims=dict.fromkeys(("label_accuracy", "mistake_share"), ("held", "label")),
        coords={"held": list(clamps)},
        name="by_label",
    )
    def of_network(params: Params, clamp: Holds, batch: Batch) -> dict[str, Array]:
        def of(piece: Batch) -> tuple[Array, Array]:
            right = _correct(params, plan, piece, label_count)
            target = piece.labels[:, -1:] == jnp.arange(config.labels)[None]  # [B, C]
            return target.mean(0), (right[..., None] & target[None]).mean(1)

        asked, right = by_pieces(of, batch)  # [C], [K, C]: shares of all sequences
        wrong = asked[None] - right
        # Rounding errors of means over pieces must not look like mistakes.
        wrong = jnp.round(wrong * len(batch.labels))
        return {
            "label_accuracy": right / asked[None],
            "mistake_share": wrong / wrong.sum(1, keepdims=True),
        }

    return of_network


def _passes(clamps: Clamps, config: Config) -> Passes:
    if not clamps:
        raise UserError("no clamps to measure under: give one or more, as {name: clamp}")
    for name, clamp in clamps.items():
        if any(hold.start is not None for hold in clamp.arrays(config).holds):
            raise UserError(
                f"clamp {name!r} is limited in time, a trained network is not: leave during() out"
            )
    return plan_passes(clamps, config)


# --- the paper's clamps, by name ----------------------------------------------------------------


def ablate_one(heads: int, layer: int = 1) -> dict[str, Clamp]:
    """One of H heads ablated, each in turn: "without_l1h0" ... (fig. 4a, triangles)."""
    return {f"without_l{layer}h{h}": ablate(layer, h) for h in range(heads)}


def leave_one(heads: int, layer: int = 1) -> dict[str, Clamp]:
    """All but one of H heads ablated, each in turn: "only_l1h0" ... (fig. 4a, circles)."""
    return {f"only_l{layer}h{h}": ablate_but(layer, [h], heads) for h in range(heads)}


def perfect_match(heads: int, layer: int = 1) -> dict[str, Clamp]:
    """`leave_one` with that head's pattern perfect: "match_l1h0" ... (fig. 16, table 3)."""
    return {
        f"match_l{layer}h{h}": ablate_but(layer, [h], heads) & induction(layer, h)
        for h in range(heads)
    }


def direct_path(heads: int) -> dict[str, Clamp]:
    """What each of two layers adds by itself to the logits (fig. 12 and section 3.1).

    "direct_l0": layer 0 is ablated for the logits only: layer 1 has the patterns and values of a
    clean pass. "without_l1": layer 1 is ablated, so that only the direct paths are left. What a
    layer adds is the loss under its clamp less that of the clean network.
    """
    every = range(heads)
    return {
        "direct_l0": ablate(0, every) & preserve("patterns", "values"),
        "without_l1": ablate(1, every),
    }


def paths_of(groups: Mapping[str, Sequence[int]]) -> dict[str, Clamp]:
    """Groups of heads of layer 0 ablated, by what layer 1 still sees of them (table 1).

    "without_NAME_pp": patterns preserved, so that layer 1 misses them in its values (V-composition)
    only; "without_NAME_pv": values preserved, so that it misses them in its queries and keys only.
    """
    return {
        f"without_{name}_{short}": (ablate(0, heads) if heads else Clamp()) & preserve(kept)
        for name, heads in groups.items()
        for short, kept in (("pp", "patterns"), ("pv", "values"))
    }


def wiring(heads: int, only: Sequence[int] | None = None) -> dict[str, Clamp]:
    """Which heads k of layer 0 a head h of layer 1 works with (fig. 11): H (1 + 4 H) clamps.

    Every other head of layer 1 is ablated, and the names are those of the authors' notebook:
    "only_l1h3" (nothing else), "only_l1h3_remove_l0h2_pv" (k ablated), and
    "only_l1h3_remove_allbut_l0h2_pv" (all others of layer 0 ablated); pp: with patterns preserved,
    pv: with values preserved (see `paths_of`). Patterns and values are those of a pass in which
    nothing is ablated.

    Args:
        heads: H, the same in both layers.
        only: which h; None: all.
    """
    made = {}
    for h in range(heads) if only is None else only:
        alone = ablate_but(1, [h], heads)
        made[f"only_l1h{h}"] = alone
        for k in range(heads):
            for short, kept in (("pp", "patterns"), ("pv", "values")):
                less = alone & preserve(kept)
                made[f"only_l1h{h}_remove_l0h{k}_{short}"] = less & ablate(0, k)
                made[f"only_l1h{h}_remove_allbut_l0h{k}_{short}"] = less & ablate_but(0, [k], heads)
    return made


def add_back(order: Sequence[int], heads: int, layer: int = 1) -> dict[str, Clamp]:
    """The first 1, 2 ... of `order` left, all other heads of the layer ablated (fig. 14).

    Named by the heads left: "3", "3+1", "3+1+2" ...
    """
    return {
        "+".join(map(str, order[:count])): ablate_but(layer, order[:count], heads)
        for count in range(1, len(order) + 1)
    }


def ablate_but(layer: int, left: Sequence[int], heads: int) -> Clamp:
    """All heads of a layer but these ablated; `Clamp()` if there is none to ablate.

    Raises UserError for a head that the layer does not have.
    """
    beyond = sorted(set(left) - set(range(heads)))
    if beyond:
        raise UserError(f"heads {beyond} are out of range: give 0..{heads - 1}")
    rest = [h for h in range(heads) if h not in left]
    return ablate(layer, rest) if rest else Clamp()
