# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The codec: waveform in, codes out, and back (SoundStream, arXiv 2107.03312, section III).

A causal encoder makes one latent vector per `hop_length` samples, a residual vector quantizer turns it into
`num_codebooks` codes, a causal decoder turns codes into samples. Encoder and decoder come in two kinds each (see
[`SoundStreamConfig`]): strided convolutions on the waveform as in the paper, or blocks that work wholly at the frame
rate between a short-time transform and its inverse (Vocos, arXiv 2306.00814), which is far cheaper on a CPU.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .checkpoint_audiolm import AudioLMPreTrainedModel
from .configuration_audiolm import SoundStreamConfig
from .low_band_audiolm import (
    compress_low_band,
    cosine_analysis,
    cosine_synthesis,
    expand_low_band,
    low_band_basis,
)
from .residual_quantizer_audiolm import ResidualVectorQuantizer
from .spectral_codec_audiolm import LAYER_SCALE, ISTFTDecoder, SpectralEncoder


@dataclass
class SoundStreamEncoderOutput(ModelOutput):
    """Codes of a batch of waveforms.

    Args:
        audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`): codes in [0, codebook_size).
        attention_mask (`torch.LongTensor` of shape `(batch, frames)`): 1 for frames that hold a real sample.
    """

    audio_codes: torch.Tensor | None = None
    attention_mask: torch.Tensor | None = None


@dataclass
class SoundStreamDecoderOutput(ModelOutput):
    """Decoded waveforms.

    Args:
        audio_values (`torch.FloatTensor` of shape `(batch, num_samples)`): samples, nominally in [-1, 1].
    """

    audio_values: torch.Tensor | None = None


@dataclass
class SoundStreamOutput(ModelOutput):
    """Reconstruction of a batch of waveforms, with the quantizer's losses.

    Args:
        loss (`torch.FloatTensor` of shape `()`): `commitment_loss + codebook_loss`; the losses on the waveform are the
            trainer's.
        audio_values (`torch.FloatTensor` of shape `(batch, num_samples)`): reconstruction.
        audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`): codes.
        commitment_loss (`torch.FloatTensor` of shape `()`): see `QuantizerOutput`.
        codebook_loss (`torch.FloatTensor` of shape `()`): see `QuantizerOutput`.
        log_magnitude (`torch.FloatTensor` of shape `(batch, frames, window_length // 2 + 1)`, *optional*): what an
            iSTFT decoder holds for the spectrum of each window, natural logarithm.
    """

    loss: torch.Tensor | None = None
    audio_values: torch.Tensor | None = None
    audio_codes: torch.Tensor | None = None
    commitment_loss: torch.Tensor | None = None
    codebook_loss: torch.Tensor | None = None
    log_magnitude: torch.Tensor | None = None


class CausalConv1d(nn.Conv1d):
    """Convolution whose output depends on the current and earlier inputs only."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Convolve `(batch, channels, length)`; the length is divided by the stride."""
        reach = (self.kernel_size[0] - 1) * self.dilation[0] + 1 - self.stride[0]
        return super().forward(F.pad(hidden_states, (reach, 0)))


class CausalConvTranspose1d(nn.ConvTranspose1d):
    """Transposed convolution cut so that its output depends on the current and earlier inputs only."""

    def forward(self, hidden_states: Tensor) -> Tensor:  # type: ignore[override] # no output_size
        """Upsample `(batch, channels, length)` by the stride."""
        upsampled = super().forward(hidden_states)
        return upsampled[..., : hidden_states.shape[-1] * self.stride[0]]


class ResidualUnit(nn.Module):
    """Dilated causal convolution and a pointwise one, added to the input (SoundStream, figure 3)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilated = CausalConv1d(channels, channels, 7, dilation=dilation)
        self.pointwise = nn.Conv1d(channels, channels, 1)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Transform `(batch, channels, length)` to the same shape."""
        return hidden_states + self.pointwise(F.elu(self.dilated(F.elu(hidden_states))))


def _residual_units(channels: int) -> list[nn.Module]:
    return [*(ResidualUnit(channels, dilation) for dilation in (1, 3, 9)), nn.ELU()]


