# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf evaluate`: evaluate a checkpoint or a part of it by one protocol or by all protocols.

Every protocol prints a table and, with `--output`, writes all metrics as JSON.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.commands import evaluate_speech
from audiolm_hf.commands.evaluate_speech import Result
from audiolm_hf.commands.options import (
    Checked,
    add_checkpoint,
    add_continuations,
    add_data,
    add_device,
    add_length,
    add_number,
    add_removed,
    add_report,
    add_seed,
    check_inputs,
    find_device,
    hold_report,
    load_model,
    write_report,
)
from audiolm_hf.provenance_audiolm import checkpoint_hash
from audiolm_hf.threads import set_threads


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: its help and description, and the functions that add its options and run it."""

    help: str
    description: str
    add_options: Callable[[argparse.ArgumentParser], None]
    evaluate: Callable[[argparse.Namespace, str], Result]
    suffixes: tuple[str, ...] = ()  # of other files that are written next to the report


def add_options(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="evaluation", required=True, metavar="|".join(EVALUATIONS))
    for name, evaluation in EVALUATIONS.items():
        subparser = kinds.add_parser(name, help=evaluation.help, description=evaluation.description)
        evaluation.add_options(subparser)
        add_report(subparser, name == "checkpoint")
        add_device(subparser)


def run(arguments: argparse.Namespace) -> int:
    from audiolm_hf.evaluation.report import to_json

    evaluation, output = EVALUATIONS[arguments.evaluation], arguments.output
    values = [value for name, value in vars(arguments).items() if name != "output"]
    given = (path for value in values for path in (value if isinstance(value, list) else [value]))
    check_inputs(path for path in given if isinstance(path, Path))
    device = find_device(arguments.device)
    with hold_report(output, arguments.overwrite, evaluation.suffixes):
        report, text = evaluation.evaluate(arguments, device)
        sys.stdout.write(text)
        if output is not None:
            write_report(output, to_json(_origin(arguments) | report))
            sys.stdout.write(f"All metrics: {output}\n")
    return 0


def _origin(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the results come from: evaluation, command, data files and the checkpoint's hash."""
    names = getattr(arguments, "checkpoint", None) or arguments.codec
    folder = Path(resolve_checkpoint(names[0] if isinstance(names, list) else names))
    given = (getattr(arguments, name, None) for name in ("data", "test_tokens", "benchmark"))
    data: Any = next(filter(None, given), [])
    return {
        "evaluation": arguments.evaluation,
        "command": arguments.command,
        "data": ["/".join(path.parts[-2:]) for path in (data if isinstance(data, list) else [data])],
        "checkpoint_sha256": checkpoint_hash(folder) if folder.is_dir() else None,
    }


def _add_quality(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quality", action="store_true", help="also score continuations of speech with DistillMOS")


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", choices=("speech", "piano"), default="speech", help="kind of audio (default speech)")


def _checkpoint_options(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser, default=None)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the data, such as librispeech/ and piano/"
    )
    _add_kind(parser)
    parser.add_argument(
        "--protocols",
        nargs="+",
        metavar="PROTOCOL",
        help="protocols to run: codec, tokens, likelihood, continuation, samples (default all)",
    )
    add_removed(parser, "--parts", "use --protocols")
    add_number(parser, "--num-prompts", "prompts to continue", 24)
    add_number(parser, "--num-clips", "recordings for the codec", 24)
    add_number(parser, "--num-samples", "spectrograms to draw", 6)
    add_continuations(parser, 4)
    _add_quality(parser)
    add_length(parser, "--train-minutes", "minutes of audio for fitting the k-means baselines (default 80)", 80.0)
    parser.add_argument(
        "--train-tokens", type=Path, help="token dataset for the n-grams; by default the training files are tokenized"
    )
    add_seed(parser, "random seed (default 0)")
    add_removed(parser, "--card", "audiolm-hf card writes the model card from the file of --output")


def _evaluate_checkpoint(arguments: argparse.Namespace, device: str) -> Result:
    from audiolm_hf.evaluation.protocols.checkpoint import CheckpointEvaluation, format_checkpoint

    output: Path = arguments.output
    counts = ("num_prompts", "num_continuations", "num_clips", "num_samples", "train_minutes")
    fields = ("data", "kind", *counts, "quality", "train_tokens", "seed", "threads", "overwrite")
    evaluation = CheckpointEvaluation(
        folder=Path(resolve_checkpoint(arguments.checkpoint)),
        results_folder=output.with_suffix(".results"),
        device=device,
        **{field: getattr(arguments, field) for field in fields},
    )
    report = evaluation.run(arguments.protocols)
    text = format_checkpoint(report)
    write_report(output.with_suffix(".md"), text)
    report["data"] = report["test_files"]
    return report, f"{text}\nMarkdown: {output.with_suffix('.md')}\n"


