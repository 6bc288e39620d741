# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The language models of AudioLM, one for each stage, with a common base class.

A stage is any transformers decoder over one flat vocabulary (see `token_layout_audiolm`). Its loss and its sampling
use the same distribution: each token is chosen among the ids of its own level, so only that slice of the head is
computed.

Paper: AudioLM (arXiv 2209.03143), semantic, coarse acoustic and fine acoustic modeling.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, Cache, GenerationMixin, LogitsProcessorList
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from .checkpoint_audiolm import AudioLMPreTrainedModel
from .compat_audiolm import CACHE_NAME, slice_logits_to_keep
from .configuration_audiolm import AudioLMCoarseConfig, AudioLMFineConfig, AudioLMSemanticConfig, AudioLMStageConfig
from .input_checks_audiolm import check_num_items, check_sequences, check_tensor, is_packed
from .numerics_audiolm import KeepsFloat32
from .sampling_audiolm import LevelLogitsProcessor
from .token_layout_audiolm import (
    IGNORE_INDEX,
    NO_LEVEL,
    aligned_position_ids,
    count_positions,
    forbidden_id,
    is_condition,
    level_range,
    token_levels,
)


class AudioLMStageBase(KeepsFloat32, AudioLMPreTrainedModel):
    """Base of the stages: a backbone (`backbone_config`), a head, and a loss over the ids of each token's level."""

    config_class = AudioLMStageConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _float32_names = r".*inv_freq$"  # in half precision, positions beyond a few hundred ids would be far off
    _no_split_modules: ClassVar[list[str]] = []
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _tied_weights_keys: Mapping[str, str] = {"lm_head.weight": "model.embed_tokens.weight"}  # or the backbone's name
    _tp_plan: Mapping[str, str] = {"lm_head": "colwise_gather_output"}
    _pp_plan: Mapping[str, Any] = {"lm_head": (["hidden_states"], ["logits"])}

    def __init__(self, config: AudioLMStageConfig) -> None:
        super().__init__(config)
        # `from_pretrained(dtype=)` sets the default dtype; the backbone's configuration may still name the old one.
        self.model = AutoModel.from_config(config.backbone_config, dtype=torch.get_default_dtype())
        embeddings = self.model.get_input_embeddings()
        self.lm_head = nn.Linear(embeddings.weight.shape[1], config.vocab_size, bias=False)
        name = next(name for name, module in self.model.named_modules() if module is embeddings)
        self._tied_weights_keys = {"lm_head.weight": f"model.{name}.weight"}
        # Of each level, the first id, one past the last, and one that is never chosen, or `None`. Read once: an
        # attribute of a configuration takes longer than a small product.
        levels = [*config.condition_levels, *config.predicted_levels]
        self.level_ids = {level: (*level_range(config, level), forbidden_id(config, level)) for level in levels}
        self.post_init()
        if not self.model.tp_plan:  # the head is spread over processes where the backbone is
            self._tp_plan = {}
        if not self.model.pp_plan:
            self._pp_plan = {}

    def level_logits(self, hidden_states: Tensor, level: int) -> Tensor:
        """Return the logits of the ids of a level, `(..., ids of the level)`, computing only these rows of the head.

        `hidden_states` are those of the decoder's last layer. The logits are float32: column i is id
        `level_range(config, level)[0] + i`, with minus infinity for an id that is never chosen.
        """
        start, stop, _ = self.level_ids[level]
        if self._head_has_rows:
            return self.restrict(F.linear(hidden_states, self.lm_head.weight[start:stop]), level)
        return self.restrict(self.lm_head(hidden_states)[..., start:stop], level)

    def reads_head_rows(self, device: torch.device) -> bool:
        """Return whether `level_logits` only multiplies by rows of the head, on a device and in the usual dtype."""
        weight, own = self.lm_head.weight, getattr(self.level_logits, "__func__", None)
        plain = self._head_has_rows and own is AudioLMStageBase.level_logits  # which may be replaced
        return plain and weight.device == device and weight.dtype == self.get_input_embeddings().weight.dtype

    @property
    def _head_has_rows(self) -> bool:
        """Return whether the head is a plain weight, without adapter, quantization, sharding or offloading."""
        head = self.lm_head
        hooked = "forward" in vars(head) or head._forward_pre_hooks or head._forward_hooks
        return type(head) is nn.Linear and type(head.weight) is nn.Parameter and not hooked

    def restrict(self, logits: Tensor, level: int) -> Tensor:
        """Return the logits of a level as float32, with minus infinity for ids that are never chosen."""
        start, stop, forbidden = self.level_ids[level]
        if forbidden is None:
            return logits.float()
        never = torch.arange(start, stop, device=logits.device) == forbidden
        return logits.float().masked_fill(never, -torch.inf)

    def _target_losses(self, hidden_states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return flat positions, negative log-likelihoods and correctness of the targets, level by level."""
        width = targets.shape[2] if targets.dim() == 3 else 1  # labels of one state
        targets = targets.flatten().long()
        positions = torch.nonzero(targets != IGNORE_INDEX)[:, 0]
        targets = targets[positions]
        levels, order = torch.sort(token_levels(targets, self.config), stable=True)
        positions, targets = positions[order], targets[order]
        groups, counts = torch.unique_consecutive(levels, return_counts=True)
        if len(groups) and int(groups[0]) == NO_LEVEL:
            raise ValueError(
                f"labels contain {int(counts[0])} ids that the {self.config.stage} stage never predicts (for example "
                f"{int(targets[0])}); set them to {IGNORE_INDEX}."
            )
        states = hidden_states.flatten(0, 1)[positions // width]
        # A sharded head must be called exactly once in every forward pass, labels or none.
        scores = None if self._head_has_rows and len(states) else self.lm_head(states)
        losses, correct = [], []
        sizes = counts.tolist()
        rows = states if scores is None else scores
        for level, group, group_targets in zip(groups.tolist(), rows.split(sizes), targets.split(sizes), strict=True):
            start, stop, _ = self.level_ids[level]
            logits = self.level_logits(group, level) if scores is None else self.restrict(group[:, start:stop], level)
            local = group_targets - start
            losses.append(F.cross_entropy(logits, local, reduction="none"))
            correct.append(logits.detach().argmax(-1) == local)
        if not losses:
            return positions, rows.sum(-1).float(), positions.bool()  # empty, and part of the graph
        return positions, torch.cat(losses), torch.cat(correct)

    def _mean_loss(self, hidden_states: Tensor, targets: Tensor, num_items: Tensor | int | None) -> Tensor:
        """Return the sum of the targets' losses, each divided by the number of items: one, or one for every row."""
        positions, losses, _ = self._target_losses(hidden_states, targets)
        counts = torch.as_tensor(losses.numel() if num_items is None else num_items, device=losses.device).clamp(min=1)
        if counts.numel() == 1:
            return losses.sum() / counts.reshape(())
        return (losses / counts[positions // targets[0].numel()]).sum()


class AudioLMStageModel(AudioLMStageBase, GenerationMixin):
    """Base of the causal stages: a decoder that predicts each token of a sequence from those before it."""

    _skip_keys_device_placement: ClassVar[list[str]] = [CACHE_NAME]

    def __init__(self, config: AudioLMStageConfig) -> None:
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # or Trainer would count the first label of a row, which nothing predicts

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        skip_logits: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Run the decoder over a sequence.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, sequence_length)`, *optional*): ids of the stage.
            attention_mask (`torch.LongTensor` of shape `(batch, sequence_length)`, *optional*): 1 for real ids.
            position_ids (`torch.LongTensor` of shape `(batch, sequence_length)`, *optional*): see
                `mask_and_positions`.
            past_key_values (`Cache`, *optional*): keys and values of earlier ids.
            inputs_embeds (`torch.FloatTensor` of shape `(batch, sequence_length, hidden_size)`, *optional*): in place
                of `input_ids`.
            labels (`torch.LongTensor` of shape `(batch, sequence_length)`, *optional*): the id itself where it is to
                be predicted from the ids before it, -100 elsewhere.
            use_cache (`bool`, *optional*): return the cache, too; by default not with labels or packed sequences.
            logits_to_keep (`int` or `torch.Tensor`, defaults to 0): last positions to compute logits for; 0 is all.
            skip_logits (`bool`, *optional*): leave `logits` out when there are labels; by default in training only.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): what the summed loss is divided by: labels of the
                whole (accumulated, distributed) batch, or a number for each row; by default the labels given here.
            cache (`Cache`, *optional*): `past_key_values` under the name that transformers has for it since 5.24.
            **kwargs: passed to the decoder, except `shift_labels`: labels already shifted one to the left, used for
                the loss in place of `labels` when a sequence is spread over processes.

        Returns:
            [`~transformers.modeling_outputs.CausalLMOutputWithPast`]: `logits` are over the whole vocabulary, before
            any restriction to a level.

        Raises:
            TypeError: ids, positions or labels are not integers, or something is not a dense tensor.
            ValueError: inputs are missing or given twice, a shape does not fit, a value is out of range, a label is
                never predicted, or the positions of a condition cannot be computed (see `mask_and_positions`).
        """
        if cache is not None and past_key_values is not None:
            raise ValueError("past_key_values and cache are two names for the same thing; pass one of them.")
        cache = past_key_values if cache is None else cache
        inputs = inputs_embeds if input_ids is None else input_ids
        if inputs is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("Pass input_ids or inputs_embeds, one of the two.")
        check_num_items(num_items_in_batch, labels)
        shift_labels = self._given_shift_labels(kwargs)
        past = 0 if cache is None else cache.get_seq_length()
        check_sequences(
            inputs,
            self.config.vocab_size,
            attention_mask=attention_mask,
            position_ids=position_ids,
            labels=labels,
            past=past,
        )
        if use_cache is None:
            use_cache = self.config.use_cache and labels is None and not is_packed(attention_mask, position_ids)
        outputs = self.model(
            input_ids=input_ids,
            **self.mask_and_positions(inputs, attention_mask, position_ids, cache),
            **{CACHE_NAME: cache},
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        loss = None
        if labels is not None:
            targets = _next_labels(labels) if shift_labels is None else shift_labels
            loss = self._mean_loss(hidden_states, targets, num_items_in_batch)
        logits = None
        if labels is None or not (self.training if skip_logits is None else skip_logits):
            logits = self.lm_head(slice_logits_to_keep(hidden_states, logits_to_keep))
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **{CACHE_NAME: outputs.get(CACHE_NAME)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _given_shift_labels(self, kwargs: dict[str, Any]) -> Tensor | None:
        """Remove `shift_labels` from the keywords; in the signature of `forward`, Trainer would require them."""
        shift_labels = kwargs.pop("shift_labels", None)
        if shift_labels is not None and self.config.condition_stride is not None:
            raise ValueError(
                "shift_labels were given, so the sequence is spread over processes, where no part of it tells the "
                f"positions of the condition that condition_stride = {self.config.condition_stride} asks for; train "
                "without context parallelism."
            )
        return shift_labels

    def mask_and_positions(
        self,
        inputs: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
    ) -> dict[str, Tensor | None]:
        """Return the mask and positions for the decoder, with an aligned condition if configured.

        By default, positions are the cumulative sum of the mask. The condition of a sequence is moved if all ids from
        its begin token to its separator are given; other positions do not change.

        Raises:
            ValueError: the positions of a condition cannot be determined from the inputs, or the attention
                implementation would treat positions that step back as packed sequences.
        """
        counted = position_ids is None
        if position_ids is None:
            past = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = count_positions(inputs, attention_mask, past)
        if self.config.condition_stride is None:
            return {"attention_mask": attention_mask, "position_ids": position_ids}
        if counted and (inputs.is_floating_point() or past > 0):
            self._require_prediction(inputs)
        if inputs.is_floating_point() or inputs.shape[1] == 1:
            return {"attention_mask": attention_mask, "position_ids": position_ids}
        self._check_steps(attention_mask, position_ids)
        position_ids = aligned_position_ids(inputs, position_ids, self.config, attention_mask)
        if attention_mask is None:  # without a mask, positions that step back are treated as packed sequences
            past = 0 if past_key_values is None else past_key_values.get_seq_length()
            attention_mask = inputs.new_ones(len(inputs), past + inputs.shape[1])
        return {"attention_mask": attention_mask, "position_ids": position_ids}

    def _require_prediction(self, inputs: Tensor) -> None:
        """Check that the inputs have no conditioning ids whose positions depend on missing ids."""
        if inputs.is_floating_point() or bool(is_condition(inputs, self.config).any()):
            raise ValueError(
                f"The {self.config.stage} stage has condition_stride = {self.config.condition_stride}, and a part of "
                "a sequence (or its embeddings) does not tell the positions of its condition; give position_ids from "
                "aligned_position_ids of the whole sequence, or all ids up to the separator at once."
            )

    def _check_steps(self, attention_mask: Tensor | None, position_ids: Tensor) -> None:
        """Check that positions are not those of packed sequences, and would not be treated as such."""
        if "flash" in (self.config._attn_implementation or ""):
            raise ValueError(
                f"attn_implementation is {self.config._attn_implementation!r}, which reads positions that step back "
                'as several sequences; load a stage that has a condition_stride with "sdpa" or "eager".'
            )
        if is_packed(attention_mask, position_ids):
            raise ValueError(
                "position_ids begin again within a row, as those of packed sequences do; a stage that has a "
                "condition_stride takes one sequence a row, padded, with an attention_mask."
            )

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        """Compute the positions of the whole prompt at once, so that a cache and chunks do not change them."""
        position_ids = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        if self.config.condition_stride is None:
            return position_ids
        given = model_kwargs.get("input_ids")
        ids = inputs_tensor if given is None or given.shape[1] == 0 else given
        if ids.is_floating_point() or ids.shape[1] != position_ids.shape[1]:  # the rest is in the cache
            self._require_prediction(ids)
            return position_ids
        return aligned_position_ids(ids, position_ids, self.config, model_kwargs.get("attention_mask"))

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise an error, because `generate_batch` does not restrict tokens to their levels."""
        raise NotImplementedError(
            f"{type(self).__name__} has no continuous batching: tokens would leave their levels. Use generate, which "
            "takes a batch padded on the left with an attention_mask."
        )

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return the decoder's last hidden states `(batch, sequence_length, hidden_size)`."""
        inputs = self.mask_and_positions(input_ids, attention_mask)
        return self.model(input_ids=input_ids, **inputs, use_cache=False)[0]

    def token_losses(self, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the correctness of every label, also the end token, both `(batch, sequence_length)`.

        The loss is the negative log-likelihood (nats) of a label among the ids of its level, 0 where there is no label
        (-100); a label is correct if it was the most likely id.
        """
        check_tensor("labels", labels, "(batch, sequence_length)")
        check_sequences(input_ids, self.config.vocab_size, attention_mask=attention_mask, labels=labels)
        positions, losses, correct = self._target_losses(self.encode(input_ids, attention_mask), _next_labels(labels))
        # The loss of a label stands at the label, one to the right of the state that predicts it.
        all_losses = losses.new_zeros(labels.numel()).index_copy(0, positions + 1, losses)
        all_correct = correct.new_zeros(labels.numel()).index_copy(0, positions + 1, correct)
        return all_losses.view(labels.shape), all_correct.view(labels.shape)

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Continue ids, with every id in its level; see `generate` of [`~transformers.GenerationMixin`]."""
        ids, cache = kwargs.get("input_ids", inputs), kwargs.get("past_key_values", kwargs.get("cache"))
        if ids is not None and kwargs.get("inputs_embeds") is None:
            past = 0 if cache is None else cache.get_seq_length()
            check_sequences(ids, self.config.vocab_size, attention_mask=kwargs.get("attention_mask"), past=past)
        return super().generate(inputs, *args, **kwargs)

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        """Add the processor that restricts ids to their levels, before all other processors."""
        processors = super()._get_logits_processor(*args, **kwargs)
        processors.insert(0, LevelLogitsProcessor(self.config))
        return processors


def _next_labels(labels: Tensor) -> Tensor:
    """Return the labels shifted by one position to the left."""
    return F.pad(labels[:, 1:].long(), (0, 1), value=IGNORE_INDEX)


class AudioLMSemanticModel(AudioLMStageModel, GenerationMixin):
    """The semantic stage, which continues semantic tokens. See [`AudioLMStageModel`]."""

    config_class = AudioLMSemanticConfig

    def __init__(self, config: AudioLMSemanticConfig) -> None:
        super().__init__(config)
        if config.has_onset_rates:
            self.register_buffer("onset_rates", torch.zeros(2 * config.num_semantic_tokens))

    def expected_onset_rate(self, tokens: Tensor) -> Tensor:
        """Return the note onsets per second to expect of audio generated from semantic `tokens (length,)`, a scalar.

        It is the mean, at least 0, of the rates of all tokens after the first. `onset_rates
        (2 * num_semantic_tokens,)` first has a rate for every token where it repeats the one before it, then a rate
        where it does not. There must be at least two tokens.
        """
        if self.onset_rates.is_meta:
            raise ValueError("The stage's onset_rates are offloaded; load the model without offload_buffers.")
        differs = (tokens[1:] != tokens[:-1]).long()
        return self.onset_rates[differs * self.config.num_semantic_tokens + tokens[1:]].float().mean().clamp(min=0)


class AudioLMCoarseModel(AudioLMStageModel, GenerationMixin):
    """The coarse stage, which predicts coarse codes from semantic tokens. See [`AudioLMStageModel`]."""

    config_class = AudioLMCoarseConfig


class AudioLMFineModel(AudioLMStageModel, GenerationMixin):
    """The fine stage, which predicts fine codes from coarse codes. See [`AudioLMStageModel`]."""

    config_class = AudioLMFineConfig
