# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Phones and their times from English recordings and transcripts, the labels for semantic tokens.

The aligner is PocketSphinx, whose wheel includes an acoustic model and a pronunciation dictionary (CMUdict).
"""

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import soxr
from pocketsphinx import Decoder

from audiolm_hf.data.audio import AudioSource, to_int16
from audiolm_hf.progress import progress_bar

SILENCE = "SIL"
UNKNOWN = "SPN"  # all phones of a word that is not in the dictionary
ALIGNER_SAMPLING_RATE = 16000  # of PocketSphinx's English model
_FRAME_RATE = 100  # of PocketSphinx's alignments

# A rough pronunciation by letters, for the alignment of words that are not in the dictionary. Their phones are
# UNKNOWN.
_SPELLING = {
    "tch": "CH", "igh": "AY", "th": "TH", "sh": "SH", "ch": "CH", "ph": "F", "ck": "K", "ng": "NG", "qu": "K W",
    "ee": "IY", "ea": "IY", "oo": "UW", "ou": "AW", "ow": "OW", "ai": "EY", "ay": "EY", "au": "AO", "aw": "AO",
    "oi": "OY", "oy": "OY", "er": "ER", "ar": "AA R", "or": "AO R", "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH",
    "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH", "k": "K", "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P",
    "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V", "w": "W", "x": "K S", "y": "IY", "z": "Z",
}  # fmt: skip
_SPELLING_PATTERN = re.compile("|".join(sorted(_SPELLING, key=len, reverse=True)))


@dataclass(frozen=True)
class Phone:
    """A phone (ARPABET without stress, [`SILENCE`] or [`UNKNOWN`]) with its onset and offset in seconds."""

    label: str
    onset: float
    offset: float


@dataclass
class Alignments:
    """The phones of recordings by id, in temporal order.

    `failed` has the reasons why recordings could not be aligned, and `unknown_words` the counts of words that are not
    in the dictionary, among all `num_words`.
    """

    phones: dict[str, list[Phone]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unknown_words: dict[str, int] = field(default_factory=dict)
    num_words: int = 0


def split_words(text: str) -> list[str]:
    """Return the words of a transcript, in lower case, without punctuation."""
    return [word for part in re.findall(r"[a-z']+", text.lower()) if (word := part.strip("'"))]


def spelling_pronunciation(word: str) -> str:
    """Return approximate phones of a word from its letters, in ARPABET, separated by spaces."""
    return " ".join(_SPELLING[part] for part in _SPELLING_PATTERN.findall(word))


class PhoneAligner:
    """Align English recordings with their transcripts."""

    def __init__(self) -> None:
        # Normalize each recording separately, so that alignments do not depend on earlier recordings. Use wide beams
        # and no second search of the word lattice, with which a fifth of the recordings cannot be aligned.
        self._decoder = Decoder(
            lm=None, cmn="batch", bestpath=False, beam=1e-100, pbeam=1e-100, wbeam=1e-80, loglevel="FATAL"
        )
        self._unknown: set[str] = set()

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of a transcript that are not in the dictionary, with repetitions."""
        return [word for word in split_words(text) if self._is_unknown(word)]

    def _is_unknown(self, word: str) -> bool:
        if word not in self._unknown and self._decoder.lookup_word(word) is None:
            self._decoder.add_word(word, spelling_pronunciation(word), True)
            self._unknown.add(word)
        return word in self._unknown

    def align(self, array: np.ndarray, sampling_rate: int, text: str) -> list[Phone]:
        """Return the phones of a transcript with their times, including silences, without gaps."""
        words = split_words(text)
        if not words:
            raise ValueError(f"The transcript {text!r} has no words; give what is said.")
        for word in words:
            self._is_unknown(word)  # adds it
        if sampling_rate != ALIGNER_SAMPLING_RATE:
            array = soxr.resample(array, sampling_rate, ALIGNER_SAMPLING_RATE)
        samples = to_int16(array).tobytes()
        self._decoder.set_align_text(" ".join(words))
        self._pass(samples)  # words
        if self._decoder.hyp() is None:
            raise ValueError(f"The words {text[:60]!r} are not found in the recording; check the transcript.")
        self._decoder.set_alignment()
        self._pass(samples)  # phones of those words
        return self._phones()

    def _pass(self, samples: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(samples, full_utt=True)
        self._decoder.end_utt()

    def _phones(self) -> list[Phone]:
        phones = []
        for word in self._decoder.get_alignment():
            name = word.name.partition("(")[0]  # "to(3)" is the third pronunciation of "to"
            for phone in word:
                label = SILENCE if name.startswith("<") else UNKNOWN if name in self._unknown else phone.name
                start, stop = phone.start, phone.start + phone.duration
                phones.append(Phone(label, start / _FRAME_RATE, stop / _FRAME_RATE))
        return phones


def align_recordings(source: AudioSource) -> Alignments:
    """Align recordings with their transcripts (`text`); an error is raised if none can be aligned."""
    aligner = PhoneAligner()
    result = Alignments()
    unknown: Counter[str] = Counter()
    for record in progress_bar(source, desc="align", unit="recording"):
        unknown.update(aligner.unknown_words(record.text))
        result.num_words += len(split_words(record.text))
        try:
            result.phones[record.id] = aligner.align(record.array, record.sampling_rate, record.text)
        except (ValueError, RuntimeError) as error:
            result.failed[record.id] = str(error)
    result.unknown_words = dict(unknown)
    if not result.phones:
        raise ValueError(
            f"None of the {len(source)} recordings could be aligned ({next(iter(result.failed.values()), '')}); give "
            "English recordings whose `text` is what is said."
        )
    return result


def phone_labels(phones: list[Phone], num_frames: int, frame_rate: float) -> np.ndarray:
    """Return the phone at the centre of every frame, `(frames,)` of `str`; [`UNKNOWN`] outside of all phones."""
    middles = (np.arange(num_frames) + 0.5) / frame_rate
    labels = np.full(num_frames, UNKNOWN, dtype="<U8")
    for phone in phones:
        labels[(middles >= phone.onset) & (middles < phone.offset)] = phone.label
    return labels
