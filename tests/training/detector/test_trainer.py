# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A tiny detector separates two kinds of sound, stays at chance on shuffled labels, resumes, and refuses odd input."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save

from audiolm_hf import (
    AudioLMDetectorForAudioClassification,
    AudioLMFeatureExtractor,
    SoundStreamConfig,
    SoundStreamModel,
)
from audiolm_hf.audio_file_audiolm import write_audio
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation import detector_clips
from audiolm_hf.evaluation.detector_clips import (
    DetectorClipsConfig,
    excerpts,
    generate_clips,
    read_clips,
    real_clips,
    write_clips,
)
from audiolm_hf.modeling_detector_audiolm import REAL, AudioLMDetectorConfig
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.detector import trainer as module
from audiolm_hf.training.detector.trainer import DetectorClips, DetectorTrainingConfig, fit_detector, train_detector
from tests.helpers_checkpoint import DATA, tiny_model
from tests.helpers_sounds import RATE

CLIPS = {
    "num_continuations": 3,
    "num_unconditional": 1,
    "num_real": 2,
    "length_s": [1.0, 1.2],
    "prompt_length_s": [0.5, 0.7],
    "batch_size": 2,
}


def tiny_config(output: Path, checkpoint: Path = Path("none"), **changes) -> DetectorTrainingConfig:
    names = [path.name for path in sorted(DATA.glob("*.flac"))]
    config = DetectorTrainingConfig(
        output_folder=str(output),
        checkpoint=str(checkpoint),
        data=AudioDataConfig(folder=str(DATA), train=names[:2], validation=names[2:]),
        clips=DetectorClipsConfig(**CLIPS),
        num_validation=2,
        max_steps=4,
        batch_size=4,
        crop_length_s=[1.0, 1.1],
        save_steps=2,
        eval_steps=2,
        learning_rate=3e-3,
        warmup_steps=2,
        bf16=False,
        use_cpu=True,
    )
    return replace(config, **changes)


def tones(count: int, wavering: bool, seed: int) -> list[np.ndarray]:
    """Seconds of harmonics of random pitch in noise, int16, whose pitch wavers by 3 % or is steady."""
    rng, time = np.random.default_rng(seed), np.arange(RATE) / RATE
    clips = []
    for _ in range(count):
        steps = np.interp(time, np.linspace(0, 1, 26), rng.normal(0, 0.03 * wavering, 26))
        phase = 2 * np.pi * np.cumsum(rng.uniform(150, 300) * (1 + steps)) / RATE
        clip = sum(0.2 / number * np.sin(number * phase) for number in range(1, 6))
        clips.append((32767 * (clip + 0.01 * rng.standard_normal(RATE))).astype(np.int16))
    return clips


def fitted(folder: Path, training, validation) -> float:
    """Equal error rate on validation clips."""
    config = tiny_config(
        folder, max_steps=40, eval_steps=40, save_steps=40, batch_size=8, crop_length_s=[1.0, 1.0], edit_share=0.2
    )
    clips = DetectorClips(training, RATE)
    held_out = DetectorClips(validation, RATE)
    fit_detector(config, Accelerator(cpu=True), slice(None), clips, held_out)
    return json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["validation_eer"]


@pytest.mark.slow
def test_two_kinds_of_sound_are_separated(tmp_path):
    training = {"continuation": tones(16, True, 0), "codec": tones(8, False, 1), "real": tones(8, False, 2)}
    validation = {"unconditional": tones(30, True, 3), "real": tones(30, False, 4)}
    assert fitted(tmp_path, training, validation) < 0.1


def test_a_score_of_one_half_is_made_the_threshold_of_even_odds():
    torch.manual_seed(0)
    detector = AudioLMDetectorForAudioClassification(AudioLMDetectorConfig(sampling_rate=RATE)).eval()
    detector.classifier.weight.data.normal_(std=0.005)
    groups = {"continuation": tones(40, True, 0), "real": tones(20, False, 1), "codec": tones(20, False, 2)}
    groups["coarse"] = tones(30, True, 3)  # called generated, which does not count
    clips, errors = DetectorClips(groups, RATE), []
    real, generated = (np.mean(clips._scores(detector, groups[name])) for name in ("real", "continuation"))
    detector.classifier.weight.data *= float(np.sign(real - generated))  # so that it is better than chance
    for bias in (-6.0, 6.0):
        detector.classifier.bias.data[REAL] = bias
        clips.calibrate_(detector)
        scores = {name: clips._scores(detector, each) for name, each in groups.items()}
        real = np.concatenate([scores["real"], scores["codec"]])
        errors.append(((real < 0.5).mean(), (scores["continuation"] >= 0.5).mean()))
    assert errors[0] == errors[1] and max(errors[0]) < 0.6


