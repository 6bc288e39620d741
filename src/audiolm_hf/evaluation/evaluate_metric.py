# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Metrics of this package for the `evaluate` library, loaded offline by `evaluate.load(METRIC_FILE, "pnmi")`.

It is one metric with a configuration for each name in `METRICS`, like `evaluate.load("glue", "mrpc")`.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import datasets
import evaluate
import numpy as np

from audiolm_hf.evaluation.metrics.acoustics import repetition
from audiolm_hf.evaluation.metrics.information import token_information
from audiolm_hf.evaluation.metrics.resynthesis import audio_quality
from audiolm_hf.evaluation.metrics.speaker import SpeakerEmbedder, speaker_similarity

METRIC_FILE = __file__
_embedder = cache(SpeakerEmbedder)


def _quality(*names: str) -> Callable[..., dict[str, float]]:
    def compare(prediction: np.ndarray, reference: np.ndarray, sampling_rate: int) -> dict[str, float]:
        quality = audio_quality(reference, prediction, sampling_rate)
        return {name: quality[name] for name in names}

    return compare


def _repetition(prediction: np.ndarray, reference: np.ndarray, sampling_rate: int) -> dict[str, float]:
    return {"repetition_rate": repetition(prediction, reference, sampling_rate)}


def _same_speaker(prediction: np.ndarray, reference: np.ndarray, sampling_rate: int) -> dict[str, float]:
    vectors = (_embedder().embed(array, sampling_rate) for array in (prediction, reference))
    return {"speaker_similarity": speaker_similarity(*vectors)}


# Descriptions, and functions that score a prediction and a reference at a sampling rate; the result is their mean.
METRICS: dict[str, tuple[str, Callable[..., dict[str, float]]]] = {
    "mel_distance": (
        "Mean absolute difference of log-mel spectrograms of recordings and originals in dB, at one resolution and "
        "averaged over six.",
        _quality("mel_distance", "multi_scale_mel_distance"),
    ),
    "pnmi": (
        "Mutual information of tokens and the phones of the same frames divided by the entropy of the phones, the "
        "same of shuffled tokens, phone purity and cluster purity (HuBERT, arXiv 2106.07447).",
        token_information,
    ),
    "repetition_rate": (
        "Mean highest correlation of each half second of a continuation with any earlier half second of it or of its "
        "prompt (the reference); 1 for a copy.",
        _repetition,
    ),
    "speaker_similarity": ("Mean cosine of speaker embeddings, 0 to 1 (resemblyzer).", _same_speaker),
    "spectral_convergence": (
        "Mean relative error of the magnitudes of spectrograms of recordings and originals; 0 is perfect.",
        _quality("spectral_convergence"),
    ),
}


class AudioLMMetric(evaluate.Metric):
    """The metric of the configuration; waveforms are mono, in [-1, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            raise ValueError(f"There is no metric {self.config_name!r}; choose from {', '.join(METRICS)}.")
        kinds = (datasets.Value("int64"), datasets.Value("string"))
        if self.config_name != "pnmi":
            kinds = (datasets.List(datasets.Value("float32")),) * 2
        return evaluate.MetricInfo(
            description=METRICS[self.config_name][0],
            citation="",
            inputs_description="predictions, references; for waveforms sampling_rate (Hz), for tokens seed.",
            features=datasets.Features(dict(zip(("predictions", "references"), kinds, strict=True))),
        )

    def _compute(
        self,
        *,
        predictions: list[Any],
        references: list[Any],
        sampling_rate: int = 16000,
        seed: int = 0,
        **kwargs: Any,
    ) -> dict[str, float]:
        compare = METRICS[self.config_name][1]
        if self.config_name == "pnmi":
            return compare(np.asarray(predictions), np.asarray(references), seed)
        scores = [
            compare(np.asarray(prediction, np.float32), np.asarray(reference, np.float32), sampling_rate)
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
