# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How fast a checkpoint generates: tokens a second and real-time factor of every stage, with and without a cache.

Cached and uncached sampling of one batch take turns in one run. Real-time factor: seconds of computing per second of
audio of all rows; below 1 is faster than the audio lasts. Paper: AudioLM (arXiv 2209.03143), inference.
"""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.sampling_audiolm import TokenSampler, row_noise, sample_tokens
from audiolm_hf.token_layout_audiolm import (
    coarse_ids,
    conditioned_context,
    level_range,
    predicted_levels,
    semantic_context,
    semantic_ids,
)

PROMPT_S = 1.0  # of the semantic stage's context
MODES = ("cached", "uncached")


@dataclass(frozen=True)
class StageTask:
    """One row's work for one stage: an id context, and the tokens that are to follow.

    Args:
        name (`str`): of the stage.
        context (`torch.LongTensor` of shape `(sequence_length,)`): known ids.
        num_tokens (`int`): to sample.
        audio_s (`float`): seconds of audio that these tokens stand for.
    """

    name: str
    context: Tensor
    num_tokens: int
    audio_s: float


def stage_tasks(model: AudioLMModel, length_s: float) -> list[StageTask]:
    """Give every stage tokens for `length_s` seconds to sample, or for its window where that is shorter."""
    if not length_s > 0:
        raise ValueError(f"length_s is {length_s}; give seconds above 0.")
    return [_semantic_task(model, length_s), _coarse_task(model, length_s), _fine_task(model, length_s)]


def _semantic_task(model: AudioLMModel, length_s: float) -> StageTask:
    config = model.semantic.config
    rate = model.semantic_tokenizer.config.semantic_frame_rate / config.mean_semantic_duration
    seconds = min(length_s, max(config.window_length_s - PROMPT_S, config.window_length_s / 2))
    known = _changing_tokens(max(1, int(rate * min(PROMPT_S, config.window_length_s / 2))), config.num_semantic_tokens)
    num_tokens = max(1, int(rate * seconds))
    return StageTask("semantic", semantic_context(known, config), num_tokens, num_tokens / rate)


def _coarse_task(model: AudioLMModel, length_s: float) -> StageTask:
    config = model.coarse.config
    seconds = min(length_s, config.window_length_s)
    rate = model.semantic_tokenizer.config.semantic_frame_rate / config.mean_semantic_duration
    condition = semantic_ids(_changing_tokens(max(1, int(rate * seconds)), config.num_semantic_tokens), config)
    frames = max(1, int(model.acoustic_codec.frame_rate * seconds))
    context = conditioned_context(condition, condition[:0], config)
    audio_s = frames / model.acoustic_codec.frame_rate
    return StageTask("coarse", context, frames * config.num_coarse_codebooks, audio_s)


def _fine_task(model: AudioLMModel, length_s: float) -> StageTask:
    config = model.fine.config
    frames = max(1, int(model.acoustic_codec.frame_rate * min(length_s, config.window_length_s)))
    codes = _changing_tokens(frames, config.codebook_size)[None].expand(config.num_codebooks, -1)
    condition = coarse_ids(codes, config)
    context = conditioned_context(condition, condition[:0], config)
    return StageTask("fine", context, frames * config.num_fine_codebooks, frames / model.acoustic_codec.frame_rate)


def _changing_tokens(count: int, size: int) -> Tensor:
    return torch.arange(count) % size


@torch.no_grad()
def sample_uncached(
    model: AudioLMStageModel, contexts: Sequence[Tensor], noise: Tensor, sampler: TokenSampler
) -> Tensor:
    """Sample like [`sample_tokens`], computing the whole sequence again for every token; contexts of one length."""
    config = model.config
    levels = predicted_levels(config)
    ids = torch.stack(list(contexts))
    for step in range(noise.shape[1]):
        level = levels[step % len(levels)]
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, -1]
        scores = model.level_logits(states, level)
        first_id = level_range(config, level)[0]
        if config.stage == "semantic":
            scores[:, config.end_token_id - first_id] = -torch.inf
        ids = torch.cat([ids, (sampler.choose(scores, noise[:, step]) + first_id)[:, None]], dim=1)
    return ids[:, contexts[0].shape[0] :]


def sample(model: AudioLMStageModel, task: StageTask, batch: int, mode: str, do_sample: bool = True) -> Tensor:
    """Sample a task's tokens for a batch of equal rows with noise of their own.

    Args:
        model ([`AudioLMStageModel`]): the stage.
        task ([`StageTask`]): what it has to do.
        batch (`int`): rows.
        mode (`str`): of `MODES`.
        do_sample (`bool`, defaults to `True`): draw, or take the most likely.

    Returns:
        `torch.LongTensor` of shape `(batch, num_tokens)`.
    """
    contexts = [task.context.to(model.device)] * batch
    noise = torch.stack([row_noise(0, (row,), task.num_tokens) for row in range(batch)]).to(model.device)
    sampler = TokenSampler(do_sample=do_sample, temperature=1.0, top_k=0, top_p=1.0)
    if mode == "uncached":
        return sample_uncached(model, contexts, noise, sampler)
    never_end = torch.full((batch,), task.num_tokens, device=model.device) if task.name == "semantic" else None
    return sample_tokens(model, contexts, noise, sampler, num_forbidden_ends=never_end)


def measure_generation(
    model: AudioLMModel, length_s: float = 1.0, batch_sizes: Sequence[int] = (1, 4), rounds: int = 3
) -> dict[str, Any]:
    """Measure every stage of a checkpoint by itself.

    Args:
        model ([`AudioLMModel`]): the checkpoint, on its device.
        length_s (`float`, defaults to 1.0): seconds of audio that each stage makes tokens for.
        batch_sizes (`Sequence[int]`, defaults to `(1, 4)`): rows at once.
        rounds (`int`, defaults to 3): turns of each mode; the median counts.

    Returns:
        `dict`: the device, and under `stages` a row for each stage, batch size and mode with `tokens`, `audio_s`,
        `seconds`, `tokens_per_s`, `realtime_factor` and `speedup` (over the uncached mode of the same row).

    Raises:
        ValueError: a length, batch size or number of rounds that is not positive.
    """
    if rounds < 1 or not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(f"rounds is {rounds} and batch_sizes {list(batch_sizes)}; give 1 or more of each.")
    rows: list[dict[str, Any]] = []
    for task in stage_tasks(model, length_s):
        for batch in batch_sizes:
            rows += _measure_task(model.stages[task.name], task, batch, rounds)
    parts = {name: stage.num_parameters() for name, stage in model.stages.items()}
    return {"device": device_name(str(model.device)), "torch": torch.__version__, "parameters": parts, "stages": rows}


def _measure_task(stage: AudioLMStageModel, task: StageTask, batch: int, rounds: int) -> list[dict[str, Any]]:
    turns: dict[str, list[float]] = {mode: [] for mode in MODES}
    device = str(stage.device)
    sample(stage, task, batch, "cached")  # the first call loads kernels
    for _ in range(rounds):
        for mode, times in turns.items():
            times.append(time_call(partial(sample, stage, task, batch, mode), device))
    slowest = statistics.median(turns["uncached"])
    return [_row(task, batch, mode, statistics.median(times), slowest) for mode, times in turns.items()]


def _row(task: StageTask, batch: int, mode: str, seconds: float, uncached_seconds: float) -> dict[str, Any]:
    tokens, audio_s = batch * task.num_tokens, batch * task.audio_s
    return {
        "stage": task.name,
        "batch": batch,
        "mode": mode,
        "tokens": tokens,
        "audio_s": audio_s,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "realtime_factor": seconds / audio_s,
        "speedup": uncached_seconds / seconds,
    }


def format_generation(report: dict[str, Any]) -> str:
    """Write the figures of [`measure_generation`] as a table."""
    parts = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in report["parameters"].items())
    lines = [
        f"{report['device']}, torch {report['torch']}; parameters: {parts}",
        "",
        f"{'stage':<10}{'batch':>6}  {'mode':<10}{'tokens':>8}{'tokens/s':>11}{'real-time factor':>18}{'speedup':>9}",
    ]
    lines += [
        f"{row['stage']:<10}{row['batch']:>6}  {row['mode']:<10}{row['tokens']:>8}{row['tokens_per_s']:>11,.0f}"
        f"{row['realtime_factor']:>18.3f}{row['speedup']:>9.2f}"
        for row in report["stages"]
    ]
    return "\n".join(lines)


def synchronize(device: str) -> None:
    """Wait until an accelerator has done all that it was given."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()


def time_call(run: Callable[[], object], device: str) -> float:
    """Seconds of one call, the device's work included."""
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def device_name(device: str) -> str:
    """What the driver calls the device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads" if device == "cpu" else device


__all__ = [
    "MODES",
    "StageTask",
    "device_name",
    "format_generation",
    "measure_generation",
    "sample",
    "sample_uncached",
    "stage_tasks",
    "synchronize",
    "time_call",
]
