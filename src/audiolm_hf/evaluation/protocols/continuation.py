# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How good continuations are: beginnings of recordings are continued, and the result is measured.

The same figures are taken of the model's continuations, of toplines (what really came next, and the same through the
codec) and of floors (another speaker or piece, the prompt again, white noise, silence). A coarse stage that also
learned to do without semantic tokens is measured without them as well: the paper's comparison with an acoustic-only
model. What a prompt's figures are is the mean over its continuations, and over several recordings where the floor is
other speakers or pieces. Every mean stands with a bootstrap interval over the prompts, and with its difference to the
floor, prompt by prompt. None of the figures verifiers words or meaning.

Paper: AudioLM (arXiv 2209.03143), continuations of 3 s of speech and of 4 s of piano.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.evaluation.bootstrap import paired_difference, summarise
from audiolm_hf.evaluation.metrics.acoustics import sound_figures
from audiolm_hf.evaluation.metrics.music import music_figures
from audiolm_hf.evaluation.metrics.prosody import prosody_figures
from audiolm_hf.evaluation.metrics.speaker import (
    INSTALL_COMMAND,
    SpeakerEmbedder,
    SpeakerVerifier,
    speaker_embedding_is_available,
)
from audiolm_hf.evaluation.report import format_table
from audiolm_hf.modeling_audiolm import AudioLMModel

ContinuationKind = Literal["speech", "piano"]
ACOUSTIC_ONLY = "acoustic only"  # the coarse stage without semantic tokens
NUM_OTHERS = 8  # recordings that the floor of other speakers or pieces is the mean of
SOUND_FIGURES = {
    "level_db": "level dB",
    "silence_share": "silence",
    "flatness": "flatness",
    "repetition": "repetition",
    "timbre_similarity": "timbre",
}
SPEECH_FIGURES = {
    "speaker_similarity": "speaker",
    "speaker_found": "found",
    "syllable_rate": "syllables/s",
    "pause_share": "pauses",
    "voiced_share": "voiced",
    "pitch_hz": "pitch Hz",
    "pitch_spread": "spread st",
}
PIANO_FIGURES = {
    "same_key": "same key",
    "key_agreement": "key",
    "pitch_class_similarity": "pitch classes",
    "onset_rate": "onsets/s",
    "onset_ratio": "rate ratio",
    "inter_onset_ratio": "gap ratio",
    "level_difference_db": "level diff dB",
}


@dataclass(frozen=True)
class ContinuationTask:
    """What a kind of audio is continued and measured by.

    Args:
        prompt_length_s (`float`): seconds given.
        continuation_length_s (`float`): seconds continued.
        figures (`dict[str, str]`): all figures, with their titles.
        decisive (`tuple[str, ...]`): those whose differences are printed.
        floor (`str`): name of the floor made of other recordings.
    """

    prompt_length_s: float
    continuation_length_s: float
    figures: dict[str, str]
    decisive: tuple[str, ...]
    floor: str

    def source_of(self, record: AudioRecord) -> str:
        """Give what the floor's recording must differ in: the speaker, or the piece."""
        return record.speaker if self.floor == "another speaker" else record.text or record.id


TASKS: dict[ContinuationKind, ContinuationTask] = {
    "speech": ContinuationTask(
        3.0, 7.0, SOUND_FIGURES | SPEECH_FIGURES, ("speaker_similarity", "speaker_found"), "another speaker"
    ),
    "piano": ContinuationTask(
        4.0, 10.0, SOUND_FIGURES | PIANO_FIGURES, ("key_agreement", "pitch_class_similarity"), "another piece"
    ),
}


def choose_recordings(source: AudioSource, num_samples: int, count: int) -> list[AudioRecord]:
    """Take recordings that are long enough, one of each speaker in turn.

    Args:
        source ([`AudioSource`]): the recordings.
        num_samples (`int`): least length.
        count (`int`): most recordings.

    Returns:
        `list[AudioRecord]`: in an order that depends on the source alone.

    Raises:
        ValueError: no recording is long enough.
    """
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


def yardsticks(
    prompt: np.ndarray, real: np.ndarray, model: AudioLMModel, seed: int, others: Sequence[np.ndarray], floor: str
) -> dict[str, list[np.ndarray]]:
    """Make the continuations that a model's are compared with, each as long as the real one."""
    rng = np.random.default_rng(seed)
    level = np.sqrt((prompt.astype(np.float64) ** 2).mean())
    codec, clip = model.acoustic_codec, torch.from_numpy(real)[None].to(model.device)
    codes = {"real, coded": codec.encode(clip)}
    if not model.generation_config.use_fine_stage:  # all that a continuation is decoded from
        codes["real, coarse codes"] = codes["real, coded"][:, : model.config.coarse_config.num_coarse_codebooks]
    return {
        "real": [real],
        **{name: [codec.decode(found)[0, : len(real)].float().cpu().numpy()] for name, found in codes.items()},
        **({floor: list(others)} if others else {}),
        "prompt again": [np.resize(prompt, len(real))],
        "white noise": [(level * rng.standard_normal(len(real))).astype(np.float32)],
        "silence": [np.zeros_like(real)],
    }


