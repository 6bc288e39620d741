# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""One interface to the codecs that AudioLM can use.

In: `input_values (batch, num_samples)`; out: `audio_codes (batch, num_codebooks, frames)`, and back. Every codec has a
`frame_rate` that is a float, and `ceil(num_samples / hop_length)` frames.

Paper: AudioLM (arXiv 2209.03143), acoustic tokens.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from .configuration_audiolm import sampling_rate_of
from .input_checks_audiolm import check_codes, check_num_codebooks, check_waveform, length_mask, row_lengths
from .numerics_audiolm import evaluation_mode, finite_parts, loaded, require_finite, require_one_dtype

DECODE_WINDOW_SAMPLES = 81_920  # decoded at once, which only limits the memory
STREAM_WINDOWS_S = (0.32, 2.56)  # first and longest window of generated codes; each is twice as long as the one before
UNBOUNDED = 2**40  # frames; more than any recording has


class AcousticCodec:
    """The common interface to a codec model, whose weights are shared, not copied.

    A subclass has the `config_class` and `model_class` of its models. It overrides what these do not have under the
    same names: the properties, `encode(input_values).audio_codes` and `decode(audio_codes).audio_values`.
    """

    config_class: type[PreTrainedConfig]
    model_class: Any = AutoModel  # builds and loads the codecs of transformers

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.config = model.config

    @property
    def sampling_rate(self) -> int:
        """Samples per second of the audio, Hz."""
        return sampling_rate_of(self.config)

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
        return torch.cat([*self.decode_windows(iter([audio_codes]), audio_codes.shape[2])], 1)

    @torch.no_grad()
    def decode_windows(self, pieces: Iterator[Tensor], num_known: int = 0) -> Iterator[Tensor]:
        """Decode codes as they arrive.

        The windows do not depend on how the codes are split into pieces, so the samples are the same, bit for bit.

        Args:
            pieces (`Iterator[torch.LongTensor]`): codes `(batch, num_codebooks, frames)`, one piece after the other.
            num_known (`int`, defaults to 0): leading frames to decode in long windows; short ones follow.

        Yields:
            `torch.FloatTensor` of shape `(batch, window_frames * hop_length)`, float32.
        """
        require_one_dtype(self.model, "The codec")
        codes = next(pieces).long()
        before, after = self._context(codes.shape[1])
        first, start, ended, state = 0, 0, False, None  # first frame of `codes`, and the next one to decode
        for end in self._window_ends(num_known, before):
            while not ended and first + codes.shape[2] <= end + after:  # by one more, it is not the last window
                piece = next(pieces, None)
                codes, ended = codes if piece is None else torch.cat([codes, piece.long()], 2), piece is None
            stop = min(end, first + codes.shape[2])
            if start < stop:
                window = codes[:, :, max(0, start - before) - first : stop + after - first]
                known = start - max(0, start - before)
                model, device_type = self.model, codes.device.type
                with evaluation_mode(model), loaded(model), torch.autocast(device_type, enabled=False):
                    audio, state = self._decode_window(window, known, stop - start, state)
                require_finite(audio, "What the codec decodes")
                yield audio
            if ended and stop == first + codes.shape[2]:
                return
            kept = max(0, stop - before)
            codes, first, start = codes[:, :, kept - first :], kept, stop

    def _window_ends(self, num_known: int, before: int) -> Iterator[int]:
        """Yield the frame after each window, endlessly."""
        if before >= UNBOUNDED:
            yield UNBOUNDED
            return
        longest = max(before, math.ceil(DECODE_WINDOW_SAMPLES / self.hop_length))
        yield from range(longest, num_known, longest)
        end = num_known
        if end:
            yield end
        length, longest = (max(1, round(length_s * self.frame_rate)) for length_s in STREAM_WINDOWS_S)
        while True:
            end += length
            yield end
            length = min(2 * length, longest)

    def _encode(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values).audio_codes

    def _decode(self, audio_codes: Tensor) -> Tensor:
        return self.model.decode(audio_codes).audio_values

    def _context(self, num_codebooks: int) -> tuple[int, int]:
        """Return how many frames before and after a frame its samples depend on; by default all."""
        return UNBOUNDED, UNBOUNDED

    def _decode_window(self, audio_codes: Tensor, known: int, frames: int, state: Any) -> tuple[Tensor, Any]:
        """Return samples `(batch, frames * hop_length)` of the next frames, and the state for the next window.

        `audio_codes` begin `known` frames before these, and end after them as far as `_context` requires.
        """
        return self._decode(audio_codes)[:, known * self.hop_length : (known + frames) * self.hop_length], None


