# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Quality of speech: DistillMOS as its authors call it, speech above noise, and clear errors where it cannot judge."""

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch

from audiolm_hf.evaluation.metrics import quality as module
from audiolm_hf.evaluation.metrics.quality import SpeechQuality, check_quality
from tests.helpers_checkpoint import CLIP
from tests.helpers_sounds import RATE, needs_distillmos


@pytest.fixture(scope="module")
def speech():
    return sf.read(CLIP, dtype="float32")[0]


@pytest.mark.slow
@needs_distillmos
def test_speech_is_above_noise_and_the_score_is_that_of_the_package(speech, monkeypatch, capsys):
    judge = SpeechQuality()
    assert capsys.readouterr().out == "" and "torchaudio" not in sys.modules
    noise = (0.1 * np.random.default_rng(0).standard_normal(7 * RATE)).astype(np.float32)
    score = judge.score(speech, RATE)
    assert 3 < score < 5 and judge.score(noise, RATE) == pytest.approx(1.3, abs=0.2)
    assert judge.score(soxr.resample(speech, RATE, 24000), 24000) == pytest.approx(score, abs=0.3)
    monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
    network = importlib.import_module("distillmos").ConvTransformerSQAModel().eval()
    with torch.inference_mode():
        assert score == pytest.approx(network(torch.from_numpy(speech)[None]).item(), abs=1e-4)


@needs_distillmos
def test_a_clip_is_scored_once_and_silence_never(speech, monkeypatch):
    judge = SpeechQuality()
    score = judge.score(speech, RATE)
    monkeypatch.setattr(judge, "_network", None)  # which fails
    assert judge.score(speech.copy(), RATE) == score
    assert np.isnan(judge.score(np.zeros(RATE, np.float32), RATE))
    with pytest.raises(TypeError):
        judge.score(speech[1:], RATE)


def test_what_cannot_be_judged_is_an_error(monkeypatch):
    with pytest.raises(ValueError, match="quality of speech, not of piano"):
        check_quality("piano")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    for call in (SpeechQuality, lambda: check_quality("speech")):
        with pytest.raises(ImportError, match=r"needs distillmos.*pip install --no-deps distillmos==0.9.1 xls-r-sqa"):
            call()
