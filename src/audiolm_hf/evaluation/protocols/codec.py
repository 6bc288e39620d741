# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How good a codec sounds, how it uses its codebooks, and how it stands beside Opus.

In: an [`AcousticCodec`] and recordings; out: a dictionary for a JSON file, and a table. The first seconds of the
first clips are coded one by one; PESQ-WB and STOI (of speech alone), SI-SDR and distances of spectra compare the
result with the original.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from audiolm_hf.acoustic_codec_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.baselines.opus import opus_is_available, opus_roundtrip
from audiolm_hf.evaluation.metrics.resynthesis import sound_quality, speech_quality
from audiolm_hf.evaluation.report import format_table

CodecKind = Literal["speech", "piano"]
_SOUND_METRICS = {
    "si_sdr": "SI-SDR dB",
    "mel_distance": "mel dB",
    "multi_scale_mel_distance": "multi-mel dB",
    "spectral_convergence": "convergence",
}
METRICS: dict[CodecKind, dict[str, str]] = {
    "speech": {"pesq_wb": "PESQ-WB", "stoi": "STOI"} | _SOUND_METRICS,
    "piano": _SOUND_METRICS,
}
OPUS_KBPS: dict[CodecKind, tuple[float, ...]] = {"speech": (6.0, 8.0), "piano": (6.0, 12.0)}


def first_clips(source: AudioSource, num_clips: int, clip_length_s: float) -> list[np.ndarray]:
    """Take the first seconds of the first recordings; shorter recordings are used whole.

    Args:
        source ([`AudioSource`]): the recordings.
        num_clips (`int`): how many.
        clip_length_s (`float`): seconds of each.

    Returns:
        `list[np.ndarray]`: float32 arrays of shape `(num_samples,)`.
    """
    length = round(clip_length_s * source.sampling_rate)
    clips: list[np.ndarray] = []
    for record in source:
        if len(clips) == num_clips:
            break
        clips.append(record.array[:length])
    return clips


def codebook_usage(audio_codes: Sequence[np.ndarray], codebook_size: int) -> list[dict[str, float]]:
    """Measure how many codes of each level are in use.

    Args:
        audio_codes (sequence of `np.ndarray` of shape `(num_codebooks, frames)`): the codes of some recordings.
        codebook_size (`int`): entries per codebook.

    Returns:
        `list[dict]`: for each level `codes_used`, and `perplexity`, the number of equally likely codes that would have
        the entropy of the observed use (1 to `codebook_size`).
    """
    usage = []
    for codes in np.concatenate(audio_codes, axis=1):
        counts = np.bincount(codes, minlength=codebook_size)
        shares = counts[counts > 0] / counts.sum()
        usage.append(
            {"codes_used": int((counts > 0).sum()), "perplexity": float(np.exp(-(shares * np.log(shares)).sum()))}
        )
    return usage


