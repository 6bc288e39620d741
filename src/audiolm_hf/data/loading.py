# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Load the two tokenizers from a folder, whether it holds one of them or a whole AudioLM.

Weights can be rounded to float16 here, before the recordings are tokenized: a checkpoint that is later stored in
float16 then gives the same tokens.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from audiolm_hf.acoustic_codec_audiolm import ACOUSTIC_CODECS, wrap_acoustic_codec
from audiolm_hf.checkpoint_audiolm import read_model_type
from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.configuration_audiolm import AudioLMConfig
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.semantic_tokenizer_audiolm import SEMANTIC_TOKENIZERS, SemanticTokenizerModel


def require_model_type(folder: str | Path, model_type: str | Collection[str], key: str) -> None:
    """Raise a `ValueError` where a folder, which the error calls `key`, holds a model of another type, or none."""
    found = read_model_type(folder)
    allowed = [model_type] if isinstance(model_type, str) else model_type
    if found not in allowed:
        raise ValueError(f"{key} is {folder}, of type {found!r}; give one of type {' or '.join(map(repr, allowed))}.")


def load_codec(folder: str | Path) -> AcousticCodec:
    """Load the codec of a folder, or of the AudioLM in it, for inference in float32."""
    classes = {kind: codec.model_class for kind, codec in ACOUSTIC_CODECS.items()}
    return wrap_acoustic_codec(_load_part(folder, classes, "codec"))


def load_semantic_tokenizer(folder: str | Path) -> SemanticTokenizerModel:
    """Load the semantic tokenizer of a folder, or of the AudioLM in it, for inference in float32."""
    return _load_part(folder, SEMANTIC_TOKENIZERS, "semantic_tokenizer")


def _load_part(folder: str | Path, classes: Mapping[str, Any], part: str) -> Any:
    """Load a model of one of the classes, by its type, or the part of the AudioLM in a folder."""
    require_model_type(folder, (*classes, AudioLMConfig.model_type), f"The {part.replace('_', ' ')}")
    kind = read_model_type(folder)
    model = classes.get(kind, AudioLMModel).from_pretrained(folder, dtype="float32").eval()
    return getattr(model, part) if kind == AudioLMConfig.model_type else model


# Positions of centroids and codes decide between neighbours and stay in float32, unlike the sums that only training
# reads.
_FLOAT32_TENSORS = ("centroids", "feature_mean", "feature_std", "codebook", "counts")


def float16_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return a model's tensors in float16 as a checkpoint stores them, except centroids, codebooks and their use."""

    def is_rounded(name: str, tensor: Tensor) -> bool:
        return tensor.is_floating_point() and name.rsplit(".", 1)[-1] not in _FLOAT32_TENSORS

    return _rounded(model.state_dict(), torch.float16, is_rounded)


def float8_matrices(tensors: dict[str, Tensor], parts: Iterable[str]) -> dict[str, Tensor]:
    """Return tensors with the matrices of some parts of a model in float8 (e4m3, with 3 bits of mantissa)."""
    prefixes = tuple(f"{part}." for part in parts)
    return _rounded(tensors, torch.float8_e4m3fn, lambda name, tensor: name.startswith(prefixes) and tensor.dim() == 2)


def _rounded(
    tensors: dict[str, Tensor], dtype: torch.dtype, is_rounded: Callable[[str, Tensor], bool]
) -> dict[str, Tensor]:
    """Return tensors, some of them in a dtype that must hold their values."""
    rounded: dict[int, Tensor] = {}  # tied weights must stay one tensor, or they would be stored twice
    stored = dict(tensors)
    largest, wanted = torch.finfo(dtype).max, str(dtype).removeprefix("torch.").partition("_")[0]
    for name, tensor in tensors.items():
        if is_rounded(name, tensor):
            if not bool((tensor.abs() <= largest).all()):
                raise ValueError(f"{name} has values beyond the range of {wanted} ({largest:g}); store it in float32.")
            stored[name] = rounded.setdefault(tensor.data_ptr(), tensor.to(dtype))
    return stored


@torch.no_grad()
def round_to_float16_(model: PreTrainedModel) -> None:
    """Round a model's weights in place to what float16 can hold, see [`float16_tensors`]; their dtype stays."""
    state = model.state_dict()
    for name, tensor in float16_tensors(model).items():
        state[name].copy_(tensor)
