"""What a network of other people is made of: its shape, and its weights in one layout.

All families share the layout, stacked over layers, so that a scan runs over the stack.

Glossary: L layers of H heads of width E, stream of width D, M neurons in a layer's MLP, V tokens in
the vocabulary, P positions, R of E dimensions rotated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from jax import Array


@dataclass(frozen=True)
class Scaling:
    """How rotary frequencies are stretched for longer sequences than a network began with."""

    kind: Literal["linear", "llama3"]
    factor: float
    low: float = 1.0  # llama3: what turns fewer times than this within `original` is stretched
    high: float = 4.0  # llama3: what turns more often than this is not; between, in part
    original: int = 8192  # llama3: tokens


@dataclass(frozen=True)
class Config:
    """What config.json says of a network, in one spelling for all families."""

    architecture: str
    layers: int
    heads: int
    d_model: int
    d_head: int
    d_mlp: int
    vocabulary: int
    context: int  # tokens, the longest sequence
    activation: str
    epsilon: float
    scale: float  # of attention scores
    bos: int | None  # the token that sequences begin with, where it is in the vocabulary
    special: tuple[int, ...]  # tokens that are no text: beginning, end, padding
    tied: bool
    bos_from: str = ""  # the field of config.json that names bos
    scale_by_layer: bool = False  # scores of layer i are divided by i + 1, too
    rotary: int = 0  # dimensions of each head that are rotated; an odd one more
    rotary_base: float = 10_000.0
    rotary_scaling: Scaling | None = None
    alibi: bool = False  # scores fall with distance, by a slope of each head
    learned_positions: bool = False  # a table is added to the embedding
    embedding_scale: float = 1.0  # what embedded tokens are multiplied by
    projected: bool = False  # tokens have vectors of another width, and maps from and to the stream
    parallel: bool = False  # attention and MLP read the same stream
    post_norm: bool = False  # norms are of the stream, after attention and after the MLP
    gated: bool = False  # MLPs have a gate
    norm: Literal["layer", "rms"] = "layer"
    window: int | None = None  # tokens that a token attends to, itself the last; None: all
    windowed: tuple[bool, ...] = ()  # which layers have the window
    clip: float | None = None  # queries, keys and values are cut at plus and minus this
    score_cap: float | None = None  # scores are cap * tanh(scores / cap)
    logit_cap: float | None = None  # logits, too

    # What clamps and measures ask of `ih_jax.model.params.Config`.
    features = 0  # it reads tokens, not vectors
    language = True
    smeared_keys = False

    @property
    def labels(self) -> int:
        """Tokens, V."""
        return self.vocabulary

    @property
    def max_positions(self) -> int:
        """Tokens, the longest sequence."""
        return self.context

    @property
    def mlp_ratio(self) -> float:
        """M / D."""
        return self.d_mlp / self.d_model

    @property
    def positions(self) -> str:
        """Of which kind positions are; queries and keys are not in pairs for any of them."""
        return "alibi" if self.alibi else "rotary" if self.rotary else "learned"


class Blocks(NamedTuple):
    """Weights of all layers, each [L, ...]. Biases that a family has not are 0."""

    W_QKV: Array  # [L, 3, H, E, D]; keys and values that heads share are there for each head
    b_QKV: Array  # [L, 3, H, E]
    W_O: Array  # [L, H, E, D]
    b_O: Array  # [L, D]
    W_in: Array  # [L, D, M]
    b_in: Array  # [L, M]
    W_out: Array  # [L, M, D]
    b_out: Array  # [L, D]
    norm1_scale: Array | None = None  # [L, D], before attention (post_norm: after). None: no norm
    norm1_bias: Array | None = None
    norm2_scale: Array | None = None  # [L, D], before the MLP (post_norm: after)
    norm2_bias: Array | None = None
    after1_scale: Array | None = None  # [L, D], of what attention adds to the stream
    after2_scale: Array | None = None  # [L, D], of what the MLP adds
    W_gate: Array | None = None  # [L, D, M]; its activation multiplies W_in's. None: not gated
    b_gate: Array | None = None  # [L, M]
    # Root-mean-square norms of queries and keys: of each head [L, E], or of all heads together
    # [L, H, E]. None: none.
    q_norm: Array | None = None
    k_norm: Array | None = None


class Weights(NamedTuple):
    """Weights of a network, float32."""

    W_E: Array  # [V, D]
    W_pos: Array | None  # [P, D]; None: other positions than a table
    blocks: Blocks
    norm_scale: Array | None  # [D]. None: no norm at the end
    norm_bias: Array | None
    W_U: Array  # [V, D]; tied and not projected: the array W_E
    b_U: Array | None = None  # [V]
    embed_scale: Array | None = None  # [D], a layer norm of embedded tokens. None: none
    embed_bias: Array | None = None


def bytes_of(config: Config) -> int:
    """What the weights take, float32."""
    c = config
    of_layer = 4 * c.heads * c.d_head * c.d_model + (2 + c.gated) * c.d_model * c.d_mlp
    own = c.projected or not c.tied
    tables = (1 + own) * c.vocabulary + c.learned_positions * c.context
    return 4 * (c.layers * of_layer + tables * c.d_model)
