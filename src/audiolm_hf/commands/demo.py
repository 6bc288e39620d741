# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf demo`: run the Gradio app of the Space on this machine."""

import argparse
import socket
from typing import Any

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.commands.options import Checked, add_device, find_device
from audiolm_hf.config_values_audiolm import Within


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command, which are also those of the Space's `app.py`."""
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        help="names of bundled checkpoints, folders (also of adapters) or user/name on the Hub, from which visitors "
        "choose (default: all bundled ones)",
    )
    parser.add_argument("--host", help="address to listen at (default: this machine only)")
    parser.add_argument(
        "--port",
        type=int,
        action=Checked,
        allowed=Within(1, 65535, whole=True),
        help="port to listen at (default: the first free one from 7860)",
    )
    add_device(parser)


def check_address(host: str | None, port: int) -> None:
    """Check that a server can listen at an address."""
    try:
        socket.create_server((host or "127.0.0.1", port)).close()
    except OSError as error:
        place = f"{host or 'this machine'}, port {port}"
        raise ValueError(f"The demo cannot listen at {place} ({error.strerror}); give others.") from None


def build(arguments: argparse.Namespace) -> Any:
    """Check the options, and build the page."""
    from audiolm_hf.demo import build_demo

    for checkpoint in arguments.checkpoint or ():
        resolve_checkpoint(checkpoint)
    device = find_device(arguments.device)
    if arguments.host is not None or arguments.port is not None:
        check_address(arguments.host, arguments.port or 0)
    return build_demo(arguments.checkpoint, device, arguments.threads)


def run(arguments: argparse.Namespace) -> int:
    from audiolm_hf.demo import launch_demo

    launch_demo(build(arguments), arguments.host, arguments.port)
    return 0