def continue_prompt(
    model: AudioLMModel,
    prompt: np.ndarray,
    continuation_length_s: float,
    seed: int,
    num_continuations: int = 1,
    **stage_kwargs: Any,
) -> list[np.ndarray]:
    """Continue one prompt by exactly so many seconds; float32 of shape `(num_samples,)` each, without the prompt."""
    output = model.generate(
        torch.from_numpy(prompt)[None].to(model.device),
        continuation_length_s=continuation_length_s,
        min_continuation_length_s=continuation_length_s,
        num_return_sequences=num_continuations,
        seed=seed,
        **stage_kwargs,
    )
    spans = zip(output.prompt_lengths.tolist(), output.audio_lengths.tolist(), strict=True)
    return [output.audio_values[row, start:stop].float().cpu().numpy() for row, (start, stop) in enumerate(spans)]


def _continuations(
    model: AudioLMModel,
    prompt: np.ndarray,
    continuation_length_s: float,
    seed: int,
    num_continuations: int,
    **stage_kwargs: Any,
) -> dict[str, list[np.ndarray]]:
    """The model's continuations, and those of the sound alone if the coarse stage can make them."""
    systems = {"model": stage_kwargs}
    if model.config.coarse_config.condition_dropout:
        systems[ACOUSTIC_ONLY] = stage_kwargs | {"coarse_guidance_scale": 0.0}
    return {
        name: continue_prompt(model, prompt, continuation_length_s, seed, num_continuations, **options)
        for name, options in systems.items()
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
    **stage_kwargs: Any,
) -> dict[str, Any]:
    """Continue the beginnings of recordings and measure the result.

    Args:
        model ([`AudioLMModel`]): continues.
        source ([`AudioSource`]): unheard recordings at the model's rate; those too short are passed over.
        num_prompts (`int`, defaults to 8): most recordings, one of each speaker in turn.
        prompt_length_s (`float`, *optional*): seconds given; 3 of speech, 4 of piano.
        continuation_length_s (`float`, *optional*): seconds continued; 7 of speech, 10 of piano.
        seed (`int`, defaults to 0): of the samples, the noise and the intervals.
        kind (`"speech"` or `"piano"`, defaults to `"speech"`): which figures are taken.
        num_continuations (`int`, defaults to 1): of each prompt; its figures are their means.
        **stage_kwargs: options of `AudioLMModel.generate`, such as `semantic_temperature=0.8`.

    Returns:
        `dict`: `systems`, the mean figures of the model and of each yardstick by name; `intervals`, the same with
        `low` and `high`; `differences` of the model to the yardsticks, prompt by prompt; `rows`, the figures of every
        prompt; the settings.

    Raises:
        ValueError: no recording is long enough.
    """
    task = TASKS[kind]
    rate = model.sampling_rate
    prompt_length_s = task.prompt_length_s if prompt_length_s is None else prompt_length_s
    if continuation_length_s is None:
        continuation_length_s = task.continuation_length_s
    boundary = round(prompt_length_s * rate)
    end = boundary + round(continuation_length_s * rate)
    records = choose_recordings(source, end, num_prompts)
    verifier = (
        SpeakerVerifier(SpeakerEmbedder(), source) if kind == "speech" and speaker_embedding_is_available() else None
    )
    rows: dict[str, list[dict[str, float]]] = {}
    for number, record in enumerate(tqdm(records, desc="continue", unit="prompt")):
        prompt, real = record.array[:boundary], record.array[boundary:end]
        generated = _continuations(
            model, prompt, continuation_length_s, seed + number, num_continuations, **stage_kwargs
        )
        others = [other.array[boundary:end] for other in _other_recordings(records, number, task)]
        systems = {**generated, **yardsticks(prompt, real, model, seed + number, others, task.floor)}
        measure = _measure(kind, prompt, record, verifier)
        for name, arrays in systems.items():
            rows.setdefault(name, []).append(_mean_figures([measure(array) for array in arrays]))
    return _report(rows, seed) | {
        "kind": kind,
        "num_prompts": len(records),
        "num_continuations": num_continuations,
        "num_others": NUM_OTHERS,
        "num_speakers": len({record.speaker for record in records}),
        "recordings": [record.id.rpartition("/")[2] for record in records],
        "prompt_length_s": prompt_length_s,
        "continuation_length_s": continuation_length_s,
        "seed": seed,
        "speaker_note": _speaker_note(kind, verifier),
    }


