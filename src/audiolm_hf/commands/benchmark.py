# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf benchmark generation`: measure the speed of generation on this machine."""

import argparse
import sys
from pathlib import Path

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.commands.options import (
    CONTINUATIONS,
    Checked,
    add_checkpoint,
    add_device,
    add_length,
    add_number,
    add_report,
    find_device,
    hold_report,
    write_report,
)
from audiolm_hf.threads import set_threads


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measure tokens per second, real-time factors, time to the first audio and peak memory."
    parser.add_argument("measure", choices=["generation"], help="speed of the stages, the codec and continuations")
    add_checkpoint(parser)
    add_length(parser, "--length-s", "seconds of audio for each stage (default 1)", 1.0)
    text = "batch sizes (default 1 and 4)"
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1, 4], action=Checked, allowed=CONTINUATIONS, help=text
    )
    add_number(parser, "--rounds", "repetitions, of which the median is reported", 3)
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        choices=["transformers-generate", "audiolm-pytorch"],
        help="other systems to measure in the same run (install audiolm-pytorch without its dependencies)",
    )
    text = "dtype of the weights (default: that of the checkpoint)"
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="auto", help=text)
    add_device(parser)
    add_report(parser)


def run(arguments: argparse.Namespace) -> int:
    from audiolm_hf.evaluation.report import to_json
    from audiolm_hf.evaluation.speed import format_generation, measure_generation
    from audiolm_hf.modeling_audiolm import AudioLMModel

    device = find_device(arguments.device)
    folder = resolve_checkpoint(arguments.checkpoint)
    with hold_report(arguments.output, arguments.overwrite):
        model = AudioLMModel.from_pretrained(folder, dtype=arguments.dtype).eval().to(device)
        set_threads(model, arguments.threads)
        report = measure_generation(model, arguments.length_s, arguments.batch, arguments.rounds, arguments.against)
        origin = {"command": arguments.command, "checkpoint": Path(folder).resolve().name}
        write_report(arguments.output, to_json(origin | report))
    sys.stdout.write(format_generation(report) + "\n")
    return 0
