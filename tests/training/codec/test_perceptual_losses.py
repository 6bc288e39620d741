# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Losses that follow a listener: against slow loops, against PESQ and STOI, and where there is nothing to hear."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from pesq import pesq
from pystoi import stoi
from safetensors import safe_open

from audiolm_hf import checkpoint
from audiolm_hf.configuration_audiolm import AudioLMConfig
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.training.codec.perceptual_losses import (
    EnvelopeCorrelationLoss,
    LoudnessLoss,
    bark_filters,
    hearing_threshold,
)
from tests.reference import band_powers, envelope_correlation, event_norm, loudness_of_power

RATE = 16000
CLIPS = sorted((Path(__file__).parents[2] / "data").glob("*.flac"))
LOSSES = [LoudnessLoss(RATE), EnvelopeCorrelationLoss(RATE)]


@pytest.fixture(scope="module")
def clips():
    """Two seconds of each of three speakers, shape (3, 32000)."""
    return torch.stack([torch.from_numpy(sf.read(path, dtype="float32")[0][8000:40000]) for path in CLIPS])


def noise(like, seed=0):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


# --- against loops ---------------------------------------------------------------------------------------------------


def test_band_powers_match_the_loop():
    filters = bark_filters(RATE, 128, 9)
    power = torch.rand(3, 65, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(filters.sum(1), torch.ones(65), atol=1e-5)
    for frame in power:
        expected = band_powers(frame.tolist(), RATE, 128, 9)
        assert (frame @ filters).tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_loudness_matches_the_loop():
    loss = LoudnessLoss(RATE)
    power = 10 ** (8 * torch.rand(1, 2, 49, generator=torch.Generator().manual_seed(0)))
    found = loss._loudness(power)[0]
    for frame in range(2):
        for band in range(0, 49, 7):
            expected = loudness_of_power(float(power[0, frame, band]), float(loss.threshold[band]))
            assert float(found[frame, band]) == pytest.approx(expected, rel=1e-4)


def test_events_are_averaged_as_in_the_loop():
    disturbance = 50 * torch.rand(2, 57, generator=torch.Generator().manual_seed(0)) ** 4
    found = LoudnessLoss(RATE)._over_time(disturbance)
    assert found.tolist() == pytest.approx([event_norm(row) for row in disturbance.tolist()], rel=1e-3)


def test_envelope_correlation_matches_the_loop(clips):
    loss = EnvelopeCorrelationLoss(RATE)
    estimate = clips + 0.05 * noise(clips)
    for row in range(len(clips)):
        expected = envelope_correlation(
            loss._segments(estimate[row : row + 1])[0], loss._segments(clips[row][None])[0]
        )
        assert float(loss(estimate[row][None], clips[row][None])) == pytest.approx(1 - expected, abs=1e-4)


def test_hearing_is_best_at_a_few_khz():
    thresholds = hearing_threshold(torch.tensor([50.0, 3300.0, 15000.0]))
    assert thresholds[1] < 2 and thresholds[0] > 100 and thresholds[2] > 100


# --- what a listener would say ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=["loudness", "envelope"])
def test_equal_sounds_lose_nothing_and_more_noise_loses_more(loss, clips):
    losses = [float(loss(clips + level * noise(clips), clips)) for level in (0.0, 0.003, 0.01, 0.03, 0.1)]
    assert losses[0] < 2e-3
    assert losses == sorted(losses) and losses[-1] > 10 * losses[0] + 0.1


def test_added_sound_is_worse_than_missing_sound(clips):
    loss = LoudnessLoss(RATE)
    assert loss(2 * clips, clips) > loss(0.5 * clips, clips)


def test_the_gain_of_both_sounds_does_not_matter_to_the_loudness_loss(clips):
    loss, estimate = LoudnessLoss(RATE), clips + 0.01 * noise(clips)
    assert float(loss(0.3 * estimate, 0.3 * clips)) == pytest.approx(float(loss(estimate, clips)), rel=1e-4)


def test_the_gain_of_the_estimate_does_not_matter_to_the_envelope_loss(clips):
    loss, estimate = EnvelopeCorrelationLoss(RATE), clips + 0.01 * noise(clips)
    assert float(loss(0.3 * estimate, clips)) == pytest.approx(float(loss(estimate, clips)), rel=1e-3)


@pytest.mark.parametrize("loss", LOSSES, ids=["loudness", "envelope"])
def test_a_batch_is_the_mean_of_its_clips(loss, clips):
    target = clips * torch.tensor([[1.0], [0.5], [0.01]])
    estimate = target + 0.01 * noise(target)
    alone = [float(loss(estimate[row][None], target[row][None])) for row in range(3)]
    assert float(loss(estimate, target)) == pytest.approx(np.mean(alone), rel=1e-4)


def test_noise_in_a_silent_crop_counts_by_its_level():
    pause = torch.zeros(1, 16000)
    losses = [float(LoudnessLoss(RATE)(level * noise(pause), pause)) for level in (1e-5, 1e-4, 1e-3, 1e-2)]
    assert losses[0] < 0.5
    assert all(1.1 * softer < louder for softer, louder in itertools.pairwise(losses))


@pytest.mark.parametrize("loss", LOSSES, ids=["loudness", "envelope"])
@pytest.mark.parametrize("target_size", [0.0, 1e-6, 0.1, 1.0])
@pytest.mark.parametrize("estimate_size", [0.0, 1e-7, 1e-3, 1.0])
def test_gradients_are_finite_and_of_sane_size_whatever_is_silent(loss, target_size, estimate_size):
    target = target_size * noise(torch.empty(2, 8000), 1)
    estimate = (estimate_size * noise(target, 2)).requires_grad_()
    value = loss(estimate, target)
    value.backward()
    assert value.isfinite() and estimate.grad.isfinite().all()
    assert estimate.grad.norm() < 1e4


def test_silence_is_the_same_as_silence():
    silence = torch.zeros(1, 8000)
    assert all(float(loss(silence, silence)) < 2e-3 for loss in LOSSES)


@pytest.mark.parametrize("loss", LOSSES, ids=["loudness", "envelope"])
def test_the_shortest_sound_that_can_be_compared(loss):
    sound = noise(torch.empty(1, loss.min_num_samples))
    assert float(loss(sound, sound)) < 2e-3


def test_a_sampling_rate_without_the_speech_bands_is_refused():
    with pytest.raises(ValueError, match="8600 Hz"):
        EnvelopeCorrelationLoss(8000)


# --- against the measures they stand for -----------------------------------------------------------------------------


def ranks(values):
    return np.argsort(np.argsort(values)).tolist()


def test_envelope_loss_ranks_distortions_like_stoi(clips):
    speech = clips[0]
    hum = torch.sin(2 * torch.pi * 300 * torch.arange(len(speech)) / RATE)
    smeared = torch.nn.functional.conv1d(speech[None, None], torch.ones(1, 1, 9) / 9, padding=4)[0, 0]
    distorted = [speech + level * noise(speech) for level in (0.01, 0.03, 0.1, 0.4)]
    distorted += [speech + 0.1 * hum, smeared, speech.roll(2000)]
    intelligible = [stoi(speech.numpy(), estimate.numpy(), RATE) for estimate in distorted]
    losses = [float(EnvelopeCorrelationLoss(RATE)(estimate[None], speech[None])) for estimate in distorted]
    assert np.corrcoef(ranks(intelligible), ranks(losses))[0, 1] < -0.9


def bundled_codec(folder):
    """The codec of a whole AudioLM, without the rest."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith("codec.")]  # noqa: SIM118 - it is no dict
        weights = {name.removeprefix("codec."): file.get_tensor(name) for name in names}
    codec = SoundStreamModel(AudioLMConfig.from_pretrained(folder).codec_config)
    codec.load_state_dict(weights)
    return codec.eval()


def test_loudness_loss_ranks_the_levels_of_the_bundled_codec_like_pesq(clips):
    codec = bundled_codec(Path(checkpoint("speech-tiny")))
    with torch.no_grad():
        codes = codec.encode(clips).audio_codes
        decoded = [codec.decode(codes[:, :levels], num_samples=32000).audio_values for levels in (1, 4, 12)]
        losses = [float(LoudnessLoss(RATE)(values, clips)) for values in decoded]
    quality = [
        np.mean([pesq(RATE, *pair, "wb") for pair in zip(clips.numpy(), values.numpy(), strict=True)])
        for values in decoded
    ]
    assert quality == sorted(quality)
    assert losses == sorted(losses, reverse=True)
