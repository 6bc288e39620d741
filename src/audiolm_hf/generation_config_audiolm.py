# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How [`AudioLMModel`] generates: lengths, and how each stage samples, by default at the paper's temperatures.

Paper: AudioLM (arXiv 2209.03143), inference.
"""

import copy
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import GenerationConfig, GenerationMixin

from .config_values_audiolm import FLAG, Allowed, Rule, Within, did_you_mean, plain
from .stages_audiolm import STAGES

_STAGE_OPTIONS: dict[str, Allowed] = {
    "do_sample": FLAG,
    "temperature": Within(1e-4, 1e4),
    "top_k": Within(0, 2**31, whole=True),
    "top_p": Within(0, 1, above=True),
}
# Defaults and allowed values of the options that belong to no stage; None where the model decides.
_SHARED: dict[str, tuple[Any, Allowed]] = {
    "acoustic_mode": (None, Rule("'hierarchical' or 'parallel'", lambda mode: mode in ("hierarchical", "parallel"))),
    "continuation_length_s": (7.0, Within(0, 1e7, above=True)),
    "min_continuation_length_s": (0.0, Within(0, 1e7)),
    "dynamics": (0.0, Within(0, 1)),
    "room_noise": (0.0, Within(0, 1)),
}
# Why options of transformers are not supported, by patterns of their names; the first match counts.
_UNSUPPORTED = {
    r"^inputs?(_ids|_embeds)?$": "the prompt is audio; give input_values, as the processor returns it",
    r"^(max|min)_(length|new_tokens|time)$": "lengths are in seconds; give continuation_length_s (the maximum) or "
    "min_continuation_length_s (the minimum)",
    r"beam|^length_penalty|^early_stopping|diversity": "beam search is not supported; tokens are sampled one by one",
    r"^stream": "it is an argument of generate, not a sampling option; give it to generate",
    r"^stop": "a row ends by the semantic stage's end token, or after continuation_length_s",
    r"assistant|lookup|lookbehind|matching|speculation|mtp": "assisted decoding is not supported",
    r"cache|compile|batching|prefill|synced|^output|^return_dict|token_id$": "it has no effect here",
    r"^num_return_sequences$": "it is an argument of generate, not a sampling option; give it to generate",
    r"guidance|negative_prompt": "guidance is set by stage; give coarse_guidance_scale or parallel_guidance_scale",
    "": "sampling only has temperature, top_k and top_p (of one stage: coarse_temperature, ...)",
}
_NAMES_OF_TRANSFORMERS = {*vars(GenerationConfig()), *inspect.signature(GenerationMixin.generate).parameters}
_NAMES_OF_TRANSFORMERS |= {"input_ids", "inputs_embeds"}
# Arguments of generate that are not options, for suggestions.
_ARGUMENTS = ["num_return_sequences", "batch_size", "seed", "generator", "progress", "streamer", "semantic_tokens"]
# Options of every `GenerationConfig` that have no effect here: ids of special tokens, caches, what is returned.
_WITHOUT_EFFECT = {
    *("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id"),
    *("cache_implementation", "disable_compile", "transformers_version", "use_cache"),
    *("output_attentions", "output_hidden_states", "output_logits", "output_scores", "return_dict_in_generate"),
}


class AudioLMGenerationConfig(GenerationConfig):
    """How [`AudioLMModel`] generates: lengths, and how each stage samples.

    `do_sample`, `temperature`, `top_k` and `top_p` without a stage's name apply to all stages; options with a name
    override them. A model only takes the options of stages that it has.

    Args:
        acoustic_mode (`str`, *optional*): `"hierarchical"` predicts codes by the coarse and the fine stage, token by
            token; `"parallel"` by the parallel stage, in a few passes over whole windows. Defaults to that of the
            checkpoint, else to hierarchical if the model has a coarse stage.
        continuation_length_s (`float`, defaults to 7.0): maximum length of a continuation in seconds.
        min_continuation_length_s (`float`, defaults to 0.0): the end token is not chosen before this many seconds.
        dynamics (`float`, defaults to 0.0): share (0 to 1) of the decibels by which the codec makes soft sounds of the
            prompt softer, which is given back to those of the continuation. Prompts shorter than 1 s have none.
        room_noise (`float`, defaults to 0.0): share (0 to 1) of the noise power that the codec removes from the
            prompt's pauses, which is added to the continuation. Prompts shorter than 1 s have none.
        semantic_do_sample, coarse_do_sample, fine_do_sample, parallel_do_sample (`bool`, default to `True`): draw each
            token from its distribution; `False` takes the most likely one.
        semantic_temperature, coarse_temperature, fine_temperature, parallel_temperature (`float`): divides the logits;
            defaults to 0.6, 0.8, 0.6 (as in AudioLM) and 1.0.
        semantic_top_k, coarse_top_k, fine_top_k, parallel_top_k (`int`, default to 0): draw among this many most
            likely ids; 0 is all.
        semantic_top_p, coarse_top_p, fine_top_p, parallel_top_p (`float`, default to 1.0): draw among the most likely
            ids that together have this probability.
        coarse_guidance_scale, parallel_guidance_scale (`float`, default to 1.0): weight of the semantic tokens, by
            classifier-free guidance; 1 is off, at half the cost. Needs a stage trained with some of its conditions
            dropped.
        semantic_num_candidates (`int`, defaults to 1): number of times that each window of semantic tokens is sampled;
            the sample most like the prompt is kept, by its mean embedding in the semantic stage and, if the stage has
            onset rates, also by the note onsets per second to expect of it. Meant for music. Above 1, a stream waits
            for the whole window, and rows are sampled one by one.
        parallel_num_passes (`int` or `list[int]`, defaults to 6): passes of the parallel stage over the first level,
            with one pass over every other level; or a list of the passes over each level. A level with one pass gets
            the most likely codes.
        parallel_choice_temperature (`float`, defaults to 1.6): temperature of the noise in the order in which a
            level's codes are decided, which fades with the passes, as in MaskGIT; 0 always takes the most confident
            ones first. More passes need a higher one: the 16 of SoundStorm about 4.5.
        parallel_first_window_s (`float`, defaults to 1000.0): maximum new audio in the parallel stage's first window,
            in seconds. A small value gives the first audio sooner, and the whole later.
        parallel_context_share (`float`, defaults to 0.5): share of every later window of the parallel stage, without
            its anchor, that repeats the end of the previous window; the rest is new. Smaller is faster.
        fine_batch_size (`int`, defaults to 32): maximum number of chunks that the fine stage generates at once.
        use_fine_stage (`bool`, defaults to `True`): `False` decodes only the coarse codes, as a model without a fine
            stage does: faster, and as good if the fine stage has learned no more than how often each code occurs.

    Raises:
        ValueError: an option does not exist, or its value is out of range.
    """

    acoustic_mode: str | None
    continuation_length_s: float
    min_continuation_length_s: float
    dynamics: float
    room_noise: float
    coarse_guidance_scale: float
    fine_batch_size: int
    use_fine_stage: bool

    def __init__(self, **options: Any) -> None:
        for name, (default, _) in _all_options().items():
            setattr(self, name, default)
        own = {name: options.pop(name) for name in _all_options() if name in options}
        shared = {name: options.pop(name) for name in _STAGE_OPTIONS if name in options}
        super().__init__(**options)
        self.update(**shared)
        self.update(**own)

    def __setattr__(self, name: str, value: Any) -> None:
        value = plain(value)
        if name in _STAGE_OPTIONS and value is not None:  # of all stages
            for stage in self.stages:
                super().__setattr__(f"{stage}_{name}", value)
        else:
            super().__setattr__(name, value)

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the names of all options."""
        return [*_all_options(), *_STAGE_OPTIONS]

    @classmethod
    def from_model_config(cls, model_config: Any) -> "AudioLMGenerationConfig":
        """Return the defaults of a model's stages; its configuration holds no other settings of generation."""
        return cls().for_stages(model_config.stage_configs)

    @property
    def stages(self) -> list[str]:
        """Names of the stages whose options these are."""
        return [name for name in STAGES if f"{name}_do_sample" in vars(self)]

    def for_stages(self, stages: Iterable[str]) -> "AudioLMGenerationConfig":
        """Return a copy without the options of stages that a model does not have, which must not have been set."""
        chosen, kept = copy.deepcopy(self), [*stages]
        for stage in [name for name in self.stages if name not in kept]:
            for name, (default, _) in _stage_options(stage).items():
                shared = [vars(self).get(f"{other}_{name.removeprefix(f'{stage}_')}") for other in kept]
                if getattr(self, name) not in (default, *shared):
                    raise ValueError(_absent(name, stage, kept))
                delattr(chosen, name)
        return chosen

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """Check every value; each error has the option, its value and what is allowed."""
        _require_options(_given_options(self))
        for name, (default, allowed) in _all_options().items():
            if name in vars(self):
                hint = f", or {name.split('_')[0]}_do_sample=False" if name.endswith("_temperature") else ""
                allowed.check(name, vars(self)[name], hint, optional=default is None)
        shortest, longest = self.min_continuation_length_s, self.continuation_length_s
        if shortest > longest:
            raise ValueError(f"min_continuation_length_s is {shortest}, above continuation_length_s ({longest}).")
        super().validate(*args, **kwargs)

    def used_stages(self, model_config: Any) -> list[str]:
        """Return the names of the stages of a model that are to run, in order."""
        stages = model_config.acoustic_modes[self._mode(model_config)]
        return [name for name in stages if vars(self).get(f"use_{name}_stage", True)]

    def _mode(self, model_config: Any) -> str:
        """Return how the codes are to be generated by a model."""
        modes = model_config.acoustic_modes
        mode = next(iter(modes)) if self.acoustic_mode is None else self.acoustic_mode
        if mode not in modes:
            raise ValueError(
                f"acoustic_mode is {mode!r}, but the model has the stages {', '.join(model_config.stage_configs)}, "
                f"which are those of {' and '.join(map(repr, modes))}; leave it out."
            )
        return mode

    def check_stages(self, model_config: Any, given: Mapping[str, Any]) -> None:
        """Check the options that depend on the stages of a model; those `given` for one call must have an effect."""
        mode, modes, used = self._mode(model_config), model_config.acoustic_modes, self.used_stages(model_config)
        for stage, config in model_config.stage_configs.items():
            for name in _stage_options(stage):
                if stage not in modes[mode] and given.get(name) is not None:
                    other = next(other for other, stages in modes.items() if stage in stages)
                    raise ValueError(
                        f"{name} is given, but acoustic_mode is {mode!r}, without the {stage} stage; give "
                        f"acoustic_mode={other!r}, or leave it out."
                    )
                switch = f"use_{stage}_stage"
                if stage not in used and name != switch and given.get(name) is not None:
                    raise ValueError(f"{name} is given, but {switch} is False; give {switch}=True, or leave it out.")
            passes, num_levels = vars(self).get(f"{stage}_num_passes"), len(config.predicted_levels)
            if isinstance(passes, list) and len(passes) != num_levels:
                raise ValueError(
                    f"{stage}_num_passes has {len(passes)} numbers, and the {stage} stage {num_levels} levels; give "
                    "one for each, or that of the first level alone."
                )
            scale = vars(self).get(f"{stage}_guidance_scale", 1)
            if scale != 1 and not config.condition_dropout:
                raise ValueError(
                    f"{stage}_guidance_scale is {scale}, but the {stage} stage was trained with all of its conditions "
                    "(condition_dropout is 0), and has nothing to be guided away from; leave it at 1."
                )

    def stage_values(self, stage: str) -> dict[str, Any]:
        """Return how one stage samples, without the prefix of the options."""
        return {name: getattr(self, f"{stage}_{name}") for name in [*_STAGE_OPTIONS, *STAGES[stage].options]}

    def with_options(
        self, generation_config: GenerationConfig | None = None, **options: Any
    ) -> "AudioLMGenerationConfig":
        """Return a copy with some options changed, first by what `generation_config` has set, then by `options`."""
        if not isinstance(generation_config, GenerationConfig | None):
            raise TypeError(f"generation_config is a {type(generation_config).__name__}; give a GenerationConfig.")
        if isinstance(generation_config, AudioLMGenerationConfig):
            generation_config = generation_config.for_stages(self.stages)
        changed = copy.deepcopy(self)
        for changes in ({} if generation_config is None else _given_options(generation_config), options):
            _require_options(changes)
            given = {name: value for name, value in changes.items() if value is not None}
            for stage in [name for name in STAGES if name not in self.stages]:
                for name in [name for name in _stage_options(stage) if name in given]:
                    raise ValueError(_absent(name, stage, self.stages))
            changed.update(**{name: value for name, value in given.items() if name in _STAGE_OPTIONS})
            changed.update(**{name: value for name, value in given.items() if name not in _STAGE_OPTIONS})
        return changed


