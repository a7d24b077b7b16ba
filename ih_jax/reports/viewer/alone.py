"""One network at one checkpoint as a view for notebooks: `Network.view` and `Network.attention`.

What it shows of each sequence is what `Network.activations` and `Network.head_logits` give; scores
of heads and composition are the measures that the page of a run has.

Glossary: K sequences shown, T tokens, L layers, H heads, C labels or tokens, P = T (T + 1) / 2
pairs of a query and a key that is not after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.patching import head_at
from ih_jax.data.batches import Batch, Sequences, Tokens, Vectors
from ih_jax.errors import UserError, given, unknown
from ih_jax.measures.circuits import baseline
from ih_jax.model.activations import Activations
from ih_jax.model.attribution import logit_parts
from ih_jax.reports.viewer import describing, looking, packing, tokens
from ih_jax.reports.viewer.gathering import EXCLUDED
from ih_jax.reports.viewer.looking import Kind
from ih_jax.reports.viewer.page import page
from ih_jax.reports.viewer.viewing import View
from ih_jax.sweeps.network import Network
from ih_jax.tasks.fewshot import FewShot
from ih_jax.tasks.language import Language

SHOWN = ("attention", "logits", "scores", "wiring")
MOST_SEQUENCES = 12
FINE = 1_000_000  # numbers of patterns, up to which they have 16 bits; beyond, 8
MOST_NUMBERS = 4_000_000
HEIGHT = 520  # pixels, until the view says how high it is


def draw(
    network: Network,
    batch: Sequences,
    show: str | Sequence[str],
    clamp: Clamp,
    activations: Activations,
    head: tuple[int, int] | None = None,
) -> View:
    """The view of a network on a batch; see `Network.view` for what is shown.

    Args:
        network: the network.
        batch: the sequences that `activations` are of.
        show: some of SHOWN, or one.
        clamp: what was held in that pass.
        activations: of the pass, or of a patch.
        head: (layer, head) that is looked at first; None: the one that looks most like an induction
            head on this batch.

    Raises:
        UserError: there is no such view or head, or the activations are of another batch.
    """
    if not isinstance(show, Sequence) or not show:
        raise UserError(f"show is {given(show)}: give one or more of {', '.join(SHOWN)}")
    wanted = [show] if isinstance(show, str) else list(show)
    for name in wanted:
        if name not in SHOWN:
            raise unknown("view", name, SHOWN)
    config = network.config
    if head is not None:
        head = head_at(head, config)
    kind = _kind(network, batch)
    if not isinstance(activations, Activations):
        raise UserError(
            f"activations is {given(activations)}: give those of a pass, such as "
            "network.activations(batch)"
        )
    patterns = np.stack([np.asarray(each) for each in activations.pattern], 1)  # [B, L, H, T, T]
    B, L, H, T, _ = patterns.shape
    if (_count(batch), batch.positions) != (B, T) or activations.logits is None:
        raise UserError(
            f"activations of {B} sequences of {T} tokens for a batch of {_count(batch)} of "
            f"{batch.positions}: give those of a whole pass on this batch"
        )
    K = max(1, min(B, MOST_SEQUENCES, MOST_NUMBERS // (L * H * T * (T + 1) // 2)))
    q, k = looking.lower_triangle(T)
    some = patterns[:K][..., q, k]
    arrays = {"pattern": packing.pack(some[None], 16 if some.size <= FINE else 8, 0.0, 1.0)}
    if "logits" in wanted:
        task = network.task
        answers = task.labels if isinstance(task, FewShot) else config.labels
        arrays |= _of_logits(kind, batch, activations, K, answers)
    about, vocabulary = _sequences(network, kind, batch, K)
    strongest = _strongest(kind, batch, patterns) if head is None else head
    notes = [f"{K} of the batch's {B} sequences are shown."] if K < B else []
    if "logits" in wanted and kind != "other":
        try:
            arrays["added"] = _added(network, batch, activations, K)
        except UserError as error:  # a network whose layers normalise the stream
            notes.append(f"Not shown: {error}.")
    if "scores" in wanted or "wiring" in wanted:
        try:
            arrays |= _of_heads(network, kind, batch, clamp)
        except UserError as error:  # sequences too short for a measure, say
            notes.append(f"Scores of heads and wiring cannot be shown: {error}.")
    held = clamp.describe() if clamp.parts else "nothing held"
    sweep = {
        **about,
        "kind": kind,
        "vocabulary": vocabulary,
        "said": f"{network.seen:,.0f} {_unit(network)} seen; {held}",
        "notes": notes,
        "hard": {},
        "axes": {},
        "unit": 1,
        "over": _unit(network),
        "scores": [vars(score) for score in looking.SCORES[kind]],
        "composition": looking.COMPOSITION[kind],
        "baseline": 0.0 if kind == "language" else baseline(config.d_model),
        "probe": looking.PROBE[kind],
        "runs": [
            {
                "id": 0,
                "names": {},
                "clamp": clamp.describe(),
                "held": describing.held(clamp),
                "layers": L,
                "heads": H,
                "length": T,
                "steps": [network.seen],
                "details": [network.seen],
                "sequences": 0,
                "found": {"strongest": [int(i) for i in strongest]},
            }
        ],
    }
    views = [
        "text" if name == "logits" and kind == "language" else name
        for name in SHOWN
        if name in wanted and (name != "wiring" or L > 1)
    ]
    title = network.name or "network"
    text = page(title, [sweep], {"0/run-0": packing.blob(arrays)}, views)
    layers = f"{L} layer{'s' * (L > 1)} of {H} head{'s' * (H > 1)}"
    said = f"{', '.join(wanted)} of {title}: {layers}, {K} sequence{'s' * (K > 1)} of {T} tokens"
    return View(text, said, HEIGHT)


def _kind(network: Network, batch: Sequences) -> Kind:
    if isinstance(batch, Batch):
        return "fewshot"
    language = network.task is None or isinstance(network.task, Language)
    return "language" if isinstance(batch, Tokens) and language else "other"


def _unit(network: Network) -> str:
    return "sequences" if network.task is None else network.task.unit


def _count(batch: Sequences) -> int:
    first = {Batch: "labels", Tokens: "tokens", Vectors: "vectors"}[type(batch)]
    return len(getattr(batch, first))


# --- what is seen of each sequence ----------------------------------------------------------------


def _of_logits(
    kind: Kind, batch: Sequences, activations: Activations, K: int, answers: int
) -> dict[str, packing.Packed]:
    """Logits of the first K sequences, or what a model of language would have said.

    `answers`: how many of a few-shot network's logits can be one, the first ones.
    """
    logits = np.asarray(activations.logits)[:K]  # [K, T, C]
    if kind == "other":
        return {"logits": packing.pack(logits[None])}
    if kind == "fewshot":
        used = np.arange(logits.shape[-1]) < answers
        shown = np.where(used & (logits > EXCLUDED), logits, np.nan)
        return {"logits": packing.pack(shown[None])}
    assert isinstance(batch, Tokens)
    following = np.asarray(batch.tokens)[:K, 1:]
    log_p = np.asarray(jax.nn.log_softmax(logits[:, :-1]))
    said = log_p.argsort(-1)[..., : -looking.TOP - 1 : -1]
    loss = -np.take_along_axis(log_p, following[..., None], -1)[..., 0]
    return {
        "loss": packing.pack(loss[None]),
        "said": packing.indices(said[None]),
        "said_p": packing.pack(np.exp(np.take_along_axis(log_p, said, -1))[None], 16, 0.0, 1.0),
    }


def _added(network: Network, batch: Sequences, activations: Activations, K: int) -> packing.Packed:
    """What each head adds to the query's logits, or to that of the token that follows."""
    few = jax.tree.map(lambda x: x[:K], activations)
    heads = np.asarray(logit_parts(network.params, few)["heads"])  # [L, H, K, T, C]
    if not isinstance(batch, Tokens):
        return packing.pack(heads[:, :, :, -1].transpose(2, 0, 1, 3)[None])
    following = np.asarray(batch.tokens)[:K, 1:]
    centred = (heads - heads.mean(-1, keepdims=True))[:, :, :, :-1]
    added = np.take_along_axis(centred, following[None, None, ..., None], -1)[..., 0]
    return packing.pack(added.transpose(2, 3, 0, 1)[None])


