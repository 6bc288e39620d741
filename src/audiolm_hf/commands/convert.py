# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf convert`: convert an adapter folder in the older format to PEFT's format."""

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Convert an adapter folder with a subfolder for each stage to one PEFT adapter of the whole model. The old "
        "folder does not change."
    )
    parser.add_argument("folder", type=Path, help="adapter folder in the older format")
    parser.add_argument("output", type=Path, help="new folder")


def run(arguments: argparse.Namespace) -> int:
    from audiolm_hf.training.stages.lora import convert_adapter

    convert_adapter(arguments.folder, arguments.output)
    return 0
