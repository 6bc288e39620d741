# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Codec training: real audio, losses that fall, kill and resume, the decoder alone, losses and discriminators."""

import json
import logging
import math
import re
import signal
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.settings import build
from audiolm_hf.spectral_codec_audiolm import windowed_spectrum
from audiolm_hf.training.checkpointing import find_checkpoints
from audiolm_hf.training.codec.discriminators import CodecDiscriminator
from audiolm_hf.training.codec.losses import (
    MagnitudeLoss,
    MultiScaleMelLoss,
    adversarial_loss,
    balanced_gradient,
    discriminator_loss,
    feature_matching_loss,
)
from audiolm_hf.training.codec.trainer import CodecTrainer, CodecTrainingConfig, train_codec
from tests.conftest import some_slow

TINY_CODEC = {
    "strides": [8, 10],
    "window_length": 320,
    "num_codebooks": 2,
    "codebook_size": 16,
    "codebook_dim": 8,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Ten seconds of gliding tones, two files."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for name in ("first", "second"):
        pitch = np.cumsum(rng.normal(0, 0.5, 80000)) / 50 + rng.uniform(100, 300)
        wave = sum(np.sin(2 * np.pi * np.cumsum(k * pitch) / 16000) / k for k in range(1, 6))
        sf.write(folder / f"{name}.wav", 0.1 * wave, 16000)
    return folder


def tiny_training(recordings, output, **changes):
    values = {
        "output_folder": str(output),
        "data": {"folder": str(recordings), "train": ["first.wav"], "validation": ["second.wav"]},
        "codec": TINY_CODEC,
        "max_steps": 6,
        "decay_steps": 2,
        "warmup_steps": 1,
        "batch_size": 2,
        "crop_length_s": 0.3,
        "quantizer_start_step": 2,
        "codebook_init_crops": 4,
        "eval_steps": 3,
        "validation_crops": 2,
        "validation_crop_length_s": 0.5,
        "save_steps": 2,
        "bf16": False,
        "mel_window_lengths": [512, 128],
        "mel_bands": [40, 10],
        "discriminator": {"start_step": 3, "window_lengths": [128], "downsamplings": [2], "num_channels": 4},
    }
    return build(CodecTrainingConfig, {**values, **changes})


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def finished(recordings, tmp_path_factory):
    """Folder of a training that came to its end."""
    folder = tmp_path_factory.mktemp("finished")
    train_codec(tiny_training(recordings, folder, report_to=["tensorboard"]))
    return folder


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_training_writes_codec_figures_samples_and_checkpoints(finished):
    codec = SoundStreamModel.from_pretrained(finished / "final")
    assert codec.config.num_codebooks == 2
    log = log_of(finished)
    assert [entry["step"] for entry in log] == [3, 6]
    assert {"mel", "adversarial", "feature", "discriminator", "valid_mel_db", "codes_used_1"} <= set(log[-1])
    samples = finished / "samples" / "step-00000006"
    assert {"0-original.wav", "0-decoded.wav", "0.png"} <= {path.name for path in samples.iterdir()}
    assert [path.name for path in find_checkpoints(finished / "checkpoints")] == ["step-00000004", "step-00000006"]


def test_a_killed_training_resumes_to_the_same_weights(finished, recordings, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    train_step = CodecTrainer._train_step

    def killed_at_step_5(trainer):
        if trainer.step == 5:
            raise KilledError
        return train_step(trainer)

    with pytest.raises(KilledError), patch.object(CodecTrainer, "_train_step", killed_at_step_5):
        train_codec(tiny_training(recordings, tmp_path / "parts"))
    torch.manual_seed(999)  # the process that resumes has drawn other numbers before
    (tmp_path / "parts").rename(tmp_path / "moved")
    monkeypatch.chdir(recordings)
    resumed = train_codec(tiny_training("./", tmp_path / "moved"))
    expected, actual = weights(finished / "final"), weights(resumed)
    assert expected.keys() == actual.keys()
    for name in expected:
        assert torch.equal(expected[name], actual[name]), name


def test_a_training_that_diverges_stops_and_keeps_the_weights_before(recordings, tmp_path):
    step = CodecTrainer._train_step

    def not_a_number(trainer):
        if trainer.step == 5:
            next(trainer.model.decoder.parameters()).data.fill_(torch.nan)
        return step(trainer)

    config = tiny_training(recordings, tmp_path)
    message = r"diverged at step 5: the mel loss is nan; the weights before it are in .*step-00000004"
    with pytest.raises(ValueError, match=message), patch.object(CodecTrainer, "_train_step", not_a_number):
        train_codec(config)
    assert not (tmp_path / "final").exists()
    assert train_codec(config) == tmp_path / "final"


def test_a_finished_training_is_not_done_again_and_another_is_refused(finished, recordings):
    weights_file = finished / "final" / "model.safetensors"
    before = weights_file.stat().st_mtime_ns
    config = tiny_training(recordings, finished)
    assert train_codec(config) == finished / "final"
    assert weights_file.stat().st_mtime_ns == before
    for changes, message in (
        ({"learning_rate": 1e-2}, r"different: learning_rate \(.*, now 0.01\)"),
        ({"seed": 9}, r"different: seed \(0, now 9\)"),
        ({"data": {**vars(config.data), "train": config.data.validation}}, "different: data.train"),
    ):
        with pytest.raises(ValueError, match=message):
            train_codec(tiny_training(recordings, finished, **changes))


def test_a_codec_of_another_kind_is_no_start(recordings, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "encodec"}')
    with pytest.raises(ValueError, match="initial_weights is .*, of type 'encodec'; give one of"):
        train_codec(tiny_training(recordings, tmp_path / "out", initial_weights=str(tmp_path)))


@pytest.mark.slow
def test_reconstruction_improves(recordings, tmp_path):
    config = tiny_training(
        recordings,
        tmp_path,
        max_steps=60,
        decay_steps=10,
        learning_rate=2e-3,
        eval_steps=20,
        save_steps=60,
        quantizer_start_step=10,
        discriminator={"start_step": None},
    )
    train_codec(config)
    log = log_of(tmp_path)
    assert log[-1]["valid_mel_db"] < 0.8 * log[0]["valid_mel_db"]


def test_every_parameter_changes_in_a_step(recordings, tmp_path):
    trainer = CodecTrainer(
        tiny_training(recordings, tmp_path, quantizer_start_step=0, codec={**TINY_CODEC, "quantizer_dropout": 0.0})
    )
    before = {name: value.clone() for name, value in trainer.codec.named_parameters()}
    trainer._train_step()
    assert [name for name, value in trainer.codec.named_parameters() if torch.equal(value, before[name])] == []


@pytest.mark.slow
def test_training_the_decoder_alone_keeps_every_code(recordings, tmp_path):
    first = train_codec(tiny_training(recordings, tmp_path / "all"))
    second = train_codec(
        tiny_training(recordings, tmp_path / "decoder", initial_weights=str(first), train_decoder_only=True)
    )
    before, after = weights(first), weights(second)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


def test_nothing_that_is_written_has_a_path_of_this_machine(finished):
    assert [path for path in finished.rglob("*") if path.is_file() and b"pytest-of" in path.read_bytes()] == []


def test_figures_reach_tensorboard(finished):
    events = EventAccumulator(str(next(finished.rglob("events.out.tfevents.*")).parent))
    events.Reload()
    log = log_of(finished)
    for name in ("mel", "valid_mel_db", "codes_used_1"):
        assert [event.step for event in events.Scalars(name)] == [3, 6]
        assert [event.value for event in events.Scalars(name)] == pytest.approx([entry[name] for entry in log])


def test_a_tracker_that_is_not_installed_is_an_error(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install wandb"):
        train_codec(tiny_training(recordings, tmp_path, report_to=["wandb"]))


def test_samples_and_spectrograms_show_original_and_decoded_audio(recordings, finished):
    folder = finished / "samples" / "step-00000003"
    original, rate = sf.read(folder / "1-original.wav", dtype="float32")
    whole, _ = sf.read(recordings / "second.wav", dtype="float32")
    assert rate == 16000
    assert np.allclose(original, whole[8000:16000], atol=1e-4)  # the second half second
    decoded, _ = sf.read(folder / "1-decoded.wav", dtype="float32")
    assert decoded.shape == original.shape and decoded.any()
    with sf.SoundFile(folder / "1-decoded.wav") as file:
        assert "generated by audiolm_hf" in file.comment
    picture = plt.imread(folder / "1.png")
    assert min(picture.shape[:2]) > 100
    assert picture[..., :3].std() > 0.05  # not one colour


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decay_steps": 6}, "max_steps=6"),
        ({"train_decoder_only": True}, "initial_weights"),
        ({"mel_bands": [40]}, "as many"),
        ({"discriminator": {"num_channels": 6}}, "multiple of 4"),
        ({"discriminator": {"start_step": 6}}, "discriminator.start_step is 6, and the training has only max_steps=6"),
        ({"crop_length_s": 1e-9, "mel_weight": 0.0, "discriminator": {}}, "0 samples, and a frame needs"),
        ({"validation_crop_length_s": 1e-9}, "validation_crop_length_s is 1e-09; give at least .* s, a frame"),
        ({"crop_length_s": 0.03}, "480 samples, and the mel loss needs 512; give at least 0.032 s"),
        ({"crop_length_s": 0.3, "envelope_weight": 1.0}, "the envelope loss needs"),
        (
            {"crop_length_s": 0.1, "mel_weight": 0.0, "loudness_weight": 1.0, "discriminator": {"start_step": 1}},
            "discriminator needs 2048",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(recordings, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        CodecTrainer(tiny_training(recordings, tmp_path, **changes))


def test_mel_loss_is_zero_for_equal_sounds_and_grows_with_the_difference():
    loss = MultiScaleMelLoss(16000, [512, 128], [40, 10])
    sound, noise = torch.randn(1, 4000), torch.randn(1, 4000)
    assert loss(sound, sound) == 0
    assert 0 < loss(sound + 0.1 * noise, sound) < loss(sound + noise, sound)


def test_magnitude_loss_compares_what_the_decoder_holds_with_the_spectrum():
    config = SoundStreamConfig(**TINY_CODEC)
    loss, sound = MagnitudeLoss(config), torch.randn(2, 10 * config.hop_length + 3)
    padded = torch.nn.functional.pad(sound, (0, -sound.shape[1] % config.hop_length))
    log_magnitude = windowed_spectrum(padded, config).abs().clamp(min=1e-8).log()
    assert loss(log_magnitude, sound) < 1e-4
    # Ten times too loud is one decade off wherever the floor of 0.01 is far below.
    assert loss(log_magnitude + math.log(10), sound) == pytest.approx(1.0, abs=0.05)
    with pytest.raises(ValueError, match="magnitude_weight above 0 needs"):
        MagnitudeLoss(SoundStreamConfig(decoder_type="mirrored"))


@pytest.mark.slow
def test_magnitudes_are_learned(recordings, tmp_path):
    changes = {"max_steps": 12, "magnitude_weight": 20.0, "eval_steps": 4}
    train_codec(tiny_training(recordings, tmp_path, **changes))
    log = [entry["magnitude"] for entry in log_of(tmp_path)]
    assert len(log) == 3 and log[-1] < log[0]


def test_hinge_losses():
    real, fake = [torch.tensor([2.0, 0.0])], [torch.tensor([-2.0, 0.0])]
    assert discriminator_loss(real, fake) == 1.0  # (0 + 1) / 2 + (0 + 1) / 2
    assert adversarial_loss(fake) == 2.0  # (3 + 1) / 2
    assert feature_matching_loss([[torch.full((2,), 2.0)]], [[torch.full((2,), 3.0)]]) == 0.5


def test_balanced_gradients_have_the_asked_sizes_whatever_the_scale_of_the_loss():
    values = torch.randn(2, 10, requires_grad=True)
    direction = torch.randn(2, 10)
    reference = values.pow(2).sum()
    alone, _ = balanced_gradient(values, reference, {}, {})
    assert torch.allclose(alone, 2 * values)
    for scale in (1e-6, 1e6):
        balanced, norms = balanced_gradient(
            values, reference, {"adversarial": scale * (values * direction).sum()}, {"adversarial": 0.3}
        )
        added = balanced - alone
        assert torch.allclose(added.norm(), 0.3 * alone.norm(), rtol=1e-4)
        assert torch.allclose(added / added.norm(), direction / direction.norm(), atol=1e-4)
        assert norms["adversarial"] == pytest.approx(scale * direction.norm().item(), rel=1e-4)


@pytest.mark.slow
def test_discriminators_score_every_kind_and_learn_to_tell_sounds_apart():
    torch.manual_seed(0)
    discriminator = CodecDiscriminator([256, 128], [1, 2], num_channels=4)
    optimizer = torch.optim.Adam(discriminator.parameters(), 3e-3)
    time = torch.arange(2000) / 16000
    for _ in range(30):
        tones = torch.sin(2 * torch.pi * (200 + 400 * torch.rand(4, 1)) * time)
        real, features = discriminator(tones)
        fake, _ = discriminator(0.7 * torch.randn(4, 2000))
        loss = discriminator_loss(real, fake)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(real) == 4 and all(len(layers) >= 4 for layers in features)
    assert loss < 1.0  # 2.0 is chance


def test_shipped_defaults_are_valid():
    assert SoundStreamConfig().bitrate <= 6000


@pytest.mark.parametrize("after", some_slow([2, 5], 2))  # between two checkpoints, and in the last step
def test_an_interrupted_training_finishes_its_step_and_resumes(
    finished, recordings, tmp_path, after, capfd, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    step = CodecTrainer._train_step

    def interrupted(trainer):
        if trainer.step == after:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    config = tiny_training(recordings, tmp_path / "cut")
    with (
        patch.object(CodecTrainer, "_train_step", interrupted),
        pytest.raises(KeyboardInterrupt, match=f"stopped at step {after + 1}, which is saved in .*/checkpoints"),
    ):
        train_codec(config)
    assert not (tmp_path / "cut/final").exists()
    assert re.search(r"cut:[^\r]* 1/6 \[[^\r]*step[^\r]*loss=\d", capfd.readouterr().err)  # from the first step on
    resumed = train_codec(config)
    assert f"Resuming cut from step {after + 1}." in caplog.text and f"min: {resumed}" in caplog.text
    one, other = weights(finished / "final"), weights(resumed)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert log_of(finished) == log_of(tmp_path / "cut")
