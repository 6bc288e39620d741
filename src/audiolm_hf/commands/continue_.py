# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf continue`: continue sound files, and write prompt + continuation to sound files."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from audiolm_hf.bundled import DEFAULT_CHECKPOINT, example_prompt, resolve_checkpoint


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "continue",
        help="continue a sound file",
        description="Continue sound files and write what was given and what was made into one file each.",
    )
    parser.add_argument("prompts", nargs="*", metavar="prompt", help="sound files; by default a bundled example")
    parser.add_argument("-o", "--output", type=Path, default=Path("continuation.wav"), help=_OUTPUT_HELP)
    parser.add_argument("--length-s", type=float, default=7.0, help="seconds to add (default 7)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same samples (default 0)")
    parser.add_argument(
        "--checkpoint",
        default=DEFAULT_CHECKPOINT,
        help=f"name of a bundled checkpoint, folder or user/name on the Hub (default {DEFAULT_CHECKPOINT})",
    )
    parser.add_argument("--num-continuations", type=int, default=1, help="continuations of each prompt (default 1)")
    parser.add_argument("--stop-at-end", action="store_true", help="let the model end before --length-s")
    parser.add_argument("--continuation-only", action="store_true", help="write the continuation without its prompt")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--device", help="such as cpu or cuda:0; by default a GPU if there is one")
    parser.set_defaults(run=run)


_OUTPUT_HELP = (
    "file to write, .wav, .flac or .ogg (default continuation.wav); with several prompts or continuations the "
    "prompt's name and the number of the continuation are added to it"
)


class StageBars:
    """One progress bar for each stage, with its rate and the time left.

    Called by `AudioLMModel.generate` as `progress(stage, done, total)`.
    """

    def __init__(self) -> None:
        self.stage: str | None = None
        self.bar: tqdm | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of `stage` are made."""
        if stage != self.stage:
            self.close()
            self.stage, self.bar = stage, tqdm(desc=f"{stage:>8}", total=total, unit="step", leave=True)
        if self.bar is not None:
            self.bar.total = total
            self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Leave the current bar on the screen as it is."""
        if self.bar is not None:
            self.bar.close()


def output_paths(output: Path, prompts: list[str], num_continuations: int) -> list[list[Path]]:
    """Name the files to write: one list for each prompt, one path for each of its continuations.

    Args:
        output (`Path`): what the user asked for.
        prompts (`list[str]`): the prompts' paths.
        num_continuations (`int`): continuations of each.

    Returns:
        `list[list[Path]]`.

    Raises:
        ValueError: if two prompts have the same name, so that their files would, too.
    """
    stems = [Path(prompt).stem for prompt in prompts]
    if len(set(stems)) < len(stems):
        raise ValueError(f"Two prompts have the same name ({', '.join(stems)}); continue them one by one.")
    names = [f"-{stem}" if len(prompts) > 1 else "" for stem in stems]
    numbers = [f"-{number}" if num_continuations > 1 else "" for number in range(1, num_continuations + 1)]
    return [[output.with_stem(output.stem + name + number) for number in numbers] for name in names]


def check_paths(paths: list[list[Path]], overwrite: bool) -> None:
    """Refuse before the work what could not be written after it."""
    from audiolm_hf.audio_file_audiolm import check_ending

    for path in (path for row in paths for path in row):
        check_ending(path)
        if path.exists() and not overwrite:
            raise ValueError(f"{path} is there already; give another --output, or --overwrite to replace it.")
        if not path.parent.is_dir():
            raise ValueError(f"The folder {path.parent} of the output is not there; make it first.")


def load(checkpoint: str, device: str | None) -> Any:
    """Load the pipeline of a bundled checkpoint, a folder or a Hub name."""
    from audiolm_hf import pipeline

    return pipeline(model=resolve_checkpoint(checkpoint), device=device)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    if arguments.num_continuations < 1:
        raise ValueError(f"--num-continuations is {arguments.num_continuations}; give 1 or more.")
    prompts = arguments.prompts or [example_prompt(arguments.checkpoint)]
    paths = output_paths(arguments.output, prompts, arguments.num_continuations)
    check_paths(paths, arguments.overwrite)
    continue_audio = load(arguments.checkpoint, arguments.device)
    for prompt, row in zip(prompts, paths, strict=True):
        _continue_one(continue_audio, prompt, row, arguments)
    return 0


def _continue_one(continue_audio: Any, prompt: str, paths: list[Path], arguments: argparse.Namespace) -> None:
    """Continue one prompt and write its files."""
    bars = StageBars()
    start = time.perf_counter()
    try:
        results = continue_audio(
            prompt,
            continuation_length_s=arguments.length_s,
            min_continuation_length_s=0.0 if arguments.stop_at_end else arguments.length_s,
            num_return_sequences=arguments.num_continuations,
            return_full_audio=not arguments.continuation_only,
            seed=arguments.seed,
            generate_kwargs={"progress": bars},
        )
    finally:
        bars.close()
    elapsed_s = time.perf_counter() - start
    results = [results] if isinstance(results, dict) else results
    continue_audio.processor.save_audio(results, paths, checkpoint=arguments.checkpoint, seed=arguments.seed)
    for path, result in zip(paths, results, strict=True):
        length_s = len(result["audio"]) / result["sampling_rate"]
        sys.stdout.write(f"{path.resolve()}: {length_s:.2f} s of audio, made in {elapsed_s:.1f} s\n")


__all__ = ["StageBars", "add_parser", "check_paths", "load", "output_paths", "run"]
