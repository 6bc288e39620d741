# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Pair protocol: do the stages assign the real word, correct sentence or consistent sound a higher likelihood?

A pair counts 1 if the positive sound has the higher log-likelihood, 0.5 if both are equal, and 0 otherwise. Pairs of
an item, such as several voices, are averaged first. Log-likelihoods are taken as they are and per token.

Paper: AudioLM (arXiv 2209.03143), sWUGGY and sBLIMP; SALMon (arXiv 2409.07437) for acoustic consistency.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_hf.data.audio import AudioRecord, decode_audio
from audiolm_hf.data.tokenizers import TokenizerPair, tokenize_recording
from audiolm_hf.evaluation.benchmarks import PairTask
from audiolm_hf.evaluation.bootstrap import summarize
from audiolm_hf.evaluation.protocols.likelihood import record_token_bits
from audiolm_hf.evaluation.report import format_interval, format_table, join_parts
from audiolm_hf.files import write_text
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.progress import progress_bar

ALL_STAGES, PER_TOKEN, ALL_PAIRS = "all stages", " per token", "all pairs"
Scorer = Callable[[Path], Mapping[str, float]]  # a sound file -> its scores by name; higher is more likely


@dataclass(frozen=True)
class LikelihoodScorer:
    """Log-likelihoods (natural logarithms) of a sound file by stage, as they are and per token, without an end."""

    stages: Mapping[str, AudioLMStageModel]
    tokenizers: TokenizerPair

    def __call__(self, path: Path) -> dict[str, float]:
        """Return the scores of a file; one that cannot be decoded raises a `ValueError`."""
        rate, grid = self.tokenizers.codec.sampling_rate, self.tokenizers.grid
        try:
            recording = AudioRecord(path.stem, decode_audio(path, rate), rate)
        except ValueError as error:
            raise ValueError(f"{path}: {error}.") from error
        segments = [replace(each, ends_recording=False) for each in tokenize_recording(recording, self.tokenizers)]
        bits = {
            name: np.concatenate(
                [np.concatenate([*record_token_bits(stage, each, grid).values()]) for each in segments]
            )
            for name, stage in self.stages.items()
        }
        if len(bits) > 1:
            bits[ALL_STAGES] = np.concatenate(list(bits.values()))
        totals = {name: -math.log(2) * float(values.sum()) for name, values in bits.items()}
        return totals | {f"{name}{PER_TOKEN}": totals[name] / max(1, len(bits[name])) for name in bits}


def evaluate_pairs(scorer: Scorer, tasks: Sequence[PairTask]) -> dict[str, Any]:
    """Score every sound of every task, and compare the sounds of each pair.

    The result has, for each of `tasks`, `num_pairs`; `accuracy`, by name of the score and by group the mean over items
    with its bootstrap interval; and `scores`, by name of the score and of the sound.
    """
    report: dict[str, Any] = {"tasks": {}}
    for task in tasks:
        named = {name: scorer(path) for name, path in progress_bar(task.files.items(), desc=task.name, unit="sound")}
        kinds = next(iter(named.values())).keys()
        scores = {kind: {name: float(each[kind]) for name, each in named.items()} for kind in kinds}
        report["tasks"][task.name] = {
            "num_pairs": len(task.pairs),
            "accuracy": {kind: _accuracy(task, scores[kind]) for kind in kinds if task.pairs},
            "scores": scores,
        }
    return report


def _accuracy(task: PairTask, scores: Mapping[str, float]) -> dict[str, Any]:
    groups: dict[str, dict[str, list[float]]] = {}
    for pair in task.pairs:
        positive, negative = scores[pair.positive], scores[pair.negative]
        point = 0.5 if positive == negative else float(positive > negative)
        for group in filter(None, (ALL_PAIRS, pair.group)):
            groups.setdefault(group, {}).setdefault(pair.item, []).append(point)
    return {group: summarize([float(np.mean(each)) for each in items.values()]) for group, items in groups.items()}


def write_scores(report: dict[str, Any], folder: Path) -> None:
    """Write the scores of all sounds to a folder for each kind of score, in files such as `lexical/dev.txt`."""
    for name, task in report["tasks"].items():
        for kind, scores in task["scores"].items():
            lines = (f"{sound} {value!r}\n" for sound, value in scores.items())
            write_text(folder / kind.replace(" ", "_") / f"{name}.txt", "".join(lines))


def format_pairs(report: dict[str, Any]) -> str:
    """Format the result of [`evaluate_pairs`] as a table for each task."""
    parts = ["Share of pairs in which the positive sound is more likely, with 95 % bootstrap intervals over the items"]
    for name, task in report["tasks"].items():
        if not task["accuracy"]:
            parts.append(f"{name}: {len(next(iter(task['scores'].values())))} sounds, no gold.csv, only scores")
            continue
        kinds = [kind for kind in task["accuracy"] if not kind.endswith(PER_TOKEN)]
        groups = next(iter(task["accuracy"].values()))
        header = [name, "items", *(column for kind in kinds for column in (kind, "per token"))]
        columns = [column for kind in kinds for column in (kind, f"{kind}{PER_TOKEN}")]
        rows = [
            [group, str(groups[group]["count"])]
            + [format_interval(task["accuracy"][column][group]) for column in columns if column in task["accuracy"]]
            for group in groups
        ]
        parts.append(format_table(header[: len(rows[0])], rows))
    return join_parts(parts)
