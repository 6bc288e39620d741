# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf demo`: start the Gradio app of the Space on this machine."""

import argparse

from audiolm_hf.bundled import DEFAULT_CHECKPOINT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that the command and the Space's `app.py` share."""
    parser.add_argument(
        "--checkpoint",
        default=DEFAULT_CHECKPOINT,
        help=f"name of a bundled checkpoint, folder or user/name on the Hub (default {DEFAULT_CHECKPOINT})",
    )
    parser.add_argument("--host", help="address to listen at (default: this machine only)")
    parser.add_argument("--port", type=int, help="port to listen at (default: the first free one from 7860)")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser("demo", help="start the demo in a browser")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from audiolm_hf.demo import build_demo, launch_demo

    launch_demo(build_demo(arguments.checkpoint), arguments.host, arguments.port)
    return 0


__all__ = ["add_arguments", "add_parser", "run"]
