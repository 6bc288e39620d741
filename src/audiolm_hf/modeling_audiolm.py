# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The whole model: semantic tokenizer, codec and stages; `generation_audiolm.py` generates audio with it.

Paper: AudioLM (arXiv 2209.03143).
"""

import os
from typing import Any, ClassVar, NoReturn

import torch
from transformers import PreTrainedModel

from .acoustic_codec_audiolm import build_acoustic_codec
from .checkpoint_audiolm import AudioLMPreTrainedModel, read_generation_config
from .configuration_audiolm import AudioLMConfig
from .generation_audiolm import AudioLMGenerationMixin
from .generation_config_audiolm import AudioLMGenerationConfig
from .joint_training_audiolm import JointTrainingMixin
from .modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer  # noqa: F401 # registers itself
from .modeling_stage_audiolm import AudioLMStageBase
from .numerics_audiolm import KeepsFloat32
from .pipeline_audiolm import CUSTOM_PIPELINES
from .row_steps_audiolm import load_row_steps
from .semantic_tokenizer_audiolm import SEMANTIC_TOKENIZERS, SemanticTokenizerModel
from .stages_audiolm import STAGES


class AudioLMModel(AudioLMGenerationMixin, JointTrainingMixin, KeepsFloat32, AudioLMPreTrainedModel):
    """AudioLM: semantic tokenizer, acoustic codec and stages in one checkpoint.

    A dtype given to `from_pretrained`, `to`, `half` and the like only applies to the stages. The tokenizer and the
    codec stay in float32, so that a prompt has the same tokens and codes with every dtype.

    Args:
        config ([`AudioLMConfig`]): the configurations of the parts.

    Raises:
        ValueError: if the codec has fewer levels than the stages model, or the stages disagree about repeats.
    """

    config_class = AudioLMConfig
    base_model_prefix = "audiolm"
    main_input_name = "input_values"
    input_modalities = "audio"
    output_modalities = ("audio",)
    generation_config_class = AudioLMGenerationConfig
    custom_pipelines = CUSTOM_PIPELINES
    supports_gradient_checkpointing = True
    # Quantization also leaves these out, because it would change the tokens.
    _keep_in_fp32_modules: ClassVar[list[str]] = ["semantic_tokenizer", "codec"]
    _supports_attention_backend = True
    _float32_names = r"(semantic_tokenizer|codec)\."

    def __init__(self, config: AudioLMConfig) -> None:
        for checked in (config, config.semantic_tokenizer_config, *config.stage_configs.values()):
            checked.validate()  # fields may have been assigned since it was built
        super().__init__(config)
        # A fast attention implementation is requested for the stages; the other parts choose what they support.
        for part in (config.semantic_tokenizer_config, config.codec_config):
            if part._attn_implementation != "eager":  # every part supports eager
                part._attn_implementation = None
        kind = config.semantic_tokenizer_config.model_type
        self.semantic_tokenizer = SEMANTIC_TOKENIZERS[kind](config.semantic_tokenizer_config)
        self.codec = build_acoustic_codec(config.codec_config).model
        for name, stage_config in config.stage_configs.items():
            self.add_module(name, STAGES[name].model_class(stage_config))
        self._check_parts()
        self._freeze_tokenizers()
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load a checkpoint or an adapter, see [`AudioLMPreTrainedModel`]; on a CPU also what Numba has compiled."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.device.type == "cpu":
            load_row_steps(model.dtype)
        return loaded

    @classmethod
    def from_parts(
        cls, semantic_tokenizer: SemanticTokenizerModel, codec: PreTrainedModel, **stages: AudioLMStageBase
    ) -> "AudioLMModel":
        """Build a model from trained parts, without copying their weights; tokenizer and codec are frozen.

        Args:
            semantic_tokenizer ([`AudioLMSemanticTokenizer`] or another registered class): audio to semantic tokens.
            codec ([`SoundStreamModel`], `EncodecModel`, `DacModel` or `MimiModel`): audio to codes and back.
            **stages ([`AudioLMStageBase`]): the stages by name, such as `semantic=..., coarse=...`.

        Raises:
            ValueError: if the parts do not fit each other, or a stage is passed under the name of another.
        """
        for name, stage in stages.items():
            if getattr(stage.config, "stage", None) != name:
                raise ValueError(
                    f"{name} is given a {type(stage).__name__}; the stages are "
                    f"{', '.join(f'{row.name} ({row.model_class.__name__})' for row in STAGES.values())}."
                )
        parts = {"semantic_tokenizer": semantic_tokenizer, "codec": codec, **stages}
        config = AudioLMConfig(**{f"{name}_config": part.config for name, part in parts.items()})
        with torch.device("meta"):  # without its own weights, which are replaced below
            model = cls(config)
        for name, part in parts.items():
            model.add_module(name, part)
        model._freeze_tokenizers()
        return model.eval()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the stages; the tokenizer and the codec are in float32."""
        return next(iter(self.stages.values())).dtype

    def _freeze_tokenizers(self) -> None:
        self.semantic_tokenizer.requires_grad_(False)
        self.codec.requires_grad_(False)

    def _check_parts(self) -> None:
        levels, stages = self.config.num_codebooks, self.config.stage_configs
        if self.acoustic_codec.num_codebooks < levels:
            raise ValueError(
                f"The codec has {self.acoustic_codec.num_codebooks} codebooks and the stages model {levels} "
                "(num_coarse_codebooks + num_fine_codebooks); model at most as many as the codec has."
            )
        first, *others = stages
        for name in others:
            stage = stages[name]
            if stages[first].remove_repeats and "semantic" in stage.layout.condition and not stage.remove_repeats:
                raise ValueError(
                    f"{first}_config.remove_repeats is True and {name}_config.remove_repeats False; the {name} stage "
                    f"gets the {first} stage's tokens, so set it to True there too."
                )

    @classmethod
    def can_generate(cls) -> bool:
        """Return `True`, for pipelines and for saving `generation_config.json`."""
        return True

    def adjust_generation_fn(
        self, given: Any, auto_class: bool, task: str | None, source: Any, **options: Any
    ) -> None:
        """Load `generation_config.json`, where a checkpoint has one."""
        if given is not None:
            self.generation_config = AudioLMGenerationConfig.from_model_config(self.config).with_options(given)
            return
        # Where weights are given as `state_dict`, or a checkpoint has no such file, the defaults apply.
        fields = None if source is None else read_generation_config(source, **options)
        self.generation_config = AudioLMGenerationConfig(**(fields or {})).for_stages(self.stages)

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Add a new adapter to the stages, but not to layers of the same names in the frozen tokenizer and codec."""
        if getattr(adapter_config, "exclude_modules", "") is None:
            adapter_config.exclude_modules = rf"({'|'.join(self._keep_in_fp32_modules)})\..*"
        super().add_adapter(adapter_config, adapter_name)

    def get_input_embeddings(self) -> None:
        """Return `None`: quantization and PEFT ask each stage for its own embeddings."""

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise an error, because only the stages have token embeddings."""
        raise ValueError(
            "AudioLMModel has no embeddings to resize; those of a stage have a row for each id that its configuration "
            "counts, so build a model of another configuration."
        )
