# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.protocols import codec as codec_module
from audiolm_hf.evaluation.protocols.codec import (
    METRICS,
    codebook_usage,
    evaluate_codec,
    format_codec,
)
from tests.helpers_sounds import EXAMPLES, RATE


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    speech = sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0]
    for number, length_s in enumerate((2.5, 1.5, 3.0)):
        sf.write(folder / f"{number}.flac", speech[: round(length_s * RATE)], RATE)
    return AudioSource(folder, RATE)


class PerfectCodec:
    """Codes that are the 16 bits of each sample, a level for each half; one level alone is coarse."""

    sampling_rate, num_codebooks, codebook_size, frame_rate = RATE, 2, 256, float(RATE)
    model = SimpleNamespace(device=torch.device("cpu"))

    def encode(self, input_values, attention_mask=None):
        samples = (input_values * 32767).round().long() + 32768
        return torch.stack([samples // 256, samples % 256], dim=1)

    def decode(self, audio_codes):
        low = audio_codes[:, 1] if audio_codes.shape[1] == 2 else 128
        return (audio_codes[:, 0] * 256 + low - 32768) / 32767


def test_usage_is_counted_per_level():
    codes = [np.array([[0, 1, 2, 3], [5, 5, 5, 5]]), np.array([[0, 1, 2, 3], [5, 5, 5, 5]])]
    first, second = codebook_usage(codes, 8)
    assert first == {"codes_used": 4, "perplexity": pytest.approx(4)}
    assert second == {"codes_used": 1, "perplexity": pytest.approx(1)}


def test_more_levels_sound_better_and_opus_stands_beside(source):
    report = evaluate_codec(PerfectCodec(), source, 2, 2.0, num_codebooks=[1], opus_kbps=[6])
    whole, coarse, *opus = report["systems"].values()
    assert whole["pesq_wb"] > 4.5
    assert whole["si_sdr"] > coarse["si_sdr"] + 20
    assert (whole["kbps"], coarse["kbps"]) == (256, 128)
    assert report["num_clips"] == 2
    assert report["seconds"] == 3.5
    if opus:
        assert list(report["systems"])[2] == "Opus, 6 kbps"
        assert 1.2 < opus[0]["pesq_wb"] < 3.5
    json.dumps(report)
    text = format_codec(report)
    assert all(name in text for name in (*METRICS["speech"].values(), "codec, 1 levels", "perplexity"))


@pytest.mark.parametrize("package", ["pesq", "pystoi"])
def test_a_missing_package_of_speech_is_an_error_before_any_work(source, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    codec = PerfectCodec()
    codec.encode = lambda *given: pytest.fail("a recording was encoded")
    with pytest.raises(ModuleNotFoundError, match=package):
        evaluate_codec(codec, source, 1, 1.0)
    assert evaluate_codec(PerfectCodec(), source, 1, 0.5, opus_kbps=[], kind="piano")["num_clips"] == 1


def test_piano_is_not_judged_by_figures_of_speech(source):
    report = evaluate_codec(PerfectCodec(), source, 1, 1.0, num_codebooks=[1], kind="piano")
    whole, coarse, *opus = report["systems"].values()
    assert set(METRICS["piano"]) | {"kbps"} == set(whole)
    assert whole["multi_scale_mel_distance"] < 1 < coarse["multi_scale_mel_distance"]
    assert whole["spectral_convergence"] < 0.01 < coarse["spectral_convergence"]
    assert [system["kbps"] for system in opus] in ([6, 12], [])
    assert "PESQ" not in format_codec(report)


def test_missing_opus_is_said(source, monkeypatch):
    monkeypatch.setattr(codec_module, "opus_is_available", lambda: False)
    report = evaluate_codec(PerfectCodec(), source, 1, 1.0)
    assert len(report["systems"]) == 1
    assert "Opus is not measured" in format_codec(report)


def test_real_codec_goes_through(source, tiny_audiolm):
    report = evaluate_codec(tiny_audiolm.acoustic_codec, source, 1, 1.5, opus_kbps=[])
    assert len(report["codebooks"]) == 5
    assert next(iter(report["systems"].values()))["pesq_wb"] >= 1


def test_bad_settings_are_errors(source, tmp_path):
    with pytest.raises(ValueError, match="has 1 to 2 levels"):
        evaluate_codec(PerfectCodec(), source, num_codebooks=[3])
