# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Families of odd inputs for sound: arrays, files of every format, options of the processor and the pipeline."""

import functools
import io
import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from audiolm_hf import AudioContinuationPipeline, AudioLMFeatureExtractor, AudioLMProcessor, read_audio, write_audio
from tests.odd_inputs import Case, brief, holds, misspelled, odd_tensor, odd_value
from tests.odd_objects import model, odd_options

RATE = 16000
_ODD_RATES = [0, -1, 1, 999, 1000, 8000, 11025, 16000.0, 16000.5, 44100, 48000, 10**6, 10**9, float("nan"), "16000"]
_ENDINGS = [".wav", ".flac", ".ogg", ".opus", ".mp3", ".WAV"]


@functools.cache
def scratch() -> Path:
    """A folder for files; the object that removes it lives as long as the process."""
    scratch.owner = tempfile.TemporaryDirectory(prefix="odd-inputs-")  # type: ignore[attr-defined]
    return Path(scratch.owner.name)  # type: ignore[attr-defined]


@functools.cache
def processor() -> AudioLMProcessor:
    """The tiny model's processor."""
    return AudioLMProcessor(AudioLMFeatureExtractor())


@functools.cache
def tone(num_samples: int = 4800) -> np.ndarray:
    """A sound that every processor takes, float32."""
    time_s = np.arange(num_samples) / RATE
    return (0.3 * np.sin(2 * np.pi * 440 * time_s) * (1 + 0.5 * np.sin(20 * time_s))).astype(np.float32)


@functools.cache
def audio_files() -> dict[str, bytes]:
    """The tone as a file of every format that libsndfile writes, and of ffmpeg where it is installed."""
    files = {}
    for kind in soundfile.available_formats():
        if kind not in ("RAW", "SD2", "SDS", "WVE", "XI"):  # no header, two files, no rate, or prints
            buffer = io.BytesIO()
            subtype = "OPUS" if kind == "OGG" else None
            soundfile.write(buffer, tone(48000), RATE, format=kind, subtype=subtype)
            files[kind] = buffer.getvalue()
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([tone(48000)] * 2, 1), RATE, format="OGG", subtype="VORBIS")
    files["VORBIS stereo"] = buffer.getvalue()
    if shutil.which("ffmpeg"):
        for suffix in ("m4a", "webm"):
            path = scratch() / f"tone.{suffix}"
            command = ["ffmpeg", "-v", "error", "-y", "-f", "wav", "-i", "pipe:", str(path)]
            if subprocess.run(command, input=files["WAV"], check=False).returncode == 0:
                files[suffix] = path.read_bytes()
    return files


