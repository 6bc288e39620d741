# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Configurations of the stages: their tokens, vocabulary, window and decoder.

Which decoders a stage can have is decided by what a model's class declares, so that the same rules apply to decoders
that transformers adds later.
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from transformers import MODEL_MAPPING, AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .config_values_audiolm import COUNT, LEVELS, SHARE, Within
from .strict_config_audiolm import StrictConfig, checked, strict

TokenKind = Literal["semantic", "coarse", "fine"]  # semantic tokens, coarse codes, fine codes
SEMANTIC_LEVEL = -1  # the "level" of semantic tokens and of the end token
NUM_SPECIAL_TOKENS = 4  # bos, eos, separator, padding: the last ids of every stage vocabulary

# Models that take a `Cache` but keep further state outside of it, or count positions from the padding on, or do not
# decode ids.
_OTHER_STATE = ("dory", "flaubert", "minimax", "recurrent_gemma", "roformer", "xlm")
_OTHER_INPUT = ("gradium_phonon_tts", "higgs_audio_v2", "pocket_tts", "voxtral_realtime_encoder")
_CAUSAL_ANYWAY = ("gpt_neox", "gpt_neox_japanese")  # whatever their is_decoder says
# Families whose results depend on positions with some configurations only, or never.
_USES_POSITIONS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        ("inkling_text", "inkling2_text", "inkling2_loop_text", "jamba", "kimi_linear", "nemotron_h", "zamba"),
        lambda config: False,
    ),
    **dict.fromkeys(
        ("afmoe", "cohere2", "cohere2_moe", "flint", "kolibri1", "lara_mini"),
        lambda config: "sliding_attention" in config.layer_types,
    ),
    **dict.fromkeys(
        ("exaone4", "exaone_moe"),
        lambda config: config.sliding_window is None or "sliding_attention" in config.layer_types,
    ),
    **dict.fromkeys(("llama4_text", "smollm3"), lambda config: any(config.no_rope_layers)),
    **dict.fromkeys(
        ("granite_swa", "granitemoe_swa", "muse_glimmer_text", "muse_spark_text"),
        lambda config: any(config.layer_rope_theta),
    ),
    "granitemoehybrid": lambda config: config.position_embedding_type == "rope",
    "zamba2": lambda config: config.use_mem_rope,
}
_RECURRENT_LAYERS = {"linear_attention", "mamba", "conv", "sparse", "dense"}

_SECONDS = Within(0, 3600, above=True)
_VOCABULARY = 2**26  # ids of a stage's layout

# What generic code (caches, resizing, tensor parallelism, generation) reads and sets in the top configuration of a
# causal model. The special tokens are set from the layout: `bos` begins every sequence, `eos` ends a recording
# (semantic stage), `pad` fills short rows and is always masked. Here, `generate` can be given others (no
# `eos_token_id`: never stop); the layout does not change.
_BACKBONE_VIEWS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"),
)


def _backbone_view(name: str) -> property:
    def read(self: "AudioLMStageConfig") -> int:
        return getattr(self.backbone_config, name)

    def write(self: "AudioLMStageConfig", value: int) -> None:
        setattr(self.backbone_config, name, value)

    return property(read, write, doc=f"`{name}` of `backbone_config`.")


@dataclass(frozen=True)
class StageLayout:
    """What a stage's sequences consist of: beginning token, condition, separator, what is predicted.

    Args:
        predicted (`tuple[str, ...]`): kinds of tokens that are predicted: `"semantic"`, `"coarse"` (the leading levels
            of the codes) or `"fine"` (the others); both kinds of codes share a frame.
        condition (`tuple[str, ...]`, defaults to `()`): kinds before them; without any there is no separator.
        predicts_end (`bool`, defaults to `False`): the end token follows where a recording ends; for a vocabulary of
            semantic tokens alone.
        parallel (`bool`, defaults to `False`): a row of ids for each frame instead of one sequence, predicted from
            both sides, all frames of a level together; see [`AudioLMParallelConfig`].
    """

    predicted: tuple[TokenKind, ...]
    condition: tuple[TokenKind, ...] = ()
    predicts_end: bool = False
    parallel: bool = False

    def __post_init__(self) -> None:
        if self.predicts_end and self.kinds != {"semantic"}:
            raise ValueError(f"predicts_end is for semantic tokens alone, and the stage has {sorted(self.kinds)}.")

    @property
    def kinds(self) -> set[TokenKind]:
        """All kinds of tokens in the sequences."""
        return {*self.condition, *self.predicted}


