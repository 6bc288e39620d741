# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Every figure of a checkpoint in one go: codec, tokens, likelihood, continuation, and examples to look at.

In: a checkpoint's folder and a folder of corpora; out: one dictionary for a JSON file and one Markdown text for the
model card. Each part is kept, so that a stopped evaluation goes on where it was.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.clips import list_clips
from audiolm_hf.data.tokenization import tokenize_recordings
from audiolm_hf.data.tokenizers import load_tokenizers
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.evaluation.protocols.codec import evaluate_codec
from audiolm_hf.evaluation.protocols.continuation import ContinuationKind, evaluate_continuation
from audiolm_hf.evaluation.protocols.likelihood import evaluate_likelihood, load_stages
from audiolm_hf.evaluation.protocols.piano_tokens import evaluate_piano_tokens
from audiolm_hf.evaluation.protocols.samples import save_samples
from audiolm_hf.evaluation.protocols.tokens import evaluate_tokens
from audiolm_hf.evaluation.results import checkpoint_hash, kept_part
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.run_folder import named_files
from audiolm_hf.threads import set_threads

PARTS = ("codec", "tokens", "likelihood", "continuation", "samples")
TEST_FILES: dict[ContinuationKind, tuple[str, ...]] = {
    "speech": ("librispeech/test.parquet",),
    "piano": ("piano/test.parquet",),
}
TRAIN_FILES: dict[ContinuationKind, tuple[str, ...]] = {
    "speech": ("librispeech/train.parquet", "ljspeech/train.parquet"),
    "piano": ("piano/train.parquet",),
}
MIDI_FILE = "piano/midi_test.parquet"


