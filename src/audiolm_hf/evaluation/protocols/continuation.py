# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Continuation protocol: metrics of a model's continuations, compared with toplines and floors.

Toplines are the real continuation and its resynthesis by the codec. Floors are another speaker or piece, the prompt
again, white noise, and silence. A coarse or parallel stage that was also trained without semantic tokens is also
evaluated without them, like the paper's acoustic-only model. None of the metrics measures words or meaning.

Paper: AudioLM (arXiv 2209.03143), continuations of 3 s of speech and of 4 s of piano.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.evaluation.bootstrap import paired_difference, summarize
from audiolm_hf.evaluation.metrics.acoustics import acoustic_metrics
from audiolm_hf.evaluation.metrics.music import music_metrics
from audiolm_hf.evaluation.metrics.prosody import prosody_metrics
from audiolm_hf.evaluation.metrics.quality import SpeechQuality
from audiolm_hf.evaluation.metrics.speaker import (
    INSTALL_COMMAND,
    SpeakerEmbedder,
    SpeakerVerifier,
    speaker_embedding_is_available,
)
from audiolm_hf.evaluation.report import Headline, format_interval, format_table, join_parts
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.progress import progress_bar
from audiolm_hf.stages_audiolm import STAGES

ContinuationKind = Literal["speech", "piano"]
ACOUSTIC_ONLY = "acoustic only"  # the coarse or parallel stage without semantic tokens
RESYNTHESIS, COARSE_RESYNTHESIS = "resynthesis", "resynthesis, coarse codes"
NUM_OTHERS = 8  # number of recordings in the floor of other speakers or pieces
ACOUSTIC_METRICS = {
    "loudness_db": "loudness dB",
    "silence_share": "silence",
    "flatness": "flatness",
    "repetition": "repetition",
    "timbre_similarity": "timbre",
}
SPEECH_METRICS = {
    "speaker_similarity": "speaker",
    "speaker_found": "found",
    "quality": "DistillMOS",
    "syllable_rate": "syllables/s",
    "pause_share": "pauses",
    "voiced_share": "voiced",
    "pitch_hz": "pitch Hz",
    "pitch_spread": "spread st",
}
PIANO_METRICS = {
    "same_key": "same key",
    "key_agreement": "key",
    "pitch_class_similarity": "pitch classes",
    "onset_rate": "onsets/s",
    "onset_ratio": "rate ratio",
    "inter_onset_ratio": "gap ratio",
    "loudness_difference_db": "loudness diff dB",
}


@dataclass(frozen=True)
class ContinuationTask:
    """Prompts and metrics of a kind of audio.

    `metrics` are the titles of all metrics, and `measure` returns those that are specific to this kind of audio. The
    intervals of the `decisive` metrics are printed. `source_of` returns the speaker or the piece of a recording, which
    is another one in the recordings of the `floor`.
    """

    prompt_length_s: float
    continuation_length_s: float
    metrics: dict[str, str]
    measure: Callable[[np.ndarray, np.ndarray, int], dict[str, float]]
    decisive: tuple[str, ...]
    floor: str
    source_of: Callable[[AudioRecord], str]


TASKS: dict[ContinuationKind, ContinuationTask] = {
    "speech": ContinuationTask(
        3.0,
        7.0,
        ACOUSTIC_METRICS | SPEECH_METRICS,
        prosody_metrics,
        ("speaker_similarity", "speaker_found", "quality"),
        "another speaker",
        lambda record: record.speaker,
    ),
    "piano": ContinuationTask(
        4.0,
        10.0,
        ACOUSTIC_METRICS | PIANO_METRICS,
        music_metrics,
        ("key_agreement", "pitch_class_similarity"),
        "another piece",
        lambda record: record.text or record.id,
    ),
}


