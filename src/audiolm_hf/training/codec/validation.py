# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Validation of the codec during training: metrics, audio and spectrograms of validation clips."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiolm_hf.audio_file_audiolm import write_audio
from audiolm_hf.evaluation.metrics.resynthesis import mel_distance, si_sdr
from audiolm_hf.evaluation.metrics.spectrograms import save_spectrograms
from audiolm_hf.files import replace_file
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.provenance_audiolm import provenance

NUM_SAMPLES_SHOWN = 3  # number of validation recordings that are written as audio and spectrogram


@torch.no_grad()
def validate_codec(
    model: SoundStreamModel, segments: Sequence[np.ndarray], folder: Path, num_codebooks: int | None = None
) -> dict[str, float]:
    """Return metrics of recordings that are encoded and decoded by `num_codebooks` levels; write the first few."""
    model.eval()
    sampling_rate = model.config.sampling_rate
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    codes: list[Tensor] = []
    for segment in segments:
        values = torch.from_numpy(segment)[None].to(model.device)
        audio_codes: Any = model.encode(values, num_codebooks=num_codebooks).audio_codes
        decoded = model.decode(audio_codes, num_samples=len(segment)).audio_values[0].float().cpu().numpy()
        pairs.append((segment, decoded))
        codes.append(audio_codes[0].cpu())
    write_samples(pairs[:NUM_SAMPLES_SHOWN], sampling_rate, folder)
    metrics = {
        "valid_mel_db": float(np.mean([mel_distance(*pair, sampling_rate) for pair in pairs])),
        "valid_si_sdr": float(np.mean([si_sdr(*pair) for pair in pairs])),
    }
    for level, level_codes in enumerate(torch.cat(codes, dim=1)):
        metrics[f"codes_used_{level}"] = len(level_codes.unique())
    return metrics


def write_samples(pairs: Sequence[tuple[np.ndarray, np.ndarray]], sampling_rate: int, folder: Path) -> None:
    """Write pairs of original and decoded audio, and a spectrogram of each pair."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (original, decoded) in enumerate(pairs):
        write_audio(folder / f"{index}-original.wav", original, sampling_rate)
        write_audio(folder / f"{index}-decoded.wav", decoded, sampling_rate, provenance())
        arrays = {"original": original, "decoded": decoded}
        replace_file(folder / f"{index}.png", partial(save_spectrograms, arrays, sampling_rate))
