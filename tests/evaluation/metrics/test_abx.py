# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""ABX and time warping against loop oracles and fastabx; features of phones have no error."""

import dataclasses
import json
import os
import subprocess

import numpy as np
import pytest

from audiolm_hf.evaluation.metrics.abx import AbxItem, abx_error, item_frames, triphone_items, warping_distances
from audiolm_hf.evaluation.metrics.phones import SILENCE, UNKNOWN, Phone
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


def test_warping_distances_are_the_oracle():
    generator = np.random.default_rng(0)
    rows = [generator.standard_normal((length, 3)) for length in (1, 4, 6, 3)]
    found = warping_distances(rows)
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            costs = [[1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)) for b in second] for a in first]
            expected = reference.warping_cost(costs) / (len(first) + len(second))
            assert found[i, j] == pytest.approx(expected, abs=1e-5)


def test_warping_does_not_see_speed():
    rows = np.random.default_rng(0).standard_normal((5, 8))
    assert warping_distances([rows, np.repeat(rows, 2, axis=0)])[0, 1] == pytest.approx(0, abs=1e-6)


def test_errors_are_the_oracles():
    generator = np.random.default_rng(0)
    items, ends = random_items(generator)
    features = {speaker: generator.standard_normal((length, 4)) for speaker, length in ends.items()}
    tokens = {
        speaker: np.eye(2, dtype=np.float32)[generator.integers(2, size=length)] for speaker, length in ends.items()
    }
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
    same = {speaker: np.eye(2, dtype=np.float32)[np.zeros(length, int)] for speaker, length in ends.items()}
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


FASTABX = """
import json, sys
import fastabx, numpy, torch
from fastabx.dataset import InMemoryAccessor
import polars
given, labels = numpy.load(sys.argv[1]), json.loads(sys.argv[2])
ends = given["lengths"].cumsum().tolist()
places = dict(enumerate(zip([0, *ends], ends)))
accessor = InMemoryAccessor(places, torch.from_numpy(given["rows"]), torch.device("cpu"))
dataset = fastabx.Dataset(polars.DataFrame(labels), accessor)
kinds = ({"by": ["context", "speaker"]}, {"by": ["context"], "across": ["speaker"]})
scores = [fastabx.Score(fastabx.Task(dataset, on="phone", **kind), "cosine", progress=False) for kind in kinds]
print(json.dumps([score.collapse(levels=[("context", "speaker")]) for score in scores]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("length_s", "tolerance"), [(0.1, 1e-5), (None, 0.04)])
def test_errors_are_those_of_fastabx(tmp_path, length_s, tolerance):
    """One frame each: equal. More: fastabx divides a path's cost by its length, this by both items' lengths."""
    python = os.environ.get("AUDIOLM_FASTABX_PYTHON")
    if python is None:
        pytest.skip("fastabx needs Python 3.12; give one that has fastabx 0.9 as AUDIOLM_FASTABX_PYTHON")
    generator = np.random.default_rng(0)
    items, ends = random_items(generator, 80)
    if length_s is not None:
        items = [dataclasses.replace(item, offset=item.onset + length_s) for item in items]
    rows = {speaker: generator.standard_normal((length, 4)).astype(np.float32) for speaker, length in ends.items()}
    frames = [item_frames(item, rows[item.recording], RATE) for item in items]
    np.savez(tmp_path / "items.npz", rows=np.concatenate(frames), lengths=[len(each) for each in frames])
    labels = {
        "phone": [item.phone for item in items],
        "context": ["-".join(item.context) for item in items],
        "speaker": [item.speaker for item in items],
    }
    command = [python, "-c", FASTABX, str(tmp_path / "items.npz"), json.dumps(labels)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    found = abx_error(items, rows, RATE)
    assert json.loads(output) == pytest.approx([found["within"], found["across"]], abs=tolerance)
