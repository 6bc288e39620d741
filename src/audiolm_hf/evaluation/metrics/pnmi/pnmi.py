# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Phone-normalised mutual information as a module of `evaluate`: `evaluate.load("<this folder>")`, offline."""

from typing import Any

import datasets
import evaluate
import numpy as np

from audiolm_hf.evaluation.information import token_information


class Pnmi(evaluate.Metric):
    """What tokens say of the phones of the same frames, with the purities of HuBERT (arXiv 2106.07447)."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=(
                "Mutual information of tokens and phones by the entropy of the phones (PNMI), with its floor for "
                "shuffled tokens, phone purity and cluster purity."
            ),
            citation="",
            inputs_description=(
                "predictions: tokens; references: the phone of the same frame (str); seed: of the floor (default 0)."
            ),
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("string")}
            ),
        )

    def _compute(
        self, *, predictions: list[Any], references: list[Any], seed: int = 0, **kwargs: Any
    ) -> dict[str, float]:
        return token_information(np.asarray(predictions), np.asarray(references), seed)
