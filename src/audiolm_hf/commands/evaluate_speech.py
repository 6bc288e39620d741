# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The evaluations of `audiolm-hf evaluate` by benchmarks, speech recognition, groups of speakers and one speaker."""

import argparse
from pathlib import Path
from typing import Any

from audiolm_hf.bundled import DEFAULT_CHECKPOINT, resolve_checkpoint, resolve_detector
from audiolm_hf.commands.options import (
    add_checkpoint,
    add_continuations,
    add_data,
    add_length,
    add_number,
    add_removed,
    add_seed,
    load_model,
)
from audiolm_hf.threads import set_threads

Result = tuple[dict[str, Any], str]  # all metrics, and their table


def evaluate_benchmark(arguments: argparse.Namespace, folders: list[str], device: str) -> Result:
    """Evaluate the log-likelihoods of pairs of sounds."""
    from audiolm_hf.data.tokenizers import load_tokenizers
    from audiolm_hf.evaluation.benchmarks import read_benchmark
    from audiolm_hf.evaluation.protocols.likelihood import load_stages
    from audiolm_hf.evaluation.protocols.pairs import LikelihoodScorer, evaluate_pairs, format_pairs, write_scores

    if len(folders) > 1:
        raise ValueError(f"--benchmark needs one whole AudioLM as --checkpoint; there are {len(folders)}.")
    tasks, folder = read_benchmark(arguments.benchmark), folders[0]
    stages = load_stages(folders)
    for stage in stages.values():
        set_threads(stage.to(device), arguments.threads)
    report = evaluate_pairs(LikelihoodScorer(stages, load_tokenizers(folder, folder, device=device)), tasks)
    report |= {"evaluation": "pairs"}
    text = format_pairs(report)
    if arguments.output is not None:
        scores = arguments.output.with_suffix(".scores")
        write_scores(report, scores)
        text += f"Score files: {scores}\n"
    return report, text


def generation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of [`evaluate_generated`]."""
    add_checkpoint(parser, default=None)
    add_data(parser, "recordings of at most 30 s, with transcripts (`text`) for --asr")
    add_number(parser, "--num-clips", "recordings", 24)
    parser.add_argument("--asr", help="speech recognizer of transformers, folder or user/name on the Hub")
    add_length(
        parser, "--prompt-length-s", "seconds of a prompt, from another recording of the speaker (default: none)"
    )
    add_seed(parser, "seed of the samples (default 0)")


def evaluate_generated(arguments: argparse.Namespace, device: str) -> Result:
    """Evaluate audio generated from the semantic tokens of recordings."""
    from audiolm_hf.evaluation.protocols.generation import evaluate_generation, format_generation, load_recognizer

    model, source = load_model(arguments, device, arguments.data)
    recognize = None if arguments.asr is None else load_recognizer(arguments.asr, device)
    report = evaluate_generation(
        model, source, arguments.num_clips, arguments.seed, recognize, arguments.prompt_length_s
    )
    return report, format_generation(report)


def accents_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of [`evaluate_groups`]."""
    add_checkpoint(parser)
    add_data(parser, "recordings with labels")
    parser.add_argument("--group-by", default="accent", help="label: accent (default), speaker, or a column of --data")
    add_number(parser, "--num-clips", "recordings of each group at most", 12)
    add_number(parser, "--min-speakers", "fewest speakers of a group that is compared", 5)
    add_length(parser, "--prompt-length-s", "seconds of a prompt (default 2)", 2.0)
    add_length(parser, "--length-s", "seconds of a continuation (default 2)", 2.0)
    parser.add_argument("--detector", help="folder of a detector, or of a checkpoint that has one (default: none)")
    add_seed(parser, "seed of the samples and intervals (default 0)")
    add_removed(parser, "--card", "audiolm-hf card writes the model card from the file of --output")


def evaluate_groups(arguments: argparse.Namespace, device: str) -> Result:
    """Compare groups of speakers; with --output, a plot is drawn next to it."""
    from audiolm_hf.evaluation.protocols.accents import evaluate_accents, format_accents, plot_groups
    from audiolm_hf.modeling_detector_audiolm import AudioLMDetectorForAudioClassification

    detector, folder = None, None if arguments.detector is None else resolve_detector(arguments.detector)
    model, source = load_model(arguments, device, arguments.data)
    if folder is not None:
        detector = AudioLMDetectorForAudioClassification.from_pretrained(folder, dtype="float32").eval().to(device)
    lengths = (arguments.prompt_length_s, arguments.length_s)
    options = (arguments.group_by, arguments.num_clips, *lengths, arguments.seed, arguments.min_speakers, detector)
    report = evaluate_accents(model, source, *options)
    report |= {"checkpoint": Path(resolve_checkpoint(arguments.checkpoint)).resolve().name}
    text = format_accents(report)
    if arguments.output is not None:
        plot = arguments.output.with_suffix(".png")
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_groups(report, plot)
        text += f"Plot: {plot}\n"
    return report, text


