# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Examples for a model card: a spectrogram of each continuation beside what really came next, as small PNG files."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.metrics.spectrograms import save_spectrograms
from audiolm_hf.evaluation.protocols.continuation import TASKS, ContinuationKind, choose_recordings, continue_prompt
from audiolm_hf.modeling_audiolm import AudioLMModel

MAX_BYTES = 70_000  # of one picture
_COLOURS = (128, 64, 32, 16)


def save_small_spectrograms(
    arrays: Mapping[str, np.ndarray], sampling_rate: int, path: Path, boundary_s: float, max_bytes: int = MAX_BYTES
) -> None:
    """Draw spectrograms with as many colours as fit into a size, see [`save_spectrograms`].

    Args:
        arrays (`dict[str, np.ndarray]`): titles and waveforms of shape `(num_samples,)`.
        sampling_rate (`int`): Hz.
        path (`Path`): PNG file to write.
        boundary_s (`float`): a line is drawn at this time, in seconds.
        max_bytes (`int`, defaults to 120000): most bytes of the file.

    Raises:
        ValueError: it does not fit even with 16 colours.
    """
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
    folder: str | Path,
    num_samples: int = 6,
    seed: int = 0,
    kind: ContinuationKind = "speech",
) -> dict[str, Any]:
    """Continue prompts and draw prompt and continuation above prompt and real continuation.

    Args:
        model ([`AudioLMModel`]): continues.
        source ([`AudioSource`]): unheard recordings at the model's rate.
        folder (`str` or `Path`): receives `sample_1.png` and so on.
        num_samples (`int`, defaults to 6): most examples.
        seed (`int`, defaults to 0): of the continuations.
        kind (`"speech"` or `"piano"`, defaults to `"speech"`): decides the lengths.

    Returns:
        `dict`: `files`, the names written, and the `recordings` they are of.
    """
    task = TASKS[kind]
    boundary = round(task.prompt_length_s * model.sampling_rate)
    end = boundary + round(task.continuation_length_s * model.sampling_rate)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files, recordings = [], []
    for number, record in enumerate(choose_recordings(source, end, num_samples)):
        prompt = record.array[:boundary]
        made = continue_prompt(model, prompt, task.continuation_length_s, seed + number)[0]
        arrays = {"prompt | continuation": np.concatenate([prompt, made]), "prompt | real": record.array[:end]}
        files.append(f"sample_{number + 1}.png")
        recordings.append(record.id.rpartition("/")[2])
        save_small_spectrograms(arrays, model.sampling_rate, folder / files[-1], task.prompt_length_s)
    return {"files": files, "recordings": recordings, "seed": seed}


__all__ = ["MAX_BYTES", "save_samples", "save_small_spectrograms"]
