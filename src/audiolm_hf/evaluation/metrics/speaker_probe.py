# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Accuracy of a linear speaker probe on tokens; low accuracy is better for semantic tokens."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from audiolm_hf.data.audio import AudioRecord

SEGMENT_LENGTH_S = 3.0  # the length of a prompt
_NUM_FOLDS = 5


def speaker_accuracy(
    codes: Sequence[np.ndarray], num_tokens: int, frame_rate: float, records: Sequence[AudioRecord]
) -> float:
    """Return the cross-validated accuracy of a linear speaker probe on token histograms of 3 s segments.

    `codes` are `(num_codebooks, frames)` for each recording, with a histogram for each level. The segments of a
    recording are all in the same fold. The result is NaN with one speaker or fewer than five recordings.
    """
    length = round(SEGMENT_LENGTH_S * frame_rate)
    rows, speakers, recordings = [], [], []
    for levels, record in zip(codes, records, strict=True):
        for start in range(0, levels.shape[1] - length + 1, length):
            segment = levels[:, start : start + length]
            rows.append(np.concatenate([np.bincount(level, minlength=num_tokens) for level in segment]) / length)
            speakers.append(record.speaker)
            recordings.append(record.id)
    if len(set(speakers)) < 2 or len(set(recordings)) < _NUM_FOLDS:
        return float("nan")
    vectors = np.stack(rows)
    scaled = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-12)
    classifier = LogisticRegression(C=0.01, max_iter=200)
    predicted = cross_val_predict(
        classifier, scaled, np.asarray(speakers), groups=recordings, cv=GroupKFold(_NUM_FOLDS)
    )
    return float((predicted == np.asarray(speakers)).mean())
