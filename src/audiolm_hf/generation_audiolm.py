# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Sampling: one stage of any length in windows, and the rules that keep every token inside its level."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

from .configuration_audiolm import AudioLMStageConfig
from .token_layout_audiolm import level_mask


class LevelLogitsProcessor(LogitsProcessor):
    """Allow only the ids of the level whose turn it is, for plain `generate` of a stage model.

    Turns are counted from the separator, or from the end of the prompt where a row has none.

    Args:
        config ([`AudioLMStageConfig`]): the stage.
        prompt_length (`int`): ids of the prompt, padding included.
    """

    def __init__(self, config: AudioLMStageConfig, prompt_length: int) -> None:
        self.allowed = level_mask(config)
        self.separator_token_id = config.separator_token_id
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Set the scores `(batch, vocab_size)` of all other ids to minus infinity."""
        num_known = torch.full(input_ids.shape[:1], input_ids.shape[1] - self.prompt_length, device=input_ids.device)
        separators = input_ids[:, : self.prompt_length] == self.separator_token_id
        if separators.any():
            places = torch.arange(self.prompt_length, device=input_ids.device)
            last = torch.where(separators, places, -1).amax(1)
            num_known = torch.where(last < 0, num_known, input_ids.shape[1] - 1 - last)
        self.allowed = self.allowed.to(scores.device)
        turns = num_known % len(self.allowed)
        return scores.masked_fill(~self.allowed[turns], -torch.inf)
