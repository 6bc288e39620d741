# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Edits of recordings that leave their content audible, such as MP3, noise or a room.

The detector of generated audio is trained and evaluated with them. They take mono float32 `(num_samples,)` at a
sampling rate and a random generator, from which their strength is drawn.
"""

import io
from collections.abc import Callable

import numpy as np
import soundfile as sf
import soxr
from scipy.signal import butter, fftconvolve, istft, sosfilt, stft

Edit = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

_CODED_RATES = (16000, 24000, 48000)  # Hz that both MP3 and Opus support
_SHORTEST_S = 1.0  # that cropping leaves


def _coded(array: np.ndarray, rate: int, format: str, subtype: str, compression: float) -> np.ndarray:
    """Encode and decode by libsndfile in memory; `compression` is from 0 to below 1, lower bitrates are higher."""
    coded_rate = min((each for each in _CODED_RATES if each >= rate), default=_CODED_RATES[-1])
    file = io.BytesIO()
    options = {"compression_level": compression} | ({"bitrate_mode": "CONSTANT"} if format == "MP3" else {})
    with sf.SoundFile(file, "w", coded_rate, 1, subtype, format=format, **options) as writer:
        writer.write(soxr.resample(array, rate, coded_rate))
    file.seek(0)
    return soxr.resample(sf.read(file, dtype="float32")[0], coded_rate, rate)


def _mp3(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    return _coded(array, rate, "MP3", "MPEG_LAYER_III", rng.uniform(0.5, 0.85))  # at 16 kHz 84 to 32 kbit/s


def _opus(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    return _coded(array, rate, "OGG", "OPUS", rng.uniform(0.7, 0.95))  # at 16 kHz about 80 to 18 kbit/s


def _resampling(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    other = round(rate * rng.uniform(0.5, 1.5))
    return soxr.resample(soxr.resample(array, rate, other), other, rate)


def _noise(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Add noise between white and brown, 10 to 35 dB below the signal."""
    spectrum = np.fft.rfft(rng.standard_normal(len(array)))
    noise = np.fft.irfft(spectrum / (1 + np.arange(len(spectrum))) ** rng.uniform(0, 1), len(array))
    level = np.sqrt(np.mean(array**2)) * 10 ** (-rng.uniform(10, 35) / 20)
    return array + level * noise / np.sqrt(np.mean(noise**2))


def _gain(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Change the level by up to 12 dB; what is louder than full scale is clipped."""
    return np.clip(array * 10 ** (rng.uniform(-12, 12) / 20), -1, 1)


def _reverberation(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a synthetic room: noise that decays by 60 dB in 0.15 to 0.7 s, after the direct sound."""
    decay_s = rng.uniform(0.15, 0.7)
    time = np.arange(round(decay_s * rate)) / rate
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay_s)
    response *= rng.uniform(0.2, 0.8) / np.sqrt(np.sum(response**2))
    response[0] = 1.0
    return fftconvolve(array, response)[: len(array)]


def _cropping(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Keep a part of at least half of the clip, and at least 1 s."""
    length = max(round(rng.uniform(0.5, 0.9) * len(array)), min(len(array), round(_SHORTEST_S * rate)))
    start = int(rng.integers(len(array) - length + 1))
    return array[start : start + length]


def _time_stretch(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Change the tempo by up to a fifth with a phase vocoder, which keeps the pitch."""
    speed, size, hop = rng.uniform(0.83, 1.2), 1024, 256
    spectrum = stft(array, nperseg=size, noverlap=size - hop)[2]
    places = np.arange(0, spectrum.shape[1] - 1, speed)
    before, share = places.astype(int), places % 1
    magnitude = np.abs(spectrum)
    magnitude = (1 - share) * magnitude[:, before] + share * magnitude[:, before + 1]
    expected = 2 * np.pi * hop / size * np.arange(len(spectrum))[:, None]
    advance = np.angle(spectrum[:, 1:] * spectrum[:, :-1].conj() * np.exp(-1j * expected)) + expected
    phase = np.cumsum(np.concatenate([np.angle(spectrum[:, :1]), advance[:, before[:-1]]], axis=1), axis=1)
    stretched = istft(magnitude * np.exp(1j * phase), nperseg=size, noverlap=size - hop)[1]
    return stretched[: round(len(array) / speed)]


def _low_pass(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    cutoff = rng.uniform(0.2, 0.45) * rate  # 3.2 to 7.2 kHz at 16 kHz
    return sosfilt(butter(6, cutoff, fs=rate, output="sos"), array)


def _high_pass(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    return sosfilt(butter(4, rng.uniform(60, 400), "highpass", fs=rate, output="sos"), array)


def _silence(array: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Add up to 1 s of noise to each end, 30 to 90 dB below the signal."""
    level = np.sqrt(np.mean(array**2)) * 10 ** (-rng.uniform(30, 90) / 20)
    ends = [level * rng.standard_normal(round(rng.uniform(0, 1) * rate)) for _ in range(2)]
    return np.concatenate([ends[0], array, ends[1]])


EDITS: dict[str, Edit] = {
    "MP3": _mp3,
    "Opus": _opus,
    "resampling": _resampling,
    "noise": _noise,
    "gain": _gain,
    "reverberation": _reverberation,
    "cropping": _cropping,
    "time stretch": _time_stretch,
    "low-pass": _low_pass,
    "high-pass": _high_pass,
    "silence": _silence,
}


def edit_audio(array: np.ndarray, sampling_rate: int, name: str, seed: int | list[int]) -> np.ndarray:
    """Return an edited copy, perhaps of another length; the strength of the edit follows from the seed alone."""
    if name not in EDITS:
        raise ValueError(f"There is no edit {name!r}; there are {', '.join(EDITS)}.")
    edited = EDITS[name](array, sampling_rate, np.random.default_rng(seed)).astype(np.float32)
    return edited / max(1.0, float(np.abs(edited).max(initial=0.0)))