def choose_recordings(source: AudioSource, num_samples: int, count: int) -> list[AudioRecord]:
    """Return at most `count` recordings of at least `num_samples` samples, one of each speaker in turn."""
    by_speaker: dict[str, list[int]] = {}
    for place, (speaker, duration) in enumerate(zip(source.speakers, source.durations, strict=True)):
        if round(duration * source.sampling_rate) >= num_samples:
            by_speaker.setdefault(speaker, []).append(place)
    turns = [(turn, place) for places in by_speaker.values() for turn, place in enumerate(places)]
    if not turns:
        raise ValueError(
            f"No recording lasts {num_samples / source.sampling_rate:.1f} s (the longest {source.durations.max():.1f} "
            "s); give longer recordings, or a shorter prompt and continuation."
        )
    return [source[place] for _, place in sorted(turns)[:count]]


def resynthesize(model: AudioLMModel, array: np.ndarray, *num_codebooks: int) -> list[np.ndarray]:
    """Return waveforms `(num_samples,)` decoded from the codes, one for each number of levels, by default all."""
    codec = model.acoustic_codec
    codes = codec.encode(torch.from_numpy(array)[None].to(model.device))
    made = [codec.decode(codes[:, :count]) for count in num_codebooks or [codec.num_codebooks]]
    return [values[0, : len(array)].float().cpu().numpy() for values in made]


def continue_prompts(
    model: AudioLMModel,
    prompts: np.ndarray | None,
    continuation_length_s: float,
    seed: int,
    num_continuations: int = 1,
    **stage_kwargs: Any,
) -> list[list[np.ndarray]]:
    """Continue prompts `(batch, num_samples)`, or generate without one, by an exact length.

    `stage_kwargs` are options of `AudioLMModel.generate`. Returns the continuations of each prompt, float32 of shape
    `(num_samples,)`, without the prompt.
    """
    output = model.generate(
        None if prompts is None else torch.from_numpy(prompts).to(model.device),
        continuation_length_s=continuation_length_s,
        min_continuation_length_s=continuation_length_s,
        num_return_sequences=num_continuations,
        seed=seed,
        **stage_kwargs,
    )
    spans = zip(output.prompt_lengths.tolist(), output.audio_lengths.tolist(), strict=True)
    rows = [output.audio_values[row, start:stop].float().cpu().numpy() for row, (start, stop) in enumerate(spans)]
    return [rows[place : place + num_continuations] for place in range(0, len(rows), num_continuations)]


def baselines(
    prompt: np.ndarray, real: np.ndarray, model: AudioLMModel, seed: int, others: Sequence[np.ndarray], floor: str
) -> dict[str, list[np.ndarray]]:
    """Return the toplines and floors of a continuation, each as long as the real continuation."""
    loudness = np.sqrt((prompt.astype(np.float64) ** 2).mean())
    noise = np.random.default_rng(seed).standard_normal(len(real))
    systems = {"real": [real], RESYNTHESIS: resynthesize(model, real)}
    levels = model.num_generated_codebooks()  # the levels that a continuation is decoded from
    if levels < model.acoustic_codec.num_codebooks:
        systems[COARSE_RESYNTHESIS] = resynthesize(model, real, levels)
    if others:
        systems[floor] = list(others)
    return systems | {
        "prompt again": [np.resize(prompt, len(real))],
        "white noise": [(loudness * noise).astype(np.float32)],
        "silence": [np.zeros_like(real)],
    }


