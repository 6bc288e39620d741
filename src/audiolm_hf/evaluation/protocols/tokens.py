# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What semantic tokens of speech know: the phones, one hopes, and not the voice.

In: a checkpoint's tokenizers and recordings with transcripts; out: for each kind of tokens, phone information, ABX
error and the accuracy of a linear probe for speakers, as a dictionary for a JSON file and as a table.

Paper: AudioLM (arXiv 2209.03143), properties of semantic and acoustic tokens.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_hf.acoustic_codec_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.evaluation.metrics.abx import AbxItem, abx_error, one_hot_rows, triphone_items
from audiolm_hf.evaluation.metrics.information import token_information
from audiolm_hf.evaluation.metrics.phones import UNKNOWN, Alignments, align_recordings, phone_labels
from audiolm_hf.evaluation.metrics.token_probes import speaker_probe_accuracy, token_histograms
from audiolm_hf.evaluation.protocols.token_systems import TokenSystem, token_systems
from audiolm_hf.evaluation.report import format_table
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer

SEGMENT_LENGTH_S = 3.0  # of the speaker probe: a prompt's length
FIGURES = {
    "pnmi": "PNMI",
    "pnmi_shuffled": "(shuffled)",
    "phone_purity": "phone purity",
    "cluster_purity": "cluster purity",
    "abx_tokens_within": "ABX within %",
    "abx_tokens_across": "across %",
    "abx_centroids_within": "ABX centroids %",
    "abx_centroids_across": "across %",
    "abx_features_within": "ABX features %",
    "abx_features_across": "across %",
    "speaker_accuracy": "speaker",
}


def phone_figures(
    system: TokenSystem, ids: Sequence[str], alignments: Alignments, items: Sequence[AbxItem], seed: int = 0
) -> dict[str, float]:
    """Measure tokens against phones.

    Args:
        system ([`TokenSystem`]): tokens of all recordings.
        ids (`list[str]`): their ids, in the same order.
        alignments ([`Alignments`]): their phones; frames of unknown words are left out.
        items (`list[AbxItem]`): for ABX.
        seed (`int`, defaults to 0): of the shuffled tokens.

    Returns:
        `dict`: the keys of `FIGURES` but the speaker's; those of centroids and features only where there are any.
    """
    places = [place for place, name in enumerate(ids) if name in alignments.phones]
    tokens = np.concatenate([system.tokens[place] for place in places])
    labels = np.concatenate(
        [phone_labels(alignments.phones[ids[place]], len(system.tokens[place]), system.frame_rate) for place in places]
    )
    known = labels != UNKNOWN
    figures = token_information(tokens[known], labels[known], seed)
    representations = {"tokens": [one_hot_rows(system.tokens[place], system.num_tokens) for place in places]}
    if system.centroids is not None and system.features is not None:
        representations["centroids"] = [system.centroids[system.tokens[place]] for place in places]
        representations["features"] = [system.features[place] for place in places]
    for name, rows in representations.items():
        by_id = {ids[place]: row for place, row in zip(places, rows, strict=True)}
        error = abx_error(items, by_id, system.frame_rate)
        figures |= {f"abx_{name}_within": error["within"], f"abx_{name}_across": error["across"]}
        figures |= {key: error[key] for key in ("within_triples", "across_triples")}
    return figures


def speaker_accuracy(
    codes: Sequence[np.ndarray], num_tokens: int, frame_rate: float, records: Sequence[AudioRecord]
) -> float:
    """Find speakers by a linear probe on histograms of 3 s of tokens, see [`speaker_probe_accuracy`].

    Args:
        codes (`list[np.ndarray]` of shape `(num_codebooks, frames)`): of each recording; a histogram for each level.
        num_tokens (`int`): ids are below it.
        frame_rate (`float`): tokens a second, Hz.
        records (`list[AudioRecord]`): the recordings, with their speakers.

    Returns:
        `float`: accuracy; NaN with one speaker, or fewer than five recordings.
    """
    length = round(SEGMENT_LENGTH_S * frame_rate)
    rows, speakers, recordings = [], [], []
    for levels, record in zip(codes, records, strict=True):
        for start in range(0, levels.shape[1] - length + 1, length):
            rows.append(token_histograms(list(levels[:, start : start + length]), num_tokens).ravel())
            speakers.append(record.speaker)
            recordings.append(record.id)
    if len(set(speakers)) < 2 or len(set(recordings)) < 5:
        return float("nan")
    return speaker_probe_accuracy(np.stack(rows), speakers, recordings)


