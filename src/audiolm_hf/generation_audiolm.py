# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`AudioLMModel.generate`: from a waveform to a longer waveform.

The flow: semantic tokens and codes of the prompt -> semantic stage -> coarse stage or parallel stage -> fine stage, if
there is one -> codec, with the loudness of the prompt and a continuous transition from it.

Paper: AudioLM (arXiv 2209.03143): continuation, unconditional generation and acoustic generation.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import BaseStreamer
from transformers.utils import ModelOutput

from .config_values_audiolm import MANY, Within, plain
from .continuation_audiolm import Continuation, Prompt, regrouped
from .equalizer_audiolm import Equalizer
from .generate_checks_audiolm import (
    check_adapters,
    check_generate_inputs,
    check_generation_memory,
    check_seed,
    check_streamer,
)
from .generation_config_audiolm import AudioLMGenerationConfig, stated_options
from .input_checks_audiolm import length_mask, row_lengths
from .loudness_audiolm import Loudness
from .numerics_audiolm import settled
from .sampling_audiolm import ProgressCallback
from .stages_audiolm import PartsMixin
from .token_feed_audiolm import Piece, Pieces
from .token_layout_audiolm import semantic_ids

STREAM_MEMORY_S = 60.0  # maximum seconds of a stream that are in memory


@dataclass
class AudioLMGenerateOutput(ModelOutput):
    """Output of [`AudioLMModel.generate`], of `batch * num_return_sequences` rows; those of a prompt are adjacent.

    Args:
        audio_values (`torch.FloatTensor` of shape `(rows, num_samples)`): prompt and continuation, zeros after the end
            of a row. The prompt is returned as it was given, not resynthesized.
        audio_lengths (`torch.LongTensor` of shape `(rows,)`): number of samples of each row.
        prompt_lengths (`torch.LongTensor` of shape `(rows,)`): number of these that belong to the prompt.
        semantic_tokens (`torch.LongTensor` of shape `(rows, semantic_length)`): tokens of the end of the prompt that
            the stages are conditioned on, and of the continuation; 0 after the end of a row.
        semantic_attention_mask (`torch.LongTensor` of shape `(rows, semantic_length)`): 1 for real tokens.
        audio_codes (`torch.LongTensor` of shape `(rows, num_codebooks, frames)`): codes of the end of the prompt
            that the stages are conditioned on, and of the continuation; 0 after the end of a row.
        codes_attention_mask (`torch.LongTensor` of shape `(rows, frames)`): 1 for real frames.
    """

    audio_values: Tensor | None = None
    audio_lengths: Tensor | None = None
    prompt_lengths: Tensor | None = None
    semantic_tokens: Tensor | None = None
    semantic_attention_mask: Tensor | None = None
    audio_codes: Tensor | None = None
    codes_attention_mask: Tensor | None = None


