# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf evaluate checkpoint`: every figure of a checkpoint, in one JSON file and one Markdown file."""

import argparse
import sys
from pathlib import Path

from audiolm_hf.bundled import resolve_checkpoint

PART_NAMES = ("codec", "tokens", "likelihood", "continuation", "samples")


def add_checkpoint(kinds: argparse._SubParsersAction) -> None:
    """Add the sub-command to the parser of `evaluate`."""
    parser = kinds.add_parser(
        "checkpoint",
        help="every figure of a checkpoint",
        description="Measure a checkpoint by every protocol. Parts that are done are kept beside the output; run it "
        "again after an interruption and it goes on.",
    )
    parser.add_argument("checkpoint", help="name of a bundled checkpoint, or folder of an AudioLM")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora, such as librispeech/, piano/")
    parser.add_argument("--kind", choices=("speech", "piano"), default="speech", help="of audio (default speech)")
    parser.add_argument("--parts", nargs="+", choices=PART_NAMES, default=PART_NAMES, help="by default all")
    parser.add_argument("--num-prompts", type=int, default=24, help="prompts to continue (default 24)")
    parser.add_argument("--num-continuations", type=int, default=4, help="of each prompt (default 4)")
    parser.add_argument("--num-clips", type=int, default=24, help="recordings for the codec (default 24)")
    parser.add_argument("--num-samples", type=int, default=6, help="pictures (default 6)")
    parser.add_argument("--train-minutes", type=float, default=80.0, help="for the clusters of spectra (default 80)")
    parser.add_argument(
        "--train-tokens", type=Path, help="token dataset for the n-grams; by default the training files are tokenized"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file; Markdown is written beside it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from audiolm_hf.evaluation.checkpoint_report import CheckpointEvaluation
    from audiolm_hf.evaluation.markdown import format_checkpoint_report
    from audiolm_hf.evaluation.parts import to_json

    output: Path = arguments.output
    evaluation = CheckpointEvaluation(
        folder=Path(resolve_checkpoint(arguments.checkpoint)),
        data=arguments.data,
        parts_folder=output.with_suffix(".parts"),
        kind=arguments.kind,
        num_prompts=arguments.num_prompts,
        num_continuations=arguments.num_continuations,
        num_clips=arguments.num_clips,
        num_samples=arguments.num_samples,
        train_minutes=arguments.train_minutes,
        train_tokens=arguments.train_tokens,
        seed=arguments.seed,
    )
    report = evaluation.run(tuple(arguments.parts))
    text = format_checkpoint_report(report)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(to_json(report), encoding="utf-8")
    output.with_suffix(".md").write_text(text, encoding="utf-8")
    sys.stdout.write(f"{text}\nAll figures: {output}, {output.with_suffix('.md')}\n")
    return 0


__all__ = ["add_checkpoint", "run"]