@strict
class AudioLMStageConfig(StrictConfig):
    r"""Base configuration of the stages: a causal decoder over one flat vocabulary (see `token_layout_audiolm`).

    Args:
        backbone_config (`PreTrainedConfig` or `dict`): any causal decoder that `AutoModel` builds and that keeps a
            `Cache`; others are refused with the reason. Its `vocab_size` is set from the layout, unless a `dict` names
            a larger one. Defaults to Llama.
        num_semantic_tokens (`int`, defaults to 1024): K of the semantic tokenizer.
        codebook_size (`int`, defaults to 1024): N of the codec.
        num_coarse_codebooks (`int`, defaults to 4): leading levels predicted by the coarse stage (Q').
        num_fine_codebooks (`int`, defaults to 8): remaining levels, predicted by the fine stage (Q - Q'); 0 where
            there is none.
        window_length_s (`float`): seconds of audio seen at once in training and in generation (30 / 10 / 3 for the
            semantic / coarse / fine stage in AudioLM).
        anchor_length_s (`float`, defaults to 0.0): seconds from the beginning of the first window, usually of the
            prompt, with which all later windows of the coarse or parallel stage begin, so that these keep its voice
            and recording conditions.
        remove_repeats (`bool`, defaults to `False`): the semantic tokens of this stage have no consecutive repeats.
        mean_semantic_duration (`float`, defaults to 1.0): tokens before removal per token after it, measured on the
            training data; turns seconds into numbers of tokens when `remove_repeats` is set.
        condition_dropout (`float`, defaults to 0.0): share of the training sequences of a coarse or parallel stage
            from which the semantic tokens were left out. Above 0, the stage can be guided (`coarse_guidance_scale`,
            `parallel_guidance_scale`); a scale of 0 generates without semantic tokens.
        condition_stride (`float`, *optional*): tokens predicted for each condition token; 8 for 25 semantic tokens and
            4 levels of 50 codes a second. The condition then has the positions of what is predicted for the same time
            (see [`~token_layout_audiolm.aligned_position_ids`]). By default, positions are consecutive.
    """

    stage: ClassVar[str]
    layout: ClassVar[StageLayout]
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]
    sub_configs_defaults: ClassVar[dict] = {
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")
    }

    backbone_config: dict | PreTrainedConfig | None = None
    num_semantic_tokens: int = checked(1024, COUNT, trained=True)
    codebook_size: int = checked(1024, COUNT, trained=True)
    num_coarse_codebooks: int = checked(4, LEVELS, trained=True)
    num_fine_codebooks: int = checked(8, Within(0, LEVELS.high, whole=True), trained=True)
    window_length_s: float | int = checked(30.0, _SECONDS)
    anchor_length_s: float | int = checked(0.0, Within(0, 3600))
    remove_repeats: bool = checked(False, trained=True)
    mean_semantic_duration: float | int = checked(1.0, Within(1, 1e6))
    condition_dropout: float | int = checked(0.0, SHARE)
    condition_stride: float | int | None = checked(None, Within(0, 1e6, above=True), trained=True)
    initializer_range: float | int = checked(0.02, SHARE)
    use_cache: bool = True
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        named = isinstance(self.backbone_config, dict) and "vocab_size" in self.backbone_config
        views = {name: kwargs.pop(name) for name in _BACKBONE_VIEWS if name in kwargs}
        if isinstance(self.backbone_config, PreTrainedConfig):
            self.backbone_config = copy.deepcopy(self.backbone_config)
        super().__post_init__(**kwargs)
        # Ids of a text model mean nothing here.
        specials = {"bos_token_id": 4, "eos_token_id": 3, "pad_token_id": 1}
        views = {name: self.layout_size - place for name, place in specials.items()} | views
        if not named:
            views.setdefault("vocab_size", self.layout_size)
        for name, value in views.items():
            setattr(self, name, value)

    def validate_backbone(self) -> None:
        """Check that the decoder is one that a stage can use."""
        flaw = _backbone_flaw(self.backbone_config, needs_positions=self.condition_stride is not None)
        if flaw is not None:
            raise ValueError(f"backbone_config has model_type {self.backbone_config.model_type!r}, which {flaw}.")

    def validate_layout(self) -> None:
        """Check that the vocabulary holds the layout, and is not too large."""
        if self.condition_stride is not None:
            self._validate_condition_stride()
        if self.anchor_length_s:
            self._validate_anchor()
        if not self.predicted_levels:
            raise ValueError(
                f"{type(self).__name__}.num_fine_codebooks is {self.num_fine_codebooks}, so the {self.stage} stage "
                "has no level to predict; give 1 or more, or leave the stage out."
            )
        if self.layout_size > _VOCABULARY:
            raise ValueError(
                f"{type(self).__name__} has {self.layout_size:,} ids (num_semantic_tokens and codebook_size times the "
                f"levels); at most {_VOCABULARY:,} are allowed."
            )
        name = f"{type(self).__name__}.backbone_config.vocab_size"
        Within(self.layout_size, math.inf, whole=True).check(name, self.vocab_size, ", or leave it out")

    def _validate_condition_stride(self) -> None:
        reason = "tokens without repeats have no times" if self.remove_repeats else ""
        reason = reason if self.layout.condition else f"the {self.stage} stage has no condition"
        if reason:
            raise ValueError(f"condition_stride is {self.condition_stride}, but {reason}; leave it out.")

    def _validate_anchor(self) -> None:
        reason = ""
        if self.layout.condition != ("semantic",):
            reason = f"the {self.stage} stage has none; leave it out"
        elif self.remove_repeats:
            reason = "tokens without repeats have no times; leave it out"
        elif self.anchor_length_s > self.window_length_s / 2:
            reason = f"window_length_s is {self.window_length_s}; give at most half of it"
        if reason:
            raise ValueError(f"{type(self).__name__}.anchor_length_s is {self.anchor_length_s}, but {reason}.")

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """Return the decoder's configuration, for code that sizes caches and embeddings."""
        return self.backbone_config

    @property
    def num_codebooks(self) -> int:
        """Levels of the residual quantizer over both acoustic stages (Q)."""
        return self.num_coarse_codebooks + self.num_fine_codebooks

    def sequence_length(self, num_semantic_tokens: int, num_frames: int) -> int:
        """Return the length of the sequence of these numbers of semantic tokens and frames of the same time."""
        levels = [*self.condition_levels, *self.predicted_levels]
        codes = sum(level != SEMANTIC_LEVEL for level in levels)
        return 2 + (num_semantic_tokens if SEMANTIC_LEVEL in levels else 0) + codes * num_frames

    def _levels_of(self, kinds: Iterable[TokenKind]) -> list[int]:
        levels = {
            "semantic": [SEMANTIC_LEVEL],
            "coarse": range(self.num_coarse_codebooks),
            "fine": range(self.num_coarse_codebooks, self.num_codebooks),
        }
        return [level for kind in kinds for level in levels[kind]]

    @property
    def condition_levels(self) -> list[int]:
        """Codebook levels, or `SEMANTIC_LEVEL`, that the stage is conditioned on."""
        return self._levels_of(self.layout.condition)

    @property
    def predicted_levels(self) -> list[int]:
        """Codebook levels, or `SEMANTIC_LEVEL`, that the stage predicts, in the order in which they take turns."""
        return self._levels_of(self.layout.predicted)

    @property
    def num_stage_codebooks(self) -> int:
        """Codebook levels in this stage's vocabulary: 0, Q' or Q."""
        return 1 + max(self._levels_of(self.layout.kinds))

    @property
    def acoustic_offset(self) -> int:
        """Id of code 0 of level 0; the semantic tokens, if this stage has any, come before it."""
        return self.num_semantic_tokens if "semantic" in self.layout.kinds else 0

    @property
    def layout_size(self) -> int:
        """Ids of the flat vocabulary: semantic tokens | level 0 | level 1 | ... | special tokens."""
        return self.acoustic_offset + self.num_stage_codebooks * self.codebook_size + NUM_SPECIAL_TOKENS

    @property
    def begin_token_id(self) -> int:
        """Before every sequence, whatever `bos_token_id` says."""
        return self.layout_size - 4

    @property
    def end_token_id(self) -> int:
        """After the last semantic token of a recording, whatever `eos_token_id` says."""
        return self.layout_size - 3

    @property
    def separator_token_id(self) -> int:
        """Between the conditioning tokens and the predicted ones (coarse and fine stage)."""
        return self.layout_size - 2

    @property
    def padding_token_id(self) -> int:
        """Fills short rows, always masked, whatever `pad_token_id` says."""
        return self.layout_size - 1


