# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Does a checkpoint, or an adapter on it, speak in one given voice? Speaker similarity of its continuations.

Recordings of the voice that were not learned from are begun and continued, with and without the adapter and with the
same seeds. Every continuation is compared with the voice (the mean embedding of other recordings of the speaker) and
with its prompt; real continuations, the same through the codec, and another speaker's words stand beside them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.evaluation.bootstrap import paired_difference
from audiolm_hf.evaluation.metrics.speaker import SpeakerEmbedder, speaker_similarity
from audiolm_hf.evaluation.report import format_table
from audiolm_hf.modeling_audiolm import AudioLMModel

VOICE_RECORDINGS = 24  # at most: some minutes fix the mean embedding of a voice
BATCH_SIZE = 16  # prompts continued at once; a row's result does not depend on it
_FIGURES = {"voice": "to the voice", "prompt": "to its prompt"}


@torch.inference_mode()
def evaluate_voice(
    model: AudioLMModel,
    recordings: Sequence[AudioRecord],
    others: Sequence[AudioRecord] = (),
    num_prompts: int = 16,
    prompt_length_s: float = 3.0,
    continuation_length_s: float = 5.0,
    num_continuations: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Continue recordings of one speaker and measure whose voice goes on.

    Args:
        model ([`AudioLMModel`]): if it has an adapter, it is measured without and with it.
        recordings (sequence of [`AudioRecord`]): of the speaker, none of them learned from.
        others (sequence of [`AudioRecord`]): of other speakers, as a floor.
        num_prompts (`int`, defaults to 16): the first so many recordings that are long enough.
        prompt_length_s (`float`, defaults to 3.0): seconds given.
        continuation_length_s (`float`, defaults to 5.0): seconds continued.
        num_continuations (`int`, defaults to 1): of each prompt; their similarities are averaged.
        seed (`int`, defaults to 0): of the samples and of the bootstrap.

    Returns:
        `dict`: for each of `systems`, the mean similarity to the `voice` and to the `prompt`; with an adapter, for
        both the mean `gain` over the base with its 95 % interval (paired bootstrap over prompts); every prompt's
        figures.

    Raises:
        ImportError: resemblyzer is not installed.
        ValueError: fewer than two recordings are long enough.
    """
    embedder = SpeakerEmbedder()
    boundary = round(prompt_length_s * model.sampling_rate)
    end = boundary + round(continuation_length_s * model.sampling_rate)
    chosen = [record for record in recordings if len(record.array) >= end][:num_prompts]
    if len(chosen) < 2:
        raise ValueError(
            f"{len(chosen)} of {len(recordings)} recordings last {end / model.sampling_rate:g} s; give two or more."
        )
    heard = recordings[:VOICE_RECORDINGS]
    embeddings = [embedder.embed(record.array, model.sampling_rate) for record in heard]
    voices = {record.id: _voice(record, heard, embeddings) for record in chosen}

    prompts = np.stack([record.array[:boundary] for record in chosen])
    options = {"continuation_length_s": continuation_length_s, "num_return_sequences": num_continuations, "seed": seed}
    systems = _continue_all(model, prompts, options)
    real = [record.array[boundary:end] for record in chosen]
    systems |= {"real": [[array] for array in real], "real, coded": [[_coded(model, array)] for array in real]}
    strangers = [record.array[boundary:end] for record in others if len(record.array) >= end][: len(chosen)]
    if len(strangers) == len(chosen):
        systems["another speaker"] = [[array] for array in strangers]

    rows: dict[str, dict[str, list[float]]] = {}
    for name, clips in systems.items():
        vectors = [[embedder.embed(clip, model.sampling_rate) for clip in each] for each in clips]
        targets = {
            "voice": [voices[record.id] for record in chosen],
            "prompt": [embedder.embed(prompt, model.sampling_rate) for prompt in prompts],
        }
        rows[name] = {
            figure: [
                float(np.mean([speaker_similarity(vector, target) for vector in each]))
                for each, target in zip(vectors, vectors_of, strict=True)
            ]
            for figure, vectors_of in targets.items()
        }
    return {
        "systems": {name: {figure: float(np.mean(row[figure])) for figure in _FIGURES} for name, row in rows.items()},
        "gain": _gains(rows, seed) if "adapter" in rows else {},
        "prompts": [record.id for record in chosen],
        "similarities": rows,
        "prompt_length_s": prompt_length_s,
        "continuation_length_s": continuation_length_s,
        "num_continuations": num_continuations,
        "seed": seed,
    }


def _voice(record: AudioRecord, recordings: Sequence[AudioRecord], embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Mean embedding of the speaker's recordings, this one left out."""
    others = [vector for other, vector in zip(recordings, embeddings, strict=True) if other.id != record.id]
    return np.mean(others, axis=0)


def _continue_all(model: AudioLMModel, prompts: np.ndarray, options: dict[str, Any]) -> dict[str, list]:
    """Continuations of all prompts, a list for each prompt, without and (where there is one) with the adapter."""
    if not hasattr(model, "peft_config"):
        return {"base": _continue(model, prompts, options, "base")}
    model.disable_adapters()
    systems = {"base": _continue(model, prompts, options, "base")}
    model.enable_adapters()
    systems["adapter"] = _continue(model, prompts, options, "adapter")
    return systems


def _continue(model: AudioLMModel, prompts: np.ndarray, options: dict[str, Any], name: str) -> list[list[np.ndarray]]:
    clips: list[list[np.ndarray]] = []
    for first in tqdm(range(0, len(prompts), BATCH_SIZE), desc=f"continue, {name}", unit="batch"):
        batch = torch.from_numpy(prompts[first : first + BATCH_SIZE])
        length = options["continuation_length_s"]
        output = model.generate(batch, min_continuation_length_s=length, **options)
        starts, stops = output.prompt_lengths.tolist(), output.audio_lengths.tolist()
        rows = [
            audio[start:stop].float().cpu().numpy()
            for audio, start, stop in zip(output.audio_values.unbind(), starts, stops, strict=True)
        ]
        each = options["num_return_sequences"]
        clips += [rows[place : place + each] for place in range(0, len(rows), each)]
    return clips


def _coded(model: AudioLMModel, array: np.ndarray) -> np.ndarray:
    codec = model.acoustic_codec
    clip = torch.from_numpy(array)[None].to(model.device)
    return codec.decode(codec.encode(clip))[0, : len(array)].cpu().numpy()


def _gains(rows: dict[str, dict[str, list[float]]], seed: int) -> dict[str, dict[str, Any]]:
    """Mean difference between adapter and base over the prompts, with its 95 % bootstrap interval."""
    gains = {}
    for figure in _FIGURES:
        with_adapter, without = rows["adapter"][figure], rows["base"][figure]
        better = sum(first > second for first, second in zip(with_adapter, without, strict=True))
        gains[figure] = paired_difference(with_adapter, without, seed) | {"prompts_better": better}
    return gains


def format_voice_report(report: dict[str, Any]) -> str:
    """Lay out the result of [`evaluate_voice`] as a table for a terminal."""
    rows = [[name, *(f"{figures[figure]:.3f}" for figure in _FIGURES)] for name, figures in report["systems"].items()]
    count = len(report["prompts"])
    parts = [
        f"Speaker similarity (cosine): {count} held-back prompts of {report['prompt_length_s']:g} s, "
        f"{report['num_continuations']} continuation(s) of {report['continuation_length_s']:g} s each",
        format_table(["system", *_FIGURES.values()], rows),
    ]
    for figure, gain in report["gain"].items():
        parts.append(
            f"Adapter over base, {_FIGURES[figure]}: {gain['mean']:+.3f}, 95 % interval {gain['low']:+.3f} to "
            f"{gain['high']:+.3f}, better for {gain['prompts_better']} of {count} prompts"
        )
    return "\n\n".join(parts) + "\n"


__all__ = ["BATCH_SIZE", "VOICE_RECORDINGS", "evaluate_voice", "format_voice_report"]
