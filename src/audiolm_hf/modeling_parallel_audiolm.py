# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The parallel acoustic stage: an encoder that predicts the codes of all frames together.

In: for each frame, the sum of the embeddings of its semantic tokens and of a code, or mask, of every level; out: for
each level, the logits of the codes of every frame.

Paper: SoundStorm (arXiv 2305.09636), with the encoder of transformers that the configuration names in place of its
Conformer.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import MaskedLMOutput
from transformers.utils import can_return_tuple

from .configuration_audiolm import AudioLMParallelConfig
from .input_checks_audiolm import check_frames, check_num_items
from .modeling_stage_audiolm import AudioLMStageBase


class AudioLMParallelModel(AudioLMStageBase):
    """The parallel stage, which predicts masked codes from semantic tokens and the other codes.

    The ids are those of one flat vocabulary, and so is the head; each code is chosen among the ids of its level.
    """

    config_class = AudioLMParallelConfig

    def __init__(self, config: AudioLMParallelConfig) -> None:
        super().__init__(config)
        self.tokens_per_frame = config.tokens_per_frame  # of fractions, which compilers do not trace
        self.num_columns = self.tokens_per_frame + len(config.predicted_levels)
        self.mask_ids = list(config.mask_token_ids)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        skip_logits: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Run the encoder over all frames.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, frames, columns)`, *optional*): semantic tokens and codes
                of each frame, see [`~token_layout_audiolm.frame_rows`].
            attention_mask (`torch.LongTensor` of shape `(batch, frames)`, *optional*): 1 for real frames.
            inputs_embeds (`torch.FloatTensor` of shape `(batch, frames, hidden_size)`, *optional*): in place of
                `input_ids`, see `embed`; not with `prefix_attention`, which needs the masks.
            labels (`torch.LongTensor` of shape `(batch, frames, columns)`, *optional*): the id of a masked code where
                it is to be predicted, -100 elsewhere.
            skip_logits (`bool`, *optional*): leave `logits` out when there are labels; by default in training only.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): what the summed loss is divided by: labels of the
                whole (accumulated, distributed) batch, or a number for each row; by default the labels given here.
            **kwargs: passed to the encoder.

        Returns:
            [`~transformers.modeling_outputs.MaskedLMOutput`]: `logits (batch, frames, vocab_size)` are over the whole
            vocabulary, before any restriction to a level.

        Raises:
            TypeError: ids or labels are not integers, or something is not a dense tensor.
            ValueError: inputs are missing or given twice, a shape does not fit, a value is out of range, or a label is
                never predicted.
        """
        inputs = inputs_embeds if input_ids is None else input_ids
        if inputs is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("Pass input_ids or inputs_embeds, one of the two.")
        check_num_items(num_items_in_batch, labels)
        check_frames(inputs, self.config.vocab_size, self.num_columns, attention_mask, labels)
        embeds = self.embed(inputs) if inputs_embeds is None else inputs
        if self.config.prefix_attention:
            attention_mask = self.prefix_mask(self._prefix(input_ids), attention_mask, embeds.dtype)
        outputs = self.model(inputs_embeds=embeds, attention_mask=attention_mask, **kwargs)
        hidden_states = outputs[0]
        loss = None if labels is None else self._mean_loss(hidden_states, labels, num_items_in_batch)
        logits = None
        if labels is None or not (self.training if skip_logits is None else skip_logits):
            logits = self.lm_head(hidden_states)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.get("hidden_states"), attentions=outputs.get("attentions")
        )

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return `(batch, frames, hidden_size)`: the mean embedding of a frame's semantic tokens, plus those of codes.

        A frame without semantic tokens has the embedding of their absence.
        """
        embeddings, width = self.get_input_embeddings()(input_ids), self.tokens_per_frame
        if width == 1:
            return embeddings.sum(2)
        exists = input_ids[..., :width] != self.config.absent_token_id
        first = torch.arange(width, device=input_ids.device) == 0
        weights = (exists | (first & ~exists.any(-1, keepdim=True))).to(embeddings.dtype)
        condition = (embeddings[:, :, :width] * weights[..., None]).sum(2) / weights.sum(2, keepdim=True)
        return condition + embeddings[:, :, width:].sum(2)

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None, prefix: Tensor | None = None) -> Tensor:
        """Return the encoder's last hidden states `(batch, frames, hidden_size)` of rows of ids.

        With `prefix_attention`, `prefix (batch, frames)` is true for the frames that attend only to each other; by
        default, those before the first mask. Generation passes the frames that were known at the start, which are
        fewer once codes of the last level have been filled in.
        """
        embeds = self.embed(input_ids)
        if self.config.prefix_attention:
            prefix = self._prefix(input_ids) if prefix is None else prefix
            attention_mask = self.prefix_mask(prefix, attention_mask, embeds.dtype)
        return self.model(inputs_embeds=embeds, attention_mask=attention_mask)[0]

    def _prefix(self, input_ids: Tensor | None) -> Tensor:
        """Return whether frames `(batch, frames)` are before the first mask of their row."""
        if input_ids is None:
            raise ValueError("The stage has prefix_attention, which needs the masks of the input; pass input_ids.")
        masks = torch.tensor(self.mask_ids, device=input_ids.device)
        return (input_ids[..., self.tokens_per_frame :] == masks).any(-1).cumsum(1) == 0

    def prefix_mask(self, prefix: Tensor, attention_mask: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return the additive attention mask `(batch, 1, frames, frames)` with which a prefix attends only to itself.

        Raises:
            ValueError: the attention implementation does not take such a mask.
        """
        implementation = self.model.config._attn_implementation
        if implementation not in ("eager", "sdpa"):
            raise ValueError(
                f"attn_implementation is {implementation!r}, which does not support a separate mask for each frame; "
                'load a stage with prefix_attention with "sdpa" or "eager".'
            )
        allowed = prefix[:, None] | ~prefix[:, :, None]
        if attention_mask is not None:
            allowed = allowed & attention_mask[:, None].bool()
        return torch.zeros(allowed.shape, dtype=dtype, device=prefix.device).masked_fill(
            ~allowed, torch.finfo(dtype).min
        )[:, None]

    def token_losses(self, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the correctness of every label, both `(batch, frames, columns)`.

        The loss is the negative log-likelihood (nats) of a label among the ids of its level, 0 where there is no label
        (-100); a label is correct if it was the most likely id.
        """
        check_frames(input_ids, self.config.vocab_size, self.num_columns, attention_mask, labels)
        positions, losses, correct = self._target_losses(self.encode(input_ids, attention_mask), labels)
        all_losses = losses.new_zeros(labels.numel()).index_copy(0, positions, losses)
        all_correct = correct.new_zeros(labels.numel()).index_copy(0, positions, correct)
        return all_losses.view(labels.shape), all_correct.view(labels.shape)
