# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`AudioLMModel.generate`: from a waveform to a longer waveform.

In: `input_values (batch, num_samples)` of prompts, or none; out: `audio_values` with the prompt and what follows it.
The flow: semantic tokens and codes of the prompt -> semantic stage -> coarse stage -> fine stage -> codec.

Paper: AudioLM (arXiv 2209.03143): continuation, unconditional generation and acoustic generation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.utils import ModelOutput

from .continuation_audiolm import decode_continuation
from .generate_checks_audiolm import (
    check_generate_inputs,
    check_generation_memory,
    check_seed,
    require_count,
    resolve_seed,
)
from .generation_config_audiolm import AudioLMGenerationConfig
from .input_checks_audiolm import row_lengths
from .loudness_audiolm import Loudness
from .numerics_audiolm import settled
from .parts_audiolm import PartsMixin
from .sampling_audiolm import ProgressCallback, TokenSampler
from .stage_generation_audiolm import (
    TimedTokens,
    generate_coarse_codes,
    generate_fine_codes,
    generate_semantic_tokens,
)
from .token_layout_audiolm import semantic_ids


@dataclass
class AudioLMGenerateOutput(ModelOutput):
    """What [`AudioLMModel.generate`] returns. Rows are `batch * num_return_sequences`, a prompt's rows adjacent.

    Args:
        audio_values (`torch.FloatTensor` of shape `(rows, num_samples)`): prompt and continuation, zeros after the end
            of a row. The prompt's samples are those that were given.
        audio_lengths (`torch.LongTensor` of shape `(rows,)`): samples of each row.
        prompt_lengths (`torch.LongTensor` of shape `(rows,)`): of these, samples of the prompt.
        semantic_tokens (`torch.LongTensor` of shape `(rows, semantic_length)`): tokens of what the stages see of the
            prompt, and of the continuation; 0 after the end of a row.
        semantic_attention_mask (`torch.LongTensor` of shape `(rows, semantic_length)`): 1 for real tokens.
        audio_codes (`torch.LongTensor` of shape `(rows, num_codebooks, frames)`): codes of what the stages see of the
            prompt, and of the continuation; 0 after the end of a row.
        codes_attention_mask (`torch.LongTensor` of shape `(rows, frames)`): 1 for real frames.
    """

    audio_values: Tensor | None = None
    audio_lengths: Tensor | None = None
    prompt_lengths: Tensor | None = None
    semantic_tokens: Tensor | None = None
    semantic_attention_mask: Tensor | None = None
    audio_codes: Tensor | None = None
    codes_attention_mask: Tensor | None = None


@dataclass
class _Prompt:
    """A recording to continue, `(num_samples,)`; of its end tokens `(semantic_length,)`, codes `(levels, frames)`."""

    audio: Tensor
    semantic_tokens: Tensor
    audio_codes: Tensor
    loudness: Loudness = field(default_factory=Loudness)


