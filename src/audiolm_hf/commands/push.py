# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf push`: upload a checkpoint folder to the Hub."""

import argparse
import sys

from audiolm_hf.bundled import resolve_checkpoint


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Upload a checkpoint with the code that runs it. Log in first with `hf auth login`."
    parser.add_argument("folder", help="checkpoint folder, or the name of a bundled checkpoint")
    parser.add_argument("repo_id", help="user/name on the Hub; created if it does not exist")
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether a new repository is private; an existing one keeps its visibility",
    )
    parser.add_argument("--revision", help="branch to upload to; created if it does not exist")
    parser.add_argument("--message", help="commit message")
    parser.add_argument("--without-code", action="store_true", help="upload no code; loading then needs the package")
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and upload nothing")


def run(arguments: argparse.Namespace) -> int:
    from audiolm_hf.hub import list_upload, push_checkpoint

    folder = resolve_checkpoint(arguments.folder)
    if arguments.dry_run:
        files = list_upload(folder, with_code=not arguments.without_code)
        lines = [f"{size:>12,}  {name}\n" for name, size in files.items()]
        sys.stdout.writelines([*lines, f"{sum(files.values()):>12,}  bytes to {arguments.repo_id}\n"])
        return 0
    url = push_checkpoint(
        folder,
        arguments.repo_id,
        private=arguments.private,
        revision=arguments.revision,
        commit_message=arguments.message,
        with_code=not arguments.without_code,
    )
    sys.stdout.write(f"{url}\n")
    return 0
