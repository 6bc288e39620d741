# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A tiny AudioLM with random weights for the whole run, and the same random numbers for every test."""

import pytest
import torch

from audiolm_hf.configuration_audiolm import AudioLMConfig
from audiolm_hf.modeling_audiolm import AudioLMModel

TINY_BACKBONE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TINY_LAYOUT = {"num_semantic_tokens": 20, "codebook_size": 8, "num_coarse_codebooks": 2, "num_fine_codebooks": 3}


def tiny_stage_config(**changes):
    """Keyword arguments of any of the three stage configurations."""
    return {"backbone_config": dict(TINY_BACKBONE), **TINY_LAYOUT, **changes}


def tiny_config(**changes):
    """Configuration of a whole AudioLM at 16 kHz: 25 semantic tokens and 50 frames a second."""
    parts = {
        "semantic_tokenizer_config": {
            "encoder_config": {
                "model_type": "wav2vec2-bert",
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "output_hidden_size": 16,
                "conv_depthwise_kernel_size": 3,
            },
            "layer": 1,
            "num_semantic_tokens": 20,
        },
        "codec_config": {
            "num_codebooks": 5,
            "codebook_size": 8,
            "codebook_dim": 8,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "window_length": 640,
        },
        "semantic_config": tiny_stage_config(window_length_s=2.0),
        "coarse_config": tiny_stage_config(window_length_s=1.0),
        "fine_config": tiny_stage_config(window_length_s=0.5),
    }
    return AudioLMConfig(**{**parts, **changes})


def randomise(model, scale=0.3):
    """Give every stage weights large enough that its choices differ, and the codec's codebooks some content."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    for name, buffer in model.named_buffers():
        if name.endswith("codebook"):  # zeros until they are trained
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def tiny_audiolm():
    torch.manual_seed(0)
    return randomise(AudioLMModel(tiny_config()))


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)
