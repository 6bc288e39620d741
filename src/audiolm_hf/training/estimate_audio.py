# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What the trainings that read audio will need; see `estimate`. Operations are counted in a run without memory."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, Wav2Vec2BertConfig, Wav2Vec2BertModel

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.training.codec.config import CodecTrainingConfig, DiscriminatorConfig
from audiolm_hf.training.codec.discriminators import CodecDiscriminator
from audiolm_hf.training.estimate_result import FLOAT32_BYTES, Estimate, trained_state_bytes
from audiolm_hf.training.fake_run import autocast, count_flops, saved_bytes, without_memory
from audiolm_hf.training.tokenizer.centroids import BATCH_SIZE, CentroidsTrainingConfig

RECORDING_LENGTH_S = 12.5  # mean of LibriSpeech
ENCODER_FRAME_RATE = 50  # Hz, of w2v-BERT 2.0
LIVE_COPIES = 40  # hidden states of one layer of the encoder alive at once, its inner width and scores included


def estimate_codec(config: CodecTrainingConfig, num_processes: int) -> Estimate:
    """Estimate a codec's training; losses and short-time transforms are left out of the operations."""
    bf16 = config.mixed_precision == "bf16"
    at_once = math.ceil(config.batch_size / num_processes)
    with without_memory():
        codec = SoundStreamModel(SoundStreamConfig(**config.codec)).train()
        crop = torch.zeros(1, round(config.crop_length_s * codec.config.sampling_rate))
        activations = at_once * saved_bytes(lambda: _reconstruct(codec, crop), [codec], bf16)
        flops = float(count_flops(lambda: _reconstruct(codec, crop))) + _quantizer_flops(codec, crop)
        parameters = _trained_parameters(codec, config.train_decoder_only)
        memory = trained_state_bytes(parameters, num_processes) | {"activations": float(activations)}
        if config.discriminator.start_step is not None:
            judges = _judge(config.discriminator, crop, bf16)
            parameters += judges.parameters
            states = sum(trained_state_bytes(judges.parameters, num_processes).values())
            memory["discriminators"] = states + 2 * at_once * judges.saved
            # Both clips go forward and back where the discriminators learn; then, for the codec, the decoded one goes
            # forward and back and the real one forward.
            flops += judges.forward_flops * (2 * 3 * config.discriminator.update_probability + 3 + 1)
    return Estimate(
        kind="codec",
        name="codec",
        parameters=parameters,
        batch=f"{config.batch_size} crops of {config.crop_length_s:g} s, {at_once} at once in each process",
        steps=config.max_steps,
        flops_per_step=flops * config.batch_size,
        memory=memory,
        bf16=bf16,
    )


@dataclass(frozen=True)
class _Judges:
    """Parameters of all discriminators, and what one crop costs them: operations forward, bytes kept."""

    parameters: int
    forward_flops: int
    saved: int


def _judge(settings: DiscriminatorConfig, crop: Tensor, bf16: bool) -> _Judges:
    judges = CodecDiscriminator(settings.window_lengths, settings.downsamplings, settings.num_channels)
    return _Judges(
        parameters=sum(parameter.numel() for parameter in judges.parameters()),
        forward_flops=count_flops(lambda: _scores(judges, crop), backward=False),
        saved=saved_bytes(lambda: judges(crop), [judges], bf16),
    )


def _reconstruct(codec: SoundStreamModel, audio_values: Tensor) -> Tensor:
    """The codec without its quantizer, whose memory is small beside that of the convolutions."""
    return codec.decoder(codec.encoder(audio_values))


def _scores(judges: CodecDiscriminator, audio_values: Tensor) -> Tensor:
    return torch.stack([scores.float().sum() for scores in judges(audio_values)[0]])


def _quantizer_flops(codec: SoundStreamModel, crop: Tensor) -> float:
    """Distances of every frame to every code of every level."""
    config = codec.config
    frames = crop.shape[1] / config.hop_length
    return 2.0 * frames * config.num_codebooks * config.codebook_size * config.codebook_dim


def _trained_parameters(codec: SoundStreamModel, decoder_only: bool) -> int:
    return sum(parameter.numel() for parameter in (codec.decoder if decoder_only else codec).parameters())


def estimate_centroids(config: CentroidsTrainingConfig, num_processes: int) -> Estimate:
    """Estimate the encoder's part of fitting a semantic tokenizer; k-means runs on the CPU.

    One step is one batch of recordings. The encoder is taken for a w2v-BERT 2.0 unless its folder is there.
    """
    with without_memory():
        encoder = _speech_encoder(config.encoder, config.layer)
        num_frames = round(RECORDING_LENGTH_S * ENCODER_FRAME_RATE)
        features = torch.zeros(BATCH_SIZE, num_frames, encoder.config.feature_projection_input_dim)
        with torch.no_grad(), autocast(False):
            flops = count_flops(lambda: encoder(features)[0], backward=False)
        parameters = encoder.num_parameters()
    tokens_per_step = BATCH_SIZE * num_frames / config.pooling
    hidden = LIVE_COPIES * FLOAT32_BYTES * features.shape[0] * num_frames * encoder.config.hidden_size
    return Estimate(
        kind="centroids",
        name="semantic tokenizer",
        parameters=parameters,
        batch=f"{BATCH_SIZE} recordings of {RECORDING_LENGTH_S:g} s, forward only",
        steps=math.ceil(config.max_features / tokens_per_step),
        flops_per_step=flops,
        memory={"weights": float(FLOAT32_BYTES * parameters), "activations": float(hidden)},
        bf16=False,
    )


def _speech_encoder(folder: str, layer: int) -> PreTrainedModel:
    local = (Path(folder) / "config.json").is_file()
    config = Wav2Vec2BertConfig.from_pretrained(folder) if local else Wav2Vec2BertConfig()
    config.num_hidden_layers = layer  # later layers are not run
    return Wav2Vec2BertModel(config).eval()


__all__ = ["estimate_centroids", "estimate_codec"]
