# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Codec protocol: quality of resynthesized recordings, compared with Opus, and use of the codebooks.

The first seconds of some recordings are resynthesized one by one and compared with the originals by PESQ-WB and STOI
(speech only), SI-SDR and distances of spectrograms.
"""

import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile as sf
import torch
from scipy.stats import entropy

from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.metrics.resynthesis import audio_quality, require_speech_metrics, speech_quality
from audiolm_hf.evaluation.report import Headline, format_table, headline, join_parts, systems_table
from audiolm_hf.progress import progress_bar

CodecKind = Literal["speech", "piano"]
_AUDIO_METRICS = {
    "si_sdr": "SI-SDR dB",
    "mel_distance": "mel dB",
    "multi_scale_mel_distance": "multi-mel dB",
    "spectral_convergence": "convergence",
}
METRICS: dict[CodecKind, dict[str, str]] = {
    "speech": {"pesq_wb": "PESQ-WB", "stoi": "STOI"} | _AUDIO_METRICS,
    "piano": _AUDIO_METRICS,
}
OPUS_KBPS: dict[CodecKind, tuple[float, ...]] = {"speech": (6.0, 8.0), "piano": (6.0, 12.0)}


def opus_is_available() -> bool:
    """Return whether `opusenc` and `opusdec` are installed."""
    return shutil.which("opusenc") is not None and shutil.which("opusdec") is not None


def opus_roundtrip(array: np.ndarray, sampling_rate: int, bitrate_kbps: float, music: bool = False) -> np.ndarray:
    """Encode and decode a mono recording, `(num_samples,)` in [-1, 1], by Opus at a rate in kilobits per second."""
    with tempfile.TemporaryDirectory() as folder:
        original, coded, decoded = (Path(folder) / name for name in ("original.wav", "coded.opus", "decoded.wav"))
        sf.write(original, array, sampling_rate, subtype="PCM_16")
        tuning = "--music" if music else "--speech"
        for command in (
            ["opusenc", "--quiet", tuning, "--bitrate", f"{bitrate_kbps:g}", str(original), str(coded)],
            ["opusdec", "--quiet", "--rate", str(sampling_rate), str(coded), str(decoded)],
        ):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise RuntimeError(f"{command[0]} failed with status {result.returncode}: {result.stderr.strip()}")
        return sf.read(decoded, dtype="float32")[0]


def codebook_usage(audio_codes: Sequence[np.ndarray], codebook_size: int) -> list[dict[str, float]]:
    """Return `codes_used` and `perplexity` of each level of codes `(num_codebooks, frames)`.

    Perplexity is the number of equally likely codes with the entropy of the observed use: 1 to `codebook_size`.
    """
    counts = [np.bincount(codes, minlength=codebook_size) for codes in np.concatenate(audio_codes, axis=1)]
    return [{"codes_used": int((level > 0).sum()), "perplexity": float(np.exp(entropy(level)))} for level in counts]


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
    """Compare the first seconds of the first recordings, resynthesized by a codec and by Opus, with the originals.

    `num_codebooks` are numbers of leading levels to evaluate in addition to all; `opus_kbps`, by default
    `OPUS_KBPS[kind]`, are rates of Opus. The result has `systems`, the mean metrics of each system (`kbps` and the
    keys of `METRICS[kind]`); `codebooks`, the use of each level; `opus_note`, the reason if Opus is missing; and the
    settings.

    Raises:
        ImportError: `kind` is speech, and the packages of PESQ and STOI are not installed.
        ValueError: a number of codebooks is out of range.
    """
    levels = sorted({*num_codebooks, codec.num_codebooks}, reverse=True)
    if not 1 <= levels[-1] <= levels[0] <= codec.num_codebooks:
        raise ValueError(f"num_codebooks is {list(num_codebooks)}; this codec has 1 to {codec.num_codebooks} levels.")
    if kind == "speech":
        require_speech_metrics()
    clips = [record.array[: round(clip_length_s * source.sampling_rate)] for record in islice(source, num_clips)]
    inputs = (torch.from_numpy(clip)[None].to(codec.model.device) for clip in clips)
    codes = [codec.encode(each) for each in progress_bar(inputs, desc="encode", total=len(clips), unit="recording")]
    systems = {}
    for count in levels:
        decoded = (codec.decode(code[:, :count])[0].float().cpu().numpy() for code in codes)
        kbps = codec.frame_rate * count * math.log2(codec.codebook_size) / 1000
        systems[f"codec, {count} levels"] = {"kbps": kbps} | _mean_quality(clips, decoded, codec.sampling_rate, kind)
    available = opus_is_available()
    for kbps in (OPUS_KBPS[kind] if opus_kbps is None else opus_kbps) if available else ():
        decoded = (opus_roundtrip(clip, codec.sampling_rate, kbps, kind == "piano") for clip in clips)
        systems[f"Opus, {kbps:g} kbps"] = {"kbps": kbps} | _mean_quality(clips, decoded, codec.sampling_rate, kind)
    missing = "Opus is not measured: opusenc and opusdec (opus-tools) are not on the path."
    return {
        "kind": kind,
        "systems": systems,
        "codebooks": codebook_usage([code[0].cpu().numpy() for code in codes], codec.codebook_size),
        "codebook_size": codec.codebook_size,
        "opus_note": "" if available else missing,
        "num_clips": len(clips),
        "clip_length_s": clip_length_s,
        "seconds": sum(map(len, clips)) / codec.sampling_rate,
    }


def _mean_quality(
    clips: Sequence[np.ndarray], decoded: Iterable[np.ndarray], sampling_rate: int, kind: CodecKind
) -> dict[str, float]:
    """Return the mean metrics of a system; only PESQ excludes recordings without speech."""
    quality = speech_quality if kind == "speech" else audio_quality
    pairs = progress_bar(zip(clips, decoded, strict=True), desc="compare", total=len(clips), unit="recording")
    rows = [quality(clip, estimate, sampling_rate) for clip, estimate in pairs]
    return {metric: float(np.nanmean([row[metric] for row in rows])) for metric in METRICS[kind]}


def format_codec(result: dict[str, Any]) -> str:
    """Format the result of [`evaluate_codec`] as tables."""
    usage = [
        [str(level), f"{use['codes_used']} of {result['codebook_size']}", f"{use['perplexity']:.0f}"]
        for level, use in enumerate(result["codebooks"])
    ]
    return join_parts(
        [
            f"{result['num_clips']} recordings, {result['seconds']:.0f} s, "
            f"the first {result['clip_length_s']:g} s of each",
            systems_table(result["systems"], {"kbps": "kbps"} | METRICS[result["kind"]]),
            format_table(["level", "codes used", "perplexity"], usage),
            result["opus_note"],
        ]
    )


def codec_headlines(result: dict[str, Any]) -> list[Headline]:
    """Return the rows of a card's table."""
    names = {"multi_scale_mel_distance": "multi-scale mel dB", "spectral_convergence": "spectral convergence"}
    if result["kind"] == "speech":
        names = {"pesq_wb": "PESQ-WB", "stoi": "STOI"}
    kbps = next(iter(result["systems"].values()))["kbps"]
    return [headline(metric, f"codec at {kbps:g} kbps, {name}", result["systems"]) for metric, name in names.items()]