def evaluate_tokens(
    tokenizer: AudioLMSemanticTokenizer,
    codec: AcousticCodec | None,
    test: AudioSource,
    train: AudioSource,
    cache: str | Path | None = None,
    train_minutes: float = 80.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare semantic tokens with clusters of spectra and with acoustic codes.

    Args:
        tokenizer ([`AudioLMSemanticTokenizer`]): of the semantic tokens.
        codec ([`AcousticCodec`], *optional*): of the acoustic codes.
        test ([`AudioSource`]): English recordings with `text` and `speaker`, unheard in training.
        train ([`AudioSource`]): recordings that the spectral clusters are fitted on.
        cache (`str` or `Path`, *optional*): folder of alignments.
        train_minutes (`float`, defaults to 80.0): how much of `train`.
        seed (`int`, defaults to 0): of the clusters and the shuffled tokens.

    Returns:
        `dict`: `systems`, the figures of each kind of tokens; `speaker_chance`; counts of what was aligned; settings.

    Raises:
        ValueError: no recording can be aligned.
    """
    alignments = align_recordings(test, cache)
    records = list(test)
    ids = [record.id for record in records]
    items = [
        item
        for record in records
        if record.id in alignments.phones
        for item in triphone_items(alignments.phones[record.id], record.speaker, record.id)
    ]
    kinds, codes = token_systems(tokenizer, codec, records, train, train_minutes, seed)
    systems: dict[str, dict[str, float]] = {}
    for name, system in kinds.items():
        systems[name] = phone_figures(system, ids, alignments, items, seed)
        levels = [tokens[None] for tokens in system.tokens]
        systems[name]["speaker_accuracy"] = speaker_accuracy(levels, system.num_tokens, system.frame_rate, records)
    if codec is not None:
        accuracy = speaker_accuracy(codes, codec.codebook_size, codec.frame_rate, records)
        systems["acoustic codes, all levels"] = {"speaker_accuracy": accuracy}
    return {
        "systems": systems,
        "num_tokens": kinds["semantic tokens"].num_tokens,
        "frame_rate": kinds["semantic tokens"].frame_rate,
        "speaker_chance": _commonest_share(records),
        "train_minutes": train_minutes,
        "seed": seed,
    } | _alignment_counts(alignments, records, items)


def _commonest_share(records: Sequence[AudioRecord]) -> float:
    """Share of the time of the speaker who speaks longest: what guessing scores."""
    seconds: Counter[str] = Counter()
    for record in records:
        seconds[record.speaker] += len(record.array)
    return max(seconds.values()) / sum(seconds.values())


def _alignment_counts(
    alignments: Alignments, records: Sequence[AudioRecord], items: Sequence[AbxItem]
) -> dict[str, Any]:
    return {
        "recordings": len(records),
        "aligned": len(alignments.phones),
        "failed": alignments.failed,
        "words": alignments.num_words,
        "unknown_words": alignments.unknown_words,
        "seconds": sum(record.duration for record in records),
        "speakers": len({record.speaker for record in records}),
        "abx_items": len(items),
    }


def format_token_report(report: dict[str, Any]) -> str:
    """Lay out the result of [`evaluate_tokens`] as a table for a terminal."""

    def cell(figures: dict[str, float], name: str) -> str:
        if name not in figures:
            return "-"
        return f"{100 * figures[name]:.1f}" if name.startswith("abx") else f"{figures[name]:.3f}"

    systems = report["systems"]
    rows = [[name, *(cell(figures, figure) for figure in FIGURES)] for name, figures in systems.items()]
    unknown = sum(report["unknown_words"].values())
    triples = systems["semantic tokens"]
    parts = [
        f"{report['aligned']} of {report['recordings']} recordings aligned, {report['seconds']:.0f} s, "
        f"{report['speakers']} speakers; {unknown} of {report['words']} words are not in the dictionary, their phones "
        "left out",
        f"{report['num_tokens']} tokens at {report['frame_rate']:g} Hz; clusters of spectra fitted on "
        f"{report['train_minutes']:g} minutes; ABX of {triples['within_triples']} triples within and "
        f"{triples['across_triples']} across speakers; speaker: linear probe, chance {report['speaker_chance']:.2f}",
        format_table(["tokens", *FIGURES.values()], rows),
    ]
    return "\n\n".join(parts) + "\n"


__all__ = ["FIGURES", "evaluate_tokens", "format_token_report", "phone_figures", "speaker_accuracy"]
