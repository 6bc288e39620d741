# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Masked prediction of a tiny encoder on a second or two of tones: it learns, resumes and changes everything."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModel, Wav2Vec2BertConfig

from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.modeling_semantic_tokenizer_audiolm import stacked_log_mel
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.recipe import load_config
from audiolm_hf.training.tokenizer import encoder_trainer, spectrum_crops
from audiolm_hf.training.tokenizer.semantic_encoder import (
    IterationConfig,
    MaskedPredictionModel,
    SemanticEncoderTrainingConfig,
    train_semantic_encoder,
)
from audiolm_hf.training.tokenizer.spectrum_crops import (
    CropBatch,
    SpectrumTable,
    cepstral_features,
    masked_batch,
    warp_vocal_tract,
)

ENCODER = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_depthwise_kernel_size": 3,
    "layerdrop": 0.0,
    "initializer_range": 0.1,
}


def tones(seed, num_samples=16000):
    """Random tones of 0.1 s, so that a frame says something about its neighbours."""
    generator = np.random.default_rng(seed)
    frequency = np.repeat(generator.choice([200, 500, 1200, 3000], num_samples // 1600 + 1), 1600)[:num_samples]
    phase = np.cumsum(2 * np.pi * frequency / 16000)
    return (0.3 * np.sin(phase) + 0.01 * generator.standard_normal(num_samples)).astype(np.float32)


def crops(batch_size, crop_frames, mask_frames):
    """The settings of batches that mask half of the frames."""
    lengths = {"crop_length_s": crop_frames / 50, "mask_length_s": mask_frames / 50}
    return SimpleNamespace(batch_size=batch_size, mask_share=0.5, **lengths)


def record(seed, num_samples=16000):
    return AudioRecord(id=str(seed), array=tones(seed, num_samples), sampling_rate=16000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    for seed in range(5):
        sf.write(folder / f"{seed}.wav", tones(seed), 16000)
    return folder


def tiny_config(folder: Path, output: Path, **changes) -> SemanticEncoderTrainingConfig:
    config = SemanticEncoderTrainingConfig(
        data=AudioDataConfig(folder=str(folder), train=["0.wav", "1.wav", "2.wav", "3.wav"], validation=["4.wav"]),
        output_folder=str(output),
        encoder=ENCODER,
        iterations=[IterationConfig(6, max_steps=4), IterationConfig(8, max_steps=4, layer=1)],
        batch_size=4,
        crop_length_s=0.4,
        learning_rate=3e-3,
        bf16=False,
        validation_batches=1,
        eval_steps=2,
        save_steps=2,
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """Configuration and last metrics of a training that came to its end, with random numbers in every layer."""
    changes = {"encoder": ENCODER | {"hidden_dropout": 0.1}, "report_to": ["tensorboard"]}
    config = tiny_config(folder, tmp_path_factory.mktemp("finished"), **changes)
    return config, last_figures(train_semantic_encoder(config))


def last_figures(encoder):
    """Figures of the last step of the last of two iterations."""
    return json.loads((encoder.parent / "iteration_2" / "log.jsonl").read_text().splitlines()[-1])


def test_training_writes_an_encoder_and_a_log(finished):
    config, results = finished
    output = Path(config.output_folder)
    encoder = AutoModel.from_pretrained(output / "encoder")
    assert encoder.config.num_hidden_layers == 2
    lines = [json.loads(line) for line in (output / "iteration_2" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert lines[-1]["validation_loss"] == results["validation_loss"]
    assert 0 <= results["validation_accuracy"] <= 1
    targets = load_file(output / "iteration_2" / "targets.safetensors")
    assert targets["training"].shape == (200,)
    assert targets["training"].max() < 8
    # The second iteration goes on from the first and clusters its features.
    assert not (load_file(output / "iteration_1" / "targets.safetensors")["training"] == targets["training"]).all()


def test_figures_of_all_iterations_reach_tensorboard(finished):
    events = EventAccumulator(str(next(Path(finished[0].output_folder).rglob("events.out.tfevents.*")).parent))
    events.Reload()
    assert [event.step for event in events.Scalars("validation_loss")] == [2, 4, 6, 8]


def test_an_interrupted_end_is_made_up_for(finished):
    config, results = finished
    output = Path(config.output_folder)
    (output / "encoder" / "model.safetensors").unlink()  # killed before the last copy was there
    assert last_figures(train_semantic_encoder(replace(config, report_to=[]))) == results
    last, copy = (load_file(output / part / "model.safetensors") for part in ("iteration_2/encoder", "encoder"))
    assert last.keys() == copy.keys() and all(torch.equal(last[name], copy[name]) for name in last)


def test_a_batch_is_dealt_out_without_a_change():
    table = SpectrumTable.from_records([record(0, 64000), record(1, 40000)])
    targets = np.arange(len(table.features))
    config = crops(batch_size=6, crop_frames=150, mask_frames=5)
    whole = masked_batch(table, targets, np.random.default_rng(3), config, warp=0.2)
    for rank in range(2):
        part = masked_batch(table, targets, np.random.default_rng(3), config, 0.2, slice(rank, None, 2))
        for name in ("input_features", "attention_mask", "masked", "targets"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rank::2]), name


def test_validation_loss_falls(folder, tmp_path):
    config = tiny_config(
        folder, tmp_path, iterations=[IterationConfig(6, 60)], eval_steps=20, validation_batches=4, batch_size=8
    )
    train_semantic_encoder(config)
    lines = [json.loads(line) for line in (tmp_path / "iteration_1" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["validation_loss"] < 0.8 * np.log(6)
    assert lines[-1]["validation_loss"] < lines[0]["validation_loss"]
    assert lines[-1]["validation_accuracy"] > 0.4


def test_a_training_that_diverges_stops_and_keeps_the_weights_before(folder, tmp_path, monkeypatch):
    forward, calls = MaskedPredictionModel.forward, []

    def not_a_number(model, batch):
        calls.append(model.training)
        return tuple(value * (torch.nan if sum(calls) == 4 else 1) for value in forward(model, batch))

    config = tiny_config(folder, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(MaskedPredictionModel, "forward", not_a_number)
        with pytest.raises(ValueError, match=r"diverged at step 3: loss is nan; .*iteration_1.*step-00000002"):
            train_semantic_encoder(config)
    assert not (tmp_path / "encoder").exists()
    assert train_semantic_encoder(config) == tmp_path / "encoder"


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("calls", "by_signal"), [(3, False), (7, False), (3, True)])
def test_resumed_training_equals_an_uninterrupted_one(finished, tmp_path, monkeypatch, calls, by_signal):
    config, expected = replace(finished[0], output_folder=str(tmp_path), report_to=[]), finished[1]
    count = 0
    whole_step = encoder_trainer.EncoderTrainer._train_step

    def step_and_die(trainer):
        nonlocal count
        count += 1
        if count > calls:
            if not by_signal:
                raise KilledError
            signal.raise_signal(signal.SIGTERM)
        return whole_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(encoder_trainer.EncoderTrainer, "_train_step", step_and_die)
        error, message = (KeyboardInterrupt, "stopped at step") if by_signal else (KilledError, None)
        with pytest.raises(error, match=message):
            train_semantic_encoder(config)
    assert last_figures(train_semantic_encoder(config)) == expected
    folders = (Path(finished[0].output_folder), tmp_path)
    first, second = (load_file(folder / "iteration_2/encoder/model.safetensors") for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_one_step_changes_every_parameter():
    torch.manual_seed(0)
    encoder = AutoModel.from_config(Wav2Vec2BertConfig(**ENCODER))
    model = MaskedPredictionModel(encoder, num_clusters=5, visible_weight=1.0)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    table = SpectrumTable.from_records([record(0, 64000)])
    # Long enough for every relative distance of the position bias.
    batch = masked_batch(table, np.arange(200) % 5, np.random.default_rng(0), crops(2, 160, 10), 0.1)
    loss, _, _ = model(batch)
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    same = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    # Keys share their bias with all keys of a query, which softmax does not see.
    assert all(name.endswith("linear_k.bias") for name in same)


def test_loss_is_the_mean_over_hidden_and_over_visible_frames():
    torch.manual_seed(0)
    model = MaskedPredictionModel(AutoModel.from_config(Wav2Vec2BertConfig(**ENCODER)).eval(), 5, visible_weight=0.5)
    features = torch.randn(2, 8, 160)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    masked = torch.zeros(2, 8, dtype=torch.bool)
    masked[0, 2:4] = masked[1, 0] = True
    targets = torch.arange(16).view(2, 8) % 5
    batch = CropBatch(features, mask, masked, targets, torch.arange(2))
    with torch.no_grad():
        loss, masked_loss, accuracy = model(batch)
        hidden = model.encoder(features, attention_mask=mask, mask_time_indices=masked).last_hidden_state
        log_probabilities = model.classifier(hidden).log_softmax(dim=-1)
    hidden_losses, visible_losses, right = [], [], []
    for row in range(2):
        for frame in range(int(mask[row].sum())):
            value = -log_probabilities[row, frame, targets[row, frame]].item()
            (hidden_losses if masked[row, frame] else visible_losses).append(value)
            if masked[row, frame]:
                right.append(log_probabilities[row, frame].argmax().item() == targets[row, frame].item())
    assert masked_loss.item() == pytest.approx(np.mean(hidden_losses), rel=1e-4)
    assert loss.item() == pytest.approx(np.mean(hidden_losses) + 0.5 * np.mean(visible_losses), rel=1e-4)
    assert accuracy.item() == pytest.approx(np.mean(right))


def test_table_holds_the_features_of_the_tokenizer():
    table = SpectrumTable.from_records([record(0, 9000), record(1, 640)])
    assert len(table) == 2
    assert table.starts.tolist() == [0, 30, 32]
    expected = stacked_log_mel(torch.from_numpy(tones(0, 9000))[None], torch.tensor([9000]), 16000, 30)[0]
    assert np.allclose(table.recording(0), expected, atol=5e-3)
    with pytest.raises(ValueError, match="no recordings"):
        SpectrumTable.from_records([])


def test_cepstral_features_are_normalised():
    features = cepstral_features(SpectrumTable.from_records([record(0)]).recording(0))
    assert features.shape == (50, 39)
    assert np.allclose(features.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(features.std(axis=0), 1, atol=1e-2)


def test_batch_masks_spans_and_pads_short_recordings():
    table = SpectrumTable.from_records([record(0, 64000), record(1, 3000)])
    targets = np.arange(len(table.features))
    shares = []
    for seed in range(30):
        batch = masked_batch(table, targets, np.random.default_rng(seed), crops(8, 40, 5), 0.0)
        real = torch.ones(8, 40) if batch.attention_mask is None else batch.attention_mask
        assert not (batch.masked & (real == 0)).any()
        shares.append((batch.masked.sum() / real.sum()).item())
        for row in range(8):
            frames = batch.targets[row][real[row] == 1].numpy()
            assert (np.diff(frames) == 1).all()  # consecutive, and the targets go with the features
            expected = table.features[frames].astype(np.float32)
            assert np.array_equal(batch.input_features[row][real[row] == 1].numpy(), expected)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    again = masked_batch(table, targets, np.random.default_rng(29), crops(8, 40, 5), 0.0)
    assert torch.equal(again.masked, batch.masked)
    assert torch.equal(again.input_features, batch.input_features)


def test_warp_moves_a_tone_to_its_new_frequency():
    generator = torch.Generator().manual_seed(0)
    peak = torch.zeros(1, 1, 160)
    peak[..., [30, 110]] = 1.0
    same = warp_vocal_tract(peak, torch.tensor([1.0]))
    torch.testing.assert_close(same, peak, atol=1e-3, rtol=0)
    up = warp_vocal_tract(peak, torch.tensor([1 / 1.2]))[0, 0, :80].argmax().item()
    lowest, highest = (1127 * np.log1p(f / 700) for f in (20.0, 8000.0))
    spacing = (highest - lowest) / 81
    centre = 700 * np.expm1((lowest + 31 * spacing) / 1127)
    expected = (1127 * np.log1p(1.2 * centre / 700) - lowest) / spacing - 1
    assert abs(up - expected) <= 1
    noise = torch.randn(3, 4, 160, generator=generator)
    assert warp_vocal_tract(noise, torch.tensor([0.9, 1.0, 1.1])).shape == noise.shape


def test_layer_features_are_windows_normalised_over_the_recording(monkeypatch):
    torch.manual_seed(0)
    encoder = AutoModel.from_config(Wav2Vec2BertConfig(**ENCODER)).eval()
    features = SpectrumTable.from_records([record(0, 20000)]).recording(0)  # 64 frames
    monkeypatch.setattr(spectrum_crops, "TARGET_WINDOW", 40)
    found = spectrum_crops.standardized(spectrum_crops.encoder_states(features, encoder, layer=1))
    inputs = torch.from_numpy(features.astype(np.float32))[None]
    with torch.no_grad():
        windows = [encoder(part, output_hidden_states=True).hidden_states[1][0] for part in inputs.split(40, dim=1)]
    expected = torch.cat(windows).numpy()
    expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    assert np.allclose(found, expected, atol=1e-2)


def test_recipe_loads():
    config = load_config(Path(__file__).parents[3] / "configs/tiny/speech/semantic_encoder.yaml", ["data.folder=data"])
    assert isinstance(config, SemanticEncoderTrainingConfig)
    assert Wav2Vec2BertConfig(**config.encoder).num_hidden_layers >= config.iterations[-1].layer
