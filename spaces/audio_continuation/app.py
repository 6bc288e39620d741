# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The Space: `python app.py [--checkpoint NAME_OR_FOLDER]`. The page itself is `audiolm_hf.demo`."""

import argparse

from audiolm_hf.commands import demo

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Continue audio in a browser.")
    demo.add_arguments(parser)
    demo.run(parser.parse_args())