def test_clips_through_the_coarse_levels_are_used_in_part():
    groups = {"real": tones(4, False, 1), "coarse": tones(10, False, 2), "continuation": tones(5, True, 3)}
    clips = DetectorClips(groups, RATE, 0.3)
    expected = [*groups["real"], *groups["coarse"][:3]]
    assert all(one is other for one, other in zip(clips.by_label[REAL], expected, strict=True))
    assert len(clips.by_label[1 - REAL]) == 5
    assert len(DetectorClips(groups, RATE).by_label[REAL]) == 14


@pytest.mark.slow
def test_shuffled_labels_stay_at_chance(tmp_path):
    mixed = [np.random.default_rng(0).permutation([*tones(16, True, 0), *tones(16, False, 1)])]
    training = {"continuation": list(mixed[0][:16]), "real": list(mixed[0][16:])}
    validation = [*tones(40, True, 3), *tones(40, False, 4)]
    halves = {"continuation": validation[::2], "real": validation[1::2]}  # as many of both kinds in each
    assert fitted(tmp_path, training, halves) == pytest.approx(0.5, abs=0.15)


@pytest.fixture(scope="module")
def finished(checkpoint, tmp_path_factory):
    """Configuration and detector of a training that came to its end."""
    config = tiny_config(tmp_path_factory.mktemp("finished"), checkpoint)
    return config, train_detector(config)


def test_training_writes_clips_a_log_and_a_detector(finished):
    config, folder = finished
    output = Path(config.output_folder)
    held_out = replace(config.clips, num_continuations=2, num_unconditional=2, num_real=2, seed=1)
    training, validation = read_clips(output / "training", config.clips), read_clips(output / "validation", held_out)
    counts = {name: len(clips) for name, clips in training.items()}
    assert counts == {"continuation": 3, "unconditional": 1, "real": 2, "codec": 2, "coarse": 2}
    assert {len(clips) for clips in validation.values()} == {2}
    for name, clips in training.items():
        assert all(clip.dtype == np.int16 and 0.99 * RATE <= len(clip) <= 1.21 * RATE for clip in clips), name
        assert all(np.abs(clip).max() > 0 for clip in clips)
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(0 <= line[name] <= 1 for line in lines for name in ("validation_accuracy", "validation_eer"))
    detector = AudioLMDetectorForAudioClassification.from_pretrained(folder)
    assert (
        detector.dtype == torch.float32
        and load_file(folder / "model.safetensors")["classifier.weight"].dtype == torch.float16
    )
    assert AudioLMFeatureExtractor.from_pretrained(folder).min_length_s == 0.5
    assert train_detector(config) == folder  # finished before
    with pytest.raises(ValueError, match="holds another run; different: .*edit_share"):
        train_detector(replace(config, edit_share=0.1))


def test_clips_that_are_not_those_that_were_written_are_refused(finished, tmp_path):
    config, _ = finished
    folder = shutil.copytree(Path(config.output_folder) / "training", tmp_path / "training")
    path = folder / "continuation-00000.safetensors"
    shutil.copy(path, folder / "continuation-00009.safetensors")
    assert len(read_clips(folder, config.clips)["continuation"]) == 3  # without those of a file that is not planned
    written = load_file(path)
    with pytest.raises(ValueError, match="damaged or another file"):  # of another seed
        read_clips(folder, replace(config.clips, seed=8))
    altered = {key: values ^ 1 if key.endswith(".0") else values for key, values in written.items()}  # its lowest bits
    last = (folder / "continuation-00001.safetensors").read_bytes()
    for data in (
        path.read_bytes()[:-10],
        b"",
        last,
        save(altered),
        save({**written, "continuation.9": altered["continuation.0"]}),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"continuation-00000.safetensors is damaged or another file; remove it"):
            read_clips(folder, config.clips)


class KilledError(Exception):
    pass