for _name in _BACKBONE_VIEWS:
    setattr(AudioLMStageConfig, _name, _backbone_view(_name))


@strict
class AudioLMSemanticConfig(AudioLMStageConfig):
    """Stage 1: semantic tokens from earlier semantic tokens. See [`AudioLMStageConfig`].

    Args:
        has_onset_rates (`bool`, defaults to `False`): the model has a table of the note onsets per second to expect
            of its tokens, see [`AudioLMSemanticModel.expected_onset_rate`].
    """

    model_type = "audiolm_semantic"
    stage = "semantic"
    layout = StageLayout(predicted=("semantic",), predicts_end=True)

    has_onset_rates: bool = False

    def validate_layout(self) -> None:
        """Check the layout, and that tokens with onset rates are at equal distances in time."""
        super().validate_layout()
        if self.has_onset_rates and self.remove_repeats:
            raise ValueError(
                f"{type(self).__name__} sets has_onset_rates and remove_repeats; onset rates need tokens at equal "
                "distances in time, so set only one of them."
            )


@strict
class AudioLMCoarseConfig(AudioLMStageConfig):
    """Stage 2: coarse codes from semantic tokens and earlier coarse codes. See [`AudioLMStageConfig`]."""

    model_type = "audiolm_coarse"
    stage = "coarse"
    layout = StageLayout(condition=("semantic",), predicted=("coarse",))

    window_length_s: float | int = checked(10.0, _SECONDS)


