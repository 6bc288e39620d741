# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Examples for a model card: spectrograms of continuations above the real ones, as small PNG files."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.metrics.spectrograms import save_spectrograms
from audiolm_hf.evaluation.protocols.continuation import TASKS, ContinuationKind, choose_recordings, continue_prompts
from audiolm_hf.modeling_audiolm import AudioLMModel

MAX_BYTES = 70_000  # of one picture
_COLOURS = (128, 64, 32, 16)


def save_small_spectrograms(
    arrays: Mapping[str, np.ndarray], sampling_rate: int, path: Path, boundary_s: float, max_bytes: int = MAX_BYTES
) -> None:
    """Draw spectrograms with as many colours as fit into a size, see [`save_spectrograms`].

    Raises:
        ValueError: it does not fit even with 16 colours.
    """
    from PIL import Image

    save_spectrograms(arrays, sampling_rate, path, boundary_s)
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    for colours in _COLOURS:
        buffer = io.BytesIO()
        whole.quantize(colours, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
        if buffer.tell() <= max_bytes:
            path.write_bytes(buffer.getvalue())
            return
    raise ValueError(f"{path} has {buffer.tell()} bytes with {colours} colours; draw fewer or shorter sounds.")


@torch.inference_mode()
def save_samples(
    model: AudioLMModel,
    source: AudioSource,
    folder: Path,
    num_samples: int = 6,
    seed: int = 0,
    kind: ContinuationKind = "speech",
) -> dict[str, Any]:
    """Continue prompts and draw prompt and continuation above prompt and real continuation.

    Args:
        model ([`AudioLMModel`]): continues.
        source ([`AudioSource`]): held-out recordings at the model's rate.
        folder (`Path`): receives `sample_1.png` and so on.
        num_samples (`int`, defaults to 6): most examples.
        seed (`int`, defaults to 0): of the continuations.
        kind (`"speech"` or `"piano"`, defaults to `"speech"`): decides the lengths.

    Returns:
        `dict`: `files`, the names written, and the `recordings` they are of.
    """
    task = TASKS[kind]
    boundary = round(task.prompt_length_s * model.sampling_rate)
    end = boundary + round(task.continuation_length_s * model.sampling_rate)
    folder.mkdir(parents=True, exist_ok=True)
    files, recordings = [], []
    for number, record in enumerate(choose_recordings(source, end, num_samples)):
        prompt = record.array[:boundary]
        ((made,),) = continue_prompts(model, prompt[None], task.continuation_length_s, seed + number)
        arrays = {"prompt | continuation": np.concatenate([prompt, made]), "prompt | real": record.array[:end]}
        files.append(f"sample_{number + 1}.png")
        recordings.append(record.id.rpartition("/")[2])
        save_small_spectrograms(arrays, model.sampling_rate, folder / files[-1], task.prompt_length_s)
    return {"files": files, "recordings": recordings, "seed": seed}


def format_samples(result: dict[str, Any]) -> str:
    """Return the pictures of [`save_samples`] as Markdown."""
    named = zip(result["files"], result["recordings"], strict=True)
    return "\n".join(f"![{recording}](samples/{file})" for file, recording in named)


__all__ = ["MAX_BYTES", "format_samples", "save_samples", "save_small_spectrograms"]
