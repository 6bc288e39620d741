# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Does a continuation keep the prompt's voice: similarity to the prompt, and the speaker found among all speakers.

Paper: AudioLM (arXiv 2209.03143), table III: a classifier found the prompt's speaker in 92.6 % of the continuations.
Here the nearest of the speakers of the given recordings is taken.
"""

from collections import defaultdict

import numpy as np
from tqdm import tqdm

from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.evaluation.speaker import SpeakerEmbedder, identify_speakers, speaker_similarity

RECORDINGS_PER_SPEAKER = 8  # one more changes a speaker's mean vector hardly
_LONGEST_S = 10.0  # of each


class VoiceJudge:
    """Compare voices with those of a closed set of speakers.

    Args:
        embedder ([`SpeakerEmbedder`]): the embedding.
        source ([`AudioSource`]): recordings of all speakers of the set.
    """

    def __init__(self, embedder: SpeakerEmbedder, source: AudioSource) -> None:
        self.embedder = embedder
        self._known: dict[str, dict[str, np.ndarray]] = defaultdict(dict)  # speaker -> recording -> vector
        for record in tqdm(source, desc="voices", unit="recording"):
            if len(self._known[record.speaker]) < RECORDINGS_PER_SPEAKER:
                array = record.array[: round(_LONGEST_S * record.sampling_rate)]
                self._known[record.speaker][record.id] = embedder.embed(array, record.sampling_rate)

    @property
    def num_speakers(self) -> int:
        """Speakers of the set."""
        return len(self._known)

    def references(self, without: str) -> tuple[list[str], np.ndarray]:
        """Give the speakers and their mean vectors, leaving out one recording.

        Args:
            without (`str`): id of the recording, that of the prompt: its room and day would give it away.

        Returns:
            `list[str]` and `np.ndarray` of shape `(num_speakers, 256)`; a speaker without another recording is left
            out.
        """
        means = {
            speaker: np.mean([vector for name, vector in vectors.items() if name != without], axis=0)
            for speaker, vectors in self._known.items()
            if set(vectors) - {without}
        }
        return list(means), np.stack([mean / np.linalg.norm(mean) for mean in means.values()])

    def figures(self, array: np.ndarray, prompt_vector: np.ndarray, record: AudioRecord) -> dict[str, float]:
        """Judge one continuation.

        Args:
            array (`np.ndarray` of shape `(num_samples,)`): the continuation.
            prompt_vector (`np.ndarray` of shape `(256,)`): embedding of its prompt.
            record ([`AudioRecord`]): the recording that the prompt begins.

        Returns:
            `dict`: `speaker_similarity` to the prompt (0 for silence) and `speaker_found`, 1 if the nearest speaker is
            the prompt's and 0 if not (NaN with fewer than two speakers to choose from).
        """
        names, references = self.references(record.id)
        comparable = len(names) > 1 and record.speaker in names
        if not np.any(array):  # silence has no voice
            return {"speaker_similarity": 0.0, "speaker_found": 0.0 if comparable else float("nan")}
        vector = self.embedder.embed(array, record.sampling_rate)
        found = float(identify_speakers(vector[None], references, names)[0] == record.speaker)
        return {
            "speaker_similarity": speaker_similarity(vector, prompt_vector),
            "speaker_found": found if comparable else float("nan"),
        }


__all__ = ["VoiceJudge"]
