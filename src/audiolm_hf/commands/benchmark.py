# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf benchmark training | generation`: how fast this machine trains a stage and runs a checkpoint."""

import argparse
import sys
from pathlib import Path
from typing import Any

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.commands.options import (
    MOST_CONTINUATIONS,
    Number,
    add_checkpoint,
    add_length,
    add_machine,
    add_report,
    check_report,
    find_device,
    write_report,
)
from audiolm_hf.memory_audiolm import check_memory
from audiolm_hf.threads import check_threads, set_threads

# Also in training/throughput.py; importing it here would load torch for every `--help`.
VARIANTS = ("eager", "sdpa", "compile", "flash_attention_2")
DTYPES = ("bf16", "float32")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "benchmark",
        help="measure the speed of training and of generation",
        description="Measure speed here. Variants take turns in one run, so that their ratios hold on a busy machine.",
    )
    measures = parser.add_subparsers(dest="measure", required=True, metavar="measure")
    _add_training(measures)
    _add_generation(measures)


def _add_training(measures: argparse._SubParsersAction) -> None:
    parser = measures.add_parser(
        "training",
        help="tokens a second and utilisation of a stage's training",
        description="Train a coarse stage with random weights on random tokens; by default of the paper's size.",
    )
    sizes = [
        ("--num-layers", 12, "layers of the decoder"),
        ("--hidden-size", 1024, "width of the decoder"),
        ("--num-heads", 16, "attention heads"),
        ("--intermediate-size", 4096, "inner width of its layers"),
        ("--batch", 16, "sequences per step"),
        ("--length", 2252, "ids per sequence"),
        ("--steps", 5, "timed steps of one turn"),
        ("--rounds", 3, "turns of every variant, of which the median counts"),
    ]
    for flag, default, what in sizes:
        parser.add_argument(flag, type=int, default=default, action=Number, help=f"{what} (default {default})")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["eager", "sdpa", "compile"])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bf16"])
    add_machine(parser)
    add_report(parser)
    parser.set_defaults(run=run_training_benchmark)


def _add_generation(measures: argparse._SubParsersAction) -> None:
    parser = measures.add_parser(
        "generation",
        help="tokens a second and real-time factor of a checkpoint's stages",
        description="Sample every stage of a checkpoint by itself and report tokens per second and real-time factor.",
    )
    add_checkpoint(parser)
    add_length(parser, "--length-s", "seconds of audio for each stage (default 1)", 1.0)
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
        default=[1, 4],
        action=Number,
        maximum=MOST_CONTINUATIONS,
        help="rows at once (default 1 and 4)",
    )
    parser.add_argument(
        "--rounds", type=int, default=3, action=Number, help="repetitions, of which the median counts (default 3)"
    )
    add_machine(parser)
    add_report(parser)
    parser.set_defaults(run=run_generation_benchmark)


def run_training_benchmark(arguments: argparse.Namespace) -> int:
    """Run `benchmark training`; returns the exit status."""
    import torch

    from audiolm_hf.training.throughput import ThroughputOptions, format_training, measure_training, needed_memory

    check_report(arguments.output)
    names = ("num_layers", "hidden_size", "num_heads", "intermediate_size", "batch", "length", "steps", "rounds")
    settings: dict[str, Any] = {name: vars(arguments)[name] for name in (*names, "variants", "dtypes")}
    options = ThroughputOptions(**settings, device=find_device(arguments.device))
    if options.device == "cpu":
        check_memory(
            needed_memory(options),
            "A training step of this size on the CPU",
            "give smaller --num-layers, --hidden-size, --batch or --length, or an accelerator as --device",
        )
    check_threads(arguments.threads)
    torch.set_num_threads(arguments.threads or torch.get_num_threads())
    report = measure_training(options)
    _write(report, format_training(report), arguments.output)
    return 0


def run_generation_benchmark(arguments: argparse.Namespace) -> int:
    """Run `benchmark generation`; returns the exit status."""
    from audiolm_hf.evaluation.speed import format_generation, measure_generation
    from audiolm_hf.modeling_audiolm import AudioLMModel

    check_report(arguments.output)
    device = find_device(arguments.device)
    model = AudioLMModel.from_pretrained(resolve_checkpoint(arguments.checkpoint)).eval().to(device)
    set_threads(model, arguments.threads)
    report = measure_generation(model, arguments.length_s, arguments.batch, arguments.rounds)
    _write({"checkpoint": arguments.checkpoint, **report}, format_generation(report), arguments.output)
    return 0


def _write(report: dict[str, Any], text: str, output: Path | None) -> None:
    from audiolm_hf.evaluation.report import to_json

    sys.stdout.write(text + "\n")
    write_report(output, to_json(report))


__all__ = ["add_parser", "run_generation_benchmark", "run_training_benchmark"]
