# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf evaluate`: measure a codec, the likelihoods of the stages, or continuations.

Every evaluation prints a table and, with `--output`, writes all its figures as JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command and its sub-commands to the program's parser."""
    parser = subparsers.add_parser("evaluate", help="measure a codec, the stages' likelihoods, or continuations")
    kinds = parser.add_subparsers(dest="evaluation", required=True, metavar="codec|likelihood|continuation")
    _add_codec(kinds)


def _add_codec(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser("codec", help="PESQ-WB, STOI, SI-SDR, mel distance and codebook use, beside Opus")
    parser.add_argument("--codec", type=Path, required=True, help="folder of a codec or of a whole AudioLM")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="parquet files, folders or manifests")
    parser.add_argument("--clips", type=int, default=24, help="how many recordings (default 24)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each (default 10)")
    parser.add_argument("--num-codebooks", type=int, nargs="*", default=[], help="also with so many leading levels")
    parser.add_argument("--opus", type=float, nargs="*", default=[6.0], help="rates of Opus, kbps (default 6)")
    _add_output(parser)
    parser.set_defaults(run=run_codec)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, help="JSON file for all figures")


def run_codec(arguments: argparse.Namespace) -> int:
    """Run `evaluate codec`; returns the exit status."""
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.data.loading import load_codec
    from audiolm_hf.evaluation.codec import evaluate_codec, format_codec_report

    codec = load_codec(arguments.codec)
    source = AudioSource(arguments.data, codec.sampling_rate)
    report = evaluate_codec(codec, source, arguments.clips, arguments.seconds, arguments.num_codebooks, arguments.opus)
    return _finish(report, format_codec_report(report), arguments.output)


def _finish(report: dict[str, Any], text: str, output: Path | None) -> int:
    sys.stdout.write(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        sys.stdout.write(f"All figures: {output}\n")
    return 0


__all__ = ["add_parser", "run_codec"]
