# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf checkpoints`: list the bundled checkpoints."""

import argparse
import sys
from pathlib import Path

from audiolm_hf.bundled import DEFAULT_CHECKPOINT, checkpoint, list_checkpoints


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""


def run(arguments: argparse.Namespace) -> int:
    for name in list_checkpoints():
        folder = Path(checkpoint(name))
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        mark = " (default)" if name == DEFAULT_CHECKPOINT else ""
        sys.stdout.write(f"{name}{mark}\t{megabytes:.1f} MB\t{folder}\n")
    return 0
