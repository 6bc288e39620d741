# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf tokenize` as a step of a recipe: token datasets of the training and validation recordings."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from audiolm_hf.data.audio import Speed
from audiolm_hf.data.clips import list_clips
from audiolm_hf.data.tokenization import TokenizationPlan, tokenize_recordings
from audiolm_hf.data.tokenizers import load_tokenizers
from audiolm_hf.settings import InputPath, OutputPath, Settings, Use
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.processes import training_device
from audiolm_hf.training.run import one_run


@dataclass
class TokenizeConfig(Settings):
    """Configuration of tokenization."""

    data: AudioDataConfig  # the recordings
    semantic_tokenizer: InputPath  # folder of the semantic tokenizer
    codec: InputPath  # folder of the codec
    output_folder: OutputPath  # folder for the token datasets `train` and, if there is validation data, `validation`
    speed: Speed = 1.0  # speed factor of the training recordings, for more voices
    float16: bool = False  # round the tokenizers' weights to float16 first, as `assemble` stores them
    use_cpu: Annotated[bool, Use.FREE] = False  # use the CPU even if there is an accelerator


@one_run("tokenize", alone=True, shared=True)
def tokenize(config: TokenizeConfig) -> None:
    """Tokenize recordings; shards of an earlier run are kept."""
    device = training_device(config.use_cpu)
    load = partial(load_tokenizers, config.semantic_tokenizer, config.codec, config.float16, device)
    output = Path(config.output_folder)
    for name, paths, speed in (
        ("train", config.data.train_paths, config.speed),
        ("validation", config.data.validation_paths, 1.0),
    ):
        if paths:
            tokenize_recordings(list_clips(paths), load, output / name, TokenizationPlan(speed=speed))
