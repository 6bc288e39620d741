# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Metrics of this package for the `evaluate` library: `evaluate.load(METRIC_FILE, "pnmi")`, offline.

One metric with a configuration for each name of `METRICS`, as `evaluate.load("glue", "mrpc")`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import datasets
import evaluate
import numpy as np

from audiolm_hf.evaluation.metrics.acoustics import repetition
from audiolm_hf.evaluation.metrics.information import token_information
from audiolm_hf.evaluation.metrics.resynthesis import (
    match_lengths,
    mel_distance,
    multi_scale_mel_distance,
    spectral_convergence,
)
from audiolm_hf.evaluation.metrics.speaker import SpeakerEmbedder, speaker_similarity

METRIC_FILE = __file__
_WAVEFORMS = datasets.List(datasets.Value("float32"))


@dataclass(frozen=True)
class MetricDescription:
    """A metric as `evaluate` sees it.

    Args:
        description (`str`): what it measures, and what its predictions and references are.
        compare (callable): scores of one prediction and reference, waveforms at a sampling rate; the mean over all
            pairs is returned. `None` where the predictions are tokens and the references labels.
    """

    description: str
    compare: Callable[[np.ndarray, np.ndarray, int], dict[str, float]] | None


def _mel_distances(prediction: np.ndarray, reference: np.ndarray, sampling_rate: int) -> dict[str, float]:
    first, second = match_lengths(reference, prediction)
    return {
        "mel_distance": mel_distance(first, second, sampling_rate),
        "multi_scale_mel_distance": multi_scale_mel_distance(first, second, sampling_rate),
    }


def _convergence(prediction: np.ndarray, reference: np.ndarray, sampling_rate: int) -> dict[str, float]:
    return {"spectral_convergence": spectral_convergence(*match_lengths(reference, prediction))}


def _repetition(prediction: np.ndarray, reference: np.ndarray, sampling_rate: int) -> dict[str, float]:
    return {"repetition_rate": repetition(prediction, reference, sampling_rate)}


_embedder = cache(SpeakerEmbedder)


def _same_speaker(prediction: np.ndarray, reference: np.ndarray, sampling_rate: int) -> dict[str, float]:
    vectors = (_embedder().embed(array, sampling_rate) for array in (prediction, reference))
    return {"speaker_similarity": speaker_similarity(*vectors)}


METRICS = {
    "mel_distance": MetricDescription(
        "Mean absolute difference of log-mel spectrograms in dB, at one resolution and averaged over six. "
        "Predictions: coded recordings; references: the originals.",
        _mel_distances,
    ),
    "pnmi": MetricDescription(
        "Mutual information of tokens and phones divided by the entropy of the phones, the same of shuffled tokens, "
        "phone purity and cluster purity (HuBERT, arXiv 2106.07447). Predictions: tokens; references: the phone of "
        "each frame.",
        None,
    ),
    "repetition_rate": MetricDescription(
        "Mean highest correlation of each half second of a continuation with any earlier half second; 1 for a copy. "
        "Predictions: continuations; references: their prompts.",
        _repetition,
    ),
    "speaker_similarity": MetricDescription(
        "Mean cosine of the speaker embeddings of each prediction and its reference, 0 to 1 (resemblyzer).",
        _same_speaker,
    ),
    "spectral_convergence": MetricDescription(
        "Mean relative error of the magnitudes of spectrograms; 0 is perfect, silence has 1. Predictions: coded "
        "recordings; references: the originals.",
        _convergence,
    ),
}


class AudioLMMetric(evaluate.Metric):
    """The metric that the configuration names; waveforms are mono, in [-1, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            raise ValueError(f"There is no metric {self.config_name!r}; choose from {', '.join(METRICS)}.")
        metric = METRICS[self.config_name]
        tokens = (datasets.Value("int64"), datasets.Value("string"))
        predictions, references = tokens if metric.compare is None else (_WAVEFORMS, _WAVEFORMS)
        return evaluate.MetricInfo(
            description=metric.description,
            citation="",
            inputs_description="predictions, references; for waveforms sampling_rate (Hz), for tokens seed.",
            features=datasets.Features({"predictions": predictions, "references": references}),
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
        compare = METRICS[self.config_name].compare
        if compare is None:
            return token_information(np.asarray(predictions), np.asarray(references), seed)
        scores = [
            compare(np.asarray(prediction, np.float32), np.asarray(reference, np.float32), sampling_rate)
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}


__all__ = ["METRICS", "METRIC_FILE", "AudioLMMetric", "MetricDescription"]
