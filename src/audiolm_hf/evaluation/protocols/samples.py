# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Examples for a model card: continuations in MP3 files, and their spectrograms above the real ones in PNG files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiolm_hf.audio_file_audiolm import write_audio
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.metrics.spectrograms import save_spectrograms
from audiolm_hf.evaluation.protocols.continuation import TASKS, ContinuationKind, choose_recordings, continue_prompts
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.provenance_audiolm import provenance

_NUM_COLOURS = 16  # about 60 kB per picture


@torch.inference_mode()
def save_samples(
    model: AudioLMModel,
    source: AudioSource,
    folder: Path,
    num_samples: int = 6,
    seed: int = 0,
    kind: ContinuationKind = "speech",
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Write prompts with their continuations, and draw them above prompts with the real continuations.

    Returns the names of the PNG `files` in `folder`, and of their `recordings`. An MP3 file of the same name is beside
    each; its metadata name the folder `checkpoint`, if given.
    """
    task = TASKS[kind]
    boundary = round(task.prompt_length_s * model.sampling_rate)
    end = boundary + round(task.continuation_length_s * model.sampling_rate)
    folder.mkdir(parents=True, exist_ok=True)
    files, recordings = [], []
    for number, record in enumerate(choose_recordings(source, end, num_samples)):
        prompt = record.array[:boundary]
        ((made,),) = continue_prompts(model, prompt[None], task.continuation_length_s, seed + number)
        whole = np.concatenate([prompt, made])
        arrays = {"prompt | continuation": whole, "prompt | real": record.array[:end]}
        files.append(f"sample_{number + 1}.png")
        facts = provenance(checkpoint, seed + number)
        write_audio((folder / files[-1]).with_suffix(".mp3"), whole, model.sampling_rate, facts)
        recordings.append(record.id)
        save_spectrograms(arrays, model.sampling_rate, folder / files[-1], task.prompt_length_s, _NUM_COLOURS)
    return {"files": files, "recordings": recordings, "seed": seed}


def format_samples(result: dict[str, Any]) -> str:
    """Return the pictures of [`save_samples`] as Markdown, with links to the audio."""
    named = zip(result["files"], result["recordings"], strict=True)
    return "\n\n".join(
        f"![{recording}](samples/{file})\n[{recording}, audio](samples/{Path(file).stem}.mp3)"
        for file, recording in named
    )
