"""The few-shot task of Singh et al. 2024: exemplars and labels, loss on the query alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args

import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from ih_jax import gate
from ih_jax.data.batches import Batch
from ih_jax.data.evaluations import EVALUATION_SETS, EvaluationSet
from ih_jax.data.fewshot import Burst, Layout, Scheme, Source, zipf_logits
from ih_jax.data.images import features as features_
from ih_jax.data.images.features import Features
from ih_jax.data.splits import (
    Generator,
    split_by_group,
    split_classes,
    split_exemplars,
    split_label_pairs,
)
from ih_jax.errors import UserError, given, real, unknown, whole
from ih_jax.model.params import Config
from ih_jax.tasks.base import Task, TaskArrays, task
from ih_jax.tasks.fewshot_scores import Objective

PAIR_BYTES = 100  # of a pair of labels, while pairs are split
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

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_nested(self)
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
        gate.check_memory(
            PAIR_BYTES * self.logits * (self.logits - 1) // 2,
            f"a table of pairs of {self.logits:,} labels",
        )
        if len(self.mixture_weights) != len(self.mixture):
            raise UserError(
                f"{len(self.mixture_weights)} mixture_weights for {len(self.mixture)} "
                "components of the mixture: give one each"
            )
        if self.label_generator not in get_args(Generator):
            raise unknown("label generator", self.label_generator, get_args(Generator))
        try:
            _ = self.layout
            self.splits()
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
        """C, the number of logits of the network."""
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
            "label_pairs": split_label_pairs(
                self.labels, self.label_pair_shares, self.label_split, self.label_generator
            ),
        }

    def source(self, which: str) -> Source:
        """Of the training set, or of an evaluation set by its name."""
        if which == "train":
            return self.source_of("train", "train", "train")
        chosen = next(each for each in self.evaluation_sets if each.name == which)
        return self.source_of(chosen.classes, chosen.exemplars, chosen.label_pairs)

    def sample(self, key: Array, source: Source, sequences: int) -> Batch:
        """Draw a batch of what `source("train")`, or that of an evaluation set, holds."""
        return self.objective().sample(key, source, sequences)

    def source_of(self, classes: str, exemplars: str, label_pairs: str) -> Source:
        """The arrays of one combination of splits.

        Few labels leave no pairs to hold out: a source of no label pairs is allowed, and scores
        on it are NaN. Raises UserError for an empty split of classes or exemplars.
        """
        splits = self.splits()
        chosen = splits["classes"][classes], splits["exemplars"][exemplars]
        pairs = splits["label_pairs"][label_pairs]
        for what, found in zip(("classes", "exemplars"), chosen, strict=True):
            if not len(found):
                raise UserError(
                    f"a set of sequences needs {what} of a split that is empty "
                    f"({classes} classes, {exemplars} exemplars)"
                )
        padded = np.zeros((self.logits * (self.logits - 1) // 2, 2), np.int32)
        padded[: len(pairs)] = pairs
        train = classes == "train"
        return Source(
            table=self.data.select(chosen[0].tolist(), chosen[1].tolist()),
            class_logits=np.asarray(zipf_logits(len(chosen[0]), self.zipf if train else 0.0)),
            label_pairs=padded,
            pair_count=np.asarray(len(pairs), np.int32),
            noise=np.asarray(self.noise, np.float32),
            mixture_logits=np.log(np.asarray(self.mixture_weights, np.float32)),
            class_labels=chosen[0].astype(np.int32),
        )

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
        own = {f.name for f in fields(cls)} - {"data"}
        given = {name: value for name, value in described.items() if name in own}
        given["mixture"] = tuple(Burst(**burst) for burst in described["mixture"])
        given["mixture_weights"] = tuple(described["mixture_weights"])
        given["label_pair_shares"] = tuple(described["label_pair_shares"])
        named = {each.name: each for each in EVALUATION_SETS}
        given["evaluation_sets"] = tuple(named[name] for name in described["evaluation_sets"])
        found = fewshot(features_.of_origin(origin), **given)
        checksum = "checksum_of_training_classes"
        if found.describe()["data"][checksum] != described["data"][checksum]:
            raise UserError(f"{described['data']['name']} is not the data that this trained on")
        return found

    def describe(self) -> dict[str, Any]:
        """For the run card: every field, the data by name and checksum.

        The order counts: trainings are found again by a digest of this.
        """
        of_tasks = [f.name for f in fields(Task)]
        own = [f.name for f in fields(self) if f.name not in of_tasks]
        found = {
            name: getattr(self, name)
            for name in (*own, *of_tasks)
            if name not in ("data", "mixture", "evaluation_sets")
        }
        splits = self.splits()
        train = splits["classes"]["train"].tolist(), splits["exemplars"]["train"].tolist()
        found["data"] = {
            "name": self.data.name,
            "shape": [self.data.classes, self.data.exemplars, self.data.features],
            "checksum_of_training_classes": self.data.checksum(*train),
        }
        if self.label_generator == "old":  # so that cards of before agree
            del found["label_generator"]
        found["mixture"] = [vars(burst) for burst in self.mixture]
        found["evaluation_sets"] = [each.name for each in self.evaluation_sets]
        return found


def _check_nested(task: FewShot) -> None:
    """Raise UserError for settings of several values that are not what they are declared as."""
    if not isinstance(task.data, Features):
        raise UserError(f"data is {given(task.data)}: make the task with ih_jax.fewshot(data)")
    kinds: dict[str, type] = {"mixture": Burst, "evaluation_sets": EvaluationSet}
    for name, kind in kinds.items():
        value = getattr(task, name)
        if not isinstance(value, tuple) or not value:
            raise UserError(f"{name} is {given(value)}: give a tuple of one or more")
        if not all(isinstance(each, kind) for each in value):
            raise UserError(f"{name} is {given(value)}: give objects of class {kind.__name__}")
    for name in ("label_pair_shares", "mixture_weights"):
        value = getattr(task, name)
        if not isinstance(value, tuple):
            raise UserError(f"{name} is {given(value)}: give a tuple of numbers")
        if sum(real(f"{name}[{i}]", each, least=0) for i, each in enumerate(value)) <= 0:
            raise UserError(f"{name} is {given(value)}: give one number above 0 or more")


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
