# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The probe finds the speaker in tokens that depend on it, and only there."""

import numpy as np
import pytest

from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.evaluation.metrics.speaker import speaker_accuracy

SILENCE = np.zeros(16000, np.float32)


def recordings(num_speakers, each):
    return [
        AudioRecord(f"{speaker}-{number}", SILENCE, 16000, speaker=f"s{speaker}")
        for speaker in range(num_speakers)
        for number in range(each)
    ]


def test_speakers_are_found_only_where_they_are():
    generator = np.random.default_rng(0)
    records = recordings(3, 10)
    blind = [generator.integers(0, 6, (2, 95)) for _ in records]
    knowing = [
        np.where(generator.random((2, 95)) < 0.5, int(record.speaker[1]), codes)
        for codes, record in zip(blind, records, strict=True)
    ]
    assert speaker_accuracy(knowing, 6, 10.0, records) > 0.9
    assert speaker_accuracy(blind, 6, 10.0, records) < 0.6


def test_too_little_to_tell_is_nan():
    codes = [np.zeros((1, 90), dtype=int)] * 6
    assert np.isnan(speaker_accuracy(codes, 2, 10.0, recordings(1, 6)))
    assert np.isnan(speaker_accuracy(codes[:4], 2, 10.0, recordings(2, 2)))
    assert speaker_accuracy(codes, 2, 10.0, recordings(2, 3)) == pytest.approx(0.5, abs=0.5)
