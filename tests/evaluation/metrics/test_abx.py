# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""ABX against the loop oracle; features that know the phone have no error, features that know the voice have much."""

import numpy as np
import pytest

from audiolm_hf.evaluation.metrics.abx import AbxItem, abx_error, item_frames, one_hot_rows, triphone_items
from audiolm_hf.evaluation.metrics.phones import SILENCE, UNKNOWN, Phone
from audiolm_hf.evaluation.metrics.token_probes import warping_distances
from tests import reference

RATE = 10.0


def random_items(generator, count=40):
    """Items one after the other, each of one to three frames, in a recording for each speaker."""
    items, ends = [], {"s": 0, "t": 0, "u": 0}
    for _ in range(count):
        speaker = str(generator.choice(list(ends)))
        onset = ends[speaker] / RATE
        ends[speaker] += int(generator.integers(1, 4))
        context = (str(generator.choice(list("xy"))), "z")
        items.append(
            AbxItem(str(generator.choice(list("abc"))), context, speaker, speaker, onset, ends[speaker] / RATE)
        )
    return items, ends


def test_errors_are_the_oracles():
    generator = np.random.default_rng(0)
    items, ends = random_items(generator)
    features = {speaker: generator.standard_normal((length, 4)) for speaker, length in ends.items()}
    tokens = {speaker: one_hot_rows(generator.integers(2, size=length), 2) for speaker, length in ends.items()}
    for rows in (features, tokens):  # tokens give ties
        distances = warping_distances([item_frames(item, rows[item.recording], RATE) for item in items])
        plain = [(item.phone, item.context, item.speaker) for item in items]
        found = abx_error(items, rows, RATE)
        for name, across in (("within", False), ("across", True)):
            expected = reference.abx_error(plain, lambda i, j: distances[i, j], across)  # noqa: B023
            assert found[name] == pytest.approx(expected), name
        assert found["within_triples"] > 100 < found["across_triples"]


def test_phones_are_heard_and_voices_are_not():
    generator = np.random.default_rng(1)
    items, ends = random_items(generator, 60)
    by_phone = {speaker: np.zeros((length, 3)) for speaker, length in ends.items()}
    for item in items:
        item_frames(item, by_phone[item.recording], RATE)[:] = np.eye(3)["abc".index(item.phone)]
    found = abx_error(items, by_phone, RATE)
    assert found["within"] == found["across"] == 0
    deaf = {speaker: generator.standard_normal((length, 8)) for speaker, length in ends.items()}
    assert abx_error(items, deaf, RATE)["across"] == pytest.approx(0.5, abs=0.1)
    same = {speaker: one_hot_rows(np.zeros(length, int), 2) for speaker, length in ends.items()}
    assert abx_error(items, same, RATE)["within"] == 0.5


def test_without_triples_there_is_no_rate():
    items = [AbxItem("a", ("x", "y"), "s", "r", 0.0, 0.1), AbxItem("b", ("x", "y"), "s", "r", 0.1, 0.2)]
    found = abx_error(items, {"r": np.ones((2, 2))}, RATE)
    assert np.isnan(found["within"]) and np.isnan(found["across"]) and found["within_triples"] == 0


def test_items_are_triphones_without_silence():
    labels = ["A", "B", "C", SILENCE, "D", "E", UNKNOWN, "F", "G", "H"]
    phones = [Phone(label, place / 10, (place + 1) / 10) for place, label in enumerate(labels)]
    found = triphone_items(phones, "s", "r")
    assert [(item.phone, item.context) for item in found] == [("B", ("A", "C")), ("G", ("F", "H"))]
    assert found[0].onset == 0.0 and found[0].offset == pytest.approx(0.3)


def test_every_item_has_a_frame():
    features = np.arange(5)[:, None]
    assert item_frames(AbxItem("a", ("x", "y"), "s", "r", 0.12, 0.38), features, RATE)[:, 0].tolist() == [1, 2, 3]
    assert item_frames(AbxItem("a", ("x", "y"), "s", "r", 0.21, 0.22), features, RATE)[:, 0].tolist() == [2]
    assert item_frames(AbxItem("a", ("x", "y"), "s", "r", 0.6, 0.9), features, RATE)[:, 0].tolist() == [4]
