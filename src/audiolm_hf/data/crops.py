# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""From token datasets to the batches that a stage is trained on: crops, sequences, padding.

Every batch depends only on the seed and its number, so that training resumes exactly without saved state. A crop is
measured in units of the grid of both tokenizers, see [`~audiolm_hf.time_grid_audiolm.TimeGrid`] (40 ms at 25 and
50 Hz).

Paper: AudioLM (arXiv 2209.03143), crops of 30, 10 and 3 s for the three stages.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from audiolm_hf.configuration_audiolm import AudioLMStageConfig
from audiolm_hf.data.tokens import TokenDataset, TokenInfo, TokenRecord
from audiolm_hf.time_grid_audiolm import TimeGrid
from audiolm_hf.token_layout_audiolm import (
    IGNORE_INDEX,
    SEMANTIC_LEVEL,
    build_stage_example,
    hide_codes,
    pad_examples,
    token_levels,
)

ANCHOR_SHARE = 0.5  # share of the crops whose anchor is taken from elsewhere in the recording
# Crops are drawn up to this share of a window beyond the ends of a record, and then moved inside, so that its ends are
# drawn as often as the rest.
EDGE_SHARE = 0.5
BATCHES_PER_SORT = 64  # number of batches whose crops are sorted by length together


@dataclass(frozen=True)
class Crop:
    """A piece of a record: grid units `start` to `start + length`."""

    record: int
    start: int
    length: int

    def tokens(self, grid: TimeGrid) -> slice:
        """Return the slice of the crop's semantic tokens, which may extend beyond the end of the record."""
        return slice(grid.tokens_before(self.start), grid.tokens_before(self.start + self.length))

    def frames(self, grid: TimeGrid) -> slice:
        """Return the slice of the crop's frames, which may extend beyond the end of the record."""
        return slice(grid.frames_before(self.start), grid.frames_before(self.start + self.length))


def record_units(record: TokenRecord, grid: TimeGrid) -> int:
    """Return the number of grid units of a record, including a last one that is partly filled."""
    return grid.units_of(len(record.semantic_tokens), record.audio_codes.shape[1])


def random_crops(units: Sequence[int], window: int, rng: np.random.Generator) -> list[Crop]:
    """Draw an epoch's crops, in grid units: from each record, about as many windows as fit, at random positions."""
    crops = []
    for record, length in enumerate(units):
        room = length - window
        if room <= 0:
            crops.append(Crop(record, 0, length))
            continue
        count = int(length / window + rng.random())
        edge = EDGE_SHARE * window
        places = (np.arange(count) + rng.random(count)) / count * (room + 2 * edge) - edge
        crops += [Crop(record, int(place), window) for place in np.clip(np.round(places), 0, room)]
    return crops


def split_crop(crop: Crop, units: int, anchor: int, rng: np.random.Generator) -> list[Crop]:
    """Replace the first `anchor` grid units of a crop with others of its record (of `units`) before or after the rest.

    In generation, too, every window but the first begins with an anchor (see `anchor_length_s` of
    [`AudioLMStageConfig`]). A share of the crops, and those that are not longer than an anchor, are left unchanged.
    """
    if rng.random() >= ANCHOR_SHARE or crop.length <= anchor:
        return [crop]
    rest = Crop(crop.record, crop.start + anchor, crop.length - anchor)
    place = int(rng.integers(crop.start + 1 + max(0, units - anchor - rest.start - rest.length + 1)))
    start = place if place <= crop.start else rest.start + rest.length + place - crop.start - 1
    return [Crop(crop.record, start, anchor), rest]


def build_example(
    record: TokenRecord,
    crops: Sequence[Crop],
    grid: TimeGrid,
    config: AudioLMStageConfig,
    drop_condition: bool = False,
) -> dict[str, Tensor]:
    """Build `input_ids` and `labels`, `(sequence_length,)`, from crops of tokens and codes that are concatenated."""
    tokens = np.concatenate([record.semantic_tokens[crop.tokens(grid)] for crop in crops])
    codes = np.concatenate([record.audio_codes[:, crop.frames(grid)] for crop in crops], axis=1)
    semantic_tokens, audio_codes = (torch.from_numpy(ids.astype(np.int64)) for ids in (tokens, codes))
    ends_recording = record.ends_recording and crops[-1].start + crops[-1].length >= record_units(record, grid)
    return build_stage_example(
        config, semantic_tokens, audio_codes, ends_recording=ends_recording, drop_condition=drop_condition
    )


