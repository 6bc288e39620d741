# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf tokenize`: turn recordings into a token dataset for the stages."""

import argparse
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "tokenize",
        help="turn recordings into semantic tokens and codes",
        description="Turn recordings into a token dataset. Run it again after an interruption and it goes on.",
    )
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the semantic tokenizer")
    parser.add_argument("--codec", type=Path, required=True, help="folder of the codec")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="parquet files, folders or manifests")
    parser.add_argument("--min-duration-s", type=float, default=0.1, help="leave out shorter recordings (default 0.1)")
    parser.add_argument(
        "--float16",
        action="store_true",
        help="round the tokenizers' weights to float16 first, as `assemble` stores them",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the token dataset")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.data.loading import load_codec, load_semantic_tokenizer, round_to_float16_
    from audiolm_hf.data.tokens import tokenize_recordings

    codec = load_codec(arguments.codec)
    semantic_tokenizer = load_semantic_tokenizer(arguments.tokenizer)
    if arguments.float16:
        round_to_float16_(codec.model)
        round_to_float16_(semantic_tokenizer)
    source = AudioSource(arguments.data, codec.sampling_rate, arguments.min_duration_s)
    dataset = tokenize_recordings(source, semantic_tokenizer, codec, arguments.output)
    sys.stdout.write(
        f"{len(dataset)} records, {dataset.duration / 3600:.2f} h, in {arguments.output} "
        f"(tokenizers {dataset.info.tokenizers}); {len(source.skipped)} recordings left out.\n"
    )
    for skipped in source.skipped:
        sys.stdout.write(f"  {skipped.id}: {skipped.reason}\n")
    return 0


__all__ = ["add_parser", "run"]
