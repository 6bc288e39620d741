# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Spectra of all recordings in memory, their features, and random crops of them with masks and perturbed voices."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.evaluation.baselines.token_systems import mfcc
from audiolm_hf.modeling_semantic_tokenizer_audiolm import NUM_MEL_BINS, STACKED_FRAMES, stacked_log_mel
from audiolm_hf.training.config import MaskedTrainingConfig

FRAME_RATE = 50  # encoder frames per second, Hz
TARGET_WINDOW = 200  # frames that are encoded at once; about a crop, and short enough for a CPU
ENVELOPE_WIDTH = 4.0  # mel bins, 150 Hz at low frequencies: smooths out harmonics but not formants
CURVE_WIDTH = 6.0  # mel bins, width of a bump of the equalizer's curve
HARMONICS_RANGE = (0.2, 1.3)  # gain of the harmonics, from almost whispered to clearer than in the recording
GAIN_SPREAD = 0.1  # standard deviation of the contrast, natural logarithm
IGNORED = -100  # target of padding; the default of cross_entropy
TOKENS_FRAMES = 2  # recordings are padded to whole tokens of 2 encoder frames, as in the semantic tokenizer


@dataclass(frozen=True)
class SpectrumTable:
    """Features of recordings, float16 `(frames, 160)` at 50 Hz; `starts` has their first frames, and the end."""

    features: np.ndarray
    starts: np.ndarray

    @classmethod
    def from_records(cls, records: Iterable[AudioRecord]) -> "SpectrumTable":
        """Compute the features of all recordings."""
        features = []
        for record in records:
            waveform, lengths = torch.from_numpy(record.array)[None], torch.tensor([len(record.array)])
            rows = stacked_log_mel(waveform, lengths, record.sampling_rate, num_table_frames(record))[0]
            features.append(rows.numpy().astype(np.float16))
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
    samples_per_token = TOKENS_FRAMES * record.sampling_rate // FRAME_RATE
    return -(-len(record.array) // samples_per_token) * TOKENS_FRAMES


def standardized(rows: np.ndarray) -> np.ndarray:
    """Normalize every dimension of a recording's features, which removes part of the voice."""
    return (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-5)


def cepstral_features(features: np.ndarray) -> np.ndarray:
    """Return normalized MFCC of a recording of a [`SpectrumTable`], float32 of shape `(frames, 39)`."""
    mel = features.astype(np.float32).reshape(len(features), STACKED_FRAMES, NUM_MEL_BINS).mean(axis=1)
    return standardized(mfcc(mel)).astype(np.float32)


@torch.no_grad()
def encoder_states(features: np.ndarray, encoder: PreTrainedModel, layer: int) -> np.ndarray:
    """Return a layer's `hidden_states` of a recording, float32 `(frames, hidden_size)`, computed in windows."""
    count = min(TARGET_WINDOW, len(features))
    windows = torch.from_numpy(features.astype(np.float32)).split(count)
    real = nn.utils.rnn.pad_sequence([torch.ones(len(window)) for window in windows], batch_first=True)
    inputs = nn.utils.rnn.pad_sequence(windows, batch_first=True).to(encoder.device)
    mask = real.long().to(encoder.device)
    hidden_states = encoder.eval()(inputs, attention_mask=mask, output_hidden_states=True).hidden_states
    return hidden_states[layer][mask == 1].float().cpu().numpy()


def warp_vocal_tract(features: torch.Tensor, factors: torch.Tensor, sampling_rate: int = 16000) -> torch.Tensor:
    """Warp the frequencies of spectra `(batch, frames, 160)` by factors `(batch,)`; above 1, the speaker is larger."""
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
    with its own factor from `[1 / (1 + warp), 1 + warp]`. The rest is also scaled, and a smooth curve is added, like
    that of an equalizer; its standard deviation, and that of its slope, is `equalizer`.
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
class CropBatch:
    """Crops of recordings with masked frames and targets.

    `input_features` are `(batch, frames, 160)`, `attention_mask` (`None` without padding) and `masked`
    `(batch, frames)`, `targets` `(batch, frames)` or `(batch, semantic_length)`, and `speakers` `(batch,)`.
    """

    input_features: torch.Tensor
    attention_mask: torch.Tensor | None
    masked: torch.Tensor
    targets: torch.Tensor
    speakers: torch.Tensor

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "CropBatch":
        """Change all tensors."""
        return replace(self, **{name: change(value) for name, value in vars(self).items() if value is not None})


def draw_crops(
    table: SpectrumTable,
    targets: np.ndarray,
    rng: np.random.Generator,
    config: MaskedTrainingConfig,
    target_frames: int = 1,
    speakers: np.ndarray | None = None,
) -> CropBatch:
    """Draw the crops of a batch, recordings in proportion to their lengths, and mask spans of them.

    A target is for `target_frames` frames, and crops begin with a target; shorter recordings are padded. `speakers`
    are the indices of the recordings' speakers; by default all differ.
    """
    batch_size, crop_frames = config.batch_size, round(config.crop_length_s * FRAME_RATE)
    starts, length = table.starts // target_frames, crop_frames // target_frames
    inputs = np.zeros((batch_size, length * target_frames, table.features.shape[1]), dtype=np.float32)
    labels = np.full((batch_size, length), IGNORED)
    recordings = np.searchsorted(starts, rng.integers(starts[-1], size=batch_size), side="right") - 1
    for row, index in enumerate(recordings):
        start = int(rng.integers(starts[index], max(starts[index + 1] - length, starts[index]) + 1))
        end = min(starts[index + 1], start + length)
        inputs[row, : target_frames * (end - start)] = table.features[target_frames * start : target_frames * end]
        labels[row, : end - start] = targets[start:end]
    real = np.repeat(labels != IGNORED, target_frames, axis=1)
    masked = random_spans(rng, real.shape, config.mask_share, round(config.mask_length_s * FRAME_RATE)) & real
    masked[~masked.any(axis=1), 0] = True  # so that every crop has a frame to predict
    return CropBatch(
        input_features=torch.from_numpy(inputs),
        attention_mask=torch.from_numpy(real).long(),
        masked=torch.from_numpy(masked),
        targets=torch.from_numpy(labels),
        speakers=torch.from_numpy(recordings if speakers is None else speakers[recordings]),
    )


def masked_batch(
    table: SpectrumTable,
    targets: np.ndarray,
    rng: np.random.Generator,
    config: MaskedTrainingConfig,
    warp: float,
    rows: slice = slice(None),
) -> CropBatch:
    """Return some rows of [`draw_crops`], with vocal tract factors drawn from `[1 / (1 + warp), 1 + warp]`."""
    drawn = draw_crops(table, targets, rng, config)
    factors = _warp_factors(rng, config.batch_size, warp)[rows]
    if drawn.attention_mask is not None and drawn.attention_mask.all():
        drawn = replace(drawn, attention_mask=None)
    own = drawn.map(lambda tensor: tensor[rows])
    return replace(own, input_features=warp_vocal_tract(own.input_features, factors)) if warp else own


def random_spans(rng: np.random.Generator, shape: tuple[int, int], share: float, length: int) -> np.ndarray:
    """Draw spans, bool `(batch, frames)`, that cover a share of the frames and may overlap."""
    # A frame is not covered if no span begins at any of the `length` positions that would cover it.
    begin = rng.random((shape[0], shape[1] + length - 1)) < 1 - (1 - share) ** (1 / length)
    covered = np.lib.stride_tricks.sliding_window_view(begin, length, axis=1)
    return np.any(covered, axis=2)
