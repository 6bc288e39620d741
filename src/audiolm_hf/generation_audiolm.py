# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`AudioLMModel.generate`: from a waveform to a longer waveform.

The flow: semantic tokens and codes of the prompt -> semantic stage -> coarse stage or parallel stage -> fine stage, if
there is one -> codec, with the loudness of the prompt and a continuous transition from it.

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

from .acoustic_codec_audiolm import AcousticCodec
from .config_values_audiolm import MANY
from .generate_checks_audiolm import check_generate_inputs, check_generation_memory, check_seed
from .generation_config_audiolm import AudioLMGenerationConfig
from .input_checks_audiolm import length_mask, row_lengths
from .loudness_audiolm import Loudness, soft_limit
from .numerics_audiolm import settled
from .sampling_audiolm import ProgressCallback, TokenSampler
from .stage_generation_audiolm import CodeRows, TimedTokens
from .stages_audiolm import STAGES, PartsMixin
from .token_layout_audiolm import semantic_ids

CALIBRATION_S = 10.0  # seconds of a prompt that are decoded, to compare their loudness with the prompt's


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
        """Continue prompts, generate without one, or synthesize semantic tokens in a prompt's voice.

        A prompt is tokenized from its end backwards, by whole semantic tokens and codec frames, as far as the longest
        window of the stages reaches, at the loudness of the training data; the continuation has the prompt's loudness.

        A row's result depends on its prompt, the seed and its number among the continuations of that prompt (among all
        rows, without prompts); not on the batch, up to round-off: kernels may sum in another order with other rows or
        threads, and a draw on the border between two tokens (about one in a million, often in half precision) may then
        become the other.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, num_samples)`, *optional*): prompts in [-1, 1] at
                `sampling_rate`. None generates unconditionally.
            attention_mask (`torch.LongTensor` of shape `(batch, num_samples)`, *optional*): 1 for real samples, 0 for
                padding on the right.
            semantic_tokens (`torch.LongTensor` of shape `(batch, semantic_length)`, *optional*): tokens that follow
                the prompt, at the tokenizer's rate, repeats included, in place of those of the semantic stage.
            semantic_attention_mask (`torch.LongTensor` of shape `(batch, semantic_length)`, *optional*): 1 for real
                tokens, 0 for padding on the right.
            continuation_length_s (`float`, *optional*): most seconds generated. A row is shorter if the semantic stage
                ends it.
            min_continuation_length_s (`float`, *optional*): no row ends before this many seconds.
            num_return_sequences (`int`, defaults to 1): continuations of each prompt.
            batch_size (`int`, *optional*, defaults to 1): rows to generate where there is no prompt.
            seed (`int`, *optional*): 0 or more; the same seed gives the same samples.
            generator (`torch.Generator`, *optional*): draws the seed. With neither, torch's global generator does.
            progress (`Callable[[str, int, int], None]`, *optional*): called with stage, tokens done and tokens in all.
            generation_config ([`AudioLMGenerationConfig`], *optional*): in place of the model's own. What a plain
                `GenerationConfig` sets (`temperature`, `top_k`, ...) changes the model's own in all stages.
            **stage_kwargs: options of [`AudioLMGenerationConfig`], such as `coarse_temperature=0.9`; `temperature=0.9`
                is that of all stages.

        Returns:
            [`AudioLMGenerateOutput`].

        Raises:
            TypeError: if tokens are not integers or samples not floats.
            ValueError: if an option does not exist or is out of range, a prompt is empty, not finite or too short, or
                there is not enough memory.
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
        if seed is None:
            device = "cpu" if generator is None else generator.device
            seed = int(torch.randint(2**62, (1,), generator=generator, device=device))
        num_rows = next((len(rows) for rows in (input_values, semantic_tokens) if rows is not None), batch_size or 1)
        length_s = options.continuation_length_s
        if semantic_tokens is not None:
            length_s = float(semantic_tokens.shape[1] * self.time_grid.token_s)
        check_generation_memory(self, num_rows * num_return_sequences, length_s)
        spoken = self._read_tokens(semantic_tokens, semantic_attention_mask)
        prompts = self._read_prompts(input_values, attention_mask, len(spoken), batch_size)
        if spoken and len(spoken) != len(prompts):
            raise ValueError(f"There are {len(prompts)} prompts and {len(spoken)} rows of semantic_tokens.")

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
        """Check options of `generate`, and return how it will sample."""
        own = AudioLMGenerationConfig.from_model_config(self.config).with_options(self.generation_config)
        merged = own.with_options(generation_config, **options)
        merged.check_stages(self.config)
        check_seed(seed, generator)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is a {type(progress).__name__}; give a function of stage, done and total.")
        MANY.check("num_return_sequences", num_return_sequences)
        return merged

    def _read_prompts(
        self, input_values: Tensor | None, attention_mask: Tensor | None, num_spoken: int, batch_size: int | None
    ) -> list[_Prompt]:
        """Check, tokenize and encode every prompt on its own, so that it does not depend on padding."""
        if input_values is None:
            empty = torch.zeros(0, dtype=torch.int64, device=self.device)
            none = _Prompt(empty.float(), empty, empty.expand(self.config.num_codebooks, 0))
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
        seen = loudness.normalize(seen)[None]
        num_seconds = grid.tokens_within(num_frames) * grid.token_s  # may end within the last frame
        tokens = self.semantic_tokenizer.tokenize(seen[:, : int(num_seconds * rate)], sampling_rate=rate)
        codes = codec.encode(seen, num_codebooks=self.config.num_codebooks)
        return _Prompt(audio, tokens["semantic_tokens"][0], codes[0], loudness)

    def _read_tokens(self, semantic_tokens: Tensor | None, attention_mask: Tensor | None) -> list[Tensor]:
        if semantic_tokens is None:
            return []
        rows = _unpad(semantic_tokens.to(self.device), attention_mask, "semantic_attention_mask")
        for row in rows:
            semantic_ids(row, self._semantic_stage.config)  # raises where a token is out of range
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
        stage = self._semantic_stage
        new_tokens = STAGES[stage.config.stage].generate(
            stage,
            [semantic_ids(row.semantic_tokens, stage.config) for row in rows],
            num_tokens,
            seeds,
            TokenSampler(**options.stage_values(stage.config.stage)),
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
    def _semantic_stage(self) -> Any:
        return next(iter(self.stages.values()))

    @property
    def _mean_duration(self) -> float:
        """Tokenizer steps that one token of the semantic stage stands for."""
        config = self._semantic_stage.config
        return config.mean_semantic_duration if config.remove_repeats else 1.0

    def num_generated_codebooks(self) -> int:
        """Return the leading levels of the codec that continuations are decoded from."""
        stages = self.config.stage_configs
        return max(stages[name].num_stage_codebooks for name in self.check_generate_options().used_stages(self.config))

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
        """Run the stages of codes that are wanted: `(levels, frames)` of each row, the prompt's included."""
        known, hop_length = [row.audio_codes for row in rows], self.acoustic_codec.hop_length
        num_frames = [codes.shape[1] + _ceil(n / hop_length) for codes, n in zip(known, num_samples, strict=True)]
        given = CodeRows(timed_tokens, known, num_frames, [], self.time_grid, callback=progress)
        for place, name in enumerate(options.used_stages(self.config)[1:], start=1):
            given.seeds = [(seed, index, place) for index in indices]
            given.codes = STAGES[name].generate(self.stages[name], given, TokenSampler(**options.stage_values(name)))
        return given.codes

    def _timed(self, prompt_tokens: Tensor, new_tokens: Tensor, duration: float) -> TimedTokens:
        """Place tokens in time; new ones last `duration` steps of the tokenizer each."""
        before = torch.arange(len(prompt_tokens), dtype=torch.float64, device="cpu")
        after = len(prompt_tokens) + torch.arange(len(new_tokens), dtype=torch.float64, device="cpu") * duration
        starts = self.time_grid.frames_of_tokens(torch.cat([before, after]))
        return TimedTokens(torch.cat([prompt_tokens, new_tokens]), starts)

    def _decode(self, rows: list[_Prompt], codes: list[Tensor], num_samples: list[int]) -> list[Tensor]:
        """Join the samples of the prompt and of the decoded continuation, which has the same loudness."""
        audio: list[Tensor] = []
        for row, row_codes, count in zip(rows, codes, num_samples, strict=True):
            if count == 0:
                audio.append(row.audio)
                continue
            num_frames = row.audio_codes.shape[1]
            continuation = _decode_continuation(self.acoustic_codec, row.audio, row_codes, num_frames, row.loudness)
            audio.append(torch.cat([row.audio, continuation[:count]]))
        return audio


