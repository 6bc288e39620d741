# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Sounds that tests measure: the bundled examples, and struck notes of known pitch."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from audiolm_hf.evaluation.metrics.speaker import speaker_embedding_is_available

RATE = 16000
EXAMPLES = Path(__file__).parents[1] / "src" / "audiolm_hf" / "examples"
C_MAJOR = (60, 64, 67, 65, 69, 72, 67, 71, 74, 60, 64, 67)
needs_resemblyzer = pytest.mark.skipif(
    not speaker_embedding_is_available(), reason="resemblyzer is installed by a command of its own"
)
needs_distillmos = pytest.mark.skipif(
    importlib.util.find_spec("distillmos") is None, reason="distillmos is installed by a command of its own"
)


def notes(pitches, length_s=0.25):
    """Struck strings, one after the other: a fast attack and a decay, three harmonics."""
    time = np.arange(round(length_s * RATE)) / RATE
    envelope = np.minimum(time / 0.005, 1) * np.exp(-6 * time)
    parts = []
    for pitch in pitches:
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        parts.append(0.3 * envelope * sum(np.sin(2 * np.pi * k * hertz * time) / k**2 for k in (1, 2, 3)))
    return np.concatenate(parts).astype(np.float32)
