# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Log-mel spectra of a dataset in memory, and crops, masks, perturbations and MFCC for masked prediction.

Spectra of whole recordings are computed once, with the code of the semantic tokenizer. Batches are random crops of
them with a perturbed vocal tract length. MFCC are the features of the first targets (HuBERT, arXiv 2106.07447).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import dct
from torch.nn import functional

from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.modeling_semantic_tokenizer_audiolm import NUM_MEL_BINS, STACKED_FRAMES, stacked_log_mel

NUM_CEPSTRA = 13  # MFCC of HuBERT's first targets
ENVELOPE_WIDTH = 4.0  # mel bins, 150 Hz at low frequencies: smooths out harmonics but not formants
CURVE_WIDTH = 6.0  # mel bins, width of a bump of the equalizer's curve
HARMONICS_RANGE = (0.2, 1.3)  # gain of the harmonics, from almost whispered to clearer than in the recording
GAIN_SPREAD = 0.1  # standard deviation of the contrast, natural logarithm
TOKENS_FRAMES = 2  # recordings are padded to whole tokens of 2 encoder frames, as in the semantic tokenizer


@dataclass(frozen=True)
class SpectrumTable:
    """Concatenated input features of many recordings.

    Args:
        features (`np.ndarray` of shape `(frames, 160)`): float16, 50 frames per second.
        starts (`np.ndarray` of shape `(batch + 1,)`): first frame of every recording, and the end of the last.
    """

    features: np.ndarray
    starts: np.ndarray

    @classmethod
    def from_records(cls, records: Iterable[AudioRecord]) -> "SpectrumTable":
        """Compute the features of all recordings."""
        features = [_record_features(record) for record in records]
        if not features:
            raise ValueError("There are no recordings; name at least one file with audio in it.")
        starts = np.concatenate([[0], np.cumsum([len(rows) for rows in features])])
        return cls(np.concatenate(features), starts)

    def __len__(self) -> int:
        """Number of recordings."""
        return len(self.starts) - 1

    def recording(self, index: int) -> np.ndarray:
        """Return the features of a recording, `(frames, 160)`."""
        return self.features[self.starts[index] : self.starts[index + 1]]


