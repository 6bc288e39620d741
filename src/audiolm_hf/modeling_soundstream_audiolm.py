# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The codec: waveform in, codes out, and back (SoundStream, arXiv 2107.03312, section III).

A causal encoder makes one latent vector per `hop_length` samples, a residual vector quantizer turns it into
`num_codebooks` codes, a causal decoder turns codes into samples. [`SoundStreamConfig`] has the kinds of encoders and
decoders: the paper's strided convolutions, `spectral_codec_audiolm` and `harmonic_decoder_audiolm`.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_utils import local_torch_dtype
from transformers.utils import ModelOutput, can_return_tuple

from .checkpoint_audiolm import AudioLMPreTrainedModel
from .config_values_audiolm import Within
from .configuration_audiolm import SoundStreamConfig
from .harmonic_decoder_audiolm import HarmonicDecoder, SourceState
from .input_checks_audiolm import check_codes, check_num_codebooks, check_waveform, length_mask, row_lengths
from .numerics_audiolm import KeepsFloat32, loaded, require_one_dtype
from .residual_quantizer_audiolm import ResidualVectorQuantizer
from .spectral_codec_audiolm import (
    LAYER_SCALE,
    ISTFTDecoder,
    SpectralEncoder,
    compress_low_band,
    expand_low_band,
    inverse_mdct,
    mdct,
    mdct_basis,
)

DECODE_WINDOW = 256  # frames decoded at once, which only limits the memory
NOISE_PLACES = 2**20  # frames at which the noise of a harmonic decoder can begin in training, so that none is learned


@dataclass
class SoundStreamEncoderOutput(ModelOutput):
    """Codes `(batch, num_codebooks, frames)` of waveforms, and the mask `(batch, frames)` of real frames."""

    audio_codes: Tensor | None = None
    attention_mask: Tensor | None = None


@dataclass
class SoundStreamDecoderOutput(ModelOutput):
    """Decoded waveforms: `audio_values (batch, num_samples)`, nominally in [-1, 1]."""

    audio_values: Tensor | None = None


@dataclass
class SoundStreamOutput(ModelOutput):
    """Reconstruction of a batch of waveforms, with the quantizer's losses.

    Args:
        loss (`torch.FloatTensor` of shape `()`): `commitment_loss`; the losses on the waveform are the
            trainer's.
        audio_values (`torch.FloatTensor` of shape `(batch, num_samples)`): reconstruction.
        audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`): codes.
        commitment_loss (`torch.FloatTensor` of shape `()`): see `QuantizerOutput`.
        log_magnitude (`torch.FloatTensor` of shape `(batch, frames, window_length // 2 + 1)`, *optional*): predicted
            spectrum of each window, natural logarithm, of an iSTFT decoder.
        pitch_logits (`torch.FloatTensor` of shape `(batch, frames, num_pitch_bins + 1)`, *optional*): bins of F0 and
            voicing, of a harmonic decoder.
    """

    loss: Tensor | None = None
    audio_values: Tensor | None = None
    audio_codes: Tensor | None = None
    commitment_loss: Tensor | None = None
    log_magnitude: Tensor | None = None
    pitch_logits: Tensor | None = None


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


class ConvolutionalDecoder(nn.Module):
    """Transposed causal convolutions that mirror the encoder (SoundStream, section III-B)."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        self.strides = config.strides[::-1]
        channels = config.num_channels * 2 ** len(config.strides)
        layers: list[nn.Module] = [CausalConv1d(config.hidden_size, channels, 7)]
        for stride in self.strides:
            upsample = CausalConvTranspose1d(channels, channels // 2, 2 * stride, stride=stride)
            layers += [nn.ELU(), upsample, *_residual_units(channels // 2)[:-1]]
            channels //= 2
        self.layers = nn.Sequential(*layers, nn.ELU(), CausalConv1d(channels, 1, 7))

    def forward(self, latents: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Decode `(batch, frames, hidden_size)` to `(batch, frames * hop_length)`."""
        return self.layers(latents.transpose(1, 2))[:, 0]

    def context(self, aligned: bool) -> tuple[int, int]:
        """Return how many frames before and after a frame its samples depend on; the decoder has no phase to align."""
        reach, rate = 6.0, 1  # frames, and samples of a layer per frame; the first convolution sees 7 frames
        for stride in self.strides:
            reach += 1 / rate  # a transposed convolution sees its input and the one before it
            rate *= stride
            reach += 6 * (1 + 3 + 9) / rate  # three dilated convolutions of 7
        return math.ceil(reach + 6 / rate), 0


DECODERS: dict[str, Any] = {"istft": ISTFTDecoder, "harmonic": HarmonicDecoder, "mirrored": ConvolutionalDecoder}


