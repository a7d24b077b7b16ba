"""What every head, position or path does to a network's answer: ablations and patches, all of them.

For any `ih.Network`, trained here or read by `ih.pretrained`. Each function runs one compiled
program, a few interventions at a time, so that memory does not grow with their number:

    ablations             each head removed, with all attention patterns kept or not
    activation_patching   each place of a site with what it has in another pass (Vig et al. 2020;
                          Meng et al. 2022, "causal tracing")
    path_patching         each earlier head as one later head reads it (Wang et al. 2023)
    attribution_patching  activation patching to first order, from one gradient (Nanda 2023)

What is measured is a `Metric`, one number for each sequence: the loss, a difference of two logits,
or a function of your own. Results are xarray datasets with a dimension `sequence`.

Glossary: B sequences of T positions, L layers of H heads, C labels or tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from ih_jax import errors, platforms
from ih_jax.clamps import many
from ih_jax.clamps.holds import Holds
from ih_jax.clamps.many import ALL, WITH_HEADS, Metric
from ih_jax.clamps.patching import INPUTS, checked_readers, count_of, refuse_other_size
from ih_jax.data.batches import Batch, Sequences, Tokens
from ih_jax.errors import UserError, unknown, whole, wholes
from ih_jax.measures.removal import Kind
from ih_jax.model.activations import Activations
from ih_jax.model.sites import GLOBAL_SITES, SITES, Sites, to_public
from ih_jax.sweeps.chunk import compiler_options
from ih_jax.sweeps.network import OWN, Held, Network
from ih_jax.tasks.fewshot import FewShot
from ih_jax.tasks.fewshot_scores import NO_ANSWER

Source = Sequences | Activations | Network  # as `Network.patch` takes it
MOST_LOGIT_BYTES = 1e9  # bytes of the logits of interventions that run together, at most


# --- what is measured ---------------------------------------------------------------------------


def losses(logits: Array, batch: Sequences) -> Array:
    """[B] nats: the mean loss of the next token, or a few-shot query's, of logits [B, T, C]."""
    log_p = jax.nn.log_softmax(logits, axis=-1)
    if isinstance(batch, Batch):
        return -jnp.take_along_axis(log_p[:, -1], batch.labels[:, -1:], axis=-1)[:, 0]
    if not isinstance(batch, Tokens):
        raise UserError("sequences of vectors have no loss of their own: give a metric")
    then = batch.tokens[:, 1:, None]
    return -jnp.take_along_axis(log_p[:, :-1], then, axis=-1).mean((1, 2))


@dataclass(frozen=True)
class _LossesAmong:
    """`losses` where only the first so many labels can be an answer (`FewShot.logits`)."""

    labels: int

    def __call__(self, logits: Array, batch: Sequences) -> Array:
        return losses(
            jnp.where(jnp.arange(logits.shape[-1]) < self.labels, logits, NO_ANSWER), batch
        )


def _for(network: Network, metric: Metric) -> Metric:
    """The metric; of `losses` that of the network's task, as `network.loss` has it."""
    task = network.task
    if metric is losses and isinstance(task, FewShot) and task.labels < network.config.labels:
        return _LossesAmong(task.labels)
    return metric


@dataclass(frozen=True)
class _Difference:
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    position: int

    def __call__(self, logits: Array, batch: Sequences) -> Array:
        B, T, C = logits.shape
        if not -T <= self.position < T:
            raise UserError(
                f"logit_difference: position is {self.position}: give one of {-T} to {T - 1}"
            )
        for name, each in (("right", self.right), ("wrong", self.wrong)):
            if len(each) not in (1, B):
                raise UserError(
                    f"logit_difference: {name} has {len(each)} entries: give one, or one for each "
                    f"of {B} sequences"
                )
            if max(each) >= C:
                raise UserError(f"logit_difference: {name} is {max(each)}: give 0 to {C - 1}")
        at = logits[:, self.position]  # [B, C]
        right, wrong = (
            jnp.take_along_axis(at, jnp.broadcast_to(jnp.array(each), len(at))[:, None], axis=-1)
            for each in (self.right, self.wrong)
        )
        return (right - wrong)[:, 0]


