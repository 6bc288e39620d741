# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A pretrained speech encoder as teacher: its layer's hidden states, at 50 frames a second, become the targets."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.tokenizer.semantic_encoder import (
    IterationConfig,
    SemanticEncoderTrainingConfig,
    train_semantic_encoder,
)
from audiolm_hf.training.tokenizer.teacher import Teacher

NUM_SAMPLES = 24000


def noise(seed, num_samples=NUM_SAMPLES):
    generator = np.random.default_rng(seed)
    envelope = np.repeat(generator.uniform(0.01, 0.3, num_samples // 1600 + 1), 1600)[:num_samples]
    return (envelope * generator.standard_normal(num_samples)).astype(np.float32)


def hubert(folder, stride=2):
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        conv_stride=(5, 2, 2, 2, 2, 2, stride),
        num_feat_extract_layers=7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder


def whisper(folder):
    torch.manual_seed(0)
    WhisperModel(
        WhisperConfig(
            d_model=16,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            vocab_size=60,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
    ).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def test_states_are_those_of_the_layer_with_the_last_frame_repeated(tmp_path):
    array = noise(0)
    states = Teacher(hubert(tmp_path), layer=2).states(array, 76)
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)(array, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        model = HubertModel.from_pretrained(tmp_path).eval()
        expected = model(**inputs, output_hidden_states=True).hidden_states[2][0].numpy()
    assert len(expected) == 74  # one less than 20 ms each
    np.testing.assert_allclose(states[:74], expected, atol=1e-5)
    np.testing.assert_array_equal(states[74:], states[[73, 73]])


def stable_hubert(folder):
    """A HuBERT that normalizes after its last layer, like the large ones."""
    model = HubertModel.from_pretrained(hubert(folder))
    model.config.do_stable_layer_norm = True
    HubertModel(model.config).save_pretrained(folder)
    return folder


def data2vec(folder):
    """An encoder with as many convolutions for positions as Transformer layers."""
    torch.manual_seed(0)
    config = Data2VecAudioConfig(
        hidden_size=16,
        num_hidden_layers=5,
        num_conv_pos_embeddings=5,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        conv_pos_kernel_size=3,
        num_conv_pos_embedding_groups=2,
    )
    Data2VecAudioModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("build", [hubert, stable_hubert, data2vec, whisper])
def test_layers_that_are_not_read_are_not_computed(tmp_path, build):
    folder, array = build(tmp_path), noise(2)
    inputs = AutoFeatureExtractor.from_pretrained(folder)(array, sampling_rate=16000, return_tensors="pt")
    encoder = AutoModel.from_pretrained(folder).eval()
    encoder = encoder.get_encoder() if build is whisper else encoder
    with torch.no_grad():
        expected = encoder(**inputs, output_hidden_states=True).hidden_states
    num_parameters = []
    for layer, states in enumerate(expected):
        teacher = Teacher(folder, layer)
        np.testing.assert_array_equal(teacher.states(array, 74), states[0, :74].numpy())
        num_parameters.append(sum(each.numel() for each in teacher.encoder.parameters()))
    assert len(set(num_parameters)) == len(expected) - 1  # layer N - 1 of N also needs all, layers 0 to N - 2 fewer
    assert num_parameters == sorted(num_parameters)


def test_the_encoder_of_a_recogniser_is_cut_to_the_recording(tmp_path):
    teacher = Teacher(whisper(tmp_path), layer=1)
    array = noise(1, 31 * 16000)
    states = teacher.states(array, 1550)
    assert states.shape == (1550, 16)
    np.testing.assert_allclose(states[1500:], teacher.states(array[30 * 16000 :], 50), atol=1e-5)
    assert np.abs(np.diff(states[1500:], axis=0)).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"layer": 4}, "has the layers 0 to 3"), ({"stride": 4}, "use a teacher of 50 Hz")],
)
def test_unusable_teachers_are_refused(tmp_path, changes, message):
    folder = hubert(tmp_path, changes.get("stride", 2))
    with pytest.raises(ValueError, match=message):
        Teacher(folder, changes.get("layer", 1)).states(noise(0), 75)


def config_of(folder: Path, output: Path, **changes) -> SemanticEncoderTrainingConfig:
    values = {
        "data": AudioDataConfig(str(folder), train=["train"], validation=["validation"]),
        "output_folder": str(output),
        "encoder": {
            "hidden_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "conv_depthwise_kernel_size": 3,
        },
        "iterations": [IterationConfig(num_clusters=5, max_steps=2, layer=1)],
        "first_targets": "teacher",
        "batch_size": 2,
        "crop_length_s": 0.4,
        "bf16": False,
    }
    return SemanticEncoderTrainingConfig(**values | changes)


def test_the_targets_are_clusters_of_the_teacher(tmp_path):
    for name, seed in (("train", 0), ("validation", 5)):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "a.wav", noise(seed), 16000)
    teacher = hubert(tmp_path / "teacher")
    train_semantic_encoder(config_of(tmp_path, tmp_path / "run", teacher=str(teacher)))
    targets = load_file(tmp_path / "run" / "iteration_1" / "targets.safetensors")["training"].numpy()
    states = Teacher(teacher, 1).states(sf.read(tmp_path / "train" / "a.wav", dtype="float32")[0], 76)
    assert len(targets) == len(states) == 76
    # Frames of one cluster are nearer to each other than to the rest.
    means = np.stack([states[targets == name].mean(0) for name in np.unique(targets)])
    inside = ((states - means[np.unique(targets, return_inverse=True)[1]]) ** 2).mean()
    shuffled = np.random.default_rng(0).permutation(targets)
    mixed = np.stack([states[shuffled == name].mean(0) for name in np.unique(shuffled)])
    outside = ((states - mixed[np.unique(shuffled, return_inverse=True)[1]]) ** 2).mean()
    assert len(np.unique(targets)) == 5
    assert inside < 0.8 * outside


@pytest.mark.parametrize("changes", [{}, {"teacher": "somewhere", "first_targets": "mfcc"}])
def test_a_teacher_and_its_targets_go_together(tmp_path, changes):
    with pytest.raises(ValueError, match="a teacher needs `first_targets: teacher`"):
        config_of(tmp_path, tmp_path / "run", **changes)
