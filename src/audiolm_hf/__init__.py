# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""AudioLM (arXiv 2209.03143) on transformers: continue audio from a short prompt, and train every part.

Importing the package registers its models with transformers' Auto classes and the task "audio-continuation" with
`transformers.pipeline`; it changes nothing else.
"""

import audiolm_hf.compat_audiolm  # noqa: F401 # first: it refuses other versions of torch and transformers in one sentence
from audiolm_hf.acoustic_codec_audiolm import build_acoustic_codec
from audiolm_hf.audio_file_audiolm import read_audio, write_audio
from audiolm_hf.bundled import checkpoint, example_prompt, list_checkpoints
from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.configuration_audiolm import (
    AudioLMCoarseConfig,
    AudioLMConfig,
    AudioLMFineConfig,
    AudioLMParallelConfig,
    AudioLMSemanticConfig,
    AudioLMSemanticTokenizerConfig,
    SoundStreamConfig,
)
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.generation_audiolm import AudioLMGenerateOutput
from audiolm_hf.generation_config_audiolm import AudioLMGenerationConfig
from audiolm_hf.hub import add_code, export_checkpoint, pipeline, push_checkpoint
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_detector_audiolm import AudioLMDetectorConfig, AudioLMDetectorForAudioClassification
from audiolm_hf.modeling_parallel_audiolm import AudioLMParallelModel
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.pipeline_audiolm import AudioContinuationPipeline
from audiolm_hf.processing_audiolm import AudioLMProcessor
from audiolm_hf.provenance_audiolm import VERSION, read_provenance
from audiolm_hf.registration import register, register_acoustic_codec, register_semantic_tokenizer, register_stage
from audiolm_hf.stages_audiolm import Stage
from audiolm_hf.streamer_audiolm import AudioIteratorStreamer
from audiolm_hf.token_layout_audiolm import AudioLMStageCollator, build_stage_example

__version__ = VERSION

register()

__all__ = [
    "AcousticCodec",
    "AudioContinuationPipeline",
    "AudioIteratorStreamer",
    "AudioLMCoarseConfig",
    "AudioLMCoarseModel",
    "AudioLMConfig",
    "AudioLMDetectorConfig",
    "AudioLMDetectorForAudioClassification",
    "AudioLMFeatureExtractor",
    "AudioLMFineConfig",
    "AudioLMFineModel",
    "AudioLMGenerateOutput",
    "AudioLMGenerationConfig",
    "AudioLMModel",
    "AudioLMParallelConfig",
    "AudioLMParallelModel",
    "AudioLMProcessor",
    "AudioLMSemanticConfig",
    "AudioLMSemanticModel",
    "AudioLMSemanticTokenizer",
    "AudioLMSemanticTokenizerConfig",
    "AudioLMStageCollator",
    "SoundStreamConfig",
    "SoundStreamModel",
    "Stage",
    "add_code",
    "build_acoustic_codec",
    "build_stage_example",
    "checkpoint",
    "example_prompt",
    "export_checkpoint",
    "list_checkpoints",
    "pipeline",
    "push_checkpoint",
    "read_audio",
    "read_provenance",
    "register_acoustic_codec",
    "register_semantic_tokenizer",
    "register_stage",
    "write_audio",
]
