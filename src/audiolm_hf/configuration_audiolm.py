# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Configurations of the semantic tokenizer, and of the whole, which composes it with a codec and stages.

Rates and sizes such as `hop_length` are derived from integers, never stored, so that two files cannot disagree.

Paper: AudioLM (arXiv 2209.03143).
"""

import math
from collections.abc import Collection
from typing import Any, ClassVar

from transformers import AutoConfig, DacConfig, EncodecConfig, MimiConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .config_values_audiolm import COUNT, LAYERS, RATE, SHARE, Within
from .configuration_parallel_audiolm import AudioLMParallelConfig
from .configuration_soundstream_audiolm import SoundStreamConfig
from .configuration_stage_audiolm import (
    SEMANTIC_LEVEL,
    AudioLMCoarseConfig,
    AudioLMFineConfig,
    AudioLMSemanticConfig,
    AudioLMStageConfig,
)
from .equalizer_audiolm import check_bands
from .strict_config_audiolm import StrictConfig, check_foreign_config, check_plain, checked, strict

CODECS: dict[str, type[PreTrainedConfig]] = {  # by model_type; acoustic_codec_audiolm adds others
    config_class.model_type: config_class for config_class in (SoundStreamConfig, EncodecConfig, DacConfig, MimiConfig)
}
WAVEFORM_ENCODERS = (
    *("data2vec-audio", "hubert", "sew", "sew-d", "unispeech", "unispeech-sat", "wav2vec2", "wav2vec2-conformer"),
    "wavlm",
)
SPECTRUM_ENCODER = "wav2vec2-bert"
NUM_MEL_BINS = 80  # of that encoder's input
STACKED_FRAMES = 2  # log-mel frames that are stacked in one encoder frame


def _require_known(part: str, model_type: Any, known: Collection[str], register: str) -> None:
    if model_type not in known:
        usable = ", ".join(known)
        raise ValueError(
            f"The {part} has model_type {model_type!r}; use one of {usable}, or register its class ({register})."
        )


def sampling_rate_of(config: PreTrainedConfig) -> int:
    """Return the samples per second of a codec's audio, Hz, which transformers has under one of two names."""
    return config.sampling_rate if hasattr(config, "sampling_rate") else config.sample_rate


def require_usable_codec(config: PreTrainedConfig) -> None:
    """Check that a codec fits the interface [`~codec_interface_audiolm.AcousticCodec`]."""
    _require_known("codec", config.model_type, CODECS, "register_acoustic_codec")
    if config.model_type == "encodec" and (config.audio_channels != 1 or config.normalize):
        raise ValueError(
            f"EncodecConfig has audio_channels = {config.audio_channels} and normalize = {config.normalize}; use a "
            "mono model without normalization, such as facebook/encodec_24khz."
        )


@strict
class SemanticTokenizerConfig(StrictConfig):
    """Base of the configurations of semantic tokenizers, see [`SemanticTokenizerModel`]; they have a `hop_length`.

    Args:
        sampling_rate (`int`, defaults to 16000): Hz, of the audio that the tokenizer takes; other audio is resampled.
        num_semantic_tokens (`int`, defaults to 1024): different tokens.
    """

    sampling_rate: int = checked(16000, RATE, trained=True)
    num_semantic_tokens: int = checked(1024, COUNT, trained=True)
    initializer_range: float | int = checked(0.02, SHARE)

    @property
    def hop_length(self) -> int:
        """Audio samples per semantic token."""
        raise NotImplementedError(f"{type(self).__name__} has no hop_length, the audio samples per semantic token.")

    @property
    def semantic_frame_rate(self) -> float:
        """Semantic tokens per second before any removal of repeats, Hz."""
        return self.sampling_rate / self.hop_length


