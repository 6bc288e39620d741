# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf detect`: score sound files as generated or real, or read from their metadata what made them.

Files that cannot be scored are reported one by one, and do not stop the others.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from audiolm_hf.audio_file_audiolm import read_audio
from audiolm_hf.bundled import DEFAULT_CHECKPOINT, resolve_detector
from audiolm_hf.commands.options import add_device, find_device
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.modeling_detector_audiolm import LABELS, REAL, AudioLMDetectorForAudioClassification
from audiolm_hf.pipeline_audiolm import check_same_rate
from audiolm_hf.provenance_audiolm import read_provenance
from audiolm_hf.threads import set_threads
from audiolm_hf.watermark_audiolm import THRESHOLD, WATERMARK_RATE, check_watermark, watermark_score

FAILED, FOUND = 1, 3  # exit status
UNMARKED = "unmarked"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score sound files: 0 is generated, 1 is real. A score is low if any 3 s of a file sound generated. Exit "
        "status: 0 if all are real, 3 if any is generated, 1 if any cannot be scored, 2 for wrong options. Metadata "
        "do not survive most edits and encodings: whether a file without them was generated, only the detector or a "
        "watermark can tell."
    )
    parser.add_argument("files", nargs="+", metavar="file", help="sound files of 0.5 s or more; - for standard input")
    parser.add_argument(
        "--detector",
        default=DEFAULT_CHECKPOINT,
        help="folder of a detector, or folder or bundled name of a checkpoint that has one in its subfolder detector "
        f"(default {DEFAULT_CHECKPOINT})",
    )
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument(
        "--metadata", action="store_true", help="read from the metadata what made the files; no detector is used"
    )
    sources.add_argument(
        "--watermark", action="store_true", help="look for the watermark of audiolm-hf continue; no detector is used"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, a list with an object for every file")
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    inspect = _load_inspector(arguments)
    results = []
    for file in arguments.files:
        try:
            result = inspect(file)
        except (OSError, TypeError, ValueError) as error:
            result = {"file": file, "error": str(error)}
            sys.stderr.write(f"audiolm-hf: error: {file}: {error}\n")
        results.append(result)
        if not arguments.json and "error" not in result:
            sys.stdout.write(f"{file}: {_describe(result)}\n")
    if arguments.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    if any("error" in result for result in results):
        return FAILED
    return FOUND if any(result["verdict"] == LABELS[1 - REAL] for result in results) else 0


def _describe(result: dict[str, Any]) -> str:
    if "watermark" in result:
        return f"{result['verdict']} (watermark {result['watermark']:.3f})"
    if "score" in result:
        seconds = " ".join("-" if score is None else f"{score:.2f}" for score in result["scores_per_second"])
        stretch = "from {:.1f} to {:.1f} s".format(*result["most_suspicious_s"])
        return f"{result['verdict']} (score {result['score']:.3f}; most suspicious {stretch}; by second {seconds})"
    if result["metadata"] is None:
        return f"{UNMARKED}, which says nothing about how it was made; without --metadata, the detector scores it"
    text = ", ".join(f"{name} {value}" for name, value in result["metadata"].items())
    text = "".join(letter if letter.isprintable() else "?" for letter in text)  # anybody can write into metadata
    return f"{result['verdict']} ({text})"


def _source(file: str) -> str | bytes:
    return sys.stdin.buffer.read() if file == "-" else file


def read_metadata(file: str) -> dict[str, Any]:
    """Return a file's `metadata`, as of [`~audiolm_hf.read_provenance`], and the `verdict` by them."""
    metadata = read_provenance(_source(file))
    return {"file": file, "metadata": metadata, "verdict": UNMARKED if metadata is None else LABELS[1 - REAL]}


def read_watermark(file: str) -> dict[str, Any]:
    """Return the score of a file's `watermark`, from 0 to 1, and the `verdict` by it."""
    score = watermark_score(*read_audio(_source(file), WATERMARK_RATE))
    return {"file": file, "watermark": score, "verdict": LABELS[1 - REAL] if score >= THRESHOLD else UNMARKED}


def _load_inspector(arguments: argparse.Namespace) -> Callable[[str], dict[str, Any]]:
    """Return the function that inspects a file, as the options say."""
    if arguments.metadata:
        return read_metadata
    if arguments.watermark:
        check_watermark()
        return read_watermark
    folder = resolve_detector(arguments.detector)
    device = find_device(arguments.device)
    detector = AudioLMDetectorForAudioClassification.from_pretrained(folder, dtype="float32").eval().to(device)
    set_threads(detector, arguments.threads)
    extractor = AudioLMFeatureExtractor.from_pretrained(folder)
    check_same_rate(detector.config, extractor)
    return partial(score_file, detector=detector, extractor=extractor)


def score_file(
    file: str, detector: AudioLMDetectorForAudioClassification, extractor: AudioLMFeatureExtractor
) -> dict[str, Any]:
    """Return what the detector's `judge` returns of a file."""
    samples, rate = read_audio(_source(file), extractor.sampling_rate)
    inputs = extractor(samples, rate, return_attention_mask=False, return_tensors="pt").to(detector.device)
    del samples  # of which the inputs are a copy
    return {"file": file, **detector.judge(**inputs)}
