# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf push`: upload a checkpoint folder to the Hub."""

import argparse
import sys

from audiolm_hf.bundled import resolve_checkpoint


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "push",
        help="upload a checkpoint to the Hugging Face Hub",
        description="Upload a checkpoint with the code that runs it. Log in first with `hf auth login`.",
    )
    parser.add_argument("folder", help="checkpoint folder, or the name of a bundled checkpoint")
    parser.add_argument("repo_id", help="user/name on the Hub; created if it does not exist")
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether a new repository is private; an existing one keeps its visibility",
    )
    parser.add_argument("--revision", help="branch to upload to")
    parser.add_argument("--message", help="commit message")
    parser.add_argument("--without-code", action="store_true", help="upload no code; loading then needs the package")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from audiolm_hf.hub import push_checkpoint

    url = push_checkpoint(
        resolve_checkpoint(arguments.folder),
        arguments.repo_id,
        private=arguments.private,
        revision=arguments.revision,
        commit_message=arguments.message,
        with_code=not arguments.without_code,
    )
    sys.stdout.write(f"{url}\n")
    return 0
