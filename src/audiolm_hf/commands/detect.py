# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf detect`: score sound files as generated or real.

Files that cannot be scored are reported one by one, and do not stop the others.
"""

import argparse
import json
import sys
from typing import Any

import torch

from audiolm_hf.audio_file_audiolm import read_audio
from audiolm_hf.bundled import DEFAULT_CHECKPOINT, resolve_detector
from audiolm_hf.commands.options import add_machine, find_device
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.modeling_detector_audiolm import LABELS, REAL, AudioLMDetectorForAudioClassification
from audiolm_hf.threads import set_threads

FAILED, FOUND = 1, 3  # exit status
THRESHOLD = 0.5


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "detect",
        help="score sound files as generated or real",
        description="Score sound files: 0 is generated, 1 is real. Exit status: 0 if all are real, 3 if any is "
        "generated, 1 if any cannot be scored, 2 for wrong options.",
    )
    parser.add_argument("files", nargs="+", metavar="file", help="sound files of 0.5 s or more")
    parser.add_argument(
        "--detector",
        default=DEFAULT_CHECKPOINT,
        help="folder of a detector, or folder or bundled name of a checkpoint that has one in its subfolder detector "
        f"(default {DEFAULT_CHECKPOINT})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, a list with an object for every file")
    add_machine(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return the exit status."""
    folder = resolve_detector(arguments.detector)
    device = find_device(arguments.device)
    detector = AudioLMDetectorForAudioClassification.from_pretrained(folder, dtype="float32").eval().to(device)
    extractor = AudioLMFeatureExtractor.from_pretrained(folder)
    set_threads(detector, arguments.threads)
    results = []
    for file in arguments.files:
        try:
            result = score_file(file, detector, extractor)
        except (OSError, TypeError, ValueError) as error:
            result = {"file": file, "error": str(error)}
            sys.stderr.write(f"audiolm-hf: error: {file}: {error}\n")
        results.append(result)
        if not arguments.json and "error" not in result:
            seconds = " ".join(f"{score:.2f}" for score in result["scores_per_second"])
            sys.stdout.write(f"{file}: {result['verdict']} (score {result['score']:.3f}; by second {seconds})\n")
    if arguments.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    if any("error" in result for result in results):
        return FAILED
    return FOUND if any(result["verdict"] != LABELS[REAL] for result in results) else 0


@torch.inference_mode()
def score_file(
    file: str, detector: AudioLMDetectorForAudioClassification, extractor: AudioLMFeatureExtractor
) -> dict[str, Any]:
    """Return a file's `score`, `verdict` and `scores_per_second`; higher scores are more real."""
    audio, rate = read_audio(file, extractor.sampling_rate)
    inputs = extractor(audio, rate, return_tensors="pt").to(detector.device)
    score = float(detector(**inputs).logits.softmax(-1)[0, REAL])
    return {
        "file": file,
        "score": score,
        "verdict": LABELS[REAL] if score >= THRESHOLD else LABELS[1 - REAL],
        "scores_per_second": detector.scores_per_second(**inputs)[0].tolist(),
    }