def _sequences(
    network: Network, kind: Kind, batch: Sequences, K: int
) -> tuple[dict[str, Any], list[str]]:
    """The sequences and pictures of their exemplars as the page has them, and the vocabulary."""
    none: dict[str, Any] = {"what": "", "of": {}}
    outputs = network.config.labels
    if isinstance(batch, Batch):
        names = tokens.labels(outputs)
        own, tiles = _of_exemplars(network, batch, K)
        return {"sequences": [own], "tiles": tiles}, names
    if kind == "language":
        assert isinstance(batch, Tokens)
        task = network.task
        names = [*map(str, range(outputs))]
        names = tokens.names(task) if isinstance(task, Language) else names
        of_tokens = np.asarray(batch.tokens)[:K].tolist()
        return {"sequences": [{"tokens": of_tokens}], "tiles": none}, names
    if isinstance(batch, Tokens):
        words = [[str(each) for each in row] for row in np.asarray(batch.tokens)[:K].tolist()]
    elif batch.labels is None:
        words = [[f"x{i}" for i in range(batch.positions)]] * K
    else:
        words = [
            [f"x{i}" if label < 0 else f"label {label}" for i, label in enumerate(row)]
            for row in np.asarray(batch.labels)[:K].tolist()
        ]
    return {"sequences": [{"names": words}], "tiles": none}, [*map(str, range(outputs))]