def corrupt_inputs(input_ids: Tensor, config: AudioLMStageConfig, share: float, rng: np.random.Generator) -> Tensor:
    """Replace a share of the input ids by random ids of the same level; special tokens and the condition stay.

    In training, a stage is conditioned on real codes, but in generation on its own. A small dataset is also memorized
    early. Noise in the inputs reduces both problems, and makes the stage use the condition, which it could nearly do
    without if all previous codes were clean.
    """
    if share == 0:
        return input_ids
    levels = token_levels(input_ids, config)
    replaced = torch.from_numpy(rng.random(input_ids.shape) < share) & (input_ids < config.begin_token_id)
    replaced &= torch.isin(levels, torch.tensor(config.predicted_levels))
    draws = torch.from_numpy(rng.random(input_ids.shape))
    semantic = (draws * config.num_semantic_tokens).long()
    codes = config.acoustic_offset + levels * config.codebook_size + (draws * config.codebook_size).long()
    return torch.where(replaced, torch.where(levels == SEMANTIC_LEVEL, semantic, codes), input_ids)


@dataclass(eq=False)
class StageBatches(Dataset):
    """The batches of one stage, each split into `parts`; they depend only on the seed and their number.

    Crops of similar length share a batch, so that little of it is padding. Item `i` is part `i % parts` of batch
    `i // parts`. Processes and accumulation steps each take parts, so that the training does not depend on how many
    of them there are.
    """

    tokens: TokenDataset  # the records
    config: AudioLMStageConfig  # the stage; its `window_length_s` is the length of a crop
    batch_tokens: int  # maximum ids in a batch, including padding; a longer sequence is one batch
    num_batches: int  # number of batches
    seed: int = 0  # of crops, order, corruption and dropped conditions
    corruption: float = 0.0  # share of input ids replaced, see [`corrupt_inputs`]
    condition_dropout: float = 0.0  # share of coarse sequences without semantic tokens
    parts: int = 1  # number of parts of each batch

    def __post_init__(self) -> None:
        check_agreement(self.tokens.info, self.config)
        self.grid = self.tokens.info.grid
        self._lengths = SequenceLengths(self.tokens, self.grid, self.config)
        self._first_batches = [0]  # number of the first batch of each epoch planned so far, and of the next epoch
        self._plan: tuple[int, list[list[Crop]]] = (-1, [])

    def __len__(self) -> int:
        return self.num_batches * self.parts

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Build part `index % parts` of a batch, see [`pad_examples`]; an empty part has a sequence without labels."""
        number, part = divmod(index, self.parts)
        crops = self._find(number)
        examples = [self._example(number, row, crops[row]) for row in range(part, len(crops), self.parts)]
        if not examples:
            idle = self._example(number, 0, crops[0])
            examples = [idle | {"labels": torch.full_like(idle["labels"], IGNORE_INDEX)}]
        return pad_examples(examples, self.config)

    def _example(self, number: int, row: int, crop: Crop) -> dict[str, Tensor]:
        """Build one row of a batch; its random numbers depend only on the seed and its position."""
        rng = np.random.default_rng([self.seed, 1, number, row])
        drop = rng.random() < self.condition_dropout
        crops = [crop]
        if self.config.anchor_length_s:
            units, anchor = self._lengths.units[crop.record], self.grid.units(self.config.anchor_length_s)
            crops = split_crop(crop, units, anchor, rng)
        example = build_example(self.tokens[crop.record], crops, self.grid, self.config, drop)
        example = hide_codes(example, self.config, rng)
        return example | {"input_ids": corrupt_inputs(example["input_ids"], self.config, self.corruption, rng)}

    def _find(self, number: int) -> list[Crop]:
        while number >= self._first_batches[-1]:
            self._first_batches.append(self._first_batches[-1] + len(self._epoch(len(self._first_batches) - 1)))
        epoch = bisect_right(self._first_batches, number) - 1
        return self._epoch(epoch)[number - self._first_batches[epoch]]

    def _epoch(self, epoch: int) -> list[list[Crop]]:
        """All batches of an epoch, shuffled; the last planned epoch is kept."""
        if self._plan[0] != epoch:
            rng = np.random.default_rng([self.seed, 0, epoch])
            crops = random_crops(self._lengths.units, self.grid.units(self.config.window_length_s), rng)
            crops = [crops[place] for place in rng.permutation(len(crops))]
            batches = group_by_length(crops, self._lengths, self.batch_tokens)
            self._plan = (epoch, [batches[place] for place in rng.permutation(len(batches))])
        return self._plan[1]


class SequenceLengths:
    """Counts the ids of a crop's sequence without building it; the records are read once, in their order."""

    def __init__(self, tokens: Iterable[TokenRecord], grid: TimeGrid, config: AudioLMStageConfig) -> None:
        self.grid, self.config = grid, config
        self.units: list[int] = []  # grid units of each record
        self._sizes: list[tuple[int, int]] = []  # semantic tokens and frames of each record
        self._changes: list[np.ndarray] = []  # one bit per token: whether it differs from the previous one
        for record in tokens:
            self.units.append(record_units(record, grid))
            self._sizes.append((len(record.semantic_tokens), record.audio_codes.shape[1]))
            if config.remove_repeats:
                self._changes.append(np.packbits(np.diff(record.semantic_tokens, prepend=-1) != 0))

    def __call__(self, crop: Crop) -> int:
        """Count the ids of one crop, special tokens included."""
        frames, tokens = crop.frames(self.grid), crop.tokens(self.grid)
        num_tokens, num_frames = self._sizes[crop.record]
        last = min(tokens.stop, num_tokens)
        semantic = last - tokens.start
        if self.config.remove_repeats:
            semantic = 1 + int(np.unpackbits(self._changes[crop.record])[tokens.start + 1 : last].sum())
        return self.config.sequence_length(semantic, min(frames.stop, num_frames) - frames.start)


