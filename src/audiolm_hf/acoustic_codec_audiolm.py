# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The codecs that AudioLM can use: SoundStream, and EnCodec, DAC and Mimi of transformers; others register here."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    DacConfig,
    DynamicCache,
    EncodecConfig,
    MimiConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from .codec_interface_audiolm import UNBOUNDED, AcousticCodec, WindowedCodec, steps_reached
from .compat_audiolm import CACHE_NAME
from .configuration_audiolm import CODECS, SoundStreamConfig, require_usable_codec
from .modeling_soundstream_audiolm import SoundStreamModel


class SoundStreamCodec(AcousticCodec):
    """The codec of this package."""

    config_class = SoundStreamConfig
    model_class = SoundStreamModel

    def _context(self, num_codebooks: int) -> tuple[int, int]:
        return self.model.decoder_context(num_codebooks)

    def _decode_window(self, audio_codes: Tensor, known: int, frames: int, state: Any) -> tuple[Tensor, Any]:
        return self.model.decode_window(audio_codes, None, state, known, frames)


def _within(audio_codes: Tensor, start: int, stop: int, reach: int) -> tuple[Tensor, int]:
    """Return the codes of the frames from `start` to `stop` and of `reach` around them, and how many come before."""
    first = max(0, start - reach)
    return audio_codes[:, :, first : stop + reach], start - first


class EncodecCodec(WindowedCodec):
    """EnCodec, mono, encoded as one run of frames: its own `encode` cuts audio into chunks, each with a scale."""

    config_class = EncodecConfig

    @property
    def num_codebooks(self) -> int:
        """Levels used at the highest target bandwidth."""
        return len(self.model.quantizer.layers)

    def _encode(self, input_values: Tensor) -> Tensor:
        latents = self.model.encoder(input_values[:, None])
        return self.model.quantizer.encode(latents).transpose(0, 1)  # (batch, num_codebooks, frames)

    def _latents(self, audio_codes: Tensor, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        convolution, recurrent = self.model.decoder.layers[:2]
        codes, before = _within(audio_codes, start, stop, self._code_reach())
        hidden = convolution(self.model.quantizer.decode(codes.transpose(0, 1)))[..., before : before + stop - start]
        hidden = hidden.permute(2, 0, 1)
        outputs, state = recurrent.lstm(hidden, state)
        return (outputs + hidden).permute(1, 2, 0), state

    def _synthesize(self, latents: Tensor) -> Tensor:
        for layer in self.model.decoder.layers[2:]:
            latents = layer(latents)
        return latents[:, 0]

    def _reach(self) -> int:
        if self.config.norm_type == "time_group_norm":  # over the whole recording, so in one pass
            return UNBOUNDED
        return steps_reached(self.model.decoder.layers[2:])

    def _code_reach(self) -> int:
        return steps_reached(self.model.decoder.layers[0])


class DacCodec(WindowedCodec):
    """Descript audio codec."""

    config_class = DacConfig

    @property
    def num_codebooks(self) -> int:
        """Levels of the residual quantizer."""
        return self.config.n_codebooks

    def _latents(self, audio_codes: Tensor, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        return self.model.quantizer.from_codes(audio_codes[:, :, start:stop])[0], None

    def _synthesize(self, latents: Tensor) -> Tensor:
        return self.model.decoder(latents)[:, 0]

    def _reach(self) -> int:
        return steps_reached(self.model.decoder)


class MimiCodec(WindowedCodec):
    """Mimi; its first level is the one distilled from a speech encoder."""

    config_class = MimiConfig

    @property
    def hop_length(self) -> int:
        """Audio samples per frame of codes."""
        return self.config.frame_size

    def _parts(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Return the layer that upsamples latents, the transformer, and the convolutions after it."""
        decoder = self.model.decoder
        if hasattr(decoder, "decoder_seanet"):
            return decoder.upsample, decoder.decoder_transformer, decoder.decoder_seanet
        return self.model.upsample, self.model.decoder_transformer, decoder  # before transformers 5.24

    def _latents(self, audio_codes: Tensor, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        upsample, transformer, _ = self._parts()
        codes, before = _within(audio_codes, start, stop, self._code_reach())
        hidden = upsample(self.model.quantizer.decode(codes)).unflatten(2, (codes.shape[2], -1))
        hidden = hidden[:, :, before : before + stop - start].flatten(2).transpose(1, 2)
        with hidden.device:  # where the cache makes its first tensors; it holds the sliding window of the attention
            state = DynamicCache(config=transformer.config) if state is None else state
            hidden = transformer(hidden, use_cache=True, **{CACHE_NAME: state}).last_hidden_state
        return hidden.transpose(1, 2), state

    def _synthesize(self, latents: Tensor) -> Tensor:
        return self._parts()[2](latents)[:, 0]

    def _reach(self) -> int:
        upsample, _, convolutions = self._parts()
        return math.ceil(steps_reached(convolutions) / upsample.conv.stride[0])

    def _code_reach(self) -> int:
        return steps_reached(self._parts()[0])


ACOUSTIC_CODECS: dict[str, type[AcousticCodec]] = {}  # by model_type


def register_acoustic_codec(codec_class: type[AcousticCodec]) -> None:
    """Add a codec to those that an AudioLM can have; its `config_class` has its own `model_type`."""
    CODECS[codec_class.config_class.model_type] = codec_class.config_class
    ACOUSTIC_CODECS[codec_class.config_class.model_type] = codec_class


for _codec_class in (SoundStreamCodec, EncodecCodec, DacCodec, MimiCodec):
    register_acoustic_codec(_codec_class)


def wrap_acoustic_codec(model: PreTrainedModel) -> AcousticCodec:
    """Return the common interface to a codec model, which shares its weights."""
    require_usable_codec(model.config)
    return ACOUSTIC_CODECS[model.config.model_type](model)


def build_acoustic_codec(config: PreTrainedConfig) -> AcousticCodec:
    """Build a codec with random weights, in float32, from its configuration; `model` of the result is the model."""
    require_usable_codec(config)
    model_class = ACOUSTIC_CODECS[config.model_type].model_class
    foreign = model_class is AutoModel
    return wrap_acoustic_codec(AutoModel.from_config(config, dtype=torch.float32) if foreign else model_class(config))
