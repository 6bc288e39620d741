# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The training forward pass of a whole AudioLM: the losses of all stages on the same recordings.

In: waveforms, or the tokens of both tokenizers; out: [`AudioLMOutput`]. A stage sees a recording in consecutive
windows of its own length, one row each.

Paper: AudioLM (arXiv 2209.03143), training of the stages; windows of 30, 10 and 3 s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from .adapters_audiolm import refuse_adapted_tokens
from .configuration_audiolm import AudioLMStageConfig
from .input_checks_audiolm import check_ids, check_waveform, row_lengths
from .stages_audiolm import PartsMixin
from .time_grid_audiolm import TimeGrid
from .token_layout_audiolm import IGNORE_INDEX, SEMANTIC_LEVEL, build_stage_example, hide_codes, pad_examples


@dataclass(init=False)
class AudioLMOutput(ModelOutput):
    """What [`AudioLMModel.forward`] returns. Rows of logits are windows, see [`stage_windows`].

    Each stage of the model adds two fields with its name, such as `semantic_loss` and `semantic_logits`.

    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*): sum of the stages' losses, nats.
        <stage>_loss (`torch.FloatTensor` of shape `()`, *optional*): mean over the recordings of the mean negative
            log-likelihood of a stage's tokens, each among the ids of its level.
        <stage>_logits (`torch.FloatTensor` of shape `(windows, sequence_length, vocab_size)`, *optional*): of each
            stage; left out in training.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*): with `output_hidden_states=True`; those of the semantic
            stage's layers, then of the other stages' in their order, each of shape
            `(windows, sequence_length, hidden_size)`.
        attentions (`tuple(torch.FloatTensor)`, *optional*): with `output_attentions=True`; in the same order, each of
            shape `(windows, num_heads, sequence_length, sequence_length)`.
    """

    loss: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None

    def __init__(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        super().__init__()
        for name, value in {**(values or {}), **more}.items():
            if value is not None:
                self[name] = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


@dataclass
class TokenizedRecording:
    """The tokens of one recording."""

    semantic_tokens: Tensor  # (semantic_length,), repeats included
    audio_codes: Tensor  # (num_codebooks, frames), codes of the same time
    # (num_codebooks, frames), all by default; a semantic token is learned if any code of its first frame is.
    learned: Tensor | None = None


def stage_windows(
    recordings: list[TokenizedRecording],
    config: AudioLMStageConfig,
    grid: TimeGrid,
    condition_dropout: float = 0.0,
    mask_seed: int = 0,
) -> dict[str, Tensor]:
    """Cut whole recordings into consecutive windows of a stage, and stack their padded sequences in order."""
    window, examples, rng = grid.units(config.window_length_s), [], np.random.default_rng(mask_seed)
    for recording in recordings:
        num_units = _num_units(recording, grid)
        for start in range(0, num_units, window):
            stop = min(start + window, num_units)
            tokens = slice(grid.tokens_before(start), grid.tokens_before(stop))
            frames = slice(grid.frames_before(start), grid.frames_before(stop))
            drop = condition_dropout > 0 and float(torch.rand((), device="cpu")) < condition_dropout
            example = build_stage_example(
                config,
                recording.semantic_tokens[tokens],
                recording.audio_codes[:, frames],
                ends_recording=stop == num_units,
                drop_condition=drop,
            )
            if recording.learned is not None:
                learned = _learned_tokens(recording, tokens, frames, config, grid)
                predicted = example["labels"] != IGNORE_INDEX
                if int(predicted.sum()) > len(learned):  # the end token of a recording is its last label
                    learned = torch.cat([learned, learned[-1:]])
                example["labels"][predicted] = example["labels"][predicted].masked_fill(~learned, IGNORE_INDEX)
            examples.append(hide_codes(example, config, rng))
    return pad_examples(examples, config)


def _num_units(recording: TokenizedRecording, grid: TimeGrid) -> int:
    return grid.units_of(len(recording.semantic_tokens), recording.audio_codes.shape[1])


def _row_counts(
    labels: Tensor, recordings: list[TokenizedRecording], config: AudioLMStageConfig, grid: TimeGrid
) -> Tensor:
    """Return the number that divides the loss of each window: labels of its recording, times recordings."""
    window = grid.units(config.window_length_s)
    sizes = [-(-_num_units(recording, grid) // window) for recording in recordings]
    parts = (labels != IGNORE_INDEX).flatten(1).sum(1).split(sizes)
    return torch.cat([(part.sum() * len(recordings)).expand(len(part)) for part in parts])


def _learned_tokens(
    recording: TokenizedRecording, tokens: slice, frames: slice, config: AudioLMStageConfig, grid: TimeGrid
) -> Tensor:
    """Mark which of a window's predicted tokens are to be learned."""
    if SEMANTIC_LEVEL not in config.predicted_levels:
        return recording.learned[config.predicted_levels, frames].T.flatten()
    own = recording.semantic_tokens[tokens]
    places = torch.arange(tokens.start, tokens.start + len(own), dtype=torch.float64, device="cpu")
    starts = grid.frames_of_tokens(places).long().clamp(max=recording.learned.shape[1] - 1)
    learned = recording.learned.any(0)[starts.to(own.device)]
    if config.remove_repeats and len(own):
        learned = learned[torch.cat([own.new_ones(1).bool(), own[1:] != own[:-1]])]
    return learned


class JointTrainingMixin(PartsMixin):
    """The `forward` of a model with both tokenizers and stages."""

    accepts_loss_kwargs = False  # every recording has the same weight, so parts of a batch need not know its size

    def train(self, mode: bool = True) -> Any:
        """Set the mode of the stages; the frozen tokenizers stay in evaluation mode."""
        super().train(mode)  # type: ignore[misc]
        self.semantic_tokenizer.eval()
        self.codec.eval()
        return self

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        semantic_tokens: Tensor | None = None,
        semantic_attention_mask: Tensor | None = None,
        audio_codes: Tensor | None = None,
        codes_attention_mask: Tensor | None = None,
        return_loss: bool = True,
        skip_logits: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> AudioLMOutput:
        """Compute the losses of all stages on recordings. The tokenizers are frozen: only the stages learn.

        Rows are whole recordings, whose ends the semantic stage learns. A stage sees consecutive windows of its
        `window_length_s`. In training, a stage with a `condition_dropout` sees that share of its windows without
        their semantic tokens, and the masks of a parallel stage are drawn by torch's global generator; otherwise they
        are always the same.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, num_samples)`, *optional*): recordings in [-1, 1] at
                `sampling_rate`, tokenized here. Tokens can be given instead.
            attention_mask (`torch.LongTensor` of shape `(batch, num_samples)`, *optional*): 1 for real samples, 0 for
                padding on the right.
            semantic_tokens (`torch.LongTensor` of shape `(batch, semantic_length)`, *optional*): of the semantic
                tokenizer, repeats included; with `audio_codes`, in place of `input_values`.
            semantic_attention_mask (`torch.LongTensor` of shape `(batch, semantic_length)`, *optional*): 1 for real
                tokens, 0 for padding on the right.
            audio_codes (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`, *optional*): of the codec.
            codes_attention_mask (`torch.LongTensor` of shape `(batch, frames)`, *optional*): 1 for real frames, 0 for
                padding on the right.
            return_loss (`bool`, defaults to `True`): compute the losses.
            skip_logits (`bool`, *optional*): leave the logits out; by default in training only.
            **kwargs: `labels` (`torch.LongTensor` of shape `(batch, num_codebooks, frames)`, *optional*) is -100 for
                codes that are not to be learned, and any code elsewhere; a semantic token is learned if a code of its
                time is. By default all are learned. Other arguments are passed to the stages, such as
                `output_hidden_states`.

        Returns:
            [`AudioLMOutput`].

        Raises:
            TypeError: if tokens are not integers or samples not floats.
            ValueError: if there are both waveforms and tokens or neither, or shapes do not agree.
        """
        refuse_adapted_tokens(self)
        options = dict(kwargs)
        labels = options.pop("labels", None)  # in the signature, they would be required by Trainer
        recordings = self._recordings(
            input_values, attention_mask, semantic_tokens, semantic_attention_mask, audio_codes, codes_attention_mask
        )
        if labels is not None:
            _mark_learned(recordings, labels)
        losses, logits, states, attentions = {}, {}, (), ()
        for name, stage in self.stages.items():
            dropout = stage.config.condition_dropout if self.training else 0.0
            drawn = self.training and stage.config.layout.parallel
            mask_seed = int(torch.randint(2**62, (), device="cpu")) if drawn else 0
            batch = stage_windows(recordings, stage.config, self.time_grid, dropout, mask_seed)
            counts = _row_counts(batch["labels"], recordings, stage.config, self.time_grid)
            given = {"num_items_in_batch": counts, **options} if return_loss else options
            if not return_loss:
                del batch["labels"]
            outputs = stage(**batch, skip_logits=skip_logits, **given)
            losses[f"{name}_loss"], logits[f"{name}_logits"] = outputs.loss, outputs.logits
            states += outputs.hidden_states or ()
            attentions += outputs.attentions or ()
        loss = sum(losses.values()) if return_loss else None
        return AudioLMOutput(
            loss=loss, **losses, **logits, hidden_states=states or None, attentions=attentions or None
        )

    def _recordings(
        self,
        input_values: Tensor | None,
        attention_mask: Tensor | None,
        semantic_tokens: Any,
        semantic_attention_mask: Tensor | None,
        audio_codes: Any,
        codes_attention_mask: Tensor | None,
    ) -> list[TokenizedRecording]:
        """Check the inputs, and tokenize each waveform on its own, or cut every row of tokens to its mask."""
        inputs = {"input_values": input_values, "semantic_tokens": semantic_tokens, "audio_codes": audio_codes}
        given = [name for name, value in inputs.items() if value is not None]
        if given not in (["input_values"], ["semantic_tokens", "audio_codes"]):
            found = ", ".join(given) or "neither"
            raise ValueError(f"Give either input_values, or semantic_tokens and audio_codes; got {found}.")
        if input_values is not None:
            check_waveform(input_values)
            lengths = row_lengths(input_values, attention_mask)
            waveforms = zip(input_values.to(self.device, torch.float32), lengths.tolist(), strict=True)
            return [self._tokenize(waveform[None, :length]) for waveform, length in waveforms]
        config, grid = self.config, self.time_grid
        for name, values, size in (
            ("semantic_tokens", semantic_tokens, config.semantic_tokenizer_config.num_semantic_tokens),
            ("audio_codes", audio_codes, config.codec_config.codebook_size),
        ):
            check_ids(name, values, size)
        levels, shape = config.num_codebooks, tuple(audio_codes.shape)
        if semantic_tokens.dim() != 2 or len(shape) != 3 or shape[1] < levels or len(semantic_tokens) != shape[0]:
            raise ValueError(
                f"semantic_tokens has shape {tuple(semantic_tokens.shape)} and audio_codes {shape}; give "
                f"(batch, semantic_length) and (batch, num_codebooks, frames) with {levels} codebooks or more."
            )
        token_counts = row_lengths(semantic_tokens, semantic_attention_mask, "semantic_attention_mask").tolist()
        frame_counts = row_lengths(audio_codes[:, 0], codes_attention_mask, "codes_attention_mask").tolist()
        for row, (num_tokens, num_frames) in enumerate(zip(token_counts, frame_counts, strict=True)):
            if abs(num_tokens * grid.token_s - num_frames * grid.frame_s) > grid.unit_s:
                raise ValueError(
                    f"Row {row} has {num_tokens} semantic tokens, {float(num_tokens * grid.token_s):.2f} s, and "
                    f"{num_frames} frames, {float(num_frames * grid.frame_s):.2f} s; give those of one recording."
                )
        rows = zip(
            semantic_tokens.to(self.device), audio_codes.to(self.device), token_counts, frame_counts, strict=True
        )
        return [
            TokenizedRecording(tokens[:num_tokens], codes[:levels, :num_frames])
            for tokens, codes, num_tokens, num_frames in rows
        ]

    @torch.no_grad()
    def _tokenize(self, waveform: Tensor) -> TokenizedRecording:
        tokens = self.semantic_tokenizer.tokenize(waveform, sampling_rate=self.acoustic_codec.sampling_rate)
        codes = self.acoustic_codec.encode(waveform, num_codebooks=self.config.num_codebooks)
        return TokenizedRecording(tokens["semantic_tokens"][0], codes[0])


def _mark_learned(recordings: list[TokenizedRecording], labels: Tensor) -> None:
    """Note which codes are to be learned."""
    num_frames = max(recording.audio_codes.shape[1] for recording in recordings)
    levels = len(recordings[0].audio_codes)
    shape = tuple(labels.shape)
    if len(shape) != 3 or shape[0] != len(recordings) or shape[1] < levels or shape[2] < num_frames:
        raise ValueError(
            f"labels has shape {shape}; give (batch, num_codebooks, frames), here ({len(recordings)}, {levels}, "
            f"{num_frames}): -100 for codes that are not to be learned."
        )
    for recording, row in zip(recordings, labels.to(recordings[0].audio_codes.device), strict=True):
        recording.learned = row[:levels, : recording.audio_codes.shape[1]] != IGNORE_INDEX
