# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The entry of the program `audiolm-hf`: shows the overview by itself, and hands everything else to `audiolm_hf.cli`.

It lies beside the package because importing the package imports torch and transformers, which takes seconds.
"""

import argparse
import importlib.metadata
import os
import sys

DESCRIPTION = "Continue audio with AudioLM, and train it."
# Verb -> its line in the overview.
SUMMARIES = {
    "continue": "continue a sound file",
    "checkpoints": "list the checkpoints that come with the package",
    "data": "build the folder of recordings that a recipe trains on",
    "tokenize": "tokenize recordings into a token dataset",
    "train": "train one part of AudioLM, or all of them, from a YAML file",
    "evaluate": "evaluate a checkpoint or a part of it",
    "benchmark": "measure the speed of generation",
    "convert": "convert an adapter folder of the older form",
    "push": "upload a checkpoint to the Hugging Face Hub",
    "demo": "start the demo in a browser",
}
INTERRUPTED = 130  # the shell's status after Ctrl-C


def build_overview() -> argparse.ArgumentParser:
    """Build a parser that knows every verb's name and summary, and none of its options."""
    parser = argparse.ArgumentParser(prog="audiolm-hf", description=DESCRIPTION)
    version = importlib.metadata.version("audiolm_hf")
    parser.add_argument("--version", action="version", version=f"audiolm-hf {version}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="command")
    for verb, summary in SUMMARIES.items():
        subparsers.add_parser(verb, help=summary)
    return parser


def main() -> int:
    """Run the program with the arguments of the process; returns its exit status."""
    # Threads that spin while they wait take the cores from each other where other programs use some of them: ten times
    # slower. Read by OpenMP as it is loaded, with torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if sys.argv[1:] in (["--help"], ["-h"], ["--version"]):
            build_overview().parse_args()
        from audiolm_hf.cli import main as run
    except KeyboardInterrupt:
        return INTERRUPTED
    except ImportError as error:
        sys.stderr.write(f"audiolm-hf: error: {error}\n")
        return 1
    return run()


__all__ = ["SUMMARIES", "build_overview", "main"]
