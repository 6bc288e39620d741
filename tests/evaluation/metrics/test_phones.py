# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Alignments of a real recording: phones of the words said, in order, of plausible length; the errors."""

import itertools
import json

import numpy as np
import pytest
import soundfile as sf
import soxr

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.metrics.phones import (
    SILENCE,
    UNKNOWN,
    Phone,
    PhoneAligner,
    align_recordings,
    phone_labels,
    spelling_pronunciation,
    split_words,
)
from tests.helpers_sounds import EXAMPLES, RATE

TEXT = "Catherine grows quite a good looking girl, she is almost"
GROWS_QUITE = ["G", "R", "OW", "Z", "K", "W", "AY", "T"]


@pytest.fixture(scope="module")
def speech():
    return sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0]


@pytest.fixture(scope="module")
def aligner():
    return PhoneAligner()


@pytest.fixture(scope="module")
def phones(aligner, speech):
    return aligner.align(speech, RATE, TEXT)


def test_words_are_lower_case_without_punctuation():
    assert split_words("'Tis DON'T, well-known.") == ["tis", "don't", "well", "known"]


def test_spelling_gives_phones_of_every_letter():
    assert spelling_pronunciation("khazars") == "K HH AE Z AA R S"
    assert spelling_pronunciation("thatch") == "TH AE CH"


def test_phones_follow_the_words(phones, speech):
    said = [phone.label for phone in phones if phone.label != SILENCE]
    assert " ".join(GROWS_QUITE) in " ".join(said)
    assert said[:3] == ["K", "AE", "TH"]
    assert phones[0].onset == 0
    assert all(before.offset == after.onset for before, after in itertools.pairwise(phones))
    assert phones[-1].offset == pytest.approx(len(speech) / RATE, abs=0.05)
    lengths = [phone.offset - phone.onset for phone in phones if phone.label != SILENCE]
    assert 0.05 < np.mean(lengths) < 0.12
    assert max(lengths) < 0.5


def test_silences_are_quiet(phones, speech):
    def level(wanted):
        spans = [(p.onset, p.offset) for p in phones if (p.label == SILENCE) == wanted]
        parts = [speech[round(a * RATE) : round(b * RATE)] for a, b in spans]
        return 10 * np.log10(np.mean(np.concatenate(parts) ** 2))

    assert level(True) < level(False) - 6


def test_alignment_does_not_depend_on_what_came_before(aligner, phones, speech):
    with pytest.raises((ValueError, RuntimeError)):
        aligner.align(np.zeros(1600, np.float32), RATE, TEXT)
    assert aligner.align(speech, RATE, TEXT) == phones


def test_other_rates_are_resampled(aligner, phones, speech):
    found = aligner.align(soxr.resample(speech, RATE, 8000), 8000, TEXT)
    both = list(zip(found, phones, strict=False))
    assert np.mean([a.label == b.label and abs(a.onset - b.onset) < 0.1 for a, b in both]) > 0.7


def test_words_outside_the_dictionary_are_unknown_phones(aligner, speech):
    first = split_words(TEXT)[0]
    text = TEXT.lower().replace(first, "zqxblor", 1)
    assert aligner.unknown_words(text) == ["zqxblor"]
    found = [phone.label for phone in aligner.align(speech, RATE, text) if phone.label != SILENCE]
    assert found[0] == UNKNOWN
    assert UNKNOWN not in found[10:]


def test_empty_transcripts_are_refused(aligner, speech):
    with pytest.raises(ValueError, match="has no words"):
        aligner.align(speech, RATE, " ...")


def test_labels_are_those_at_the_middle_of_a_frame():
    phones = [Phone("A", 0.0, 0.05), Phone("B", 0.05, 0.1)]
    assert phone_labels(phones, 5, 40.0).tolist() == ["A", "A", "B", "B", UNKNOWN]


def test_recordings_that_cannot_be_aligned_are_listed(tmp_path, speech, phones):
    sf.write(tmp_path / "a.wav", speech, RATE, subtype="PCM_16")
    sf.write(tmp_path / "b.wav", speech[:RATE], RATE, subtype="PCM_16")
    rows = [{"path": "a.wav", "text": TEXT}, {"path": "b.wav", "text": ""}]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = AudioSource(tmp_path / "list.jsonl", RATE)
    result = align_recordings(source)
    assert [phone.label for phone in result.phones[source.ids[0]]] == [phone.label for phone in phones]
    assert list(result.failed) == [source.ids[1]]
    assert result.num_words == len(split_words(TEXT))
    with pytest.raises(ValueError, match="None of the 1 recordings could be aligned"):
        align_recordings(AudioSource(tmp_path / "b.wav", RATE))
