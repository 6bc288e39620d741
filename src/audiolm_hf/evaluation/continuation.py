# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Sanity figures of continuations: is it sound, is it speech-like, is it new, is it in the prompt's voice?

The same figures are taken of the model's continuations and of yardsticks: what the speaker really said next, the same
through the codec, white noise, silence, and the prompt played again. None of the figures judges words or meaning.

Paper: AudioLM (arXiv 2209.03143), continuations of 3 s prompts.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.signal import log_mel, power_spectrogram
from audiolm_hf.evaluation.table import format_table
from audiolm_hf.modeling_audiolm import AudioLMModel

FIGURES = {
    "level_db": "level dB",
    "silence_share": "silence",
    "flatness": "flatness",
    "repetition": "repetition",
    "timbre_similarity": "timbre",
    "speaker_similarity": "speaker",
}
SILENCE_DB = -35.0  # below the prompt's loud frames: speech pauses and nothing else
REPEAT_WINDOW_S = 0.5  # about two syllables: longer than anything speech repeats by chance


def frame_levels(array: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Measure the level of every 20 ms of `(num_samples,)` samples, in dB relative to full scale."""
    length = sampling_rate // 50
    frames = array[: len(array) // length * length].reshape(-1, length).astype(np.float64)
    return 10 * np.log10(np.maximum((frames**2).mean(axis=1), 1e-12))


def silence_share(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> float:
    """Give the share of 20 ms frames that lie 35 dB or more below the loud frames of the prompt."""
    loud = np.percentile(frame_levels(prompt, sampling_rate), 95)
    return float((frame_levels(array, sampling_rate) < loud + SILENCE_DB).mean())


def spectral_flatness(array: np.ndarray) -> float:
    """Average the geometric by the arithmetic mean of power spectra: 0.56 for white noise, near 0 for voices."""
    power = power_spectrogram(array).astype(np.float64) + 1e-12
    return float((np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)).mean())


def repetition(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> float:
    """Measure how much of a continuation was heard before.

    Every half second of its log-mel spectrogram is compared with every earlier half second, of the prompt or of the
    continuation itself.

    Args:
        array (`np.ndarray` of shape `(num_samples,)`): the continuation.
        prompt (`np.ndarray` of shape `(num_samples,)`): what came before it.
        sampling_rate (`int`): Hz.

    Returns:
        `float`: mean over the windows of their highest correlation with earlier ones; 1 for a copy.
    """
    loudest = max(float(power_spectrogram(prompt).max()), 1e-10)
    mels = np.concatenate([log_mel(part, sampling_rate, loudest, num_mels=40) for part in (prompt, array)])
    boundary = len(log_mel(prompt, sampling_rate, loudest, num_mels=40))
    window = round(REPEAT_WINDOW_S * sampling_rate / 256)  # frames of power_spectrogram
    views = np.lib.stride_tricks.sliding_window_view(mels, window, axis=0).reshape(len(mels) - window + 1, -1)
    views = views - views.mean(axis=1, keepdims=True)
    views = views / np.maximum(np.linalg.norm(views, axis=1, keepdims=True), 1e-6)
    peaks = [
        float((views[: start - window + 1] @ views[start]).max()) for start in range(boundary, len(views), window)
    ]
    return float(np.mean(peaks)) if peaks else float("nan")


def timbre_similarity(array: np.ndarray, prompt: np.ndarray, sampling_rate: int) -> float:
    """Correlate the average spectra (log-mel, of the loud half of the frames) of a continuation and its prompt."""
    averages = []
    for part in (array, prompt):
        mel = log_mel(part, sampling_rate)
        loudness = mel.mean(axis=1)
        averages.append(mel[loudness >= np.median(loudness)].mean(axis=0))
    if min(average.std() for average in averages) < 1e-6:  # silence has no timbre
        return 0.0
    return float(np.corrcoef(*averages)[0, 1])


def speaker_embedder(sampling_rate: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """Give resemblyzer's speaker embedding as a function of samples, or `None` where it is not installed."""
    if importlib.util.find_spec("resemblyzer") is None:
        return None
    from resemblyzer import VoiceEncoder, preprocess_wav

    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(array: np.ndarray) -> np.ndarray:
        return encoder.embed_utterance(preprocess_wav(array, source_sr=sampling_rate))

    return embed


def measure_continuation(
    array: np.ndarray,
    prompt: np.ndarray,
    sampling_rate: int,
    embed: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, float]:
    """Take all figures of one continuation.

    Args:
        array (`np.ndarray` of shape `(num_samples,)`): the continuation without its prompt.
        prompt (`np.ndarray` of shape `(num_samples,)`): the prompt.
        sampling_rate (`int`): Hz.
        embed (`Callable`, *optional*): speaker embedding of unit length, see [`speaker_embedder`].

    Returns:
        `dict`: the keys of `FIGURES`; no `speaker_similarity` without `embed`.
    """
    figures = {
        "level_db": float(10 * np.log10(max(float((array.astype(np.float64) ** 2).mean()), 1e-12))),
        "silence_share": silence_share(array, prompt, sampling_rate),
        "flatness": spectral_flatness(array),
        "repetition": repetition(array, prompt, sampling_rate),
        "timbre_similarity": timbre_similarity(array, prompt, sampling_rate),
    }
    if embed is not None:
        # Silence has no voice: the embedder would be given nothing.
        figures["speaker_similarity"] = float(embed(array) @ embed(prompt)) if np.any(array) else 0.0
    return figures


def yardsticks(prompt: np.ndarray, real: np.ndarray, model: AudioLMModel, seed: int) -> dict[str, np.ndarray]:
    """Make the continuations that a model's are compared with, each as long as the real one."""
    rng = np.random.default_rng(seed)
    level = np.sqrt((prompt.astype(np.float64) ** 2).mean())
    clip = torch.from_numpy(real)[None]
    coded = model.acoustic_codec.decode(model.acoustic_codec.encode(clip))[0, : len(real)].numpy()
    return {
        "real": real,
        "real, coded": coded,
        "prompt again": np.resize(prompt, len(real)),
        "white noise": (level * rng.standard_normal(len(real))).astype(np.float32),
        "silence": np.zeros_like(real),
    }


@torch.inference_mode()
def evaluate_continuation(
    model: AudioLMModel,
    source: AudioSource,
    num_prompts: int = 8,
    prompt_length_s: float = 3.0,
    continuation_length_s: float = 7.0,
    seed: int = 0,
    **stage_kwargs: Any,
) -> dict[str, Any]:
    """Continue the beginnings of recordings and measure the result.

    Args:
        model ([`AudioLMModel`]): continues.
        source ([`AudioSource`]): unheard recordings at the model's rate; those too short are passed over.
        num_prompts (`int`, defaults to 8): the first so many recordings of sufficient length.
        prompt_length_s (`float`, defaults to 3.0): seconds given.
        continuation_length_s (`float`, defaults to 7.0): seconds continued.
        seed (`int`, defaults to 0): of the samples and the noise.
        **stage_kwargs: options of `AudioLMModel.generate`, such as `semantic_temperature=0.8`.

    Returns:
        `dict`: `systems`, the mean figures of the model and of each yardstick by name; the number of prompts.

    Raises:
        ValueError: no recording is long enough.
    """
    embed = speaker_embedder(model.sampling_rate)
    boundary = round(prompt_length_s * model.sampling_rate)
    end = boundary + round(continuation_length_s * model.sampling_rate)
    clips = [record.array[:end] for record in _long_enough(source, end, num_prompts)]
    figures: dict[str, list[dict[str, float]]] = {}
    for number, clip in enumerate(tqdm(clips, desc="continue", unit="prompt")):
        prompt, real = clip[:boundary], clip[boundary:]
        output = model.generate(
            torch.from_numpy(prompt)[None],
            continuation_length_s=continuation_length_s,
            min_continuation_length_s=continuation_length_s,
            seed=seed + number,
            **stage_kwargs,
        )
        start, stop = int(output.prompt_lengths[0]), int(output.audio_lengths[0])
        systems = {"model": output.audio_values[0, start:stop].float().cpu().numpy()}
        systems |= yardsticks(prompt, real, model, seed + number)
        for name, array in systems.items():
            figures.setdefault(name, []).append(measure_continuation(array, prompt, model.sampling_rate, embed))
    return {
        "systems": {name: _means(rows) for name, rows in figures.items()},
        "num_prompts": len(clips),
        "prompt_length_s": prompt_length_s,
        "continuation_length_s": continuation_length_s,
        "seed": seed,
        "speaker_note": "" if embed else "Speaker similarity is not measured: resemblyzer is not installed.",
    }


def _long_enough(source: AudioSource, num_samples: int, count: int) -> list[Any]:
    chosen: list[Any] = []
    for place, duration in enumerate(source.durations):
        if len(chosen) < count and duration * source.sampling_rate >= num_samples:
            chosen.append(source[place])
    if not chosen:
        raise ValueError(
            f"No recording lasts {num_samples / source.sampling_rate:.1f} s (the longest {source.durations.max():.1f} "
            "s); give longer recordings, or a shorter prompt and continuation."
        )
    return chosen


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def format_continuation_report(report: dict[str, Any]) -> str:
    """Lay out the result of [`evaluate_continuation`] as a table for a terminal."""
    names = [name for name in FIGURES if name in next(iter(report["systems"].values()))]
    rows = [[system, *(f"{figures[name]:.2f}" for name in names)] for system, figures in report["systems"].items()]
    parts = [
        f"{report['num_prompts']} prompts of {report['prompt_length_s']:g} s, "
        f"continued by {report['continuation_length_s']:g} s",
        format_table(["system", *(FIGURES[name] for name in names)], rows),
        report["speaker_note"],
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


__all__ = [
    "FIGURES",
    "evaluate_continuation",
    "format_continuation_report",
    "frame_levels",
    "measure_continuation",
    "repetition",
    "silence_share",
    "speaker_embedder",
    "spectral_flatness",
    "timbre_similarity",
    "yardsticks",
]
