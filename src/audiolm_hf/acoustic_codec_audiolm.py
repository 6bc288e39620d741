# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""One contract over the codecs that AudioLM can use: SoundStream, transformers' EnCodec, DAC and Mimi, and others.

In: `input_values (batch, num_samples)`; out: `audio_codes (batch, num_codebooks, frames)`, and back. Every codec has a
`frame_rate` that is a float, and `ceil(num_samples / hop_length)` frames. A codec registers by one call.

Paper: AudioLM (arXiv 2209.03143), acoustic tokens.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
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

from .compat_audiolm import CACHE_NAME
from .configuration_audiolm import CODECS, SoundStreamConfig, require_usable_codec
from .input_checks_audiolm import check_codes, check_num_codebooks, check_waveform, length_mask, row_lengths
from .modeling_soundstream_audiolm import SoundStreamModel
from .numerics_audiolm import evaluation_mode, finite_parts, loaded, require_finite, require_one_dtype

DECODE_WINDOW_SAMPLES = 81_920  # decoded at once by codecs of transformers: what bounds the memory, and nothing else


class AcousticCodec:
    """A codec model seen through one contract; its weights are shared, not copied.

    A subclass has the `config_class` and `model_class` of its models, and overrides what they do not have by these
    names: the properties, `encode(input_values).audio_codes` and `decode(audio_codes).audio_values`.
    """

    config_class: type[PreTrainedConfig]
    model_class: Any = AutoModel  # builds and loads the codecs of transformers

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
            ValueError: if an input does not fit, or samples or weights are not finite.
        """
        check_waveform(input_values)
        require_one_dtype(self.model, "The codec")
        num_codebooks = check_num_codebooks(num_codebooks, self.num_codebooks)
        lengths = row_lengths(input_values, attention_mask)
        values = input_values.float().where(length_mask(lengths, input_values.shape[1]), 0.0)
        frames = math.ceil(values.shape[1] / self.hop_length)
        padded = F.pad(values, (0, frames * self.hop_length - values.shape[1]))
        with evaluation_mode(self.model), loaded(self.model), torch.autocast(values.device.type, enabled=False):
            quantizer = getattr(self.model, "quantizer", self.model)
            for weights in (*quantizer.parameters(), *quantizer.buffers()):
                require_finite(weights, "The quantizer of the codec")
            with finite_parts(self.model, "What the codec encodes"):
                return self._encode(padded.to(self.model.dtype))[:, :num_codebooks, :frames]

    @torch.no_grad()
    def decode(self, audio_codes: Tensor) -> Tensor:
        """Decode codes to waveforms, in windows of bounded memory that together give what one pass would.

        Args:
            audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`): any number of leading levels.

        Returns:
            `torch.FloatTensor` of shape `(batch, frames * hop_length)`, float32.
        """
        check_codes(audio_codes, self.num_codebooks, self.codebook_size)
        require_one_dtype(self.model, "The codec")
        device_type = audio_codes.device.type
        with evaluation_mode(self.model), loaded(self.model), torch.autocast(device_type, enabled=False):
            audio = self._decode(audio_codes.long())
        require_finite(audio, "What the codec decodes")
        return audio

    def _encode(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values).audio_codes

    def _decode(self, audio_codes: Tensor) -> Tensor:
        return self.model.decode(audio_codes).audio_values


class SoundStreamCodec(AcousticCodec):
    """The codec of this package."""

    config_class = SoundStreamConfig
    model_class = SoundStreamModel


class WindowedCodec(AcousticCodec):
    """A codec that transformers decodes in one pass, decoded here in windows.

    `_latents` makes the input of the convolutions that synthesize samples, each frame once and in order, so that a
    recurrent layer or a transformer keeps its state. A window is synthesized with the frames on either side that it
    depends on.
    """

    def _decode(self, audio_codes: Tensor) -> Tensor:
        frames, hop_length = audio_codes.shape[2], self.hop_length
        reach = self._reach()
        window = max(reach, math.ceil(DECODE_WINDOW_SAMPLES / hop_length))
        audio = audio_codes.new_empty(len(audio_codes), frames * hop_length, dtype=torch.float32)
        pieces: list[Tensor] = []  # latents of the frames from `first` to `made`, not yet or again needed
        first, made, state = 0, 0, None
        for start in range(0, frames, window):
            stop = min(start + window, frames)
            until = min(stop + reach, frames)
            if made < until:
                latents, state = self._latents(audio_codes, made, until, state)
                pieces.append(latents)
            latents = torch.cat(pieces, dim=-1)
            known = max(0, start - reach)
            latents = latents[..., (known - first) * latents.shape[-1] // (until - first) :]
            pieces, first, made = [latents], known, until
            values = self._synthesize(latents)[:, (start - first) * hop_length : (stop - first) * hop_length]
            missing = (stop - start) * hop_length - values.shape[1]  # some transposed convolutions stop early
            audio[:, start * hop_length : stop * hop_length] = F.pad(values, (0, missing))
        return audio

    def _latents(self, audio_codes: Tensor, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        """Return latents `(batch, channels, steps)` of the frames from `start` to `stop`, and the state after them."""
        raise NotImplementedError("A codec in windows makes latents of codes.")

    def _synthesize(self, latents: Tensor) -> Tensor:
        """Return samples `(batch, num_samples)` of latents."""
        raise NotImplementedError("A codec in windows makes samples of latents.")

    def _reach(self) -> int:
        """Return at most how many frames away a latent can be of a sample that depends on it."""
        raise NotImplementedError("A codec in windows knows how far its convolutions reach.")


def _steps_reached(convolutions: nn.Module) -> int:
    """Return how many steps away a stack of convolutions can reach on either side."""
    reach, rate = 0.0, 1  # steps of the input, and samples of a layer per step
    for layer in convolutions.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            reach += math.ceil(layer.kernel_size[0] / layer.stride[0]) / rate
            rate *= layer.stride[0]
        elif isinstance(layer, nn.Conv1d):
            reach += (layer.kernel_size[0] - 1) * layer.dilation[0] / rate
    return math.ceil(reach)


def _within(audio_codes: Tensor, start: int, stop: int, reach: int) -> tuple[Tensor, int]:
    """Return the codes of some frames and of those around them, and how many there are before."""
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
        codes, before = _within(audio_codes, start, stop, _steps_reached(convolution))
        hidden = convolution(self.model.quantizer.decode(codes.transpose(0, 1)))[..., before : before + stop - start]
        hidden = hidden.permute(2, 0, 1)
        outputs, state = recurrent.lstm(hidden, state)
        return (outputs + hidden).permute(1, 2, 0), state

    def _synthesize(self, latents: Tensor) -> Tensor:
        for layer in self.model.decoder.layers[2:]:
            latents = layer(latents)
        return latents[:, 0]

    def _reach(self) -> int:
        if self.config.norm_type == "time_group_norm":  # of the whole recording: one pass it is
            return 2**40
        return _steps_reached(self.model.decoder.layers[2:])


class DacCodec(WindowedCodec):
    """Descript audio codec."""

    config_class = DacConfig

    @property
    def num_codebooks(self) -> int:
        """Levels of the residual quantizer."""
        return self.config.n_codebooks

    def _encode(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values[:, None]).audio_codes

    def _latents(self, audio_codes: Tensor, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        return self.model.quantizer.from_codes(audio_codes[:, :, start:stop])[0], None

    def _synthesize(self, latents: Tensor) -> Tensor:
        return self.model.decoder(latents)[:, 0]

    def _reach(self) -> int:
        return _steps_reached(self.model.decoder)


class MimiCodec(WindowedCodec):
    """Mimi; its first level is the one distilled from a speech encoder."""

    config_class = MimiConfig

    @property
    def hop_length(self) -> int:
        """Audio samples per frame of codes."""
        return self.config.frame_size

    def _encode(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values[:, None]).audio_codes

    def _parts(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Return what upsamples latents, the transformer, and the convolutions behind it."""
        decoder = self.model.decoder
        if hasattr(decoder, "decoder_seanet"):
            return decoder.upsample, decoder.decoder_transformer, decoder.decoder_seanet
        return self.model.upsample, self.model.decoder_transformer, decoder  # before transformers 5.24

    def _latents(self, audio_codes: Tensor, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        upsample, transformer, _ = self._parts()
        codes, before = _within(audio_codes, start, stop, _steps_reached(upsample))
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
        return math.ceil(_steps_reached(convolutions) / upsample.conv.stride[0])


ACOUSTIC_CODECS: dict[str, type[AcousticCodec]] = {}  # by model_type


def register_acoustic_codec(codec_class: type[AcousticCodec]) -> None:
    """Add a codec to those that an AudioLM can have; its `config_class` has its own `model_type`."""
    CODECS[codec_class.config_class.model_type] = codec_class.config_class
    ACOUSTIC_CODECS[codec_class.config_class.model_type] = codec_class


for _codec_class in (SoundStreamCodec, EncodecCodec, DacCodec, MimiCodec):
    register_acoustic_codec(_codec_class)


def wrap_acoustic_codec(model: PreTrainedModel) -> AcousticCodec:
    """Return the contract's view of a codec model, which shares its weights."""
    require_usable_codec(model.config)
    return ACOUSTIC_CODECS[model.config.model_type](model)


def build_acoustic_codec(config: PreTrainedConfig) -> AcousticCodec:
    """Build a codec with random weights, in float32, from its configuration; `model` of the result is the model."""
    require_usable_codec(config)
    model_class = ACOUSTIC_CODECS[config.model_type].model_class
    foreign = model_class is AutoModel
    return wrap_acoustic_codec(AutoModel.from_config(config, dtype=torch.float32) if foreign else model_class(config))
