# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Tiny parallel stages, and examples for them."""

import torch

from audiolm_hf import AudioLMModel, AudioLMParallelConfig, AudioLMParallelModel, build_stage_example
from tests.conftest import TINY_BACKBONE, randomise, tiny_config, tiny_stage_config

ENCODER = TINY_BACKBONE | {"model_type": "eurobert"}


def parallel_fields(**changes):
    """Keyword arguments of a tiny parallel stage."""
    return tiny_stage_config(**{"backbone_config": dict(ENCODER), "window_length_s": 1.0, **changes})


def parallel_config(**changes):
    return AudioLMParallelConfig(**parallel_fields(**changes))


def parallel_stage(**changes):
    torch.manual_seed(0)
    return randomise(AudioLMParallelModel(parallel_config(**changes)))


def parallel_example(config, num_frames, seed=0):
    """All codes of so many frames, and their semantic tokens, drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)
    num_tokens = -(-num_frames // 2)
    tokens = torch.randint(config.num_semantic_tokens, (num_tokens,), generator=generator)
    codes = torch.randint(config.codebook_size, (config.num_codebooks, num_frames), generator=generator)
    return build_stage_example(config, tokens, codes)


def masked_rows(config, num_frames, num_known, seed=0):
    """Rows of ids of which all codes after the known frames are masked."""
    rows = parallel_example(config, num_frames, seed)["input_ids"]
    rows[num_known:, 1:] = torch.tensor(config.mask_token_ids)
    return rows


def parallel_audiolm(**parts):
    """A whole with a parallel stage beside the others, or in place of those set to None."""
    torch.manual_seed(0)
    parts = {"parallel_config": parallel_fields()} | parts
    return randomise(AudioLMModel(tiny_config(**parts)))