def num_table_frames(record: AudioRecord) -> int:
    """Count the frames that a recording has in a [`SpectrumTable`]."""
    samples_per_token = TOKENS_FRAMES * record.sampling_rate // 50
    return -(-len(record.array) // samples_per_token) * TOKENS_FRAMES


def _record_features(record: AudioRecord) -> np.ndarray:
    waveform = torch.from_numpy(record.array)[None]
    lengths = torch.tensor([len(record.array)])
    features = stacked_log_mel(waveform, lengths, record.sampling_rate, num_table_frames(record))
    return features[0].numpy().astype(np.float16)


def cepstral_features(features: np.ndarray) -> np.ndarray:
    """Return normalized MFCC of a recording with their first and second differences.

    Args:
        features (`np.ndarray` of shape `(frames, 160)`): a recording of a [`SpectrumTable`].

    Returns:
        `np.ndarray` of shape `(frames, 39)`, float32.
    """
    mel = features.astype(np.float32).reshape(len(features), STACKED_FRAMES, NUM_MEL_BINS).mean(axis=1)
    cepstra = dct(mel, axis=1, norm="ortho")[:, :NUM_CEPSTRA]
    # A recording has at least two frames, so differences exist.
    first = np.gradient(cepstra, axis=0)
    stacked = np.concatenate([cepstra, first, np.gradient(first, axis=0)], axis=1)
    return ((stacked - stacked.mean(axis=0)) / (stacked.std(axis=0) + 1e-5)).astype(np.float32)


def warp_vocal_tract(features: torch.Tensor, factors: torch.Tensor, sampling_rate: int = 16000) -> torch.Tensor:
    """Warp the frequency axis of spectra, like a shorter or longer vocal tract.

    The targets are those of the original recording, so that the encoder learns to ignore part of the speaker.

    Args:
        features (`torch.Tensor` of shape `(batch, frames, 160)`): stacked log-mel spectra.
        factors (`torch.Tensor` of shape `(batch,)`): frequency ratios; values above 1 sound like a larger speaker.
        sampling_rate (`int`, defaults to 16000): Hz.

    Returns:
        `torch.Tensor` of shape `(batch, frames, 160)`.
    """
    lowest, highest = _mel(torch.tensor(20.0)), _mel(torch.tensor(sampling_rate / 2))
    spacing = (highest - lowest) / (NUM_MEL_BINS + 1)
    centre_hz = 700 * (torch.exp((lowest + spacing * torch.arange(1, NUM_MEL_BINS + 1)) / 1127) - 1)
    source = (_mel(centre_hz * factors[:, None]) - lowest) / spacing - 1  # (batch, 80) fractional bins
    source = source.clamp(0, NUM_MEL_BINS - 1)
    below = source.floor().long().clamp(max=NUM_MEL_BINS - 2)
    share = (source - below)[:, None, None]
    mel = features.unflatten(-1, (STACKED_FRAMES, NUM_MEL_BINS))
    index = below[:, None, None].expand(mel.shape)
    return torch.lerp(mel.gather(-1, index), mel.gather(-1, index + 1), share.expand(mel.shape)).flatten(2)


def _mel(frequency: torch.Tensor) -> torch.Tensor:
    return 1127 * torch.log1p(frequency / 700)  # Kaldi's mel scale


@dataclass(frozen=True)
class VoiceChange:
    """Random perturbation of speaker and microphone: vocal tract, pitch and spectral balance.

    A spectrum is the sum of its envelope over frequency (formants) and the rest (harmonics). Both are warped, each
    with its own factor. The rest is also scaled, and a smooth curve is added, like that of an equalizer.

    Args:
        vocal_tract_warp (`float`): the factor of the envelope is drawn from `[1 / (1 + warp), 1 + warp]`.
        pitch_warp (`float`): the same for the rest.
        equalizer (`float`): standard deviation of the curve, and of its slope, in units of the features.
    """

    vocal_tract_warp: float
    pitch_warp: float
    equalizer: float

    def __call__(self, features: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Perturb each spectrum of a batch `(batch, frames, 160)` independently."""
        count = len(features)
        mel = features.unflatten(-1, (STACKED_FRAMES, NUM_MEL_BINS))
        envelope = _smoothed(mel, ENVELOPE_WIDTH)
        strength = torch.from_numpy(rng.uniform(*HARMONICS_RANGE, (count, 1, 1))).float()
        changed = warp_vocal_tract(envelope.flatten(2), _warp_factors(rng, count, self.vocal_tract_warp))
        harmonics = warp_vocal_tract((mel - envelope).flatten(2), _warp_factors(rng, count, self.pitch_warp))
        curve = _smoothed(torch.from_numpy(rng.standard_normal((count, 1, NUM_MEL_BINS))).float(), CURVE_WIDTH)
        curve = curve / curve.std(dim=-1, keepdim=True) * torch.from_numpy(rng.random((count, 1, 1))).float()
        slope = torch.from_numpy(rng.standard_normal((count, 1, 1))).float() * torch.linspace(-1, 1, NUM_MEL_BINS)
        gain = torch.from_numpy(np.exp(GAIN_SPREAD * rng.standard_normal((count, 1, 1)))).float()
        return gain * (changed + strength * harmonics) + self.equalizer * (curve + slope).repeat(1, 1, STACKED_FRAMES)


def _warp_factors(rng: np.random.Generator, count: int, warp: float) -> torch.Tensor:
    """Draw factors `(count,)` for [`warp_vocal_tract`], as often below 1 as above."""
    return torch.from_numpy(np.exp(rng.uniform(-1, 1, count) * np.log1p(warp))).float()


def _smoothed(mel: torch.Tensor, width: float) -> torch.Tensor:
    """Smooth bins `(..., 80)` with a Gaussian of a standard deviation of `width` bins."""
    reach = round(2.5 * width)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)
    rows = functional.pad(mel.reshape(-1, 1, mel.shape[-1]), (reach, reach), mode="replicate")
    return functional.conv1d(rows, (weights / weights.sum())[None, None]).reshape(mel.shape)


@dataclass(frozen=True)
class MaskedBatch:
    """Crops of recordings with masked frames and targets.

    Args:
        input_features (`torch.Tensor` of shape `(batch, frames, 160)`).
        attention_mask (`torch.Tensor` of shape `(batch, frames)` or `None`): `None` if no crop is padded.
        masked (`torch.BoolTensor` of shape `(batch, frames)`): masked frames, which are predicted.
        targets (`torch.LongTensor` of shape `(batch, frames)`).
    """

    input_features: torch.Tensor
    attention_mask: torch.Tensor | None
    masked: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> "MaskedBatch":
        """Move all tensors to a device."""
        mask = self.attention_mask
        return MaskedBatch(
            self.input_features.to(device),
            None if mask is None else mask.to(device),
            self.masked.to(device),
            self.targets.to(device),
        )


def masked_batch(
    table: SpectrumTable,
    targets: np.ndarray,
    rng: np.random.Generator,
    batch_size: int,
    crop_frames: int,
    mask_share: float,
    mask_frames: int,
    warp: float,
    rows: slice = slice(None),
) -> MaskedBatch:
    """Draw crops, recordings in proportion to their lengths, and mask spans of them.

    Args:
        table ([`SpectrumTable`]): the recordings.
        targets (`np.ndarray` of shape `(frames,)`): cluster of every frame of the table.
        rng (`np.random.Generator`): random number generator.
        batch_size (`int`): number of crops.
        crop_frames (`int`): frames of a crop; shorter recordings are padded.
        mask_share (`float`): expected share of masked frames.
        mask_frames (`int`): frames of a masked span.
        warp (`float`): the vocal tract factor is drawn from `[1 / (1 + warp), 1 + warp]`.
        rows (`slice`, defaults to all): rows of the batch to return.

    Returns:
        [`MaskedBatch`]
    """
    inputs = np.zeros((batch_size, crop_frames, table.features.shape[1]), dtype=np.float32)
    labels = np.zeros((batch_size, crop_frames), dtype=np.int64)
    real = np.zeros((batch_size, crop_frames), dtype=bool)
    for row, frame in enumerate(rng.integers(len(table.features), size=batch_size)):
        index = int(np.searchsorted(table.starts, frame, side="right")) - 1
        start, end = table.starts[index], table.starts[index + 1]
        start = int(rng.integers(start, max(end - crop_frames, start) + 1))
        end = min(end, start + crop_frames)
        inputs[row, : end - start] = table.features[start:end]
        labels[row, : end - start] = targets[start:end]
        real[row, : end - start] = True
    masked = random_spans(rng, real.shape, mask_share, mask_frames) & real
    masked[~masked.any(axis=1), 0] = True  # so that every crop has a frame to predict
    factors = _warp_factors(rng, batch_size, warp)
    features = torch.from_numpy(inputs[rows])
    return MaskedBatch(
        input_features=warp_vocal_tract(features, factors[rows]) if warp else features,
        attention_mask=None if real.all() else torch.from_numpy(real[rows]).long(),
        masked=torch.from_numpy(masked[rows]),
        targets=torch.from_numpy(labels[rows]),
    )


def random_spans(rng: np.random.Generator, shape: tuple[int, int], share: float, length: int) -> np.ndarray:
    """Draw spans at any position; they can overlap and extend beyond both ends.

    Args:
        rng (`np.random.Generator`): random number generator.
        shape (`tuple[int, int]`): batch and frames.
        share (`float`): expected share of covered frames.
        length (`int`): frames of a span.

    Returns:
        `np.ndarray` of shape `(batch, frames)`, bool.
    """
    # A frame is not covered if no span begins at any of the `length` positions that would cover it.
    begin = rng.random((shape[0], shape[1] + length - 1)) < 1 - (1 - share) ** (1 / length)
    covered = np.lib.stride_tricks.sliding_window_view(begin, length, axis=1)
    return np.any(covered, axis=2)
