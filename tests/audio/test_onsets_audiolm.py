# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Onsets of made notes, of speech and of nothing."""

import numpy as np
import pytest
import torch

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.onsets_audiolm import onset_rate, onset_times
from tests import reference
from tests.helpers_checkpoint import DATA
from tests.helpers_sounds import C_MAJOR, RATE, notes


def test_onsets_are_where_notes_begin():
    silence = np.zeros(RATE // 2, np.float32)
    array = torch.from_numpy(np.concatenate([silence, notes(C_MAJOR), silence]))
    found = onset_times(array, RATE).numpy()
    expected = 0.5 + 0.25 * np.arange(len(C_MAJOR))
    assert len(found) == pytest.approx(len(expected), abs=1)
    assert np.abs(found[:, None] - expected).min(axis=0).max() < 0.05
    assert onset_rate(array, RATE) == pytest.approx(len(found) / (1 + 0.25 * len(C_MAJOR)))


@pytest.mark.parametrize("length", [1, 1000, 1024, 1300, 1536, 2000, 40000])
def test_onsets_equal_the_slow_ones(length):
    for record in AudioSource([DATA], RATE):
        array = np.pad(record.array[:length], (0, max(0, length - len(record.array))))
        found = onset_times(torch.from_numpy(array), RATE)
        np.testing.assert_allclose(found.numpy(), reference.onset_times(array, RATE), atol=1e-4)


def test_silence_has_no_onsets():
    assert onset_rate(torch.zeros(RATE), RATE) == 0
