# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf evaluate checkpoint`: run all protocols on a checkpoint, and write the results as JSON and Markdown."""

import argparse
import sys
from pathlib import Path

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.commands.options import (
    Number,
    add_checkpoint,
    add_continuations,
    add_length,
    add_machine,
    add_renamed,
    add_seed,
    check_inputs,
    check_report,
    find_device,
    write_report,
)

# The names of evaluation.protocols.checkpoint.PROTOCOLS; importing it here would load torch for every `--help`.
PROTOCOL_NAMES = ("codec", "tokens", "likelihood", "continuation", "samples")


def add_whole(kinds: argparse._SubParsersAction) -> None:
    """Add the subcommand to the parser of `evaluate`."""
    parser = kinds.add_parser(
        "checkpoint",
        help="all protocols",
        description="Evaluate a checkpoint by all protocols. Results are saved next to the output; rerunning resumes.",
    )
    add_checkpoint(parser, default=None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora, such as librispeech/, piano/")
    parser.add_argument("--kind", choices=("speech", "piano"), default="speech", help="kind of audio (default speech)")
    parser.add_argument(
        "--protocols", nargs="+", choices=PROTOCOL_NAMES, default=PROTOCOL_NAMES, help="protocols to run (default all)"
    )
    add_renamed(parser, "--parts", "--protocols")
    counts = [
        ("--num-prompts", 24, "prompts to continue (default 24)"),
        ("--num-clips", 24, "recordings for the codec (default 24)"),
        ("--num-samples", 6, "spectrograms to draw (default 6)"),
    ]
    for flag, default, text in counts:
        parser.add_argument(flag, type=int, default=default, action=Number, help=text)
    add_continuations(parser, 4)
    add_length(parser, "--train-minutes", "minutes of audio for the clusters of spectra (default 80)", 80.0)
    parser.add_argument(
        "--train-tokens", type=Path, help="token dataset for the n-grams; by default the training files are tokenized"
    )
    add_seed(parser, "random seed (default 0)")
    add_machine(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings or data")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file; Markdown is written next to it")
    parser.add_argument(
        "--card",
        type=Path,
        help="model card in which the lines between <!-- metrics --> and <!-- end of metrics --> are replaced",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return the exit status."""
    from audiolm_hf.evaluation.protocols.checkpoint import CheckpointEvaluation, format_checkpoint
    from audiolm_hf.evaluation.report import replace_metrics, to_json

    output: Path = arguments.output
    check_report(output, others=(".md", ".results"))
    check_inputs([arguments.data, arguments.train_tokens, arguments.card])
    if arguments.card is not None:
        replace_metrics(arguments.card.read_text(encoding="utf-8"), "")  # check the card before any work
    counts = ("num_prompts", "num_continuations", "num_clips", "num_samples", "train_minutes")
    fields = ("data", "kind", *counts, "train_tokens", "seed", "threads", "overwrite")
    evaluation = CheckpointEvaluation(
        folder=Path(resolve_checkpoint(arguments.checkpoint)),
        results_folder=output.with_suffix(".results"),
        device=find_device(arguments.device),
        **{field: getattr(arguments, field) for field in fields},
    )
    report = evaluation.run(tuple(arguments.protocols))
    text = format_checkpoint(report)
    write_report(output, to_json(report))
    write_report(output.with_suffix(".md"), text)
    if arguments.card is not None:
        write_report(arguments.card, replace_metrics(arguments.card.read_text(encoding="utf-8"), text))
    sys.stdout.write(f"{text}\nAll metrics: {output}, {output.with_suffix('.md')}\n")
    return 0
