# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The figures of a checkpoint as Markdown for its card: one table of the decisive ones, then every part in full."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from audiolm_hf.evaluation.protocols.codec import format_codec_report
from audiolm_hf.evaluation.protocols.continuation import ACOUSTIC_ONLY, TASKS, format_continuation_report
from audiolm_hf.evaluation.protocols.likelihood import OTHER_CONDITION, format_likelihood_report
from audiolm_hf.evaluation.protocols.piano_tokens import format_piano_token_report
from audiolm_hf.evaluation.protocols.tokens import format_token_report

_TITLES = {
    "codec": "Codec",
    "tokens": "Semantic tokens",
    "likelihood": "Likelihood",
    "continuation": "Continuation",
    "samples": "Examples",
}


def format_checkpoint_report(report: dict[str, Any]) -> str:
    """Lay out the result of [`CheckpointEvaluation.run`] as Markdown.

    Args:
        report (`dict`): the result, also as read from its JSON file.

    Returns:
        `str`: Markdown, with a newline at the end.
    """
    report = _numbers(report)
    rows = [row for name, part in report["parts"].items() for row in _HEADLINES[name](part)]
    lines = [
        f"Checkpoint `{report['checkpoint']}` (SHA-256 {report['checkpoint_sha256'][:12]}), seed {report['seed']}, on "
        f"{', '.join(f'`{name}`' for name in report['test_files'])}.",
        "",
        "| figure | value | beside it |",
        "|---|--:|---|",
        *(f"| {name} | {value} | {beside} |" for name, value, beside in rows),
    ]
    for name, part in report["parts"].items():
        lines += ["", f"**{_TITLES[name]}**", "", *_full(name, part)]
    return "\n".join(lines) + "\n"


def _numbers(value: Any) -> Any:
    """Undo what JSON does to NaN."""
    if isinstance(value, dict):
        return {name: _numbers(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_numbers(entry) for entry in value]
    return math.nan if value is None else value


def _full(name: str, part: dict[str, Any]) -> list[str]:
    if name == "samples":
        return [f"![{recording}](samples/{file})" for file, recording in zip(*_files(part), strict=True)]
    formats: dict[str, Callable[[dict[str, Any]], str]] = {
        "codec": format_codec_report,
        "tokens": format_piano_token_report if part.get("kind") == "piano" else format_token_report,
        "likelihood": format_likelihood_report,
        "continuation": format_continuation_report,
    }
    return ["```", formats[name](part).rstrip(), "```"]


def _files(part: dict[str, Any]) -> tuple[list[str], list[str]]:
    return part["files"], part["recordings"]


_Row = tuple[str, str, str]


def _codec_rows(part: dict[str, Any]) -> Iterator[_Row]:
    own, *others = part["systems"]
    names = ("PESQ-WB", "STOI") if part["kind"] == "speech" else ("multi-scale mel dB", "spectral convergence")
    keys = ("pesq_wb", "stoi") if part["kind"] == "speech" else ("multi_scale_mel_distance", "spectral_convergence")
    for name, key in zip(names, keys, strict=True):
        beside = ", ".join(f"{other['name']}: {other[key]:.3f}" for other in others)
        yield f"codec at {own['kbps']:g} kbps, {name}", f"{own[key]:.3f}", beside


def _token_rows(part: dict[str, Any]) -> Iterator[_Row]:
    systems = part["systems"]
    figures = (
        {"pitch_class_information": "pitch-class information", "onset_information": "onset information"}
        if part.get("kind") == "piano"
        else {
            "pnmi": "PNMI",
            "abx_centroids_within": "ABX error within speakers",
            "abx_centroids_across": "ABX error across speakers",
            "speaker_accuracy": "speaker probe",
        }
    )
    for key, name in figures.items():
        beside = (f"{other}: {found[key]:.3f}" for other, found in systems.items() if key in found)
        _, *rest = beside
        yield f"semantic tokens, {name}", f"{systems['semantic tokens'][key]:.3f}", ", ".join(rest)


def _likelihood_rows(part: dict[str, Any]) -> Iterator[_Row]:
    for name, figures in part["stages"].items():
        grams = {f"{order}-gram": figures[f"{order}-gram"] for order in part["orders"]}
        best = min(grams, key=lambda gram: grams[gram])
        beside = f"best n-gram ({best}): {grams[best]:.3f}"
        if OTHER_CONDITION in figures:
            beside += f", with the condition of another recording: {figures[OTHER_CONDITION]:.3f}"
        yield f"{name} stage, bits per token", f"{figures['stage']:.3f}", beside


def _continuation_rows(part: dict[str, Any]) -> Iterator[_Row]:
    task = TASKS[part["kind"]]
    own = part["intervals"]["model"]
    for key in (name for name in task.decisive if name in own):
        beside = [
            f"{system}: {part['systems'][system][key]:.3f}"
            for system in ("real", "real, coded", "real, coarse codes", ACOUSTIC_ONLY, task.floor)
            if system in part["systems"]
        ]
        for system in (task.floor, ACOUSTIC_ONLY):
            if system in part["differences"]:
                gap = part["differences"][system][key]
                beside.append(f"above {system} by {gap['mean']:.3f} [{gap['low']:.3f}, {gap['high']:.3f}]")
        value = f"{own[key]['mean']:.3f} [{own[key]['low']:.3f}, {own[key]['high']:.3f}]"
        yield f"continuation, {task.figures[key]}", value, ", ".join(beside)


def _no_rows(part: dict[str, Any]) -> Iterator[_Row]:
    return iter(())


_HEADLINES: dict[str, Callable[[dict[str, Any]], Iterator[_Row]]] = {
    "codec": _codec_rows,
    "tokens": _token_rows,
    "likelihood": _likelihood_rows,
    "continuation": _continuation_rows,
    "samples": _no_rows,
}


__all__ = ["format_checkpoint_report"]
