# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf detect`: verdicts, exit status, and files and folders that are not what they should be."""

import io
import json
import os

import numpy as np
import pytest
import soundfile as sf
import torch

import audiolm_hf
from audiolm_hf import AudioLMDetectorConfig, AudioLMDetectorForAudioClassification, bundled, cli, export_checkpoint
from audiolm_hf.audio_file_audiolm import encode_audio, write_audio
from audiolm_hf.provenance_audiolm import provenance
from tests.helpers_checkpoint import CLIP, OTHER_CLIP, run_python


@pytest.fixture
def folder(tmp_path):
    """A detector that calls clips of more than 2.7 s, and no others, generated."""
    config = AudioLMDetectorConfig()
    return export_checkpoint(
        AudioLMDetectorForAudioClassification(config), None, tmp_path / "detector", with_code=False
    )


@pytest.fixture
def verdict(monkeypatch):
    """A function that sets the bias of all detectors that are loaded."""

    def bias(real):
        load = AudioLMDetectorForAudioClassification.from_pretrained

        def changed(*arguments, **options):
            detector = load(*arguments, **options)
            torch.nn.init.zeros_(detector.classifier.weight)
            detector.classifier.bias.data = torch.tensor([-real, real])
            return detector

        monkeypatch.setattr(AudioLMDetectorForAudioClassification, "from_pretrained", changed)

    return bias


@pytest.mark.parametrize(("bias", "status", "word", "score"), [(2.0, 0, "real", 0.982), (-2.0, 3, "generated", 0.018)])
def test_exit_status_and_lines_tell_the_verdict(folder, verdict, capsys, bias, status, word, score):
    verdict(bias)
    assert cli.main(["detect", str(CLIP), str(OTHER_CLIP), "--detector", str(folder)]) == status
    lines = capsys.readouterr().out.splitlines()
    seconds = " ".join([f"{score:.2f}"] * 3)
    assert lines[0].startswith(f"{CLIP}: {word} (score {score:.3f}; most suspicious from 0.")
    assert lines[0].endswith(f" s; by second {seconds})")
    assert len(lines) == 2


def test_json_has_what_the_lines_have(folder, verdict, capsys):
    verdict(-2.0)
    assert cli.main(["detect", str(CLIP), "--json", "--detector", str(folder.parent)]) == 3  # its subfolder
    (result,) = json.loads(capsys.readouterr().out)
    assert result["file"] == str(CLIP) and result["verdict"] == "generated"
    assert result["score"] == pytest.approx(0.018, abs=1e-3)
    assert result["scores_per_second"] == pytest.approx([result["score"]] * 3, abs=1e-6)
    start, stop = result["most_suspicious_s"]
    assert 0 <= start < 0.5 and 2 < stop <= 2.5  # without the silence at both ends