@dataclass
class WindowState:
    """What a [`WindowedCodec`] carries from one window to the next."""

    latents: Tensor | None = None  # (batch, channels, steps), of frames around the next one
    before: int = 0  # of these, frames before the next one
    ahead: int = 0  # of these, frames from the next one on
    recurrent: Any = None  # state of a recurrent layer or a transformer after these


class WindowedCodec(AcousticCodec):
    """A codec that transformers decodes in one pass, decoded here in windows.

    `_latents` computes the input of the convolutions that synthesize samples, each frame once and in order, so that a
    recurrent layer or a transformer keeps its state. A window is synthesized together with the frames on either side
    that it depends on.
    """

    def _encode(self, input_values: Tensor) -> Tensor:
        return self.model.encode(input_values[:, None]).audio_codes

    def _context(self, num_codebooks: int) -> tuple[int, int]:
        reach = self._reach() + self._code_reach()
        return reach, reach

    def _decode_window(self, audio_codes: Tensor, known: int, frames: int, state: Any) -> tuple[Tensor, WindowState]:
        state, reach, hop_length = state or WindowState(), self._reach(), self.hop_length
        until = min(known + frames + reach, audio_codes.shape[2])
        latents, recurrent = state.latents, state.recurrent
        if known + state.ahead < until:
            new, recurrent = self._latents(audio_codes, known + state.ahead, until, recurrent)
            latents = new if latents is None else torch.cat([latents, new], -1)
        start = state.before * hop_length
        values = self._synthesize(latents)[:, start : start + frames * hop_length].float()
        values = F.pad(values, (0, frames * hop_length - values.shape[1]))  # transposed convolutions may stop early
        num_latents = state.before + until - known  # in frames
        before = min(reach, state.before + frames)
        first = (state.before + frames - before) * (latents.shape[-1] // num_latents)
        return values, WindowState(latents[..., first:], before, until - known - frames, recurrent)

    def _latents(self, audio_codes: Tensor, start: int, stop: int, state: Any) -> tuple[Tensor, Any]:
        """Return latents `(batch, channels, steps)` of the frames from `start` to `stop`, and the state after them."""
        raise NotImplementedError(f"{type(self).__name__} has no _latents, which converts codes to latents.")

    def _synthesize(self, latents: Tensor) -> Tensor:
        """Return samples `(batch, num_samples)` of latents."""
        raise NotImplementedError(f"{type(self).__name__} has no _synthesize, which converts latents to samples.")

    def _reach(self) -> int:
        """Return the largest distance, in frames, between a sample and a latent that it depends on."""
        raise NotImplementedError(f"{type(self).__name__} has no _reach, the reach of its convolutions in frames.")

    def _code_reach(self) -> int:
        """Return the largest distance, in frames, between a latent and a code that it depends on, states excepted."""
        return 0


def steps_reached(convolutions: nn.Module) -> int:
    """Return how many steps away a stack of convolutions can reach on either side."""
    reach, rate = 0.0, 1  # steps of the input, and samples of a layer per step
    for layer in convolutions.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            reach += math.ceil(layer.kernel_size[0] / layer.stride[0]) / rate
            rate *= layer.stride[0]
        elif isinstance(layer, nn.Conv1d):
            reach += (layer.kernel_size[0] - 1) * layer.dilation[0] / rate
    return math.ceil(reach)
