# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Token protocol: phone and speaker information in semantic tokens of speech, note information in those of piano.

Speech: mutual information with aligned phones, ABX error, and the accuracy of a linear probe for speakers. Piano:
mutual information with the pitch classes and onsets of the MIDI files that the excerpts were rendered from. Baselines
are clusters of spectra and acoustic codes.

Paper: AudioLM (arXiv 2209.03143), properties of semantic and acoustic tokens; tokenizers trained on piano.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.evaluation.baselines.token_systems import SEMANTIC, TokenSystem, semantic_system, token_systems
from audiolm_hf.evaluation.metrics.abx import AbxItem, abx_error, triphone_items
from audiolm_hf.evaluation.metrics.information import normalized_information, shuffled, token_information
from audiolm_hf.evaluation.metrics.midi_notes import note_labels, read_excerpts, read_midi_files
from audiolm_hf.evaluation.metrics.phones import UNKNOWN, Alignments, align_recordings, phone_labels
from audiolm_hf.evaluation.metrics.speaker import speaker_accuracy
from audiolm_hf.evaluation.report import Headline, headline, join_parts, systems_table
from audiolm_hf.semantic_tokenizer_audiolm import SemanticTokenizerModel

METRICS = {
    "speech": {
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
    },
    "piano": {
        "pitch_class_information": "pitch classes",
        "pitch_class_shuffled": "(shuffled)",
        "onset_information": "onsets",
        "onset_shuffled": "(shuffled)",
    },
}


