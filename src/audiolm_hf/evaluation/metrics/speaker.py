# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Speaker embeddings of recordings, the identification of a prompt's speaker, and a speaker probe on tokens.

Paper: AudioLM (arXiv 2209.03143), table III: a classifier identifies the prompt's speaker in 92.6 % of the
continuations. Here, the speaker with the nearest embedding among those of the given recordings is identified.

The embeddings are those of resemblyzer (trained for speaker verification, GE2E). It depends on `webrtcvad`, which has
no wheels. The extra `evaluation` has `webrtcvad-wheels` instead, so that resemblyzer has to be installed separately.
"""

import importlib.util
import warnings
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import soxr
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.progress import progress_bar

INSTALL_COMMAND = "pip install --no-deps resemblyzer==0.1.4"
SPEAKER_SAMPLING_RATE = 16000  # resemblyzer
_DETECTOR_WINDOW = 480  # samples of its voice activity detector
_LOUDNESS_DB = -30.0  # resemblyzer: quieter recordings are raised to this RMS
RECORDINGS_PER_SPEAKER = 8  # enough for a stable mean embedding
_LONGEST_S = 10.0  # of each recording that are embedded
SEGMENT_LENGTH_S = 3.0  # of the speaker probe: the length of a prompt
_NUM_FOLDS = 5  # of its cross-validation
_MIN_VOICED_S = 0.1  # minimum length of voiced audio for an embedding


def speaker_embedding_is_available() -> bool:
    """Return whether resemblyzer and the voice activity detector it needs are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("resemblyzer", "webrtcvad", "librosa"))


class SpeakerEmbedder:
    """Speaker embeddings from resemblyzer; raises an `ImportError` if it is not installed."""

    def __init__(self) -> None:
        if not speaker_embedding_is_available():
            raise ImportError(
                "Speaker embeddings need resemblyzer, which is not installed: pip install '.[evaluation]' -c "
                f"constraints.txt, in the folder of the repository, then {INSTALL_COMMAND}",
                name="resemblyzer",
            )
        with warnings.catch_warnings():  # resemblyzer imports a deprecated name of scipy
            warnings.simplefilter("ignore", DeprecationWarning)
            from resemblyzer import VoiceEncoder, trim_long_silences
        self._network = VoiceEncoder("cpu", verbose=False).eval()
        self._trim_long_silences = trim_long_silences

    @torch.inference_mode()
    def embed(self, array: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Return the embedding `(256,)`, float32, with norm 1, of a recording `(num_samples,)` of 1 s or more.

        Long silences are removed first. If less than 0.1 s of voice is detected, nothing is removed, and the embedding
        is far from that of any voice.
        """
        _, partials, _ = self._network.embed_utterance(self._voiced(array, sampling_rate), return_partials=True)
        mean = np.nan_to_num(partials).mean(axis=0)  # the network divides by the norm of its output, which can be 0
        return (mean / max(float(np.linalg.norm(mean)), 1e-6)).astype(np.float32)

    def _voiced(self, array: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Return the recording at the network's sampling rate and loudness, without long silences."""
        if sampling_rate != SPEAKER_SAMPLING_RATE:
            array = soxr.resample(array, sampling_rate, SPEAKER_SAMPLING_RATE)
        rms = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
        # Scale to the loudness, but not beyond the range of the detector's 16-bit samples.
        gain = max(1.0, 10 ** (_LOUDNESS_DB / 20) / max(rms, 1e-9))
        loud = np.clip(array * min(gain, 1e5), -1.0, 1.0).astype(np.float32)
        if len(loud) < _DETECTOR_WINDOW:  # shorter than the detector's window
            return loud
        voiced = self._trim_long_silences(loud)
        return voiced if len(voiced) >= _MIN_VOICED_S * SPEAKER_SAMPLING_RATE else loud


def speaker_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine similarity of two embeddings: in LibriSpeech, about 0.89 within and 0.56 across speakers."""
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))


class SpeakerVerifier:
    """Compare continuations with the speakers of recordings, by mean embeddings."""

    def __init__(self, embedder: SpeakerEmbedder, source: AudioSource) -> None:
        self.embedder = embedder
        self._known: dict[str, dict[str, np.ndarray]] = defaultdict(dict)  # speaker -> recording -> vector
        for record in progress_bar(source, desc="speakers", unit="recording"):
            if len(self._known[record.speaker]) < RECORDINGS_PER_SPEAKER:
                array = record.array[: round(_LONGEST_S * record.sampling_rate)]
                self._known[record.speaker][record.id] = embedder.embed(array, record.sampling_rate)
        self.num_speakers = len(self._known)

    def references(self, without: str) -> tuple[list[str], np.ndarray]:
        """Return the speakers and their mean embeddings, `(num_speakers, 256)`.

        The prompt's recording `without` is excluded, because its room acoustics would identify it, and so are speakers
        who have no other recording.
        """
        means = {
            speaker: np.mean([vector for name, vector in vectors.items() if name != without], axis=0)
            for speaker, vectors in self._known.items()
            if set(vectors) - {without}
        }
        return list(means), np.array([mean / np.linalg.norm(mean) for mean in means.values()])

    def metrics(self, array: np.ndarray, prompt_vector: np.ndarray, record: AudioRecord) -> dict[str, float]:
        """Return the metrics of one continuation.

        `speaker_similarity` compares it with the prompt (0 for silence). `speaker_found` is 1 if the nearest speaker
        is that of the prompt, else 0 (NaN with fewer than two speakers).
        """
        names, references = self.references(record.id)
        comparable = len(names) > 1 and record.speaker in names
        similarity, found = 0.0, 0.0 if comparable else float("nan")
        if np.any(array):  # silence has no voice
            vector = self.embedder.embed(array, record.sampling_rate)
            similarity = speaker_similarity(vector, prompt_vector)
            if comparable:
                found = float(names[int((references @ vector).argmax())] == record.speaker)
        return {"speaker_similarity": similarity, "speaker_found": found}


def speaker_accuracy(
    codes: Sequence[np.ndarray], num_tokens: int, frame_rate: float, records: Sequence[AudioRecord]
) -> float:
    """Return the cross-validated accuracy of a linear speaker probe on token histograms of 3 s segments.

    `codes` are `(num_codebooks, frames)` for each recording, with a histogram for each level. The segments of a
    recording are all in the same fold. The result is NaN with one speaker or fewer than five recordings.
    """
    length = round(SEGMENT_LENGTH_S * frame_rate)
    rows, speakers, recordings = [], [], []
    for levels, record in zip(codes, records, strict=True):
        for start in range(0, levels.shape[1] - length + 1, length):
            segment = levels[:, start : start + length]
            rows.append(np.concatenate([np.bincount(level, minlength=num_tokens) for level in segment]) / length)
            speakers.append(record.speaker)
            recordings.append(record.id)
    if len(set(speakers)) < 2 or len(set(recordings)) < _NUM_FOLDS:
        return float("nan")
    vectors = np.stack(rows)
    scaled = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-12)
    classifier = LogisticRegression(C=0.01, max_iter=200)
    predicted = cross_val_predict(
        classifier, scaled, np.asarray(speakers), groups=recordings, cv=GroupKFold(_NUM_FOLDS)
    )
    return float((predicted == np.asarray(speakers)).mean())