@strict
class AudioLMSemanticTokenizerConfig(SemanticTokenizerConfig):
    """Configuration of [`AudioLMSemanticTokenizer`]: a layer of a speech encoder, normalized, quantized by k-means.

    Args:
        encoder_config (`PreTrainedConfig` or `dict`): a speech encoder of transformers with one frame per fixed step
            of audio of any length: Wav2Vec2Bert, HuBERT, wav2vec 2.0, Wav2Vec2Conformer, WavLM, Data2VecAudio,
            UniSpeech, UniSpeechSat, SEW or SEW-D. Defaults to Wav2Vec2Bert.
        sampling_rate (`int`, defaults to 16000): Hz, of the audio that the encoder was trained on.
        layer (`int`, defaults to 7): entry of the encoder's `hidden_states` to quantize; 0 is its input (AudioLM:
            layer 7 of the masked-language-model module).
        num_semantic_tokens (`int`, defaults to 1024): k-means centroids (K of the paper).
        pooling (`int`, defaults to 2): encoder frames averaged into one token; 2 turns 50 Hz into the paper's 25 Hz.
    """

    model_type = "audiolm_semantic_tokenizer"
    sub_configs_defaults: ClassVar[dict] = {
        "encoder_config": SubConfigSpec(config_class=AutoConfig, model_type="wav2vec2-bert")
    }

    encoder_config: dict | PreTrainedConfig | None = None
    layer: int = checked(7, LAYERS, trained=True)
    pooling: int = checked(2, Within(1, 1000, whole=True), trained=True)

    def validate_quantization(self) -> None:
        """Check that the encoder can be used and has the layer."""
        self._validate_encoder()
        layers = Within(0, self.encoder_config.num_hidden_layers, whole=True)
        layers.check("AudioLMSemanticTokenizerConfig.layer", self.layer, ", the layers of the encoder")

    def _validate_encoder(self) -> None:
        kind = self.encoder_config.model_type
        if kind in WAVEFORM_ENCODERS:
            return
        if kind != SPECTRUM_ENCODER:
            raise ValueError(
                f"AudioLMSemanticTokenizerConfig.encoder_config has model_type {kind!r}; tokens need an encoder with "
                "one frame per fixed step of audio of any length (Whisper takes 30 s at once, AST makes patches of a "
                f"spectrogram). Use one of {', '.join((SPECTRUM_ENCODER, *WAVEFORM_ENCODERS))}."
            )
        if self.encoder_config.feature_projection_input_dim != STACKED_FRAMES * NUM_MEL_BINS:
            raise ValueError(
                f"encoder_config.feature_projection_input_dim is {self.encoder_config.feature_projection_input_dim}; "
                f"its input is {STACKED_FRAMES} frames of {NUM_MEL_BINS} mel bins, so give "
                f"{STACKED_FRAMES * NUM_MEL_BINS}."
            )
        if self.sampling_rate % 200:
            raise ValueError(
                f"AudioLMSemanticTokenizerConfig.sampling_rate is {self.sampling_rate}; {kind} takes spectra of 25 ms "
                "every 10 ms, so give a multiple of 200 Hz. Audio may have another rate: it is resampled."
            )

    @property
    def encoder_hop_length(self) -> int:
        """Audio samples per encoder frame."""
        if hasattr(self.encoder_config, "conv_stride"):
            # SEW averages frames before its layers
            return math.prod(self.encoder_config.conv_stride) * getattr(self.encoder_config, "squeeze_factor", 1)
        return self.sampling_rate // 50  # log-mel spectra every 10 ms, stacked in pairs (w2v-BERT 2.0)

    @property
    def hop_length(self) -> int:
        """Audio samples per semantic token."""
        return self.encoder_hop_length * self.pooling


