# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf evaluate voice`: does a checkpoint, or an adapter on it, speak in one given voice?"""

import argparse
import json
import sys
from pathlib import Path


def add_voice(kinds: argparse._SubParsersAction) -> None:
    """Add the command to the parser of `audiolm-hf evaluate`."""
    parser = kinds.add_parser(
        "voice",
        help="speaker similarity of continuations of one voice, without and with an adapter",
        description="Continue recordings of one speaker. With an adapter folder as the checkpoint, the recordings it "
        "was trained on are left out, and the base alone is measured beside it, with the same seeds.",
    )
    parser.add_argument(
        "--checkpoint", required=True, help="adapter folder, or a checkpoint (name, folder, user/name)"
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="parquet files, folders or manifests")
    parser.add_argument("--speaker", help="label of the speaker; by default the adapter's")
    parser.add_argument(
        "--skip-minutes", type=float, default=0.0, help="leave out the speaker's first so many minutes (default 0)"
    )
    parser.add_argument("--prompts", type=int, default=16, help="how many, at most (default 16)")
    parser.add_argument("--prompt-length-s", type=float, default=3.0, help="seconds given (default 3)")
    parser.add_argument("--length-s", type=float, default=5.0, help="seconds continued (default 5)")
    parser.add_argument("--num-continuations", type=int, default=1, help="of each prompt (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples and of the bootstrap (default 0)")
    parser.add_argument("-o", "--output", type=Path, help="JSON file for all figures")
    parser.set_defaults(run=run_voice)


def run_voice(arguments: argparse.Namespace) -> int:
    """Run `evaluate voice`; returns the exit status."""
    from audiolm_hf.adapters_audiolm import read_adapter_info
    from audiolm_hf.bundled import resolve_checkpoint
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.data.voice import leave_out, read_voice, skip_minutes
    from audiolm_hf.evaluation.voice import evaluate_voice, format_voice_report
    from audiolm_hf.modeling_audiolm import AudioLMModel

    folder = resolve_checkpoint(arguments.checkpoint)
    info = read_adapter_info(folder)
    learned = {} if info is None else info.recordings
    speaker = arguments.speaker or learned.get("speaker")
    model = AudioLMModel.from_pretrained(folder).eval()
    source = AudioSource(arguments.data, model.sampling_rate)
    voice = skip_minutes(read_voice(source, speaker), arguments.skip_minutes)
    known = {*learned.get("train", []), *learned.get("validation", [])}
    report = evaluate_voice(
        model,
        leave_out(voice, known),
        [] if speaker is None else [record for record in source if record.speaker != speaker],
        arguments.prompts,
        arguments.prompt_length_s,
        arguments.length_s,
        arguments.num_continuations,
        arguments.seed,
    )
    report |= {"checkpoint": arguments.checkpoint, "speaker": speaker, "left_out": sorted(known)}
    sys.stdout.write(format_voice_report(report))
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        sys.stdout.write(f"All figures: {arguments.output}\n")
    return 0


__all__ = ["add_voice", "run_voice"]