def logit_difference(
    right: int | Sequence[int], wrong: int | Sequence[int], position: int = -1
) -> Metric:
    """A metric, [B]: the logit of the right token or label less that of a wrong one.

    Args:
        right, wrong: one for all sequences, or one for each.
        position: where, from the end if negative.

    Raises:
        UserError: these are no whole numbers; or, when measured, the network has no such token or
            label, sequences no such position, or there are neither one nor B of them.
    """
    several = [np.atleast_1d(np.array(each, dtype=object)).tolist() for each in (right, wrong)]
    return _Difference(
        tuple(wholes("right", several[0])),
        tuple(wholes("wrong", several[1])),
        whole("position", position, least=-errors.LARGEST),
    )


# --- interventions ------------------------------------------------------------------------------


def ablations(
    network: Network,
    batch: Sequences,
    kind: Kind = "patterns",
    metric: Metric = losses,
    clamp: Held = OWN,
) -> xr.Dataset:
    """What the answer is without each head.

    Args:
        network: any.
        batch: B sequences.
        kind: "patterns" keeps all attention patterns as they were with the head, "full" computes
            everything after it again (`measures.removal`).
        metric: what is measured; it sees the whole batch, and is not run on other sequences.
        clamp: what is held beside, as elsewhere.

    Returns:
        `before` [sequence], of the whole network, and `after` [layer, head, sequence].

    Raises:
        UserError: there is no such kind, or the metric does not give [B].
    """
    metric = _for(network, metric)
    if kind not in get_args(Kind):
        raise unknown("kind", kind, get_args(Kind))
    config, holds = network.config, network.holds(clamp)
    where = many.places(range(config.layers), range(config.heads))
    at_once = _at_once(network, batch, holds)
    with platforms.matmul_precision(jax.default_backend()):
        before, after = _program(many.without_each, batch.positions)(
            network.params,
            batch,
            holds,
            where,
            kept=kind,
            metric=metric,
            at_once=at_once,
        )
    return _dataset(before, after, {"layer": config.layers, "head": config.heads})


def activation_patching(
    network: Network,
    batch: Sequences,
    source: Source,
    site: str = "z",
    each_position: bool = False,
    metric: Metric = losses,
    clamp: Held = OWN,
) -> xr.Dataset:
    """What the answer is with each layer, head and position of a site as in another pass.

    Args:
        network: any.
        batch: B sequences.
        source: other sequences (the corrupted prompts, or the clean ones), another network, or
            activations, as in `Network.patch`; as many sequences and positions.
        site: any but "logits"; at sites without heads, whole layers are patched.
        each_position: each position by itself, not all of them together; at "attn_scores" and
            "pattern" that of the query.
        metric, clamp: as `ablations`.

    Returns:
        `before` [sequence]; `source` [sequence], of the other pass by the same metric; and `after`
        [layer, head, position, sequence], without the dims that do not apply.

    Raises:
        UserError: the network has no such site, or the passes differ in size.
    """
    metric = _for(network, metric)
    config, holds = network.config, network.holds(clamp)
    other = _source(network, batch, source, site, clamp)
    heads = range(config.heads) if site in WITH_HEADS else (ALL,)
    positions = range(batch.positions) if each_position else (ALL,)
    where = many.places(range(len(other[site])), heads, positions)
    at_once = _at_once(network, batch, holds)
    with platforms.matmul_precision(jax.default_backend()):
        before, after = _program(many.patched_each, batch.positions)(
            network.params,
            batch,
            holds,
            {site: other[site]},
            where,
            site=site,
            metric=metric,
            at_once=at_once,
        )
    dims = {"layer": len(other[site]), "head": len(heads), "position": len(positions)}
    return _dataset(before, after, _there(dims, site, each_position), _of(other, batch, metric))


def path_patching(
    network: Network,
    batch: Sequences,
    source: Source,
    reader: tuple[int, int] | Sequence[tuple[int, int]] | str = "logits",
    inputs: Sequence[str] = INPUTS,
    metric: Metric = losses,
    clamp: Held = OWN,
) -> xr.Dataset:
    """What the answer is when a later head reads of each earlier one what it writes elsewhere.

    Only the direct path is patched, as in `Network.patch_path`: all between the two heads stays as
    it was.

    Args:
        network: any whose heads write to the stream through no norm (not Gemma 2, OLMo 2,
            opt-350m).
        batch, source: as `activation_patching`.
        reader: (layer, head), several of one layer, or "logits".
        inputs: through which of "q", "k" and "v" it reads; all three by default.
        metric, clamp: as `ablations`.

    Returns:
        `before` and `source` as `activation_patching`, and `after` [layer, head, sequence], by
        layer and head of the one that writes, in layers before the reader's.

    Raises:
        UserError: the network has no such head, or none before it, inputs are none of these, or the
            passes differ in size.
    """
    metric = _for(network, metric)
    network.check_paths()
    config, holds = network.config, network.holds(clamp)
    readers = checked_readers(config, reader, inputs)
    other = _source(network, batch, source, "z", clamp)
    layers = config.layers if readers is None else readers[0]
    where = many.places(range(layers), range(config.heads))
    at_once = _at_once(network, batch, holds)
    with platforms.matmul_precision(jax.default_backend()):
        before, after = _program(many.paths_each, batch.positions)(
            network.params,
            batch,
            holds,
            {"z": other["z"]},
            where,
            readers=readers,
            inputs=tuple(name for name in INPUTS if name in inputs),
            metric=metric,
            at_once=at_once,
        )
    dims = {"layer": layers, "head": config.heads}
    return _dataset(before, after, dims, _of(other, batch, metric))


