# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The windows in which a stage generates: where each begins, and the codes and semantic tokens in it.

Every row moves its window when its own is full, so that its result does not depend on the other rows, nor on when the
pieces are asked for.

Paper: AudioLM (arXiv 2209.03143), inference; windows of 30 / 10 / 3 s.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .configuration_audiolm import AudioLMStageConfig
from .sampling_audiolm import Progress, ProgressCallback
from .time_grid_audiolm import TimeGrid
from .token_feed_audiolm import Piece, Pieces, TimedTokens
from .token_layout_audiolm import codes_of_ids


def fitted_start(start: int, known: int, target: int, window: int, first: bool, context: int) -> int:
    """Move the start of a window to make room for new tokens; the end of the known ones stays as context.

    A window moves before the first token if the rest does not fit, and afterwards when it is full.
    """
    room = start + window - known
    if room >= target - known or (room > 0 and not first):
        return start
    return max(start, known - context)


def window_tokens(config: AudioLMStageConfig, frame_rate: float) -> int:
    """Return the semantic tokens, or frames, that one window of a stage holds; at least 2."""
    return max(2, int(config.window_length_s * frame_rate))


@dataclass
class CodeRows:
    """Rows whose codes a stage generates.

    Args:
        semantic_tokens ([`TimedTokens`]): of all rows, from their first frames on.
        prompt_codes (`list[torch.LongTensor]`): codes of shape `(num_codebooks, frames)` of each row's prompt.
        most_frames (`list[int]`): frames that each row can have in all.
        seeds (`list[tuple[int, ...]]`): seed and path of each row, see [`RowNoise`].
        codes (`Iterator[list[Piece]]`): codes that follow the prompts, from the stage before, if that is one of codes.
        callback (`ProgressCallback`, *optional*): called with stage, done, total.
    """

    semantic_tokens: TimedTokens
    prompt_codes: list[Tensor]
    most_frames: list[int]
    seeds: list[tuple[int, ...]]
    codes: Pieces = field(default_factory=lambda: iter(()))
    callback: ProgressCallback | None = None

    @property
    def grid(self) -> TimeGrid:
        """The times of tokens and frames."""
        return self.semantic_tokens.grid

    def progress(self, config: AudioLMStageConfig) -> Progress:
        """Return a report of the codes of a stage."""
        pairs = zip(self.most_frames, self.prompt_codes, strict=True)
        num_new = sum(max(0, most - codes.shape[1]) for most, codes in pairs)
        return Progress(self.callback, config.stage, len(config.predicted_levels) * num_new)


class CodeWindows:
    """The windows of a stage of codes, which begin where units of the grid begin, and the codes in them.

    A window that is full moves. The beginning of the first one, the anchor, stays before what is left of it.

    Args:
        config ([`AudioLMStageConfig`]): of the stage, which predicts levels from 0 on.
        given ([`CodeRows`]): the rows.
        context_share (`float`, defaults to 0.5): share of what the anchor leaves of a moved window that is context.
        first_window_s (`float`, defaults to 1000.0): most seconds of the first window that follow the prompt.
    """

    def __init__(
        self,
        config: AudioLMStageConfig,
        given: CodeRows,
        context_share: float = 0.5,
        first_window_s: float = 1000.0,
    ) -> None:
        self.config, self.given, self.grid = config, given, given.grid
        self.context_share = context_share
        self.length = self.grid.frames_of(max(2, self.grid.units(config.window_length_s)))
        self.first_length = min(self.length, self.grid.frames_of(self.grid.units(first_window_s)))
        self.codes = [codes[: len(config.predicted_levels)] for codes in given.prompt_codes]
        self.starts, self.stops = [0] * len(self.codes), [0] * len(self.codes)
        units = self.grid.units(config.anchor_length_s) if config.anchor_length_s else 0
        self.anchor_length = self.grid.frames_of(units)
        tokens = given.semantic_tokens
        self._anchors = [(codes[:, :0], *tokens.between_frames(row, 0, 0)) for row, codes in enumerate(self.codes)]

    def known(self, row: int) -> int:
        """Return how many frames of a row have codes."""
        return self.starts[row] + self.codes[row].shape[1]

    def move(self) -> list[int]:
        """Move the windows that are full, and return the rows with frames that have no codes."""
        return [row for row in range(len(self.codes)) if self._move(row)]

    def _move(self, row: int) -> bool:
        tokens, known, start = self.given.semantic_tokens, self.known(row), self.starts[row]
        first, length = known == self.given.prompt_codes[row].shape[1], self._length(row)
        most = known + (self.first_length if first else length)
        tokens.reach_frame(row, max(known, min(start + length, most)))
        if known >= tokens.num_frames(row):
            return False
        target = min(tokens.num_frames(row), most)  # tokens after `most` may have come, or not
        anchor = 0 if first or length < self.length else self.anchor_length  # that the window does not have yet
        context = int((length - anchor) * (0.5 if first else self.context_share))
        moved = self.grid.unit_start(fitted_start(start, known, target, length, first, context))
        if anchor and moved > start:
            stop = self.grid.unit_start(start + anchor)
            self._anchors[row] = (self.codes[row][:, : stop - start], *tokens.between_frames(row, start, stop))
        length = self._length(row)
        tokens.reach_frame(row, min(moved + length, most))
        self.stops[row] = min(tokens.num_frames(row), moved + length, most)
        self.codes[row], self.starts[row] = self.codes[row][:, moved - start :], moved
        tokens.forget_frames(row, moved)
        return True

    def _length(self, row: int) -> int:
        """Return the frames of a row's window that follow its anchor."""
        return self.length - self._anchors[row][0].shape[1]

    def context(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the codes in the window of a row, its semantic tokens, and their frames from its beginning."""
        codes, tokens, frames = self._anchors[row]
        new_tokens, new_frames = self.given.semantic_tokens.between_frames(row, self.starts[row], self.stops[row])
        frames = torch.cat([frames, new_frames + codes.shape[1]])
        return torch.cat([codes, self.codes[row]], 1), torch.cat([tokens, new_tokens]), frames

    def add(self, active: list[int], ids: Iterable[Tensor]) -> list[Piece]:
        """Add ids of whole frames, one after the other, to the windows of active rows; return them as pieces."""
        pieces = [Piece(codes[:, :0], True) for codes in self.codes]
        for row, row_ids in zip(active, ids, strict=True):
            codes = codes_of_ids(row_ids[None], self.config.predicted_levels, self.config)[0]
            self.codes[row] = torch.cat([self.codes[row], codes], 1)
            pieces[row] = Piece(codes, self.known(row) >= self.given.semantic_tokens.num_frames(row))
        return pieces
