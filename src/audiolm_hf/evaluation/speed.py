# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Speed of generation: tokens per second and real-time factor (seconds per second of audio, over all rows)."""

import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from audiolm_hf.evaluation.report import format_table, join_parts
from audiolm_hf.evaluation.speed_peers import AUDIOLM_PYTORCH, peer_runs
from audiolm_hf.evaluation.speed_tasks import Run, sample, stage_task
from audiolm_hf.modeling_audiolm import AudioLMModel

TRANSFORMERS = "transformers-generate"
PROMPT_LENGTH_S = 3.0


def measure_generation(
    model: AudioLMModel,
    length_s: float = 1.0,
    batch_sizes: Sequence[int] = (1, 4),
    rounds: int = 3,
    against: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure the speed of a checkpoint: of every stage, of the codec, and of whole continuations.

    In each round everything is run once, one after the other, so that a busy machine slows all of it down alike; the
    medians are reported. A stage generates a window of `length_s` at most, in `batch_sizes` rows. `against` is
    `"transformers-generate"`, the same stages sampled by `generate` of transformers, or `"audiolm-pytorch"`, that
    package with random weights, compared with stages of the same sizes.

    The result has the device, the dtype of the weights, and rows in `stages` (by stage, batch and system:
    `tokens_per_s`, `ms_per_step`), `codec` (`encode` and `decode`) and `continuations` (by acoustic mode: all of it,
    and the time until the first chunk of `stream`), each with `seconds`, `cpu_seconds` of this process and, except for
    the first chunk, `realtime_factor`; `peak_memory_mib` of the process or the GPU; and why something was `skipped`.
    """
    skipped: dict[str, str] = {}
    sections = {
        "stages": _stage_runs(model, length_s, batch_sizes, TRANSFORMERS in against, skipped),
        "codec": _codec_runs(model, length_s),
        "continuations": _continuation_runs(model, length_s, skipped),
        "sizes": peer_runs(model, skipped) if AUDIOLM_PYTORCH in against else [],
    }
    time_runs([run for runs in sections.values() for run in runs], model.device, rounds)
    return {
        "device": _device_name(model.device),
        "torch": torch.__version__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": {name: stage.num_parameters() for name, stage in model.stages.items()},
        **{section: [row for row, _ in runs] for section, runs in sections.items() if runs},
        "peak_memory_mib": _peak_memory_mib(model.device),
        "skipped": skipped,
    }


def time_runs(runs: Sequence[Run], device: torch.device, rounds: int) -> None:
    """Add to each row the median seconds of its call, and rates that follow; every round runs each call once."""
    times: list[list[tuple[float, float]]] = [[] for _ in runs]
    for done in range(rounds + 1):
        for (_, call), found in zip(runs, times, strict=True):
            timed = _seconds(call, device)
            if done:  # the first call loads kernels
                found.append(timed)
    for (row, _), found in zip(runs, times, strict=True):
        row["seconds"], row["cpu_seconds"] = (statistics.median(each) for each in zip(*found, strict=True))
        if "audio_s" in row:
            row["realtime_factor"] = row["seconds"] / row["audio_s"]
        if "tokens" in row:
            row["tokens_per_s"] = row["tokens"] / row["seconds"]
            row["ms_per_step"] = 1000 * row["seconds"] * row["batch"] / row["tokens"]


def _stage_runs(
    model: AudioLMModel, length_s: float, batch_sizes: Sequence[int], with_transformers: bool, skipped: dict[str, str]
) -> list[Run]:
    runs: list[Run] = []
    for name, stage in model.stages.items():
        context, num_tokens, audio_s = stage_task(model, name, length_s)
        for batch in batch_sizes:
            row = {"stage": name, "batch": batch, "tokens": batch * num_tokens, "audio_s": batch * audio_s}
            runs.append(({**row, "system": "audiolm-hf"}, partial(sample, stage, context, num_tokens, batch)))
            if with_transformers and not stage.config.layout.parallel:
                runs.append(({**row, "system": TRANSFORMERS}, partial(_generate, stage, context, num_tokens, batch)))
        if with_transformers and stage.config.layout.parallel:
            skipped[f"{TRANSFORMERS}, {name} stage"] = "transformers has no generate for masked tokens"
    return runs


def _generate(stage: Any, context: Tensor, num_tokens: int, batch: int) -> Tensor:
    """Sample like [`sample`], but with transformers' `generate`."""
    ids = context.to(stage.device).expand(batch, -1)
    options = {"max_new_tokens": num_tokens, "min_new_tokens": num_tokens, "do_sample": True, "top_k": 0}
    return stage.generate(ids, attention_mask=torch.ones_like(ids), **options)


def _codec_runs(model: AudioLMModel, length_s: float) -> list[Run]:
    samples = _noise(model, length_s)
    codes = model.acoustic_codec.encode(samples)
    calls = {
        "encode": partial(model.acoustic_codec.encode, samples),
        "decode": partial(model.acoustic_codec.decode, codes),
    }
    return [({"part": part, "audio_s": samples.shape[1] / model.sampling_rate}, call) for part, call in calls.items()]


def _continuation_runs(model: AudioLMModel, length_s: float, skipped: dict[str, str]) -> list[Run]:
    runs: list[Run] = []
    modes, prompt = model.config.acoustic_modes, _noise(model, PROMPT_LENGTH_S)
    for mode in ("hierarchical", "parallel"):
        if mode not in modes:
            skipped[f"{mode} continuations"] = "the checkpoint has no stages for it"
            continue
        options: dict[str, Any] = {"continuation_length_s": length_s, "min_continuation_length_s": length_s, "seed": 0}
        options |= {"acoustic_mode": mode} if len(modes) > 1 else {}
        runs.append(({"mode": mode, "audio_s": length_s}, partial(model.generate, prompt, **options)))
        first_chunk = partial(lambda options: next(model.stream(prompt, **options)), options)
        runs.append(({"mode": f"{mode}, first chunk"}, first_chunk))
    return runs


def _noise(model: AudioLMModel, length_s: float) -> Tensor:
    count = max(1, int(length_s * model.sampling_rate))
    return 0.1 * torch.randn(1, count, generator=torch.Generator().manual_seed(0)).to(model.device)


def format_generation(report: dict[str, Any]) -> str:
    """Format the result of [`measure_generation`] as tables."""
    parts = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in report["parameters"].items())
    titles = {"stages": "stage", "codec": "part", "continuations": "mode", "sizes": "stage"}
    tables = [
        _format_rows(
            report[section], [name, *(key for key in ("size", "system", "batch") if key in report[section][0])]
        )
        for section, name in titles.items()
        if report.get(section)
    ]
    memory = f"peak memory: {report['peak_memory_mib']:,.0f} MiB" if report["peak_memory_mib"] else ""
    skipped = "\n".join(f"skipped: {name}: {reason}" for name, reason in report["skipped"].items())
    title = f"{report['device']}, torch {report['torch']}; parameters in {report['dtype']}: {parts}"
    return join_parts([title, *tables, memory, skipped]).rstrip("\n")


def _format_rows(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    metrics = {
        "tokens_per_s": ("tokens/s", "{:,.0f}"),
        "ms_per_step": ("ms a step", "{:.2f}"),
        "seconds": ("seconds", "{:.3f}"),
        "cpu_seconds": ("CPU seconds", "{:.3f}"),
        "realtime_factor": ("real-time factor", "{:.3f}"),
    }
    shown = {key: texts for key, texts in metrics.items() if any(key in row for row in rows)}
    cells = [
        [str(row.get(name, "-")) for name in names]
        + [style.format(row[key]) if key in row else "-" for key, (_, style) in shown.items()]
        for row in rows
    ]
    return format_table([*names, *(title for title, _ in shown.values())], cells)


def _seconds(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the seconds of a call, including the work of the device, and the processor time of this process."""
    start, cpu_start = time.perf_counter(), time.process_time()
    run()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start, time.process_time() - cpu_start


def _peak_memory_mib(device: torch.device) -> float | None:
    """Return the most memory that the GPU, or else the process, has used; `None` where it is not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    cpu = f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"
    return cpu if device.type == "cpu" else str(device)
