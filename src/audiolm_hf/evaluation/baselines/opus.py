# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The Opus codec as a baseline, through the command line tools `opusenc` and `opusdec` (opus-tools)."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf


def opus_is_available() -> bool:
    """Return whether `opusenc` and `opusdec` are installed."""
    return shutil.which("opusenc") is not None and shutil.which("opusdec") is not None


def opus_roundtrip(array: np.ndarray, sampling_rate: int, bitrate_kbps: float, music: bool = False) -> np.ndarray:
    """Encode and decode a mono recording, `(num_samples,)` in [-1, 1], by Opus at a rate in kilobits per second."""
    if not opus_is_available():
        raise RuntimeError(
            "opusenc or opusdec is not on the path; install opus-tools (Debian: apt install opus-tools)."
        )
    with tempfile.TemporaryDirectory() as folder:
        original, coded, decoded = (Path(folder) / name for name in ("original.wav", "coded.opus", "decoded.wav"))
        sf.write(original, array, sampling_rate, subtype="PCM_16")
        tuning = "--music" if music else "--speech"
        _call("opusenc", "--quiet", tuning, "--bitrate", f"{bitrate_kbps:g}", str(original), str(coded))
        _call("opusdec", "--quiet", "--rate", str(sampling_rate), str(coded), str(decoded))
        return sf.read(decoded, dtype="float32")[0]


def _call(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{command[0]} failed with status {result.returncode}: {result.stderr.strip()}")
