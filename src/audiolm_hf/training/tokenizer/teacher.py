# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Hidden states of a pretrained speech encoder of transformers with 50 frames a second, as training targets."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

SAMPLING_RATE = 16000  # Hz
SAMPLES_PER_FRAME = 320
WINDOW_S = 30.0  # seconds that the teacher encodes at once: the input of Whisper, and a bound on memory
FRAMES_APART = 2  # by which encoders that do not pad their convolutions fall short of 50 frames a second


class Teacher:
    """One layer of the `hidden_states` of a pretrained speech encoder, given as a folder or Hub name."""

    def __init__(self, name_or_path: str | Path, layer: int, device: torch.device | str = "cpu") -> None:
        config = AutoConfig.from_pretrained(name_or_path)
        num_layers = getattr(config, "encoder_layers", None) or config.num_hidden_layers
        if layer > num_layers:
            raise ValueError(f"layer is {layer}, but the teacher {name_or_path} has the layers 0 to {num_layers}.")
        self.extractor = AutoFeatureExtractor.from_pretrained(name_or_path)
        sampling_rate = getattr(self.extractor, "sampling_rate", None)
        if sampling_rate != SAMPLING_RATE:
            raise ValueError(
                f"{name_or_path} takes audio at {sampling_rate} Hz; the teacher needs {SAMPLING_RATE} Hz."
            )
        model = AutoModel.from_pretrained(name_or_path, dtype=torch.float32)
        self.encoder = (model.get_encoder() if config.is_encoder_decoder else model).to(device).eval()
        _prune_layers(self.encoder, num_layers, layer + 1)  # one more, because the last may also be normalized
        self.name, self.layer = str(name_or_path), layer

    @torch.no_grad()
    def states(self, array: np.ndarray, num_frames: int) -> np.ndarray:
        """Return the states of a recording at 16 kHz, float32 of shape `(num_frames, hidden_size)`."""
        step = int(WINDOW_S * SAMPLING_RATE)
        states = np.concatenate([self._window(array[start : start + step]) for start in range(0, len(array), step)])
        return np.pad(states[:num_frames], ((0, max(0, num_frames - len(states))), (0, 0)), mode="edge")

    def _window(self, array: np.ndarray) -> np.ndarray:
        array = np.pad(array, (0, max(0, 2 * SAMPLES_PER_FRAME - len(array))))
        inputs = self.extractor(array, sampling_rate=SAMPLING_RATE, return_tensors="pt").to(self.encoder.device)
        states = self.encoder(**inputs, output_hidden_states=True).hidden_states[self.layer][0].float().cpu().numpy()
        expected = len(array) / SAMPLES_PER_FRAME
        padded = getattr(self.extractor, "nb_max_frames", 0) / 2  # Whisper's input is always 30 s
        if abs(len(states) - max(expected, padded)) > FRAMES_APART:
            raise ValueError(f"{self.name} has {len(states)} frames in {len(array)} samples; use a teacher of 50 Hz.")
        return states[: max(1, round(expected))]


def _prune_layers(encoder: nn.Module, num_layers: int, kept: int) -> None:
    """Remove the Transformer layers of an encoder after the first ones, wherever the encoder has them."""
    for module in encoder.modules():
        for name in ("layers", "layer"):
            found = getattr(module, name, None)
            if isinstance(found, nn.ModuleList) and len(found) == num_layers and _attends(found[0]):
                setattr(module, name, found[:kept])


def _attends(layer: nn.Module) -> bool:
    return any("att" in name for name, _ in layer.named_children())
