# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The ABX test: is a phone closer to the same phone than to another one in the same context?

An item is a triphone: a phone and its two neighbours, with the frames of all three. A and X are items of the same
triphone, and B has another phone between the same neighbours. Within speakers, A, B and X are of the same speaker;
across speakers, A and B are of one speaker, and X of another. Items are compared by dynamic time warping. The library
fastabx is not used, because it needs Python 3.12; a slow test compares this implementation with it.

Paper: AudioLM (arXiv 2209.03143), ABX of semantic and acoustic tokens; the items are those of ZeroSpeech 2021.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from audiolm_hf.evaluation.metrics.phones import SILENCE, UNKNOWN, Phone


@dataclass(frozen=True)
class AbxItem:
    """A triphone of a recording: its middle phone, the neighbours, and onset and offset of all three in seconds."""

    phone: str
    context: tuple[str, str]
    speaker: str
    recording: str
    onset: float
    offset: float


def triphone_items(phones: Sequence[Phone], speaker: str, recording: str) -> list[AbxItem]:
    """Return the triphones of one recording's phones, in order, without silence and unknown phones."""
    return [
        AbxItem(middle.label, (before.label, after.label), speaker, recording, before.onset, after.offset)
        for before, middle, after in zip(phones, phones[1:], phones[2:], strict=False)
        if not {before.label, middle.label, after.label} & {SILENCE, UNKNOWN}
    ]


def item_frames(item: AbxItem, features: np.ndarray, frame_rate: float) -> np.ndarray:
    """Return the frames of a recording's features whose centres are in an item, but at least one."""
    start, stop = (round(time * frame_rate) for time in (item.onset, item.offset))
    start = min(start, len(features) - 1)
    return features[start : max(stop, start + 1)]


def abx_error(items: Sequence[AbxItem], features: dict[str, np.ndarray], frame_rate: float) -> dict[str, float | int]:
    """Return the ABX error, from 0 (perfect) to 0.5 (chance), of all triples of items from [`triphone_items`].

    `features` are `(frames, hidden_size)` by recording, at `frame_rate` Hz; for tokens, give one-hot rows. The result
    has the error rates `within` and `across`, averaged over the pairs of phones (each over its contexts and speakers),
    NaN without triples; and the numbers of triples, `within_triples` and `across_triples`.
    """
    errors: dict[str, dict[tuple[str, str], list[float]]] = {kind: defaultdict(list) for kind in ("within", "across")}
    counts = dict.fromkeys(errors, 0)
    by_context = defaultdict(list)
    for item in items:
        by_context[item.context].append(item)
    for group in by_context.values():
        cells = _cells(group)
        if not any(cells.values()):  # no triples, as in most contexts
            continue
        distances = warping_distances([item_frames(item, features[item.recording], frame_rate) for item in group])
        for kind, found in cells.items():
            for pair, a, b, x in found:
                error, count = _cell_error(distances, a, b, x)
                errors[kind][pair].append(error)
                counts[kind] += count
    means = {
        kind: float(np.mean([np.mean(each) for each in pairs.values()])) if pairs else float("nan")
        for kind, pairs in errors.items()
    }
    return means | {f"{kind}_triples": count for kind, count in counts.items()}


def _cells(group: Sequence[AbxItem]) -> dict[str, list[tuple[tuple[str, str], list[int], list[int], list[int]]]]:
    """Return pairs of phones, and the indices of A, B and X among a context's items, within and across speakers."""
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, item in enumerate(group):
        places[item.speaker][item.phone].append(place)
    within, across = [], []
    for speaker, phones in places.items():
        for (first, a), (second, b) in permutations(phones.items(), 2):
            if len(a) > 1:
                within.append(((first, second), a, b, a))
            for other, others in places.items():
                if other != speaker and first in others:
                    across.append(((first, second), a, b, others[first]))
    return {"within": within, "across": across}


def _cell_error(distances: np.ndarray, a: list[int], b: list[int], x: list[int]) -> tuple[float, int]:
    """Return the share of triples whose X is closer to B, with half weight for ties, and the number of triples."""
    near = distances[np.ix_(a, x)][:, None, :]  # (A, 1, X)
    far = distances[np.ix_(b, x)][None, :, :]  # (1, B, X)
    wrong = (near > far) + 0.5 * (near == far)
    distinct = np.asarray(a)[:, None] != np.asarray(x)[None, :]  # A is never X itself
    keep = np.broadcast_to(distinct[:, None, :], wrong.shape)
    return float(wrong[keep].mean()), int(keep.sum())


def warping_distances(features: Sequence[np.ndarray]) -> np.ndarray:
    """Return the dynamic time warping distances `(batch, batch)`, float32, between `(frames, hidden_size)` features.

    They are the summed cosine distance along the best path, divided by the sum of both lengths.
    """
    lengths = np.array([len(rows) for rows in features])
    size, longest = len(lengths), int(lengths.max())
    padded = np.zeros((size, longest, features[0].shape[1]), dtype=features[0].dtype)
    for place, rows in enumerate(features):
        padded[place, : len(rows)] = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12)
    result = np.zeros((size, size), dtype=np.float32)
    outside = np.full((size, size), np.inf, dtype=np.float32)
    previous = [np.zeros((size, size), dtype=np.float32), *[outside] * longest]
    for i in range(longest):
        current = [outside]
        for j in range(longest):
            cost = (1 - padded[:, i] @ padded[:, j].T).astype(np.float32)
            current.append(np.minimum(np.minimum(previous[j + 1], current[j]), previous[j]) + cost)
            ends = (lengths[:, None] == i + 1) & (lengths[None, :] == j + 1)
            result[ends] = current[-1][ends]
        previous = current
    return result / (lengths[:, None] + lengths[None, :])
