# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf evaluate`: evaluate a checkpoint or a part of it by one protocol or by all protocols.

Every protocol prints a table and, with `--output`, writes all metrics as JSON.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.commands.evaluate_checkpoint import add_whole
from audiolm_hf.commands.evaluate_voice import add_voice
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


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command and its subcommands to the program's parser."""
    parser = subparsers.add_parser("evaluate", help="evaluate a checkpoint or a part of it")
    kinds = parser.add_subparsers(
        dest="evaluation", required=True, metavar="checkpoint|codec|tokens|likelihood|continuation|voice"
    )
    add_whole(kinds)
    _add_codec(kinds)
    _add_tokens(kinds)
    _add_likelihood(kinds)
    _add_continuation(kinds)
    add_voice(kinds)


def _add_codec(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser(
        "codec",
        help="quality of a codec and use of its codebooks",
        description="Measure PESQ-WB and STOI (speech only), SI-SDR, distances of spectrograms and the use of every "
        "level, compared with Opus (Debian: opus-tools).",
    )
    parser.add_argument("--codec", required=True, help="bundled checkpoint, or folder of a codec or an AudioLM")
    _add_kind(parser)
    add_data(parser)
    parser.add_argument(
        "--num-clips", type=int, default=24, action=Number, help="recordings to resynthesize (default 24)"
    )
    add_length(parser, "--length-s", "seconds of each recording (default 10)", 10.0)
    parser.add_argument(
        "--num-codebooks",
        type=int,
        nargs="*",
        default=[],
        action=Number,
        help="numbers of leading levels to evaluate in addition",
    )
    parser.add_argument(
        "--opus",
        type=float,
        nargs="*",
        action=Number,
        minimum=0.5,
        maximum=512,
        help="bit rates of Opus, kbps (default: speech 6 8, piano 6 12)",
    )
    add_machine(parser)
    add_report(parser)
    parser.set_defaults(run=run_codec)


def _add_tokens(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser(
        "tokens",
        help="phone and speaker information, or note information, in semantic tokens",
        description="Measure phone information (PNMI), ABX error and a speaker probe, or for piano the information on "
        "pitch classes and onsets, compared with clusters of log-mel spectra and MFCC and with acoustic codes.",
    )
    add_checkpoint(parser, default=None)
    _add_kind(parser)
    add_data(parser, "held-out recordings; speech with transcripts (`text`)")
    parser.add_argument(
        "--train-data",
        type=Path,
        nargs="+",
        required=True,
        help="recordings that the clusters of spectra are fitted on",
    )
    add_length(parser, "--train-minutes", "minutes of --train-data (default 80)", 80.0)
    parser.add_argument(
        "--midi", type=Path, help="parquet file of the MIDI files that --data was rendered from (piano)"
    )
    add_seed(parser, "seed of the clusters (default 0)")
    add_machine(parser)
    add_report(parser)
    parser.set_defaults(run=run_tokens)


def _add_likelihood(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser(
        "likelihood",
        help="bits per token of the stages",
        description="Measure bits per token of the stages, compared with n-grams. Bits with the conditioning tokens "
        "of another recording show how much a stage depends on its conditioning.",
    )
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        required=True,
        help="bundled checkpoint, or folders of an AudioLM or of stages",
    )
    parser.add_argument("--train-tokens", type=Path, nargs="+", required=True, help="token datasets for the n-grams")
    parser.add_argument("--test-tokens", type=Path, nargs="+", required=True, help="held-out token datasets")
    parser.add_argument(
        "--orders",
        type=int,
        nargs="+",
        default=[1, 2, 3, 5],
        action=Number,
        help="orders of the n-grams (default 1 2 3 5)",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.5,
        action=Number,
        minimum=0,
        maximum=0.99,
        help="overlap of a stage's windows, a share from 0 to 1 (default 0.5)",
    )
    add_machine(parser)
    add_report(parser)
    parser.set_defaults(run=run_likelihood)


def _add_continuation(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser(
        "continuation",
        help="speaker, prosody or harmony of continuations",
        description="Measure loudness, silence, repetition and timbre of continuations, and speaker similarity, "
        "pauses and pitch of speech, or key, pitch classes and onsets of piano. They are compared with real "
        "continuations, other speakers or pieces, noise and silence.",
    )
    add_checkpoint(parser, default=None)
    _add_kind(parser)
    add_data(parser)
    parser.add_argument("--num-prompts", type=int, default=8, action=Number, help="prompts to continue (default 8)")
    add_continuations(parser)
    add_length(parser, "--prompt-length-s", "seconds of a prompt (default: speech 3, piano 4)")
    add_length(parser, "--length-s", "seconds of a continuation (default: speech 7, piano 10)")
    add_seed(parser, "seed of the samples (default 0)")
    add_machine(parser)
    add_report(parser)
    parser.set_defaults(run=run_continuation)


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", choices=("speech", "piano"), default="speech", help="kind of audio (default speech)")


def run_codec(arguments: argparse.Namespace) -> int:
    """Run `evaluate codec` and return the exit status."""
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.data.loading import load_codec
    from audiolm_hf.evaluation.protocols.codec import evaluate_codec, format_codec

    device = _check(arguments, arguments.data)
    codec = load_codec(resolve_checkpoint(arguments.codec))
    codec.model.to(device)
    set_threads(codec.model, arguments.threads)
    source = AudioSource(arguments.data, codec.sampling_rate)
    report = evaluate_codec(
        codec,
        source,
        arguments.num_clips,
        arguments.length_s,
        arguments.num_codebooks,
        arguments.opus,
        arguments.kind,
    )
    return _finish(report, format_codec(report), arguments.output)


def run_tokens(arguments: argparse.Namespace) -> int:
    """Run `evaluate tokens` and return the exit status."""
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.evaluation.protocols.tokens import evaluate_piano_tokens, evaluate_tokens, format_tokens

    if arguments.kind == "piano" and arguments.midi is None:
        raise ValueError("--kind piano needs --midi, the parquet file of the MIDI files of --data.")
    device = _check(arguments, [*arguments.data, *arguments.train_data, arguments.midi])
    model = _load(arguments, device)
    test, train = (AudioSource(paths, model.sampling_rate) for paths in (arguments.data, arguments.train_data))
    parts = (model.semantic_tokenizer, model.acoustic_codec, test, train)
    if arguments.kind == "piano":
        report = evaluate_piano_tokens(*parts, arguments.midi, arguments.train_minutes, arguments.seed)
        return _finish(report, format_tokens(report), arguments.output)
    report = evaluate_tokens(*parts, arguments.train_minutes, arguments.seed)
    return _finish(report, format_tokens(report), arguments.output)


def run_likelihood(arguments: argparse.Namespace) -> int:
    """Run `evaluate likelihood` and return the exit status."""
    from audiolm_hf.data.tokens import TokenDataset
    from audiolm_hf.evaluation.protocols.likelihood import evaluate_likelihood, format_likelihood, load_stages

    device = _check(arguments, [*arguments.train_tokens, *arguments.test_tokens])
    stages = load_stages([resolve_checkpoint(name) for name in arguments.checkpoint])
    for stage in stages.values():
        set_threads(stage.to(device), arguments.threads)
    report = evaluate_likelihood(
        stages,
        TokenDataset(arguments.train_tokens),
        TokenDataset(arguments.test_tokens),
        arguments.orders,
        arguments.overlap,
    )
    return _finish(report, format_likelihood(report), arguments.output)


def run_continuation(arguments: argparse.Namespace) -> int:
    """Run `evaluate continuation` and return the exit status."""
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.evaluation.protocols.continuation import evaluate_continuation, format_continuation

    device = _check(arguments, arguments.data)
    model = _load(arguments, device)
    source = AudioSource(arguments.data, model.sampling_rate)
    report = evaluate_continuation(
        model,
        source,
        arguments.num_prompts,
        arguments.prompt_length_s,
        arguments.length_s,
        arguments.seed,
        arguments.kind,
        arguments.num_continuations,
    )
    return _finish(report, format_continuation(report), arguments.output)


def _check(arguments: argparse.Namespace, inputs: Sequence[Path | None]) -> str:
    """Check the shared options, and return the device."""
    check_report(arguments.output)
    check_inputs(inputs)
    return find_device(arguments.device)


def _load(arguments: argparse.Namespace, device: str) -> Any:
    """Load an AudioLM in float32."""
    from audiolm_hf.modeling_audiolm import AudioLMModel

    folder = resolve_checkpoint(arguments.checkpoint)
    model = AudioLMModel.from_pretrained(folder, dtype="float32").eval().to(device)
    set_threads(model, arguments.threads)
    return model


def _finish(report: dict[str, Any], text: str, output: Path | None) -> int:
    from audiolm_hf.evaluation.report import to_json

    sys.stdout.write(text)
    write_report(output, to_json(report))
    if output is not None:
        sys.stdout.write(f"All metrics: {output}\n")
    return 0
