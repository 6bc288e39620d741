# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Mel distance as a module of `evaluate`: `evaluate.load("<this folder>")`, offline."""

from typing import Any

import datasets
import evaluate
import numpy as np

from audiolm_hf.evaluation.signal import match_lengths, mel_distance, multi_scale_mel_distance


class MelDistance(evaluate.Metric):
    """How far coded sounds are from their originals, by log-mel spectrograms."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=(
                "Mean absolute difference of log-mel spectrograms in dB, at one resolution and averaged over six."
            ),
            citation="",
            inputs_description=(
                "predictions: coded sounds; references: originals; lists of mono waveforms; sampling_rate: Hz "
                "(default 16000)."
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float32")),
                    "references": datasets.List(datasets.Value("float32")),
                }
            ),
        )

    def _compute(
        self, *, predictions: list[Any], references: list[Any], sampling_rate: int = 16000, **kwargs: Any
    ) -> dict[str, float]:
        pairs = [
            match_lengths(np.asarray(reference, dtype=np.float32), np.asarray(prediction, dtype=np.float32))
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {
            "mel_distance": float(np.mean([mel_distance(first, second, sampling_rate) for first, second in pairs])),
            "multi_scale_mel_distance": float(
                np.mean([multi_scale_mel_distance(first, second, sampling_rate) for first, second in pairs])
            ),
        }