def attribution_patching(
    network: Network,
    batch: Sequences,
    source: Source,
    site: str = "z",
    metric: Metric = losses,
    clamp: Held = OWN,
) -> xr.Dataset:
    """What `activation_patching` of each place would add to the answer, to first order.

    The metric's gradient at the site times the difference between the passes: two passes forwards
    and one back, however many places there are. Exact as the passes come close to each other; far
    apart, where attention saturates, it may be wrong even in sign: check what matters by patching.

    Args:
        network, batch, source, site, metric, clamp: as `activation_patching`.

    Returns:
        `before` and `source` as there, and `change` [layer, head, position, sequence], an estimate
        of `after - before` at each position; sums over positions estimate whole heads. Without the
        dim head at sites that have none.

    Raises:
        UserError: as `activation_patching`.
    """
    metric = _for(network, metric)
    holds = network.holds(clamp)
    other = _source(network, batch, source, site, clamp)
    with platforms.matmul_precision(jax.default_backend()):
        before, change = _program(many.attributed, batch.positions)(
            network.params,
            batch,
            holds,
            {site: other[site]},
            site=site,
            metric=metric,
        )
    dims = dict(zip(("layer", "head", "position"), change.shape, strict=False))
    dims = _there(dims, site, each_position=True)
    return _dataset(before, change, dims, _of(other, batch, metric), name="change")


# --- helpers ------------------------------------------------------------------------------------


@cache
def _program(function: Callable[..., Any], tokens: int) -> Callable[..., Any]:
    """Compiled once for each shape, site and metric."""
    arrays = ("params", "batch", "holds", "source", "where")
    static = [name for name in inspect.signature(function).parameters if name not in arrays]
    options = compiler_options(jax.default_backend(), tokens)
    return jax.jit(function, static_argnames=static, compiler_options=options)


def _at_once(network: Network, batch: Sequences, holds: Holds) -> int:
    """How many interventions run together: what fills the machine, and fits its memory."""
    if holds.across:  # sequences of one intervention see each other, and those of no other
        return 1
    tokens = count_of(batch) * batch.positions
    most = min(platforms.here().probe_tokens, MOST_LOGIT_BYTES / (4 * network.config.labels))
    return max(1, int(most // tokens))


def _source(network: Network, batch: Sequences, source: Source, site: str, clamp: Held) -> Sites:
    if site not in SITES or site == "logits":
        raise unknown("site", site, SITES[:-1])
    found = network.pass_of(batch, source, clamp)
    if not found[site]:
        raise UserError(f"the model has no {site}: it has no MLPs (Config.mlp_ratio is None)")
    for value in found[site]:
        refuse_other_size(value, site, batch)
    return found


def _of(source: Sites, batch: Sequences, metric: Metric) -> Array:
    """[B], of the other pass."""
    return many.checked(metric, to_public("logits", source["logits"][0]), batch)


def _there(dims: dict[str, int], site: str, each_position: bool) -> dict[str, int]:
    """The dims that apply."""
    none = {"layer": site in GLOBAL_SITES, "head": site not in WITH_HEADS}
    none["position"] = not each_position
    return {dim: size for dim, size in dims.items() if not none[dim]}


def _dataset(
    before: Array,
    after: Array,
    dims: dict[str, int],
    source: Array | None = None,
    name: str = "after",
) -> xr.Dataset:
    each = np.asarray(after).reshape(*dims.values(), len(before))
    found = {"before": ("sequence", np.asarray(before)), name: ((*dims, "sequence"), each)}
    if source is not None:
        found["source"] = ("sequence", np.asarray(source))
    return xr.Dataset(found, {dim: np.arange(size) for dim, size in dims.items()})
