# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Quality of speech as predicted by DistillMOS, without a reference, from 1 (bad) to 5 (excellent).

DistillMOS was distilled from a network that predicts opinions of listeners from features of wav2vec 2.0 XLS-R (arXiv
2502.05356). The package contains the weights. It requires torchaudio, whose wheels on PyPI need CUDA, only for its
command-line program, and is therefore installed without dependencies.
"""

import contextlib
import hashlib
import importlib.util
import io
import sys
from types import ModuleType

import numpy as np
import soxr
import torch

INSTALL_COMMAND = "pip install --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0"
QUALITY_SAMPLING_RATE = 16000  # DistillMOS


def check_quality(kind: str) -> None:
    """Check that a kind of audio is speech (else a `ValueError`), and that DistillMOS is installed (`ImportError`)."""
    if kind != "speech":
        raise ValueError(f"DistillMOS predicts the quality of speech, not of {kind}; leave out --quality.")
    missing = [name for name in ("distillmos", "xls_r_sqa") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"The quality of speech needs {missing[0]}, which is not installed: {INSTALL_COMMAND}", name=missing[0]
        )


class SpeechQuality:
    """Predict the quality of clips of speech; clips that were scored before are not scored again."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        check_quality("speech")
        missing = "torchaudio" not in sys.modules  # which is imported, but not used
        if missing:
            sys.modules["torchaudio"] = ModuleType("torchaudio")
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
                from distillmos import ConvTransformerSQAModel

                self._network = ConvTransformerSQAModel().eval().to(device)
        finally:
            if missing:
                del sys.modules["torchaudio"]
        self.device = device
        self._scores: dict[bytes, float] = {}

    @torch.inference_mode()
    def score(self, array: np.ndarray, sampling_rate: int) -> float:
        """Return the score of a clip `(num_samples,)`, float32, from 1 to 5; NaN for digital silence.

        Clips shorter than 7.68 s are padded with silence, which changes the score: compare clips of the same length.
        """
        if not np.any(array):
            return float("nan")
        key = hashlib.sha256(array.tobytes()).digest()
        if key not in self._scores:
            if sampling_rate != QUALITY_SAMPLING_RATE:
                array = soxr.resample(array, sampling_rate, QUALITY_SAMPLING_RATE)
            values = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None].to(self.device)
            self._scores[key] = self._network(values).item()
        return self._scores[key]
