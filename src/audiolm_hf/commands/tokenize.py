# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf tokenize`: convert recordings to a token dataset for the stages."""

import argparse
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.commands.options import add_number, add_removed, find_device

if TYPE_CHECKING:
    from audiolm_hf.data.hf_datasets import ClipStream
    from audiolm_hf.data.recordings import ClipList
    from audiolm_hf.data.tokens import TokenDataset

SHOWN_SKIPPED = 10  # all are in `SKIPPED_FILE`


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Tokenize recordings into a token dataset for training the stages. After an interruption, the same command "
        "resumes."
    )
    for part, what in {"tokenizer": "a semantic tokenizer", "codec": "a codec"}.items():
        text = f"name of a bundled checkpoint, or folder of {what} or an AudioLM"
        parser.add_argument(f"--{part}", required=True, help=text)
    _add_source(parser)
    parser.add_argument("--min-duration-s", type=float, default=0.1, help="leave out shorter recordings (default 0.1)")
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="factor of the recordings' speed, to train on more voices (0.5 to 2, default 1)",
    )
    parser.add_argument(
        "--float16",
        action="store_true",
        help="round the tokenizers' weights to float16 first, as `assemble` stores them",
    )
    parser.add_argument("--device", default="cpu", help="device of the tokenizers, such as cuda (default cpu)")
    add_number(parser, "--num-workers", "processes of one thread each; the tokens do not depend on it", 1)
    add_number(parser, "--recordings-per-shard", "recordings in each parquet file", 64)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the content of the output folder if it is another dataset"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the token dataset")
    add_removed(parser, "--num-threads", "every process has one thread; use --num-workers for more processes")
    for old in ("--num-machines", "--machine-index"):
        add_removed(
            parser,
            old,
            "tokenize a part of the recordings on each machine into a folder of its own, and list the folders in "
            "train_tokens",
        )


def _add_source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--data",
        type=Path,
        nargs="+",
        help="parquet files, folders of audio files, datasets saved to disk, audio files, or lists: .txt with a path "
        "a line, .csv or .jsonl with `path` and optional speaker, accent, source, start, end",
    )
    source.add_argument("--dataset", help="dataset of the Hub, user/name, or anything else that `load_dataset` takes")
    parser.add_argument("--split", help="split of --dataset, such as train")
    parser.add_argument("--config-name", help="configuration of --dataset")
    parser.add_argument("--revision", help="branch, tag or commit of --dataset")
    parser.add_argument("--streaming", action="store_true", help="read --dataset without downloading it first")


def run(arguments: argparse.Namespace) -> int:
    from audiolm_hf.data.tokenization import TokenizationPlan, tokenize_recordings
    from audiolm_hf.data.tokenizers import load_tokenizers

    names = ("recordings_per_shard", "min_duration_s", "num_workers", "speed")
    plan = TokenizationPlan(**{name: getattr(arguments, name) for name in names})
    source, device = _open_source(arguments), find_device(arguments.device)
    tokenizer, codec = resolve_checkpoint(arguments.tokenizer), resolve_checkpoint(arguments.codec)
    load = partial(load_tokenizers, tokenizer, codec, arguments.float16, device)
    made = tokenize_recordings(source, load, arguments.output, plan, arguments.overwrite)
    _report(made, arguments.output)
    return 0


def _open_source(arguments: argparse.Namespace) -> "ClipList | ClipStream":
    named = {name: vars(arguments)[name] for name in ("split", "config_name", "revision", "streaming")}
    if arguments.data:
        from audiolm_hf.data.clips import list_clips

        given = [name for name, value in named.items() if value]
        if given:
            raise ValueError(f"--{given[0].replace('_', '-')} belongs to --dataset; leave it out with --data.")
        return list_clips(arguments.data)
    from audiolm_hf.data.hf_datasets import open_dataset

    return open_dataset(arguments.dataset, **named)


def _report(dataset: "TokenDataset", output: Path) -> None:
    from audiolm_hf.data.tokens import SKIPPED_FILE, read_skipped

    skipped = read_skipped(output)
    sys.stdout.write(
        f"{len(dataset)} records, {dataset.duration / 3600:.2f} h, in {output} "
        f"(tokenizers {dataset.info.tokenizers}); {len(skipped)} recordings left out.\n"
    )
    for id, reason in islice(skipped.items(), SHOWN_SKIPPED):
        sys.stdout.write(f"  {id}: {reason}\n")
    if len(skipped) > SHOWN_SKIPPED:
        sys.stdout.write(f"  and {len(skipped) - SHOWN_SKIPPED} more in {output / SKIPPED_FILE}\n")
