# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Evaluation of a checkpoint by all protocols, with the results as JSON and as Markdown for the model card.

`PROTOCOLS` is the table of protocols. Their results are saved, so that an interrupted evaluation resumes.
"""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from audiolm_hf.audio_file_audiolm import write_audio
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.clips import list_clips
from audiolm_hf.data.tokenization import tokenize_recordings
from audiolm_hf.data.tokenizers import load_tokenizers
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.evaluation.metrics.quality import check_quality
from audiolm_hf.evaluation.metrics.spectrograms import save_spectrograms
from audiolm_hf.evaluation.protocols import codec, continuation, likelihood, tokens
from audiolm_hf.evaluation.protocols.continuation import TASKS, ContinuationKind
from audiolm_hf.evaluation.report import Headline, as_text, format_headlines, from_json, join_parts, to_json
from audiolm_hf.files import write_text
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.provenance_audiolm import checkpoint_hash, provenance
from audiolm_hf.run_folder import hold_folder, named_files
from audiolm_hf.threads import set_threads

logger = logging.get_logger(__name__)

TEST_FILE: dict[ContinuationKind, str] = {"speech": "librispeech/test.parquet", "piano": "piano/test.parquet"}
TRAIN_FILES: dict[ContinuationKind, tuple[str, ...]] = {
    "speech": ("librispeech/train.parquet", "ljspeech/train.parquet"),
    "piano": ("piano/train.parquet",),
}
MIDI_FILE = "piano/midi_test.parquet"
NUM_COLOURS = 16  # of a spectrogram, about 60 kB


def kept_result(
    folder: str | Path,
    name: str,
    settings: dict[str, Any],
    inputs: dict[str, dict[str, Path]],
    evaluate: Callable[[], dict[str, Any]],
    overwrite: bool = False,
) -> dict[str, Any]:
    """Return the result of a protocol as read from its JSON file, which an earlier run may have written.

    The result depends on `settings` and on the files `inputs`, see [`~audiolm_hf.run_folder.hold_folder`].
    """
    own = Path(folder) / name
    path = own / "report.json"
    with hold_folder(own, f"evaluate {name}", settings, inputs, overwrite=overwrite) as held:
        if held.done:
            logger.info(f"{path} is of the same checkpoint, data and options; used again.")
        else:
            write_text(path, to_json(evaluate()))
            held.finish(path)
    return from_json(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class CheckpointEvaluation:
    """Settings of the evaluation of a checkpoint in `folder` on the corpora in `data`.

    Results, tokens and pictures are in `results_folder`. `train_minutes` of training audio are for the baselines of
    the tokens, and `train_tokens` for the n-grams; by default the training files are tokenized. With
    `quality`, DistillMOS also scores the continuations.
    """

    folder: Path
    data: Path
    results_folder: Path
    kind: ContinuationKind = "speech"
    num_prompts: int = 24
    num_continuations: int = 4
    quality: bool = False
    num_clips: int = 24
    num_samples: int = 6
    train_minutes: float = 80.0
    train_tokens: Path | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    overwrite: bool = False

    @cached_property
    def model(self) -> AudioLMModel:
        """The checkpoint in float32, loaded on first use."""
        model = AudioLMModel.from_pretrained(self.folder, dtype="float32").eval().to(self.device)
        set_threads(model, self.threads)
        return model

    @property
    def test_paths(self) -> list[Path]:
        """Files of the test recordings."""
        return [self.data / TEST_FILE[self.kind]]

    @property
    def train_paths(self) -> list[Path]:
        """Files of the recordings that the baselines are fitted on."""
        return [self.data / name for name in TRAIN_FILES[self.kind]]

    def source(self, paths: list[Path]) -> AudioSource:
        """Open recordings at the model's sampling rate."""
        return AudioSource(paths, self.model.sampling_rate)

    def run(self, protocols: Sequence[str] | None = None) -> dict[str, Any]:
        """Run some of `PROTOCOLS`, or all, and return their results with hash, settings and versions of libraries."""
        if self.quality:
            check_quality(self.kind)
        chosen = tuple(PROTOCOLS) if protocols is None else protocols
        unknown = set(chosen) - set(PROTOCOLS)
        if unknown:
            raise ValueError(f"There are no protocols {sorted(unknown)}; choose from {', '.join(PROTOCOLS)}.")
        digest = checkpoint_hash(self.folder)
        needed = [*self.test_paths, *(path for name in chosen for path in PROTOCOLS[name].train_files(self))]
        missing = [path for path in needed if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"There is no {missing[0]}; give the folder that holds the corpora as --data.")
        libraries = {name: version(name) for name in ("torch", "transformers", "numpy")}
        return {
            "checkpoint": self.folder.name,
            "checkpoint_sha256": digest,
            "kind": self.kind,
            "seed": self.seed,
            "test_files": [TEST_FILE[self.kind]],
            "versions": {"python": platform.python_version()} | libraries,
            "protocols": {name: self._result(name, digest) for name in PROTOCOLS if name in chosen},
        }

    def _result(self, name: str, digest: str) -> dict[str, Any]:
        protocol = PROTOCOLS[name]
        settings = {"checkpoint": digest, "kind": self.kind, "seed": self.seed}
        return kept_result(
            self.results_folder,
            name,
            settings | {field: getattr(self, field) for field in protocol.settings},
            {"test": named_files(self.test_paths), "train": named_files(protocol.train_files(self))},
            partial(protocol.evaluate, self),
            self.overwrite,
        )


