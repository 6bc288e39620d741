# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Accent protocol: are speakers of all groups, by accent or another label, modelled equally well?

By group: how alike prompt and continuation are, relative to prompt and real continuation (the speaker's own
variation); how alike a recording and its resynthesis are; the bits per second that the stages need for a recording;
and how often a detector calls real recordings generated. Clips of a speaker are averaged first, and intervals are over
speakers.

Paper: AudioLM (arXiv 2209.03143), whose broader impact names accents, without a measurement.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.data.tokenizers import TokenizerPair, tokenize_recording
from audiolm_hf.evaluation.bootstrap import summarize
from audiolm_hf.evaluation.detector_clips import score_clips
from audiolm_hf.evaluation.metrics.detection import THRESHOLD
from audiolm_hf.evaluation.metrics.resynthesis import mel_distance
from audiolm_hf.evaluation.metrics.speaker import SpeakerEmbedder, speaker_similarity
from audiolm_hf.evaluation.protocols.continuation import continue_prompts, resynthesize
from audiolm_hf.evaluation.protocols.likelihood import record_token_bits
from audiolm_hf.evaluation.report import format_table, join_parts
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_detector_audiolm import AudioLMDetectorForAudioClassification
from audiolm_hf.progress import progress_bar

NUM_RESAMPLES = 10_000
UNLABELLED = ("", "unlabelled")
BITS = " stage, bits/s"
HIGHER_IS_BETTER = {  # of the metrics, by title; bits are better if lower
    "continuation": True,
    "continuation / own": True,
    "resynthesis": True,
    "resynthesis mel dB": False,
    "called generated": False,
    "resynthesis called generated": False,
}


@torch.inference_mode()
def evaluate_accents(
    model: AudioLMModel,
    source: AudioSource,
    group_by: str = "accent",
    num_clips: int = 12,
    prompt_length_s: float = 2.0,
    length_s: float = 2.0,
    seed: int = 0,
    min_speakers: int = 5,
    detector: AudioLMDetectorForAudioClassification | None = None,
) -> dict[str, Any]:
    """Measure at most `num_clips` recordings of each group, one of each speaker in turn.

    `group_by` is a label of the recordings, see [`AudioSource.labels`]; those without it are left out, and a recording
    without `speaker` counts as another speaker. Recordings are cut to `prompt_length_s` and `length_s`. The result has
    `groups` and `gaps`, see [`summarize_groups`]; `rows`, the metrics of every recording; and settings.

    Raises:
        ImportError: resemblyzer is not installed.
        ValueError: no recording has the label, or is long enough.
    """
    boundary = round(prompt_length_s * source.sampling_rate)
    end = boundary + round(length_s * source.sampling_rate)
    places = _choose(source, source.labels(group_by), end, num_clips, group_by)
    embedder = SpeakerEmbedder()
    rows = []
    for number, (group, place) in enumerate(progress_bar(places, desc=group_by, unit="recording")):
        record = source[place]
        array = record.array[:end]
        (made,) = continue_prompts(model, array[None, :boundary], length_s, seed + number)[0]
        (decoded,) = resynthesize(model, array)
        metrics = _voice_metrics(embedder, array, boundary, made, decoded, source.sampling_rate)
        metrics |= _stage_bits(model, record, array)
        if detector is not None:
            scores = score_clips(detector, [array, decoded])
            names = ("called generated", "resynthesis called generated")
            metrics |= {name: float(score < THRESHOLD) for name, score in zip(names, scores, strict=True)}
        rows.append({"group": group, "speaker": record.speaker or record.id, "recording": record.id} | metrics)
    return summarize_groups(rows, min_speakers, seed) | {
        "group_by": group_by,
        "prompt_length_s": prompt_length_s,
        "length_s": length_s,
        "min_speakers": min_speakers,
        "seed": seed,
        "rows": rows,
    }


