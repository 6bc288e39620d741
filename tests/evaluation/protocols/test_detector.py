# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The protocol on tiny models: every table is there, an oracle is perfect, and floors are floors."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from audiolm_hf import AudioLMDetectorConfig, AudioLMDetectorForAudioClassification, cli
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.data.edits import EDITS
from audiolm_hf.evaluation.metrics.acoustics import timbre_similarity
from audiolm_hf.evaluation.metrics.prosody import prosody_metrics
from audiolm_hf.evaluation.protocols import detector as module
from audiolm_hf.evaluation.protocols.detector import (
    METRICS,
    evaluate_detector,
    format_detector,
    griffin_lim,
)
from tests.helpers_checkpoint import CLIP, DATA, tiny_model, tiny_processor
from tests.helpers_sounds import RATE, notes


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    config = AudioLMDetectorConfig()
    return AudioLMDetectorForAudioClassification(config).eval()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Three recordings with accents and no texts."""
    path = tmp_path_factory.mktemp("labelled") / "list.jsonl"
    rows = zip(sorted(DATA.glob("*.flac")), ("north", "south", "south"), strict=True)
    path.write_text("\n".join(json.dumps({"path": str(each), "accent": accent}) for each, accent in rows))
    return path


@pytest.fixture(scope="module")
def report(detector, labelled):
    patch = pytest.MonkeyPatch()
    patch.setattr("audiolm_hf.evaluation.metrics.detection.NUM_RESAMPLES", 20)
    model, source = tiny_model(), AudioSource(labelled, RATE)
    options = {"lengths_s": (0.6, 1.0, 9.0), "other_models": {"another": model}}
    result = evaluate_detector(detector, model, source, 3, 1.0, **options)
    patch.undo()
    return result


def test_every_table_is_there(report):
    json.dumps(report)
    kinds = [
        "real, through the codec",
        "real, through its coarse levels",
        "real",
        "real, through the codec of another",
    ]
    assert list(report["systems"]) == kinds
    assert report["edits"].keys() == EDITS.keys()
    assert list(report["lengths"]) == ["0.6 s", "1 s"]  # no recording lasts 9 s
    assert list(report["noise"]) == ["40 dB", "30 dB", "20 dB", "10 dB", "0 dB"]
    assert list(report["others"]) == ["Griffin-Lim copies", "WORLD copies", "another"]
    assert {name: group["num_clips"] for name, group in report["groups"].items()} == {"north": 1, "south": 2}
    for table in ("systems", "edits", "noise", "lengths", "others"):
        for name, metrics in report[table].items():
            assert metrics.keys() == {*METRICS, "num_real", "num_generated"}
            assert metrics["num_real"] == 3 and metrics["num_generated"] == (3 if "copies" in name else 4)
    assert all(not {"accuracy", "false_positives"} & floor.keys() for floor in report["floors"].values())
    assert report["floors"]["spectral flatness"]["eer"] <= 0.5
    text = format_detector(report)
    for word in (
        "WORLD copies",
        "reverberation",
        "20 dB",
        "false positives %",
        "0.6 s, 3 real clips",
        "shuffled labels",
        "south",
        "EER %",
    ):
        assert word in text


def test_an_oracle_is_perfect_and_its_shuffled_scores_are_not(detector, labelled, monkeypatch):
    made = []
    generate = module.generate_clips
    monkeypatch.setattr("audiolm_hf.evaluation.metrics.detection.NUM_RESAMPLES", 20)
    monkeypatch.setattr(module, "generate_clips", lambda *arguments: [0 * clip + 0.5 for clip in generate(*arguments)])
    monkeypatch.setattr(module, "EDITS", {"gain": EDITS["gain"]})

    def score(detector, clips, batch_size=16):
        made.extend(clips)
        return [float(np.std(clip) > 1e-6) for clip in clips]  # constant clips are the generated ones

    monkeypatch.setattr(module, "score_clips", score)
    result = evaluate_detector(detector, tiny_model(), AudioSource(labelled, RATE), 3, 1.0, lengths_s=(1.0,))
    for metrics in (*result["systems"].values(), *result["edits"].values(), *result["lengths"].values()):
        assert metrics["accuracy"] == metrics["auc"] == metrics["tpr_at_0.001"] == 1 and metrics["eer"] == 0
    assert {metrics["eer"] for metrics in result["noise"].values()} == {0.5}  # no clip is constant
    assert result["floors"]["shuffled labels"]["eer"] > 0
    assert result["groups"]["south"] == {"num_clips": 2, "real": 0, "codec": 0, "coarse": 0}
    assert result["others"]["Griffin-Lim copies"]["eer"] == 0.5  # all called real
    assert {len(clip) for clip in made if len(clip) < RATE - 1} == set()


def test_groups_are_speakers_where_all_have_one_accent():
    clips = [AudioRecord(str(place), np.zeros(1), RATE, speaker, "none") for place, speaker in enumerate("aba")]
    groups = module._groups(clips, {"real": [0.9, 0.1, 0.2]})
    assert groups == {"a": {"num_clips": 2, "real": 0.5}, "b": {"num_clips": 1, "real": 1.0}}


def test_griffin_lim_keeps_the_magnitudes_and_not_the_waveform():
    sound = notes((60, 64, 67))
    copy = griffin_lim(sound)
    assert copy.shape == sound.shape and copy.dtype == np.float32 and np.array_equal(copy, griffin_lim(sound))
    window = torch.hann_window(1024)
    spectra = [
        torch.stft(torch.from_numpy(each), 1024, 256, window=window, return_complex=True) for each in (sound, copy)
    ]
    magnitudes = [spectrum.abs() for spectrum in spectra]
    assert (magnitudes[0] - magnitudes[1]).norm() < 0.3 * magnitudes[0].norm()
    assert np.linalg.norm(copy - sound) > 0.5 * np.linalg.norm(sound)


def test_world_keeps_the_pitch_and_the_envelope_and_not_the_waveform():
    sound = sf.read(CLIP, dtype="float32")[0]
    copy = module.world(sound, RATE)
    assert copy.shape == sound.shape and copy.dtype == np.float32 and np.array_equal(copy, module.world(sound, RATE))
    real, made = (prosody_metrics(each, sound, RATE) for each in (sound, copy))
    assert made["pitch_hz"] == pytest.approx(real["pitch_hz"], rel=0.05)
    assert timbre_similarity(copy, sound, RATE) > 0.9
    assert np.linalg.norm(copy - sound) > 0.5 * np.linalg.norm(sound)


@pytest.mark.parametrize("level_db", [20, 0])
def test_noise_is_as_loud_as_stated(level_db):
    sound = notes((60, 64, 67))
    (noisy,), (other,) = (module._add_noise([sound], level_db, seed) for seed in (0, 1))
    assert noisy.dtype == np.float32 and not np.array_equal(noisy, other)
    ratio = np.mean(sound**2) / np.mean((noisy - sound) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(level_db, abs=0.2)


@pytest.mark.skipif(module.shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_speaks():
    speech = module.espeak("hello there", RATE)
    assert speech.dtype == np.float32 and len(speech) > RATE / 2 and np.abs(speech).max() > 0.05


def test_rates_must_agree(detector, labelled):
    with pytest.raises(ValueError, match="several sampling rates"):
        evaluate_detector(detector, tiny_model(), AudioSource(labelled, 8000))


def test_recordings_are_checked_before_anything_is_generated(detector, labelled, monkeypatch):
    monkeypatch.setattr(module, "generate_clips", lambda *_: pytest.fail("a clip was generated"))
    with pytest.raises(ValueError, match=r"No recording lasts 9.5 s \(the longest"):
        evaluate_detector(detector, tiny_model(), AudioSource(labelled, RATE), 3, 9.0)


@pytest.mark.slow
def test_the_command_prints_and_writes(detector, labelled, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("audiolm_hf.evaluation.metrics.detection.NUM_RESAMPLES", 20)
    monkeypatch.setattr(module, "LENGTHS_S", (1.0,))
    monkeypatch.setattr(module, "EDITS", {"gain": EDITS["gain"]})
    monkeypatch.setattr(module.evaluate_detector, "__defaults__", (3, 1.0, 0, (1.0,), None))
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    detector.save_pretrained(tmp_path / "model" / "detector")
    command = ["evaluate", "detector", "--checkpoint", str(tmp_path / "model"), "--data", str(labelled)]
    command += ["--other-checkpoints", str(tmp_path / "model")]
    assert cli.main([*command, "--num-clips", "2", "--length-s", "1", "-o", str(tmp_path / "report.json")]) == 0
    assert "real, through the codec" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["num_real"] == 2 and report["others"]["checkpoint model"]["num_generated"] == 3
    assert cli.main([*command, "--detector", str(tmp_path / "model")[:-1]]) == 1
    assert "is not found" in capsys.readouterr().err