@dataclass(frozen=True)
class CheckpointProtocol:
    """A row of the table of protocols.

    `settings` are the fields of [`CheckpointEvaluation`] that its result depends on, `train_files` the files that its
    baselines are fitted on, and `headlines` returns the rows of the card's first table.
    """

    title: str
    evaluate: Callable[[CheckpointEvaluation], dict[str, Any]]
    format: Callable[[dict[str, Any]], str]
    headlines: Callable[[dict[str, Any]], list[Headline]]
    settings: tuple[str, ...]
    train_files: Callable[[CheckpointEvaluation], list[Path]] = lambda evaluation: []


def _evaluate_codec(evaluation: CheckpointEvaluation) -> dict[str, Any]:
    acoustic_codec = evaluation.model.acoustic_codec
    levels = sorted({evaluation.model.config.num_coarse_codebooks, acoustic_codec.num_codebooks * 2 // 3})
    source = evaluation.source(evaluation.test_paths)
    return codec.evaluate_codec(
        acoustic_codec, source, evaluation.num_clips, num_codebooks=levels, kind=evaluation.kind
    )


def _evaluate_tokens(evaluation: CheckpointEvaluation) -> dict[str, Any]:
    sources = evaluation.source(evaluation.test_paths), evaluation.source(evaluation.train_paths)
    parts = (evaluation.model.semantic_tokenizer, evaluation.model.acoustic_codec, *sources)
    options = (evaluation.train_minutes, evaluation.seed)
    if evaluation.kind == "piano":
        return tokens.evaluate_piano_tokens(*parts, evaluation.data / MIDI_FILE, *options)
    return tokens.evaluate_tokens(*parts, *options)


def _token_files(evaluation: CheckpointEvaluation) -> list[Path]:
    return [*evaluation.train_paths, *([evaluation.data / MIDI_FILE] if evaluation.kind == "piano" else [])]


def _likelihood_files(evaluation: CheckpointEvaluation) -> list[Path]:
    if evaluation.train_tokens is None:
        return evaluation.train_paths
    return sorted(evaluation.train_tokens.glob("*.parquet"))


def _evaluate_likelihood(evaluation: CheckpointEvaluation) -> dict[str, Any]:
    load = partial(load_tokenizers, evaluation.folder, evaluation.folder, device=evaluation.device)

    def tokenized(split: str, paths: list[Path]) -> TokenDataset:
        folder = evaluation.results_folder / "likelihood" / "tokens" / split
        return tokenize_recordings(list_clips(paths), load, folder)

    test = tokenized("test", evaluation.test_paths)
    given = evaluation.train_tokens
    train = tokenized("train", evaluation.train_paths) if given is None else TokenDataset(given)
    stages = {name: stage.to(evaluation.device) for name, stage in likelihood.load_stages([evaluation.folder]).items()}
    return likelihood.evaluate_likelihood(stages, train, test)


def _evaluate_continuation(evaluation: CheckpointEvaluation) -> dict[str, Any]:
    return continuation.evaluate_continuation(
        evaluation.model,
        evaluation.source(evaluation.test_paths),
        evaluation.num_prompts,
        seed=evaluation.seed,
        kind=evaluation.kind,
        num_continuations=evaluation.num_continuations,
        quality=evaluation.quality,
    )


@torch.inference_mode()
def _save_samples(evaluation: CheckpointEvaluation) -> dict[str, Any]:
    """Write prompts with their continuations as MP3 files, and plot each above the real one in a PNG file.

    Returns the names of the PNG `files` in the folder, and of their `recordings`.
    """
    model, task, folder = evaluation.model, TASKS[evaluation.kind], evaluation.results_folder / "samples"
    rate = model.sampling_rate
    boundary = round(task.prompt_length_s * rate)
    end = boundary + round(task.continuation_length_s * rate)
    folder.mkdir(parents=True, exist_ok=True)
    files, recordings = [], []
    source = evaluation.source(evaluation.test_paths)
    for number, record in enumerate(continuation.choose_recordings(source, end, evaluation.num_samples)):
        prompt, seed = record.array[:boundary], evaluation.seed + number
        ((made,),) = continuation.continue_prompts(model, prompt[None], task.continuation_length_s, seed)
        whole = np.concatenate([prompt, made])
        picture = folder / f"sample_{number + 1}.png"
        write_audio(picture.with_suffix(".mp3"), whole, rate, provenance(evaluation.folder, seed))
        arrays = {"prompt | continuation": whole, "prompt | real": record.array[:end]}
        save_spectrograms(arrays, rate, picture, task.prompt_length_s, NUM_COLOURS)
        files.append(picture.name)
        recordings.append(record.id)
    return {"files": files, "recordings": recordings, "seed": evaluation.seed}


def _format_samples(result: dict[str, Any]) -> str:
    """Return the pictures of [`_save_samples`] as Markdown, with links to the audio."""
    named = zip(result["files"], result["recordings"], strict=True)
    return "\n\n".join(
        f"![{recording}](samples/{file})\n[{recording}, audio](samples/{Path(file).stem}.mp3)"
        for file, recording in named
    )


PROTOCOLS = {
    "codec": CheckpointProtocol(
        "Codec", _evaluate_codec, as_text(codec.format_codec), codec.codec_headlines, ("num_clips",)
    ),
    "tokens": CheckpointProtocol(
        "Semantic tokens",
        _evaluate_tokens,
        as_text(tokens.format_tokens),
        tokens.token_headlines,
        ("train_minutes",),
        _token_files,
    ),
    "likelihood": CheckpointProtocol(
        "Likelihood",
        _evaluate_likelihood,
        as_text(likelihood.format_likelihood),
        likelihood.likelihood_headlines,
        (),
        _likelihood_files,
    ),
    "continuation": CheckpointProtocol(
        "Continuation",
        _evaluate_continuation,
        as_text(continuation.format_continuation),
        continuation.continuation_headlines,
        ("num_prompts", "num_continuations", "quality"),
    ),
    "samples": CheckpointProtocol("Examples", _save_samples, _format_samples, lambda result: [], ("num_samples",)),
}


def format_checkpoint(report: dict[str, Any]) -> str:
    """Return the result of [`CheckpointEvaluation.run`] as Markdown for the model card."""
    results = report["protocols"]
    title = (
        f"Checkpoint `{report['checkpoint']}` (SHA-256 {report['checkpoint_sha256'][:12]}), seed {report['seed']}, on "
        f"{', '.join(f'`{name}`' for name in report['test_files'])}."
    )
    headlines = [row for name, result in results.items() for row in PROTOCOLS[name].headlines(result)]
    sections = [f"**{PROTOCOLS[name].title}**\n\n{PROTOCOLS[name].format(result)}" for name, result in results.items()]
    return join_parts([title, format_headlines(headlines), *sections])