def _of_exemplars(network: Network, batch: Batch, K: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sequences as rows of pictures: drawings where the task has them, else swatches of features.

    Exemplars with the same features have the same picture.
    """
    labels = np.asarray(batch.labels)[:K]
    if batch.rows is not None and _of_training(network, batch):
        rows = np.asarray(batch.rows)[:K]
        made, what = tokens.tiles(network.task, np.unique(rows).tolist())  # type: ignore[arg-type]
    else:
        features = np.asarray(batch.examples)[:K]
        flat = features.reshape(-1, features.shape[-1])
        unique, inverse = np.unique(flat, axis=0, return_inverse=True)
        rows = inverse.reshape(labels.shape)
        made, what = dict(enumerate(tokens.swatches(unique))), "swatches"
    classes = rows if batch.classes is None else np.asarray(batch.classes)[:K]
    own = {"labels": labels, "classes": classes, "rows": rows}
    urls = {f"0:{row}": url for row, url in made.items()}
    return {**{name: x.tolist() for name, x in own.items()}, "table": 0}, {"what": what, "of": urls}


def _of_training(network: Network, batch: Batch) -> bool:
    """Whether the batch's exemplars are rows of the table that the network trains on."""
    if not isinstance(network.task, FewShot):
        return False
    table = np.asarray(network.task.source("train").table)
    table = table.reshape(-1, table.shape[-1])
    return table.shape == batch.table.shape and bool(np.array_equal(table, batch.table))


# --- what is seen of heads ----------------------------------------------------------------------


def _strongest(kind: Kind, batch: Sequences, patterns: NDArray[Any]) -> tuple[int, int]:
    """(layer, head): which looks most like an induction head on this batch."""
    if isinstance(batch, Batch):
        right = np.asarray(batch.labels)[:, :-1] == np.asarray(batch.labels)[:, -1:]  # [B, P - 1]
        sign = np.where(right, 1.0, -1.0)[:, None, None]
        score = (patterns[..., -1, 1::2] * sign).sum(-1).mean(0)  # [L, H]
    elif isinstance(batch, Tokens):
        seen = np.asarray(batch.tokens)
        # Key j counts for query i if the token before j is that at i, and not in its own place.
        same = seen[:, :, None] == np.roll(seen, 1, axis=1)[:, None, :]
        same[:, :, 0] = False
        score = (patterns * np.tril(same)[:, None, None]).sum((-1, -2)).mean(0)
    else:
        return patterns.shape[1] - 1, 0
    layer, head = np.unravel_index(int(score.argmax()), score.shape)
    return int(layer), int(head)


def _of_heads(
    network: Network, kind: Kind, batch: Sequences, clamp: Clamp
) -> dict[str, packing.Packed]:
    """Scores and composition of heads, as the page of a run has them."""
    probe: Any = batch
    if network.task is not None:
        first = network.task.evaluation_names[0]
        probe = network.batch(looking.PROBE[kind], set=first)
    holds = clamp.arrays(network.config).at(network.seen)
    found = jax.jit(looking.everything(kind, (0,)))(network.params, holds, probe)
    wanted = {name: x for name, x in found.items() if name.startswith(("score_", "wiring"))}
    return {name: packing.pack(jnp.asarray(x)[None]) for name, x in wanted.items()}