def _choose(
    source: AudioSource, labels: Sequence[str], num_samples: int, count: int, group_by: str
) -> list[tuple[str, int]]:
    """Return group and place of the recordings that are used, group by group."""
    turns: dict[tuple[str, str], int] = {}
    found: dict[str, list[tuple[int, int]]] = {}
    for place, (label, speaker) in enumerate(zip(labels, source.speakers, strict=True)):
        if label not in UNLABELLED and round(source.durations[place] * source.sampling_rate) >= num_samples:
            key = (label, speaker or source.ids[place])
            turns[key] = turns.get(key, -1) + 1
            found.setdefault(label, []).append((turns[key], place))
    if not found:
        raise ValueError(
            f"No recording of {num_samples / source.sampling_rate:g} s has the label {group_by}; name another column "
            "as --group-by, or give shorter lengths."
        )
    return [(group, place) for group in sorted(found) for _, place in sorted(found[group])[:count]]


def _voice_metrics(
    embedder: SpeakerEmbedder, array: np.ndarray, boundary: int, made: np.ndarray, copy: np.ndarray, rate: int
) -> dict[str, float]:
    prompt, real, continued, whole, copied = (
        embedder.embed(each, rate) for each in (array[:boundary], array[boundary:], made, array, copy)
    )
    similarity, own = speaker_similarity(prompt, continued), speaker_similarity(prompt, real)
    return {
        "continuation": similarity,
        "continuation / own": similarity / max(own, 1e-3),
        "resynthesis": speaker_similarity(whole, copied),
        "resynthesis mel dB": mel_distance(array, copy, rate),
    }


def _stage_bits(model: AudioLMModel, record: AudioRecord, array: np.ndarray) -> dict[str, float]:
    cut, pair = AudioRecord(record.id, array, record.sampling_rate), TokenizerPair.of(model)
    segments = list(tokenize_recording(cut, pair))
    return {
        f"{name}{BITS}": sum(
            float(bits.sum()) for each in segments for bits in record_token_bits(stage, each, pair.grid).values()
        )
        / cut.duration
        for name, stage in model.stages.items()
        if not stage.config.layout.parallel
    }


def summarize_groups(rows: Sequence[Mapping[str, Any]], min_speakers: int = 5, seed: int = 0) -> dict[str, Any]:
    """Compare groups by the means of their speakers' means.

    `rows` are the metrics of each recording by title, with `group`, `speaker` and `recording`. Groups with fewer than
    `min_speakers` are shown, but not compared. The result has `groups`, by name `num_speakers`, `num_clips` and, for
    each metric, mean and 95 % bootstrap interval over the speakers; and `gaps`, the [`worst_minus_best`] of each
    metric.
    """
    titles = [name for name in rows[0] if name not in ("group", "speaker", "recording")]
    values: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        values.setdefault(row["group"], {}).setdefault(row["speaker"], []).append(row)
    means = {
        title: {
            group: np.array([np.mean([row[title] for row in clips]) for clips in speakers.values()])
            for group, speakers in values.items()
        }
        for title in titles
    }
    groups = {
        group: {"num_speakers": len(speakers), "num_clips": sum(map(len, speakers.values()))}
        | {title: summarize(means[title][group].tolist(), seed) for title in titles}
        for group, speakers in values.items()
    }
    large = [group for group, speakers in values.items() if len(speakers) >= max(2, min_speakers)]
    gaps = {
        title: worst_minus_best(
            {group: means[title][group] for group in large}, HIGHER_IS_BETTER.get(title, False), seed
        )
        for title in titles
        if len(large) > 1
    }
    return {"groups": groups, "gaps": gaps}


