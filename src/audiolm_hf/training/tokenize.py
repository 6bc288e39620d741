# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf tokenize` as a step of a recipe: the training and validation recordings become token datasets.

After codec and semantic tokenizer are trained, before the stages are. AudioLM (arXiv 2209.03143), the two tokenizers.
"""

from dataclasses import dataclass
from pathlib import Path

from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.loading import load_codec, load_semantic_tokenizer, round_to_float16_
from audiolm_hf.data.tokens import tokenize_recordings
from audiolm_hf.training.config import AudioDataConfig


@dataclass
class TokenizeConfig:
    """What `audiolm-hf train` needs to turn recordings into tokens.

    Args:
        data ([`AudioDataConfig`]): the recordings.
        semantic_tokenizer (`str`): folder of the semantic tokenizer.
        codec (`str`): folder of the codec.
        output_folder (`str`): receives the token datasets `train` and, where there is such data, `validation`.
        float16 (`bool`, defaults to `False`): round the tokenizers' weights to float16 first, as `assemble` stores
            them.
        min_duration_s (`float`, defaults to 0.1): leave out shorter recordings, in seconds.
    """

    data: AudioDataConfig
    semantic_tokenizer: str
    codec: str
    output_folder: str
    float16: bool = False
    min_duration_s: float = 0.1


def tokenize(config: TokenizeConfig) -> Path:
    """Turn recordings into token datasets; what an earlier run has finished is kept.

    Args:
        config ([`TokenizeConfig`]): everything.

    Returns:
        `Path`: the folder of the datasets.
    """
    codec = load_codec(config.codec)
    semantic_tokenizer = load_semantic_tokenizer(config.semantic_tokenizer)
    if config.float16:
        round_to_float16_(codec.model)
        round_to_float16_(semantic_tokenizer)
    output = Path(config.output_folder)
    for name, paths in (("train", config.data.train_paths), ("validation", config.data.validation_paths)):
        if paths:
            source = AudioSource(paths, codec.sampling_rate, config.min_duration_s)
            tokenize_recordings(source, semantic_tokenizer, codec, output / name)
    return output


__all__ = ["TokenizeConfig", "tokenize"]
