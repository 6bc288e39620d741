# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""One interface for semantic tokenizers: waveforms in, tokens and their mask out, at a fixed rate.

A tokenizer derives its configuration from [`SemanticTokenizerConfig`] and its model from [`SemanticTokenizerModel`],
and registers by one call.

Paper: AudioLM (arXiv 2209.03143), section on semantic tokens.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput, can_return_tuple

from .audio_samples_audiolm import check_sampling_rate, resample
from .checkpoint_audiolm import AudioLMPreTrainedModel
from .configuration_audiolm import AudioLMConfig, SemanticTokenizerConfig
from .input_checks_audiolm import check_ids, check_waveform, length_mask, row_lengths
from .numerics_audiolm import KeepsFloat32, require_one_dtype


@dataclass
class AudioLMSemanticTokenizerOutput(ModelOutput):
    """Tokens of a batch of recordings.

    Args:
        semantic_tokens (`torch.LongTensor` of shape `(batch, semantic_length)`): in `[0, num_semantic_tokens)`; 0 in
            the padding.
        attention_mask (`torch.LongTensor` of shape `(batch, semantic_length)`): 1 for tokens, 0 for padding.
    """

    semantic_tokens: Tensor | None = None
    attention_mask: Tensor | None = None


class SemanticTokenizerModel(KeepsFloat32, AudioLMPreTrainedModel):
    """Base of semantic tokenizers; a subclass has a `config_class` and a `compute_tokens`.

    A recording of `n` samples at `config.sampling_rate` has exactly `ceil(n / config.hop_length)` tokens, which do not
    depend on the rest of a padded batch. The tokenizer is always in evaluation mode and in float32, also with
    autocast.
    """

    config: SemanticTokenizerConfig
    config_class = SemanticTokenizerConfig
    base_model_prefix = "semantic_tokenizer"
    main_input_name = "input_values"
    input_modalities = "audio"

    @property
    def device(self) -> torch.device:
        """Device of its parameters or, if it has none, of its buffers."""
        return next(chain(self.parameters(), self.buffers())).device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of its parameters or, if it has none, of its buffers."""
        return next(each.dtype for each in chain(self.parameters(), self.buffers()) if each.is_floating_point())

    def compute_tokens(self, input_values: Tensor, lengths: Tensor) -> Tensor:
        """Convert waveforms `(batch, num_samples)` at `config.sampling_rate`, padded with 0, to tokens.

        They are int64 `(batch, ceil(num_samples / hop_length))`, with any values after the tokens of a recording.
        """
        raise NotImplementedError(f"{type(self).__name__} has no compute_tokens, which turns waveforms into tokens.")

    def train(self, mode: bool = True) -> "SemanticTokenizerModel":
        """Stay in evaluation mode for any `mode`."""
        return super().train(False)

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        sampling_rate: int | None = None,
        **kwargs: Any,
    ) -> AudioLMSemanticTokenizerOutput:
        """Tokenize a batch; see [`SemanticTokenizerModel.tokenize`]. `return_dict=False` returns a tuple."""
        return self.tokenize(input_values, attention_mask, sampling_rate)

    @torch.no_grad()
    def tokenize(
        self, input_values: Tensor, attention_mask: Tensor | None = None, sampling_rate: int | None = None
    ) -> AudioLMSemanticTokenizerOutput:
        """Convert waveforms to semantic tokens.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, num_samples)`): mono audio in [-1, 1].
            attention_mask (`torch.LongTensor` of shape `(batch, num_samples)`, *optional*): 1 for samples of the
                recording, then 0 for padding.
            sampling_rate (`int`, *optional*): Hz, of `input_values`, which are resampled; by default
                `config.sampling_rate`.

        Returns:
            [`AudioLMSemanticTokenizerOutput`] with int64 tokens.

        Raises:
            TypeError: if `input_values` are not floats, or the mask no real numbers.
            ValueError: if an input does not fit or is not finite, or `compute_tokens` returns tokens of another number
                or range.
        """
        input_values, lengths = self.read_waveforms(input_values, attention_mask, sampling_rate)
        mask = self.token_mask(input_values, lengths)
        with torch.autocast(input_values.device.type, enabled=False):
            tokens = self.compute_tokens(input_values, lengths)
        if tokens.shape != mask.shape:
            raise ValueError(
                f"{type(self).__name__}.compute_tokens returned tokens of shape {tuple(tokens.shape)}; for a "
                f"hop_length of {self.config.hop_length} it must be {tuple(mask.shape)}."
            )
        tokens = tokens.masked_fill(mask == 0, 0)
        check_ids(f"What {type(self).__name__}.compute_tokens returned", tokens, self.config.num_semantic_tokens)
        return AudioLMSemanticTokenizerOutput(semantic_tokens=tokens.long(), attention_mask=mask)

    def read_waveforms(
        self, input_values: Tensor, attention_mask: Tensor | None, sampling_rate: int | None
    ) -> tuple[Tensor, Tensor]:
        """Check the arguments of `tokenize`, and resample recordings in float32, with zeros in the padding."""
        check_waveform(input_values)
        require_one_dtype(self, "The semantic tokenizer")
        lengths, rate = row_lengths(input_values, attention_mask), self.config.sampling_rate
        if sampling_rate is not None:
            sampling_rate = check_sampling_rate(sampling_rate)
        input_values = input_values.float().where(length_mask(lengths, input_values.shape[1]), 0.0)
        if sampling_rate is None or sampling_rate == rate:
            return input_values, lengths
        lengths = -(-lengths * rate // sampling_rate)
        resampled = resample(input_values, sampling_rate, rate)
        return resampled.where(length_mask(lengths, resampled.shape[1]), 0.0), lengths

    def token_mask(self, input_values: Tensor, lengths: Tensor) -> Tensor:
        """Return the mask `(batch, semantic_length)` of the tokens of waveforms at the tokenizer's rate."""
        hop_length = self.config.hop_length
        return length_mask(-(-lengths // hop_length), -(-input_values.shape[1] // hop_length)).long()


SEMANTIC_TOKENIZERS: dict[str, type[SemanticTokenizerModel]] = {}  # by model_type


def register_semantic_tokenizer(model_class: type[SemanticTokenizerModel]) -> None:
    """Add a semantic tokenizer to those that an AudioLM can have; its `config_class` has its own `model_type`."""
    AudioLMConfig.add_semantic_tokenizer(model_class.config_class)
    SEMANTIC_TOKENIZERS[model_class.config_class.model_type] = model_class