@strict
class AudioLMConfig(StrictConfig):
    r"""The two tokenizers and the stages of one AudioLM; checked to agree with each other.

    Audio comes in and goes out at the codec's sampling rate; the semantic tokenizer may have another one.

    Args:
        semantic_tokenizer_config ([`AudioLMSemanticTokenizerConfig`] or `dict`): or that of another tokenizer that was
            registered, by its `model_type`.
        codec_config ([`SoundStreamConfig`], `EncodecConfig`, `DacConfig`, `MimiConfig` or `dict`): or that of another
            codec that was registered, by its `model_type`.
        semantic_config ([`AudioLMSemanticConfig`] or `dict`): of the semantic stage.
        coarse_config ([`AudioLMCoarseConfig`] or `dict`): left out, it has its defaults, unless another stage is given
            that predicts codes from semantic tokens.
        fine_config ([`AudioLMFineConfig`] or `dict`, *optional*): left out, there is no fine stage.
        parallel_config ([`AudioLMParallelConfig`] or `dict`, *optional*): instead of the coarse stage, or in addition
            (see `acoustic_mode` of [`AudioLMGenerationConfig`]); left out, there is no parallel stage.
        loudness_db (`float`, defaults to -24.0): loudness of the training data, to which prompts are brought before
            they are tokenized: RMS of the frames that are not pauses, dB relative to full scale.
        spectrum_db (`list[float]`, *optional*): level of each of 19 bands of the training data's long-term spectrum,
            which prompts are brought to before they are tokenized, see [`~equalizer_audiolm.measure_spectrum`]; none
            leaves their spectrum as it is.
        spectrum_std_db (`list[float]`, *optional*): differences from these levels that are left.
    """

    model_type = "audiolm"
    _semantic_tokenizers: ClassVar[dict[str, type[SemanticTokenizerConfig]]] = {
        AudioLMSemanticTokenizerConfig.model_type: AudioLMSemanticTokenizerConfig
    }
    sub_configs_defaults: ClassVar[dict] = {
        "semantic_tokenizer_config": SubConfigSpec(config_class=AudioLMSemanticTokenizerConfig),
        "codec_config": SubConfigSpec(config_class=SoundStreamConfig),
        "semantic_config": SubConfigSpec(config_class=AudioLMSemanticConfig),
        "coarse_config": SubConfigSpec(config_class=AudioLMCoarseConfig, optional=True),
        "fine_config": SubConfigSpec(config_class=AudioLMFineConfig, optional=True),
        "parallel_config": SubConfigSpec(config_class=AudioLMParallelConfig, optional=True),
    }

    semantic_tokenizer_config: dict | PreTrainedConfig | None = None
    codec_config: dict | PreTrainedConfig | None = None
    semantic_config: dict | PreTrainedConfig | None = None
    coarse_config: dict | PreTrainedConfig | None = None
    fine_config: dict | PreTrainedConfig | None = None
    parallel_config: dict | PreTrainedConfig | None = None
    loudness_db: float | int = checked(-24.0, Within(-60, 0))
    spectrum_db: list[float | int] | tuple[float | int, ...] | None = checked(None, Within(-200, 200))
    spectrum_std_db: list[float | int] | tuple[float | int, ...] | None = checked(None, Within(0, 200))
    initializer_range: float | int = checked(0.02, SHARE)

    def __post_init__(self, **kwargs: Any) -> None:
        tokenizers = self._semantic_tokenizers
        for name, kind, known, register in (
            ("semantic_tokenizer_config", "semantic tokenizer", tokenizers, "register_semantic_tokenizer"),
            ("codec_config", "codec", CODECS, "register_acoustic_codec"),
        ):
            if isinstance(getattr(self, name), dict):
                fields = dict(getattr(self, name))
                check_plain("AudioLMConfig", {name: fields})
                model_type = fields.pop("model_type", self.sub_configs_defaults[name].config_class.model_type)
                _require_known(kind, model_type, known, register)
                config: Any = known[model_type](**fields)
                if not hasattr(config, "trained_values"):
                    check_foreign_config(f"AudioLMConfig.{name}", config, fields)
                setattr(self, name, config)
        stages = self._stage_classes()
        for name in stages:
            setattr(self, name, kwargs.pop(name, getattr(self, name)))
        if all(getattr(self, name) is None for name, part in stages.items() if "coarse" in part.layout.predicted):
            self.coarse_config = {}
        super().__post_init__(**kwargs)

    @classmethod
    def add_semantic_tokenizer(cls, config_class: type[SemanticTokenizerConfig]) -> None:
        """Allow tokenizers of a class; see [`~semantic_tokenizer_audiolm.register_semantic_tokenizer`]."""
        cls._semantic_tokenizers[config_class.model_type] = config_class

    @classmethod
    def _stage_classes(cls) -> dict[str, type[AudioLMStageConfig]]:
        parts = {name: spec.config_class for name, spec in cls.sub_configs_defaults.items()}
        return {name: part for name, part in parts.items() if hasattr(part, "layout")}

    @classmethod
    def add_stage(cls, config_class: type[AudioLMStageConfig]) -> None:
        """Allow a part `<stage>_config` of a class; see [`~stages_audiolm.register_stage`]."""
        name = f"{config_class.stage}_config"
        if name not in cls.sub_configs_defaults:
            cls.sub_configs_defaults[name] = SubConfigSpec(config_class=config_class, optional=True)
            setattr(cls, name, None)

    @property
    def keys_to_ignore_at_inference(self) -> list[str]:
        """What the model returns in addition to its predictions."""
        return [f"{name}_loss" for name in self.stage_configs]

    @property
    def num_codebooks(self) -> int:
        """Leading levels of the codec that the stages model."""
        return max(stage.num_stage_codebooks for stage in self.stage_configs.values())

    @property
    def num_coarse_codebooks(self) -> int:
        """Levels that count as coarse; equal in all stages."""
        stages = self.stage_configs.values()
        return next(stage.num_coarse_codebooks for stage in stages if "coarse" in stage.layout.predicted)

    @property
    def sampling_rate(self) -> int:
        """Samples per second of the audio that goes in and comes out, Hz."""
        return sampling_rate_of(self.codec_config)

    @property
    def stage_configs(self) -> dict[str, Any]:
        """The [`AudioLMStageConfig`] of each stage of the model by name, in the order in which they generate."""
        stages = [stage for name in self._stage_classes() if (stage := getattr(self, name)) is not None]
        return {stage.stage: stage for stage in sorted(stages, key=lambda stage: stage.predicted_levels[0])}

    @property
    def acoustic_modes(self) -> dict[str, list[str]]:
        """The names of the stages that generate in each available `acoustic_mode`, in order; the default mode first.

        In parallel mode, the parallel stage takes the place of the stages that predict its levels.
        """
        stages = self.stage_configs
        chains = {"hierarchical": [name for name, stage in stages.items() if not stage.layout.parallel]}
        taken = {level for stage in stages.values() if stage.layout.parallel for level in stage.predicted_levels}
        chains["parallel"] = [
            name
            for name, stage in stages.items()
            if taken and (stage.layout.parallel or taken.isdisjoint(stage.predicted_levels))
        ]
        modes = {}
        for mode, chain in chains.items():  # semantic tokens, and the levels of the codes from 0 on, each once
            levels = [level for name in chain for level in stages[name].predicted_levels]
            if len(chain) > 1 and levels == [*range(SEMANTIC_LEVEL, SEMANTIC_LEVEL + len(levels))]:
                modes[mode] = chain
        return modes

    def validate_agreement(self) -> None:
        """Check that tokenizer, codec and stages agree on the tokens."""
        require_usable_codec(self.codec_config)
        check_bands(self.spectrum_db, self.spectrum_std_db)
        semantic_tokenizer = self.semantic_tokenizer_config
        stages = self.stage_configs
        # A parallel stage with num_fine_codebooks = 0 does not restrict these levels.
        counts = {name: stage.num_fine_codebooks for name, stage in stages.items()}
        counts = {name: count for name, count in counts.items() if count or not stages[name].layout.parallel}
        fine = [count for name, count in counts.items() if "fine" in stages[name].layout.kinds]
        for name, stage in stages.items():
            pairs = {
                "num_semantic_tokens": (stage.num_semantic_tokens, semantic_tokenizer.num_semantic_tokens),
                "codebook_size": (stage.codebook_size, self.codec_config.codebook_size),
                "num_coarse_codebooks": (stage.num_coarse_codebooks, self.num_coarse_codebooks),
                "num_fine_codebooks": (counts.get(name), (*fine, counts[name])[0] if name in counts else None),
            }
            for field, (given, expected) in pairs.items():
                if given != expected:
                    raise ValueError(
                        f"{name}_config.{field} is {given}, but the tokenizer, codec and other stages use {expected}; "
                        "all parts of one AudioLM must agree."
                    )
        if stages.keys() != {name for chain in self.acoustic_modes.values() for name in chain}:
            levels = [level for stage in stages.values() for level in stage.predicted_levels]
            raise ValueError(
                f"The stages {', '.join(stages)} predict the levels {levels} ({SEMANTIC_LEVEL}: semantic tokens); "
                "give stages that together predict semantic tokens and the levels of the codes from 0 on, each once; "
                "a parallel stage can take the place of others."
            )
