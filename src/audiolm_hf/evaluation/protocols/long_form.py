# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Long continuations, block by block: whether loudness, silence and the speaker drift away from the prompt.

Each continuation is streamed and measured in blocks of 10 s, in memory that does not grow with its length. The real
recording after the prompt, as far as it goes, is the topline.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.bootstrap import paired_difference, summarize
from audiolm_hf.evaluation.metrics.acoustics import silence_share, timbre_similarity
from audiolm_hf.evaluation.metrics.speaker import SpeakerEmbedder, speaker_embedding_is_available
from audiolm_hf.evaluation.metrics.spectrograms import level_db
from audiolm_hf.evaluation.protocols.continuation import TASKS, ContinuationKind, choose_recordings
from audiolm_hf.evaluation.report import format_interval, format_table, join_parts
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.progress import progress_bar

BLOCK_S = 10.0
SHORTEST_S = 60.0  # length from which on continuations are compared by blocks
METRICS = {
    "loudness_db": "loudness dB",
    "silence_share": "silence",
    "speaker_similarity": "speaker",
    "timbre_similarity": "timbre",
}


def evaluate_long_form(
    model: AudioLMModel,
    source: AudioSource,
    num_prompts: int,
    prompt_length_s: float | None,
    continuation_length_s: float,
    seed: int = 0,
    kind: ContinuationKind = "speech",
) -> dict[str, Any]:
    """Measure every 10 s of long continuations, compared with their prompts.

    The result has `blocks`, a row of means for the prompt, for up to 10 s of the real recording after it, and for each
    block of the continuations; `drift`, the last block minus the first one with bootstrap intervals; and settings. A
    last block shorter than a second is left out. Without a recording that lasts a second longer than a prompt, a
    `ValueError` is raised.
    """
    prompt_length_s = prompt_length_s or TASKS[kind].prompt_length_s
    rate = model.sampling_rate
    boundary = round(prompt_length_s * rate)
    records = choose_recordings(source, boundary + rate, num_prompts)
    embedder = SpeakerEmbedder() if kind == "speech" and speaker_embedding_is_available() else None
    rows: dict[str, list[dict[str, float]]] = {}
    for number, record in enumerate(records):
        prompt, after = record.array[:boundary], record.array[boundary : boundary + round(BLOCK_S * rate)]
        measure = _measure(prompt, rate, embedder)
        chunks = model.stream(
            torch.from_numpy(prompt)[None].to(model.device),
            continuation_length_s=continuation_length_s,
            min_continuation_length_s=continuation_length_s,
            seed=seed + number,
            chunk_s=BLOCK_S,
        )
        for name, block in chain([("prompt", prompt), ("real", after)], _blocks(chunks, rate, f"prompt {number + 1}")):
            rows.setdefault(name, []).append(measure(block))
    columns = {name: {key: [row[key] for row in each] for key in each[0]} for name, each in rows.items()}
    blocks = {
        name: {key: summarize(values, seed)["mean"] for key, values in each.items()} for name, each in columns.items()
    }
    _, _, first, *_, last = columns
    drift = {key: paired_difference(columns[last][key], columns[first][key], seed) for key in columns[first]}
    return {
        "kind": kind,
        "num_prompts": len(records),
        "prompt_length_s": prompt_length_s,
        "continuation_length_s": continuation_length_s,
        "seed": seed,
        "recordings": [record.id for record in records],
        "blocks": blocks,
        "drift": drift,
        "rows": rows,
    }


def _measure(
    prompt: np.ndarray, rate: int, embedder: SpeakerEmbedder | None
) -> Callable[[np.ndarray], dict[str, float]]:
    voice = None if embedder is None else embedder.embed(prompt, rate)

    def measure(block: np.ndarray) -> dict[str, float]:
        found = {"loudness_db": level_db(block), "silence_share": silence_share(block, prompt, rate)}
        if embedder is not None:
            found["speaker_similarity"] = float(embedder.embed(block, rate) @ voice)
        return found | {"timbre_similarity": timbre_similarity(block, prompt, rate)}

    return measure


def _blocks(chunks: Iterable[torch.Tensor], rate: int, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name the blocks of a continuation by their times; one shorter than a second is left out."""
    for place, chunk in enumerate(progress_bar(chunks, desc=name, unit="block")):
        if len(chunk) >= rate:
            start_s = place * BLOCK_S
            yield f"{start_s:g}-{start_s + len(chunk) / rate:g} s", chunk.float().cpu().numpy()


def format_long_form(report: dict[str, Any]) -> str:
    """Format the result of [`evaluate_long_form`] as tables."""
    names = [name for name in METRICS if name in report["drift"]]
    blocks = [[block, *(f"{row[name]:.2f}" for name in names)] for block, row in report["blocks"].items()]
    drift = [format_interval(report["drift"][name]) for name in names]
    header = [METRICS[name] for name in names]
    return join_parts(
        [
            f"{report['num_prompts']} prompts of {report['prompt_length_s']:g} s, continued by "
            f"{report['continuation_length_s']:g} s, seed {report['seed']}; means of blocks of {BLOCK_S:g} s",
            format_table(["block", *header], blocks),
            "Last block minus the first one, with 95 % bootstrap intervals over the prompts",
            format_table(header, [drift]),
        ]
    )
