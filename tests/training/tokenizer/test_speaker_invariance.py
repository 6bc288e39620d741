# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Speakers taken out of a tiny semantic tokenizer, on seconds of tones that four speakers colour differently."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.loading import load_semantic_tokenizer
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.recipe import load_config
from audiolm_hf.training.tokenizer import encoder_trainer, speaker_invariance
from audiolm_hf.training.tokenizer.speaker_invariance import (
    SpeakerAdversary,
    SpeakerInvarianceConfig,
    SpeakerInvarianceModel,
    average_over_speakers,
    token_batch,
    token_targets,
    train_speaker_invariance,
)
from audiolm_hf.training.tokenizer.spectrum_crops import (
    ENVELOPE_WIDTH,
    IGNORED,
    CropBatch,
    SpectrumTable,
    VoiceChange,
    _smoothed,
    encoder_states,
    standardized,
)
from tests import reference
from tests.training.tokenizer.test_semantic_encoder import ENCODER, KilledError

SPEAKERS = ("ann", "bob", "cleo", "dan")


def voice(speaker, seed, num_samples=16000):
    """Tones of 0.1 s and, much weaker, the overtone of the speaker."""
    generator = np.random.default_rng(seed)
    frequency = np.repeat(generator.choice([200, 500, 1200, 3000], num_samples // 1600 + 1), 1600)[:num_samples]
    phase = np.cumsum(2 * np.pi * frequency / 16000)
    own = np.sin(2 * np.pi * (700 + 900 * speaker) * np.arange(num_samples) / 16000)
    noise = generator.standard_normal(num_samples)
    return (0.3 * np.sin(phase) + 0.03 * own + 0.01 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two recordings of each speaker in a list that names them, and a tokenizer that was never trained."""
    folder = tmp_path_factory.mktemp("voices")
    with (folder / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "speaker"])
        for index in range(8):
            sf.write(folder / f"{index}.wav", voice(index % 4, index), 16000)
            rows.writerow([f"{index}.wav", SPEAKERS[index % 4]])
    torch.manual_seed(0)
    tokenizer = AudioLMSemanticTokenizer.from_encoder(
        Wav2Vec2BertModel(Wav2Vec2BertConfig(**ENCODER)), layer=1, num_semantic_tokens=6
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def tiny_config(folder: Path, output: Path, **changes) -> SpeakerInvarianceConfig:
    config = SpeakerInvarianceConfig(
        data=AudioDataConfig(folder=str(folder), train=["train.csv"]),
        tokenizer=str(folder / "tokenizer"),
        output_folder=str(output),
        max_steps=6,
        averaging_rounds=2,
        frames_per_speaker=40,
        batch_size=4,
        crop_length_s=0.4,
        learning_rate=3e-3,
        bf16=False,
        logging_steps=2,
        save_steps=2,
    )
    return replace(config, **changes)


def spectra(folder):
    """Spectra of the recordings and the number of the speaker of each."""
    table = SpectrumTable.from_records(AudioSource([folder / "train.csv"], 16000))
    return table, np.arange(8) % 4


def tiny_model(folder, weight=0.5):
    tokenizer = load_semantic_tokenizer(folder / "tokenizer")
    torch.manual_seed(1)
    return SpeakerInvarianceModel(tokenizer, torch.randn(6, 24), SpeakerAdversary(6, 4, 2.0), weight)


# --- the voice -----------------------------------------------------------------------------------------------------


def test_envelope_is_a_plain_gaussian_average():
    row = np.random.default_rng(0).standard_normal(80)
    found = _smoothed(torch.from_numpy(row).float()[None, None], ENVELOPE_WIDTH)[0, 0].numpy()
    assert np.allclose(found, reference.smoothed(row, ENVELOPE_WIDTH), atol=1e-5)


def bump(place, width):
    mel = np.exp(-0.5 * ((np.arange(80) - place) / width) ** 2)
    return torch.from_numpy(np.concatenate([mel, mel])).float()[None, None]


def test_vocal_tract_and_pitch_are_changed_apart():
    wide, narrow = bump(40, 8.0), bump(40, 0.7)
    places = {"vocal tract": [], "pitch": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        places["vocal tract"].append(VoiceChange(0.3, 0.0, 0.0)(wide, rng)[0, 0, :80].argmax().item())
        rng = np.random.default_rng(seed)
        harmonics = narrow - torch.cat([_smoothed(part, ENVELOPE_WIDTH) for part in narrow.split(80, -1)], -1)
        changed = VoiceChange(0.0, 0.3, 0.0)(harmonics, rng)[0, 0, :80]
        places["pitch"].append(changed.argmax().item())
    for name, found in places.items():
        assert min(found) < 37 and max(found) > 42, name
        assert abs(np.mean(found) - 40) < 6, name
    still = [VoiceChange(0.0, 0.3, 0.0)(wide, np.random.default_rng(s))[0, 0, :80].argmax().item() for s in range(9)]
    assert set(still) <= {38, 39, 40, 41, 42}  # the envelope stays where it is, whatever happens to the pitch


def test_equalizer_adds_one_smooth_curve_to_all_frames():
    features = torch.randn(3, 10, 160, generator=torch.Generator().manual_seed(0))
    plain, coloured = (VoiceChange(0.1, 0.1, level)(features, np.random.default_rng(4)) for level in (0.0, 0.5))
    curves = coloured - plain
    assert torch.allclose(curves, curves[:, :1].expand_as(curves), atol=1e-5)
    assert torch.allclose(curves[..., :80], curves[..., 80:], atol=1e-5)
    assert curves[:, 0].std() > 0.1
    assert curves[:, 0, :80].diff(dim=-1).abs().max() < 0.25  # no bin stands out from its neighbours
    assert not torch.allclose(curves[0], curves[1], atol=0.1)


# --- targets and batches -------------------------------------------------------------------------------------------


def test_targets_are_clusters_of_the_averages(folder, tmp_path):
    table, speakers = spectra(folder)
    tokenizer = load_semantic_tokenizer(folder / "tokenizer")
    config = tiny_config(folder, tmp_path)
    targets = {key: value.numpy() for key, value in token_targets(table, speakers, tokenizer, config).items()}
    assert targets["tokens"].shape == (8 * 25,)
    states = [encoder_states(table.recording(index), tokenizer.encoder, 1) for index in range(8)]
    pooled = [rows.reshape(25, 2, 24).mean(axis=1) for rows in states]
    owners = np.repeat(speakers, 25)
    shared = [standardized(rows).reshape(25, 2, 24).mean(axis=1) for rows in states]
    features = standardized(average_over_speakers(np.concatenate(shared), owners, 2, 40, config.seed))
    # Every token lies nearest to the mean of its own cluster, or nearly so: mini-batch k-means stops early.
    means = np.stack([features[targets["tokens"] == token].mean(axis=0) for token in range(6)])
    nearest = np.array(
        [reference.nearest_centroid(torch.from_numpy(row), torch.from_numpy(means)) for row in features]
    )
    assert (nearest == targets["tokens"]).mean() > 0.9
    everything = np.concatenate(pooled)
    for token in range(6):
        own = everything[targets["tokens"] == token]
        expected = (own.sum(axis=0) + everything.mean(axis=0)) / (len(own) + 1)
        assert np.allclose(targets["centroids"][token], expected, atol=1e-4)


def test_batches_begin_with_whole_tokens_and_know_their_speakers(folder, tmp_path, monkeypatch):
    table, speakers = spectra(folder)
    monkeypatch.setattr(speaker_invariance, "VoiceChange", lambda *_: lambda features, rng: features)
    config = tiny_config(folder, tmp_path, crop_length_s=0.8, mask_share=0.5, batch_size=8)
    targets = np.arange(200)
    shares = []
    for seed in range(20):
        batch = token_batch(table, targets, speakers, np.random.default_rng(seed), config)
        assert batch.targets.shape == (8, 20) and batch.input_features.shape == (8, 40, 160)
        for row in range(8):
            tokens = batch.targets[row].numpy()
            assert (np.diff(tokens) == 1).all()
            expected = table.features.reshape(200, 320)[tokens].reshape(40, 160)
            assert np.array_equal(batch.input_features[row].numpy(), expected.astype(np.float32))
            assert batch.speakers[row] == speakers[tokens[0] // 25] == speakers[tokens[-1] // 25]
        assert batch.masked.any(dim=1).all()
        shares.append(batch.masked.float().mean().item())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


def test_short_recordings_are_padded(folder, tmp_path):
    table, speakers = spectra(folder)
    config = tiny_config(folder, tmp_path, crop_length_s=1.2)
    batch = token_batch(table, np.zeros(200, dtype=int), speakers, np.random.default_rng(0), config)
    assert (batch.targets[:, 25:] == IGNORED).all() and (batch.targets[:, :25] == 0).all()
    assert (batch.attention_mask[:, 50:] == 0).all() and (batch.attention_mask[:, :50] == 1).all()
    assert not batch.masked[:, 50:].any()


def test_processes_share_one_batch(folder, tmp_path):
    table, speakers = spectra(folder)
    arguments = (table, np.arange(200), speakers)
    whole = token_batch(*arguments, np.random.default_rng(3), tiny_config(folder, tmp_path))
    for rank in range(2):
        rows = slice(rank, None, 2)
        part = token_batch(*arguments, np.random.default_rng(3), tiny_config(folder, tmp_path), rows)
        for name in CropBatch.__dataclass_fields__:
            assert torch.equal(getattr(part, name), getattr(whole, name)[rows]), name


# --- the model -----------------------------------------------------------------------------------------------------


def test_highest_score_is_the_nearest_centroid(folder):
    model = tiny_model(folder)
    features = torch.randn(50, 24, generator=torch.Generator().manual_seed(2))
    found = model.scores(features).argmax(dim=-1).tolist()
    assert found == [reference.nearest_centroid(row, model.centroids.detach()) for row in features]


def padded_batch(folder, tmp_path):
    table, speakers = spectra(folder)
    config = tiny_config(folder, tmp_path, crop_length_s=1.2)
    return token_batch(table, np.arange(200) % 6, speakers, np.random.default_rng(0), config)


def test_losses_are_means_over_real_tokens_and_over_crops(folder, tmp_path):
    model, batch = tiny_model(folder).eval(), padded_batch(folder, tmp_path)
    with torch.no_grad():
        loss, token_loss, accuracy, speaker_loss = model(batch)
        hidden = model.encoder(
            batch.input_features,
            attention_mask=batch.attention_mask,
            mask_time_indices=batch.masked,
            output_hidden_states=True,
        ).hidden_states[1]
        losses, hits, speaker_losses = [], [], []
        for row in range(4):
            use = torch.zeros(6)
            for token in range(25):
                scores = model.scores(hidden[row, 2 * token : 2 * token + 2].mean(dim=0)).double()
                probabilities = scores.softmax(dim=0)
                losses.append(-probabilities[batch.targets[row, token]].log().item())
                hits.append(probabilities.argmax() == batch.targets[row, token])
                use += probabilities.float() / 25
            logits = model.adversary(torch.log((use + 1e-3) / 1e-3))
            speaker_losses.append(functional.cross_entropy(logits, batch.speakers[row]).item())
    assert token_loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert accuracy.item() == pytest.approx(np.mean(hits))
    assert speaker_loss.item() == pytest.approx(np.mean(speaker_losses), rel=1e-4)
    assert loss.item() == pytest.approx(token_loss.item() + speaker_loss.item(), rel=1e-5)


def test_adversary_learns_and_the_encoder_learns_against_it(folder, tmp_path):
    batch = padded_batch(folder, tmp_path)
    gradients = {}
    for weight in (0.0, 0.5, -1.0):  # -1: with the adversary instead of against it
        model = tiny_model(folder, weight).eval()
        model(batch)[0].backward()
        gradients[weight] = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    for name, without in gradients[0.0].items():
        along, against = gradients[-1.0][name] - without, gradients[0.5][name] - without
        if name.startswith("adversary."):
            assert torch.allclose(along, torch.zeros_like(along)) and without.abs().sum() > 0
        else:
            assert torch.allclose(against, -0.5 * along, atol=1e-5), name
    assert (gradients[-1.0]["centroids"] - gradients[0.0]["centroids"]).abs().max() > 1e-4


def test_one_step_changes_every_parameter(folder, tmp_path):
    model = tiny_model(folder).train()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    table, speakers = spectra(folder)
    config = tiny_config(folder, tmp_path, crop_length_s=1.0)
    model(token_batch(table, np.arange(200) % 6, speakers, np.random.default_rng(0), config))[0].backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    same = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    # Keys share their bias with all keys of a query, which softmax does not see; 1 s has not all relative distances.
    assert all(name.endswith(("linear_k.bias", "distance_embedding.weight")) for name in same), same


# --- the training --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    config = tiny_config(folder, tmp_path_factory.mktemp("finished"))
    return config, load_semantic_tokenizer(train_speaker_invariance(config))


def test_training_writes_a_tokenizer_and_a_log(folder, finished):
    config, saved = finished
    assert str(config.output_folder) not in (Path(config.output_folder) / "tokenizer/config.json").read_text()
    lines = [json.loads(line) for line in (Path(config.output_folder) / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert set(lines[0]) == {"step", "loss", "accuracy", "speaker_loss"}
    assert not torch.equal(saved.centroids, load_semantic_tokenizer(folder / "tokenizer").centroids)


def test_tokens_of_the_result_are_the_best_scores_of_the_trained_model(finished):
    config, tokenizer = finished
    state = load_file(Path(config.output_folder) / "checkpoints" / "step-00000006" / "model.safetensors")
    assert torch.equal(state["centroids"], tokenizer.centroids)
    features, _ = tokenizer.extract_features(torch.from_numpy(voice(1, 98))[None])
    scores = 2 * features[0] @ state["centroids"].T - state["centroids"].square().sum(dim=1)
    tokens = tokenizer.tokenize(torch.from_numpy(voice(1, 98))[None]).semantic_tokens
    assert torch.equal(scores.argmax(dim=-1), tokens[0])


def test_resumed_training_equals_an_uninterrupted_one(folder, finished, tmp_path, monkeypatch):
    config, expected = replace(finished[0], output_folder=str(tmp_path)), finished[1]
    count, whole_step = 0, encoder_trainer.EncoderTrainer._train_step

    def step_and_die(trainer):
        nonlocal count
        count += 1
        if count > 3:
            raise KilledError
        return whole_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(encoder_trainer.EncoderTrainer, "_train_step", step_and_die)
        with pytest.raises(KilledError):
            train_speaker_invariance(config)
    tokenizer = load_semantic_tokenizer(train_speaker_invariance(config))
    for name, value in expected.state_dict().items():
        assert torch.equal(tokenizer.state_dict()[name], value), name


def test_loss_falls(folder, tmp_path):
    train_speaker_invariance(tiny_config(folder, tmp_path, max_steps=60, logging_steps=20, batch_size=8))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.8 * np.log(6)
    assert lines[-1]["accuracy"] > 0.5


def test_recordings_without_speakers_are_refused(folder, tmp_path):
    config = tiny_config(folder, tmp_path / "out", data=AudioDataConfig(folder=str(folder), train=["0.wav", "1.wav"]))
    with pytest.raises(ValueError, match="2 recordings .* name 0 speakers, 2 none; give recordings with a column"):
        train_speaker_invariance(config)
    assert not (tmp_path / "out" / "targets.safetensors").exists()


def test_another_pooling_is_refused(folder, tmp_path):
    torch.manual_seed(0)
    encoder = Wav2Vec2BertModel(Wav2Vec2BertConfig(**ENCODER))
    AudioLMSemanticTokenizer.from_encoder(encoder, 1, 6, pooling=1).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match=r"Wav2Vec2BertModel and pools 1 frames; give .* pools 2"):
        train_speaker_invariance(tiny_config(folder, tmp_path / "out", tokenizer=str(tmp_path / "tokenizer")))


def test_recipe_loads():
    config = load_config(
        Path(__file__).parents[3] / "configs/tiny/speech/textless/speaker_invariance.yaml", ["data.folder=data"]
    )
    assert isinstance(config, SpeakerInvarianceConfig)
