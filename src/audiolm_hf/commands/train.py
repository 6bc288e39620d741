# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf train`: run the training of a YAML file, or estimate its requirements."""

import argparse
import sys
from pathlib import Path

import torch

from audiolm_hf.commands.options import Checked
from audiolm_hf.threads import check_threads
from audiolm_hf.training.kinds import TRAINING_KINDS, describe_keys, training_kind
from audiolm_hf.training.processes import leave_processes, process_rank
from audiolm_hf.training.recipe import load_config, run_training


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = f"Train from a YAML file, whose key `kind` is one of {', '.join(TRAINING_KINDS)}."
    parser.add_argument(
        "-h", "--help", action="store_true", help="show this help or, with --kind, the keys of that kind of training"
    )
    parser.add_argument("--kind", choices=TRAINING_KINDS, help="kind of training whose keys --help shows")
    parser.add_argument("--config", type=Path, help="YAML file of the training")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an output folder that belongs to another training"
    )
    parser.add_argument(
        "--estimate", action="store_true", help="print parameters, operations and memory instead of training"
    )
    parser.add_argument(
        "--threads", type=int, action=Checked, help="threads on a CPU (default: OMP_NUM_THREADS, or all cores)"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides of keys, such as data.folder=/tmp/data seed=1"
    )
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = arguments.parser
    if arguments.help:
        text = parser.format_help()
        if arguments.kind:
            config_class, _ = training_kind(arguments.kind)
            summary = (config_class.__doc__ or "").splitlines()[0]
            text = f"kind: {arguments.kind}   # {summary}\n\n{describe_keys(config_class)}\n"
        sys.stdout.write(text)
        parser.exit()
    if arguments.config is None:
        parser.error("the following arguments are required: --config")
    if arguments.kind is not None:
        raise ValueError("--kind goes with --help; the kind of a training is the key `kind` of its --config.")
    if arguments.threads is not None:
        check_threads(arguments.threads)
        torch.set_num_threads(arguments.threads)
    if arguments.estimate:
        from audiolm_hf.training.estimate import estimate

        sys.stdout.write(estimate(load_config(arguments.config, arguments.overrides)) + "\n")
    else:
        result = run_training(arguments.config, arguments.overrides, arguments.overwrite)
        if not process_rank():
            sys.stdout.write(f"{result}\n")
        leave_processes()
    return 0
