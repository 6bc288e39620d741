# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What the training of a stage will need; see `estimate`.

Operations are counted the usual way: six per weight and token, and those of attention. Paper: AudioLM (arXiv
2209.03143), the sizes and crops of its three stages.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from audiolm_hf.compat_audiolm import CHECKPOINTING
from audiolm_hf.configuration_audiolm import (
    AudioLMCoarseConfig,
    AudioLMFineConfig,
    AudioLMSemanticConfig,
    AudioLMStageConfig,
)
from audiolm_hf.data.crops import longest_sequence
from audiolm_hf.data.tokens import INFO_FILE, TokenInfo
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.token_layout_audiolm import level_range, predicted_levels
from audiolm_hf.training.estimate_result import FLOAT32_BYTES, Estimate, trained_state_bytes
from audiolm_hf.training.fake_run import saved_bytes, use_causal_kernel, without_memory
from audiolm_hf.training.stages.config import StageTrainingConfig

PAPER_TOKENS = TokenInfo("", 16000, 16000, 640, 1024, 320, 12, 1024)  # assumed where no tokens are there yet
_STAGE_CONFIGS: dict[str, type[AudioLMStageConfig]] = {
    "semantic": AudioLMSemanticConfig,
    "coarse": AudioLMCoarseConfig,
    "fine": AudioLMFineConfig,
}


def decoder_flops(weights: int, config: Any, sequence_length: int, num_sequences: float) -> float:
    """Count the operations of a decoder's forward and backward pass.

    Six for each weight of its linear layers and each token; for attention the two products of queries and keys and of
    weights and values, over all pairs of positions though half of them are masked, as model FLOPs utilisation is
    usually counted.

    Args:
        weights (`int`): entries of the matrices of its linear layers.
        config (`PreTrainedConfig`): of the decoder.
        sequence_length (`int`): ids per sequence.
        num_sequences (`float`): sequences.

    Returns:
        `float`: operations.
    """
    heads = config.num_attention_heads
    width = heads * (config.to_dict().get("head_dim") or config.hidden_size // heads)
    attention = 12 * config.num_hidden_layers * width * sequence_length
    return (6 * weights + attention) * sequence_length * num_sequences


def linear_weights(model: nn.Module) -> int:
    """Count the entries of the matrices of all linear layers."""
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))


@dataclass(frozen=True)
class StageShape:
    """The sequences of one stage.

    Args:
        sequence_length (`int`): ids of a full crop, special ones included.
        num_predicted (`int`): of them predicted.
        level_size (`int`): ids that each is chosen among.
    """

    sequence_length: int
    num_predicted: int
    level_size: int


def stage_shape(config: AudioLMStageConfig, tokens: TokenInfo) -> StageShape:
    """Measure a full crop of a stage; repeats are counted, as how many fall away is not known before."""
    units = tokens.grid.units(config.window_length_s)
    levels = {"semantic": 0, "coarse": config.num_coarse_codebooks, "fine": config.num_fine_codebooks}[config.stage]
    predicted = levels * tokens.grid.frames_of(units) if levels else tokens.grid.tokens_of(units)
    start, stop = level_range(config, predicted_levels(config)[0])
    return StageShape(longest_sequence(tokens, config), predicted, stop - start)


def head_flops(config: AudioLMStageConfig, shape: StageShape, num_sequences: float) -> float:
    """Count the operations of the head, which scores only the ids of each token's level."""
    return 6.0 * config.hidden_size * shape.level_size * shape.num_predicted * num_sequences


def estimate_stage(config: StageTrainingConfig, num_processes: int) -> Estimate:
    """Estimate a stage's training; see [`estimate_training`]."""
    tokens = _token_info(config.train_tokens)
    stage_config = _stage_config(config, tokens)
    shape = stage_shape(stage_config, tokens)
    num_sequences = max(1, config.batch_tokens // shape.sequence_length)
    at_once = math.ceil(num_sequences / (num_processes * config.gradient_accumulation_steps))
    with without_memory():
        model = AudioLMStageModel(stage_config).train()
        use_causal_kernel(model.model)
        parameters, weights = model.num_parameters(), linear_weights(model.model)
        whole = _activation_bytes(model, shape.sequence_length, at_once, config.bf16)
        getattr(model, f"{CHECKPOINTING}_enable")()
        inputs = _activation_bytes(model, shape.sequence_length, at_once, config.bf16)
    # The backward pass of a recomputed layer holds one layer's activations beside all layers' inputs.
    recomputed = inputs + whole // stage_config.backbone_config.num_hidden_layers
    loss = at_once * shape.num_predicted * (2 * FLOAT32_BYTES * shape.level_size + 6 * stage_config.hidden_size)
    memory = trained_state_bytes(parameters, num_processes)
    memory |= {"activations": recomputed if config.gradient_checkpointing else whole, "loss": loss}
    flops = decoder_flops(weights, stage_config.backbone_config, shape.sequence_length, num_sequences)
    return Estimate(
        kind="stage",
        name=f"{config.stage} stage",
        parameters=parameters,
        batch=f"{num_sequences} sequences of {shape.sequence_length} ids, {at_once} at once in each process",
        steps=config.max_steps,
        flops_per_step=flops + head_flops(stage_config, shape, num_sequences),
        memory=memory,
        without_checkpointing=whole,
        with_checkpointing=recomputed,
        bf16=config.bf16,
        recomputes=config.gradient_checkpointing,
    )


def _token_info(folders: Sequence[str]) -> TokenInfo:
    """What the tokens mean, or the paper's where they are not made yet."""
    path = Path(folders[0]) / INFO_FILE
    if not path.is_file():
        return PAPER_TOKENS
    values = json.loads(path.read_text(encoding="utf-8"))
    return TokenInfo(**{entry.name: values[entry.name] for entry in fields(TokenInfo)})


def _stage_config(config: StageTrainingConfig, tokens: TokenInfo) -> AudioLMStageConfig:
    if not config.backbone:
        raise ValueError("The file has no `backbone`, so the size of the stage is not known; name its sizes there.")
    return _STAGE_CONFIGS[config.stage](
        backbone_config={"model_type": "llama"} | config.backbone,
        num_semantic_tokens=tokens.num_semantic_tokens,
        codebook_size=tokens.codebook_size,
        num_coarse_codebooks=config.num_coarse_codebooks,
        num_fine_codebooks=tokens.num_codebooks - config.num_coarse_codebooks,
        window_length_s=config.window_length_s,
    )


def _activation_bytes(model: AudioLMStageModel, sequence_length: int, num_sequences: int, bf16: bool) -> int:
    input_ids = torch.zeros(num_sequences, sequence_length, dtype=torch.long)
    return saved_bytes(lambda: model.model(input_ids=input_ids, use_cache=False)[0], [model], bf16)


__all__ = ["StageShape", "decoder_flops", "estimate_stage", "head_flops", "linear_weights", "stage_shape"]
