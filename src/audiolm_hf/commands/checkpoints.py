# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf checkpoints`: list the bundled checkpoints."""

import argparse
import sys
from pathlib import Path

from audiolm_hf.bundled import DEFAULT_CHECKPOINT, checkpoint, list_checkpoints


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("checkpoints", help="list the bundled checkpoints")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    for name in list_checkpoints():
        folder = Path(checkpoint(name))
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        mark = " (default)" if name == DEFAULT_CHECKPOINT else ""
        sys.stdout.write(f"{name}{mark}\t{megabytes:.1f} MB\t{folder}\n")
    return 0