@torch.inference_mode()
def evaluate_continuation(
    model: AudioLMModel,
    source: AudioSource,
    num_prompts: int = 8,
    prompt_length_s: float | None = None,
    continuation_length_s: float | None = None,
    seed: int = 0,
    kind: ContinuationKind = "speech",
    num_continuations: int = 1,
    quality: bool = False,
    **stage_kwargs: Any,
) -> dict[str, Any]:
    """Continue the beginnings of held-out recordings and compute metrics of the continuations.

    At most `num_prompts` recordings are used, one of each speaker in turn. The lengths, in seconds, are by default
    those of `TASKS[kind]`. With `quality`, DistillMOS also scores all clips. `stage_kwargs` are options of
    `AudioLMModel.generate`, such as `semantic_temperature=0.8`. The result has `systems` (means of the keys of
    `TASKS[kind].metrics`), `intervals` (the same with bootstrap intervals), `differences` of the model and each
    system, `rows` (the metrics of every prompt) and settings.

    Raises:
        ValueError: if no recording is long enough.
        ImportError: if `quality` is set and DistillMOS is not installed.
    """
    task = TASKS[kind]
    prompt_length_s = prompt_length_s or task.prompt_length_s
    continuation_length_s = continuation_length_s or task.continuation_length_s
    boundary = round(prompt_length_s * model.sampling_rate)
    end = boundary + round(continuation_length_s * model.sampling_rate)
    records = choose_recordings(source, end, num_prompts)
    measurable = kind == "speech" and speaker_embedding_is_available()
    verifier = SpeakerVerifier(SpeakerEmbedder(), source) if measurable else None
    variants = _variants(model, stage_kwargs)
    quality_model = SpeechQuality(model.device) if quality else None
    rows: dict[str, list[dict[str, float]]] = {}
    for number, record in enumerate(progress_bar(records, desc="continue", unit="prompt")):
        prompt, real = record.array[:boundary], record.array[boundary:end]
        options = (prompt[None], continuation_length_s, seed + number, num_continuations)
        made = {name: continue_prompts(model, *options, **each)[0] for name, each in variants.items()}
        following = [*records[number + 1 :], *records[:number]]
        unrelated = [other for other in following if task.source_of(other) != task.source_of(record)]
        others = [other.array[boundary:end] for other in unrelated[:NUM_OTHERS]]
        measure = _measure(task, prompt, record, verifier, quality_model)
        for name, arrays in (made | baselines(prompt, real, model, seed + number, others, task.floor)).items():
            rows.setdefault(name, []).append(_mean_metrics([measure(array) for array in arrays]))
    return _summary(rows, seed) | {
        "kind": kind,
        "num_prompts": len(records),
        "num_continuations": num_continuations,
        "num_others": NUM_OTHERS,
        "num_speakers": len({record.speaker for record in records}),
        "num_known_speakers": verifier.num_speakers if verifier else 0,
        "recordings": [record.id for record in records],
        "prompt_length_s": prompt_length_s,
        "continuation_length_s": continuation_length_s,
        "seed": seed,
        "speaker_note": _speaker_note(kind, verifier),
    }


