# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf evaluate voice`: speaker similarity of continuations to a voice, with and without an adapter."""

import argparse
import sys
from pathlib import Path

from audiolm_hf.commands.options import (
    Number,
    add_checkpoint,
    add_continuations,
    add_data,
    add_length,
    add_machine,
    add_report,
    add_seed,
    check_inputs,
    check_report,
    find_device,
    write_report,
)
from audiolm_hf.threads import set_threads


def add_voice(kinds: argparse._SubParsersAction) -> None:
    """Add the command to the parser of `audiolm-hf evaluate`."""
    parser = kinds.add_parser(
        "voice",
        help="speaker similarity of continuations of a voice, with and without an adapter",
        description="Continue recordings of a speaker. If the checkpoint is an adapter folder, the recordings it was "
        "trained on are excluded, and the base is evaluated with the same seeds.",
    )
    add_checkpoint(parser, default=None)
    add_data(parser)
    parser.add_argument("--speaker", help="label of the speaker (default: that of the adapter)")
    parser.add_argument(
        "--skip-minutes",
        type=float,
        default=0.0,
        action=Number,
        minimum=0,
        help="minutes of the speaker's first recordings to exclude (default 0)",
    )
    parser.add_argument(
        "--num-prompts", type=int, default=16, action=Number, help="maximum number of prompts (default 16)"
    )
    add_length(parser, "--prompt-length-s", "seconds of a prompt (default 3)", 3.0)
    add_length(parser, "--length-s", "seconds of a continuation (default 5)", 5.0)
    add_continuations(parser)
    add_seed(parser, "seed of the samples and of the bootstrap (default 0)")
    add_machine(parser)
    add_report(parser)
    parser.set_defaults(run=run_voice)


def run_voice(arguments: argparse.Namespace) -> int:
    """Run `evaluate voice` and return the exit status."""
    from audiolm_hf.adapters_audiolm import read_adapter_notes
    from audiolm_hf.bundled import resolve_checkpoint
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.data.voice import leave_out, read_voice, skip_minutes
    from audiolm_hf.evaluation.protocols.voice import evaluate_voice, format_voice
    from audiolm_hf.evaluation.report import to_json
    from audiolm_hf.modeling_audiolm import AudioLMModel

    check_report(arguments.output)
    check_inputs(arguments.data)
    device = find_device(arguments.device)
    folder = resolve_checkpoint(arguments.checkpoint)
    learned = read_adapter_notes(folder).get("recordings", {})
    speaker = arguments.speaker or learned.get("speaker")
    model = AudioLMModel.from_pretrained(folder).eval().to(device)
    set_threads(model, arguments.threads)
    source = AudioSource(arguments.data, model.sampling_rate)
    voice = skip_minutes(read_voice(source, speaker), arguments.skip_minutes)
    known = {*learned.get("train", []), *learned.get("validation", [])}
    report = evaluate_voice(
        model,
        leave_out(voice, known),
        [] if speaker is None else [record for record in source if record.speaker != speaker],
        arguments.num_prompts,
        arguments.prompt_length_s,
        arguments.length_s,
        arguments.num_continuations,
        arguments.seed,
    )
    report |= {"checkpoint": Path(folder).resolve().name, "speaker": speaker, "left_out": sorted(known)}
    sys.stdout.write(format_voice(report))
    write_report(arguments.output, to_json(report))
    if arguments.output is not None:
        sys.stdout.write(f"All metrics: {arguments.output}\n")
    return 0
