# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The first targets of music: they know which notes sound, and when they begin."""

import numpy as np
import pytest

from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.evaluation.metrics.music import PITCH_CLASSES
from audiolm_hf.training.tokenizer.chroma import chroma_features
from audiolm_hf.training.tokenizer.spectrum_crops import SpectrumTable
from tests.reference import pitch_classes

RATE = 16000


@pytest.mark.parametrize("num_samples", [1, 319, 640, 641, 16000, 33333])
def test_there_are_as_many_frames_as_in_a_table_of_spectra(num_samples):
    array = np.random.default_rng(0).standard_normal(num_samples).astype(np.float32) * 0.1
    table = SpectrumTable.from_records([AudioRecord(id="0", array=array, sampling_rate=RATE)])
    assert chroma_features(array, RATE).shape == (len(table.features), 18)


def test_pitch_classes_are_those_of_the_slow_sum():
    array = np.random.default_rng(1).standard_normal(9000).astype(np.float32) * 0.1
    features = chroma_features(array, RATE)
    for frame in (0, 7, len(features) - 1):
        assert np.allclose(features[frame, :PITCH_CLASSES], pitch_classes(array, RATE, frame), atol=1e-3)


@pytest.mark.parametrize("semitone", range(0, 12, 3))
def test_a_note_is_its_pitch_class(semitone):
    time = np.arange(RATE) / RATE
    array = (0.3 * np.sin(2 * np.pi * 261.63 * 2 ** (semitone / 12) * time)).astype(np.float32)
    classes = chroma_features(array, RATE)[10:40, :PITCH_CLASSES].mean(axis=0)
    assert classes.argmax() == semitone
    assert classes[semitone] > 0.6


def test_levels_rise_where_a_note_begins_and_nowhere_else():
    array = np.zeros(RATE, np.float32)
    array[8000:] = 0.3 * np.sin(2 * np.pi * 440 * np.arange(8000) / RATE)
    rises = chroma_features(array, RATE)[:, PITCH_CLASSES:]
    assert rises[22:28].max() > 20
    assert not rises[:20].any()
    assert rises[32:45].max() < 3  # a steady tone
    assert not chroma_features(np.zeros(RATE, np.float32), RATE).any()