def longest_sequence(info: TokenInfo, config: AudioLMStageConfig) -> int:
    """Count the ids of the longest possible training sequence: a whole window in which no token repeats."""
    units = info.grid.units(config.window_length_s)
    return config.sequence_length(info.grid.tokens_of(units), info.grid.frames_of(units))


def group_by_length(crops: Sequence[Crop], lengths: Callable[[Crop], int], batch_tokens: int) -> list[list[Crop]]:
    """Split crops into batches of similar length and at most `batch_tokens` ids; a longer crop is one batch."""
    sizes = [lengths(crop) for crop in crops]
    stride = max(1, int(BATCHES_PER_SORT * batch_tokens * len(crops) / sum(sizes)))
    batches: list[list[Crop]] = []
    for start in range(0, len(crops), stride):
        batch: list[Crop] = []
        longest = 0
        for place in sorted(range(start, min(start + stride, len(crops))), key=lambda place: -sizes[place]):
            if batch and (len(batch) + 1) * longest > batch_tokens:
                batches.append(batch)
                batch = []
            longest = longest if batch else sizes[place]
            batch.append(crops[place])
        batches.append(batch)
    return batches


def validation_batches(tokens: TokenDataset, config: AudioLMStageConfig, batch_tokens: int) -> list[dict[str, Tensor]]:
    """Build batches of all records in consecutive windows; for the parallel stage, once for each level to mask."""
    check_agreement(tokens.info, config)
    grid = tokens.info.grid
    window, lengths = grid.units(config.window_length_s), SequenceLengths(tokens, grid, config)
    crops = [
        Crop(record, start, min(window, length - start))
        for record, length in enumerate(lengths.units)
        for start in range(0, length, window)
    ]

    def build(crop: Crop, level: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([crop.record, crop.start, level])
        return hide_codes(build_example(tokens[crop.record], [crop], grid, config), config, rng, level)

    return [
        pad_examples([build(crop, level) for crop in batch], config)
        for batch in group_by_length(crops, lengths, batch_tokens)
        for level in range(len(config.predicted_levels) if config.layout.parallel else 1)
    ]


def check_agreement(info: TokenInfo, config: AudioLMStageConfig) -> None:
    """Check that a stage's vocabulary, including any codes, is that of a token dataset."""
    pairs = {"num_semantic_tokens": (config.num_semantic_tokens, info.num_semantic_tokens)}
    if config.num_stage_codebooks:
        pairs["codebook_size"] = (config.codebook_size, info.codebook_size)
    if config.num_stage_codebooks > info.num_codebooks:
        pairs["num_codebooks"] = (config.num_stage_codebooks, info.num_codebooks)
    for name, (given, expected) in pairs.items():
        if given != expected:
            raise ValueError(f"The stage has {name} = {given}, but its tokens {expected}; make them agree.")