def test_seconds_of_silence_have_no_score(folder, verdict, capsys, tmp_path):
    verdict(2.0)
    clip, rate = audiolm_hf.read_audio(CLIP)
    sf.write(tmp_path / "late.wav", np.concatenate([np.zeros(rate + 1000), clip[0][:rate]]), rate)
    command = ["detect", str(tmp_path / "late.wav"), "--detector", str(folder)]
    assert cli.main(command) == 0 and "by second - 0.98 " in capsys.readouterr().out
    assert cli.main([*command, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # NaN is no JSON
    assert result["scores_per_second"][0] is None and result["scores_per_second"][1] == pytest.approx(result["score"])


def test_a_file_goes_through_the_detector_once(folder, monkeypatch):
    calls, compute = [], AudioLMDetectorForAudioClassification._frame_logits
    monkeypatch.setattr(
        AudioLMDetectorForAudioClassification, "_frame_logits", lambda *given: calls.append(given) or compute(*given)
    )
    assert cli.main(["detect", str(CLIP), "--detector", str(folder)]) in (0, 3)
    assert len(calls) == 1


PEAK = """
import resource, sys
from audiolm_hf import cli
assert cli.main(["detect", sys.argv[1], "--device", "cpu", "--threads", "1", "--json"]) in (0, 3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_long_file_takes_little_more_than_twice_the_memory_of_its_samples(tmp_path):
    peaks = []
    for minutes in (2, 40):
        path = tmp_path / f"{minutes}.wav"
        sf.write(path, np.tile(sf.read(CLIP)[0][:16000], 60 * minutes), 16000)
        peaks.append(1024 * int(run_python(PEAK, path, home=tmp_path).split()[-1]))
    assert peaks[1] - peaks[0] < 3.2 * 4 * 16000 * 60 * 38


def test_bad_files_are_told_and_do_not_stop_the_others(folder, verdict, capsys, tmp_path):
    verdict(-2.0)
    sf.write(tmp_path / "short.wav", np.ones(100), 16000)
    sf.write(tmp_path / "less.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 6000), 16000)
    sf.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    sf.write(tmp_path / "stereo.wav", np.random.default_rng(0).uniform(-0.1, 0.1, (44100, 2)), 44100)
    (tmp_path / "text.wav").write_text("no audio")
    names = ["missing.wav", "short.wav", "less.wav", "silent.wav", "text.wav", "stereo.wav"]
    files = [str(tmp_path / name) for name in names]
    assert cli.main(["detect", *files, "--detector", str(folder)]) == 1
    streams = capsys.readouterr()
    errors = [line for line in streams.err.splitlines() if line.startswith("audiolm-hf: error: ")]
    assert len(errors) == 5 and all(name in error for name, error in zip(names[:5], errors, strict=True)), errors
    for error, message in zip(errors, ("does not exist", "0.006 s", "0.375 s", "silent", ""), strict=True):
        assert message in error
    assert streams.out.startswith(f"{files[-1]}: generated")
    assert cli.main(["detect", *files, "--json", "--detector", str(folder)]) == 1
    results = json.loads(capsys.readouterr().out)
    assert ["error" in result for result in results] == [True] * 5 + [False]


def test_a_detector_that_is_not_there_is_an_error(capsys, tmp_path):
    assert cli.main(["detect", str(CLIP), "--detector", "speech-huge"]) == 1
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert (
        "The detector 'speech-huge' is not found. Give the folder of a detector" in error
        and "A checkpoint" not in error
    )
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert cli.main(["detect", str(CLIP), "--detector", str(tmp_path)]) == 1
    assert "is of type 'bert'" in capsys.readouterr().err


def test_a_bundled_detector_lies_in_its_checkpoint(folder, monkeypatch):
    monkeypatch.setattr(bundled, "_CHECKPOINTS", folder.parent.parent)
    (folder.parent / "config.json").write_text("{}")
    assert bundled.resolve_detector(folder.parent.name) == str(folder)


def test_an_extractor_of_another_rate_or_form_is_refused(folder, capsys):
    path = folder / "preprocessor_config.json"
    extractor = audiolm_hf.AudioLMFeatureExtractor(sampling_rate=8000)
    for text, message in ((extractor.to_json_string(), "at 8000 Hz and the model at 16000"), ("[]", "holds []; give")):
        path.write_text(text)
        assert cli.main(["detect", str(CLIP), "--detector", str(folder)]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("audiolm-hf: error: ") and message in error


@pytest.mark.parametrize("options", [["--metadata"], []])
def test_standard_input_is_scored(monkeypatch, capsys, options, folder):
    data = encode_audio(np.sin(np.arange(16000) / 9), 16000, ".flac", provenance("tiny", 5))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert cli.main(["detect", "-", *options, "--detector", str(folder)]) in (0, 3)
    streams = capsys.readouterr()
    assert streams.out.startswith("-: ") and (not options or "seed 5" in streams.out)


def test_metadata_are_read_without_a_detector(capsys, tmp_path):
    made, plain = tmp_path / "made.mp3", tmp_path / "plain.wav"
    write_audio(made, np.sin(np.arange(8000) / 9), 16000, provenance("tiny", 5))
    write_audio(plain, np.zeros(100), 16000)
    assert cli.main(["detect", "--metadata", str(made), str(plain)]) == 3
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{made}: generated (digitalSourceType http") and "checkpoint tiny, seed 5)" in first
    assert second.startswith(f"{plain}: unmarked, which says nothing about how it was made")
    assert cli.main(["detect", "--metadata", str(plain), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"file": str(plain), "metadata": None, "verdict": "unmarked"}]
    assert cli.main(["detect", "--metadata", str(made), str(tmp_path / "none.wav"), "--json"]) == 1
    streams = capsys.readouterr()
    assert json.loads(streams.out)[0]["metadata"]["seed"] == 5 and "does not exist" in streams.err


def test_metadata_and_names_of_any_letters_are_printed_in_a_line(tmp_path, monkeypatch):
    made = tmp_path / os.fsdecode(b"\xff-\xc3\xbc.wav")
    comment = 'Synthetic audio generated by audiolm_hf: {"checkpoint": "a\\ud800\\u001b[2J\\n日本"}'
    write_audio(made, np.zeros(1600), 16000, {"comment": comment})
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", stdout)
    assert cli.main(["detect", "--metadata", str(made)]) == 3
    (line,) = stdout.buffer.getvalue().decode("latin-1").splitlines()
    assert line.endswith("\\udcff-ü.wav: generated (checkpoint a??[2J?\\u65e5\\u672c)")


def test_continuations_are_detected_behind_their_real_prompt_after_a_cut_and_without_metadata(tmp_path, capsys):
    prompt = bundled.example_prompt("speech-tiny")
    command = ["continue", prompt, "-o", str(tmp_path / "made.wav"), "--num-continuations", "3", "--quiet"]
    assert cli.main(command) == 0
    for made in tmp_path.glob("*.wav"):
        audio, rate = sf.read(made, dtype="float32")
        with sf.SoundFile(
            made.with_suffix(".mp3"), "w", rate, 1, bitrate_mode="CONSTANT", compression_level=0.63
        ) as file:
            file.write(audio[rate // 3 :])  # 64 kbit/s
    sent = [str(path) for path in tmp_path.glob("*.mp3")]
    assert len(sent) == 3 and cli.main(["detect", "--metadata", *sent]) == 0
    assert cli.main(["detect", prompt]) == 0
    capsys.readouterr()
    assert cli.main(["detect", *sent, "--json"]) == 3
    found = [each for each in json.loads(capsys.readouterr().out) if each["verdict"] == "generated"]
    assert len(found) >= 2  # the detector misses some
    assert all(each["most_suspicious_s"][1] > 4 for each in found)


def test_the_bundled_detector_of_piano_is_small_and_tells_generated_from_real(tmp_path, capsys):
    whole = bundled.Path(bundled.checkpoint("piano-tiny"))
    assert sum(path.stat().st_size for path in (whole / "detector").iterdir()) <= 3_000_000
    pipe = audiolm_hf.pipeline("piano-tiny")
    output = pipe.model.generate(continuation_length_s=4.0, seed=0)
    made = str(tmp_path / "made.wav")
    pipe.processor.save_audio(output, made)
    assert cli.main(["detect", bundled.example_prompt("piano-tiny"), "--detector", "piano-tiny"]) == 0
    assert ": real (" in capsys.readouterr().out
    assert cli.main(["detect", made, "--detector", "piano-tiny"]) == 3
    assert ": generated (" in capsys.readouterr().out
