"""How many operations a step needs: those of its products of matrices.

They are counted of a network alone, once for every product that a step cannot do without:

* layer 0 sees few distinct tokens (classes and labels, or a vocabulary), and what is done to each
  token by itself is done to those; but no more than there are tokens in the batch;
* the last layer answers for the query only, where the loss is on the query only;
* nothing is differentiated with respect to features;
* a query is multiplied with the keys up to its own, and their values are mixed;
* laying tokens out from the distinct ones is no arithmetic, although our programs do it by products
  where that is faster (`laid_out`).

Everything else (softmax, layer norms, rotary positions, Adam) is counted as nothing.

Glossary of shapes: B sequences, T tokens, D d_model, V distinct tokens of a batch.
"""

from __future__ import annotations

from typing import NamedTuple

from ih_jax.model.embedding import ONE_HOT_UP_TO
from ih_jax.model.params import Config
from ih_jax.sweeps.loop import Program
from ih_jax.sweeps.study import Study
from ih_jax.tasks.base import Task
from ih_jax.tasks.fewshot import FewShot

FORWARDS_AND_BACK = 3  # a product, and those of its two gradients


class Count(NamedTuple):
    """Floating-point operations of one step of one run."""

    matrices: float  # of products with weights
    attention: float  # of queries with keys, and of patterns with values
    laid_out: float  # of products with one-hot columns, which a gather would do without

    @property
    def needed(self) -> float:
        """What the bound counts."""
        return self.matrices + self.attention


def count(config: Config, batch: int, tokens: int, rows: int, query_only: bool) -> Count:
    """Operations of a step with B = `batch` sequences of T = `tokens`.

    Args:
        config: the network.
        batch, tokens: of a step.
        rows: different exemplars that can occur in a batch; of a language model 0.
        query_only: the loss is on the last token only.
    """
    D, C, T, each = config.d_model, config.labels, tokens, 2.0 * FORWARDS_AND_BACK
    places = batch * T
    exemplars = min(rows, batch * (T + 1) // 2)
    distinct = C if config.language else exemplars + C
    plain = config.positions not in ("learned", "sinusoidal")  # embedded tokens know no position
    matrices = attention = 0.0
    for layer in range(config.layers):
        last = query_only and layer == config.layers - 1
        answers = batch if last else places
        inputs = min(distinct, places) if layer == 0 and plain else places
        matrices += each * D * D * (min(answers, inputs) + 2 * inputs)  # queries; keys and values
        matrices += each * D * D * answers  # W_O
        if config.mlp_ratio is not None:
            matrices += each * 2 * D * int(D * config.mlp_ratio) * answers
        pairs = batch * (T if last else T * (T + 1) / 2)
        attention += each * 2 * D * pairs
    matrices += each * D * C * (batch if query_only else batch * (T - 1))
    if not config.language:
        matrices += 2.0 * 2 * D * config.features * exemplars
    columns = C + 1 + (0 if config.language else rows)
    laid_out = 0.0
    if columns <= ONE_HOT_UP_TO:
        laid_out = 2.0 * 2 * (4 * D if plain else D) * columns * places
    return Count(matrices, attention, laid_out)


def of_study(study: Study) -> Count:
    """Operations of a step of the first run of a study."""
    return of_program(study.groups[0].program, study.runs[0].task)


def of_program(program: Program, task: Task) -> Count:
    """Operations of a step of a run of this task."""
    rows = 0 if program.config.language else program.batch * program.tokens
    if isinstance(task, FewShot):
        rows = task.classes * task.exemplars
    query_only = program.task.rows == "query"
    return count(program.config, program.batch, program.tokens, rows, query_only)