@torch.inference_mode()
def evaluate_codec(
    codec: AcousticCodec,
    source: AudioSource,
    num_clips: int = 24,
    clip_length_s: float = 10.0,
    num_codebooks: Sequence[int] = (),
    opus_kbps: Sequence[float] | None = None,
    kind: CodecKind = "speech",
) -> dict[str, Any]:
    """Code clips with a codec and with Opus and compare both with the originals.

    Args:
        codec ([`AcousticCodec`]): the codec.
        source ([`AudioSource`]): recordings at the codec's sampling rate.
        num_clips (`int`, defaults to 24): the first so many recordings are used.
        clip_length_s (`float`, defaults to 10.0): seconds of each, from its start.
        num_codebooks (sequence of `int`): also measure with only so many leading levels.
        opus_kbps (sequence of `float`, *optional*): rates of Opus, in kilobits per second; 6 and 8 for speech, 6 and
            12 for piano.
        kind (`"speech"` or `"piano"`, defaults to `"speech"`): piano is not judged by figures of speech.

    Returns:
        `dict`: `systems`, a list with the mean figures of each system (`name`, `kbps`, the keys of `METRICS[kind]`);
        `codebooks`, the use of each level; `opus_note`, why Opus is missing, if it is; and the settings.

    Raises:
        ValueError: the source has another rate than the codec, or a number of codebooks is out of range.
    """
    if source.sampling_rate != codec.sampling_rate:
        raise ValueError(
            f"The recordings are read at {source.sampling_rate} Hz; read them at the codec's {codec.sampling_rate} Hz."
        )
    levels = sorted({*num_codebooks, codec.num_codebooks}, reverse=True)
    if not 1 <= levels[-1] <= levels[0] <= codec.num_codebooks:
        raise ValueError(f"num_codebooks is {list(num_codebooks)}; this codec has 1 to {codec.num_codebooks} levels.")
    clips = first_clips(source, num_clips, clip_length_s)
    device = codec.model.device
    codes = [_encode(codec, clip) for clip in tqdm(clips, desc="encode", unit="clip")]
    opus_kbps = OPUS_KBPS[kind] if opus_kbps is None else opus_kbps
    systems = []
    for count in levels:
        decoded = (codec.decode(code[:, :count].to(device))[0].float().cpu().numpy() for code in codes)
        kbps = codec.frame_rate * count * math.log2(codec.codebook_size) / 1000
        systems.append(_score(f"codec, {count} levels", kbps, clips, decoded, codec.sampling_rate, kind))
    available = opus_is_available()
    for kbps in opus_kbps if available else ():
        decoded = (opus_roundtrip(clip, codec.sampling_rate, kbps, kind == "piano") for clip in clips)
        systems.append(_score(f"Opus, {kbps:g} kbps", kbps, clips, decoded, codec.sampling_rate, kind))
    return {
        "kind": kind,
        "systems": systems,
        "codebooks": codebook_usage([code[0].numpy() for code in codes], codec.codebook_size),
        "codebook_size": codec.codebook_size,
        "opus_note": ""
        if available
        else "Opus is not measured: opusenc and opusdec (opus-tools) are not on the path.",
        "num_clips": len(clips),
        "clip_length_s": clip_length_s,
        "seconds": sum(map(len, clips)) / codec.sampling_rate,
    }


def _encode(codec: AcousticCodec, clip: np.ndarray) -> torch.Tensor:
    input_values = torch.from_numpy(clip)[None].to(codec.model.device)
    return codec.encode(input_values, torch.ones_like(input_values, dtype=torch.long)).cpu()


def _score(
    name: str, kbps: float, clips: Sequence[np.ndarray], decoded: Any, sampling_rate: int, kind: CodecKind
) -> dict[str, Any]:
    """Mean figures of one system; clips without speech are left out of PESQ alone."""
    quality = speech_quality if kind == "speech" else sound_quality
    rows = [
        quality(clip, estimate, sampling_rate)
        for clip, estimate in tqdm(zip(clips, decoded, strict=True), desc=name, total=len(clips), unit="clip")
    ]
    return {"name": name, "kbps": kbps} | {
        metric: float(np.nanmean([row[metric] for row in rows])) for metric in METRICS[kind]
    }


def format_codec_report(report: dict[str, Any]) -> str:
    """Lay out the result of [`evaluate_codec`] as a table for a terminal."""
    metrics = METRICS[report["kind"]]
    header = ["system", "kbps", *metrics.values()]
    rows = [
        [system["name"], f"{system['kbps']:.2f}", *(f"{system[metric]:.3f}" for metric in metrics)]
        for system in report["systems"]
    ]
    size = report["codebook_size"]
    usage = [
        [str(level), f"{use['codes_used']} of {size}", f"{use['perplexity']:.0f}"]
        for level, use in enumerate(report["codebooks"])
    ]
    parts = [
        f"{report['num_clips']} clips, {report['seconds']:.0f} s, the first {report['clip_length_s']:g} s of each",
        format_table(header, rows),
        format_table(["level", "codes used", "perplexity"], usage),
        report["opus_note"],
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


__all__ = [
    "METRICS",
    "OPUS_KBPS",
    "CodecKind",
    "codebook_usage",
    "evaluate_codec",
    "first_clips",
    "format_codec_report",
]