def evaluate_tokens(
    tokenizer: SemanticTokenizerModel,
    codec: AcousticCodec | None,
    test: AudioSource,
    train: AudioSource,
    train_minutes: float = 80.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure phone and speaker information in semantic tokens of speech and in baselines.

    `test` are held-out English recordings with `text` and `speaker`. The clusters of spectra are fitted on
    `train_minutes` of `train`. The result has `systems`, the metrics of each kind of tokens; `speaker_chance`,
    the largest share of a speaker in the total duration; counts of aligned recordings and words; and the settings. If
    no recording can be aligned, a `ValueError` is raised.
    """
    alignments = align_recordings(test)
    records = list(test)
    phones = alignments.phones
    items = [
        item
        for record in records
        if record.id in phones
        for item in triphone_items(phones[record.id], record.speaker, record.id)
    ]
    kinds, codes = token_systems(tokenizer, codec, records, train, train_minutes, seed)
    systems: dict[str, dict[str, float]] = {}
    for name, system in kinds.items():
        systems[name] = phone_metrics(system, [record.id for record in records], alignments, items, seed)
        levels = [tokens[None] for tokens in system.tokens]
        systems[name]["speaker_accuracy"] = speaker_accuracy(levels, system.num_tokens, system.frame_rate, records)
    if codec is not None:
        accuracy = speaker_accuracy(codes, codec.codebook_size, codec.frame_rate, records)
        systems["acoustic codes, all levels"] = {"speaker_accuracy": accuracy}
    durations: Counter[str] = Counter()
    for record in records:
        durations[record.speaker] += len(record.array)
    return _result("speech", systems, kinds[SEMANTIC], records, train_minutes, seed) | {
        "speaker_chance": max(durations.values()) / sum(durations.values()),
        "speakers": len(durations),
        "aligned": len(phones),
        "failed": alignments.failed,
        "words": alignments.num_words,
        "unknown_words": alignments.unknown_words,
        "abx_items": len(items),
    }


def phone_metrics(
    system: TokenSystem, ids: Sequence[str], alignments: Alignments, items: Sequence[AbxItem], seed: int = 0
) -> dict[str, float]:
    """Return metrics of tokens against the phones of their recordings, without frames of unknown words."""
    places = [place for place, name in enumerate(ids) if name in alignments.phones]
    tokens = np.concatenate([system.tokens[place] for place in places])
    labels = np.concatenate(
        [phone_labels(alignments.phones[ids[place]], len(system.tokens[place]), system.frame_rate) for place in places]
    )
    known = labels != UNKNOWN
    metrics = token_information(tokens[known], labels[known], seed)
    return metrics | abx_metrics(system, places, ids, items)


def abx_metrics(
    system: TokenSystem, places: Sequence[int], ids: Sequence[str], items: Sequence[AbxItem]
) -> dict[str, float]:
    """Return the ABX errors of the recordings at `places`: of tokens and, with k-means, of centroids and features."""
    one_hot = np.eye(system.num_tokens, dtype=np.float32)  # the cosine distance of different tokens is 1
    representations = {"tokens": [one_hot[system.tokens[place]] for place in places]}
    if system.centroids is not None and system.features is not None:
        representations["centroids"] = [system.centroids[system.tokens[place]] for place in places]
        representations["features"] = [system.features[place] for place in places]
    metrics: dict[str, float] = {}
    for name, rows in representations.items():
        by_id = {ids[place]: row for place, row in zip(places, rows, strict=True)}
        error = abx_error(items, by_id, system.frame_rate)
        metrics |= {f"abx_{name}_within": error["within"], f"abx_{name}_across": error["across"]}
        metrics |= {key: error[key] for key in ("within_triples", "across_triples")}
    return metrics


def evaluate_items(tokenizer: SemanticTokenizerModel, source: AudioSource, items: Sequence[AbxItem]) -> dict[str, Any]:
    """Measure the ABX errors of semantic tokens on the items of an item file; each must lie in a file of `source`."""
    durations = {Path(name).stem: duration for name, duration in zip(source.ids, source.durations, strict=True)}
    for item in items:
        if not item.onset < durations.get(item.recording, 0.0):
            length = f"lasts {durations[item.recording]:.2f} s" if item.recording in durations else "is not there"
            raise ValueError(
                f"The item at {item.onset:g} s of {item.recording!r} has no sound: the recording {length}; give the "
                "folder that the item file belongs to as --data."
            )
    needed = {item.recording for item in items}
    records = [source[place] for place, name in enumerate(source.ids) if Path(name).stem in needed]
    own = semantic_system(tokenizer, records)
    metrics = abx_metrics(own, range(len(records)), [Path(record.id).stem for record in records], items)
    return _result("items", {SEMANTIC: metrics}, own, records, 0.0, 0) | {"abx_items": len(items)}


def evaluate_piano_tokens(
    tokenizer: SemanticTokenizerModel,
    codec: AcousticCodec | None,
    test: AudioSource,
    train: AudioSource,
    midi: str | Path,
    train_minutes: float = 80.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure note information in semantic tokens of piano and in baselines; see [`evaluate_tokens`].

    `test` are rendered excerpts, from parquet files with the columns `source` and `start`, and `midi` is a parquet
    file with their MIDI files by `source`. If no recording has one, a `ValueError` is raised.
    """
    files = read_midi_files(midi)
    excerpts = read_excerpts(test.paths)
    records = [record for record in test if excerpts[record.id][0] in files]
    if not records:
        raise ValueError(f"No recording of {[str(path) for path in test.paths]} has its `source` in {midi}.")
    kinds, _ = token_systems(tokenizer, codec, records, train, train_minutes, seed)
    systems: dict[str, dict[str, float]] = {}
    for name, system in kinds.items():
        labels = [
            note_labels(files[source], start, len(tokens), system.frame_rate)
            for tokens, (source, start) in zip(system.tokens, (excerpts[record.id] for record in records), strict=True)
        ]
        tokens, pitches, onsets = map(np.concatenate, (system.tokens, *zip(*labels, strict=True)))
        mixed = shuffled(tokens, seed)
        systems[name] = {
            "pitch_class_information": normalized_information(tokens, pitches),
            "pitch_class_shuffled": normalized_information(mixed, pitches),
            "onset_information": normalized_information(tokens, onsets),
            "onset_shuffled": normalized_information(mixed, onsets),
        }
    return _result("piano", systems, kinds[SEMANTIC], records, train_minutes, seed)


def _result(
    kind: str,
    systems: dict[str, dict[str, float]],
    own: TokenSystem,
    records: Sequence[AudioRecord],
    train_minutes: float,
    seed: int,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "systems": systems,
        "num_tokens": own.num_tokens,
        "frame_rate": own.frame_rate,
        "recordings": len(records),
        "seconds": sum(record.duration for record in records),
        "train_minutes": train_minutes,
        "seed": seed,
    }


def format_tokens(result: dict[str, Any]) -> str:
    """Format the result of [`evaluate_tokens`] or [`evaluate_piano_tokens`] as a table."""
    tokens = (
        f"{result['num_tokens']} tokens at {result['frame_rate']:g} Hz; clusters of spectra fitted on "
        f"{result['train_minutes']:g} minutes"
    )
    titles = {name: title for name, title in METRICS["speech"].items() if name.startswith("abx")}
    table = systems_table(result["systems"], METRICS.get(result["kind"], titles), "tokens")
    if result["kind"] == "items":
        own = result["systems"][SEMANTIC]
        triples = f"{own['within_triples']} triples within and {own['across_triples']} across speakers"
        return join_parts([f"{result['abx_items']} items, {triples}; {result['num_tokens']} tokens", table])
    if result["kind"] == "piano":
        recordings = f"{result['recordings']} excerpts, {result['seconds']:.0f} s"
        return join_parts([recordings, f"{tokens}; share of the labels' entropy that the tokens explain", table])
    unknown = sum(result["unknown_words"].values())
    own = result["systems"][SEMANTIC]
    return join_parts(
        [
            f"{result['aligned']} of {result['recordings']} recordings aligned, {result['seconds']:.0f} s, "
            f"{result['speakers']} speakers; {unknown} of {result['words']} words are not in the dictionary, their "
            "phones left out",
            f"{tokens}; ABX of {own['within_triples']} triples within and {own['across_triples']} across speakers; "
            f"speaker: linear probe, chance {result['speaker_chance']:.2f}",
            table,
        ]
    )


def token_headlines(result: dict[str, Any]) -> list[Headline]:
    """Return the rows of a card's table."""
    names = {
        "pnmi": "PNMI",
        "abx_centroids_within": "ABX error within speakers",
        "abx_centroids_across": "ABX error across speakers",
        "speaker_accuracy": "speaker probe",
    }
    if result["kind"] == "piano":
        names = {"pitch_class_information": "pitch-class information", "onset_information": "onset information"}
    own = result["systems"][SEMANTIC]  # tokens that are not clusters have no centroids
    return [
        headline(metric, f"{SEMANTIC}, {name}", result["systems"]) for metric, name in names.items() if metric in own
    ]
