"""The few-shot task of Singh et al. 2024: exemplars and labels, loss on the query alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from ih_jax import memory
from ih_jax.data import evaluations
from ih_jax.data.batches import Batch
from ih_jax.data.evaluations import EVALUATION_SETS, EvaluationSet
from ih_jax.data.fewshot import Burst, Layout, Scheme, Source
from ih_jax.data.images import features as features_
from ih_jax.data.images.features import Features
from ih_jax.data.splits import (
    Generator,
    split_by_group,
    split_classes,
    split_exemplars,
    split_label_pairs,
)
from ih_jax.data.weights import zipf_logits
from ih_jax.errors import UserError, unknown, whole
from ih_jax.model.params import Config
from ih_jax.tasks.base import Task, TaskArrays, task
from ih_jax.tasks.fewshot_cards import described_on_card, settings_of
from ih_jax.tasks.fewshot_checks import (
    check_labels,
    check_nested,
    check_tables,
    of_split,
    uses_label_pairs,
)
from ih_jax.tasks.fewshot_scores import Objective

PAIR_BYTES = 100  # of a pair of labels, while pairs are split
MOST_LABELS = 4_000  # of which pairs are listed: below a gigabyte
OwnLabels = Literal["index", "modulo"]
SIZES = ("classes", "test_classes", "exemplars", "val_exemplars")  # shapes of its arrays


@task("fewshot")
@dataclass(frozen=True)
class FewShot(Task):
    """The few-shot task; the defaults are the paper's (section 2, appendix A).

    `label_split` and `class_split` are seeds: which label pairs train, and which classes do (None:
    the order of the data, first to train and last to test). `labels_of_program` pads the number of
    logits, so that runs with fewer labels share a program with runs of more. `label_generator` says
    which generator of JAX splits the label pairs: that of before 0.5, as the paper did, or a later
    one's.

    `own_labels` says which label is a class's own, where a scheme keeps it: "index" is its index in
    the data; "modulo" gives the nth class to train on the label n modulo `labels`, each class its
    own where there are as many labels as classes; classes not trained on have labels that no
    network knows.
    """

    data: Features = field(default_factory=features_.of_glyphs)
    classes: int = 50
    test_classes: int = 100
    exemplars: int = 1
    val_exemplars: int = 4
    labels: int = 5
    labels_of_program: int | None = None
    label_pair_shares: tuple[float, float, float] = (8, 2, 0)
    label_split: int = 20
    class_split: int | None = None
    pairs: int = 2
    mixture: tuple[Burst, ...] = (Burst(),)
    mixture_weights: tuple[float, ...] = (1.0,)
    scheme: Scheme = "relabel"
    matched_exemplars: bool = False
    random_query_label: bool = False
    reverse_pairs: bool = False
    zipf: float = 0.0
    noise: float = 0.0
    noisy: bool | None = None  # noise is in the program; None: where noise is above 0
    evaluation_sets: tuple[EvaluationSet, ...] = EVALUATION_SETS
    label_generator: Generator = "old"
    own_labels: OwnLabels = "index"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nested(self)
        whole("label_split", self.label_split)
        if self.class_split is not None:
            whole("class_split", self.class_split)
        if self.labels < 2:
            raise UserError(f"labels is {self.labels}: give 2 or more")
        if self.classes < 2 or self.exemplars < 1:
            raise UserError(
                f"classes {self.classes}, exemplars {self.exemplars}: give 2 or more, 1 or more"
            )
        if self.labels_of_program is not None and self.labels_of_program < self.labels:
            raise UserError(
                f"labels_of_program is {self.labels_of_program}: "
                f"give {self.labels} (labels) or more"
            )
        if self.noise < 0:
            raise UserError(f"noise is {self.noise}: give 0 or more")
        if abs(self.zipf) > 100:
            raise UserError(f"zipf is {self.zipf:g}: give an exponent of at most 100")
        if len(self.mixture_weights) != len(self.mixture):
            raise UserError(
                f"{len(self.mixture_weights)} mixture_weights for {len(self.mixture)} "
                "components of the mixture: give one each"
            )
        if self.label_generator not in get_args(Generator):
            raise unknown("label generator", self.label_generator, get_args(Generator))
        if self.own_labels not in get_args(OwnLabels):
            raise unknown("own_labels", str(self.own_labels), get_args(OwnLabels))
        object.__setattr__(
            self, "evaluation_sets", evaluations.resolved(self.evaluation_sets, self.pairs)
        )
        try:
            check_labels(self)
            check_tables(self)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{self.data.name}: {error}") from None

    @property
    def layout(self) -> Layout:
        """What of this task decides shapes and program."""
        return Layout(
            self.pairs,
            self.mixture,
            self.scheme,
            self.matched_exemplars,
            self.random_query_label,
            self.reverse_pairs,
            self.noise > 0 if self.noisy is None else self.noisy,
        )

    @property
    def settings(self) -> tuple[str, ...]:
        """What may be an axis of a study."""
        return tuple(f.name for f in fields(self) if f.name != "data")

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """The evaluation sets, the training set's own first."""
        return tuple(each.name for each in self.evaluation_sets)

    def config(self, **settings: Any) -> Config:
        """The model for this task."""
        return Config(features=self.data.features, labels=self.logits, **settings)

    def objective(self) -> Objective:
        """The traced half."""
        return Objective(self.layout, self.labels_of_program is not None)

    def sizes(self) -> tuple[Any, ...]:
        """What beside the objective decides the shapes of `run_arrays`."""
        return tuple(getattr(self, name) for name in SIZES)

    @property
    def logits(self) -> int:
        """C, the number of logits of the network; those of the first `labels` can be answers."""
        return self.labels_of_program or self.labels

    @property
    def context_length(self) -> int:
        """T, tokens of a sequence."""
        return 2 * self.pairs + 1

    def splits(self) -> dict[str, dict[str, np.ndarray]]:
        """Classes, exemplars and label pairs by split (train, val, test)."""
        return {
            "classes": split_by_group(
                split_classes(self.data.classes, self.classes, self.test_classes, self.class_split),
                self.data,
            ),
            "exemplars": split_exemplars(self.data.exemplars, self.exemplars, self.val_exemplars),
            "label_pairs": self._label_pairs(),
        }

    def _label_pairs(self) -> dict[str, np.ndarray]:
        """Label pairs by split; none where no sequence is relabelled by them."""
        if not uses_label_pairs(self):
            return dict.fromkeys(evaluations.SPLITS, np.zeros((0, 2), np.int32))
        needed = PAIR_BYTES * self.logits * (self.logits - 1) // 2
        what = f"a table of pairs of {self.logits:,} labels"
        if self.logits > MOST_LABELS:
            raise UserError(
                f"{what} takes {needed / 1e9:,.1f} GB: give at most {MOST_LABELS:,} labels, or "
                "scheme='fresh', which needs no table"
            )
        memory.check(needed, what)
        return split_label_pairs(
            self.labels, self.label_pair_shares, self.label_split, self.label_generator
        )

    def labels_of_classes(self) -> np.ndarray:
        """[classes of the data] int32, every class's own label (`own_labels`)."""
        if self.own_labels == "index":
            return np.arange(self.data.classes, dtype=np.int32)
        own = self.logits + np.arange(self.data.classes, dtype=np.int32)
        own[self.splits()["classes"]["train"]] = np.arange(self.classes) % self.labels
        return own

    def source(self, which: str) -> Source:
        """Of the training set, or of an evaluation set by its name.

        Few labels leave no pairs to hold out: a source of no label pairs is allowed, and scores
        on it are NaN. Raises UserError for an empty split of classes or exemplars.
        """
        training = which == "train"
        named = (each for each in self.evaluation_sets if each.name == which)
        chosen = EvaluationSet(which) if training else next(named)
        layout = chosen.layout(self.layout)
        splits = self.splits()
        classes = of_split(splits["classes"], chosen.classes)[: chosen.first_classes]
        exemplars = of_split(splits["exemplars"], chosen.exemplars)[: chosen.first_exemplars]
        for what, found in (("classes", classes), ("exemplars", exemplars)):
            if not len(found):
                raise UserError(
                    f"a set of sequences needs {what} of a split that is empty "
                    f"({chosen.classes} classes, {chosen.exemplars} exemplars)"
                )
        pairs = np.array([[0, 1]], np.int32)
        padded = pairs
        if "relabel" in layout.schemes and chosen.label_pairs != evaluations.FIRST_TWO:
            pairs = splits["label_pairs"][chosen.label_pairs]
            padded = np.zeros((self.logits * (self.logits - 1) // 2, 2), np.int32)
            padded[: len(pairs)] = pairs
        weighted = chosen.classes == "train" and not chosen.uniform
        weights = (1.0,) if chosen.context else self.mixture_weights
        return Source(
            table=self.data.select(classes.tolist(), exemplars.tolist()),
            class_logits=np.asarray(zipf_logits(len(classes), self.zipf if weighted else 0.0)),
            label_pairs=padded,
            pair_count=np.asarray(len(pairs), np.int32),
            noise=np.asarray(self.noise if chosen.noise is None else chosen.noise, np.float32),
            mixture_logits=np.log(np.asarray(weights, np.float32)),
            class_labels=self.labels_of_classes()[classes],
            label_count=np.asarray(self.labels, np.int32) if "fresh" in layout.schemes else None,
            layout=None if layout == self.layout else layout,
        )

    def sample(self, key: Array, source: Source, sequences: int) -> Batch:
        """Draw a batch of what `source("train")`, or that of an evaluation set, holds."""
        return self.objective().sample(key, source, sequences)

    def run_arrays(self) -> TaskArrays:
        """What one run of this task needs at training time, as arrays that stack over runs."""
        return replace(super().run_arrays(), scoring=np.asarray(self.labels, np.int32))

    def origin(self) -> dict[str, Any]:
        """Where the features can be found again."""
        return dict(self.data.origin)

    def in_words(self) -> dict[str, str]:
        """For a reader of results."""
        data, split = self.data, self.class_split
        return {
            "data": f"{data.name}, {data.classes} classes of {data.exemplars} exemplars",
            "classes": f"{self.classes} to train on, {self.test_classes} unseen",
            "other seeds": f"order 0, label split {self.label_split}, class split "
            + ("as in the file" if split is None else str(split)),
        }

    @classmethod
    def of_card(cls, described: Mapping[str, Any], origin: Mapping[str, Any]) -> FewShot:
        """The task that `describe` and `origin` described. UserError where its data is gone."""
        found = fewshot(features_.of_origin(origin), **settings_of(cls, described))
        checksum = "checksum_of_training_classes"
        if found.describe()["data"][checksum] != described["data"][checksum]:
            raise UserError(f"{described['data']['name']} is not the data that this trained on")
        return found

    def describe(self) -> dict[str, Any]:
        """For the run card: every field, the data by name and checksum.

        The order counts: trainings are found again by a digest of this.
        """
        return described_on_card(self)


def fewshot(
    data: Features | str | ArrayLike | None = None,
    data_key: str | None = None,
    **settings: Any,
) -> FewShot:
    """The few-shot task.

    Args:
        data: None or "glyphs", the path of an HDF5 file, `Features`, or an array [C, E, F].
        data_key: which dataset of the file.
        settings: fields of `FewShot`. Where the data has fewer exemplars or classes than the
            defaults ask for, `val_exemplars` and `test_classes` shrink to what there is.

    Raises:
        UserError: for data that is missing, damaged or too small, and for settings out of range.
    """
    if data is None or (isinstance(data, str) and data == "glyphs"):
        chosen = features_.of_glyphs()
    elif isinstance(data, Features):
        chosen = data
    elif isinstance(data, str | os.PathLike):
        chosen = features_.of_file(data, data_key)
        data_key = None
    else:
        chosen = features_.of_array(data)
    if data_key is not None:
        raise UserError(f"data_key is {data_key!r}, and data is no file: leave it out")
    known = [f.name for f in fields(FewShot)]
    for name in settings:
        if name not in known:
            raise unknown("setting of fewshot", name, known)
    for name in SIZES:
        if name in settings:
            whole(name, settings[name])
    if "val_exemplars" not in settings:
        spare = chosen.exemplars - settings.get("exemplars", 1)
        settings["val_exemplars"] = max(0, min(4, spare))
    if "test_classes" not in settings:
        spare = chosen.classes - settings.get("classes", 50)
        if chosen.groups is not None:  # a class takes its variants out of the unseen
            largest = int(np.bincount(chosen.groups).max())
            spare = chosen.classes - largest * settings.get("classes", 50)
        settings["test_classes"] = max(0, min(100, spare))
    if "evaluation_sets" not in settings:
        settings["evaluation_sets"] = tuple(
            each
            for each in EVALUATION_SETS
            if (each.exemplars == "train" or settings["val_exemplars"] > 0)
            and (each.classes == "train" or settings["test_classes"] > 1)
        )
    return FewShot(data=chosen, **settings)
