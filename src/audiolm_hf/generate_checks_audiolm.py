# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checks of the arguments of [`AudioLMModel.generate`]: types, shapes, numbers, seeds and memory."""

from typing import Any

import torch
from torch import Tensor

from .input_checks_audiolm import check_tensor, check_waveform
from .memory_audiolm import check_memory
from .stages_audiolm import STAGES


def check_generate_inputs(
    input_values: Tensor | None,
    attention_mask: Tensor | None,
    semantic_tokens: Tensor | None,
    semantic_attention_mask: Tensor | None,
    batch_size: int | None,
) -> None:
    """Check the types and shapes of the inputs of `generate`, and that they match each other."""
    if input_values is not None:
        check_waveform(input_values)
    if semantic_tokens is not None:
        check_tensor("semantic_tokens", semantic_tokens, "of integers (torch.int64)")
        if semantic_tokens.dim() != 2 or 0 in semantic_tokens.shape:
            raise ValueError(
                f"semantic_tokens has shape {tuple(semantic_tokens.shape)}; give (batch, semantic_length), neither of "
                "them 0."
            )
    for name, mask, of in (
        ("attention_mask", attention_mask, input_values),
        ("semantic_attention_mask", semantic_attention_mask, semantic_tokens),
    ):
        if mask is not None and of is None:
            raise ValueError(f"{name} is given without what it masks; leave it out.")
    if batch_size is not None:
        require_count("batch_size", batch_size)
        for name, rows in {"input_values": input_values, "semantic_tokens": semantic_tokens}.items():
            if rows is not None:
                raise ValueError(f"batch_size is {batch_size}, but {name} has its own; leave batch_size out.")


def require_count(name: str, value: int) -> None:
    """Check that a number of rows is an integer of 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; give an integer of 1 or more.")
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be 1 or more.")


def check_seed(seed: int | None, generator: torch.Generator | None) -> None:
    """Check that at most one of a seed, an integer of 0 or more, and a generator is given."""
    if seed is not None and generator is not None:
        raise ValueError(f"Both seed ({seed}) and generator were given; give one of them.")
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(f"generator is a {type(generator).__name__}; give a torch.Generator, or a seed.")
    if not isinstance(seed, int | None) or isinstance(seed, bool):
        raise TypeError(f"seed is {seed!r}; give an integer of 0 or more.")
    if seed is not None and seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more.")


def resolve_seed(seed: int | None, generator: torch.Generator | None) -> int:
    """Return the seed that was given, or one drawn by the generator or by torch's own."""
    if seed is not None:
        return seed
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**62, (1,), generator=generator, device=device))


def check_generation_memory(model: Any, num_rows: int, length_s: float) -> None:
    """Check that generation fits into memory, from a lower bound: the cache of a window, and three times the output.

    Args:
        model ([`AudioLMModel`]): the model.
        num_rows (`int`): number of rows in a batch.
        length_s (`float`): seconds of each row.

    Raises:
        ValueError: the required memory is not available.
    """
    codec, bytes_per_row = model.acoustic_codec, 0.0
    for name, stage in model.stages.items():
        if "batch_size" in STAGES[name].options:  # its rows are not all sampled at once
            continue
        backbone, levels = stage.config.get_text_config(), stage.config.num_stage_codebooks
        ids_per_s = model.semantic_tokenizer.config.semantic_frame_rate / stage.config.mean_semantic_duration
        ids = (ids_per_s + levels * codec.frame_rate) * min(stage.config.window_length_s, length_s)
        width = 2 * backbone.num_hidden_layers * stage.get_input_embeddings().weight.shape[1]
        heads = backbone.num_attention_heads
        shared = heads // (getattr(backbone, "num_key_value_heads", None) or heads)
        bytes_per_row = max(bytes_per_row, ids * width / max(1, shared) * stage.dtype.itemsize)
    samples = 4 * model.sampling_rate + 8 * codec.frame_rate * model.config.num_codebooks
    check_memory(
        num_rows * (bytes_per_row + 3 * samples * length_s),
        f"{num_rows:,} rows of {length_s:g} s",
        "ask for fewer rows (num_return_sequences, batch_size) or a shorter continuation_length_s or semantic_tokens",
        model.device,
    )