class ConvolutionalEncoder(nn.Module):
    """Strided causal convolutions on the waveform (SoundStream, section III-A)."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        channels = config.num_channels
        layers: list[nn.Module] = [CausalConv1d(1, channels, 7)]
        for stride in config.strides:
            layers += [*_residual_units(channels), CausalConv1d(channels, 2 * channels, 2 * stride, stride=stride)]
            channels *= 2
        self.layers = nn.Sequential(*layers, nn.ELU(), CausalConv1d(channels, config.hidden_size, 3))

    def forward(self, input_values: Tensor) -> Tensor:
        """Encode `(batch, num_samples)`, a whole number of frames, to `(batch, frames, hidden_size)`."""
        return self.layers(input_values[:, None]).transpose(1, 2)


class MirroredDecoder(nn.Module):
    """Transposed causal convolutions that mirror the encoder (SoundStream, section III-B)."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        channels = config.num_channels * 2 ** len(config.strides)
        layers: list[nn.Module] = [CausalConv1d(config.hidden_size, channels, 7)]
        for stride in reversed(config.strides):
            upsample = CausalConvTranspose1d(channels, channels // 2, 2 * stride, stride=stride)
            layers += [nn.ELU(), upsample, *_residual_units(channels // 2)[:-1]]
            channels //= 2
        self.layers = nn.Sequential(*layers, nn.ELU(), CausalConv1d(channels, 1, 7))

    def forward(self, latents: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Decode `(batch, frames, hidden_size)` to `(batch, frames * hop_length)`."""
        return self.layers(latents.transpose(1, 2))[:, 0]


class SoundStreamModel(AudioLMPreTrainedModel):
    """Neural audio codec with a causal encoder and decoder and a residual vector quantizer.

    Paper: SoundStream (arXiv 2107.03312), section III; the acoustic tokenizer of AudioLM (arXiv 2209.03143).
    """

    config_class = SoundStreamConfig
    base_model_prefix = "soundstream"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    _no_split_modules = ("CausalConvNeXtBlock", "ResidualUnit")

    def __init__(self, config: SoundStreamConfig) -> None:
        config.validate()  # fields may have been assigned since it was built
        super().__init__(config)
        self.encoder = SpectralEncoder(config) if config.encoder_type == "spectral" else ConvolutionalEncoder(config)
        self.quantizer = ResidualVectorQuantizer(config)
        self.decoder = ISTFTDecoder(config) if config.decoder_type == "istft" else MirroredDecoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d | nn.ConvTranspose1d):
            # Fan-in scaling; the small default of language models would leave the codebooks without variance.
            fan_in = module.weight[0].numel()
            init.normal_(module.weight, mean=0.0, std=1 / math.sqrt(fan_in))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif hasattr(module, "initialized"):  # EMACodebook
            init.zeros_(module.codebook)
            init.zeros_(module.sums)
            init.ones_(module.counts)
            init.zeros_(module.initialized)
        elif hasattr(module, "depthwise"):  # CausalConvNeXtBlock
            init.constant_(module.scale, LAYER_SCALE)

    def encode(
        self, input_values: Tensor, attention_mask: Tensor | None = None, num_codebooks: int | None = None
    ) -> SoundStreamEncoderOutput:
        """Encode waveforms to codes.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, num_samples)`): mono audio at `config.sampling_rate`.
            attention_mask (`torch.Tensor` of shape `(batch, num_samples)`, *optional*): 1 for real samples, 0 for
                padding on the right.
            num_codebooks (`int`, *optional*): leading levels to use; all of them by default.

        Returns:
            [`SoundStreamEncoderOutput`] with `ceil(num_samples / hop_length)` frames.

        Raises:
            ValueError: if the waveform is empty or not 2-D, or `num_codebooks` is out of range.
        """
        num_codebooks = self._check_num_codebooks(num_codebooks)
        padded, frame_mask = self._pad_to_frames(input_values, attention_mask)
        audio_codes = self.quantizer.encode(self.encoder(padded), num_codebooks, self.low_band(padded))
        return SoundStreamEncoderOutput(audio_codes=audio_codes, attention_mask=frame_mask)

    def low_band(self, input_values: Tensor) -> Tensor | None:
        """Coefficients `(batch, frames, low_band_dim)` that are coded beside the latents, if the codec has them."""
        config = self.config
        if not config.low_band_dim:
            return None
        basis = low_band_basis(config.hop_length, config.low_band_dim, input_values.device)
        return compress_low_band(cosine_analysis(input_values, basis), config.low_band_scale)

    def decode(
        self, audio_codes: Tensor, attention_mask: Tensor | None = None, num_samples: int | None = None
    ) -> SoundStreamDecoderOutput:
        """Decode codes to waveforms.

        Args:
            audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`): codes of the first levels; any
                number of them.
            attention_mask (`torch.Tensor` of shape `(batch, frames)`, *optional*): 1 for real frames, 0 for padding on
                the right, whose samples are 0.
            num_samples (`int`, *optional*): samples to return; `frames * hop_length` by default.

        Returns:
            [`SoundStreamDecoderOutput`].

        Raises:
            ValueError: if the codes are not 3-D, have too many levels or lie outside [0, codebook_size).
        """
        self._check_codes(audio_codes)
        latents, low_band = self.quantizer.decode(audio_codes)
        alone = audio_codes.shape[1] <= self.config.low_band_start_level or not self.config.low_band_dim
        if self.config.phase_iterations and alone and isinstance(self.decoder, ISTFTDecoder):
            spectrum = self.decoder.spectrum(latents.to(self.dtype))
            audio_values = self.decoder.align_phase(*spectrum, attention_mask)
            audio_values = self._complete(audio_values, None, attention_mask)
        else:
            audio_values = self._decode_latents(latents, low_band, attention_mask)[0]
        return SoundStreamDecoderOutput(audio_values=audio_values[:, :num_samples])

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        num_codebooks: int | None = None,
        **kwargs: Any,
    ) -> SoundStreamOutput:
        """Reconstruct waveforms through the quantizer, differentiably.

        Arguments are those of `encode`; `num_codebooks=0` leaves the latents unquantised. `return_dict=False` gives a
        tuple, as everywhere in transformers.
        """
        num_codebooks = 0 if num_codebooks == 0 else self._check_num_codebooks(num_codebooks)
        padded, frame_mask = self._pad_to_frames(input_values, attention_mask)
        quantized = self.quantizer(self.encoder(padded), num_codebooks, self.low_band(padded))
        audio_values, log_magnitude = self._decode_latents(
            quantized.quantized, quantized.low_band, None if attention_mask is None else frame_mask
        )
        return SoundStreamOutput(
            loss=quantized.commitment_loss + quantized.codebook_loss,
            audio_values=audio_values[:, : input_values.shape[1]],
            audio_codes=quantized.audio_codes,
            commitment_loss=quantized.commitment_loss,
            codebook_loss=quantized.codebook_loss,
            log_magnitude=log_magnitude,
        )

    def _decode_latents(
        self, latents: Tensor, low_band: Tensor | None, frame_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Waveforms, and the logarithm of the magnitude of their windows where the decoder holds one."""
        latents = latents.to(self.dtype)
        if isinstance(self.decoder, ISTFTDecoder):
            log_magnitude, phase = self.decoder.spectrum(latents)
            audio_values = self.decoder.synthesize(log_magnitude, phase, frame_mask)
            return self._complete(audio_values, low_band, frame_mask), log_magnitude
        return self._complete(self.decoder(latents, frame_mask), low_band, frame_mask), None

    def _complete(self, audio_values: Tensor, low_band: Tensor | None, frame_mask: Tensor | None) -> Tensor:
        """Put the low band in its place and silence the padding."""
        if frame_mask is None:
            return audio_values if low_band is None else self._replace_low_band(audio_values, low_band, None)
        sample_mask = frame_mask.repeat_interleave(self.config.hop_length, dim=1)
        audio_values = audio_values * sample_mask
        if low_band is None:
            return audio_values
        return self._replace_low_band(audio_values, low_band, frame_mask) * sample_mask

    def _replace_low_band(self, audio_values: Tensor, low_band: Tensor, frame_mask: Tensor | None) -> Tensor:
        """Put the coded low band in place of the decoder's own, in rows whose levels code one."""
        config = self.config
        basis = low_band_basis(config.hop_length, config.low_band_dim, audio_values.device)
        own = cosine_analysis(audio_values, basis)
        replaced = low_band.flatten(1).any(1)[:, None, None]
        if frame_mask is not None:  # windows of padding must not reach into real frames
            replaced = replaced & (frame_mask[:, :, None] > 0)
        difference = expand_low_band(low_band, config.low_band_scale) - own
        return audio_values + cosine_synthesis(torch.where(replaced, difference, torch.zeros_like(own)), basis)

    def _pad_to_frames(self, input_values: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Silence the padding, complete the last frame with zeros, and mark the frames that hold real samples."""
        if input_values.dim() != 2 or input_values.shape[1] == 0:
            raise ValueError(
                f"input_values has shape {tuple(input_values.shape)}; give mono audio of shape (batch, num_samples) "
                "with at least one sample."
            )
        hop_length = self.config.hop_length
        missing = -input_values.shape[1] % hop_length
        if attention_mask is None:
            attention_mask = torch.ones_like(input_values, dtype=torch.long)
        else:
            input_values = input_values * attention_mask.to(input_values.dtype)
        frame_mask = F.pad(attention_mask.long(), (0, missing)).unfold(1, hop_length, hop_length).amax(2)
        return F.pad(input_values, (0, missing)).to(self.dtype), frame_mask

    def _check_num_codebooks(self, num_codebooks: int | None) -> int:
        if num_codebooks is None:
            return self.config.num_codebooks
        if not 1 <= num_codebooks <= self.config.num_codebooks:
            raise ValueError(f"num_codebooks is {num_codebooks}; this codec has 1 to {self.config.num_codebooks}.")
        return num_codebooks

    def _check_codes(self, audio_codes: Tensor) -> None:
        if audio_codes.dim() != 3:
            raise ValueError(f"audio_codes has shape {tuple(audio_codes.shape)}; give (batch, num_codebooks, frames).")
        self._check_num_codebooks(audio_codes.shape[1])
        size = self.config.codebook_size
        if audio_codes.numel() == 0:
            return
        lowest, highest = int(audio_codes.min()), int(audio_codes.max())
        if lowest < 0 or highest >= size:
            raise ValueError(f"audio_codes range from {lowest} to {highest}; codes lie in [0, {size}).")


__all__ = [
    "SoundStreamDecoderOutput",
    "SoundStreamEncoderOutput",
    "SoundStreamModel",
    "SoundStreamOutput",
]
