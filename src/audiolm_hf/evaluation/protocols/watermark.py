# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Watermark protocol: what the watermark costs in PESQ, and how often it is found after edits and other codecs.

The same is measured on recordings without a watermark, for false alarms.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch

from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.edits import EDITS, edit_audio
from audiolm_hf.evaluation.metrics.resynthesis import require_speech_metrics, speech_quality
from audiolm_hf.evaluation.protocols.codec import opus_is_available, opus_roundtrip
from audiolm_hf.evaluation.report import format_table, join_parts
from audiolm_hf.progress import progress_bar
from audiolm_hf.watermark_audiolm import THRESHOLD, add_watermark, check_watermark, watermark_score

SHORTEST_S = 1.0  # of a clip, as edits shorten it
OPUS_KBPS = (24.0, 8.0)
_Change = Callable[[np.ndarray, int], np.ndarray]  # of samples, and the clip's number


@torch.inference_mode()
def evaluate_watermark(
    codec: AcousticCodec, source: AudioSource, num_clips: int = 24, length_s: float = 5.0, seed: int = 0
) -> dict[str, Any]:
    """Mark the beginnings of recordings, and look for the watermark after each change of them.

    Returns:
        `dict`: `found`, by change, the shares of marked (`marked`) and of other clips (`unmarked`) in which the
        watermark is found; `pesq_wb` of marked clips, compared with the others; and the settings.

    Raises:
        ImportError: the packages of the watermark or of PESQ are not installed.
        ValueError: `length_s` or all recordings are below 1 s. Shorter recordings are left out.
    """
    check_watermark()
    require_speech_metrics()
    rate = source.sampling_rate
    long = (record.array for record in source if len(record.array) >= SHORTEST_S * rate)
    clips = [array[: round(length_s * rate)] for array in islice(long, num_clips)]
    if not clips or length_s < SHORTEST_S:
        raise ValueError(
            f"length_s is {length_s}, or no recording lasts {SHORTEST_S} s; both must, as edits shorten clips."
        )
    marked = [add_watermark(clip, rate) for clip in progress_bar(clips, desc="mark", unit="clip")]
    quality = [speech_quality(*pair, rate)["pesq_wb"] for pair in zip(clips, marked, strict=True)]
    found = {
        name: {
            kind: float(np.mean([_is_found(change(clip, place), rate) for place, clip in enumerate(group)]))
            for kind, group in (("marked", marked), ("unmarked", clips))
        }
        for name, change in progress_bar(_changes(codec, rate, seed).items(), desc="changes")
    }
    return {
        "found": found,
        "pesq_wb": float(np.nanmean(quality)),
        "num_clips": len(clips),
        "length_s": length_s,
        "seed": seed,
    }


def _is_found(clip: np.ndarray, rate: int) -> bool:
    return watermark_score(clip, rate) >= THRESHOLD


def _changes(codec: AcousticCodec, rate: int, seed: int) -> dict[str, _Change]:
    """Return the functions that change the clips, by name."""

    def resynthesize(clip: np.ndarray, place: int) -> np.ndarray:
        codes = codec.encode(torch.from_numpy(clip)[None].to(codec.model.device))
        return codec.decode(codes)[0].float().cpu().numpy()

    changes: dict[str, _Change] = {"none": lambda clip, _: clip, "this codec, all levels": resynthesize}
    for kbps in OPUS_KBPS if opus_is_available() else ():
        changes[f"Opus, {kbps:g} kbps"] = partial(lambda clip, _, kbps: opus_roundtrip(clip, rate, kbps), kbps=kbps)
    for name in EDITS:
        changes[name] = partial(lambda clip, place, name: edit_audio(clip, rate, name, [seed, place]), name=name)
    return changes


def format_watermark(result: dict[str, Any]) -> str:
    """Format the result of [`evaluate_watermark`] as a table."""
    rows = [[name, *(f"{100 * each[kind]:.1f}" for kind in each)] for name, each in result["found"].items()]
    return join_parts(
        [
            f"{result['num_clips']} clips of {result['length_s']:g} s, seed {result['seed']}; PESQ-WB of marked "
            f"clips, compared with the original: {result['pesq_wb']:.2f}",
            format_table(["after", "watermark found in marked clips, %", "in others, %"], rows),
        ]
    )
