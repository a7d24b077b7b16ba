"""GGUF files (llama.cpp), whose weights may be quantised, as the files that readers know.

Names and config of Llama, Qwen 2 and Qwen 3 are translated into Hugging Face's, so that their
readers read them; numbers are unpacked to float32 by the `gguf` package.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ih_jax import paths
from ih_jax.errors import UserError, unknown

SUFFIX = ".gguf"
ARCHITECTURES = ("llama", "qwen2", "qwen3")
PLAIN = ("F64", "F32", "F16", "BF16")
# Bytes of a number, by the kind that a description says it is of; and what are no numbers.
NUMBERS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
MOST_ENTRIES = 3_000_000  # of all lists: those of the largest vocabularies have a third of that
OUTER = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
INNER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class _Slice(NamedTuple):
    """What is known of a tensor before it is unpacked."""

    shape: tuple[int, ...]

    def get_shape(self) -> tuple[int, ...]:
        return self.shape

    def get_dtype(self) -> str:
        return "F32"  # what is unpacked


class Opened:
    """A GGUF file, with what `safetensors.safe_open` gives: names, shapes and tensors."""

    def __init__(self, path: Path) -> None:
        try:
            import gguf
        except ImportError:
            raise UserError(
                f"to read {path}, pip install gguf (or ih_jax[gguf]); or give a folder with "
                "config.json and model.safetensors"
            ) from None
        paths.regular(path)
        self.path, self.package = path, gguf
        try:
            check_lists(path)
            self.reader: Any = gguf.GGUFReader(path)
            self.tensors = {_renamed(each.name): each for each in self.reader.tensors}
        except Exception as error:  # the package raises whatever NumPy and struct do
            raise UserError(
                f"{path} is no whole GGUF file ({paths.reason(error)}): download it again"
            ) from None

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def keys(self) -> Iterator[str]:
        """Names, as Hugging Face has them."""
        return iter(self.tensors)

    def get_slice(self, name: str) -> _Slice:
        """The shape of a tensor."""
        return _Slice(tuple(int(n) for n in reversed(self.tensors[name].shape)))

    def get_tensor(self, name: str) -> NDArray[Any]:
        """A tensor, unpacked to float32."""
        held = self.tensors[name]
        try:
            found = self.package.quants.dequantize(held.data, held.tensor_type)
        except Exception as error:
            raise UserError(
                f"{self.path}: {held.name} is of kind {held.tensor_type.name}, which cannot be "
                f"unpacked ({paths.reason(error)}): give a file quantised in another way"
            ) from None
        whole = np.asarray(found, np.float32).reshape(self.get_slice(name).shape)
        turned = re.search(r"\.(attn_[qk])\.", held.name)
        if turned and self.said("general.architecture") == "llama":
            heads = "head_count" if turned[1] == "attn_q" else "head_count_kv"
            return _halves(whole, int(self.said(f"llama.attention.{heads}")))
        return whole

    def said(self, name: str) -> Any:
        """A field of the file's own description; None: it has none."""
        field = self.reader.get_field(name)
        if field is None:
            return None
        try:
            found = field.contents()
        except UnicodeDecodeError:
            raise UserError(f"{self.path}: {name} is no text: download the file again") from None
        found = found.item() if isinstance(found, np.generic) else found
        # Numbers are kept as float32: 1e-5, not 9.999999747378752e-06.
        return float(str(np.float32(found))) if isinstance(found, float) else found

    def config(self) -> dict[str, Any]:
        """What config.json would say. Raises UserError for what is not read here."""
        kind = self.said("general.architecture")
        if kind not in ARCHITECTURES:
            raise UserError(f"{self.path}: {unknown('architecture', kind, ARCHITECTURES)}")
        if "rope_freqs.weight" in self.tensors:
            raise UserError(
                f"{self.path} holds rope_freqs.weight: rotary positions of this kind are read from "
                "config.json and model.safetensors only; give such a folder"
            )
        at = f"{kind}.attention"
        embedding = self.tensors.get("embed_tokens.weight")
        said = {
            "vocab_size": None if embedding is None else int(embedding.shape[1]),
            "num_hidden_layers": self.said(f"{kind}.block_count"),
            "num_attention_heads": self.said(f"{at}.head_count"),
            "num_key_value_heads": self.said(f"{at}.head_count_kv"),
            "head_dim": self.said(f"{at}.key_length") or self.said(f"{kind}.rope.dimension_count"),
            "hidden_size": self.said(f"{kind}.embedding_length"),
            "intermediate_size": self.said(f"{kind}.feed_forward_length"),
            "max_position_embeddings": self.said(f"{kind}.context_length"),
            "rms_norm_eps": self.said(f"{at}.layer_norm_rms_epsilon"),
            "rope_theta": self.said(f"{kind}.rope.freq_base"),
            "bos_token_id": self.said("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.said("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self.said("tokenizer.ggml.padding_token_id"),
            "attention_bias": kind != "qwen2" and "layers.0.self_attn.q_proj.bias" in self.tensors,
        }
        scaling = self.said(f"{kind}.rope.scaling.type")
        if scaling not in (None, "none"):
            factor = self.said(f"{kind}.rope.scaling.factor")
            said["rope_scaling"] = {"type": scaling, "factor": factor}
        return {
            **{name: value for name, value in said.items() if value is not None},
            "model_type": kind,
            "tie_word_embeddings": "lm_head.weight" not in self.tensors,
        }

    def notes(self) -> list[str]:
        """What is to be said of its weights."""
        counts = Counter(each.tensor_type.name for each in self.tensors.values())
        packed = {kind: count for kind, count in counts.items() if kind not in PLAIN}
        if not packed:
            return []
        kinds = ", ".join(f"{kind} ({count} tensors)" for kind, count in packed.items())
        return [
            f"weights are quantised as {kinds} and were unpacked to float32: they are not those "
            "that were trained"
        ]


def check_lists(path: Path) -> None:
    """Go through what a file says of itself: the package believes how long its lists are.

    Raises:
        ValueError: a list is longer than the file, or all of them than `MOST_ENTRIES`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic, version, _, fields = _unpack(file, "4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            return  # the package says so
        entries = 0
        for _ in range(fields):
            _skip(file, _unpack(file, "Q")[0], size)
            (kind,) = _unpack(file, "I")
            kind, count = _unpack(file, "IQ") if kind == ARRAY else (kind, 1)
            entries += count
            if entries > MOST_ENTRIES:
                raise ValueError(
                    f"its lists have {entries:,} entries: at most {MOST_ENTRIES:,} are read"
                )
            if kind in NUMBERS:
                _skip(file, NUMBERS[kind] * count, size)
            elif kind == STRING:
                for _ in range(count):
                    _skip(file, _unpack(file, "Q")[0], size)
            else:
                raise ValueError(f"there is no kind {kind} of number or text")


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    """The next values of a file of little-endian numbers."""
    return struct.unpack("<" + layout, file.read(struct.calcsize("<" + layout)))


def _skip(file: BinaryIO, count: int, size: int) -> None:
    if file.tell() + count > size:
        raise ValueError("it ends within its own description")
    file.seek(count, 1)


def _renamed(name: str) -> str:
    """A tensor's name as Hugging Face has it; as it is, where it has none."""
    whole, _, part = name.rpartition(".")
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)", whole)
    if found and found[2] in INNER:
        return f"layers.{found[1]}.{INNER[found[2]]}.{part}"
    return f"{OUTER[whole]}.{part}" if whole in OUTER else name


def _halves(stored: NDArray[Any], heads: int) -> NDArray[Any]:
    """A map [H * E, ...] whose heads turn neighbours as one whose heads turn halves."""
    if heads < 1 or len(stored) % (2 * heads):
        return stored  # not of this shape: refused by the reader
    pairs = stored.reshape(heads, len(stored) // heads // 2, 2, *stored.shape[1:])
    return pairs.swapaxes(1, 2).reshape(stored.shape)
