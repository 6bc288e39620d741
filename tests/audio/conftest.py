# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A bundled checkpoint, and a prompt for it."""

import pytest
import soundfile
import torch

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.modeling_audiolm import AudioLMModel
from tests.helpers_checkpoint import CLIP


@pytest.fixture(scope="module")
def model():
    return AudioLMModel.from_pretrained(resolve_checkpoint("speech-tiny"), dtype="float32").eval()


@pytest.fixture(scope="module")
def prompt():
    return torch.from_numpy(soundfile.read(CLIP, dtype="float32")[0])[None]
