# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""One contract over the codecs that AudioLM can use: SoundStream, and transformers' EnCodec, DAC and Mimi.

In: `input_values (batch, num_samples)`; out: `audio_codes (batch, num_codebooks, frames)`, and back. Rates are exact
here: `frame_rate` is a float, and `frames = ceil(num_samples / hop_length)` for every codec.

Paper: AudioLM (arXiv 2209.03143), acoustic tokens.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from .configuration_audiolm import require_usable_codec
from .input_checks_audiolm import check_codes, check_num_codebooks, check_waveform, row_lengths
from .modeling_soundstream_audiolm import SoundStreamModel
from .numerics_audiolm import evaluation_mode


class AcousticCodec:
    """A codec model seen through one contract.

    Args:
        model ([`~transformers.PreTrainedModel`]): the codec; its weights are shared, not copied.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.config = model.config

    @property
    def sampling_rate(self) -> int:
        """Samples per second of the audio, Hz."""
        return self.config.sampling_rate

    @property
    def hop_length(self) -> int:
        """Audio samples per frame of codes."""
        return self.config.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames of codes per second, Hz."""
        return self.sampling_rate / self.hop_length

    @property
    def num_codebooks(self) -> int:
        """Levels of the residual quantizer."""
        return self.config.num_codebooks

    @property
    def codebook_size(self) -> int:
        """Entries of each codebook."""
        return self.config.codebook_size

    @torch.no_grad()
    def encode(
        self, input_values: Tensor, attention_mask: Tensor | None = None, num_codebooks: int | None = None
    ) -> Tensor:
        """Encode waveforms to codes.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, num_samples)`): mono audio in [-1, 1].
            attention_mask (`torch.LongTensor` of shape `(batch, num_samples)`, *optional*): 1 for real samples, 0 for
                padding, which is taken as silence.
            num_codebooks (`int`, *optional*): leading levels to return; all of them by default.

        Returns:
            `torch.LongTensor` of shape `(batch, num_codebooks, ceil(num_samples / hop_length))`.

        Raises:
            TypeError: if `input_values` are not floats, or the mask no real numbers.
            ValueError: if the waveform is empty, not 2-D or not finite, the mask has another shape, other values than
                0 and 1 or padding before a recording, or there are fewer levels than asked for.
        """
        check_waveform(input_values)
        num_codebooks = check_num_codebooks(num_codebooks, self.num_codebooks)
        real = torch.arange(input_values.shape[1], device=input_values.device)
        values = input_values.float().where(real < row_lengths(input_values, attention_mask)[:, None], 0.0)
        frames = math.ceil(values.shape[1] / self.hop_length)
        padded = F.pad(values, (0, frames * self.hop_length - values.shape[1]))
        with evaluation_mode(self.model), torch.autocast(values.device.type, enabled=False):
            return self._encode(padded.to(self.model.dtype))[:, :num_codebooks, :frames]

    @torch.no_grad()
    def decode(self, audio_codes: Tensor) -> Tensor:
        """Decode codes to waveforms.

        Args:
            audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`): any number of leading levels.

        Returns:
            `torch.FloatTensor` of shape `(batch, frames * hop_length)`, float32.

        Raises:
            TypeError: if the codes are not integers.
            ValueError: if the codes are not 3-D, empty, out of range, or have more levels than the codec.
        """
        check_codes(audio_codes, self.num_codebooks, self.codebook_size)
        with evaluation_mode(self.model), torch.autocast(audio_codes.device.type, enabled=False):
            audio_values = self._decode(audio_codes.long()).float()
        num_samples = audio_codes.shape[2] * self.hop_length
        missing = max(0, num_samples - audio_values.shape[1])  # some transposed convolutions stop a few samples early
        return F.pad(audio_values, (0, missing))[:, :num_samples]

    def _encode(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values).audio_codes

    def _decode(self, audio_codes: Tensor) -> Tensor:
        return self.model.decode(audio_codes).audio_values


class EncodecCodec(AcousticCodec):
    """EnCodec, mono, encoded whole.

    The model's own `encode` cuts audio into chunks and returns 4-D codes with a scale for each; its encoder, quantizer
    and decoder are called here instead, so that a recording is one run of frames.
    """

    @property
    def num_codebooks(self) -> int:
        """Levels used at the highest target bandwidth."""
        return len(self.model.quantizer.layers)

    def _encode(self, input_values: Tensor) -> Tensor:
        latents = self.model.encoder(input_values[:, None])
        return self.model.quantizer.encode(latents).transpose(0, 1)  # (batch, num_codebooks, frames)

    def _decode(self, audio_codes: Tensor) -> Tensor:
        return self.model.decoder(self.model.quantizer.decode(audio_codes.transpose(0, 1)))[:, 0]


class DacCodec(AcousticCodec):
    """Descript audio codec."""

    @property
    def num_codebooks(self) -> int:
        """Levels of the residual quantizer."""
        return self.config.n_codebooks

    def _encode(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values[:, None]).audio_codes

    def _decode(self, audio_codes: Tensor) -> Tensor:
        return self.model.decode(audio_codes=audio_codes).audio_values


class MimiCodec(AcousticCodec):
    """Mimi; its first level is the one distilled from a speech encoder."""

    @property
    def hop_length(self) -> int:
        """Audio samples per frame of codes."""
        return self.config.frame_size

    def _encode(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values[:, None]).audio_codes

    def _decode(self, audio_codes: Tensor) -> Tensor:
        return self.model.decode(audio_codes).audio_values[:, 0]


_CODECS = {"soundstream": AcousticCodec, "encodec": EncodecCodec, "dac": DacCodec, "mimi": MimiCodec}


def wrap_acoustic_codec(model: PreTrainedModel) -> AcousticCodec:
    """Return the contract's view of a codec model.

    Args:
        model ([`~transformers.PreTrainedModel`]): SoundStream, EnCodec, DAC or Mimi.

    Returns:
        [`AcousticCodec`]: shares the model's weights.

    Raises:
        ValueError: if the kind of codec is not known, or its settings cannot be used.
    """
    require_usable_codec(model.config)
    return _CODECS[model.config.model_type](model)


def build_acoustic_codec(config: PreTrainedConfig) -> AcousticCodec:
    """Build a codec with random weights, in float32, from its configuration.

    Args:
        config ([`~transformers.PreTrainedConfig`]): of SoundStream, EnCodec, DAC or Mimi.

    Returns:
        [`AcousticCodec`]: its `model` is the [`~transformers.PreTrainedModel`].

    Raises:
        ValueError: if the kind of codec is not known, or its settings cannot be used.
    """
    require_usable_codec(config)
    own = config.model_type == "soundstream"
    return wrap_acoustic_codec(SoundStreamModel(config) if own else AutoModel.from_config(config, dtype=torch.float32))


__all__ = ["AcousticCodec", "build_acoustic_codec", "wrap_acoustic_codec"]