def worst_minus_best(values: Mapping[str, np.ndarray], higher_is_better: bool, seed: int = 0) -> dict[str, Any]:
    """Return the difference between the worst and the best group's means of speakers.

    `worst` and `best` are the groups, `low` and `high` the 95 % bootstrap interval of the `difference` over the
    speakers. If the same speakers are divided at random into groups of these sizes, 95 % of the differences stay below
    `by_chance`.
    """
    rng = np.random.default_rng(seed)
    means = {group: float(each.mean()) for group, each in values.items()}
    lowest, highest = min(means, key=lambda group: means[group]), max(means, key=lambda group: means[group])
    worst, best = (lowest, highest) if higher_is_better else (highest, lowest)
    drawn = [rng.choice(values[group], (NUM_RESAMPLES, len(values[group]))).mean(1) for group in (worst, best)]
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    pooled, borders = np.concatenate(list(values.values())), np.cumsum([len(each) for each in values.values()])[:-1]
    shuffled = rng.permuted(np.tile(pooled, (NUM_RESAMPLES // 10, 1)), axis=1)
    mixed = np.stack([part.mean(1) for part in np.split(shuffled, borders, axis=1)])
    return {
        "worst": worst,
        "best": best,
        "difference": means[worst] - means[best],
        "low": float(low),
        "high": float(high),
        "by_chance": float(np.percentile(np.ptp(mixed, axis=0), 95)),
    }


def format_accents(result: dict[str, Any]) -> str:
    """Format the result of [`evaluate_accents`] as tables."""
    groups, gaps = result["groups"], result["gaps"]
    titles = [name for name in next(iter(groups.values())) if not name.startswith("num_")]
    rows = [
        [
            *(name, str(group["num_speakers"]), str(group["num_clips"])),
            *(f"{group[title]['mean']:.3f}" for title in titles),
        ]
        for name, group in groups.items()
    ]
    compared = [
        [
            *(title, gap["worst"], gap["best"]),
            f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]",
            f"{gap['by_chance']:.3f}",
            "yes" if abs(gap["difference"]) > gap["by_chance"] else "no",
        ]
        for title, gap in gaps.items()
    ]
    return join_parts(
        [
            f"Groups by {result['group_by']}: prompts of {result['prompt_length_s']:g} s continued by "
            f"{result['length_s']:g} s, seed {result['seed']}",
            "continuation: speaker similarity to the prompt; / own: relative to that of the real continuation; "
            "resynthesis: of a recording and its codes decoded",
            format_table(["group", "speakers", "clips", *titles], rows),
            f"Worst minus best group of {result['min_speakers']} speakers or more, with 95 % bootstrap intervals over "
            "the speakers; by chance: what 95 % of random groupings of the same speakers stay below"
            if gaps
            else f"Fewer than two groups have {result['min_speakers']} speakers, so none are compared.",
            format_table(["metric", "worst", "best", "difference", "by chance", "above it"], compared) if gaps else "",
            "So few speakers only show large differences: no difference found is no proof that there is none. Groups "
            "also differ in microphones, rooms, sentences and sexes, so that one found need not be due to the "
            f"{result['group_by']}.",
        ]
    )


def plot_groups(result: dict[str, Any], path: Path) -> None:
    """Draw means and intervals of all groups, one panel for each metric, into a PNG file."""
    groups = result["groups"]
    titles = [name for name in next(iter(groups.values())) if not name.startswith("num_")]
    figure = Figure(figsize=(2.2 * len(titles) + 1.5, 0.3 * len(groups) + 1.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(titles), sharey=True))
    for panel, title in zip(panels, titles, strict=True):
        for place, group in enumerate(groups.values()):
            shade = "#1f5fa8" if group["num_speakers"] >= result["min_speakers"] else "#b0b0b0"
            panel.plot([group[title]["low"], group[title]["high"]], [place, place], color=shade)
            panel.plot(group[title]["mean"], place, "o", color=shade)
        panel.set_title(title, fontsize=8)
        panel.tick_params(labelsize=7)
    labels = [f"{name} ({group['num_speakers']})" for name, group in groups.items()]
    panels[0].set_yticks(range(len(groups)), labels, parse_math=False)
    figure.savefig(path, dpi=110)
