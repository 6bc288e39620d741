# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The tiny trainings of codec and semantic encoder that are run on several processes, and killed, by the tests."""

from functools import partial
from unittest.mock import patch

import torch
from accelerate import PartialState
from safetensors.torch import save_file

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.residual_quantizer_audiolm import EMACodebook
from audiolm_hf.training.codec.trainer import CodecTrainer
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.processes import leave_processes, process_rank
from audiolm_hf.training.tokenizer.encoder_trainer import EncoderTrainer
from audiolm_hf.training.tokenizer.semantic_encoder import IterationConfig, train_semantic_encoder
from audiolm_hf.training.tokenizer.speaker_invariance import train_speaker_invariance
from tests.training.codec.test_trainer import TINY_CODEC, tiny_training
from tests.training.tokenizer.test_semantic_encoder import ENCODER, tiny_config
from tests.training.tokenizer.test_speaker_invariance import tiny_config as speaker_invariance_config

# Codes die soon and many levels are dropped, so that both happen in every step.
EMA_CODEC = {
    **TINY_CODEC,
    "codebook_decay": 0.5,
    "dead_code_threshold": 0.9,
    "quantizer_dropout": 0.7,
    "num_codebooks": 3,
}
ADVERSARIAL = {
    "start_step": 3,
    "window_lengths": [128],
    "downsamplings": [2],
    "num_channels": 4,
    "warmup_steps": 1,
    "adversarial_weight": 1.0,
    "feature_weight": 1.0,
}
CODECS = {
    "ema": {
        "codec": {**EMA_CODEC, "low_band_dim": 4, "low_band_start_level": 1},
        "discriminator": {"start_step": None},
        "crop_length_s": 0.45,
        "loudness_weight": 1.0,
        "envelope_weight": 1.0,
    },
    "ema-adversarial": {"codec": EMA_CODEC, "discriminator": ADVERSARIAL},
}


def codec_config(name, source, output):
    return tiny_training(source, output, batch_size=4, validation_crops=1, **CODECS[name])


def encoder_config(source, output):
    # Dropout is the one thing that differs with the number of processes.
    encoder = {**ENCODER, "conformer_conv_dropout": 0.0}
    return tiny_config(
        source, output, encoder=encoder, iterations=[IterationConfig(6, max_steps=4), IterationConfig(4, 2, layer=1)]
    )


def trained_codec(name, source, output):
    """Weights before and after, and the crops of the first step, of this process."""
    trainer = CodecTrainer(codec_config(name, source, output))
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    draw, batches = trainer._draw_batch, []

    def draw_and_keep():
        batches.append(draw())
        return batches[-1]

    trainer._draw_batch = draw_and_keep
    trainer.run()
    return before, {key: value.clone() for key, value in trainer.model.state_dict().items()}, batches[0][0]


def trained_encoder(source, output):
    """Weights of the last iteration before and after it, and the inputs of its first step, of this process."""
    return _last_trained(lambda: train_semantic_encoder(encoder_config(source, output)))


def trained_invariance(source, output):
    """The same of the model that takes speakers out; `source` has `speakers.csv` and a `tokenizer`."""
    config = speaker_invariance_config(source, output, data=AudioDataConfig(str(source), ["speakers.csv"]))
    return _last_trained(lambda: train_speaker_invariance(config))


def _last_trained(train):
    kept, run = [], EncoderTrainer.run

    def run_and_keep(trainer):
        model = trainer.accelerator.unwrap_model(trainer.model)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        batch = trainer.batch(0, 0).input_features
        run(trainer)
        kept.append((before, {key: value.clone() for key, value in model.state_dict().items()}, batch))

    with patch.object(EncoderTrainer, "run", run_and_keep):
        train()
    return kept[-1]


def replaced_codes(rank, count):
    """Codebook after steps in which only even rows may be learned from: of two processes, the second has none."""
    torch.manual_seed(0)
    level = EMACodebook(
        SoundStreamConfig(codebook_size=8, codebook_dim=4, hidden_size=4, dead_code_threshold=0.9, codebook_decay=0.5)
    )
    level.initialize(torch.randn(50, 4))
    for step in range(3):
        torch.manual_seed(step)
        batch = torch.randn(4, 5, 4)
        active = torch.tensor([True, False, True, False])[:, None].expand(4, 5)
        own = slice(rank, None, count)
        level.train()(batch[own].flatten(0, 1), active[own].flatten(), len(batch[own]))
    return level.codebook


def train_all(source, output):
    """Train everything as one of two processes; each writes `NAME-RANK.safetensors` for every training."""
    torch.set_num_threads(1)
    PartialState(cpu=True)  # the processes find each other
    rank = process_rank()
    save_file({"codebook": replaced_codes(rank, 2)}, output / f"codebook-{rank}.safetensors")
    trained = {name: partial(trained_codec, name) for name in CODECS}
    trained |= {"encoder": trained_encoder, "invariance": trained_invariance}
    for name, train in trained.items():
        _, weights, batch = train(source, output / name)
        save_file({**weights, "batch": batch}, output / f"{name}-{rank}.safetensors")
    leave_processes()