def _other_recordings(records: Sequence[AudioRecord], number: int, task: ContinuationTask) -> list[AudioRecord]:
    """The next recordings of other speakers (or pieces), at most `NUM_OTHERS`."""
    following = [records[(number + step) % len(records)] for step in range(1, len(records))]
    return [other for other in following if task.source_of(other) != task.source_of(records[number])][:NUM_OTHERS]


def _mean_figures(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average figures over continuations of one prompt; those that a continuation lacks (NaN) do not count."""
    figures = {}
    for name in rows[0]:
        values = [row[name] for row in rows if not np.isnan(row[name])]
        figures[name] = float(np.mean(values)) if values else float("nan")
    return figures


def _measure(
    kind: ContinuationKind, prompt: np.ndarray, record: AudioRecord, verifier: SpeakerVerifier | None
) -> Callable[[np.ndarray], dict[str, float]]:
    rate = record.sampling_rate
    prompt_vector = None if verifier is None else verifier.embedder.embed(prompt, rate)

    def measure(array: np.ndarray) -> dict[str, float]:
        figures = sound_figures(array, prompt, rate)
        figures |= (prosody_figures if kind == "speech" else music_figures)(array, prompt, rate)
        if verifier is not None and prompt_vector is not None:
            figures |= verifier.figures(array, prompt_vector, record)
        return figures

    return measure


def _speaker_note(kind: ContinuationKind, verifier: SpeakerVerifier | None) -> str:
    if kind != "speech":
        return ""
    if verifier is None:
        return f"The speaker is not measured: resemblyzer is not installed ({INSTALL_COMMAND})."
    chance = 1 / verifier.num_speakers
    return f"Speaker found: the nearest of {verifier.num_speakers} speakers, chance {chance:.2f}."


def _report(rows: dict[str, list[dict[str, float]]], seed: int) -> dict[str, Any]:
    """Means, intervals and differences of figures by system and prompt."""
    columns = {
        system: {name: [row[name] for row in figures] for name in figures[0]} for system, figures in rows.items()
    }
    intervals = {
        system: {name: summarise(values, seed) for name, values in by_name.items()}
        for system, by_name in columns.items()
    }
    own = columns["model"]
    differences = {
        system: {name: paired_difference(own[name], values, seed) for name, values in by_name.items()}
        for system, by_name in columns.items()
        # A floor that only some prompts have cannot be paired.
        if system != "model" and len(rows[system]) == len(rows["model"])
    }
    return {
        "systems": {
            system: {name: value["mean"] for name, value in by_name.items()} for system, by_name in intervals.items()
        },
        "intervals": intervals,
        "differences": differences,
        "rows": rows,
    }


def format_continuation_report(report: dict[str, Any]) -> str:
    """Lay out the result of [`evaluate_continuation`] as tables for a terminal."""
    task = TASKS[report["kind"]]
    measured = next(iter(report["systems"].values()))
    names = [name for name in task.figures if name in measured]
    rows = [[system, *(f"{figures[name]:.2f}" for name in names)] for system, figures in report["systems"].items()]
    decisive = [name for name in task.decisive if name in measured]
    parts = [
        f"{report['num_prompts']} prompts of {report['prompt_length_s']:g} s, continued {report['num_continuations']} "
        f"times by {report['continuation_length_s']:g} s, seed {report['seed']}; {task.floor}: {report['num_others']} "
        "at most",
        format_table(["system", *(task.figures[name] for name in names)], rows),
        "Means with 95 % bootstrap intervals over the prompts, and the model's differences, prompt by prompt"
        if decisive
        else "",
        _interval_table(report, decisive, task) if decisive else "",
        report["speaker_note"],
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _interval_table(report: dict[str, Any], names: Sequence[str], task: ContinuationTask) -> str:
    def cell(summary: dict[str, float] | None) -> str:
        if summary is None:
            return "-"
        return f"{summary['mean']:.3f} [{summary['low']:.3f}, {summary['high']:.3f}]"

    header = ["system"]
    for name in names:
        header += [task.figures[name], "model minus it"]
    rows = []
    for system, figures in report["intervals"].items():
        differences = report["differences"].get(system, {})
        rows.append([system])
        for name in names:
            rows[-1] += [cell(figures[name]), cell(differences.get(name))]
    return format_table(header, rows)


__all__ = [
    "ACOUSTIC_ONLY",
    "TASKS",
    "ContinuationKind",
    "ContinuationTask",
    "choose_recordings",
    "continue_prompt",
    "evaluate_continuation",
    "format_continuation_report",
    "yardsticks",
]
