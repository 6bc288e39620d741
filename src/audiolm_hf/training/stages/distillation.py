# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Distillation of guidance: one pass of a stage of codes is trained to predict what several passes predict together.

Away from a pass without semantic tokens, codes follow these more closely; away from one without the prompt, they keep
more of its voice and sound.

Paper: On Distillation of Guided Diffusion Models (arXiv 2210.03142), first stage, for codes.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from audiolm_hf.modeling_parallel_audiolm import AudioLMParallelModel
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel
from audiolm_hf.token_layout_audiolm import (
    IGNORE_INDEX,
    is_condition,
    level_range,
    token_levels,
    without_condition,
)


class GuidanceTeacher:
    """Compares predictions of codes with the guided ones of a trained stage.

    Args:
        model ([`AudioLMCoarseModel`] or [`AudioLMParallelModel`]): the teacher; its weights do not change.
        guidance_scale (`float`, defaults to 1.0): weight of the semantic tokens in its predictions, see
            [`AudioLMGenerationConfig`].
        prompt_scale (`float`, defaults to 1.0): weight of the prompt, the beginning of every sequence, in the
            predictions of what follows it. That of the parallel stage ends with the first mask.
        prompt_tokens (`int`, defaults to 0): semantic tokens of the coarse stage's prompt.
        prompt_frames (`int`, defaults to 0): frames of the coarse stage's prompt.
    """

    def __init__(
        self,
        model: AudioLMCoarseModel | AudioLMParallelModel,
        guidance_scale: float = 1.0,
        prompt_scale: float = 1.0,
        prompt_tokens: int = 0,
        prompt_frames: int = 0,
    ) -> None:
        if guidance_scale != 1 and not model.config.condition_dropout:
            raise ValueError(
                "distill_guidance_scale is given, but the stage in initial_weights was trained with all of its "
                "conditions (condition_dropout is 0) and cannot be guided; leave it out."
            )
        self.model, self.parallel = model.eval().requires_grad_(False), model.config.layout.parallel
        self.guidance_scale, self.prompt_scale = guidance_scale, prompt_scale
        self.prompt_tokens, self.prompt_frames = prompt_tokens, prompt_frames

    def losses(
        self, logits: Tensor, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of every prediction with the teacher's, and whether the likeliest code is the same.

        Args:
            logits (`torch.FloatTensor` of shape `(batch, positions, vocab_size)`): the predictions.
            input_ids (`torch.LongTensor` of shape `(batch, positions)`, parallel stage `(batch, positions, columns)`):
                what they are of.
            attention_mask (`torch.LongTensor` of shape `(batch, positions)`, *optional*): 1 for real positions.
            labels (`torch.LongTensor` of the shape of `input_ids`): -100 where nothing is predicted.

        Returns:
            Two tensors of the shape of `labels`, 0 and false where nothing is predicted.
        """
        model, config = self.model.to(logits.device), self.model.config
        losses = torch.zeros(labels.shape, device=logits.device)
        agreed = torch.zeros(labels.shape, dtype=torch.bool, device=logits.device)
        mask = torch.ones(labels.shape[:2], device=labels.device).long() if attention_mask is None else attention_mask
        others = list(self._others(input_ids, mask))
        with torch.no_grad():
            ids, masks = zip((input_ids, mask), *(other[1:3] for other in others), strict=True)
            states = model.encode(torch.cat(ids), torch.cat(masks)).chunk(len(ids))
        for level in config.predicted_levels:
            chosen, places = self._places(labels, level)
            with torch.no_grad():
                whole, *without = (model.level_logits(each[places], level).log_softmax(-1) for each in states)
                guided = whole.clone()
                for (weight, _, _, where), scores in zip(others, without, strict=True):
                    guided += weight * (whole - scores).masked_fill(~where[places][:, None], 0)
                expected = guided.softmax(-1)
            start, stop = level_range(config, level)
            predicted = model.restrict(logits[places][:, start:stop], level)
            losses = losses.masked_scatter(chosen, -(expected * predicted.log_softmax(-1)).sum(-1))
            agreed = agreed.masked_scatter(chosen, expected.argmax(-1) == predicted.argmax(-1))
        return losses, agreed

    def _others(self, input_ids: Tensor, mask: Tensor) -> Iterator[tuple[float, Tensor, Tensor, Tensor]]:
        """Yield the inputs to be guided away from: the weight of the difference, ids, mask, and where it applies."""
        if self.guidance_scale != 1:
            without = without_condition(input_ids, self.model.config) if self.parallel else input_ids
            kept = mask if self.parallel else mask * ~self._condition(input_ids)
            yield self.guidance_scale - 1, without, kept, torch.ones_like(mask, dtype=torch.bool)
        if self.prompt_scale != 1:
            prompt = self._prompt(input_ids)
            yield self.prompt_scale - 1, input_ids, mask * ~prompt, ~prompt

    def _condition(self, input_ids: Tensor) -> Tensor:
        config = self.model.config
        return is_condition(input_ids, config) & (input_ids != config.separator_token_id)

    def _prompt(self, input_ids: Tensor) -> Tensor:
        """Return a mask `(batch, positions)` of the prompt of each sequence."""
        config = self.model.config
        if self.parallel:
            masked = input_ids[..., config.tokens_per_frame :] == input_ids.new_tensor(config.mask_token_ids)
            return masked.any(-1).cumsum(1) == 0
        condition = self._condition(input_ids)
        levels = torch.tensor(config.predicted_levels, device=input_ids.device)
        codes = torch.isin(token_levels(input_ids, config), levels)
        return (condition & (condition.cumsum(1) <= self.prompt_tokens)) | (
            codes & (codes.cumsum(1) <= self.prompt_frames * len(levels))
        )

    def _places(self, labels: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Return masks of the labels of a level, and of the positions `(batch, positions)` that predict them."""
        chosen = labels != IGNORE_INDEX
        if self.parallel:
            chosen &= torch.arange(labels.shape[2], device=labels.device) == self.model.config.tokens_per_frame + level
            return chosen, chosen.any(-1)
        chosen &= token_levels(labels, self.model.config) == level
        return chosen, F.pad(chosen[:, 1:], (0, 1))
