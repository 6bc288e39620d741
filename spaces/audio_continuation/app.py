# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The Space: `python app.py [--checkpoint NAME_OR_FOLDER ...]`. The page itself is `audiolm_hf.demo`.

On a Space, the variable `CHECKPOINTS` names them, separated by spaces.
"""

import argparse
import os

from audiolm_hf.commands import demo as command
from audiolm_hf.demo import build_demo, launch_demo

__all__ = ["build_demo", "demo"]

parser = argparse.ArgumentParser(description="Continue audio in a browser.")
command.add_options(parser)
parser.set_defaults(checkpoint=os.environ.get("CHECKPOINTS", "").split() or None)
arguments = parser.parse_args(None if __name__ == "__main__" else [])
demo = command.build(arguments)

if __name__ == "__main__":
    launch_demo(demo, arguments.host, arguments.port)