def _codec_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--codec", required=True, help="bundled checkpoint, or folder of a codec or an AudioLM")
    _add_kind(parser)
    add_data(parser)
    add_number(parser, "--num-clips", "recordings to resynthesize", 24)
    add_length(parser, "--length-s", "seconds of each recording (default 10)", 10.0)
    parser.add_argument(
        "--num-codebooks",
        type=int,
        nargs="*",
        default=[],
        action=Checked,
        help="also evaluate the codec with only this many of its first levels",
    )


def _evaluate_codec(arguments: argparse.Namespace, device: str) -> Result:
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.data.loading import load_codec
    from audiolm_hf.evaluation.protocols.codec import evaluate_codec, format_codec

    folder, source = resolve_checkpoint(arguments.codec), AudioSource(arguments.data)
    codec = load_codec(folder)
    codec.model.to(device)
    set_threads(codec.model, arguments.threads)
    source.sampling_rate = codec.sampling_rate
    options = (arguments.num_clips, arguments.length_s, arguments.num_codebooks)
    report = evaluate_codec(codec, source, *options, kind=arguments.kind)
    return report, format_codec(report)


def _tokens_options(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser, default=None)
    _add_kind(parser)
    add_data(parser, "held-out recordings; those of speech need transcripts (`text`)")
    add_data(parser, "recordings that the k-means baselines are fitted on", "--train-data", required=False)
    parser.add_argument(
        "--item-file",
        type=Path,
        help="ABX item file of --data, in place of --train-data and transcripts: only the ABX errors are measured",
    )
    add_length(parser, "--train-minutes", "minutes of --train-data (default 80)", 80.0)
    parser.add_argument(
        "--midi", type=Path, help="parquet file of the MIDI files that --data was rendered from (piano)"
    )
    add_seed(parser, "seed of the k-means baselines (default 0)")


def _evaluate_tokens(arguments: argparse.Namespace, device: str) -> Result:
    from audiolm_hf.evaluation.benchmarks import read_items
    from audiolm_hf.evaluation.protocols.tokens import (
        evaluate_items,
        evaluate_piano_tokens,
        evaluate_tokens,
        format_tokens,
    )

    if (arguments.item_file is None) != bool(arguments.train_data):
        raise ValueError("Give either --train-data or --item-file.")
    if arguments.kind == "piano" and arguments.midi is None:
        raise ValueError("--kind piano needs --midi, the parquet file of the MIDI files of --data.")
    items = read_items(arguments.item_file) if arguments.item_file else []
    if items:
        model, source = load_model(arguments, device, arguments.data)
        report = evaluate_items(model.semantic_tokenizer, source, items)
        return report, format_tokens(report)
    model, test, train = load_model(arguments, device, arguments.data, arguments.train_data)
    parts = (model.semantic_tokenizer, model.acoustic_codec, test, train)
    options = (arguments.train_minutes, arguments.seed)
    piano = arguments.kind == "piano"
    report = evaluate_piano_tokens(*parts, arguments.midi, *options) if piano else evaluate_tokens(*parts, *options)
    return report, format_tokens(report)


def _likelihood_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", nargs="+", required=True, help="bundled checkpoint, or folders of an AudioLM or of stages"
    )
    add_data(parser, "token datasets for the n-grams", "--train-tokens", required=False)
    add_data(parser, "held-out token datasets", "--test-tokens", required=False)
    parser.add_argument(
        "--benchmark",
        type=Path,
        help="folder of pairs of sounds, instead of tokens: ZeroSpeech 2021 (sWUGGY, sBLIMP), SALMon, or positive/ "
        "and negative/; with --output, the official score files are written next to the output",
    )


def _evaluate_likelihood(arguments: argparse.Namespace, device: str) -> Result:
    from audiolm_hf.data.tokens import TokenDataset
    from audiolm_hf.evaluation.protocols import likelihood

    tokens = (arguments.train_tokens, arguments.test_tokens)
    if (arguments.benchmark is None) != all(tokens) or any(tokens) != all(tokens):
        raise ValueError("Give either --benchmark, or both --train-tokens and --test-tokens.")
    folders = [resolve_checkpoint(name) for name in arguments.checkpoint]
    if arguments.benchmark is not None:
        return evaluate_speech.evaluate_benchmark(arguments, folders, device)
    likelihood.check_stage_folders(folders)
    train, test = TokenDataset(arguments.train_tokens), TokenDataset(arguments.test_tokens)
    stages = likelihood.load_stages(folders)
    for stage in stages.values():
        set_threads(stage.to(device), arguments.threads)
    report = likelihood.evaluate_likelihood(stages, train, test)
    return report, likelihood.format_likelihood(report)


def _continuation_options(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser, default=None)
    _add_kind(parser)
    add_data(parser)
    add_number(parser, "--num-prompts", "prompts to continue", 8)
    add_continuations(parser)
    _add_quality(parser)
    add_length(parser, "--prompt-length-s", "seconds of a prompt (default: speech 3, piano 4)")
    add_length(parser, "--length-s", "seconds of a continuation (default: speech 7, piano 10)")
    add_seed(parser, "seed of the samples (default 0)")


