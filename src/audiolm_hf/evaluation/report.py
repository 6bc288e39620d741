# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Formatting of results: tables for the terminal, JSON, and Markdown for a model card.

A protocol returns a dictionary of JSON types. Its entry `systems` maps the evaluated system and its baselines to their
metrics. The `format_*` function of the protocol formats the result as text, and its `*_headlines` function returns the
rows of the card's first table.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Headline = tuple[str, str, str]  # metric, value, and the baselines' values


class Formats(NamedTuple):
    """How the result of an evaluation is shown: its title, its text, and its rows of a card's first table."""

    title: str
    format: Callable[[Any], str]
    headlines: Callable[[Any], list[Headline]] = lambda result: []


def as_text(format_result: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return a function that puts the text of `format_result` into a fenced block of Markdown."""
    return lambda result: f"```\n{format_result(result).rstrip()}\n```"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a plain-text table, the first column aligned to the left and the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [list(header), ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def systems_table(systems: Mapping[str, Mapping[str, float]], titles: Mapping[str, str], name: str = "system") -> str:
    """Return a table of systems and titled metrics, in percent if the title ends in `%`."""

    def cell(metrics: Mapping[str, float], metric: str) -> str:
        if metric not in metrics:
            return "-"
        return f"{100 * metrics[metric]:.1f}" if titles[metric].endswith("%") else f"{metrics[metric]:.3f}"

    rows = [[system, *(cell(metrics, metric) for metric in titles)] for system, metrics in systems.items()]
    return format_table([name, *titles.values()], rows)


def format_interval(summary: Mapping[str, float]) -> str:
    """Return a mean and its bootstrap interval as text."""
    return f"{summary['mean']:.3f} [{summary['low']:.3f}, {summary['high']:.3f}]"


def join_parts(parts: Iterable[str]) -> str:
    """Join paragraphs and tables, leaving out empty ones; with a newline at the end."""
    return "\n\n".join(filter(None, parts)) + "\n"


def headline(metric: str, name: str, systems: Mapping[str, Mapping[str, float]]) -> Headline:
    """Return a row of a card: the value of a metric for the first system, and for the others that have it."""
    own, *others = ((system, metrics[metric]) for system, metrics in systems.items() if metric in metrics)
    return name, f"{own[1]:.3f}", ", ".join(f"{system}: {value:.3f}" for system, value in others)


def format_headlines(headlines: Sequence[Headline]) -> str:
    """Return the table of headlines in Markdown."""
    return "\n".join(
        ["| metric | value | baselines |", "|---|--:|---|", *(f"| {' | '.join(row)} |" for row in headlines)]
    )


def to_json(result: Any) -> str:
    """Return JSON in which NaN and infinity are null."""
    finite = _replace(result, lambda value: isinstance(value, float) and not math.isfinite(value), None)
    return json.dumps(finite, indent=2) + "\n"


def from_json(text: str) -> Any:
    """Parse the output of [`to_json`]; null becomes NaN."""
    return _replace(json.loads(text), lambda value: value is None, math.nan)


def _replace(value: Any, is_replaced: Callable[[Any], bool], replacement: float | None) -> Any:
    if isinstance(value, dict):
        return {str(name): _replace(entry, is_replaced, replacement) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(entry, is_replaced, replacement) for entry in value]
    return replacement if is_replaced(value) else value
