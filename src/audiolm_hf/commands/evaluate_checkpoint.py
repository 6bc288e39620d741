# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf evaluate checkpoint`: every metric of a checkpoint, in one JSON file and one Markdown file."""

import argparse
import sys
from pathlib import Path

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.commands.options import (
    Number,
    add_continuations,
    add_length,
    add_machine,
    add_seed,
    check_inputs,
    check_report,
    find_device,
    write_report,
)

PART_NAMES = ("codec", "tokens", "likelihood", "continuation", "samples")


def add_whole(kinds: argparse._SubParsersAction) -> None:
    """Add the sub-command to the parser of `evaluate`."""
    parser = kinds.add_parser(
        "checkpoint",
        help="every metric of a checkpoint",
        description="Measure a checkpoint by every protocol. Parts that are done are kept beside the output; run it "
        "again after an interruption and it resumes.",
    )
    parser.add_argument("checkpoint", help="name of a bundled checkpoint, or folder of an AudioLM")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora, such as librispeech/, piano/")
    parser.add_argument("--kind", choices=("speech", "piano"), default="speech", help="of audio (default speech)")
    parser.add_argument("--parts", nargs="+", choices=PART_NAMES, default=PART_NAMES, help="by default all")
    counts = [
        ("--num-prompts", 24, "prompts to continue (default 24)"),
        ("--num-clips", 24, "recordings for the codec (default 24)"),
        ("--num-samples", 6, "pictures (default 6)"),
    ]
    for flag, default, text in counts:
        parser.add_argument(flag, type=int, default=default, action=Number, help=text)
    add_continuations(parser, 4)
    add_length(parser, "--train-minutes", "for the clusters of spectra (default 80)", 80.0)
    parser.add_argument(
        "--train-tokens", type=Path, help="token dataset for the n-grams; by default the training files are tokenized"
    )
    add_seed(parser, "of everything that is drawn (default 0)")
    add_machine(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="evaluate parts again that are kept of other settings or data"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file; Markdown is written beside it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from audiolm_hf.evaluation.markdown import format_checkpoint_report
    from audiolm_hf.evaluation.protocols.checkpoint import CheckpointEvaluation
    from audiolm_hf.evaluation.results import to_json

    output: Path = arguments.output
    check_report(output, others=(".md", ".parts"))
    check_inputs([arguments.data, arguments.train_tokens])
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
        device=find_device(arguments.device),
        threads=arguments.threads,
        overwrite=arguments.overwrite,
    )
    report = evaluation.run(tuple(arguments.parts))
    text = format_checkpoint_report(report)
    write_report(output, to_json(report))
    write_report(output.with_suffix(".md"), text)
    sys.stdout.write(f"{text}\nAll metrics: {output}, {output.with_suffix('.md')}\n")
    return 0


__all__ = ["add_whole", "run"]