class AudioLMGenerationMixin(PartsMixin):
    """`generate` and `stream` of [`AudioLMModel`]."""

    generation_config: AudioLMGenerationConfig

    @property
    def min_prompt_s(self) -> float:
        """Minimum length of a prompt in seconds."""
        return self.time_grid.frames_of(1) / self.acoustic_codec.frame_rate

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
        streamer: BaseStreamer | None = None,
        generation_config: GenerationConfig | None = None,
        **stage_kwargs: Any,
    ) -> AudioLMGenerateOutput:
        """Continue prompts, generate without one, or synthesize semantic tokens in a prompt's voice.

        Only the end of a prompt is tokenized: the whole semantic tokens and codec frames that the longest window of
        the stages can hold. It is first scaled to the loudness of the training data and, if the configuration has
        their spectrum, filtered to it. The continuation has the loudness and spectrum of the prompt.

        A row depends on its prompt, the seed and its index among the continuations of that prompt (without prompts,
        its index among all rows). It does not depend on the rest of the batch, except for rounding errors: with other
        rows or threads, kernels may sum in another order, which may change a draw at the boundary between two tokens
        (about one in a million, often in half precision).

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, num_samples)`, *optional*): prompts in [-1, 1] at
                `sampling_rate`. None generates unconditionally.
            attention_mask (`torch.LongTensor` of shape `(batch, num_samples)`, *optional*): 1 for real samples, 0 for
                padding on the right.
            semantic_tokens (`torch.LongTensor` of shape `(batch, semantic_length)`, *optional*): tokens of the
                continuation, at the tokenizer's rate, including repeats; they replace those of the semantic stage.
            semantic_attention_mask (`torch.LongTensor` of shape `(batch, semantic_length)`, *optional*): 1 for real
                tokens, 0 for padding on the right.
            continuation_length_s (`float`, *optional*): maximum length in seconds. A row is shorter if the semantic
                stage predicts its end.
            min_continuation_length_s (`float`, *optional*): minimum length in seconds.
            num_return_sequences (`int`, defaults to 1): continuations of each prompt.
            batch_size (`int`, *optional*, defaults to 1): number of rows to generate without prompts.
            seed (`int`, *optional*): 0 or more; the same seed gives the same samples.
            generator (`torch.Generator`, *optional*): draws the seed; torch's global generator does so if
                neither `seed` nor `generator` is given.
            progress (`Callable[[str, int, int], None]`, *optional*): called with the stage, the number of finished
                tokens and the total number of tokens.
            streamer (`BaseStreamer`, *optional*): receives the continuation of a single row while it is generated:
                `put` is called with each chunk of `stream`, and `end` after the last chunk or an error; see
                [`AudioIteratorStreamer`].
            generation_config ([`AudioLMGenerationConfig`], *optional*): replaces the model's own. A plain
                `GenerationConfig` only overrides the values that it sets (`temperature`, `top_k`, ...), in all stages.
            **stage_kwargs: options of [`AudioLMGenerationConfig`], such as `semantic_temperature=0.9`, or
                `temperature=0.9` for all stages.

        Returns:
            [`AudioLMGenerateOutput`].

        Raises:
            TypeError: if tokens are not integers or samples not floats.
            ValueError: if an option does not exist or is out of range, a prompt is empty, not finite or too short, or
                there is not enough memory.
        """
        with ExitStack() as stack:
            if callable(end := getattr(streamer, "end", None)):
                stack.callback(end)  # also after an error, so that no reader waits forever
            run = self._begin(
                input_values,
                attention_mask,
                semantic_tokens=semantic_tokens,
                semantic_attention_mask=semantic_attention_mask,
                num_return_sequences=num_return_sequences,
                batch_size=batch_size,
                seed=seed,
                generator=generator,
                progress=progress,
                streamer=streamer,
                generation_config=generation_config,
                continuation_length_s=continuation_length_s,
                min_continuation_length_s=min_continuation_length_s,
                **stage_kwargs,
            )
            tokens, codes = _Record(run.tokens.source), _Record(iter(()))
            run.tokens.source = iter(tokens)
            codes.source = run.codes(in_turn=streamer is None)
            if streamer is None:
                audio = [[*run.audio(row, codes.values(row))] for row in range(len(run.rows))]
            else:
                audio = [[]]
                for chunk in run.audio(0, codes.values(0)):
                    streamer.put(chunk)
                    audio[0].append(chunk)
            return _output(run.rows, tokens, codes, audio)

    def stream(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        chunk_s: float | None = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """Continue a prompt chunk by chunk, in memory that does not grow with the length.

        The chunks are the continuation that `generate` returns for the same inputs and seed, bit for bit. The
        prompt is read by the call itself; the stages only run when a chunk is requested, and stop when the iterator is
        closed.

        ```python
        >>> for chunk in model.stream(input_values, continuation_length_s=60, seed=0):
        ...     play(chunk)
        ```

        Args:
            input_values (`torch.FloatTensor` of shape `(1, num_samples)`, *optional*): as for `generate`, but one row.
            attention_mask (`torch.LongTensor` of shape `(1, num_samples)`, *optional*): as for `generate`.
            chunk_s (`float`, *optional*): length in seconds of each chunk except the last. By default, a chunk is what
                the codec decodes at once, beginning with 0.32 s.
            **options: those of `generate` except `streamer`, for one row.

        Returns:
            `Iterator[torch.FloatTensor]`: samples of shape `(num_samples,)`, without those of the prompt.

        Raises:
            TypeError, ValueError: as in `generate`, and if there are several rows.
        """
        chunk_s = Within(0, 1e7, above=True).check("chunk_s", chunk_s, optional=True)
        chunks = self._stream(input_values, attention_mask, **options)
        return chunks if chunk_s is None else regrouped(chunks, max(1, round(chunk_s * self.sampling_rate)))

    @settled
    def _stream(self, input_values: Tensor | None, attention_mask: Tensor | None, **options: Any) -> Iterator[Tensor]:
        run = self._begin(input_values, attention_mask, **options, bounded=True)
        return run.audio(0, (pieces[0].values for pieces in run.codes()))

    def _begin(
        self,
        input_values: Tensor | None,
        attention_mask: Tensor | None,
        *,
        semantic_tokens: Tensor | None = None,
        semantic_attention_mask: Tensor | None = None,
        num_return_sequences: int = 1,
        batch_size: int | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        streamer: BaseStreamer | None = None,
        bounded: bool = False,
        **others: Any,
    ) -> Continuation:
        """Check all arguments of `generate`, and read the prompts."""
        num_return_sequences, batch_size, seed = plain((num_return_sequences, batch_size, seed))
        others = {name: value for name, value in others.items() if value is not None}
        options = self.check_generate_options(
            num_return_sequences=num_return_sequences, seed=seed, generator=generator, **others
        )
        check_adapters(self, options)
        lengths = ("continuation_length_s", "min_continuation_length_s", "semantic_")
        stated = stated_options(others.get("generation_config"), others)
        given = [name for name in stated if name.startswith(lengths)]
        if semantic_tokens is not None and given:
            raise ValueError(
                f"{', '.join(given)} has no effect with semantic_tokens, which set the length; leave it out."
            )
        check_generate_inputs(input_values, attention_mask, semantic_tokens, semantic_attention_mask, batch_size)
        num_rows = next((len(rows) for rows in (input_values, semantic_tokens) if rows is not None), batch_size or 1)
        num_rows *= num_return_sequences
        check_streamer(streamer, num_rows, bounded)
        if seed is None:
            device = "cpu" if generator is None else generator.device
            seed = int(torch.randint(2**62, (1,), generator=generator, device=device))
        length_s = options.continuation_length_s
        if semantic_tokens is not None:
            length_s = float(semantic_tokens.shape[1] * self.time_grid.token_s)
        num_candidates = 1 if input_values is None else options.semantic_num_candidates
        kept_s = min(length_s, STREAM_MEMORY_S) if bounded else length_s
        check_generation_memory(self, num_rows, kept_s, num_candidates)
        token_rows = self._read_tokens(semantic_tokens, semantic_attention_mask)
        prompts = self._read_prompts(input_values, attention_mask, len(token_rows) or batch_size or 1, copy=bounded)
        if token_rows and len(token_rows) != len(prompts):
            raise ValueError(f"There are {len(prompts)} prompts and {len(token_rows)} rows of semantic_tokens.")
        rows = [prompt for prompt in prompts for _ in range(num_return_sequences)]
        indices = [index % num_return_sequences for index in range(len(rows))]
        if input_values is None and not token_rows:  # otherwise, all rows would be the same
            indices = list(range(len(rows)))
        new_tokens = [tokens for tokens in token_rows for _ in range(num_return_sequences)]
        return Continuation(self, rows, indices, seed, options, new_tokens, others.get("progress"))

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
        """Check options of `generate`, and return the resulting configuration."""
        is_complete = isinstance(generation_config, AudioLMGenerationConfig)
        own = AudioLMGenerationConfig.from_model_config(self.config)
        own = own.with_options(generation_config if is_complete else self.generation_config)
        changes = None if is_complete else generation_config
        merged = own.with_options(changes, **options)
        merged.check_stages(self.config, stated_options(changes, options))
        check_seed(seed, generator)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is a {type(progress).__name__}; give a function of stage, done and total.")
        MANY.check("num_return_sequences", num_return_sequences)
        return merged

    def _read_prompts(
        self, input_values: Tensor | None, attention_mask: Tensor | None, num_rows: int, copy: bool
    ) -> list[Prompt]:
        """Check, tokenize and encode every prompt on its own, so that it does not depend on padding.

        A stream needs a `copy`, because it reads the prompts again later, when the caller may have overwritten them.
        """
        if input_values is None:
            empty = torch.zeros(0, dtype=torch.int64, device=self.device)
            none = Prompt(empty.float(), empty, empty.expand(self.config.num_codebooks, 0))
            return [none] * num_rows
        # Sums over strided samples would be rounded otherwise than over a copy.
        audio_values = input_values.to(self.device, torch.float32, copy=copy).contiguous()
        recordings = _unpad(audio_values, attention_mask, "attention_mask")
        return [self._read_prompt(audio, row) for row, audio in enumerate(recordings)]

    def _read_prompt(self, audio: Tensor, row: int) -> Prompt:
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
        seen = loudness.normalize(seen)
        equalizer = Equalizer.of(seen, self.config.spectrum_db, self.config.spectrum_std_db, rate)
        seen = equalizer.apply(seen)[None]
        num_seconds = grid.tokens_within(num_frames) * grid.token_s  # may end within the last frame
        tokens = self.semantic_tokenizer.tokenize(seen[:, : int(num_seconds * rate)], sampling_rate=rate)
        codes = codec.encode(seen, num_codebooks=self.config.num_codebooks)
        return Prompt(audio, tokens["semantic_tokens"][0], codes[0], loudness, equalizer)

    def _read_tokens(self, semantic_tokens: Tensor | None, attention_mask: Tensor | None) -> list[Tensor]:
        if semantic_tokens is None:
            return []
        rows = _unpad(semantic_tokens.to(self.device, copy=True), attention_mask, "semantic_attention_mask")
        for row in rows:
            semantic_ids(row, next(iter(self.stages.values())).config)  # raises where a token is out of range
        return rows

    def num_generated_codebooks(self) -> int:
        """Return the number of levels of codes that continuations are decoded from."""
        stages = self.config.stage_configs
        return max(stages[name].num_stage_codebooks for name in self.check_generate_options().used_stages(self.config))


class _Record:
    """Yields the pieces of a stage, and keeps them."""

    def __init__(self, source: Pieces) -> None:
        self.source, self.pieces = source, list[list[Piece]]()

    def __iter__(self) -> Pieces:
        for pieces in self.source:
            self.pieces.append(pieces)
            yield pieces

    def values(self, row: int) -> Iterator[Tensor]:
        """Yield the pieces of a row, beginning with those that were already yielded."""
        yield from (pieces[row].values for pieces in [*self.pieces])
        yield from (pieces[row].values for pieces in self)


def _output(rows: list[Prompt], tokens: _Record, codes: _Record, audio: list[list[Tensor]]) -> AudioLMGenerateOutput:
    levels = [len(next(codes.values(row), prompt.audio_codes)) for row, prompt in enumerate(rows)]
    audio_values, audio_lengths = _join_rows([[row.audio, *new] for row, new in zip(rows, audio, strict=True)])
    semantic_tokens, token_lengths = _join_rows(
        [[prompt.semantic_tokens, *tokens.values(row)] for row, prompt in enumerate(rows)]
    )
    audio_codes, code_lengths = _join_rows(
        [[prompt.audio_codes[: levels[row]], *codes.values(row)] for row, prompt in enumerate(rows)]
    )
    return AudioLMGenerateOutput(
        audio_values=audio_values,
        audio_lengths=audio_lengths,
        prompt_lengths=torch.tensor([len(row.audio) for row in rows], device=audio_values.device),
        semantic_tokens=semantic_tokens,
        semantic_attention_mask=length_mask(token_lengths, semantic_tokens.shape[-1]).long(),
        audio_codes=audio_codes,
        codes_attention_mask=length_mask(code_lengths, audio_codes.shape[-1]).long(),
    )


def _join_rows(rows: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack rows of pieces, joined in their last dimension, with zeros on the right; return them and the lengths."""
    lengths, first = [sum(piece.shape[-1] for piece in row) for row in rows], rows[0][0]
    padded = first.new_zeros(len(rows), *first.shape[:-1], max(lengths))
    for place, row, length in zip(padded, rows, lengths, strict=True):
        torch.cat([*row], -1, out=place[..., :length])
    return padded, torch.tensor(lengths, device=padded.device)


def _unpad(values: Tensor, attention_mask: Tensor | None, mask_name: str) -> list[Tensor]:
    """Cut every row of `(batch, length)` to the ones of its mask."""
    lengths = row_lengths(values, attention_mask, mask_name)
    return [row[:length] for row, length in zip(values, lengths.tolist(), strict=True)]
