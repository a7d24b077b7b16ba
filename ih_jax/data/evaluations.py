"""The fixed sets of few-shot sequences that networks are evaluated on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationSet:
    """A fixed set of sequences: which split its classes, exemplars and label pairs come from."""

    name: str
    classes: str
    exemplars: str
    label_pairs: str


# Singh et al. 2024, figure 3a; 1,000 sequences each. The paper's loss curves are on these.
EVALUATION_SETS = (
    EvaluationSet("fsl_train", "train", "train", "train"),  # "train"
    EvaluationSet("fsl_val_rl", "train", "train", "val"),  # "test (relabel)"
    EvaluationSet("fsl_train_valex", "train", "val", "train"),  # other exemplars of known classes
    EvaluationSet("fsl_test_class", "test", "train", "train"),  # "test (exemplars)"
)
