"""Do two layers with shortformer positions learn induction from real text, if they read for longer?

They are those of olsson-text-smeared without smeared keys. ih-jax run examples/long_text.py
"""

import ih_jax as ih
from ih_jax.data.languages.text import Text
from ih_jax.measures import heads

LOOKS = [i * 1_600 * 1_024 for i in range(61)]  # tokens; a step reads 8 sequences of 128

study = ih.sweep(
    ih.language(Text("python", tokenizer="bpe"), batch=8),  # Python's own source
    layers=2,
    learning_rate=1e-3,
    init=[5, 6],
    tokens=LOOKS[-1],
    evaluate=LOOKS,
    checkpoints=LOOKS,
)


def after(trajectories):
    """The score of every seed, and its best heads, over training."""
    table = trajectories.results[["loss", "in_context_score"]]
    for name, measure in (
        ("prefix_matching", heads.prefix_matching()),
        ("previous_token", heads.previous_token_score),
    ):
        scores = trajectories.measure(measure)
        table[name] = scores.max([dim for dim in scores.dims if dim not in ("init", "tokens")])
    print(table.to_dataframe().round(3).to_string())
