# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Speed of generation: tokens per second and real-time factor (seconds per second of audio, over all rows)."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from audiolm_hf.evaluation.report import format_table
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMStageBase
from audiolm_hf.sampling_audiolm import TokenSampler, fill_frames, parallel_noise, row_noise, sample_tokens
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX, build_stage_example


def stage_task(model: AudioLMModel, name: str, length_s: float) -> tuple[Tensor, int, float]:
    """Return the artificial input for timing a stage on at most a window of audio.

    Returns:
        `torch.LongTensor` of shape `(sequence_length,)`, ids of the condition; the number of tokens to sample; and
            their
        length in seconds of audio.
    """
    config, codec = model.stages[name].config, model.acoustic_codec
    frames = max(1, int(codec.frame_rate * min(length_s, config.window_length_s)))
    num_tokens = max(1, model.time_grid.tokens_within(frames))
    semantic_tokens = (torch.arange(num_tokens) / config.mean_semantic_duration).long() % config.num_semantic_tokens
    audio_codes = (torch.arange(frames) % codec.codebook_size).expand(codec.num_codebooks, -1)
    example = build_stage_example(config, semantic_tokens, audio_codes, ends_recording=False)
    predicted = example["labels"] != IGNORE_INDEX
    return example["input_ids"][~predicted], int(predicted.sum()), frames / codec.frame_rate


def sample(stage: AudioLMStageBase, context: Tensor, num_tokens: int, batch: int) -> Tensor:
    """Sample tokens `(batch, num_tokens)` after a context, in rows with equal inputs and different random numbers."""
    sampler = TokenSampler(do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    if stage.config.layout.parallel:
        return _fill(stage, context, sampler, batch)
    noise = torch.stack([row_noise(0, (row,), num_tokens) for row in range(batch)]).to(stage.device)
    never_end = None
    if stage.config.layout.predicts_end:
        never_end = torch.full((batch,), num_tokens, device=stage.device)
    contexts = [context.to(stage.device)] * batch
    return sample_tokens(stage, contexts, noise, sampler, num_forbidden_ends=never_end)


def _fill(stage: Any, context: Tensor, sampler: TokenSampler, batch: int) -> Tensor:
    """Predict all codes of the frames of a context, frame by frame in the result."""
    width = stage.config.tokens_per_frame
    condition = context.view(-1, width)
    masks = torch.tensor(stage.config.mask_token_ids).expand(len(condition), -1)
    rows = torch.cat([condition, masks], 1).to(stage.device)
    passes = sampler.passes(masks.shape[1])
    noise = [parallel_noise(0, (row,), len(rows), passes) for row in range(batch)]
    filled = fill_frames(stage, [rows] * batch, [0] * batch, noise, sampler)
    return torch.stack([ids[:, width:].flatten() for ids in filled])


def measure_generation(
    model: AudioLMModel, length_s: float = 1.0, batch_sizes: Sequence[int] = (1, 4), rounds: int = 3
) -> dict[str, Any]:
    """Measure the speed of every stage of a checkpoint on some seconds of audio.

    Returns:
        `dict`: the device, and in `stages` a row for each stage and batch size with `tokens`, `audio_s`, `seconds`
            (the
        median of `rounds` repetitions), `tokens_per_s` and `realtime_factor`.
    """
    if not length_s > 0:
        raise ValueError(f"length_s is {length_s}; give seconds above 0.")
    if rounds < 1 or not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(f"rounds is {rounds} and batch_sizes {list(batch_sizes)}; give 1 or more of each.")
    rows = []
    for name, stage in model.stages.items():
        context, num_tokens, audio_s = stage_task(model, name, length_s)
        for batch in batch_sizes:
            run = partial(sample, stage, context, num_tokens, batch)
            _seconds(run, model.device)  # the first call loads kernels
            seconds = statistics.median(_seconds(run, model.device) for _ in range(rounds))
            rows.append(
                {
                    "stage": name,
                    "batch": batch,
                    "tokens": batch * num_tokens,
                    "audio_s": batch * audio_s,
                    "seconds": seconds,
                    "tokens_per_s": batch * num_tokens / seconds,
                    "realtime_factor": seconds / (batch * audio_s),
                }
            )
    parameters = {name: stage.num_parameters() for name, stage in model.stages.items()}
    return {"device": _device_name(model.device), "torch": torch.__version__, "parameters": parameters, "stages": rows}


def format_generation(report: dict[str, Any]) -> str:
    """Format the result of [`measure_generation`] as a table."""
    parts = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in report["parameters"].items())
    rows = [
        [str(row[name]) for name in ("stage", "batch", "tokens")]
        + [f"{row['tokens_per_s']:,.0f}", f"{row['realtime_factor']:.3f}"]
        for row in report["stages"]
    ]
    table = format_table(["stage", "batch", "tokens", "tokens/s", "real-time factor"], rows)
    return f"{report['device']}, torch {report['torch']}; parameters: {parts}\n\n{table}"


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, including the work of the device."""
    start = time.perf_counter()
    run()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    cpu = f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"
    return cpu if device.type == "cpu" else str(device)