def stated_options(config: GenerationConfig | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of one call, and those that a plain configuration sets; a full one does not tell which."""
    if config is None or isinstance(config, AudioLMGenerationConfig):
        return options
    return _given_options(config) | options


def _stage_options(stage: str) -> dict[str, tuple[Any, Allowed]]:
    """Return the options of a stage: default, and what is allowed."""
    row = STAGES[stage]
    defaults = {"do_sample": True, "temperature": row.temperature, "top_k": 0, "top_p": 1.0}
    options = {f"{stage}_{name}": (default, _STAGE_OPTIONS[name]) for name, default in defaults.items()}
    options |= {f"{stage}_{name}": option for name, option in row.options.items()}
    return options | ({f"use_{stage}_stage": (True, FLAG)} if row.optional else {})


def _all_options() -> dict[str, tuple[Any, Allowed]]:
    """Return all options except those that apply to all stages."""
    return _SHARED | {name: option for stage in STAGES for name, option in _stage_options(stage).items()}


def _absent(option: str, stage: str, stages: list[str]) -> str:
    return f"{option} is given, but the model has no {stage} stage, only {', '.join(stages)}; leave it out."


def _given_options(config: GenerationConfig) -> dict[str, Any]:
    """Return the options that are set in a configuration, without those that have no effect here."""
    return {
        name: value
        for name, value in vars(config).items()
        if value is not None and not name.startswith("_") and name not in _WITHOUT_EFFECT
    }


def _require_options(names: Iterable[str]) -> None:
    own = AudioLMGenerationConfig.option_names()
    for name in names:
        if name in own:
            continue
        if name in _NAMES_OF_TRANSFORMERS:
            reason = next(reason for pattern, reason in _UNSUPPORTED.items() if re.search(pattern, name))
            raise ValueError(f"generate has no option {name!r} of transformers: {reason}.")
        raise ValueError(f"generate has no option {name!r}{did_you_mean(name, [*own, *_ARGUMENTS])}")