class AudioLMGenerationMixin(PartsMixin):
    """`generate` of [`AudioLMModel`], in parts."""

    generation_config: AudioLMGenerationConfig

    @property
    def min_prompt_s(self) -> float:
        """Seconds of the shortest prompt."""
        return self.time_grid.frames_of(1) / self.acoustic_codec.frame_rate

    @torch.no_grad()
    @settled
    def generate(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        semantic_tokens: Tensor | None = None,
        semantic_attention_mask: Tensor | None = None,
        continuation_length_s: float | None = None,
        min_continuation_length_s: float | None = None,
        num_return_sequences: int = 1,
        batch_size: int | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        progress: ProgressCallback | None = None,
        generation_config: GenerationConfig | None = None,
        **stage_kwargs: Any,
    ) -> AudioLMGenerateOutput:
        """Continue prompts, generate without one, or give semantic tokens a voice.

        A prompt is brought to the loudness of the training data before it is tokenised, and the continuation back to
        the prompt's; a constant offset is taken off and added again.

        A prompt is tokenised from its end backwards, by whole semantic tokens and codec frames, as far as the longest
        window of the stages reaches. What lies before is not seen by the stages, but stays in the output. A row's
        result depends on its prompt, the seed and its number among the continuations of that prompt (among all rows,
        without prompts); not on the batch, up to round-off: with other rows beside it or other threads, a kernel may
        add up in another order, and a draw that falls on the border between two tokens (about one in a million) may
        become the other, and what follows with it.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, num_samples)`, *optional*): prompts in [-1, 1] at
                `sampling_rate`. None generates unconditionally.
            attention_mask (`torch.LongTensor` of shape `(batch, num_samples)`, *optional*): 1 for real samples, 0 for
                padding on the right.
            semantic_tokens (`torch.LongTensor` of shape `(batch, semantic_length)`, *optional*): what is to be said
                after the prompt, in the prompt's voice; tokens at the tokenizer's rate, repeats included. The
                semantic stage is not used then.
            semantic_attention_mask (`torch.LongTensor` of shape `(batch, semantic_length)`, *optional*): 1 for real
                tokens, 0 for padding on the right.
            continuation_length_s (`float`, *optional*): most seconds generated. A row is shorter if the semantic stage
                ends it.
            min_continuation_length_s (`float`, *optional*): no row ends before this many seconds.
            num_return_sequences (`int`, defaults to 1): continuations of each prompt.
            batch_size (`int`, *optional*, defaults to 1): rows to generate where there is no prompt.
            seed (`int`, *optional*): 0 or more; the same seed gives the same samples.
            generator (`torch.Generator`, *optional*): draws the seed. With neither, torch's global generator does.
            progress (`Callable[[str, int, int], None]`, *optional*): called with the stage's name, its tokens done and
                its tokens in all.
            generation_config ([`AudioLMGenerationConfig`], *optional*): in place of the model's own. What a plain
                `GenerationConfig` sets (`temperature`, `top_k`, ...) changes the model's own in all stages.
            **stage_kwargs: options of [`AudioLMGenerationConfig`], such as `coarse_temperature=0.9`; `temperature=0.9`
                is that of all stages.

        Returns:
            [`AudioLMGenerateOutput`].

        Raises:
            TypeError: if tokens are not integers or samples not floats.
            ValueError: if an option does not exist or is out of range, or a prompt is empty, not finite or too short.
        """
        lengths = {
            "continuation_length_s": continuation_length_s,
            "min_continuation_length_s": min_continuation_length_s,
        }
        given = {name: value for name, value in lengths.items() if value is not None}
        options = self.check_generate_options(
            num_return_sequences=num_return_sequences,
            seed=seed,
            generator=generator,
            progress=progress,
            generation_config=generation_config,
            **given,
            **stage_kwargs,
        )
        if semantic_tokens is not None and given:
            raise ValueError(f"{', '.join(given)} cannot be given with semantic_tokens: their number sets the length.")
        check_generate_inputs(input_values, attention_mask, semantic_tokens, semantic_attention_mask, batch_size)
        seed = resolve_seed(seed, generator)
        num_rows = next((len(rows) for rows in (input_values, semantic_tokens) if rows is not None), batch_size or 1)
        length_s = options.continuation_length_s
        if semantic_tokens is not None:
            length_s = float(semantic_tokens.shape[1] * self.time_grid.token_s)
        check_generation_memory(self, num_rows * num_return_sequences, length_s)
        spoken = self._read_tokens(semantic_tokens, semantic_attention_mask)
        prompts = self._read_prompts(input_values, attention_mask, len(spoken), batch_size)
        if spoken and len(spoken) != len(prompts):
            raise ValueError(
                f"There are {len(prompts)} prompts and {len(spoken)} rows of semantic_tokens; give as many."
            )

        rows = [prompt for prompt in prompts for _ in range(num_return_sequences)]
        indices = [index % num_return_sequences for index in range(len(rows))]
        if input_values is None and not spoken:  # rows without prompts would all be the same
            indices = list(range(len(rows)))
        if spoken:
            new_tokens = [tokens for tokens in spoken for _ in range(num_return_sequences)]
            token_s = self.time_grid.token_s
            num_samples = [round(len(tokens) * token_s * self.sampling_rate) for tokens in new_tokens]
        else:
            new_tokens, num_samples = self._continue_semantic(rows, options, [(seed, i, 0) for i in indices], progress)
        timed = [
            self._timed(row.semantic_tokens, tokens, 1.0 if spoken else self._mean_duration)
            for row, tokens in zip(rows, new_tokens, strict=True)
        ]
        codes = self._continue_codes(rows, timed, num_samples, options, seed, indices, progress)
        audio = self._decode(rows, codes, num_samples)
        return _output(rows, new_tokens, codes, audio)

    def check_generate_options(
        self,
        *,
        num_return_sequences: int = 1,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        progress: ProgressCallback | None = None,
        generation_config: GenerationConfig | None = None,
        **options: Any,
    ) -> AudioLMGenerationConfig:
        """Check options of `generate`, described there, and return how it will sample; raises what `generate` does."""
        merged = self.generation_config.with_options(generation_config, **options)
        merged.check_guidance(self.config.coarse_config)
        check_seed(seed, generator)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is a {type(progress).__name__}; give a function of stage, done and total.")
        require_count("num_return_sequences", num_return_sequences)
        return merged

    def _read_prompts(
        self, input_values: Tensor | None, attention_mask: Tensor | None, num_spoken: int, batch_size: int | None
    ) -> list[_Prompt]:
        """Check, tokenise and encode every prompt by itself, so that padding cannot reach it."""
        if input_values is None:
            empty = torch.zeros(0, dtype=torch.int64, device=self.device)
            levels = self.config.coarse_config.num_codebooks
            none = _Prompt(empty.float(), empty, empty.expand(levels, 0))
            return [none] * (num_spoken or batch_size or 1)
        recordings = _unpad(input_values.to(self.device, torch.float32), attention_mask, "attention_mask")
        return [self._read_prompt(audio, row) for row, audio in enumerate(recordings)]

    def _read_prompt(self, audio: Tensor, row: int) -> _Prompt:
        codec, grid, rate = self.acoustic_codec, self.time_grid, self.sampling_rate
        num_units = grid.whole_units(len(audio) // codec.hop_length)
        if num_units == 0:
            raise ValueError(
                f"Prompt {row} has {len(audio)} samples ({len(audio) / rate:.3f} s); a prompt needs at least "
                f"{grid.frames_of(1) * codec.hop_length} ({self.min_prompt_s:.3f} s)."
            )
        longest_s = max(stage.window_length_s for stage in self.config.stage_configs.values())
        num_frames = grid.frames_of(min(num_units, grid.units(longest_s) + 1))
        seen = audio[len(audio) - num_frames * codec.hop_length :]
        loudness = Loudness.of(seen, self.config.loudness_db, codec.hop_length)
        seen = loudness.normalise(seen)[None]
        num_seconds = grid.tokens_within(num_frames) * grid.token_s  # may end within the last frame
        tokens = self.semantic_tokenizer.tokenize(seen[:, : int(num_seconds * rate)], sampling_rate=rate)
        levels = self.config.coarse_config.num_codebooks
        codes = codec.encode(seen, num_codebooks=levels)
        return _Prompt(audio, tokens["semantic_tokens"][0], codes[0], loudness)

    def _read_tokens(self, semantic_tokens: Tensor | None, attention_mask: Tensor | None) -> list[Tensor]:
        if semantic_tokens is None:
            return []
        rows = _unpad(semantic_tokens.to(self.device), attention_mask, "semantic_attention_mask")
        for row in rows:
            semantic_ids(row, self.config.semantic_config)  # raises where a token is out of range
        return rows

    def _continue_semantic(
        self,
        rows: list[_Prompt],
        options: AudioLMGenerationConfig,
        seeds: list[tuple[int, ...]],
        progress: ProgressCallback | None,
    ) -> tuple[list[Tensor], list[int]]:
        """Run stage 1: the new tokens of each row, and the samples that they stand for."""
        shortest, longest = options.min_continuation_length_s, options.continuation_length_s
        token_rate = self.semantic_tokenizer.config.semantic_frame_rate / self._mean_duration
        num_tokens = _ceil(longest * token_rate)
        new_tokens = generate_semantic_tokens(
            self.stages["semantic"],
            [semantic_ids(row.semantic_tokens, self.semantic.config) for row in rows],
            num_tokens,
            seeds,
            TokenSampler(**options.stage_values("semantic")),
            token_rate=token_rate,
            min_tokens=min(num_tokens, _ceil(shortest * token_rate)),
            callback=progress,
        )
        most = max(1, round(longest * self.sampling_rate))
        each = self.sampling_rate / token_rate
        return new_tokens, [
            most if len(tokens) == num_tokens else min(most, round(len(tokens) * each)) for tokens in new_tokens
        ]

    @property
    def _mean_duration(self) -> float:
        """Tokenizer steps that one token of the semantic stage stands for."""
        return self.semantic.config.mean_semantic_duration if self.semantic.config.remove_repeats else 1.0

    def _continue_codes(
        self,
        rows: list[_Prompt],
        timed_tokens: list[TimedTokens],
        num_samples: list[int],
        options: AudioLMGenerationConfig,
        seed: int,
        indices: list[int],
        progress: ProgressCallback | None,
    ) -> list[Tensor]:
        """Run stage 2, and 3 if wanted: codes `(num_codebooks, frames)` of each row, the prompt's included."""
        codec = self.acoustic_codec
        known = [row.audio_codes for row in rows]
        coarse_codes = generate_coarse_codes(
            self.stages["coarse"],
            timed_tokens,
            known,
            [codes.shape[1] + _ceil(n / codec.hop_length) for codes, n in zip(known, num_samples, strict=True)],
            [(seed, index, 1) for index in indices],
            TokenSampler(**options.stage_values("coarse")),
            grid=self.time_grid,
            callback=progress,
        )
        if not options.use_fine_stage:
            return coarse_codes
        return generate_fine_codes(
            self.stages["fine"],
            coarse_codes,
            known,
            [(seed, index, 2) for index in indices],
            TokenSampler(**options.stage_values("fine")),
            frame_rate=codec.frame_rate,
            callback=progress,
        )

    def _timed(self, prompt_tokens: Tensor, new_tokens: Tensor, duration: float) -> TimedTokens:
        """Place tokens in time; new ones last `duration` steps of the tokenizer each."""
        before = torch.arange(len(prompt_tokens), dtype=torch.float64, device="cpu")
        after = len(prompt_tokens) + torch.arange(len(new_tokens), dtype=torch.float64, device="cpu") * duration
        starts = self.time_grid.frames_of_tokens(torch.cat([before, after]))
        return TimedTokens(torch.cat([prompt_tokens, new_tokens]), starts)

    def _decode(self, rows: list[_Prompt], codes: list[Tensor], num_samples: list[int]) -> list[Tensor]:
        """Put the prompt's own samples before the decoded continuation, which is as loud as they are."""
        audio: list[Tensor] = []
        for row, row_codes, count in zip(rows, codes, num_samples, strict=True):
            if count == 0:
                audio.append(row.audio)
                continue
            num_frames = row.audio_codes.shape[1]
            continuation = decode_continuation(self.acoustic_codec, row.audio, row_codes, num_frames, row.loudness)
            audio.append(torch.cat([row.audio, continuation[:count]]))
        return audio


def _output(
    rows: list[_Prompt], new_tokens: list[Tensor], codes: list[Tensor], audio: list[Tensor]
) -> AudioLMGenerateOutput:
    tokens = [torch.cat([row.semantic_tokens, new]) for row, new in zip(rows, new_tokens, strict=True)]
    audio_lengths = torch.tensor([len(row) for row in audio], device=audio[0].device)
    token_lengths = torch.tensor([len(row) for row in tokens], device=audio[0].device)
    code_lengths = torch.tensor([row.shape[1] for row in codes], device=audio[0].device)
    return AudioLMGenerateOutput(
        audio_values=_pad(audio),
        audio_lengths=audio_lengths,
        prompt_lengths=torch.tensor([len(row.audio) for row in rows], device=audio[0].device),
        semantic_tokens=_pad(tokens),
        semantic_attention_mask=_length_mask(token_lengths),
        audio_codes=_pad(codes),
        codes_attention_mask=_length_mask(code_lengths),
    )


def _pad(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows of different lengths of their last dimension, zeros on the right."""
    length = max(row.shape[-1] for row in rows)
    padded = rows[0].new_zeros(len(rows), *rows[0].shape[:-1], length)
    for place, row in zip(padded, rows, strict=True):
        place[..., : row.shape[-1]] = row
    return padded


def _length_mask(lengths: Tensor) -> Tensor:
    return (torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]).long()


def _unpad(values: Tensor, attention_mask: Tensor | None, mask_name: str) -> list[Tensor]:
    """Cut every row of `(batch, length)` to the ones of its mask."""
    lengths = row_lengths(values, attention_mask, mask_name)
    return [row[:length] for row, length in zip(values, lengths.tolist(), strict=True)]


def _ceil(count: float) -> int:
    """Round up, but not because of a float's last digits."""
    return math.ceil(count - 1e-6)


__all__ = ["AudioLMGenerateOutput", "AudioLMGenerationMixin"]