def _evaluate_continuation(arguments: argparse.Namespace, device: str) -> Result:
    from audiolm_hf.evaluation.metrics.quality import check_quality
    from audiolm_hf.evaluation.protocols.continuation import evaluate_continuation, format_continuation
    from audiolm_hf.evaluation.protocols.long_form import SHORTEST_S, evaluate_long_form, format_long_form

    long = arguments.length_s is not None and arguments.length_s >= SHORTEST_S
    if long and arguments.num_continuations > 1:
        raise ValueError(f"From {SHORTEST_S:g} s on, each prompt is continued once; leave out --num-continuations.")
    if long and arguments.quality:
        raise ValueError(f"From {SHORTEST_S:g} s on, DistillMOS is not measured; leave out --quality.")
    if arguments.quality:
        check_quality(arguments.kind)
    model, source = load_model(arguments, device, arguments.data)
    lengths = (arguments.prompt_length_s, arguments.length_s)
    if long:
        drift = evaluate_long_form(model, source, arguments.num_prompts, *lengths, arguments.seed, arguments.kind)
        return drift | {"evaluation": "long_form"}, format_long_form(drift)
    options = (arguments.seed, arguments.kind, arguments.num_continuations, arguments.quality)
    report = evaluate_continuation(model, source, arguments.num_prompts, *lengths, *options)
    return report, format_continuation(report)


EVALUATIONS = {
    "checkpoint": Evaluation(
        "all protocols",
        "Evaluate a checkpoint by all protocols. Results are saved next to the output; rerunning resumes.",
        _checkpoint_options,
        _evaluate_checkpoint,
        (".md", ".results"),
    ),
    "codec": Evaluation(
        "quality of a codec and use of its codebooks",
        "Measure PESQ-WB and STOI (speech only), SI-SDR, spectrogram distances and the codebook use of every level, "
        "compared with Opus (Debian: opus-tools).",
        _codec_options,
        _evaluate_codec,
    ),
    "tokens": Evaluation(
        "phone and speaker information, or note information, in semantic tokens",
        "Measure phone information (PNMI), ABX error and a speaker probe, or for piano the information on pitch "
        "classes and onsets, compared with clusters of log-mel spectra and MFCC and with acoustic codes.",
        _tokens_options,
        _evaluate_tokens,
    ),
    "likelihood": Evaluation(
        "bits per token of the stages, or sWUGGY, sBLIMP, SALMon and other pairs",
        "Measure bits per token of the stages, compared with n-grams. Bits with the conditioning tokens of another "
        "recording show how much a stage depends on its conditioning. With --benchmark, measure the share of pairs in "
        "which the correct sound is more likely.",
        _likelihood_options,
        _evaluate_likelihood,
        (".scores",),
    ),
    "continuation": Evaluation(
        "speaker and prosody, or key and notes, of continuations",
        "Measure loudness, silence, repetition and timbre of continuations, and speaker similarity, pauses and pitch "
        "of speech, or key, pitch classes and onsets of piano. They are compared with real continuations, other "
        "speakers or pieces, noise and silence. From 60 s on, each 10 s of a continuation is compared with "
        "the prompt instead, to measure drift.",
        _continuation_options,
        _evaluate_continuation,
    ),
    "generation": Evaluation(
        "words in audio generated from semantic tokens",
        "Generate audio from the semantic tokens of recordings, and measure how many tokens stay the same and, with "
        "--asr, the word and character error rates of a speech recognizer.",
        evaluate_speech.generation_options,
        evaluate_speech.evaluate_generated,
    ),
    "accents": Evaluation(
        "differences between groups of speakers",
        "Compare groups of speakers, by accent or another label: similarity of continuations and resyntheses, bits of "
        "the stages, errors of a detector. The largest gap is compared with that of random groups.",
        evaluate_speech.accents_options,
        evaluate_speech.evaluate_groups,
        (".png",),
    ),
    "voice": Evaluation(
        "speaker similarity of continuations of a voice, with and without an adapter",
        "Continue recordings of a speaker. If the checkpoint is an adapter folder, the recordings it was trained on "
        "are excluded, and the base is evaluated with the same seeds.",
        evaluate_speech.voice_options,
        evaluate_speech.evaluate_speaker,
    ),
    "detector": Evaluation(
        "error rates of the detector of generated audio",
        "Measure accuracy, EER, AUC and detection rates against real recordings, as they are and resynthesized "
        "by the codec: after edits, in noise, by length and by group. The same is measured for other generators. The "
        "baselines are spectral flatness and shuffled labels.",
        evaluate_speech.detector_options,
        evaluate_speech.evaluate_detected,
    ),
    "watermark": Evaluation(
        "effect of the watermark on quality, and its detection after edits",
        "Measure PESQ-WB of speech with a watermark, and in how many clips it is detected after edits and codecs.",
        evaluate_speech.watermark_options,
        evaluate_speech.evaluate_marks,
    ),
}
