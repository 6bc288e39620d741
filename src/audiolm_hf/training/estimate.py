# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf train --estimate`: parameters and memory of a training or a recipe, and operations of the stages."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.data.crops import longest_sequence
from audiolm_hf.data.tokens import INFO_FILE, TokenInfo
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.stages_audiolm import STAGES
from audiolm_hf.training.codec.config import CodecTrainingConfig
from audiolm_hf.training.codec.discriminators import CodecDiscriminator
from audiolm_hf.training.flops import GIB, STATE_BYTES, decoder_bytes_per_token, decoder_flops_per_token
from audiolm_hf.training.recipe import RecipeConfig, resolve_steps
from audiolm_hf.training.stages.config import StageTrainingConfig
from audiolm_hf.training.stages.training import build_stage_config

PAPER_TOKENS = TokenInfo("", 16000, 16000, 640, 1024, 320, 12, 1024)  # assumed if there are no tokens yet


def estimate(config: Any) -> str:
    """Estimate a training, or the codec and stage trainings of a recipe."""
    if isinstance(config, RecipeConfig):
        known = (StageTrainingConfig, CodecTrainingConfig)
        return "\n\n".join(estimate(step.config) for step in resolve_steps(config) if isinstance(step.config, known))
    if isinstance(config, StageTrainingConfig):
        return _estimate_stage(config)
    if isinstance(config, CodecTrainingConfig):
        return _estimate_codec(config)
    raise ValueError(f"There is no estimate for a {type(config).__name__}; there is one for codec, stage and recipe.")


def _estimate_stage(config: StageTrainingConfig) -> str:
    if not config.backbone:
        raise ValueError("The file has no `backbone`, so the size of the stage is not known; name its sizes there.")
    tokens = _token_info(Path(config.train_tokens[0]))
    stage_config = build_stage_config(config, tokens)
    length = longest_sequence(tokens, stage_config)
    with torch.device("meta"):
        model = STAGES[config.stage].model_class(stage_config)
    num_sequences = max(1, config.batch_tokens // length)
    flops = decoder_flops_per_token(model.model, length) * length * num_sequences
    kept = decoder_bytes_per_token(model.model, config.bf16, config.gradient_checkpointing) * length
    return _describe(
        f"{config.stage} stage",
        model.num_parameters(),
        f"{num_sequences} sequences of {length} ids",
        f"; {flops / 1e12:.1f} * 10^12 operations",
        f", and about {kept / GIB:.2f} GiB for each of these that it takes at once",
    )


def _token_info(folder: Path) -> TokenInfo:
    if not (folder / INFO_FILE).is_file():
        return PAPER_TOKENS
    values = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
    return TokenInfo(**{entry.name: values[entry.name] for entry in fields(TokenInfo)})


def _estimate_codec(config: CodecTrainingConfig) -> str:
    settings = config.discriminator
    with torch.device("meta"):
        codec = SoundStreamModel(SoundStreamConfig(**config.codec))
        modules = [codec.decoder if config.train_decoder_only else codec]
        if settings.start_step is not None:
            modules.append(CodecDiscriminator(settings.window_lengths, settings.downsamplings, settings.num_channels))
    parameters = sum(parameter.numel() for module in modules for parameter in module.parameters())
    return _describe("codec", parameters, f"{config.batch_size} crops of {config.crop_length_s:g} s")


def _describe(name: str, parameters: int, batch: str, operations: str = "", activations: str = "") -> str:
    weights = f"{STATE_BYTES * parameters / GIB:.1f} GiB for the weights and their training"
    return (
        f"{name}: {parameters / 1e6:.1f} M parameters\n"
        f"a step: {batch}{operations}\n"
        f"memory of a process: {weights}{activations}"
    )
