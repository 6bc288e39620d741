# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf train`: run the training that a YAML file describes."""

import argparse
from pathlib import Path

from audiolm_hf.training.config import TRAINING_KINDS, run_training


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "train",
        help="train one part of AudioLM from a YAML file",
        description=f"Train one part of AudioLM. The key `kind` of the file says which: {', '.join(TRAINING_KINDS)}.",
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the training")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="changes to the file, such as data.folder=/tmp/data seed=1"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    run_training(arguments.config, arguments.overrides)
    return 0


__all__ = ["add_parser", "run"]
