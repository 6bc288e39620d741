# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Both tokenizers: one decoded recording in, the records of a token dataset out.

Also the hash by which a dataset names its tokenizers: it covers what decides the tokens and nothing else, so that a
codec's decoder can be trained further without any recording being tokenized again.

Paper: AudioLM (arXiv 2209.03143), the two tokenizers.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.data.loading import load_codec, load_semantic_tokenizer, round_to_float16_
from audiolm_hf.data.tokens import TokenInfo, TokenRecord
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.semantic_tokenizer_audiolm import SemanticTokenizerModel
from audiolm_hf.time_grid_audiolm import TimeGrid

SEGMENT_LENGTH_S = 30.0  # longer recordings are cut, so that an encoder's attention stays small
LAST_SEGMENT_S = 1.0  # a shorter end joins the segment before it

# What does not decide any token: where and with what a configuration was saved ...
_VOLATILE_KEYS = ("_name_or_path", "architectures", "dtype", "transformers_version", "auto_map")
# ... how a codec was trained, and how SoundStream decodes codes ...
_SOUNDSTREAM_KEYS = (
    *("codebook_decay", "dead_code_threshold", "initializer_range", "quantizer_dropout"),
    *("decoder_type", "num_decoder_layers", "num_lookahead_layers", "phase_iterations"),
    *("lowest_f0", "highest_f0", "num_pitch_bins", "num_noise_bands", "num_phase_bands"),
)
# ... the weights between codes and audio, by their first names, in any of the codecs ...
_DECODER_PREFIXES = ("decoder.", "decoder_transformer.", "quantizer.out_proj.", "quantizer.low_band_proj.")
# ... and the moving averages that SoundStream's codebooks are computed from.
_STATISTICS = ("sums", "counts", "initialized")


@dataclass(frozen=True)
class TokenizerPair:
    """The two tokenizers, on one device."""

    semantic_tokenizer: SemanticTokenizerModel  # audio to semantic tokens
    codec: AcousticCodec  # audio to codes

    @classmethod
    def of(cls, model: AudioLMModel) -> "TokenizerPair":
        """Return those of a model."""
        return cls(model.semantic_tokenizer, model.acoustic_codec)

    @property
    def grid(self) -> TimeGrid:
        """The times of semantic tokens and codec frames."""
        config, codec = self.semantic_tokenizer.config, self.codec
        return TimeGrid.from_hops(config.hop_length, config.sampling_rate, codec.hop_length, codec.sampling_rate)


def load_tokenizers(
    semantic_tokenizer: str | Path, codec: str | Path, float16: bool = False, device: str | torch.device = "cpu"
) -> TokenizerPair:
    """Load both tokenizers for inference; `float16` rounds their weights first, as `assemble` stores them."""
    pair = TokenizerPair(load_semantic_tokenizer(semantic_tokenizer), load_codec(codec))
    for model in (pair.semantic_tokenizer, pair.codec.model):
        if float16:
            round_to_float16_(model)
        try:
            model.to(device)
        except (RuntimeError, AssertionError) as error:  # torch's errors for a device that is not there
            raise ValueError(f"The device {device!r} cannot be used ({error}); give cpu or another one.") from error
    return pair


def tokenizers_hash(semantic_tokenizer: PreTrainedModel, codec: PreTrainedModel) -> str:
    """Hash what determines the tokens, configurations and weights without the codec's decoder, to 16 digits."""
    digest = hashlib.sha256()
    codec_keys = _SOUNDSTREAM_KEYS if codec.config.model_type == "soundstream" else ()
    # What differs from the defaults, as in config.json, so that new fields of later versions do not matter.
    _update(digest, semantic_tokenizer.config.to_diff_dict(), semantic_tokenizer.state_dict())
    config = {key: value for key, value in codec.config.to_diff_dict().items() if key not in codec_keys}
    deciding = {
        name: tensor
        for name, tensor in codec.state_dict().items()
        if not name.startswith(_DECODER_PREFIXES) and name.rpartition(".")[2] not in _STATISTICS
    }
    _update(digest, config, deciding)
    return digest.hexdigest()[:16]


def _update(digest: "hashlib._Hash", config: dict[str, object], tensors: dict[str, Tensor]) -> None:
    digest.update(json.dumps(_stable(config), sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _stable(values: object) -> object:
    """Drop the keys of a configuration that say where and with what it was saved."""
    if isinstance(values, dict):
        return {str(key): _stable(value) for key, value in values.items() if key not in _VOLATILE_KEYS}
    return values


def token_info(tokenizers: TokenizerPair) -> TokenInfo:
    """Describe the tokens of two tokenizers."""
    config, codec = tokenizers.semantic_tokenizer.config, tokenizers.codec
    if max(config.num_semantic_tokens, codec.codebook_size) > 2**15:
        raise ValueError(
            f"num_semantic_tokens is {config.num_semantic_tokens} and codebook_size {codec.codebook_size}; tokens are "
            f"stored in 16 bits, so at most {2**15} of each."
        )
    return TokenInfo(
        tokenizers=tokenizers_hash(tokenizers.semantic_tokenizer, codec.model),
        sampling_rate=codec.sampling_rate,
        semantic_sampling_rate=config.sampling_rate,
        semantic_hop_length=config.hop_length,
        num_semantic_tokens=config.num_semantic_tokens,
        hop_length=codec.hop_length,
        num_codebooks=codec.num_codebooks,
        codebook_size=codec.codebook_size,
    )


@torch.inference_mode()
def tokenize_recording(
    recording: AudioRecord, tokenizers: TokenizerPair, start_s: float = 0.0
) -> Iterator[TokenRecord]:
    """Tokenize one recording, a long one in segments; all but the last are a whole number of units of the grid."""
    semantic_tokenizer, codec, rate = tokenizers.semantic_tokenizer, tokenizers.codec, recording.sampling_rate
    grid = tokenizers.grid
    frames = grid.frames_of(max(1, round(SEGMENT_LENGTH_S / grid.unit_s)))
    segment = frames * codec.hop_length
    of_tokens = int(grid.tokens_within(frames) * grid.token_s * rate)  # samples of a segment's tokens
    starts = list(range(0, len(recording.array), segment))
    if len(starts) > 1 and len(recording.array) - starts[-1] < LAST_SEGMENT_S * rate:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(recording.array)], strict=True):
        is_last = end == len(recording.array)
        input_values = torch.from_numpy(recording.array[start:end])[None].to(semantic_tokenizer.device)
        semantic_values = input_values if is_last else input_values[:, :of_tokens]
        tokens = semantic_tokenizer.tokenize(semantic_values, sampling_rate=rate).semantic_tokens[0]
        codes = codec.encode(input_values)[0]
        yield TokenRecord(
            id=recording.id,
            speaker=recording.speaker,
            accent=recording.accent,
            source=recording.source,
            start=start_s + start / rate,
            duration=(end - start) / rate,
            ends_recording=is_last,
            semantic_tokens=tokens.cpu().numpy().astype(np.int16),
            audio_codes=codes.cpu().numpy().astype(np.int16),
        )
