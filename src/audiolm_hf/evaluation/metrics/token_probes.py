# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What semantic tokens know: the words, one hopes, and not the speaker.

Tokens (or the features they quantise) come in, with words and speakers from the labels of the data; accuracies come
out. No phone labels are needed. They choose the layer and the number of centroids of a semantic tokenizer, in place
of the ABX error of AudioLM (arXiv 2209.03143), section on semantic tokens.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from torch import nn
from torch.nn.utils.rnn import pad_sequence

CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"  # the probe's alphabet; its class 0 is CTC's blank


def token_histograms(sequences: Sequence[np.ndarray], num_tokens: int) -> np.ndarray:
    """Count how often each token is used.

    Args:
        sequences (`list[np.ndarray]` of shape `(semantic_length,)`): tokens of each recording.
        num_tokens (`int`): ids are below it.

    Returns:
        `np.ndarray` of shape `(batch, num_tokens)`, float64; every row sums to 1.
    """
    counts = np.stack([np.bincount(tokens, minlength=num_tokens) for tokens in sequences])
    return counts / counts.sum(axis=1, keepdims=True)


def speaker_probe_accuracy(
    vectors: np.ndarray, speakers: Sequence[str], recordings: Sequence[str], num_folds: int = 5
) -> float:
    """Measure how well a linear classifier tells speakers apart; less is better for semantic tokens.

    Args:
        vectors (`np.ndarray` of shape `(batch, hidden_size)`): one vector per segment, such as its token histogram.
        speakers (`list[str]`): speaker of each segment.
        recordings (`list[str]`): recording of each segment; one recording is never in both training and test.
        num_folds (`int`, defaults to 5): of the cross-validation.

    Returns:
        `float`: share of segments whose speaker is found, each by a classifier that has not seen their recording.
    """
    scaled = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-12)
    classifier = LogisticRegression(C=0.01, max_iter=200)
    predicted = cross_val_predict(
        classifier, scaled, np.asarray(speakers), groups=recordings, cv=GroupKFold(num_folds)
    )
    return float((predicted == np.asarray(speakers)).mean())


def edit_distances(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the Levenshtein distance between any two token sequences.

    Args:
        sequences (`list[np.ndarray]` of shape `(semantic_length,)`): tokens of each recording, at least one each.

    Returns:
        `np.ndarray` of shape `(batch, batch)`, float32: edits divided by the longer length, 0 to 1.
    """
    padded, lengths = _pad(sequences)
    gaps = np.ones((len(sequences), len(sequences)), dtype=np.float32)

    def differ(i: int, j: int) -> np.ndarray:
        return (padded[:, None, i] != padded[None, :, j]).astype(np.float32)

    return _align(lengths, differ, gaps) / np.maximum(lengths[:, None], lengths[None, :])


def warping_distances(features: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the dynamic time warping distance between any two recordings.

    Args:
        features (`list[np.ndarray]` of shape `(frames, hidden_size)`): features of each recording.

    Returns:
        `np.ndarray` of shape `(batch, batch)`, float32: summed cosine distance along the best path, divided by the
        sum of both lengths.
    """
    unit = [rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12) for rows in features]
    padded, lengths = _pad(unit)

    def cosine_distance(i: int, j: int) -> np.ndarray:
        return (1 - padded[:, i] @ padded[:, j].T).astype(np.float32)

    return _align(lengths, cosine_distance, None) / (lengths[:, None] + lengths[None, :])