def voice_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of [`evaluate_speaker`]."""
    add_checkpoint(parser, default=None)
    add_data(parser)
    parser.add_argument("--speaker", help="label of the speaker (default: that of the adapter)")
    add_number(parser, "--num-prompts", "maximum number of prompts", 16)
    add_length(parser, "--prompt-length-s", "seconds of a prompt (default 3)", 3.0)
    add_length(parser, "--length-s", "seconds of a continuation (default 5)", 5.0)
    add_continuations(parser)
    add_seed(parser, "seed of the samples and of the bootstrap (default 0)")


def evaluate_speaker(arguments: argparse.Namespace, device: str) -> Result:
    """Evaluate continuations of one speaker, with and without the adapter."""
    from audiolm_hf.adapters_audiolm import read_adapter_notes
    from audiolm_hf.data.voice import leave_out, read_voice
    from audiolm_hf.evaluation.protocols.voice import evaluate_voice, format_voice

    folder = resolve_checkpoint(arguments.checkpoint)
    learned = read_adapter_notes(folder).get("recordings", {})
    speaker = arguments.speaker or learned.get("speaker")
    model, source = load_model(arguments, device, arguments.data)
    voice = read_voice(source, speaker)
    known = {*learned.get("train", []), *learned.get("validation", [])}
    others = [] if speaker is None else [record for record in source if record.speaker != speaker]
    lengths = (arguments.prompt_length_s, arguments.length_s)
    options = (arguments.num_prompts, *lengths, arguments.num_continuations, arguments.seed)
    report = evaluate_voice(model, leave_out(voice, known), others, *options)
    report |= {"checkpoint": Path(folder).resolve().name, "speaker": speaker, "left_out": sorted(known)}
    return report, format_voice(report)


def detector_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of [`evaluate_detected`]."""
    add_checkpoint(parser)
    parser.add_argument("--detector", help="folder of the detector (default: that of the checkpoint)")
    add_data(parser, "held-out recordings; their labels `accent` or `speaker` are groups")
    parser.add_argument(
        "--other-checkpoints",
        nargs="+",
        default=[],
        help="other generators: bundled checkpoints, folders or user/name on the Hub, besides Griffin-Lim, WORLD and, "
        "if it is installed, espeak-ng",
    )
    add_number(parser, "--num-clips", "number of continuations, and of real clips", 48)
    add_length(parser, "--length-s", "seconds of the clips (default 3)", 3.0)
    add_seed(parser, "seed of the clips (default 0)")


def evaluate_detected(arguments: argparse.Namespace, device: str) -> Result:
    """Measure the error rates of a detector."""
    from audiolm_hf.evaluation.protocols.detector import evaluate_detector, format_detector
    from audiolm_hf.modeling_detector_audiolm import AudioLMDetectorConfig, AudioLMDetectorForAudioClassification

    folder = resolve_detector(arguments.detector or arguments.checkpoint)
    AudioLMDetectorConfig.from_pretrained(folder)  # before any model is loaded
    given = {Path(name).name: resolve_checkpoint(name) for name in arguments.other_checkpoints}
    if len(given) < len(arguments.other_checkpoints):
        raise ValueError("Two of --other-checkpoints have the same name; name each once, or rename a folder.")
    model, source = load_model(arguments, device, arguments.data)
    detector = AudioLMDetectorForAudioClassification.from_pretrained(folder, dtype="float32").eval().to(device)
    others = {}
    for name, path in given.items():
        (others[f"checkpoint {name}"],) = load_model(
            argparse.Namespace(checkpoint=path, threads=arguments.threads), device
        )
    options = (arguments.num_clips, arguments.length_s, arguments.seed)
    report = evaluate_detector(detector, model, source, *options, other_models=others)
    return report, format_detector(report)


def watermark_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of [`evaluate_marks`]."""
    text = f"codec, or AudioLM, by which marked clips are resynthesized (default {DEFAULT_CHECKPOINT})"
    parser.add_argument("--codec", default=DEFAULT_CHECKPOINT, help=text)
    add_data(parser)
    add_number(parser, "--num-clips", "recordings", 24)
    add_length(parser, "--length-s", "seconds of each recording (default 5)", 5.0)
    add_seed(parser, "seed of the changes (default 0)")


def evaluate_marks(arguments: argparse.Namespace, device: str) -> Result:
    """Measure what the watermark costs and survives."""
    from audiolm_hf.data.audio import AudioSource
    from audiolm_hf.data.loading import load_codec
    from audiolm_hf.evaluation.protocols.watermark import evaluate_watermark, format_watermark

    codec = load_codec(resolve_checkpoint(arguments.codec))
    set_threads(codec.model.to(device), arguments.threads)
    source = AudioSource(arguments.data, codec.sampling_rate)
    report = evaluate_watermark(codec, source, arguments.num_clips, arguments.length_s, arguments.seed)
    return report, format_watermark(report)
