# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf continue`: continue sound files, and write prompts and continuations to sound files.

Options, output files and the beginnings of the prompts are checked before the model is loaded. All prompts are decoded
before the first is continued.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from audiolm_hf.audio_file_audiolm import check_audio, check_ending, check_folder, wav_pieces, write_wav_pieces
from audiolm_hf.bundled import example_prompt, resolve_checkpoint
from audiolm_hf.commands.options import (
    REPLACE,
    add_checkpoint,
    add_continuations,
    add_device,
    add_length,
    add_seed,
    find_device,
)
from audiolm_hf.generation_config_audiolm import AudioLMGenerationConfig
from audiolm_hf.pipeline_audiolm import Prompt
from audiolm_hf.progress import progress_bar
from audiolm_hf.provenance_audiolm import provenance, read_provenance
from audiolm_hf.stages_audiolm import STAGES
from audiolm_hf.threads import set_threads
from audiolm_hf.watermark_audiolm import MIN_LENGTH_S, check_watermark

STREAM = "-"  # standard input or output
WAV_BYTES_PER_SECOND = 32_000  # at 16 kHz

_OUTPUT_HELP = (
    "output file, whose ending selects the format (default continuation.wav); - writes WAV to standard output; with "
    "several prompts or continuations, the prompts' names and numbers are added to the file name"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [options] [prompt ...]"
    parser.description = (
        "Continue sound files, and write each prompt and its continuation to a file. Without --overwrite, existing "
        "files are only replaced if this command wrote them."
    )
    parser.add_argument(
        "prompts", nargs="*", metavar="prompt", help="sound files, - for standard input (default: a bundled example)"
    )
    parser.add_argument("-o", "--output", default="continuation.wav", help=_OUTPUT_HELP)
    add_length(parser, "--length-s", "length of the continuation in seconds (default 7)", 7.0)
    add_seed(parser, "random seed; the same seed gives the same samples (default 0)")
    add_checkpoint(parser)
    add_continuations(parser)
    parser.add_argument(
        "--stream",
        action="store_true",
        help="write WAV to a pipe or a file while it is generated; memory does not grow with the length",
    )
    parser.add_argument("--stop-at-end", action="store_true", help="end early if the model predicts the end")
    parser.add_argument("--continuation-only", action="store_true", help="write the continuation without its prompt")
    parser.add_argument(
        "--watermark", action="store_true", help="add an inaudible watermark; needs the extra `watermark`"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace any existing file")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_device(parser)
    _add_sampling(parser)


def _sampling_options() -> dict[str, Any]:
    """Return the sampling options and their defaults, with and without the prefix of a stage."""
    defaults = vars(AudioLMGenerationConfig())
    names = [name for name in AudioLMGenerationConfig.option_names() if not name.endswith("length_s")]
    return {name: defaults.get(f"semantic_{name}", defaults.get(name)) for name in names}


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the sampling options, named as in `AudioLMModel.generate`."""
    group = parser.add_argument_group(
        "sampling",
        "Options of one stage or of all stages; the defaults are in the checkpoint's generation_config.json.",
    )
    for name, default in _sampling_options().items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction)
        elif default is None:
            group.add_argument(flag, metavar="NAME")
        else:
            group.add_argument(flag, type=type(default), metavar=type(default).__name__.upper())


def _check_sampling(given: dict[str, Any]) -> None:
    """Check the sampling options; errors name the flags instead of the Python options."""
    for name, value in given.items():
        stage, _, rest = name.partition("_")
        prefix = f"{stage}-" if rest and stage in STAGES else ""
        try:
            AudioLMGenerationConfig().with_options(**{name: value}).validate()
        except ValueError as error:
            text = re.sub(r"\b\w+_do_sample=False", f"--no-{prefix}do-sample", str(error))
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(re.sub(rf"^(?:{'|'.join(STAGES)})?_?{name}\b", flag, text)) from None


def _check_stages(model: Any, given: dict[str, Any]) -> None:
    """Check the sampling options against the stages of a model; errors name the flags, too."""
    try:
        model.check_generate_options(**given)
    except ValueError as error:
        text = re.sub(r"='(\w+)'", r" \1", str(error)).replace("=True", "")
        names = rf"\b(?:{'|'.join(_sampling_options())})\b"
        text = re.sub(names, lambda name: f"--{name[0].replace('_', '-')}", text)
        raise ValueError(text) from None


class StageBars:
    """A progress bar for each stage, called by `AudioLMModel.generate` as `progress(stage, done, total)`."""

    def __init__(self) -> None:
        self.stage: str | None = None
        self.bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of `stage` are finished."""
        if stage != self.stage:
            self.close()
            self.stage, self.bar = stage, progress_bar(desc=f"{stage:>8}", total=total, unit="step", leave=True)
        if self.bar is not None:
            self.bar.total = total
            self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Close the current bar, which stays on the screen."""
        if self.bar is not None:
            self.bar.close()


def output_paths(output: Path, prompts: list[str], num_continuations: int) -> list[list[Path]]:
    """Return, for each prompt, the paths of its continuations; two prompts must not have the same name."""
    stems = ["stdin" if prompt == STREAM else Path(prompt).stem for prompt in prompts]
    if len(set(stems)) < len(stems):
        raise ValueError(f"Two prompts have the same name ({', '.join(stems)}); continue them one by one.")
    names = [f"-{stem}" if len(prompts) > 1 else "" for stem in stems]
    numbers = [f"-{number}" if num_continuations > 1 else "" for number in range(1, num_continuations + 1)]
    return [[output.with_stem(output.stem + name + number) for number in numbers] for name in names]


def was_generated(path: Path) -> bool:
    """Return whether a sound file is marked in its metadata as generated by this package."""
    try:
        return read_provenance(path) is not None
    except (OSError, ValueError):
        return False


def check_paths(paths: list[list[Path]], overwrite: bool) -> None:
    """Check that the output files can be written."""
    for path in (path for row in paths for path in row):
        check_ending(path)
        check_folder(path)
        if path.exists() and not overwrite and not was_generated(path):
            raise ValueError(f"{path} already exists and was not written by audiolm-hf; {REPLACE}")


def check_size(num_files: int, length_s: float, folder: Path) -> None:
    """Check that the output files fit on the disk."""
    needed, free = num_files * length_s * WAV_BYTES_PER_SECOND, shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{num_files} files of {length_s:g} s take {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free in "
            f"{folder}; ask for fewer seconds or continuations."
        )


def read_prompt(prompt: str) -> str | bytes:
    """Check the beginning of a prompt's audio, and return its path, or its content if it is a pipe."""
    source: str | bytes = prompt
    if prompt == STREAM:
        source = b"" if sys.stdin is None else sys.stdin.buffer.read()
        if not source:
            raise ValueError("Standard input is empty; pipe a sound file into it.")
    elif Path(prompt).is_fifo():
        source = Path(prompt).read_bytes()
    check_audio(source)
    return source


def load(checkpoint: str, device: str | None) -> Any:
    """Load the pipeline of a bundled checkpoint, a folder or a Hub name."""
    from audiolm_hf import pipeline

    return pipeline(model=resolve_checkpoint(checkpoint), device=device)


def run(arguments: argparse.Namespace) -> int:
    resolve_checkpoint(arguments.checkpoint)
    device = find_device(arguments.device)
    sampling = {name: value for name in _sampling_options() if (value := vars(arguments)[name]) is not None}
    _check_sampling(sampling)
    names = arguments.prompts or [example_prompt(arguments.checkpoint)]
    paths = _plan_outputs(arguments, names)
    prompts = [read_prompt(name) for name in names]
    if arguments.quiet:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    continue_audio = load(arguments.checkpoint, device)
    _check_stages(continue_audio.model, sampling)
    _tell(arguments, f"{arguments.checkpoint} on {device}, {set_threads(continue_audio.model, arguments.threads)}")
    named = [Prompt(prompt, name) for name, prompt in zip(names, prompts, strict=True)]
    # All are decoded before the first is continued, so that errors come early.
    read = [Prompt(None, prompt.name, continue_audio.preprocess(prompt)) for prompt in named]
    for prompt, row in zip(read, paths, strict=True):
        _continue_one(continue_audio, prompt, row, arguments, sampling)
    return 0


def _plan_outputs(arguments: argparse.Namespace, names: list[str]) -> list[list[Path]]:
    """Return the output files of each prompt after checking them; none for standard output."""
    if names.count(STREAM) > 1:
        raise ValueError("Standard input (-) is given twice as a prompt; it can be read once.")
    if arguments.stream and arguments.num_continuations > 1:
        raise ValueError("--stream writes one continuation of each prompt; leave out --num-continuations.")
    if arguments.watermark:
        if arguments.stream:
            raise ValueError("--watermark needs the whole recording; leave out --stream.")
        if arguments.continuation_only and arguments.length_s < MIN_LENGTH_S:
            raise ValueError(f"--length-s is {arguments.length_s}; a watermark needs {MIN_LENGTH_S} s or more.")
        check_watermark()
    if arguments.output == STREAM:
        if len(names) * arguments.num_continuations > 1:
            raise ValueError("Standard output (-o -) takes a single continuation of a single prompt; write to files.")
        if sys.stdout.isatty() or getattr(sys.stdout, "name", "") == os.devnull:
            raise ValueError("Standard output (-o -) is a terminal, or closed; send it to a file or a program.")
        return [[]]
    output = Path(arguments.output)
    if not output.name or output.is_dir():
        raise ValueError(f"--output is {arguments.output!r}, not the name of a file; give one, such as out.wav.")
    check_ending(output)
    if arguments.stream and output.suffix.lower() != ".wav":
        raise ValueError(f"--output is {arguments.output!r}, but --stream writes WAV; give a name that ends in .wav.")
    paths = output_paths(output, names, arguments.num_continuations)
    check_paths(paths, arguments.overwrite)
    check_size(len(names) * arguments.num_continuations, arguments.length_s, output.parent)
    return paths


def _tell(arguments: argparse.Namespace, text: str, path: Path | None = None) -> None:
    """Write a line to standard error, or with the path of an output to standard output, unless `--quiet` is given."""
    if not arguments.quiet:
        (sys.stdout if path else sys.stderr).write(f"{path.resolve()}: {text}\n" if path else f"{text}\n")


def _continue_one(
    continue_audio: Any, prompt: Prompt, paths: list[Path], arguments: argparse.Namespace, sampling: dict[str, Any]
) -> None:
    """Continue one prompt and write its files."""
    options = {
        "continuation_length_s": arguments.length_s,
        "min_continuation_length_s": 0.0 if arguments.stop_at_end else arguments.length_s,
        "return_full_audio": not arguments.continuation_only,
        "seed": arguments.seed,
    }
    if arguments.stream:
        _stream_one(continue_audio, prompt, paths, arguments, options | {"generate_kwargs": sampling})
        return
    bars = StageBars()
    start = time.perf_counter()
    try:
        results = continue_audio(
            prompt,
            **options,
            num_return_sequences=arguments.num_continuations,
            generate_kwargs=sampling if arguments.quiet else sampling | {"progress": bars},
        )
    finally:
        bars.close()
    elapsed_s = time.perf_counter() - start
    results = [results] if isinstance(results, dict) else results
    made = f"made in {elapsed_s:.1f} s"
    origin = {
        "checkpoint": resolve_checkpoint(arguments.checkpoint),
        "seed": arguments.seed,
        "watermark": arguments.watermark,
    }
    if not paths:
        with tempfile.TemporaryDirectory() as folder:
            (path,) = continue_audio.processor.save_audio(results, Path(folder) / "continuation.wav", **origin)
            sys.stdout.buffer.write(path.read_bytes())
        _tell(arguments, f"{_seconds(results[0]):.2f} s of audio, {made}")
        return
    continue_audio.processor.save_audio(results, paths, **origin)
    for path, result in zip(paths, results, strict=True):
        _tell(arguments, f"{_seconds(result):.2f} s of audio, {made}", path)


def _stream_one(
    continue_audio: Any, prompt: Prompt, paths: list[Path], arguments: argparse.Namespace, options: dict[str, Any]
) -> None:
    """Continue one prompt, and write each chunk to its file or standard output as soon as it is generated."""
    start, rate = time.perf_counter(), continue_audio.processor.sampling_rate
    times, num_samples = [], 0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal num_samples
        for result in continue_audio.stream(prompt, **options):
            times.append(time.perf_counter() - start)
            num_samples += len(result["audio"])
            yield result["audio"]

    pieces = wav_pieces(chunks(), rate, provenance(resolve_checkpoint(arguments.checkpoint), arguments.seed))
    if paths:
        write_wav_pieces(paths[0], pieces)
    else:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    times.append(time.perf_counter() - start)
    first_s = times[min(not arguments.continuation_only, len(times) - 1)]  # of the first chunk after the prompt
    summary = f"{num_samples / rate:.2f} s of audio, the first after {first_s:.2f} s, made in {times[-1]:.1f} s"
    _tell(arguments, summary, *paths)


def _seconds(result: dict[str, Any]) -> float:
    return len(result["audio"]) / result["sampling_rate"]
