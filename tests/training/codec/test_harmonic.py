# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Training a codec with a pitch: its targets, its losses, coarse levels alone, and starts from other decoders."""

import json
import math
from unittest.mock import patch

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.harmonic_decoder_audiolm import pitch_bins
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.settings import build
from audiolm_hf.training.codec.initial import start_codec
from audiolm_hf.training.codec.losses import MagnitudeLoss, PitchLoss
from audiolm_hf.training.codec.pitch import PitchCache, measure_pitch
from audiolm_hf.training.codec.trainer import CodecTrainer, CodecTrainingConfig, train_codec
from audiolm_hf.training.estimate import estimate

SIZES = {
    "strides": [8, 10],
    "window_length": 320,
    "num_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 8,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
}
HARMONIC = {"decoder_type": "harmonic", "num_pitch_bins": 40, "num_noise_bands": 8, "num_phase_bands": 4}


def glide(seconds, first, last, rate=16000):
    """Harmonics of a pitch that rises evenly; half a second of silence before."""
    hertz = np.linspace(first, last, round(seconds * rate))
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    voice = 0.1 * sum(np.sin(k * phase) / k for k in range(1, 12))
    return np.concatenate([np.zeros(rate // 2), voice]).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    sf.write(folder / "first.wav", glide(3, 120, 240), 16000)
    sf.write(folder / "second.wav", glide(1, 100, 150), 16000)
    return folder


def training(recordings, output, **changes):
    values = {
        "output_folder": str(output),
        "data": {"folder": str(recordings), "train": ["first.wav"], "validation": ["second.wav"]},
        "codec": SIZES | HARMONIC | {"quantizer_dropout": 0.0},
        "max_steps": 4,
        "decay_steps": 1,
        "warmup_steps": 1,
        "batch_size": 2,
        "crop_length_s": 0.3,
        "quantizer_start_step": 1,
        "codebook_init_crops": 4,
        "eval_steps": 2,
        "validation_crops": 2,
        "validation_crop_length_s": 0.5,
        "save_steps": 2,
        "bf16": False,
        "mel_window_lengths": [512, 128],
        "mel_bands": [40, 10],
        "magnitude_weight": 5.0,
        "pitch_weight": 0.3,
    }
    return build(CodecTrainingConfig, {**values, **changes})


def test_pitch_is_that_of_the_sound_and_silence_has_none():
    track = measure_pitch(glide(2, 110, 220), 16000)
    f0 = track.at_frames(0, 125, 320, 16000)
    times = (np.arange(125) + 0.5) * 0.02
    assert not f0[times < 0.45].any()
    inner = (times > 0.6) & (times < 2.4)
    assert np.abs(f0[inner] - (110 + 110 * (times[inner] - 0.5) / 2)).max() < 2
    late = track.at_frames(16000, 100, 320, 16000)  # a crop from 1.0 s on, longer than what is left
    assert np.allclose(late[:75], f0[50:], atol=2.5) and not late[80:].any()


def test_a_recording_too_short_for_a_pitch_has_none():
    track = measure_pitch(glide(1, 100, 200)[-1000:], 16000)
    assert not track.at_frames(0, 4, 320, 16000).any()
    assert not measure_pitch(np.zeros(8000), 16000).f0.any()


def test_pitch_is_measured_once_and_read_from_the_folder(tmp_path):
    samples = (glide(0.5, 120, 130) * 32767).astype(np.int16)
    measured = PitchCache(tmp_path, 16000, 320)(samples, 3200, 8000)
    assert measured.shape == (25,) and measured.any()
    (path,) = tmp_path.iterdir()
    with np.load(path) as stored:
        values = dict(stored)
    np.savez(path, start_s=values["start_s"], f0=values["f0"] + 1)
    again = PitchCache(tmp_path, 16000, 320)(samples, 3200, 8000)
    assert np.allclose(again[measured > 0], measured[measured > 0] + 1)
    PitchCache(tmp_path, 16000, 320)(samples[:-1], 0, 8000)  # another recording
    assert len(list(tmp_path.iterdir())) == 2


def test_pitch_loss_is_the_cross_entropy_frame_by_frame():
    config = SoundStreamConfig(decoder_type="harmonic", num_pitch_bins=30)
    logits = torch.randn(2, 4, 31, generator=torch.Generator().manual_seed(0))
    f0 = torch.tensor([[0.0, 100.0, 233.0, 0.0], [55.0, 900.0, 0.0, 54.0]])  # some outside the bins
    voicing, bins = PitchLoss(config)(logits, f0)
    centres = pitch_bins(config, torch.device("cpu")).double().log().tolist()
    total, count, expected_voicing = 0.0, 0, 0.0
    for row in range(2):
        for frame in range(4):
            hertz, values = float(f0[row, frame]), logits[row, frame].double().tolist()
            sign = 1 if hertz else -1
            expected_voicing += math.log(1 + math.exp(-sign * values[-1])) / 8
            if not hertz:
                continue
            place = (math.log(min(max(hertz, 55.0), 520.0)) - centres[0]) / (centres[1] - centres[0])
            weights = [math.exp(-0.5 * (index - place) ** 2) for index in range(30)]
            norm = math.log(sum(math.exp(value) for value in values[:-1]))
            total -= sum(w * (v - norm) for w, v in zip(weights, values[:-1], strict=True)) / sum(weights)
            count += 1
    assert float(voicing) == pytest.approx(expected_voicing, rel=1e-4)
    assert float(bins) == pytest.approx(total / count, rel=1e-4)
    assert PitchLoss(config)(logits, torch.zeros(2, 4))[1] == 0


def test_the_loss_of_output_magnitudes_is_0_for_equal_sounds_and_a_decade_for_ten_times():
    loss, sound = MagnitudeLoss(SoundStreamConfig(**SIZES | HARMONIC)), torch.randn(2, 803)
    assert loss(sound, sound) == 0
    assert loss(10 * sound, sound) == pytest.approx(1.0, abs=0.05)


def test_losses_that_a_decoder_does_not_serve_are_refused(recordings, tmp_path):
    with pytest.raises(ValueError, match="decoder_type is .istft.; pitch_weight above 0 needs"):
        CodecTrainer(training(recordings, tmp_path, codec=SIZES))
    with pytest.raises(ValueError, match="num_codebooks is 4; give an integer from 1 to 3"):
        CodecTrainer(training(recordings, tmp_path, num_codebooks=4))


def test_crops_come_with_their_own_pitch(recordings, tmp_path):
    trainer = CodecTrainer(training(recordings, tmp_path, batch_size=6))
    target, f0 = trainer._draw_batch()
    assert f0.shape == (6, 60) and (f0 > 0).any()
    for samples, pitch in zip(target.numpy(), f0.numpy(), strict=True):
        voiced = pitch[20:40]
        if (voiced > 0).all():
            power = np.abs(np.fft.rfft(samples * np.hanning(4800), 2**16)) ** 2
            lowest = np.argmax(power[: 2**16 // 50]) * 16000 / 2**16  # below 320 Hz
            assert abs(lowest - voiced.mean()) < 4


@pytest.fixture(scope="module")
def finished(recordings, tmp_path_factory):
    """Folder of a training that came to its end."""
    folder = tmp_path_factory.mktemp("finished")
    train_codec(training(recordings, folder))
    return folder


@pytest.mark.slow
def test_training_logs_the_losses_of_pitch_and_resumes_to_the_same_weights(finished, recordings, tmp_path):
    entries = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [2, 4]
    assert all(entry[name] > 0 for entry in entries for name in ("voicing", "pitch", "magnitude"))
    assert len(list((finished / "pitch").iterdir())) == 1
    train_step, parts = CodecTrainer._train_step, training(recordings, tmp_path)

    def killed_at_step_3(trainer):
        if trainer.step == 3:
            raise InterruptedError
        return train_step(trainer)

    with pytest.raises(InterruptedError), patch.object(CodecTrainer, "_train_step", killed_at_step_3):
        train_codec(parts)
    torch.manual_seed(99)
    train_codec(parts)
    whole, resumed = (load_file(folder / "final" / "model.safetensors") for folder in (finished, tmp_path))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_every_parameter_learns_and_levels_that_are_left_out_stay(finished, recordings, tmp_path):
    changes = {"codec": {}, "initial_weights": str(finished / "final"), "num_codebooks": 2}
    trainer = CodecTrainer(training(recordings, tmp_path, **changes))
    before = {name: value.clone() for name, value in trainer.codec.state_dict().items()}
    trainer._train_step()
    same = {name for name, value in trainer.codec.state_dict().items() if torch.equal(value, before[name])}
    assert {name for name in same if not name.endswith("initialized")} == {
        f"quantizer.levels.2.{name}" for name in ("codebook", "sums", "counts")
    }
    entry = trainer.metrics()
    assert "codes_used_1" in entry and "codes_used_2" not in entry


def test_a_harmonic_codec_starts_at_the_magnitudes_of_another(tmp_path):
    torch.manual_seed(0)
    SoundStreamModel(SoundStreamConfig(**SIZES)).save_pretrained(tmp_path)
    plain, codec = start_codec(tmp_path, {}), start_codec(tmp_path, HARMONIC)
    latents = torch.randn(1, 20, 16)
    with torch.no_grad():
        assert torch.equal(codec.decoder.in_proj(latents), plain.decoder.in_proj(latents))
        hidden = torch.randn(1, 20, 16)
        expected = plain.decoder.out_proj(hidden).chunk(2, dim=-1)[0]
        assert torch.allclose(codec.decoder.magnitude_proj(hidden), expected, atol=1e-6)
        found = codec.decoder.source_filter(latents)
    assert not found.phase.any() and not found.pitch_logits.any()
    assert torch.all(found.noise_logits == -1.0)
    resized = start_codec(tmp_path, HARMONIC | {"hidden_size": 12})
    assert resized.decoder.magnitude_proj.weight.shape == (161, 12)


def test_the_training_is_estimated(recordings, tmp_path):
    assert estimate(training(recordings, tmp_path)).startswith("codec: 0.0 M parameters")