class SoundStreamModel(KeepsFloat32, AudioLMPreTrainedModel):
    """Neural audio codec with a causal encoder and decoder and a residual vector quantizer, always in float32.

    Only `forward` in training mode changes codebooks; it also computes with autocast.

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
        spectral, decoder = config.encoder_type == "spectral", DECODERS[config.decoder_type]
        with local_torch_dtype(torch.float32):  # whatever `from_pretrained(dtype=)` sets
            self.encoder = SpectralEncoder(config) if spectral else ConvolutionalEncoder(config)
            self.quantizer = ResidualVectorQuantizer(config)
            self.decoder = decoder(config)
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
        """
        check_waveform(input_values)
        require_one_dtype(self, "The codec")
        num_codebooks = check_num_codebooks(num_codebooks, self.config.num_codebooks)
        with loaded(self), torch.autocast(input_values.device.type, enabled=False):
            padded, frame_mask = self._pad_to_frames(input_values, attention_mask)
            audio_codes = self.quantizer.encode(self.encoder(padded), num_codebooks, self.low_band(padded))
        return SoundStreamEncoderOutput(audio_codes=audio_codes, attention_mask=frame_mask.long())

    def low_band(self, input_values: Tensor) -> Tensor | None:
        """Return coefficients `(batch, frames, low_band_dim)` to code in addition to the latents, or `None`."""
        if not self.config.low_band_dim:
            return None
        return compress_low_band(mdct(input_values, self._mdct_basis(input_values)), self.config.low_band_scale)

    def _mdct_basis(self, like: Tensor) -> Tensor:
        return mdct_basis(self.config.hop_length, self.config.low_band_dim, like.device)

    def decode(
        self, audio_codes: Tensor, attention_mask: Tensor | None = None, num_samples: int | None = None
    ) -> SoundStreamDecoderOutput:
        """Decode codes to waveforms, in windows that limit the memory without changing the result.

        Args:
            audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`): codes of any number of leading
                levels.
            attention_mask (`torch.Tensor` of shape `(batch, frames)`, *optional*): 1 for real frames, 0 for padding on
                the right, whose samples are 0.
            num_samples (`int`, *optional*): leading samples to return; `frames * hop_length` by default.

        Returns:
            [`SoundStreamDecoderOutput`].
        """
        check_codes(audio_codes, self.config.num_codebooks, self.config.codebook_size)
        require_one_dtype(self, "The codec")
        audio_codes = audio_codes.long()
        batch, num_codebooks, frames = audio_codes.shape
        mask = None if attention_mask is None else length_mask(row_lengths(audio_codes[:, 0], attention_mask), frames)
        hop_length = self.config.hop_length
        longest = Within(0, frames * hop_length, whole=True)
        num_samples = longest.check("num_samples", longest.high if num_samples is None else num_samples)
        before, after = self.decoder_context(num_codebooks)
        windows = [audio_codes.new_zeros(batch, 0, dtype=torch.float32)]
        state: SourceState | None = None
        for start in range(0, math.ceil(num_samples / hop_length), DECODE_WINDOW):
            stop = min(start + DECODE_WINDOW, frames)
            first, last = max(0, start - before), min(stop + after, frames)
            with loaded(self), torch.autocast(audio_codes.device.type, enabled=False):
                window, window_mask = audio_codes[:, :, first:last], None if mask is None else mask[:, first:last]
                decoded, state = self.decode_window(window, window_mask, state, start - first, stop - start)
            windows.append(decoded)
        return SoundStreamDecoderOutput(audio_values=torch.cat(windows, dim=1)[:, :num_samples])

    def decoder_context(self, num_codebooks: int) -> tuple[int, int]:
        """Return how many frames before and after a frame its decoded samples depend on, with this many levels."""
        before, after = self.decoder.context(aligned=self._aligns_phase(num_codebooks))
        # A low band is replaced through windows that overlap the next ones, once to analyse and once to synthesize.
        low_band = 2 * (self.config.low_band_dim > 0)
        return before + low_band, after + low_band

    def _codes_low_band(self, num_codebooks: int) -> bool:
        return self.config.low_band_dim > 0 and num_codebooks > self.config.low_band_start_level

    def _aligns_phase(self, num_codebooks: int) -> bool:
        return self.config.phase_iterations > 0 and not self._codes_low_band(num_codebooks)

    def decode_window(
        self, audio_codes: Tensor, frame_mask: Tensor | None, state: SourceState | None, known: int, frames: int
    ) -> tuple[Tensor, SourceState | None]:
        """Decode the next `frames` of a recording, given with the frames that they depend on (see `decoder_context`).

        `audio_codes (batch, num_codebooks, window_frames)` begin `known` frames before the next one; `state` is what
        the previous window returned. Return samples `(batch, frames * hop_length)`, and the state after these.
        """
        num_codebooks = audio_codes.shape[1]
        latents, low_band = self.quantizer.decode(audio_codes)
        if isinstance(self.decoder, HarmonicDecoder):
            audio_values, state = self.decoder.decode_window(latents, frame_mask, state, known, frames)
        elif self._aligns_phase(num_codebooks) and isinstance(self.decoder, ISTFTDecoder):
            audio_values = self.decoder.align_phase(*self.decoder.spectrum(latents), frame_mask)
        else:
            audio_values = self.decoder(latents, frame_mask)
        low_band = low_band if self._codes_low_band(num_codebooks) else None
        start, hop_length = known * self.config.hop_length, self.config.hop_length
        completed = self._complete(audio_values, low_band, frame_mask)
        return completed[:, start : start + frames * hop_length], state

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        num_codebooks: int | None = None,
        f0: Tensor | None = None,
        **kwargs: Any,
    ) -> SoundStreamOutput:
        """Reconstruct waveforms through the quantizer, differentiably.

        Arguments are those of `encode`; `num_codebooks=0` leaves the latents unquantized. In training, a harmonic
        decoder takes its pitch from `f0 (batch, frames)`, Hz, 0 where there is none.
        """
        check_waveform(input_values)
        if type(num_codebooks) is not int or num_codebooks != 0:
            num_codebooks = check_num_codebooks(num_codebooks, self.config.num_codebooks)
        device_type = input_values.device.type
        autocast = self.training and torch.is_autocast_enabled(device_type)  # only to train faster
        with torch.autocast(device_type, enabled=autocast):
            padded, frame_mask = self._pad_to_frames(input_values, attention_mask)
            if f0 is not None and self.config.decoder_type != "harmonic":
                raise ValueError(f'f0 was given with decoder_type {self.config.decoder_type!r}; "harmonic" takes it.')
            if f0 is not None and f0.shape != frame_mask.shape:
                shape = tuple(frame_mask.shape)
                raise ValueError(f"f0 has shape {tuple(f0.shape)}; give (batch, frames), here {shape}.")
            quantized = self.quantizer(self.encoder(padded), num_codebooks, self.low_band(padded))
            decoder_mask = None if attention_mask is None else frame_mask
            audio_values, found = self._decode_latents(quantized.quantized, quantized.low_band, decoder_mask, f0)
        return SoundStreamOutput(
            loss=quantized.commitment_loss,
            audio_values=audio_values[:, : input_values.shape[1]],
            audio_codes=quantized.audio_codes,
            commitment_loss=quantized.commitment_loss,
            **found,
        )

    def _decode_latents(
        self, latents: Tensor, low_band: Tensor | None, frame_mask: Tensor | None, f0: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return waveforms, and the decoder's intermediate predictions for losses."""
        found: dict[str, Tensor] = {}
        if isinstance(self.decoder, ISTFTDecoder):
            found["log_magnitude"], phase = self.decoder.spectrum(latents)
            audio_values = self.decoder.synthesize(found["log_magnitude"], phase, frame_mask)
        elif isinstance(self.decoder, HarmonicDecoder):
            source_filter = self.decoder.source_filter(latents, frame_mask)
            found["pitch_logits"] = source_filter.pitch_logits
            f0 = self.decoder.f0(source_filter.pitch_logits) if f0 is None else f0.float()
            first = int(torch.randint(NOISE_PLACES, ())) if self.training else 0
            audio_values = self.decoder.synthesize(source_filter, f0, frame_mask, first)
        else:
            audio_values = self.decoder(latents, frame_mask)
        return self._complete(audio_values, low_band, frame_mask), found

    def _complete(self, audio_values: Tensor, low_band: Tensor | None, frame_mask: Tensor | None) -> Tensor:
        """Replace the low band by the coded one, in rows with levels that code it, and set the padding to 0."""
        mask = 1 if frame_mask is None else frame_mask.repeat_interleave(self.config.hop_length, dim=1)
        audio_values = audio_values * mask
        if low_band is None:
            return audio_values
        basis = self._mdct_basis(audio_values)
        own = mdct(audio_values, basis)
        replaced = low_band.flatten(1).any(1)[:, None, None]
        if frame_mask is not None:  # windows of padding must not reach into real frames
            replaced = replaced & (frame_mask[:, :, None] > 0)
        difference = expand_low_band(low_band, self.config.low_band_scale) - own
        return (audio_values + inverse_mdct(difference.where(replaced, 0.0), basis)) * mask

    def _pad_to_frames(self, input_values: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Set the padding to 0, pad the last frame with zeros, and return a mask of frames with real samples."""
        num_samples, hop_length = input_values.shape[1], self.config.hop_length
        lengths = row_lengths(input_values, attention_mask)
        frames = math.ceil(num_samples / hop_length)
        values = input_values.float().where(length_mask(lengths, num_samples), 0.0)
        return F.pad(values, (0, frames * hop_length - num_samples)), length_mask(-(-lengths // hop_length), frames)