def _variants(model: AudioLMModel, stage_kwargs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of the model's systems: the model and, if it was trained for that, the acoustic-only one."""
    stages = model.config.stage_configs
    scales = {
        f"{name}_guidance_scale": 0.0
        for name in model.check_generate_options(**stage_kwargs).used_stages(model.config)
        if stages[name].condition_dropout and "guidance_scale" in STAGES[name].options
    }
    return {"model": stage_kwargs} | ({ACOUSTIC_ONLY: stage_kwargs | scales} if scales else {})


def _measure(
    task: ContinuationTask,
    prompt: np.ndarray,
    record: AudioRecord,
    verifier: SpeakerVerifier | None,
    quality_model: SpeechQuality | None,
) -> Callable[[np.ndarray], dict[str, float]]:
    rate = record.sampling_rate
    prompt_vector = None if verifier is None else verifier.embedder.embed(prompt, rate)

    def measure(array: np.ndarray) -> dict[str, float]:
        metrics = acoustic_metrics(array, prompt, rate) | task.measure(array, prompt, rate)
        if verifier is not None and prompt_vector is not None:
            metrics |= verifier.metrics(array, prompt_vector, record)
        if quality_model is not None:
            metrics["quality"] = quality_model.score(array, rate)
        return metrics

    return measure


def _mean_metrics(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average metrics over the continuations of a prompt; NaN entries are ignored."""
    columns = {name: [row[name] for row in rows if not np.isnan(row[name])] for name in rows[0]}
    return {name: float(np.mean(values)) if values else float("nan") for name, values in columns.items()}


def _speaker_note(kind: ContinuationKind, verifier: SpeakerVerifier | None) -> str:
    if kind != "speech":
        return ""
    if verifier is None:
        return f"The speaker is not measured: resemblyzer is not installed ({INSTALL_COMMAND})."
    chance = 1 / verifier.num_speakers
    return f"Speaker found: the nearest of {verifier.num_speakers} speakers of all recordings, chance {chance:.3f}."


def _summary(rows: dict[str, list[dict[str, float]]], seed: int) -> dict[str, Any]:
    columns = {system: {name: [row[name] for row in each] for name in each[0]} for system, each in rows.items()}
    intervals = {
        system: {name: summarize(values, seed) for name, values in by_name.items()}
        for system, by_name in columns.items()
    }
    differences = {
        system: {name: paired_difference(columns["model"][name], values, seed) for name, values in by_name.items()}
        for system, by_name in columns.items()
        # A floor that some prompts do not have cannot be paired.
        if system != "model" and len(rows[system]) == len(rows["model"])
    }
    means = {system: {name: each["mean"] for name, each in by_name.items()} for system, by_name in intervals.items()}
    return {"systems": means, "intervals": intervals, "differences": differences, "rows": rows}


def format_continuation(result: dict[str, Any]) -> str:
    """Format the result of [`evaluate_continuation`] as tables."""
    task, count = TASKS[result["kind"]], result["num_continuations"]
    measured = result["systems"]["model"]
    names = [name for name in task.metrics if name in measured]
    rows = [[system, *(f"{metrics[name]:.2f}" for name in names)] for system, metrics in result["systems"].items()]
    decisive = [name for name in task.decisive if name in measured]
    header, intervals = ["system"], [[system] for system in result["intervals"]]
    for name in decisive:
        header += [task.metrics[name], "model minus it"]
        for row in intervals:
            difference = result["differences"].get(row[0], {}).get(name)
            row += [format_interval(result["intervals"][row[0]][name])]
            row += ["-" if difference is None else format_interval(difference)]
    return join_parts(
        [
            f"{result['num_prompts']} prompts of {result['prompt_length_s']:g} s, continued "
            f"{'once' if count == 1 else f'{count} times'} by {result['continuation_length_s']:g} s, "
            f"seed {result['seed']}; "
            f"{task.floor}: {result['num_others']} at most",
            format_table(["system", *(task.metrics[name] for name in names)], rows),
            "Means with 95 % bootstrap intervals over the prompts, and the model's differences, prompt by prompt"
            if decisive
            else "",
            format_table(header, intervals) if decisive else "",
            result["speaker_note"],
        ]
    )


def continuation_headlines(result: dict[str, Any]) -> list[Headline]:
    """Return the rows of a card's table."""
    task = TASKS[result["kind"]]
    rows = []
    for metric in (name for name in task.decisive if name in result["systems"]["model"]):
        systems = [
            f"{system}: {result['systems'][system][metric]:.3f}"
            for system in ("real", RESYNTHESIS, COARSE_RESYNTHESIS, ACOUSTIC_ONLY, task.floor)
            if system in result["systems"]
        ]
        if metric == "speaker_found":
            known = result["num_known_speakers"]
            systems.append(f"chance among {known} speakers: {1 / known:.3f}")
        differences = [
            f"above {system} by {format_interval(result['differences'][system][metric])}"
            for system in (task.floor, ACOUSTIC_ONLY)
            if system in result["differences"]
        ]
        own = format_interval(result["intervals"]["model"][metric])
        rows.append((f"continuation, {task.metrics[metric]}", own, ", ".join(systems + differences)))
    return rows