def _output(
    rows: list[_Prompt], new_tokens: list[Tensor], codes: list[Tensor], audio: list[Tensor]
) -> AudioLMGenerateOutput:
    tokens = [torch.cat([row.semantic_tokens, new]) for row, new in zip(rows, new_tokens, strict=True)]
    audio_values, audio_lengths = _pad(audio)
    semantic_tokens, token_lengths = _pad(tokens)
    audio_codes, code_lengths = _pad(codes)
    return AudioLMGenerateOutput(
        audio_values=audio_values,
        audio_lengths=audio_lengths,
        prompt_lengths=torch.tensor([len(row.audio) for row in rows], device=audio[0].device),
        semantic_tokens=semantic_tokens,
        semantic_attention_mask=length_mask(token_lengths, semantic_tokens.shape[-1]).long(),
        audio_codes=audio_codes,
        codes_attention_mask=length_mask(code_lengths, audio_codes.shape[-1]).long(),
    )


def _pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack rows of different lengths of their last dimension, zeros on the right; return them and the lengths."""
    lengths = [row.shape[-1] for row in rows]
    padded = rows[0].new_zeros(len(rows), *rows[0].shape[:-1], max(lengths))
    for place, row, length in zip(padded, rows, lengths, strict=True):
        place[..., :length] = row
    return padded, torch.tensor(lengths, device=padded.device)


def _unpad(values: Tensor, attention_mask: Tensor | None, mask_name: str) -> list[Tensor]:
    """Cut every row of `(batch, length)` to the ones of its mask."""
    lengths = row_lengths(values, attention_mask, mask_name)
    return [row[:length] for row, length in zip(values, lengths.tolist(), strict=True)]


def _ceil(count: float) -> int:
    """Round up, but not because of a float's last digits."""
    return math.ceil(count - 1e-6)


