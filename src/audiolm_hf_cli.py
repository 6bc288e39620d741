# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The entry point of the program `audiolm-hf`: prints the overview, and calls `audiolm_hf.cli` for everything else.

It is outside of the package, because importing the package imports torch and transformers, which takes seconds.
"""

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Mapping
from typing import Any

# Verb -> its line in the overview.
SUMMARIES = {
    "continue": "continue a sound file",
    "detect": "score sound files as generated or real",
    "checkpoints": "list the bundled checkpoints",
    "data": "build the data folder of a recipe",
    "tokenize": "tokenize recordings into a token dataset",
    "train": "train a part of AudioLM, or all parts, from a YAML file",
    "evaluate": "evaluate a checkpoint or a part of it",
    "benchmark": "measure the speed of generation",
    "convert": "convert an adapter folder in the older format",
    "push": "upload a checkpoint to the Hugging Face Hub",
    "demo": "start the demo in a browser",
    "card": "write the model card of a checkpoint from results",
}
INTERRUPTED = 130  # the shell's status after Ctrl-C


def build_overview(loaded: Mapping[str, Any] | None = None, **options: Any) -> argparse.ArgumentParser:
    """Build the parser of all commands by their summaries and, of those whose module is `loaded`, by its options."""
    parser = argparse.ArgumentParser(prog="audiolm-hf", description="Continue audio with AudioLM, and train it.")
    version = importlib.metadata.version("audiolm_hf")
    parser.add_argument("--version", action="version", version=f"audiolm-hf {version}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="command", **options)
    for verb, summary in SUMMARIES.items():
        text, add_help = f"{summary[0].upper()}{summary[1:]}.", verb != "train"  # whose help has two forms
        command = subparsers.add_parser(verb, help=summary, description=text, add_help=add_help)
        if verb in (loaded or {}):
            command.set_defaults(run=loaded[verb].run)
            loaded[verb].add_options(command)
    return parser


def main() -> int:
    """Run the program with the arguments of the process and return its exit status."""
    # Spinning threads slow each other down by a factor of ten if other programs use some of the cores. OpenMP reads
    # the variable when torch is loaded.
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


if __name__ == "__main__":
    sys.exit(main())