@strict
class AudioLMFineConfig(AudioLMStageConfig):
    """Stage 3: fine codes from coarse codes and earlier fine codes. See [`AudioLMStageConfig`]."""

    model_type = "audiolm_fine"
    stage = "fine"
    layout = StageLayout(condition=("coarse",), predicted=("fine",))

    window_length_s: float | int = checked(3.0, _SECONDS)


def _backbone_flaw(config: PreTrainedConfig, *, needs_positions: bool) -> str | None:
    """Return why a model cannot be the decoder of a stage, also if it `needs_positions`; `None` if it can."""
    if getattr(config, "is_encoder_decoder", False):
        return "has an encoder; use the configuration of a decoder alone, such as Llama or GPT-2"
    flaw = composition_flaw(config)
    if flaw is not None:
        return f"{flaw}; use the configuration of a text decoder alone, such as Llama or GPT-2"
    parameters = set(inspect.signature(MODEL_MAPPING[type(config)].forward).parameters)
    if "decoder_input_ids" in parameters:
        return "has an encoder; use the configuration of a decoder alone, such as Llama or GPT-2"
    takes_cache = parameters & {"past_key_values", "cache"} and {"attention_mask", "inputs_embeds"} <= parameters
    if not takes_cache or config.model_type in (*_OTHER_STATE, *_OTHER_INPUT):
        return "does not run on a transformers Cache of keys and values; use a decoder such as Llama or GPT-2"
    layer_types = set(getattr(config, "layer_types", None) or ())
    if layer_types and layer_types <= _RECURRENT_LAYERS:
        return "has recurrent layers only; give it at least one layer of attention"
    uses_positions = _USES_POSITIONS.get(config.model_type, lambda config: "position_ids" in parameters)
    if needs_positions and not uses_positions(config):
        return "does not use position_ids, so that a condition_stride has no effect; leave condition_stride out"
    if getattr(config, "is_decoder", True) is False and config.model_type not in _CAUSAL_ANYWAY:
        return "sees the tokens that it is to predict; set is_decoder=True in it"
    return setting_flaw(config)


def composition_flaw(config: PreTrainedConfig) -> str | None:
    """Return why a configuration is not that of a single model that `AutoModel` builds; `None` if it is."""
    parts = [name for name in config.sub_configs if getattr(getattr(config, name, None), "model_type", "")]
    if parts:
        return f"is composed of several models ({', '.join(parts)})"
    if type(config) not in MODEL_MAPPING or isinstance(MODEL_MAPPING[type(config)], tuple):
        return "is not a model that AutoModel builds"
    return None


def setting_flaw(config: PreTrainedConfig) -> str | None:
    """Return what is wrong with settings that decoders and encoders share; `None` if nothing is."""
    if getattr(config, "default_language", "") is None:
        return "has layers for each language; set its default_language"
    for name in ("embedding_size", "input_embedding_size"):
        width = getattr(config, name, config.hidden_size)
        if width != config.hidden_size:
            return f"has {name} = {width} and hidden_size = {config.hidden_size}; make them equal"
    return None
