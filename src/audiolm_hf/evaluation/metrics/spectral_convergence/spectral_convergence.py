# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Spectral convergence as a module of `evaluate`: `evaluate.load("<this folder>")`, offline."""

from typing import Any

import datasets
import evaluate
import numpy as np

from audiolm_hf.evaluation.signal import match_lengths, spectral_convergence


class SpectralConvergence(evaluate.Metric):
    """How far coded sounds are from their originals, by the spectrograms' magnitudes."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean relative error of the magnitudes of spectrograms; 0 is perfect, silence has 1.",
            citation="",
            inputs_description="predictions: coded sounds; references: originals; lists of mono waveforms.",
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float32")),
                    "references": datasets.List(datasets.Value("float32")),
                }
            ),
        )

    def _compute(self, *, predictions: list[Any], references: list[Any], **kwargs: Any) -> dict[str, float]:
        scores = [
            spectral_convergence(
                *match_lengths(np.asarray(reference, dtype=np.float32), np.asarray(prediction, dtype=np.float32))
            )
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {"spectral_convergence": float(np.mean(scores))}
