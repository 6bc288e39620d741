# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Decode the codes of a continuation, with the loudness of the prompt and a continuous transition from it."""

import torch
from torch import Tensor

from .acoustic_codec_audiolm import AcousticCodec
from .loudness_audiolm import Loudness, soft_limit

CALIBRATION_S = 10.0  # seconds of a prompt that are decoded, to compare their loudness with the prompt's


def decode_continuation(
    codec: AcousticCodec, prompt: Tensor, audio_codes: Tensor, num_prompt_frames: int, loudness: Loudness
) -> Tensor:
    """Decode the continuation of a prompt.

    Args:
        codec ([`AcousticCodec`]): the codec.
        prompt (`torch.FloatTensor` of shape `(num_samples,)`): the prompt as it was given; may be empty.
        audio_codes (`torch.LongTensor` of shape `(num_codebooks, frames)`): codes of its end and of the continuation.
        num_prompt_frames (`int`): frames of the prompt among them.
        loudness ([`Loudness`]): what was done to the prompt before it was encoded.

    Returns:
        `torch.FloatTensor` of shape `(num_new_frames * hop_length,)` in [-1, 1].

    Raises:
        ValueError: if the codec decodes to samples that are not finite.
    """
    start = max(0, num_prompt_frames - round(CALIBRATION_S * codec.frame_rate))
    boundary = (num_prompt_frames - start) * codec.hop_length
    decoded = codec.decode(audio_codes[None, :, start:])[0]
    if boundary:
        loudness = loudness.calibrated(prompt[-boundary:], decoded[:boundary], codec.hop_length)
    return soft_limit(join(prompt, loudness.restore(decoded), boundary, codec.hop_length))


def join(prompt: Tensor, decoded: Tensor, boundary: int, fade_length: int) -> Tensor:
    """Return what follows `boundary` in `decoded`, made continuous with the prompt's own last sample.

    The codec's error just before the boundary, mirrored, fades out over `fade_length` samples after it.
    """
    continuation = decoded[boundary:].clone()
    length = min(fade_length, boundary, len(continuation))
    if length:
        error = prompt[-length:] - decoded[boundary - length : boundary]
        fade = torch.linspace(1, 0, length + 1, device=decoded.device, dtype=decoded.dtype)[:-1]
        continuation[:length] += error.flip(0) * fade
    return continuation
