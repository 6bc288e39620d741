# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The pitch of recordings by Praat (Boersma 1993), measured once for each recording and kept in files."""

import hashlib
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import parselmouth

from audiolm_hf.files import replace_file

STEP_S = 0.01  # between measurements
SEARCHED_HZ = (60.0, 500.0)  # in any voice
WIDEST_HZ = (50.0, 600.0)
SHORTEST_S = 0.1  # Praat wants three periods of the lowest pitch
_VERSION = 1  # of the measurement; results of other versions are not used
_MIN_VOICED = 10  # measurements from which the range of a voice is estimated


class PitchTrack(NamedTuple):
    """F0 of one recording in Hz, float32 of shape `(measurements,)`, every 10 ms from `start_s`; 0 without pitch."""

    start_s: float
    f0: np.ndarray

    def at_frames(self, start: int, num_frames: int, hop_length: int, sampling_rate: int) -> np.ndarray:
        """Return F0 nearest to the centres of the frames from sample `start` on, 0 after the recording's end."""
        centres = (start + (np.arange(num_frames) + 0.5) * hop_length) / sampling_rate
        places = np.round((centres - self.start_s) / STEP_S).astype(np.int64)
        inside = (places >= 0) & (places < len(self.f0))
        f0 = np.zeros(num_frames, dtype=np.float32)
        f0[inside] = self.f0[places[inside]]
        return f0


def measure_pitch(array: np.ndarray, sampling_rate: int) -> PitchTrack:
    """Follow the pitch of one voice by Praat's autocorrelation, within the range of that voice."""
    if len(array) < SHORTEST_S * sampling_rate:
        return PitchTrack(0.0, np.zeros(0, dtype=np.float32))
    sound = parselmouth.Sound(array.astype(np.float64), sampling_rate)
    found = sound.to_pitch_ac(time_step=STEP_S, pitch_floor=SEARCHED_HZ[0], pitch_ceiling=SEARCHED_HZ[1])
    voiced = found.selected_array["frequency"]
    voiced = voiced[voiced > 0]
    if len(voiced) > _MIN_VOICED:
        low, high = np.percentile(voiced, [25, 75])
        floor, ceiling = max(WIDEST_HZ[0], 0.6 * low), min(WIDEST_HZ[1], 1.9 * high)
        found = sound.to_pitch_ac(time_step=STEP_S, pitch_floor=floor, pitch_ceiling=ceiling, voicing_threshold=0.4)
    return PitchTrack(float(found.xs()[0]), found.selected_array["frequency"].astype(np.float32))


class PitchCache:
    """F0 at a codec's frames, of recordings whose tracks are kept in a folder, one file each.

    The files are named by a hash of the samples and appear whole or not at all, so that a killed process loses only
    one recording, and several processes can share the folder.
    """

    def __init__(self, folder: Path, sampling_rate: int, hop_length: int) -> None:
        self.folder, self.sampling_rate, self.hop_length = folder, sampling_rate, hop_length

    def __call__(self, samples: np.ndarray, start: int, num_samples: int) -> np.ndarray:
        """Return F0 at the frames of a crop of a whole recording (int16): Hz, float32 of shape `(frames,)`."""
        num_frames = math.ceil(num_samples / self.hop_length)
        return self._track(samples).at_frames(start, num_frames, self.hop_length, self.sampling_rate)

    def _track(self, samples: np.ndarray) -> PitchTrack:
        content = f"{_VERSION} {self.sampling_rate}\n".encode() + samples.tobytes()
        path = self.folder / f"{hashlib.sha256(content).hexdigest()[:32]}.npz"
        if not path.is_file():
            track = measure_pitch(samples / 32767.0, self.sampling_rate)
            own = path.with_name(f"{os.getpid()}-{path.name}")  # another process may be at the same recording
            replace_file(own, lambda partial: np.savez(partial, start_s=track.start_s, f0=track.f0))
            own.replace(path)
        with np.load(path) as stored:
            return PitchTrack(float(stored["start_s"]), stored["f0"])
