# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Voice protocol: speaker similarity of continuations of one speaker, with and without an adapter.

Every continuation is compared with the voice (the mean embedding of other recordings of the speaker) and with its
prompt. The baselines are the real continuations, their resynthesis, and another speaker.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.evaluation.bootstrap import paired_difference
from audiolm_hf.evaluation.metrics.speaker import SpeakerEmbedder, speaker_similarity
from audiolm_hf.evaluation.protocols.continuation import RESYNTHESIS, continue_prompts, resynthesize
from audiolm_hf.evaluation.report import join_parts, systems_table
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.progress import progress_bar

VOICE_RECORDINGS = 24  # maximum; some minutes suffice for the mean embedding of a voice
BATCH_SIZE = 16  # number of prompts per batch; the results do not depend on it
METRICS = {"voice": "to the voice", "prompt": "to its prompt"}
_Clips = list[list[np.ndarray]]  # of each prompt its continuations


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
    """Continue held-out recordings of a speaker and measure the similarity to the speaker.

    If the model has an adapter, the base is also evaluated with the same seeds. `others` are recordings of other
    speakers, for a floor. At most `num_prompts` recordings that are long enough are continued; lengths are in seconds.
    The result has `systems`, the mean similarity of each to the `voice` and to the `prompt`; with an adapter, the mean
    `gain` over the base with its 95 % interval (paired bootstrap over prompts); and the `rows` of all prompts.

    Raises:
        ImportError: resemblyzer is not installed.
        ValueError: fewer than two recordings are long enough.
    """
    embedder = SpeakerEmbedder()
    rate = model.sampling_rate
    boundary = round(prompt_length_s * rate)
    end = boundary + round(continuation_length_s * rate)
    chosen = [record for record in recordings if len(record.array) >= end][:num_prompts]
    if len(chosen) < 2:
        raise ValueError(f"{len(chosen)} of {len(recordings)} recordings last {end / rate:g} s; give two or more.")
    prompts = np.stack([record.array[:boundary] for record in chosen])
    vectors = {record.id: embedder.embed(record.array, rate) for record in recordings[:VOICE_RECORDINGS]}
    targets = {  # the voice excludes the recording that is compared with it
        "voice": [np.mean([vectors[name] for name in vectors if name != record.id], axis=0) for record in chosen],
        "prompt": [embedder.embed(prompt, rate) for prompt in prompts],
    }
    systems = _continue_all(model, prompts, (continuation_length_s, seed, num_continuations))
    real = [record.array[boundary:end] for record in chosen]
    systems |= {"real": [[array] for array in real], RESYNTHESIS: [resynthesize(model, array) for array in real]}
    strangers = [record.array[boundary:end] for record in others if len(record.array) >= end][: len(chosen)]
    if len(strangers) == len(chosen):
        systems["another speaker"] = [[array] for array in strangers]
    rows = {name: _similarities(clips, targets, embedder, rate) for name, clips in systems.items()}
    return {
        "systems": {name: {metric: float(np.mean(row[metric])) for metric in METRICS} for name, row in rows.items()},
        "gain": _gains(rows, seed) if "adapter" in rows else {},
        "prompts": [record.id for record in chosen],
        "rows": rows,
        "prompt_length_s": prompt_length_s,
        "continuation_length_s": continuation_length_s,
        "num_continuations": num_continuations,
        "seed": seed,
    }


def _similarities(
    clips: _Clips, targets: dict[str, list[np.ndarray]], embedder: SpeakerEmbedder, sampling_rate: int
) -> dict[str, list[float]]:
    """Return the mean similarity of each prompt's clips to each of its targets."""
    vectors = [[embedder.embed(clip, sampling_rate) for clip in each] for each in clips]
    return {
        metric: [
            float(np.mean([speaker_similarity(vector, target) for vector in each]))
            for each, target in zip(vectors, of_prompts, strict=True)
        ]
        for metric, of_prompts in targets.items()
    }


def _continue_all(model: AudioLMModel, prompts: np.ndarray, options: tuple[float, int, int]) -> dict[str, _Clips]:
    """Return the continuations of all prompts without the adapter and, if there is one, with it."""

    def continue_with(name: str) -> _Clips:
        batches = progress_bar(range(0, len(prompts), BATCH_SIZE), desc=f"continue, {name}", unit="batch")
        return [
            clips
            for first in batches
            for clips in continue_prompts(model, prompts[first : first + BATCH_SIZE], *options)
        ]

    if not hasattr(model, "peft_config"):
        return {"base": continue_with("base")}
    model.disable_adapters()
    systems = {"base": continue_with("base")}
    model.enable_adapters()
    return systems | {"adapter": continue_with("adapter")}


def _gains(rows: dict[str, dict[str, list[float]]], seed: int) -> dict[str, dict[str, Any]]:
    """Return the mean difference between adapter and base over the prompts, with its 95 % bootstrap interval."""
    gains = {}
    for metric in METRICS:
        with_adapter, without = rows["adapter"][metric], rows["base"][metric]
        better = sum(first > second for first, second in zip(with_adapter, without, strict=True))
        gains[metric] = paired_difference(with_adapter, without, seed) | {"prompts_better": better}
    return gains


def format_voice(result: dict[str, Any]) -> str:
    """Format the result of [`evaluate_voice`] as a table."""
    count = len(result["prompts"])
    parts = [
        f"Speaker similarity (cosine): {count} held-out prompts of {result['prompt_length_s']:g} s, "
        f"{result['num_continuations']} continuation(s) of {result['continuation_length_s']:g} s each",
        systems_table(result["systems"], METRICS),
    ]
    parts += [
        f"Adapter over base, {METRICS[metric]}: {gain['mean']:+.3f}, 95 % interval {gain['low']:+.3f} to "
        f"{gain['high']:+.3f}, better for {gain['prompts_better']} of {count} prompts"
        for metric, gain in result["gain"].items()
    ]
    return join_parts(parts)
