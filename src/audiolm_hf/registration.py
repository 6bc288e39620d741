# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The kinds of checkpoints, and their registration with transformers."""

from typing import Any, NamedTuple

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCausalLM,
    AutoModelForTextToWaveform,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES
from transformers.pipelines import PIPELINE_REGISTRY

from audiolm_hf.acoustic_codec_audiolm import ACOUSTIC_CODECS
from audiolm_hf.acoustic_codec_audiolm import register_acoustic_codec as add_acoustic_codec
from audiolm_hf.bundled import DEFAULT_CHECKPOINT, bundled_folder
from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.configuration_audiolm import AudioLMConfig
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_detector_audiolm import AudioLMDetectorConfig, AudioLMDetectorForAudioClassification
from audiolm_hf.pipeline_audiolm import TASK, AudioContinuationPipeline
from audiolm_hf.processing_audiolm import AudioLMProcessor
from audiolm_hf.semantic_tokenizer_audiolm import SEMANTIC_TOKENIZERS, SemanticTokenizerModel
from audiolm_hf.semantic_tokenizer_audiolm import register_semantic_tokenizer as add_semantic_tokenizer
from audiolm_hf.stages_audiolm import STAGES, Stage
from audiolm_hf.stages_audiolm import register_stage as add_stage


class Part(NamedTuple):
    """One kind of checkpoint: its classes, and the Auto classes of transformers that load it."""

    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]
    auto_models: tuple[Any, ...] = (AutoModel,)
    reads_audio: bool = False


_CLASSIFIER = (AutoModel, AutoModelForAudioClassification)


def _stage_part(stage: Stage) -> Part:
    causal = stage.model_class.can_generate()
    auto_models = (AutoModel, AutoModelForCausalLM) if causal else (AutoModel,)  # PEFT loads causal models by these
    return Part(stage.config_class, stage.model_class, auto_models)


PARTS = (
    Part(AudioLMConfig, AudioLMModel, (AutoModel, AutoModelForTextToWaveform), reads_audio=True),  # as Bark, MusicGen
    *(
        Part(codec.config_class, codec.model_class, reads_audio=True)
        for codec in ACOUSTIC_CODECS.values()
        if codec.model_class is not AutoModel  # which has those of transformers
    ),
    Part(AudioLMDetectorConfig, AudioLMDetectorForAudioClassification, _CLASSIFIER, reads_audio=True),
    *(Part(model.config_class, model, reads_audio=True) for model in SEMANTIC_TOKENIZERS.values()),
    *map(_stage_part, STAGES.values()),
)


def register_stage(stage: Stage) -> None:
    """Add a stage of another package to the table of stages, and its classes to transformers' Auto classes.

    A model whose [`AudioLMConfig`] has a `<stage>_config` then has this stage, which is trained, saved and loaded, and
    generates, like the others.
    """
    add_stage(stage)
    _register_part(_stage_part(stage))


def register_semantic_tokenizer(model_class: type[SemanticTokenizerModel]) -> None:
    """Add a semantic tokenizer of another package to those that an AudioLM can have, and to the Auto classes."""
    add_semantic_tokenizer(model_class)
    _register_part(Part(model_class.config_class, model_class, reads_audio=True))


def register_acoustic_codec(codec_class: type[AcousticCodec]) -> None:
    """Add a codec of another package to those that an AudioLM can have, and its model to the Auto classes."""
    add_acoustic_codec(codec_class)
    if codec_class.model_class is not AutoModel:
        _register_part(Part(codec_class.config_class, codec_class.model_class, reads_audio=True))


def _register_part(part: Part) -> None:
    AutoConfig.register(part.config_class.model_type, part.config_class, exist_ok=True)
    for auto_model in part.auto_models:
        auto_model.register(part.config_class, part.model_class, exist_ok=True)
    if part.reads_audio:
        AutoFeatureExtractor.register(part.config_class, AudioLMFeatureExtractor, exist_ok=True)


def register() -> None:
    """Register the models and the task `audio-continuation` with transformers. Idempotent."""
    for part in PARTS:
        _register_part(part)
    # The pipeline of this task only looks for a model's name here.
    detector = AudioLMDetectorForAudioClassification
    MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES[AudioLMDetectorConfig.model_type] = detector.__name__
    AutoProcessor.register(AudioLMConfig, AudioLMProcessor, exist_ok=True)
    if TASK not in PIPELINE_REGISTRY.supported_tasks:  # a second time would log a warning
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=AudioContinuationPipeline,
            pt_model=(AutoModel,),
            default={"model": (bundled_folder(DEFAULT_CHECKPOINT), "main")},
        )
