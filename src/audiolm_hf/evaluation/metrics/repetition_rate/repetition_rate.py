# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Repetition rate as a module of `evaluate`: `evaluate.load("<this folder>")`, offline."""

from typing import Any

import datasets
import evaluate
import numpy as np

from audiolm_hf.evaluation.sound import repetition


class RepetitionRate(evaluate.Metric):
    """How much of a continuation was heard before, in it or in its prompt."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=(
                "Mean highest correlation of each half second of a continuation with any earlier half second; 1 for a "
                "copy."
            ),
            citation="",
            inputs_description=(
                "predictions: continuations without prompts; references: their prompts; lists of mono waveforms; "
                "sampling_rate: Hz (default 16000)."
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
        scores = [
            repetition(
                np.asarray(prediction, dtype=np.float32), np.asarray(reference, dtype=np.float32), sampling_rate
            )
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {"repetition_rate": float(np.mean(scores))}