def _decode_continuation(
    codec: AcousticCodec, prompt: Tensor, audio_codes: Tensor, num_prompt_frames: int, loudness: Loudness
) -> Tensor:
    """Return the samples `(num_new_frames * hop_length,)` that continue a prompt, `(num_samples,)`, may be empty.

    `audio_codes (num_codebooks, frames)` are those of its end, `num_prompt_frames`, and of the continuation;
    `loudness` is what was done to the prompt before it was encoded.
    """
    start = max(0, num_prompt_frames - round(CALIBRATION_S * codec.frame_rate))
    boundary = (num_prompt_frames - start) * codec.hop_length
    decoded = codec.decode(audio_codes[None, :, start:])[0]
    if boundary:
        loudness = loudness.calibrated(prompt[-boundary:], decoded[:boundary], codec.hop_length)
    return soft_limit(_join(prompt, loudness.restore(decoded), boundary, codec.hop_length))


def _join(prompt: Tensor, decoded: Tensor, boundary: int, fade_length: int) -> Tensor:
    """Return what follows `boundary` in `decoded`, made continuous with the prompt's own last sample.

    The codec's error just before the boundary, mirrored, fades out over `fade_length` samples after it.
    """
    continuation = decoded[boundary:].clone()
    length = min(fade_length, boundary, len(continuation))
    if length:
        error = prompt[-length:] - decoded[boundary - length : boundary]
        fade = torch.linspace(1, 0, length + 1, device=decoded.device, dtype=decoded.dtype)[:-1]
        continuation[:length] += error.flip(0) * fade
    return continuation