@dataclass(frozen=True)
class CheckpointEvaluation:
    """What is evaluated, on what, and how much of it.

    Args:
        folder (`Path`): of the checkpoint, a whole AudioLM.
        data (`Path`): folder of the corpora; a file of `TEST_FILES` and `TRAIN_FILES` that it lacks is an error.
        parts_folder (`Path`): where parts, alignments, tokens and pictures are kept.
        kind (`"speech"` or `"piano"`, defaults to `"speech"`): what the checkpoint was trained on.
        num_prompts (`int`, defaults to 24): beginnings of recordings that are continued.
        num_continuations (`int`, defaults to 4): of each prompt.
        num_clips (`int`, defaults to 24): recordings that the codec is measured on.
        num_samples (`int`, defaults to 6): pictures.
        train_minutes (`float`, defaults to 80.0): of training audio, for the clusters that the tokens stand beside.
        train_tokens (`Path`, *optional*): token dataset for the n-grams; by default the training files are tokenized.
        seed (`int`, defaults to 0): of everything that is drawn.
        device (`str`, defaults to `"cpu"`): where the models compute.
        threads (`int`, *optional*): on a CPU; by default what suits the model.
        overwrite (`bool`, defaults to `False`): evaluate parts again that are kept of other settings or files.
    """

    folder: Path
    data: Path
    parts_folder: Path
    kind: ContinuationKind = "speech"
    num_prompts: int = 24
    num_continuations: int = 4
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
        """The checkpoint, in float32; loaded when a part first needs it."""
        model = AudioLMModel.from_pretrained(self.folder, dtype="float32").eval().to(self.device)
        set_threads(model, self.threads)
        return model

    @property
    def test_paths(self) -> list[Path]:
        """Recordings to measure on."""
        return [self.data / name for name in TEST_FILES[self.kind]]

    @property
    def train_paths(self) -> list[Path]:
        """Recordings that the yardsticks are fitted on."""
        return [self.data / name for name in TRAIN_FILES[self.kind]]

    @property
    def _likelihood_files(self) -> list[Path]:
        """What the n-grams are fitted on."""
        return self.train_paths if self.train_tokens is None else sorted(self.train_tokens.glob("*.parquet"))

    def run(self, parts: tuple[str, ...] = PARTS) -> dict[str, Any]:
        """Evaluate.

        Args:
            parts (`tuple[str, ...]`): names out of `PARTS`.

        Returns:
            `dict`: the checkpoint's name and hash, the settings, versions of the libraries, and `parts` by name.

        Raises:
            ValueError: a part is not one of `PARTS`.
            FileNotFoundError: the checkpoint or a data file is missing.
        """
        unknown = set(parts) - set(PARTS)
        if unknown:
            raise ValueError(f"There are no parts {sorted(unknown)}; choose from {', '.join(PARTS)}.")
        digest = checkpoint_hash(self.folder)
        needed = [*self.test_paths, *self.train_paths]
        if self.kind == "piano":
            needed.append(self.data / MIDI_FILE)
        missing = [path for path in needed if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"There is no {missing[0]}; give the folder that holds the corpora as --data.")
        steps: dict[str, tuple[dict[str, Any], list[Path], Callable[[], dict[str, Any]]]] = {
            "codec": ({"num_clips": self.num_clips}, [], self._codec),
            "tokens": ({"minutes": self.train_minutes}, self.train_paths, self._tokens),
            "likelihood": ({}, self._likelihood_files, self._likelihood),
            "continuation": (
                {"num_prompts": self.num_prompts, "num_continuations": self.num_continuations},
                [],
                self._continuation,
            ),
            "samples": ({"num_samples": self.num_samples}, [], self._samples),
        }
        common = {"checkpoint": digest, "kind": self.kind, "seed": self.seed}
        return {
            "checkpoint": self.folder.name,
            "checkpoint_sha256": digest,
            "kind": self.kind,
            "seed": self.seed,
            "test_files": list(TEST_FILES[self.kind]),
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "transformers", "numpy")},
            "parts": {
                name: kept_part(
                    self.parts_folder,
                    name,
                    common | settings,
                    {"test": named_files(self.test_paths), "train": named_files(train)},
                    evaluate,
                    self.overwrite,
                )
                for name, (settings, train, evaluate) in steps.items()
                if name in parts
            },
        }

    def _source(self, paths: list[Path]) -> AudioSource:
        return AudioSource(paths, self.model.sampling_rate)

    def _codec(self) -> dict[str, Any]:
        codec = self.model.acoustic_codec
        levels = sorted({self.model.config.coarse_config.num_coarse_codebooks, codec.num_codebooks * 2 // 3})
        return evaluate_codec(
            codec, self._source(self.test_paths), self.num_clips, num_codebooks=levels, kind=self.kind
        )

    def _tokens(self) -> dict[str, Any]:
        parts = (
            self.model.semantic_tokenizer,
            self.model.acoustic_codec,
            self._source(self.test_paths),
            self._source(self.train_paths),
        )
        if self.kind == "piano":
            return evaluate_piano_tokens(*parts, self.data / MIDI_FILE, self.train_minutes, self.seed)
        return evaluate_tokens(*parts, self.parts_folder / "alignments", self.train_minutes, self.seed)

    def _likelihood(self) -> dict[str, Any]:
        load = partial(load_tokenizers, self.folder, self.folder, device=self.device)
        folder = self.parts_folder / "likelihood" / "tokens"
        tokens: dict[str, TokenDataset] = {}
        for split, paths in (("train", self.train_paths), ("test", self.test_paths)):
            if split == "train" and self.train_tokens is not None:
                tokens[split] = TokenDataset(self.train_tokens)
                continue
            made = tokenize_recordings(list_clips(paths), load, folder / split)
            tokens[split] = TokenDataset(folder / split) if made is None else made
        stages = {name: stage.to(self.device) for name, stage in load_stages([self.folder]).items()}
        return evaluate_likelihood(stages, tokens["train"], tokens["test"])

    def _continuation(self) -> dict[str, Any]:
        source = self._source(self.test_paths)
        counts = {"num_prompts": self.num_prompts, "num_continuations": self.num_continuations}
        return evaluate_continuation(self.model, source, seed=self.seed, kind=self.kind, **counts)

    def _samples(self) -> dict[str, Any]:
        folder = self.parts_folder / "samples"
        return save_samples(self.model, self._source(self.test_paths), folder, self.num_samples, self.seed, self.kind)


__all__ = ["PARTS", "TEST_FILES", "TRAIN_FILES", "CheckpointEvaluation"]
