# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Distillation of the guidance of a parallel stage: one pass is trained to predict what two passes predict together.

Paper: On Distillation of Guided Diffusion Models (arXiv 2210.03142), first stage, for masked codes.
"""

import torch
from torch import Tensor

from audiolm_hf.modeling_parallel_audiolm import AudioLMParallelModel
from audiolm_hf.sampling_audiolm import guided_scores
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX, level_range, without_condition


class GuidanceTeacher:
    """Compares predictions of masked codes with the guided ones of a trained stage.

    Args:
        model ([`AudioLMParallelModel`]): the teacher; its weights do not change.
        guidance_scale (`float`): weight of the semantic tokens in its predictions, see [`AudioLMGenerationConfig`].
    """

    def __init__(self, model: AudioLMParallelModel, guidance_scale: float) -> None:
        if not model.config.condition_dropout:
            raise ValueError(
                "distill_guidance_scale is given, but the stage in initial_weights was trained with all of its "
                "conditions (condition_dropout is 0) and cannot be guided; leave it out."
            )
        self.model, self.guidance_scale = model.eval().requires_grad_(False), guidance_scale

    def losses(
        self, logits: Tensor, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of every prediction with the teacher's, and whether the likeliest code is the same.

        Args:
            logits (`torch.FloatTensor` of shape `(batch, frames, vocab_size)`): the predictions.
            input_ids (`torch.LongTensor` of shape `(batch, frames, columns)`): what they are of.
            attention_mask (`torch.LongTensor` of shape `(batch, frames)`, *optional*): 1 for real frames.
            labels (`torch.LongTensor` of shape `(batch, frames, columns)`): -100 where nothing is predicted.

        Returns:
            Two tensors of shape `(batch, frames, columns)`, 0 and false where nothing is predicted.
        """
        model, config = self.model.to(logits.device), self.model.config
        losses = torch.zeros(labels.shape, device=logits.device)
        agreed = torch.zeros(labels.shape, dtype=torch.bool, device=logits.device)
        rows = torch.cat([input_ids, without_condition(input_ids, config)])
        mask = None if attention_mask is None else attention_mask.repeat(2, 1)
        with torch.no_grad():
            states = model.encode(rows, mask)
        for level in config.predicted_levels:
            column = config.tokens_per_frame + level
            masked = labels[..., column] != IGNORE_INDEX
            with torch.no_grad():
                scores = model.level_logits(states[masked.repeat(2, 1)], level)
                expected = guided_scores(scores, self.guidance_scale).softmax(-1)
            start, stop = level_range(config, level)
            predicted = model.restrict(logits[masked][:, start:stop], level)
            losses[..., column] = losses[..., column].masked_scatter(
                masked, -(expected * predicted.log_softmax(-1)).sum(-1)
            )
            agreed[..., column] = agreed[..., column].masked_scatter(
                masked, expected.argmax(-1) == predicted.argmax(-1)
            )
        return losses, agreed