@pytest.mark.slow
def test_resumed_training_equals_an_uninterrupted_one(finished, checkpoint, tmp_path, monkeypatch):
    expected = load_file(finished[1] / "model.safetensors")
    config = tiny_config(tmp_path / "resumed", checkpoint)
    generate, step, made = module.write_clips.__globals__["generate_clips"], module.DetectorTrainer._train_step, []

    def die_in_the_second_batch(*arguments):
        made.append(arguments)
        if len(made) == 2:
            raise KilledError
        return generate(*arguments)

    def die_in_the_last_step(trainer):
        if trainer.step == 3:
            raise KilledError
        return step(trainer)

    with monkeypatch.context() as patch:
        patch.setitem(module.write_clips.__globals__, "generate_clips", die_in_the_second_batch)
        with pytest.raises(KilledError):
            train_detector(config)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "resumed" / "training").iterdir()}
    assert list(kept) == ["continuation-00000.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(module.DetectorTrainer, "_train_step", die_in_the_last_step)
        with pytest.raises(KilledError):
            train_detector(config)
    found = load_file(train_detector(config) / "model.safetensors")
    assert (tmp_path / "resumed" / "training" / "continuation-00000.safetensors").stat().st_mtime_ns in kept.values()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_a_batch_is_dealt_out_without_a_change(tmp_path):
    clips = DetectorClips({"continuation": tones(3, True, 0), "real": tones(3, False, 1)}, RATE)
    config = tiny_config(tmp_path, batch_size=6, edit_share=1.0)
    whole = clips.batch(config, 5, slice(None))
    assert whole["labels"].tolist() == [0, 1] * 3
    for rank in range(2):
        part = clips.batch(config, 5, slice(rank, None, 2))
        length = part["input_values"].shape[1]
        assert torch.equal(part["input_values"], whole["input_values"][rank::2, :length])
        assert torch.equal(part["attention_mask"].sum(1), whole["attention_mask"][rank::2].sum(1))
    assert not torch.equal(
        clips.batch(config, 6, slice(None))["input_values"][:, :8000], whole["input_values"][:, :8000]
    )


def test_real_clips_of_all_kinds_are_of_the_same_excerpts(tmp_path):
    model = tiny_model()
    source = AudioSource(sorted(DATA.glob("*.flac")), RATE)
    groups = real_clips(model, source, DetectorClipsConfig(**CLIPS), 0, 3)
    assert list(groups) == ["real", "codec", "coarse"]
    for records in zip(*groups.values(), strict=True):
        assert len({record.id for record in records}) == len({len(record.array) for record in records}) == 1
        assert not np.allclose(records[1].array, records[2].array)
    assert len({record.id for record in groups["real"]}) == 3  # different recordings while there are some
    with pytest.raises(ValueError, match="No recording lasts 60.0 s .the longest"):
        excerpts(source, 1, 60.0, [60.0, 60.0], np.random.default_rng(0))


def test_recordings_that_cannot_be_read_are_left_out(tmp_path):
    for path in DATA.glob("*.flac"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    broken = tmp_path / sorted(DATA.glob("*.flac"))[0].name
    broken.write_bytes(broken.read_bytes()[:9000])
    found = excerpts(AudioSource(tmp_path, RATE), 6, 1.0, [1.0, 1.0], np.random.default_rng(0))
    assert len(found) == 6 and broken.name not in {record.id for record in found}


def test_acoustic_modes_are_passed_on(checkpoint, tmp_path):
    source = AudioSource(sorted(DATA.glob("*.flac")), RATE)
    with pytest.raises(ValueError, match="acoustic_mode"):
        write_clips(tiny_model(), source, DetectorClipsConfig(**CLIPS, acoustic_modes=["quadratic"]), tmp_path)


def test_every_second_batch_keeps_the_options_of_the_checkpoint(monkeypatch):
    seen, source = [], AudioSource(sorted(DATA.glob("*.flac")), RATE)
    monkeypatch.setattr(detector_clips, "continue_prompts", lambda *_, **options: seen.append(options) or [])
    config = DetectorClipsConfig(**CLIPS | {"temperature": [0.7, 0.8]}, room_noise=[0.3, 0.4], dynamics=[0.5, 0.6])
    for index in range(4):
        generate_clips(tiny_model(), source, config, "continuation", index, 2)
    drawn = {"temperature", "room_noise", "dynamics"}
    assert [options.keys() & drawn for options in seen[1::2]] == [set(), set()]
    for options in seen[::2]:
        assert 0.7 <= options["temperature"] <= 0.8 and 0.3 <= options["room_noise"] <= 0.4
        assert 0.5 <= options["dynamics"] <= 0.6
    assert all(seen[0][name] != seen[2][name] for name in drawn)


def test_real_clips_through_other_codecs_are_real_ones(checkpoint, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "fit_detector", lambda *arguments: seen.extend(arguments[3:]) or sys.exit())
    config = tiny_config(tmp_path / "run", checkpoint, other_codecs=[str(checkpoint)])
    with pytest.raises(SystemExit):
        train_detector(config)
    for clips, count in zip(seen, (config.clips.num_real, config.num_validation), strict=True):
        alone, other = clips.groups["codec"][:count], clips.groups["codec"][count:]
        assert [len(clip) + round(0.5 * RATE) for clip in other] == [len(clip) for clip in clips.groups["real"]]
        assert len(alone) == len(other) == count and len(clips.by_label[REAL]) == 4 * count
        original, copy = (clip.astype(float) for clip in (clips.groups["real"][0][round(0.5 * RATE) :], other[0]))
        assert np.abs(original - copy).max() > 0


def test_a_codec_of_another_rate_is_refused_before_anything_is_generated(checkpoint, tmp_path):
    SoundStreamModel(SoundStreamConfig(sampling_rate=8000)).save_pretrained(tmp_path / "codec")
    with pytest.raises(
        ValueError, match=r"other_codecs has codecs of \{8000\} Hz; give codecs of the checkpoint's 16000"
    ):
        train_detector(tiny_config(tmp_path / "run", checkpoint, other_codecs=[str(tmp_path / "codec")]))
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_a_mode_that_the_checkpoint_lacks_is_refused_before_anything_is_generated(tmp_path, checkpoint):
    clips = DetectorClipsConfig(**CLIPS, acoustic_modes=["hierarchical", "parallel"])
    with pytest.raises(ValueError, match="acoustic_mode is 'parallel', but the model has the stages"):
        train_detector(tiny_config(tmp_path, checkpoint, clips=clips))
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DetectorClipsConfig(length_s=[7.0, 3.0]), "length_s is .7.0, 3.0.; give the lowest and the highest"),
        (lambda: DetectorClipsConfig(temperature=[1.0]), "temperature is .1.0.; give the lowest"),
        (lambda: DetectorClipsConfig(temperature=[0.0, 1.0]), "above 0"),
        (lambda: DetectorClipsConfig(room_noise=[0.0, 1.5]), "from 0 to 1"),
        (lambda: DetectorClipsConfig(num_continuations=0, num_unconditional=0), "ask for generated clips"),
        (lambda: tiny_config(Path("run"), crop_length_s=[0.3, 1.0]), "crop_length_s"),
        (lambda: tiny_config(Path("run"), batch_size=1), "batch_size is 1; give an even number"),
        (lambda: tiny_config(Path("run"), clips=DetectorClipsConfig(length_s=[0.5, 1.0])), "give 1 s or more"),
        (lambda: tiny_config(Path("run"), edit_share=2.0), "edit_share"),
    ],
)
def test_bad_settings_are_one_error(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="checkpoint is .* of type 'bert'; give one of type 'audiolm'"):
        train_detector(tiny_config(tmp_path / "run", tmp_path))


def test_recordings_are_checked_before_anything_is_generated(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr(module.AudioLMModel, "from_pretrained", lambda *_, **__: pytest.fail("a model was loaded"))
    shutil.copytree(DATA, tmp_path / "data")
    write_audio(tmp_path / "data" / "short.wav", np.ones(RATE, np.float32) / 2, RATE)
    name = sorted(DATA.glob("*.flac"))[0].name
    data = AudioDataConfig(folder=str(tmp_path / "data"), train=[name], validation=["short.wav"])
    with pytest.raises(ValueError, match=r"No recording lasts 1.5 s \(the longest 1.0 s\)"):
        train_detector(tiny_config(tmp_path / "output", checkpoint, data=data))


def test_prompts_are_no_longer_than_the_recordings():
    config = DetectorClipsConfig(**(CLIPS | {"prompt_length_s": [60.0, 70.0]}))
    (clip,) = generate_clips(tiny_model(), AudioSource(DATA, RATE), config, "continuation", 0, 1)
    assert 0.9 * RATE < len(clip) < 1.3 * RATE
