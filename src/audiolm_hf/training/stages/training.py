# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Training of a stage on token datasets, from its configuration to the folder of the trained model."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, set_seed

from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.configuration_audiolm import AudioLMStageConfig
from audiolm_hf.data.crops import StageBatches, longest_sequence, validation_batches
from audiolm_hf.data.loading import load_codec, load_semantic_tokenizer, require_model_type
from audiolm_hf.data.tokens import TokenDataset, TokenInfo
from audiolm_hf.files import replace_folder, write_json
from audiolm_hf.modeling_stage_audiolm import AudioLMStageBase
from audiolm_hf.packed_products_audiolm import steady_attention
from audiolm_hf.stages_audiolm import STAGES
from audiolm_hf.time_grid_audiolm import TimeGrid
from audiolm_hf.token_layout_audiolm import SEMANTIC_LEVEL
from audiolm_hf.training.checkpointing import newest_checkpoint
from audiolm_hf.training.flops import decoder_flops_per_token
from audiolm_hf.training.processes import delayed_interruption
from audiolm_hf.training.run import one_run
from audiolm_hf.training.stages.config import StageTrainingConfig
from audiolm_hf.training.stages.distillation import GuidanceTeacher
from audiolm_hf.training.stages.initial import code_vectors, start_embeddings_, warm_backbone_config, warm_start_
from audiolm_hf.training.stages.trainer import (
    PatienceCallback,
    ProgressCallback,
    StageTrainer,
    StopCallback,
    training_arguments,
)


def build_stage_config(
    config: StageTrainingConfig, info: TokenInfo, mean_semantic_duration: float = 1.0
) -> AudioLMStageConfig:
    """Build the configuration of a stage for the tokens that `info` describes."""
    stage = STAGES[config.stage]
    needs_fine = stage.config_class.layout.predicted == ("fine",)
    for name in ("window_length_s", "anchor_length_s"):
        unit_s, length_s = float(info.grid.unit_s), getattr(config, name)
        if 0 < length_s < unit_s:
            raise ValueError(f"{name} is {length_s}, and the tokens' time grid has steps of {unit_s:g} s; give more.")
    levels = Within(1, info.num_codebooks - needs_fine, whole=True)
    levels.check("num_coarse_codebooks", config.num_coarse_codebooks, ", the levels of the tokens")
    num_others = info.num_codebooks - config.num_coarse_codebooks
    if config.num_fine_codebooks is not None:
        Within(needs_fine, num_others, whole=True).check("num_fine_codebooks", config.num_fine_codebooks)
        num_others = config.num_fine_codebooks
    backbone = {"model_type": stage.backbone_type} | config.backbone
    own = {"prefix_attention": config.prefix_attention} if stage.config_class.layout.parallel else {}
    stage_config = stage.config_class(
        backbone_config=backbone
        if config.warm_start is None
        else warm_backbone_config(config.warm_start, config.backbone),
        num_semantic_tokens=info.num_semantic_tokens,
        codebook_size=info.codebook_size,
        num_coarse_codebooks=config.num_coarse_codebooks,
        num_fine_codebooks=num_others,
        window_length_s=config.window_length_s,
        anchor_length_s=config.anchor_length_s,
        remove_repeats=config.remove_repeats,
        mean_semantic_duration=mean_semantic_duration,
        condition_dropout=config.condition_dropout,
        **own,
    )
    if config.align_condition or stage_config.layout.parallel:
        stage_config.condition_stride = condition_stride(stage_config, info.grid)
        stage_config.validate()
    longest = longest_sequence(info, stage_config)
    if config.warm_start is not None and longest > stage_config.max_position_embeddings:
        raise ValueError(
            f"window_length_s is {config.window_length_s}, which is up to {longest} ids; the language model in "
            f"{config.warm_start} has {stage_config.max_position_embeddings} positions. Shorten the window."
        )
    return stage_config


def condition_stride(config: AudioLMStageConfig, grid: TimeGrid) -> float:
    """Return the number of tokens that a stage predicts for each conditioning token."""
    per_frame = [
        sum(1 / grid.frames_per_token if level == SEMANTIC_LEVEL else Fraction(1) for level in levels)
        for levels in (config.predicted_levels, config.condition_levels)
    ]
    return float(per_frame[0] / per_frame[1])


def measure_semantic_duration(tokens: TokenDataset) -> float:
    """Return the mean length of a run of equal semantic tokens in a dataset."""
    total = sum(len(record.semantic_tokens) for record in tokens)
    runs = sum(1 + int((record.semantic_tokens[1:] != record.semantic_tokens[:-1]).sum()) for record in tokens)
    return total / runs


