# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Assemble trained parts into one AudioLM checkpoint: model, processor and generation defaults in one folder.

Weights can be stored in float16, and the matrices of the stages in float8. They are loaded in float32, and the effect
on tokens is measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.loading import (
    float8_matrices,
    float16_tensors,
    load_codec,
    load_semantic_tokenizer,
    require_model_type,
)
from audiolm_hf.equalizer_audiolm import measure_spectrum
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.files import fill_folder, write_json
from audiolm_hf.generation_config_audiolm import AudioLMGenerationConfig
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.processing_audiolm import AudioLMProcessor
from audiolm_hf.progress import progress_bar
from audiolm_hf.semantic_tokenizer_audiolm import SEMANTIC_TOKENIZERS
from audiolm_hf.settings import FILLED, InputPath, OutputPath, Positive, Settings, Text, Use
from audiolm_hf.stages_audiolm import STAGES
from audiolm_hf.training.config import check_model_keys, ordered_stages
from audiolm_hf.training.run import one_run

NUM_CHECK_CLIPS = 8  # recordings on which tokens are compared
CHECK_LENGTH_S = 10.0  # of each recording
EXCERPT_S, EXCERPTS_PER_RECORDING = 4.0, 2  # whose spectrum is measured


@dataclass
class AssembleConfig(Settings):
    """Configuration of the assembly of a checkpoint."""

    semantic_tokenizer: InputPath  # folder of the semantic tokenizer
    codec: InputPath  # folder of the codec
    stages: Annotated[dict[str, InputPath], FILLED]  # folders of the stages by name; the checkpoint only has these
    output_folder: OutputPath  # folder of the checkpoint
    float16: bool = True  # store weights in float16, except centroids and codebooks
    float8_stages: bool = False  # store the matrices of the stages in float8 (e4m3)
    max_megabytes: Positive | None = None  # largest allowed size of the checkpoint, in 10^6 bytes
    # fields of [`AudioLMGenerationConfig`] that differ from its defaults
    generation: dict[str, Any] = field(default_factory=dict)
    # recordings like the training data, to whose spectrum prompts are brought, see [`AudioLMConfig`]
    spectrum_data: list[InputPath] = field(default_factory=list)
    # recordings on which tokens before and after storing are compared
    check_data: Annotated[list[Text], Use.FREE] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stages = ordered_stages(self.stages)
        for kind in ("semantic", "coarse"):
            if not any(kind in STAGES[name].config_class.layout.predicted for name in self.stages):
                raise ValueError(f"stages has {', '.join(self.stages)}, none of which predicts {kind} tokens; add it.")
        build = partial(AudioLMGenerationConfig, **self.generation)
        check_model_keys("generation", self.generation, AudioLMGenerationConfig.option_names(), build)


@one_run("assemble", alone=True)
def assemble(config: AssembleConfig) -> None:
    """Assemble and save a checkpoint.

    `<folder name>-assemble.json` next to it has the `bytes` of all files, the `parameters` of each part and, with
    `check_data`, `equal_semantic_tokens` and `equal_audio_codes`, the shares of these that storing does not change.
    """
    require_model_type(config.semantic_tokenizer, SEMANTIC_TOKENIZERS, "semantic_tokenizer")
    for name, folder in config.stages.items():
        require_model_type(folder, STAGES[name].config_class.model_type, f"stages.{name}")
    output = Path(config.output_folder)
    fill_folder(output, partial(_write_checkpoint, config, output.with_name(f"{output.name}-assemble.json")))


def _write_checkpoint(config: AssembleConfig, report_path: Path, folder: Path) -> None:
    model = load_parts(config)
    tensors = float16_tensors(model) if config.float16 else model.state_dict()
    if config.float8_stages:
        tensors = float8_matrices(tensors, config.stages)
    model.save_pretrained(folder, state_dict=tensors)
    AudioLMProcessor(AudioLMFeatureExtractor(sampling_rate=model.sampling_rate)).save_pretrained(folder)
    report: dict[str, Any] = {
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "parameters": {name: part.num_parameters() for name, part in model.named_children()},
    }
    megabytes = report["bytes"] / 1e6
    if config.max_megabytes is not None and megabytes > config.max_megabytes:
        raise ValueError(f"The checkpoint has {megabytes:.2f} MB; max_megabytes is {config.max_megabytes}.")
    if config.check_data:
        report |= compare_tokens(load_parts(config), folder, config)
    write_json(report_path, report)


def load_parts(config: AssembleConfig) -> AudioLMModel:
    """Load the trained parts in float32 and build the model."""
    model = AudioLMModel.from_parts(
        semantic_tokenizer=load_semantic_tokenizer(config.semantic_tokenizer),
        codec=load_codec(config.codec).model,
        **{
            name: STAGES[name].model_class.from_pretrained(folder, dtype="float32")
            for name, folder in config.stages.items()
        },
    )
    model.generation_config = AudioLMGenerationConfig(**config.generation).for_stages(config.stages)
    if config.spectrum_data:
        excerpts = _excerpts(config.spectrum_data, model.sampling_rate)
        levels = measure_spectrum(excerpts, model.sampling_rate)
        model.config.spectrum_db, model.config.spectrum_std_db = levels
    return model


def _excerpts(paths: list[str], sampling_rate: int) -> Iterator[torch.Tensor]:
    """Draw excerpts, as long as a prompt, from random places of each recording."""
    source, rng = AudioSource([Path(path) for path in paths], sampling_rate), np.random.default_rng(0)
    length = round(EXCERPT_S * sampling_rate)
    for record in progress_bar(source, desc="spectra", unit="recording"):
        for _ in range(EXCERPTS_PER_RECORDING):
            start = int(rng.integers(max(0, len(record.array) - length) + 1))
            yield torch.from_numpy(record.array[start : start + length])


@torch.inference_mode()
def compare_tokens(original: AudioLMModel, folder: Path, config: AssembleConfig) -> dict[str, float]:
    """Return the shares of tokens and codes of the check data that storing the model does not change."""
    stored = AudioLMModel.from_pretrained(folder).eval()
    source = AudioSource([Path(path) for path in config.check_data], original.sampling_rate)
    length = round(CHECK_LENGTH_S * original.sampling_rate)
    equal: dict[str, list[torch.Tensor]] = {"equal_semantic_tokens": [], "equal_audio_codes": []}
    for place in range(min(NUM_CHECK_CLIPS, len(source))):
        clip = torch.from_numpy(source[place].array[:length])[None]
        tokens = [
            model.semantic_tokenizer.tokenize(clip, sampling_rate=model.sampling_rate).semantic_tokens
            for model in (original, stored)
        ]
        codes = [model.acoustic_codec.encode(clip) for model in (original, stored)]
        equal["equal_semantic_tokens"].append((tokens[0] == tokens[1]).flatten())
        equal["equal_audio_codes"].append((codes[0] == codes[1]).flatten())
    return {name: float(torch.cat(found).float().mean()) for name, found in equal.items()}