def damaged(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """A file with bytes cut off, changed, put in or taken out; and what was done."""
    place, part = rng.randrange(len(data)), bytearray(data)
    how = rng.choice(["cut", "flip", "header", "zeros", "twice", "junk before", "junk after", "hole", "whole"])
    if how == "cut":
        return how, data[: rng.choice([place, 1, 12, 44, len(data) // 2, len(data) - 1])]
    if how == "flip":
        for _ in range(rng.choice([1, 8, 100])):
            part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
    if how == "header":
        start = rng.randrange(min(80, len(part) - 4))
        part[start : start + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", rng.randbytes(4)])
    if how == "zeros":
        part[place : place + 4000] = bytes(len(part[place : place + 4000]))
    changed = {
        "twice": data + data,
        "junk before": rng.randbytes(rng.choice([1, 100, 5000])) + data,
        "junk after": data + rng.randbytes(rng.choice([1, 100, 5000])),
        "hole": data[:place] + data[place + rng.choice([1, 100, 3000]) :],
    }
    return how, changed.get(how, bytes(part))


def reading(rng: random.Random) -> Case:
    """Files of every format, whole and damaged, as paths, bytes and open files; and what is no file."""
    kind = rng.choice([*audio_files()])
    how, data = damaged(rng, audio_files()[kind])
    path = scratch() / f"{rng.randrange(10)}.{rng.choice(['wav', 'mp3', 'bin', ''])}"
    path.write_bytes(data)
    form = rng.choice(["bytes", "path", "text", "open", "memory", "array", "odd"])
    sources: dict[str, Callable[[], Any]] = {
        "bytes": lambda: data,
        "path": lambda: path,
        "text": lambda: str(path),
        "open": lambda: path.open("rb"),
        "memory": lambda: io.BytesIO(data),
        "array": lambda: bytearray(data),
    }
    odd = odd_value(rng) if form == "odd" else None

    def run() -> Any:
        source = sources[form]() if form in sources else odd
        try:
            return read_audio(source)
        finally:
            if form == "open":
                source.close()

    def check(result: Any) -> None:
        audio, rate = result
        holds(audio.dtype == np.float32 and audio.ndim == 2 and audio.shape[0] >= 1, f"its samples {brief(audio)}")
        holds(1000 <= rate <= 10**6 and isinstance(rate, int), f"its rate {rate}")
        if how == "whole":
            holds(rate in (RATE, 48000) and abs(audio.shape[1] / rate - 3.0) < 0.1, f"its length {audio.shape}")
        if (
            how == "cut"
            and kind in ("WAV", "FLAC", "AIFF", "W64", "RF64")
            and len(data) < 0.6 * len(audio_files()[kind])
        ):
            holds(False, f"{audio.shape[1] / rate:.2f} of 3 s are read without a word")

    label = f"read_audio({form} {brief(odd) if form == 'odd' else f'{kind} {how} {len(data)} bytes'})"
    return Case(label, run, check, (str(odd)[:80], "audio file", "file"))


def writing(rng: random.Random) -> Case:
    """`write_audio` with odd samples, rates, names and texts."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    arguments: dict[str, Any] = {
        "path": folder / f"out{rng.choice(_ENDINGS)}",
        "audio": rng.choice([tone(), tone().tolist(), torch.from_numpy(tone()), (tone() * 32767).astype(np.int16)]),
        "sampling_rate": rng.choice([RATE, RATE, 48000, 44100, 22050]),
        "metadata": rng.choice([None, {"title": "ä tone", "comment": "x" * 1000}]),
    }
    name = rng.choice([*arguments, "audio"])
    if name == "path":
        ends = [
            "out.aiff",
            "out",
            "",
            ".",
            "..",
            ".wav",
            "no/such.wav",
            "a\0.wav",
            "x" * 300 + ".wav",
            "ü.wav",
            "b.wav/",
        ]
        arguments[name] = rng.choice([odd_value(rng), *(f"{folder}/{end}" for end in ends)])
        if arguments[name] in (Path("nowhere"), "~"):
            arguments[name] = ""
    elif name == "audio":
        arguments[name] = odd_tensor(rng, torch.from_numpy(tone())) if rng.random() < 0.7 else odd_array(rng)
    elif name == "sampling_rate":
        arguments[name] = rng.choice([rng.choice(_ODD_RATES), odd_value(rng)])
    else:
        text = rng.choice([odd_value(rng), "a\0b", "\ud800", "x\n\ny"])
        arguments[name] = rng.choice([odd_value(rng), {"title": text}, {misspelled(rng, "title"): "a"}])

    def check(path: Any) -> None:
        audio, rate = read_audio(path)
        expected = _usual(arguments["audio"])
        if expected is None:
            raise AssertionError("its type")
        holds(rate == arguments["sampling_rate"], f"its rate {rate}")
        longer = 2500 if path.suffix.lower() == ".mp3" else 0
        holds(0 <= audio.shape[1] - len(expected) <= longer, f"its length {audio.shape} of {expected.shape}")
        holds([*folder.iterdir()] == [path], f"beside it {[*folder.iterdir()]}")
        if path.suffix.lower() in (".wav", ".flac"):
            clipped = np.clip(expected.astype(np.float64), -1, 1)
            holds(len(clipped) == 0 or np.abs(audio[0] - clipped).max() < 2 / 32768, "its samples")

    return Case(f"write_audio({brief(arguments)})", lambda: write_audio(**arguments), check, (name,), watched=folder)


def odd_array(rng: random.Random) -> Any:
    """The tone as an array of any type, or a list of them."""
    types = "float16 float32 float64 longdouble int8 int16 int32 int64 uint8 uint16 uint32 bool complex64 U8 S8 object"
    dtype = rng.choice(types.split())
    scale = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1
    array = (tone() * scale).astype(dtype)
    shaped = [array, array, array[None], np.stack([array, array]), array[::-1], array[::2], array.reshape(-1, 1)]
    shaped += [array.tolist(), tuple(array.tolist()), array[:0], array[:10], array.view(array.dtype.newbyteorder("S"))]
    return rng.choice(shaped)


def _usual(clip: Any) -> np.ndarray | None:
    """The float32 samples `(num_samples,)` that a clip stands for, if that is beyond doubt."""
    if isinstance(clip, torch.Tensor):
        clip = clip.detach().to_dense().float().numpy() if clip.is_floating_point() else clip.numpy()
    array = np.asarray(clip)
    if array.dtype.kind == "f":
        samples = array.astype(np.float32)
    elif array.dtype.newbyteorder("=") in (np.int16, np.int32):
        samples = (array / -float(np.iinfo(array.dtype).min)).astype(np.float32)
    elif array.dtype == np.uint8:
        samples = ((array - 128.0) / 128).astype(np.float32)
    else:
        return None
    return samples.mean(0) if samples.ndim == 2 else samples


def _clip(rng: random.Random) -> Any:
    if rng.random() < 0.4:
        return rng.choice([tone(), torch.from_numpy(tone()), (tone() * 32767).astype(np.int16)])
    return odd_array(rng) if rng.random() < 0.6 else odd_tensor(rng, torch.from_numpy(tone().copy()))


def _check_features(features: Any, width: int | None = None) -> np.ndarray:
    values, mask = (np.asarray(features[name]) for name in ("input_values", "attention_mask"))
    holds(values.shape == mask.shape and values.ndim == 2 and values.dtype == np.float32, f"its shape {values.shape}")
    holds(np.isfinite(values).all() and np.abs(values).max() <= 1 and np.isin(mask, (0, 1)).all(), "its values")
    holds(width is None or values.shape[1] == width, f"its length {values.shape}")
    return values


def extractors(rng: random.Random) -> Case:
    """The feature extractor's own settings, and its options, with other values."""
    if rng.random() < 0.4:
        settings = AudioLMFeatureExtractor().to_dict()
        name = rng.choice([name for name in settings if name != "feature_extractor_type"])
        value = odd_value(rng) if rng.random() < 0.6 else rng.choice([-1, 0, 2, 1.5, str(settings[name])])

        def check(made: AudioLMFeatureExtractor) -> None:
            if name not in ("min_length_s", "silence_threshold_db"):
                _check_features(made(tone(), sampling_rate=RATE, return_tensors="np", return_attention_mask=True))
            again = AudioLMFeatureExtractor.from_dict(json.loads(made.to_json_string()))
            holds(again.to_dict() == made.to_dict(), "it cannot be read again")

        return Case(
            f"extractor {name}={brief(value)}", lambda: AudioLMFeatureExtractor(**{name: value}), check, (name,)
        )
    options: dict[str, Any] = {"sampling_rate": RATE, "padding": True, "max_length": None, "truncation": False}
    options |= {"pad_to_multiple_of": None, "return_attention_mask": None, "return_tensors": "np"}
    name = rng.choice([*options])
    near = ["longest", "max_length", "do_not_pad", 320, 10000, 4800, True, False, "pt", "np", "tf"]
    options[name] = rng.choice([odd_value(rng), rng.choice(near)])
    clips = rng.choice([tone(), [tone(), tone(6000)]])
    made = processor().feature_extractor

    def check_features(features: Any) -> None:
        if options["return_attention_mask"] is not False and options["padding"] not in (False, "do_not_pad"):
            values = _check_features(features)
            holds(len(values) == (len(clips) if isinstance(clips, list) else 1), "its rows")

    return Case(
        f"extractor(tone, {brief(options)})",
        lambda: made(clips, **options),
        check_features,
        (name, str(options[name])),
    )


def processing(rng: random.Random) -> Case:
    """Clips of every form and type through the processor; right ones give what the plain array gives."""
    clip, rate = _clip(rng), rng.choice([RATE] * 4 + _ODD_RATES)
    kind = rng.choice([*audio_files()])
    how, data = damaged(rng, audio_files()[kind])
    forms: dict[str, Any] = {
        "bare": clip,
        "array": {"array": clip, "sampling_rate": rate},
        "raw": {"raw": clip, "sampling_rate": rate},
        "row": {"audio": {"array": clip, "sampling_rate": rate}, "text": "a"},
        "gradio": (rate, clip),
        "list": [clip, tone()],
        "dictionaries": [{"array": clip, "sampling_rate": rate}, {"array": tone(), "sampling_rate": RATE}],
        "bytes": data,
        "file": {"bytes": data, "path": None},
        "odd": odd_value(rng),
        "odd dictionary": {rng.choice(["array", "audio", "bytes", "path", "sampling_rate", 1]): odd_value(rng)},
    }
    form = rng.choice([*forms])
    options: dict[str, Any] = {"sampling_rate": rate} if form in ("bare", "list", "odd") else {}
    if rng.random() < 0.1:
        options[misspelled(rng, "sampling_rate")] = 1

    def check(features: Any) -> None:
        values = _check_features(features)
        usual = _usual(clip) if form in ("bare", "array", "raw", "row", "list", "dictionaries") else None
        if usual is not None:
            expected = processor()(usual.copy(), sampling_rate=int(rate))["input_values"].numpy()
            holds(np.abs(values[0, : expected.shape[1]] - expected[0]).max() < 1e-4, "its samples")

    what = f"{kind} {how}" if form in ("bytes", "file") else brief(forms[form])
    label = f"processor({form} {what}, {brief(options)})"
    words = ("audio", "sampling_rate", "rate", *options)
    return Case(label, lambda: processor()(forms[form], **options), check, words)


def saving(rng: random.Random) -> Case:
    """`save_audio` and `batch_decode` with odd clips, paths, outputs and flags."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    if rng.random() < 0.4:
        output: dict[str, Any] = {"audio_values": torch.from_numpy(np.stack([tone(), tone()]))}
        output |= {"audio_lengths": torch.tensor([4800, 100]), "prompt_lengths": torch.tensor([100, 50])}
        name = rng.choice([*output])
        output[name] = odd_tensor(rng, output[name])
        if rng.random() < 0.2:
            del output[name]
        flag = rng.choice([True, False, odd_value(rng)])

        def check_rows(rows: Any) -> None:
            ends = [int(length) for length in output["audio_lengths"]]
            starts = [0 if flag else int(length) for length in output["prompt_lengths"]]
            expected = [end - start for start, end in zip(starts, ends, strict=True)]
            holds([len(row) for row in rows] == expected, f"its lengths {[len(row) for row in rows]}, not {expected}")
            holds(all(row.dtype == np.float32 for row in rows), "its type")

        label = f"batch_decode({brief(output)}, {brief(flag)})"
        words = ("audio_values", "audio_lengths", "prompt_lengths", "return_full_audio")
        return Case(label, lambda: processor().batch_decode(output, return_full_audio=flag), check_rows, words)
    clip = _clip(rng)
    clips = rng.choice(
        [clip, {"audio": clip, "sampling_rate": rng.choice(_ODD_RATES)}, (RATE, clip), [clip], odd_value(rng)]
    )
    path = rng.choice([folder / "a.wav", [folder / "a.wav"], [folder / "a.wav", folder / "b.flac"], f"{folder}/c.mp3"])
    if rng.random() < 0.2:
        path = rng.choice(["", folder, [], [1], f"{folder}/x/y.wav", f"{folder}/a.txt", None, 5])

    def check(paths: Any) -> None:
        for written in paths:
            audio, _ = read_audio(written)
            holds(np.isfinite(audio).all(), "its samples")

    label = f"save_audio({brief(clips)}, {path})"
    return Case(label, lambda: processor().save_audio(clips, path), check, ("path", "audio"), watched=folder)


@functools.cache
def pipeline() -> AudioContinuationPipeline:
    """The pipeline of the tiny model."""
    return AudioContinuationPipeline(model=model(), processor=processor(), device="cpu")


def pipelines(rng: random.Random) -> Case:
    """Calls of the pipeline with odd prompts and options."""
    prompt: Any = tone()
    options: dict[str, Any] = {"sampling_rate": RATE, "continuation_length_s": 0.08, "seed": 0}
    what = rng.choice(["prompt", "prompts", "option", "options"])
    if what == "prompt":
        kind = rng.choice([*audio_files()])
        prompt = rng.choice([_clip(rng), odd_value(rng), damaged(rng, audio_files()[kind])[1], "no such.wav"])
    elif what == "prompts":
        prompt = [tone(), rng.choice([_clip(rng), odd_value(rng), tone(100)])]
        prompt = rng.choice([prompt, prompt, tuple(prompt), [prompt], []])
    elif what == "options":
        options |= odd_options(rng)
    else:
        names = "sampling_rate num_return_sequences return_full_audio seed batch_size generate_kwargs num_workers"
        name = rng.choice(names.split())
        options[name] = rng.choice([odd_value(rng), 2 if name != "num_workers" else 0, {}])
        if isinstance(options[name], int) and options[name] > 2 and name != "sampling_rate":
            options[name] = -3

    def check(result: Any) -> None:
        results = result if isinstance(result, list) else [result]
        results = [each for row in results for each in (row if isinstance(row, list) else [row])]
        for each in results:
            audio = each["audio"]
            holds(each["sampling_rate"] == RATE and audio.dtype == np.float32 and audio.ndim == 1, "its form")
            holds(np.isfinite(audio).all() and np.abs(audio).max(initial=0) <= 1, "its samples")
        if options.get("return_full_audio", True) and what == "options":
            new = len(results[0]["audio"]) - len(tone())
            holds(0 <= new <= max(1, round(options["continuation_length_s"] * RATE)), f"its length {new}")

    label = f"pipeline({brief(prompt)}, {brief(options)})"
    words = ("prompt", "audio", "inputs", *options)
    return Case(label, lambda: pipeline()(prompt, **options), check, words)


FAMILIES = {
    reading: 300,
    writing: 200,
    extractors: 150,
    processing: 250,
    saving: 150,
    pipelines: 150,
}
