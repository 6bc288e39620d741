# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checks of the arguments of [`AudioLMModel.generate`]: inputs that fit each other, seeds and memory."""

import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from .adapters_audiolm import has_adapter, refuse_adapted_tokens
from .config_values_audiolm import MANY, Within
from .generation_config_audiolm import AudioLMGenerationConfig
from .input_checks_audiolm import check_tensor, check_waveform
from .stages_audiolm import STAGES

logger = logging.get_logger(__name__)
_CGROUP = Path("/sys/fs/cgroup")
_SEEDS = Within(0, math.inf, whole=True)


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
        check_tensor("semantic_tokens", semantic_tokens, "integers (batch, semantic_length)", 2, filled=True)
    for name, mask, of in (
        ("attention_mask", attention_mask, input_values),
        ("semantic_attention_mask", semantic_attention_mask, semantic_tokens),
    ):
        if mask is not None and of is None:
            raise ValueError(f"{name} is given without what it masks; leave it out.")
    if batch_size is not None:
        MANY.check("batch_size", batch_size)
        for name, rows in {"input_values": input_values, "semantic_tokens": semantic_tokens}.items():
            if rows is not None:
                raise ValueError(f"batch_size is {batch_size}, but {name} has its own; leave batch_size out.")


def check_seed(seed: int | None, generator: torch.Generator | None) -> None:
    """Check that at most one of a seed and a generator is given."""
    if seed is not None and generator is not None:
        raise ValueError(f"Both seed ({seed}) and generator were given; give one of them.")
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(f"generator is a {type(generator).__name__}; give a torch.Generator, or a seed.")
    _SEEDS.check("seed", seed, optional=True)


def check_streamer(streamer: Any, num_rows: int, streamed: bool) -> None:
    """Check that a streamer can receive chunks, and that what is streamed is one row."""
    for name in ("put", "end") if streamer is not None else ():
        if not callable(getattr(streamer, name, None)):
            raise TypeError(
                f"streamer is a {type(streamer).__name__} without {name}(); give an AudioIteratorStreamer."
            )
    if streamed and streamer is not None:
        raise ValueError("streamer is an option of generate; stream returns the chunks itself, so leave it out.")
    if num_rows > 1 and (streamed or streamer is not None):
        raise ValueError(f"A stream is of one row, and here are {num_rows}; stream them one by one, or generate them.")


def check_adapters(model: Any, options: AudioLMGenerationConfig) -> None:
    """Warn if acoustic stages have adapters, but none of these runs; adapters of tokenizer or codec are an error."""
    refuse_adapted_tokens(model)
    adapted = [name for name, stage in [*model.stages.items()][1:] if has_adapter(stage)]
    used = options.used_stages(model.config)
    if adapted and not {*adapted} & {*used}:
        logger.warning(
            f"The model has an adapter of the {' and the '.join(adapted)} stage, without effect here, where the "
            f"stages {', '.join(used)} generate; change acoustic_mode or use_fine_stage, or adapt one of these."
        )


def check_generation_memory(model: Any, num_rows: int, length_s: float, num_candidates: int = 1) -> None:
    """Check that rows of a length fit into memory: the cache of a window, and three times the output.

    Several candidates of semantic tokens are sampled at once, for one row after another.
    """
    codec, cache_bytes = model.acoustic_codec, 0.0
    for name, stage in model.stages.items():
        if "batch_size" in STAGES[name].options:  # its rows are not all sampled at once
            continue
        backbone, levels = stage.config.get_text_config(), stage.config.num_stage_codebooks
        ids_per_s = model.semantic_tokenizer.config.semantic_frame_rate / stage.config.mean_semantic_duration
        ids = (ids_per_s + levels * codec.frame_rate) * min(stage.config.window_length_s, length_s)
        width = 2 * backbone.num_hidden_layers * stage.get_input_embeddings().weight.shape[1]
        heads = backbone.num_attention_heads
        shared = heads // (getattr(backbone, "num_key_value_heads", None) or heads)
        num_sampled = num_candidates if name == "semantic" and num_candidates > 1 else num_rows
        cache_bytes = max(cache_bytes, num_sampled * ids * width / max(1, shared) * stage.dtype.itemsize)
    samples = 4 * model.sampling_rate + 8 * codec.frame_rate * model.config.num_codebooks
    needed, device = cache_bytes + num_rows * 3 * samples * length_s, model.device
    on_gpu = device.type == "cuda"
    available = torch.cuda.get_device_properties(device).total_memory if on_gpu else available_memory()
    if needed > available:
        raise ValueError(
            f"{num_rows:,} rows of {length_s:g} s would take about {needed / 1e9:.3g} GB of memory, and "
            f"{available / 1e9:.3g} GB are available; ask for fewer rows (num_return_sequences, batch_size, "
            "semantic_num_candidates) or a shorter continuation_length_s or semantic_tokens."
        )


def available_memory() -> int:
    """Return the bytes of memory available to this process in its machine and container."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        entries = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = int(entries["MemAvailable"].split()[0]) * 1024
    elif hasattr(os, "sysconf"):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:  # Windows does not say
        available = 2**62
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.is_file() and (text := limit.read_text().strip()) != "max":
        available = min(available, int(text) - int(used.read_text()))
    return max(0, available)
