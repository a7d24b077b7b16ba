"""One network to look inside: its activations under any clamp, patches, and what heads add.

network = ih.load("runs/pulse").network(clamp="none", init=5)
batch = network.batch(8)
network.activations(batch).pattern[1]                    # [B, H, T, T]
network.patch(batch, network.batch(8, seed=1), "z", layer=0, heads=[1])
network.head_logits(batch).heads.sel(layer=1, head=3)
network.attention(batch)                                 # the last line of a cell shows it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ih_jax.clamps.apply import forward
from ih_jax.clamps.clamp import Clamp
from ih_jax.clamps.holds import Holds
from ih_jax.clamps.patching import INPUTS, patched, path_patched
from ih_jax.data.batches import Sequences
from ih_jax.errors import UserError, given, unknown
from ih_jax.model.activations import Activations, from_public, public
from ih_jax.model.attribution import logit_parts
from ih_jax.model.params import Config, Params
from ih_jax.model.sites import Sites
from ih_jax.sweeps.own_batches import check_count, own_batch
from ih_jax.sweeps.show import table
from ih_jax.tasks.base import Task

OWN = "own"
TRAIN = "train"
# "own": as the network was trained; None: nothing held; a clamp: that one in its place.
Held = Clamp | str | None


@dataclass(frozen=True, repr=False)
class Network:
    """One network: weights, the clamp that it was trained under, and its task.

    Build one from any weights with `Network(params)`, or take one from a run with
    `Trajectories.network`. All methods that run it take `clamp`: "own" (the default) is the clamp
    that it was trained under, None is no clamp, and any other `Clamp` stands in place of its own
    (`network.clamp & ih.ablate(1, 3)` adds to its own).
    """

    params: Params
    clamp: Clamp = field(default_factory=Clamp)
    task: Task | None = None
    seen: float = 0.0  # sequences or tokens, by which clamps with times are on or off
    name: str = ""  # which run it is, in words

    # What draws a network stands downstream: `ih_jax` puts `reports.viewer.alone.draw` here.
    _draw: ClassVar[Callable[..., Any]]

    def __post_init__(self) -> None:
        if not hasattr(self.params, "config"):
            raise UserError(
                f"params is {given(self.params)}: give weights, such as trajectories.params(run, "
                "step)"
            )

    @property
    def config(self) -> Config:
        """The shape of the network."""
        return self.params.config

    def with_params(self, params: Params) -> Network:
        """The same network with other weights, such as an edited copy."""
        return replace(self, params=params)

    # --- sequences ------------------------------------------------------------------------------

    def batch(self, sequences: int = 8, set: str = TRAIN, seed: int = 0) -> Any:
        """Sequences of its task, as the task draws them: `Batch`, `Tokens` or `Vectors`.

        Args:
            sequences: how many.
            set: "train", or an evaluation set of the task (`network.task.evaluation_names`).
            seed: other seeds give other sequences.

        Raises:
            UserError: the network has no task, or the task has no such set, or the set is empty.
        """
        task = self._task()
        check_count(sequences, seed, task.context_length, self.config)
        names = task.evaluation_names
        if set != TRAIN and set not in names:
            raise unknown("evaluation set", set, (TRAIN, *names))
        arrays, objective = task.run_arrays(), task.objective()
        chosen = arrays.train if set == TRAIN else arrays.evaluation[names.index(set)]
        source = jax.tree.map(jnp.asarray, chosen)
        if not bool(objective.has_sequences(source)):
            raise UserError(f"evaluation set {set!r} has no sequences: choose another")
        return objective.sample(jax.random.key(seed), source, sequences)

    def batch_of(
        self,
        examples: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        *,
        vectors: ArrayLike | None = None,
        text: str | Sequence[str] | None = None,
        tokens: ArrayLike | None = None,
    ) -> Sequences:
        """A batch of your own sequences: exemplars with labels, vectors, a text, or tokens.

        Without a leading batch axis, what is given is one sequence. A task's loss may need more
        than the network reads: add it with `batch.replace(targets=...)`.

        Args:
            examples: features of exemplars, [B, P, F] or [P, F]; the last is the query. For
                few-shot networks, with `labels`.
            labels: with `examples`, [B, P] or [P]; the last is the right answer. With `vectors`,
                [B, T] or [T]: the label token at each position, or -1 where the vector is read.
            vectors: [B, T, F] or [T, F], for tasks of `ih.Vectors`.
            text: a text, or several that have the same number of tokens, for networks trained on a
                text. The begin-of-sequence token is put in front.
            tokens: [B, T] or [T], read as they are: networks expect sequences that begin with BOS.

        Raises:
            UserError: the network does not read what was given, or its shape or values do not fit.
        """
        arrays: dict[str, Any] = {"examples": examples, "labels": labels, "vectors": vectors}
        return own_batch(self.config, self.task, **arrays, text=text, tokens=tokens)

    # --- looking ----------------------------------------------------------------------------------

    def activations(self, batch: Sequences, clamp: Held = OWN) -> Activations:
        """Every site of the network, batch first (`Activations` has the shapes)."""
        return public(forward(self.params, self._checked(batch), self.holds(clamp)))

    def loss(self, batch: Sequences, clamp: Held = OWN) -> float:
        """The task's loss on a batch."""
        task = self._task()
        objective = task.objective()
        sites = forward(self.params, self._checked(batch), self.holds(clamp), objective.rows)
        return float(objective.loss(sites, batch, task.run_arrays()))

    def scores(self, batch: Sequences, clamp: Held = OWN) -> dict[str, float]:
        """The task's metrics on a batch by name, such as loss and accuracy."""
        task = self._task()
        objective = task.objective()
        sites = forward(self.params, self._checked(batch), self.holds(clamp), objective.rows)
        found = np.asarray(objective.scores(sites, batch, task.run_arrays()))
        return dict(zip(objective.metrics, found.tolist(), strict=True))

    # --- intervening ------------------------------------------------------------------------------

    def patch(
        self,
        batch: Sequences,
        source: Sequences | Activations | Network,
        site: str,
        layer: int | Sequence[int] | None = None,
        heads: int | Sequence[int] | None = None,
        positions: int | Sequence[int] | None = None,
        clamp: Held = OWN,
    ) -> Activations:
        """Activation patching: a pass with one site's values taken from another pass.

        Args:
            batch: the sequences.
            source: where the site's values come from: other sequences (this network's pass on
                them), another network (its pass on `batch`), or `Activations` that you have.
            site: which site, such as "z", "resid_post" or "pattern".
            layer: which layer, or several; None: all of them.
            heads: which heads, at sites that have heads; None: all.
            positions: which positions, negative ones from the end; None: all.
            clamp: what is held in both passes (another network keeps its own).

        Raises:
            UserError: the network has no such site, layer, head or position, or the passes differ
                in size.
        """
        holds, sites = self.holds(clamp), self.pass_of(batch, source, clamp)
        return public(patched(self.params, batch, holds, sites, site, layer, heads, positions))

    def patch_path(
        self,
        batch: Sequences,
        source: Sequences | Activations | Network,
        writer: tuple[int, int],
        reader: tuple[int, int] | Sequence[tuple[int, int]] | str,
        inputs: Sequence[str] = INPUTS,
        clamp: Held = OWN,
    ) -> Activations:
        """Path patching: a later head reads what an earlier one writes in another pass.

        Only the direct path is patched: everything between the two heads stays as it was.

        Args:
            batch, source, clamp: as in `patch`.
            writer: (layer, head).
            reader: (layer, head) of a later layer, several of one layer, or "logits".
            inputs: through which of "q", "k" and "v" it reads; all three by default.

        Raises:
            UserError: the network has no such heads, the reader is not in a later layer, or the
                passes differ in size.
        """
        self.check_paths()
        holds, sites = self.holds(clamp), self.pass_of(batch, source, clamp)
        return public(path_patched(self.params, batch, holds, sites, writer, reader, inputs))

    def head_logits(self, batch: Sequences, clamp: Held = OWN) -> xr.Dataset:
        """What each head adds to the logits directly, with the final norm's divisor held fixed.

        Returns:
            `heads` [layer, head, sequence, position, label], `mlp` [layer, ...], `embedding` and
            `held` [sequence, position, label], and `bias` [label], which sum to `logits`. `held` is
            what a clamp put on the stream or on the logits; 0 without one. A few-shot network
            answers at the last position. See `model.attribution.logit_parts`.

        Raises:
            UserError: layers normalise the stream (opt-350m), so that there is no such sum.
        """
        parts = logit_parts(self.params, self.activations(batch, clamp))
        each = ("sequence", "position", "label")
        dims = {
            "heads": ("layer", "head", *each),
            "mlp": ("layer", *each),
            "bias": ("label",),
        }
        sizes = zip(dims["heads"], parts["heads"].shape, strict=True)
        return xr.Dataset(
            {name: (dims.get(name, each), np.asarray(value)) for name, value in parts.items()},
            {dim: np.arange(size) for dim, size in sizes},
        )

    # --- views for notebooks ----------------------------------------------------------------------

    def attention(
        self,
        batch: Sequences,
        clamp: Held = OWN,
        activations: Activations | None = None,
        head: tuple[int, int] | None = None,
    ) -> Any:
        """A view of the attention patterns of all layers and heads: `view(batch, "attention")`."""
        return self.view(batch, "attention", clamp, activations, head)

    def view(
        self,
        batch: Sequences | None = None,
        show: str | Sequence[str] = ("attention", "logits", "scores", "wiring"),
        clamp: Held = OWN,
        activations: Activations | None = None,
        head: tuple[int, int] | None = None,
    ) -> Any:
        """What is to be seen of the network, for a notebook: HTML that needs nothing else.

        Args:
            batch: the sequences; None: 6 of its task. At most the first 12 are shown.
            show: what, one or several of
                "attention": patterns of all layers and heads; point at a token to see where it
                    looks;
                "logits": at the query or at each token, with what each head adds to them;
                "scores": induction, previous-token and copying scores of all heads, on sequences of
                    its evaluation set (on `batch` without a task);
                "wiring": composition between layers, less that of random weights.
            clamp: what is held, as elsewhere.
            activations: of a pass on `batch` that you have, such as a patch's, to be shown in place
                of the network's own.
            head: (layer, head) to look at first; None: the one that looks most like an induction
                head on `batch`.

        Returns:
            A `View`. The last line of a cell shows it; `save("x.html")` writes it. Values are those
            of `activations` and `head_logits`, rounded to 16 bits (many long sequences: 8).

        Raises:
            UserError: there is no such view, head or clamp, no batch and no task, or the
                activations are not of a whole pass on `batch`.
        """
        if batch is None:
            batch = self.batch(6)
        if activations is None:
            activations = self.activations(batch, clamp)
        return type(self)._draw(self, batch, show, self._held(clamp), activations, head)

    # --- what functions of a network ask for -----------------------------------------------------

    def holds(self, clamp: Held = OWN) -> Holds:
        """What a forward pass under a clamp takes, switched by the time `seen`."""
        return Holds() if clamp is None else self._held(clamp).arrays(self.config).at(self.seen)

    def pass_of(
        self, batch: Sequences, source: Sequences | Activations | Network, clamp: Held = OWN
    ) -> Sites:
        """The pass that a patch takes values from, in the program's layout.

        Arguments and errors are those of `patch`.
        """
        self._checked(batch)
        if isinstance(source, Activations):
            return from_public(source, self.config)
        if isinstance(source, Network):
            if source.config != self.config:
                raise UserError(
                    f"the other network is {source.config}, this one is {self.config}: give one "
                    "of the same shape"
                )
            return forward(source.params, batch, source.holds(OWN))
        return forward(self.params, self._checked(source, "source"), self.holds(clamp))

    # --- helpers ----------------------------------------------------------------------------------

    def _task(self) -> Task:
        if self.task is None:
            raise UserError("this network has no task: give it one, as Network(params, task=...)")
        return self.task

    def _checked(self, batch: Any, what: str = "batch") -> Sequences:
        """The batch, if it is one. Raises UserError."""
        if isinstance(batch, Sequences):
            return batch
        raise UserError(
            f"{what} is {given(batch)}: make one with network.batch() or network.batch_of()"
        )

    def _held(self, clamp: Held) -> Clamp:
        if not isinstance(clamp, Clamp | str | None):
            raise UserError(f'clamp is {given(clamp)}: give "own", None or a clamp')
        if isinstance(clamp, str) and clamp != OWN:
            raise UserError(f'clamp is {clamp!r}: give "own", None or a clamp')
        return self.clamp if isinstance(clamp, str) else clamp or Clamp()

    def check_paths(self) -> None:
        """Raises UserError where heads do not write to the stream each by itself."""

    # --- showing itself ---------------------------------------------------------------------------

    def _rows(self) -> dict[str, str]:
        config = self.config
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        unit = "" if self.task is None else f" {self.task.unit}"
        mlp = "" if config.mlp_ratio is None else " and MLPs"
        return {
            "run": self.name or "no run (weights given)",
            "seen": f"{self.seen:,.0f}{unit}",
            "clamp": self.clamp.describe(),
            "shape": f"{config.layers} layers of {config.heads} heads{mlp}, d_model "
            f"{config.d_model}, {size:,} parameters",
        }

    def __repr__(self) -> str:
        rows = self._rows()
        return f"Network({rows['run']}; {rows['seen']} seen; {rows['shape']})"

    def _repr_html_(self) -> str:
        return table("Network", self._rows())
