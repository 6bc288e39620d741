# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The watermark: where the package is missing there is one clear error, and otherwise files that are marked are found.

Without resemble-perth, which not every build of torch can run, a sequence of noise is the watermark in its place.
"""

import importlib.util
import json
import sys
import types

import numpy as np
import pytest
import torch

import audiolm_hf
from audiolm_hf import cli, demo, watermark_audiolm
from audiolm_hf.audio_file_audiolm import read_audio, write_audio
from audiolm_hf.data.edits import EDITS
from audiolm_hf.watermark_audiolm import add_watermark, check_watermark, watermark_is_available, watermark_score
from tests.helpers_checkpoint import CLIP, DATA, tiny_processor
from tests.helpers_sounds import RATE, notes

MODULE = "perth.perth_net.perth_net_implicit.perth_watermarker"
IS_THERE = importlib.util.find_spec("perth") is not None


class NoiseWatermark:
    """Noise of one seed, 20 dB softer than the recording; it is found by correlation."""

    def _noise(self, count):
        return np.random.default_rng(0).standard_normal(count)

    def apply_watermark(self, signal, sample_rate):
        return signal + 0.1 * signal.std() * self._noise(len(signal))

    def get_watermark(self, signal, sample_rate, round):
        if not signal.std():  # like the real one
            return np.ones(3)
        share = np.corrcoef(signal, self._noise(len(signal)))[0, 1]
        return np.full(3, min(1.0, max(0.0, 10 * share)))


@pytest.fixture(autouse=True)
def fresh_network():
    watermark_audiolm._network.cache_clear()
    yield
    watermark_audiolm._network.cache_clear()


@pytest.fixture
def watermark(monkeypatch):
    module = types.ModuleType(MODULE)
    module.PerthImplicitWatermarker = NoiseWatermark
    package = types.ModuleType("perth")
    package.__spec__ = importlib.util.spec_from_loader("perth", None)
    for name, value in (("perth", package), (MODULE, module)):
        monkeypatch.setitem(sys.modules, name, value)
    for name in ("perth.perth_net", "perth.perth_net.perth_net_implicit"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


def fail():
    raise RuntimeError("no checkpoint found")


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setitem(sys.modules, "perth", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_a_missing_package_is_one_clear_error_before_any_work(without, tmp_path, capsys, monkeypatch):
    assert not watermark_is_available()
    path, message = tmp_path / "a.wav", r'not installed: pip install "audiolm_hf\[watermark\]"'
    with pytest.raises(ImportError, match=message):
        tiny_processor().save_audio(notes([69]), path, watermark=True)
    monkeypatch.setattr("audiolm_hf.commands.continue_.load", None)
    for command in (["continue", str(CLIP), "-o", str(path), "--watermark"], ["detect", str(CLIP), "--watermark"]):
        assert cli.main(command) == 1
        assert 'not installed: pip install "audiolm_hf[watermark]"' in capsys.readouterr().err
    assert not path.exists()


def test_a_package_that_cannot_be_imported_says_why(watermark, monkeypatch):
    monkeypatch.delattr(sys.modules[MODULE], "PerthImplicitWatermarker")
    with pytest.raises(ImportError, match=r"cannot be imported \(cannot import name .*setuptools below 81"):
        check_watermark()
    assert not watermark_is_available()
    monkeypatch.setattr(sys.modules[MODULE], "PerthImplicitWatermarker", fail, raising=False)
    with pytest.raises(ImportError, match=r"cannot be imported \(no checkpoint found\)"):
        check_watermark()
    assert not watermark_is_available()


def test_a_marked_file_is_found_and_others_are_not(watermark, tmp_path, capsys):
    processor, clip = tiny_processor(), read_audio(CLIP, RATE)[0]
    marked, other = (tmp_path / name for name in ("marked.flac", "other.flac"))
    processor.save_audio([clip, clip[:100]], [other, tmp_path / "short.wav"])
    processor.save_audio(clip, marked, watermark=True, seed=1)
    assert read_audio(marked)[0].shape == read_audio(other)[0].shape
    assert watermark_score(clip, RATE) < 0.2 < 0.8 < watermark_score(read_audio(marked, RATE)[0], RATE)
    write_audio(tmp_path / "silent.wav", np.full(RATE, 0.1), RATE)
    capsys.readouterr()
    assert cli.main(["detect", "--metadata", str(marked)]) == 3
    with pytest.raises(SystemExit):
        cli.main(["detect", "--metadata", "--watermark", str(marked)])
    capsys.readouterr()
    files = [str(tmp_path / "silent.wav"), str(other)]
    assert cli.main(["detect", "--watermark", *files]) == 0
    assert capsys.readouterr().out.startswith(f"{files[0]}: unmarked (watermark 0.000)\n{other}: unmarked (watermark ")


def test_files_of_the_page_are_marked_if_it_is_installed(watermark, tiny_audiolm, tmp_path):
    offered = demo.Checkpoint("one", audiolm_hf.pipeline(tiny_audiolm, processor=tiny_processor(), device="cpu"), "")
    *_, made = demo.Job(offered, read_audio(CLIP, RATE)[0], 1.0, 0, 1, {}).run(0, str(tmp_path))
    assert watermark_score(read_audio(made["audio"], RATE)[0], RATE) > 0.8


def test_what_cannot_carry_it_is_refused(watermark, tmp_path):
    with pytest.raises(ValueError, match=r"lasts 0\.100 s; a watermark needs 0\.5 s"):
        add_watermark(np.ones(1600, np.float32), RATE)
    soft = 1e-5 * np.sin(np.arange(RATE) / 9)  # of which 16 bits keep nothing
    for audio, message in (
        (np.zeros(RATE), "silent or nearly so"),
        (np.full(RATE, 0.1), "silent or nearly so"),
        (soft, "silent or nearly so"),
        (soft[:9], "lasts"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_processor().save_audio(audio, tmp_path / "a.wav", watermark=True)
    for audio in (np.ones((2, RATE)), np.full(RATE, np.nan), np.ones((RATE, 2), np.int16)):
        for call in (add_watermark, watermark_score):
            with pytest.raises(
                ValueError, match=r"The recording has shape .*; give \(num_samples,\) of finite samples"
            ):
                call(audio, RATE)
    with pytest.raises(ValueError, match="sampling_rate is 0"):
        add_watermark(np.ones(RATE), 0)
    with pytest.raises(ValueError, match=r"watermark is 'yes'; give True or False"):
        tiny_processor().save_audio(np.zeros(RATE), tmp_path / "a.wav", watermark="yes")
    assert list(tmp_path.iterdir()) == []


def test_samples_of_any_type_are_marked_alike(watermark):
    clip = read_audio(CLIP, RATE)[0]
    expected = add_watermark(clip, RATE)
    for same in (clip.astype(float), torch.from_numpy(clip), (clip * 2**15).astype(np.int16)):
        assert np.allclose(add_watermark(same, RATE), expected, atol=1e-3)
    assert watermark_score((expected * 2**15).astype(np.int16), RATE) > 0.8


def test_long_recordings_are_marked_in_pieces(monkeypatch):
    lengths = []

    class Offset:
        def apply_watermark(self, signal, sample_rate):
            lengths.append(len(signal))
            return signal[:-1] + 0.1  # resampling may lose one

        def get_watermark(self, signal, sample_rate, round):
            lengths.append(len(signal))
            return np.array([signal.mean() > 0.05])

    monkeypatch.setattr(watermark_audiolm, "_network", Offset)
    monkeypatch.setattr(watermark_audiolm, "_PIECE_S", 2)
    clip = np.concatenate([np.zeros(3 * RATE), 0.01 * np.sin(np.arange(4 * RATE + 1))])
    marked = add_watermark(clip, RATE)
    assert np.allclose(marked[3 * RATE : -1], clip[3 * RATE : -1] + 0.1) and not marked[:RATE].any()
    assert max(lengths) <= 4 * RATE and len(lengths) == 6  # the first piece is silent, though not what follows it
    assert watermark_score(marked, RATE) == 1.0 and watermark_score(clip, RATE) == 0.0


def test_continuations_too_short_for_it_are_refused_before_any_work(watermark, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("audiolm_hf.commands.continue_.load", None)
    command = ["continue", str(CLIP), "-o", str(tmp_path / "a.wav"), "--watermark", "--continuation-only"]
    assert cli.main([*command, "--length-s", "0.3"]) == 1
    assert "--length-s is 0.3; a watermark needs 0.5 s or more" in capsys.readouterr().err


def test_streams_have_none(watermark, tmp_path, capsys):
    assert cli.main(["continue", str(CLIP), "-o", str(tmp_path / "a.wav"), "--stream", "--watermark"]) == 1
    assert "--watermark needs the whole recording; leave out --stream" in capsys.readouterr().err


@pytest.mark.slow
def test_the_protocol_counts_what_is_found(watermark, tmp_path, capsys):
    output = tmp_path / "report.json"
    options = ["--data", str(DATA), "--num-clips", "2", "--length-s", "2", "-o", str(output)]
    assert cli.main(["evaluate", "watermark", *options]) == 0
    report = json.loads(output.read_text())
    assert set(report["found"]) >= {"none", "this codec, all levels", *EDITS}
    assert report["found"]["none"] == {"marked": 1.0, "unmarked": 0.0}
    assert report["found"]["gain"] == {"marked": 1.0, "unmarked": 0.0}
    assert report["found"]["cropping"]["marked"] == 0.0  # this sequence of noise is found at its own place only
    assert 1.0 < report["pesq_wb"] < 4.5
    assert "PESQ-WB of marked clips" in capsys.readouterr().out


def test_the_protocol_leaves_out_what_edits_make_too_short(watermark, tmp_path, capsys):
    clip = read_audio(CLIP, RATE)[0]
    for name, samples in (("a", clip[:8000]), ("b", clip)):
        write_audio(tmp_path / f"{name}.wav", samples, RATE)
    command = ["evaluate", "watermark", "--data", str(tmp_path), "-o", str(tmp_path / "report.json"), "--length-s"]
    assert cli.main([*command, "0.6"]) == 1
    assert "length_s is 0.6, or no recording lasts 1.0 s" in capsys.readouterr().err
    assert cli.main([*command, "1"]) == 0 and json.loads((tmp_path / "report.json").read_text())["num_clips"] == 1
    (tmp_path / "b.wav").unlink()
    assert cli.main([*command, "1", "--overwrite"]) == 1


@pytest.mark.skipif(not IS_THERE, reason="needs resemble-perth: pip install '.[watermark]'")
def test_the_real_watermark_survives_what_it_is_said_to():
    clip = read_audio(CLIP, RATE)[0]
    marked = add_watermark(clip, RATE)
    assert marked.shape == clip.shape and marked.dtype == np.float32
    assert watermark_score(clip, RATE) < 0.1 < 0.9 < watermark_score(marked, RATE)
    assert watermark_score(marked[RATE : 2 * RATE], RATE) > 0.9
    assert watermark_score(np.full(RATE, 0.1), RATE) == 0