def build_stage_model(config: StageTrainingConfig, stage_config: AudioLMStageConfig) -> AudioLMStageBase:
    """Build the initial stage, with the weights of `initial_weights`, or random ones and initialized embeddings."""
    model_class = STAGES[config.stage].model_class
    if config.initial_weights is not None:
        trained = model_class.from_pretrained(config.initial_weights, dtype="float32")
        model = model_class(stage_config)  # its settings, such as `align_condition`, can differ
        if _sizes(model) != _sizes(trained):
            raise ValueError(
                f"The stage in initial_weights, {config.initial_weights}, has other sizes than backbone and the "
                "tokens; set backbone to its sizes."
            )
        weights = trained.state_dict()
        weights.pop("onset_rates", None)  # they belong to the old stage
        model.load_state_dict(weights)
        return model
    model = model_class(stage_config)
    if config.warm_start is not None:
        warm_start_(model, config.warm_start)
    levels = None if config.codec is None else code_vectors(load_codec(config.codec).model)
    centroids = None
    if config.semantic_tokenizer is not None:
        centroids = getattr(load_semantic_tokenizer(config.semantic_tokenizer), "centroids", None)
        if centroids is None:
            raise ValueError(
                f"semantic_tokenizer is {config.semantic_tokenizer}, which has no centroids; leave the key out."
            )
    start_embeddings_(model, levels, centroids, torch.Generator().manual_seed(config.seed))
    return model


def _sizes(model: AudioLMStageBase) -> list[Any]:
    """Return what must be equal for one stage to load the weights of another."""
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    heads = [getattr(model.model.config, f"num_{kind}_heads", None) for kind in ("attention", "key_value")]
    return [shapes, heads, model.config.num_semantic_tokens, model.config.codebook_size]


def build_stage_trainer(config: StageTrainingConfig, model: PreTrainedModel | None = None) -> StageTrainer:
    """Build the trainer of [`train_stage`] with its model and data."""
    set_seed(config.seed)
    if model is None and config.initial_weights is not None and Path(config.initial_weights).is_dir():
        require_model_type(config.initial_weights, STAGES[config.stage].config_class.model_type, "initial_weights")
    tokens, validation = TokenDataset(config.train_tokens), TokenDataset(config.validation_tokens)
    if model is None:
        duration = measure_semantic_duration(tokens) if config.remove_repeats else 1.0
        model = build_stage_model(config, build_stage_config(config, tokens.info, duration))
    stage_config = model.config
    arguments = training_arguments(config)
    batches = StageBatches(
        tokens,
        stage_config,
        batch_tokens=config.batch_tokens,
        num_batches=config.max_steps,
        seed=config.seed,
        corruption=config.corruption,
        condition_dropout=config.condition_dropout,
        parts=arguments.world_size * config.gradient_accumulation_steps,
    )
    stage = next(module for module in model.modules() if isinstance(module, AudioLMStageBase))
    if config.torch_compile:
        stage.model.compile()  # only the decoder, because the levels in the loss vary
    return StageTrainer(
        config,
        decoder_flops_per_token(stage.model, longest_sequence(tokens.info, stage_config)),
        _build_teacher(config, tokens.info.grid),
        model=model,
        args=arguments,
        train_dataset=batches,
        eval_dataset=validation_batches(validation, stage_config, config.batch_tokens // batches.parts),
        callbacks=[ProgressCallback(config.stage), PatienceCallback(config.patience)],
    )


def _build_teacher(config: StageTrainingConfig, grid: TimeGrid) -> GuidanceTeacher | None:
    scales = (config.distill_guidance_scale, config.distill_prompt_scale)
    if scales == (None, None):
        return None
    trained = STAGES[config.stage].model_class.from_pretrained(config.initial_weights, dtype="float32")
    units = grid.units(config.anchor_length_s)
    guidance_scale, prompt_scale = (1.0 if scale is None else scale for scale in scales)
    return GuidanceTeacher(trained, guidance_scale, prompt_scale, grid.tokens_of(units), grid.frames_of(units))


@one_run("stage", "final")
def train_stage(config: StageTrainingConfig, model: PreTrainedModel | None = None) -> None:
    """Train a stage, or a given `model` such as a `PeftModel`, or resume; the best checkpoint is saved in `final`."""
    trainer = build_stage_trainer(config, model)
    output = Path(config.output_folder)
    parameters = trainer.model.num_parameters()
    with delayed_interruption() as interruption, steady_attention(trainer.args.device):
        stopper = StopCallback(interruption)
        trainer.add_callback(stopper)
        trainer.train(resume_from_checkpoint=_resume_from(trainer))
    if stopper.stopping:
        interruption.stop(trainer.state.global_step, Path(trainer.args.output_dir))
    _save_final(trainer, output / "final")
    report = {
        "stage": config.stage,
        "parameters": parameters,
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step,
        "validation": trainer.validate(),
        "log": trainer.state.log_history,
    }
    if trainer.is_world_process_zero():
        write_json(output / "report.json", report)


def _resume_from(trainer: StageTrainer) -> str | None:
    """Return the checkpoint to resume from, as found by the main process."""
    found: list[str | None] = [None]
    if trainer.is_world_process_zero():
        checkpoint = newest_checkpoint(Path(trainer.args.output_dir))
        found = [None if checkpoint is None else str(checkpoint)]
    return broadcast_object_list(found)[0]


def _save_final(trainer: StageTrainer, folder: Path) -> None:
    """Save the model atomically; FSDP's shards are gathered first."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = None
    if trainer.is_fsdp_enabled:
        weights = trainer.accelerator.get_state_dict(trainer.model)
        weights = {name: weight for name, weight in weights.items() if name not in model.all_tied_weights_keys}
    if trainer.is_world_process_zero():
        replace_folder(folder, lambda unfinished: model.save_pretrained(unfinished, state_dict=weights))
    trainer.accelerator.wait_for_everyone()
