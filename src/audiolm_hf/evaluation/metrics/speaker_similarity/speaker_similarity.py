# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Speaker similarity as a module of `evaluate`: `evaluate.load("<this folder>")`, offline."""

from typing import Any

import datasets
import evaluate
import numpy as np

from audiolm_hf.evaluation.speaker import SpeakerEmbedder, speaker_similarity


class SpeakerSimilarityMetric(evaluate.Metric):
    """Whether two recordings are of one voice: the cosine of their speaker embeddings (resemblyzer)."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean cosine of the speaker embeddings of each prediction and its reference, 0 to 1.",
            citation="",
            inputs_description=(
                "predictions, references: lists of mono waveforms in [-1, 1]; sampling_rate: Hz (default 16000)."
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
        embedder = SpeakerEmbedder()
        scores = [
            speaker_similarity(
                embedder.embed(np.asarray(prediction, dtype=np.float32), sampling_rate),
                embedder.embed(np.asarray(reference, dtype=np.float32), sampling_rate),
            )
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {"speaker_similarity": float(np.mean(scores))}