def _pad(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in rows])
    if not len(rows) or lengths.min() < 1:
        raise ValueError(f"Every one of the {len(rows)} sequences needs at least one entry; leave empty ones out.")
    padded = np.zeros((len(rows), lengths.max(), *rows[0].shape[1:]), dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded, lengths


def _align(lengths: np.ndarray, cost: Callable[[int, int], np.ndarray], gaps: np.ndarray | None) -> np.ndarray:
    """Least cost of aligning every pair at once; a step along one side alone costs `gaps`, or the cell's cost."""
    size, longest = len(lengths), int(lengths.max())
    result = np.zeros((size, size), dtype=np.float32)
    # Leading gaps: counted in an edit distance, impossible in time warping.
    edge = [0.0] + [np.inf if gaps is None else float(count) for count in range(1, longest + 1)]
    previous = [np.full((size, size), value, dtype=np.float32) for value in edge]
    for i in range(longest):
        current = [np.full((size, size), edge[i + 1], dtype=np.float32)]
        for j in range(longest):
            cell = cost(i, j)
            gap = cell if gaps is None else gaps
            best = np.minimum(np.minimum(previous[j + 1], current[j]) + gap, previous[j] + cell)
            current.append(best)
            ends = (lengths[:, None] == i + 1) & (lengths[None, :] == j + 1)
            result[ends] = best[ends]
        previous = current
    return result


def same_word_accuracy(distances: np.ndarray, words: Sequence[str], speakers: Sequence[str]) -> float:
    """Measure how often the nearest recording of another speaker says the same word; more is better.

    Args:
        distances (`np.ndarray` of shape `(batch, batch)`): between any two recordings, each of one word.
        words (`list[str]`): word of each recording.
        speakers (`list[str]`): speaker of each recording; at least two.

    Returns:
        `float`: share of recordings whose nearest neighbour among the other speakers' has their word.
    """
    if len(set(speakers)) < 2:
        raise ValueError(f"All recordings are of the speaker {speakers[0]!r}; give recordings of two or more.")
    said, voices = np.asarray(words), np.asarray(speakers)
    others = np.where(voices[:, None] == voices[None, :], np.inf, distances)
    return float((said[others.argmin(axis=1)] == said).mean())


class _CharacterProbe(nn.Module):
    """Two convolutions over token embeddings, 9 tokens each way, that spell what is said."""

    def __init__(self, num_tokens: int, hidden_size: int = 192) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, 96)
        self.layers = nn.Sequential(
            nn.Dropout(0.1),
            nn.Conv1d(96, hidden_size, 9, padding=4),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv1d(hidden_size, hidden_size, 9, padding=4),
            nn.ReLU(),
            nn.Conv1d(hidden_size, len(CHARACTERS) + 1, 1),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (batch, semantic_length) to log-probabilities (batch, semantic_length, characters)."""
        return self.layers(self.embedding(tokens).transpose(1, 2)).transpose(1, 2).log_softmax(dim=-1)


def character_probe_error_rate(
    train: tuple[Sequence[np.ndarray], Sequence[str]],
    test: tuple[Sequence[np.ndarray], Sequence[str]],
    num_tokens: int,
    num_epochs: int = 12,
    seed: int = 0,
) -> float:
    """Measure how well a small convolutional recogniser spells recordings from their tokens; less is better.

    The recogniser is trained by CTC on the transcripts. With test speakers that it never heard, it rewards tokens that
    say the same of every speaker.

    Args:
        train (`tuple` of `list[np.ndarray]` and `list[str]`): token sequences, repeats kept, and what is said.
        test (`tuple` of `list[np.ndarray]` and `list[str]`): the same of recordings to measure on.
        num_tokens (`int`): ids are below it.
        num_epochs (`int`, defaults to 12): passes over `train`.
        seed (`int`, defaults to 0): of the recogniser and of the order.

    Returns:
        `float`: edits per character of `test`; 1 is what an empty spelling gets.
    """
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        probe = _CharacterProbe(num_tokens)
        num_steps = num_epochs * -(-len(train[0]) // 8)
        optimizer = torch.optim.AdamW(probe.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=num_steps, pct_start=0.1)
        for _ in range(num_epochs):
            for rows in torch.randperm(len(train[0]), generator=order).split(8):
                optimizer.zero_grad()
                _spelling_loss(probe, [train[0][row] for row in rows], [train[1][row] for row in rows]).backward()
                nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
                optimizer.step()
                schedule.step()
    return _spelling_error_rate(probe.eval(), *test)


def _spelling_loss(probe: nn.Module, tokens: Sequence[np.ndarray], texts: Sequence[str]) -> torch.Tensor:
    inputs = pad_sequence([torch.from_numpy(row) for row in tokens], batch_first=True)
    targets = [torch.tensor(_spell(text)) for text in texts]
    return nn.functional.ctc_loss(
        probe(inputs).transpose(0, 1),
        torch.cat(targets),
        torch.tensor([len(row) for row in tokens]),
        torch.tensor([len(row) for row in targets]),
        zero_infinity=True,
    )


@torch.no_grad()
def _spelling_error_rate(probe: nn.Module, tokens: Sequence[np.ndarray], texts: Sequence[str]) -> float:
    edits, length = 0.0, 0
    for row, text in zip(tokens, texts, strict=True):
        best = probe(torch.from_numpy(row)[None])[0].argmax(dim=-1).unique_consecutive()
        found, expected = best[best != 0].numpy(), np.array(_spell(text))
        longer = max(len(found), len(expected))
        edits += edit_distances([found, expected])[0, 1] * longer if len(found) else longer
        length += len(expected)
    return float(edits / length)


def _spell(text: str) -> list[int]:
    return [CHARACTERS.index(character) + 1 for character in text.lower() if character in CHARACTERS]


__all__ = [
    "character_probe_error_rate",
    "edit_distances",
    "same_word_accuracy",
    "speaker_probe_accuracy",
    "token_histograms",
    "warping_distances",
]
