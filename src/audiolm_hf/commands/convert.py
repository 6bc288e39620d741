# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf convert`: bring an adapter folder of the older form into PEFT's."""

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "convert",
        help="convert an adapter folder of the older form",
        description="Write an adapter folder that has a sub-folder for each stage as one PEFT adapter of the whole "
        "model. The old folder stays as it is.",
    )
    parser.add_argument("folder", type=Path, help="adapter folder of the older form")
    parser.add_argument("output", type=Path, help="new folder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from audiolm_hf.training.stages.lora import convert_adapter

    convert_adapter(arguments.folder, arguments.output)
    return 0


__all__ = ["add_parser", "run"]
