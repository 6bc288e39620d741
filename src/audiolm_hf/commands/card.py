# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf card`: write the model card of a checkpoint from the results of its evaluations."""

import argparse
import sys
from pathlib import Path

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.commands.options import check_inputs
from audiolm_hf.run_folder import check_writable


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write README.md in a checkpoint's folder. Measured values come from results of audiolm-hf evaluate, with the "
        "commands; sections and front matter that people wrote are kept."
    )
    parser.add_argument("checkpoint", help="checkpoint folder, or the name of a bundled checkpoint")
    parser.add_argument("--results", type=Path, nargs="+", default=[], help="JSON files of audiolm-hf evaluate -o")
    parser.add_argument(
        "--examples",
        type=Path,
        help="folder of audio examples (.opus or .mp3), each with a picture (.png) of the same name",
    )
    parser.add_argument("--license", help="the Hub's identifier of the licence, such as cc-by-4.0")


def run(arguments: argparse.Namespace) -> int:
    folder = Path(resolve_checkpoint(arguments.checkpoint))
    check_inputs([folder, *arguments.results, arguments.examples])
    check_writable(folder)

    from audiolm_hf.evaluation.card import NOT_STATED, WRITTEN, split_sections, write_card

    path = write_card(folder, arguments.results, arguments.examples, arguments.license)
    sections = split_sections(path.read_text(encoding="utf-8"))[1]
    missing = [name for name in WRITTEN if sections[name] == NOT_STATED]
    advice = f" Please write the sections {', '.join(missing)}." if missing else ""
    sys.stdout.write(f"Card: {path}.{advice}\n")
    return 0
