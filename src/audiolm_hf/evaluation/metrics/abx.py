# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The ABX test: is a phone nearer to itself than to another phone, in the same surroundings?

In: phones of recordings and one vector for each frame; out: error rates, 0 (perfect) to 0.5 (chance). An item is a
triphone: a phone with the one before and the one after it, and all frames of the three. A and X are two items of one
triphone, B has another phone between the same two neighbours. Within speakers all three are of one speaker; across
speakers X is of another one than A and B. Items are compared by dynamic time warping.

Paper: AudioLM (arXiv 2209.03143), ABX of semantic and acoustic tokens; the items are those of ZeroSpeech 2021.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from audiolm_hf.evaluation.metrics.phones import SILENCE, UNKNOWN, Phone
from audiolm_hf.evaluation.metrics.token_probes import warping_distances


@dataclass(frozen=True)
class AbxItem:
    """A triphone of a recording.

    Args:
        phone (`str`): the phone in the middle.
        context (`tuple[str, str]`): the phones before and after it.
        speaker (`str`): who says it.
        recording (`str`): id of the recording.
        onset (`float`): where the phone before begins, in seconds.
        offset (`float`): where the phone after ends, in seconds.
    """

    phone: str
    context: tuple[str, str]
    speaker: str
    recording: str
    onset: float
    offset: float


def triphone_items(phones: Sequence[Phone], speaker: str, recording: str) -> list[AbxItem]:
    """List the items of one recording: all triphones without silence and unknown phones.

    Args:
        phones (`list[Phone]`): in order of time.
        speaker (`str`): who says them.
        recording (`str`): id of the recording.

    Returns:
        `list[AbxItem]`
    """
    return [
        AbxItem(middle.label, (before.label, after.label), speaker, recording, before.onset, after.offset)
        for before, middle, after in zip(phones, phones[1:], phones[2:], strict=False)
        if not {before.label, middle.label, after.label} & {SILENCE, UNKNOWN}
    ]


def item_frames(item: AbxItem, features: np.ndarray, frame_rate: float) -> np.ndarray:
    """Take the frames of an item, those whose middle lies in it, and at least one.

    Args:
        item ([`AbxItem`]): the item.
        features (`np.ndarray` of shape `(frames, hidden_size)`): of its recording.
        frame_rate (`float`): frames a second, Hz.

    Returns:
        `np.ndarray` of shape `(frames, hidden_size)`.
    """
    start, stop = (round(time * frame_rate) for time in (item.onset, item.offset))
    start = min(start, len(features) - 1)
    return features[start : max(stop, start + 1)]


def abx_error(items: Sequence[AbxItem], features: dict[str, np.ndarray], frame_rate: float) -> dict[str, float | int]:
    """Run the ABX test on all triples of items.

    Args:
        items (`list[AbxItem]`): from [`triphone_items`].
        features (`dict` of `np.ndarray` of shape `(frames, hidden_size)`): by recording, float; a frame's distance to
            another is the cosine distance. One-hot rows compare tokens by being equal or not.
        frame_rate (`float`): frames a second, Hz.

    Returns:
        `dict`: `within` and `across`, error rates averaged over the pairs of phones (each over its contexts and
        speakers), NaN where there is no triple; `within_triples` and `across_triples`, how many were compared.
    """
    within: dict[tuple[str, str], list[float]] = defaultdict(list)
    across: dict[tuple[str, str], list[float]] = defaultdict(list)
    counts = {"within": 0, "across": 0}
    by_context = defaultdict(list)
    for item in items:
        by_context[item.context].append(item)
    for group in by_context.values():
        cells = {"within": list(_within(group)), "across": list(_across(group))}
        if not any(cells.values()):  # most contexts: comparing their items would be in vain
            continue
        distances = warping_distances([item_frames(item, features[item.recording], frame_rate) for item in group])
        for kind, pairs in (("within", within), ("across", across)):
            for pair, a, b, x in cells[kind]:
                error, count = _cell_error(distances, a, b, x)
                pairs[pair].append(error)
                counts[kind] += count
    return {
        "within": _mean_of_pairs(within),
        "across": _mean_of_pairs(across),
        "within_triples": counts["within"],
        "across_triples": counts["across"],
    }


def _places(group: Sequence[AbxItem]) -> dict[str, dict[str, list[int]]]:
    """Places of a context's items, by speaker and phone."""
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, item in enumerate(group):
        places[item.speaker][item.phone].append(place)
    return places


def _within(group: Sequence[AbxItem]) -> Iterable[tuple[tuple[str, str], list[int], list[int], list[int]]]:
    for phones in _places(group).values():
        for first, a in phones.items():
            for second, b in phones.items():
                if first != second and len(a) > 1:
                    yield (first, second), a, b, a


def _across(group: Sequence[AbxItem]) -> Iterable[tuple[tuple[str, str], list[int], list[int], list[int]]]:
    places = _places(group)
    for speaker, phones in places.items():
        for first, a in phones.items():
            for second, b in phones.items():
                for other, others in places.items():
                    if first != second and other != speaker and first in others:
                        yield (first, second), a, b, others[first]


def _cell_error(distances: np.ndarray, a: list[int], b: list[int], x: list[int]) -> tuple[float, int]:
    """Share of triples whose X is nearer to B, a tie counting half, and how many triples there are."""
    near = distances[np.ix_(a, x)][:, None, :]  # (A, 1, X)
    far = distances[np.ix_(b, x)][None, :, :]  # (1, B, X)
    wrong = (near > far) + 0.5 * (near == far)
    distinct = np.asarray(a)[:, None] != np.asarray(x)[None, :]  # A is never X itself
    keep = np.broadcast_to(distinct[:, None, :], wrong.shape)
    return float(wrong[keep].mean()), int(keep.sum())


def _mean_of_pairs(pairs: dict[tuple[str, str], list[float]]) -> float:
    return float(np.mean([np.mean(errors) for errors in pairs.values()])) if pairs else float("nan")


def one_hot_rows(tokens: np.ndarray, num_tokens: int) -> np.ndarray:
    """Turn tokens into rows that are equal or at cosine distance 1, float32 of shape `(frames, num_tokens)`."""
    return np.eye(num_tokens, dtype=np.float32)[tokens]


__all__ = ["AbxItem", "abx_error", "item_frames", "one_hot_rows", "triphone_items"]
