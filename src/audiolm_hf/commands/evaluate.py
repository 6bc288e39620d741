# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf evaluate`: measure a codec, the likelihoods of the stages, or continuations.

Every evaluation prints a table and, with `--output`, writes all its figures as JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from audiolm_hf.commands.evaluate_voice import add_voice


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command and its sub-commands to the program's parser."""
    parser = subparsers.add_parser("evaluate", help="measure a codec, the stages' likelihoods, or continuations")
    kinds = parser.add_subparsers(dest="evaluation", required=True, metavar="codec|likelihood|continuation|voice")
    _add_codec(kinds)
    _add_likelihood(kinds)
    _add_continuation(kinds)
    add_voice(kinds)


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


def _add_likelihood(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser("likelihood", help="bits per token of the stages, beside n-grams")
    parser.add_argument(
        "--checkpoint", type=Path, nargs="+", required=True, help="folder of an AudioLM, or of one or more stages"
    )
    parser.add_argument("--train-tokens", type=Path, nargs="+", required=True, help="token datasets for the n-grams")
    parser.add_argument("--test-tokens", type=Path, nargs="+", required=True, help="token datasets to measure on")
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 2, 3, 5], help="of the n-grams (default 1 2 3 5)")
    parser.add_argument("--overlap", type=float, default=0.5, help="context share of a stage's windows (default 0.5)")
    _add_output(parser)
    parser.set_defaults(run=run_likelihood)


def _add_continuation(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser("continuation", help="sanity figures of continuations, beside real ones and noise")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of an AudioLM")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="parquet files, folders or manifests")
    parser.add_argument("--prompts", type=int, default=8, help="how many (default 8)")
    parser.add_argument("--prompt-length-s", type=float, default=3.0, help="seconds given (default 3)")
    parser.add_argument("--length-s", type=float, default=7.0, help="seconds continued (default 7)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")
    _add_output(parser)
    parser.set_defaults(run=run_continuation)


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


def run_likelihood(arguments: argparse.Namespace) -> int:
    """Run `evaluate likelihood`; returns the exit status."""
    from audiolm_hf.data.tokens import TokenDataset
    from audiolm_hf.evaluation.likelihood import evaluate_likelihood, format_likelihood_report, load_stages

    report = evaluate_likelihood(
        load_stages(arguments.checkpoint),
        TokenDataset(arguments.train_tokens),
        TokenDataset(arguments.test_tokens),
        arguments.orders,
        arguments.overlap,
    )
    return _finish(report, format_likelihood_report(report), arguments.output)


def run_continuation(arguments: argparse.Namespace) -> int:
    """Run `evaluate continuation`; returns the exit status."""
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.evaluation.continuation import evaluate_continuation, format_continuation_report
    from audiolm_hf.modeling_audiolm import AudioLMModel

    model = AudioLMModel.from_pretrained(arguments.checkpoint).eval()
    source = AudioSource(arguments.data, model.sampling_rate)
    report = evaluate_continuation(
        model, source, arguments.prompts, arguments.prompt_length_s, arguments.length_s, arguments.seed
    )
    return _finish(report, format_continuation_report(report), arguments.output)


def _finish(report: dict[str, Any], text: str, output: Path | None) -> int:
    sys.stdout.write(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        sys.stdout.write(f"All figures: {output}\n")
    return 0


__all__ = ["add_parser", "run_codec", "run_continuation", "run_likelihood"]
