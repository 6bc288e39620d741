# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Likelihood protocol: bits per token of the stages on held-out recordings, compared with n-grams.

Stages and n-grams score the same tokens in the same order, and neither scores conditioning tokens. The increase of a
stage's bits with the conditioning tokens of another recording shows how much it depends on them.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiolm_hf.checkpoint_audiolm import read_model_type
from audiolm_hf.configuration_audiolm import AudioLMConfig, AudioLMStageConfig
from audiolm_hf.data.crops import Crop, build_example, check_agreement, record_units
from audiolm_hf.data.tokens import TokenDataset, TokenRecord
from audiolm_hf.evaluation.baselines.ngram import NGramModel, context_matrix
from audiolm_hf.evaluation.report import Headline, format_table
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.progress import progress_bar
from audiolm_hf.stages_audiolm import STAGES
from audiolm_hf.time_grid_audiolm import TimeGrid
from audiolm_hf.token_layout_audiolm import (
    IGNORE_INDEX,
    SEMANTIC_LEVEL,
    level_ids,
    level_range,
    pad_examples,
    token_levels,
)

OTHER_CONDITION = "other condition"
NGRAM_ORDERS = (1, 2, 3, 5)  # with little data, a lower order can be the better baseline


def check_stage_folders(folders: Sequence[str | Path]) -> list[str]:
    """Return the model types of folders, each of which must have an AudioLM or a stage that defines a likelihood."""
    kinds = {stage.config_class.model_type: stage.config_class for stage in STAGES.values()}
    found = [read_model_type(folder) for folder in folders]
    for folder, kind in zip(folders, found, strict=True):
        if kind in kinds and kinds[kind].layout.parallel:
            raise ValueError(
                f"{folder} holds the {kinds[kind].stage} stage, which predicts all frames at once, so that a sequence "
                "has no likelihood; report.json of its training has the bits of masked codes."
            )
        if kind not in (AudioLMConfig.model_type, *kinds):
            raise ValueError(f"{folder} holds a model of type {kind!r}; give an AudioLM or one of {', '.join(kinds)}.")
    return found


def load_stages(folders: Sequence[str | Path]) -> dict[str, AudioLMStageModel]:
    """Load the stages in folders of AudioLM models or of single stages, in float32 and in the order of the stages."""
    classes = {stage.config_class.model_type: stage.model_class for stage in STAGES.values()}
    stages: dict[str, AudioLMStageModel] = {}
    for folder, kind in zip(folders, check_stage_folders(folders), strict=True):
        if kind == AudioLMConfig.model_type:
            model = AudioLMModel.from_pretrained(folder, dtype="float32").eval()
            stages |= {name: stage for name, stage in model.stages.items() if not stage.config.layout.parallel}
        else:
            stage = classes[kind].from_pretrained(folder, dtype="float32").eval()
            stages[stage.config.stage] = stage
    return {name: stages[name] for name in STAGES if name in stages}


def predicted_ids(record: TokenRecord, config: AudioLMStageConfig) -> np.ndarray:
    """Return the ids that a stage predicts for a record, in order; int64 of shape `(sequence_length,)`."""
    tokens, codes = (torch.from_numpy(ids.astype(np.int64)) for ids in (record.semantic_tokens, record.audio_codes))
    ids = level_ids(config.predicted_levels, tokens, codes, config).numpy()
    return np.append(ids, config.end_token_id) if config.layout.predicts_end and record.ends_recording else ids


def ngram_bits(
    train: TokenDataset, test: TokenDataset, config: AudioLMStageConfig, order: int
) -> dict[int, np.ndarray]:
    """Fit n-grams of a stage's tokens on `train`, and return the bits of every token of `test` by level."""
    fitted, scored = (_grams(dataset, config, order) for dataset in (train, test))
    bits = {}
    for level in config.predicted_levels:
        start, stop = level_range(config, level)
        model = NGramModel(*fitted[level], stop - start)
        bits[level] = model.bits(*scored[level])
    return bits


def _grams(dataset: TokenDataset, config: AudioLMStageConfig, order: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return contexts and targets (relative to the first id of their level) of all predicted tokens by level."""
    sequences = [predicted_ids(record, config) for record in dataset]
    contexts = np.concatenate([context_matrix(ids, order, config.begin_token_id) for ids in sequences])
    targets = np.concatenate(sequences)
    levels = token_levels(torch.from_numpy(targets), config).numpy()
    return {
        level: (contexts[levels == level], targets[levels == level] - level_range(config, level)[0])
        for level in config.predicted_levels
    }


def scored_crops(units: int, window: int, stride: int) -> list[tuple[Crop, int]]:
    """Return overlapping windows of a record, each with the number of first units that are context, not scored."""
    crops = [(Crop(0, 0, min(window, units)), 0)]
    while crops[-1][0].start + crops[-1][0].length < units:
        before = crops[-1][0]
        end = min(before.start + before.length + stride, units)
        start = max(0, end - window)
        crops.append((Crop(0, start, end - start), before.start + before.length - start))
    return crops


def stage_token_bits(
    model: AudioLMStageModel, test: TokenDataset, overlap: float = 0.5, *, other_condition: bool = False
) -> dict[int, np.ndarray]:
    """Return the bits of every predicted token of a dataset by level.

    The first part of a window, its share `overlap`, is context and not scored, except in the first window of a record.
    With `other_condition`, the stage is conditioned on the tokens of the next recording.
    """
    config = model.config
    found: list[dict[int, np.ndarray]] = []
    for number, record in enumerate(progress_bar(test, desc=f"{config.stage} stage", unit="recording")):
        if other_condition:
            record = _with_condition_of(test[(number + 1) % len(test)], record, config)
        found.append(record_token_bits(model, record, test.info.grid, overlap))
    return {level: np.concatenate([each[level] for each in found]) for level in config.predicted_levels}


@torch.inference_mode()
def record_token_bits(
    model: AudioLMStageModel, record: TokenRecord, grid: TimeGrid, overlap: float = 0.5
) -> dict[int, np.ndarray]:
    """Return the bits of every predicted token of a record by level; see [`stage_token_bits`]."""
    config = model.config
    window = grid.units(config.window_length_s)
    # Without repeats, tokens have no fixed duration, so that the end of the context has no known position: no overlap.
    stride = window if config.remove_repeats else max(1, round(window * (1 - overlap)))
    bits: dict[int, list[np.ndarray]] = {level: [] for level in config.predicted_levels}
    for crop, context_units in scored_crops(record_units(record, grid), window, stride):
        example = build_example(record, [crop], grid, config)
        labels = example["labels"]
        predicted = torch.nonzero(labels != IGNORE_INDEX)[:, 0]
        context = Crop(crop.record, crop.start, context_units)
        labels[predicted[: num_predicted(context, grid, config)]] = IGNORE_INDEX
        batch = {name: tensor.to(model.device) for name, tensor in pad_examples([example], config).items()}
        losses = model.token_losses(**batch)[0][0].cpu()
        levels = token_levels(labels, config)
        for level, found in bits.items():
            found.append(losses[(levels == level) & (labels != IGNORE_INDEX)].double().numpy() / math.log(2))
    return {level: np.concatenate(found) for level, found in bits.items()}


def _with_condition_of(other: TokenRecord, record: TokenRecord, config: AudioLMStageConfig) -> TokenRecord:
    """Replace the conditioning tokens with those of another record, from its middle on, repeated to equal length."""

    def fitted(theirs: np.ndarray, length: int) -> np.ndarray:
        turned = np.roll(theirs, theirs.shape[-1] // 2, axis=-1)
        return np.take(turned, np.arange(length) % turned.shape[-1], axis=-1)

    tokens, codes = record.semantic_tokens, record.audio_codes.copy()
    levels = [level for level in config.condition_levels if level != SEMANTIC_LEVEL]
    codes[levels] = fitted(other.audio_codes[levels], codes.shape[1])
    if SEMANTIC_LEVEL in config.condition_levels:
        tokens = fitted(other.semantic_tokens, len(tokens))
    return replace(record, semantic_tokens=tokens, audio_codes=codes)


def num_predicted(crop: Crop, grid: TimeGrid, config: AudioLMStageConfig) -> int:
    """Return the number of tokens in a crop that a stage predicts."""
    cut = crop.tokens(grid) if SEMANTIC_LEVEL in config.predicted_levels else crop.frames(grid)
    return (cut.stop - cut.start) * len(config.predicted_levels)


def evaluate_likelihood(
    stages: dict[str, AudioLMStageModel], train: TokenDataset, test: TokenDataset
) -> dict[str, Any]:
    """Compare stages with n-gram models, fitted on `train`, on the same held-out tokens `test`.

    In the result, `stages` has the number of tokens and the bits per token of `stage`, `1-gram`, `2-gram` and so on
    for each stage, over all its tokens and, in `levels`, for each level. Stages with a condition also have `other
    condition`, the bits with the conditioning tokens of another recording. Datasets of different tokenizers, and
    stages with another vocabulary, raise a `ValueError`.
    """
    if train.info != test.info:
        raise ValueError(
            f"The training tokens were made by tokenizers {train.info.tokenizers}, the test tokens by "
            f"{test.info.tokenizers}; make both with the same."
        )
    report: dict[str, Any] = {
        "orders": list(NGRAM_ORDERS),
        "train_hours": train.duration / 3600,
        "test_hours": test.duration / 3600,
        "stages": {},
    }
    for name, model in stages.items():
        check_agreement(test.info, model.config)
        systems = {"stage": stage_token_bits(model, test)}
        if model.config.condition_levels:
            systems[OTHER_CONDITION] = stage_token_bits(model, test, other_condition=True)
        systems |= {f"{order}-gram": ngram_bits(train, test, model.config, order) for order in NGRAM_ORDERS}
        report["stages"][name] = _summary(systems) | {"window_length_s": model.config.window_length_s}
    return report


def _summary(systems: dict[str, dict[int, np.ndarray]]) -> dict[str, Any]:
    levels: list[dict[str, Any]] = [
        {"level": "semantic" if level == SEMANTIC_LEVEL else str(level), "tokens": len(values)}
        | {name: float(bits[level].mean()) for name, bits in systems.items()}
        for level, values in systems["stage"].items()
    ]
    totals = {name: float(np.concatenate(list(bits.values())).mean()) for name, bits in systems.items()}
    return totals | {"tokens": sum(level["tokens"] for level in levels), "levels": levels}


def format_likelihood(report: dict[str, Any]) -> str:
    """Format the result of [`evaluate_likelihood`] as a table."""
    columns = ["stage", OTHER_CONDITION, *(f"{order}-gram" for order in report["orders"])]

    def cells(metrics: dict[str, Any]) -> list[str]:
        return [f"{metrics[column]:.3f}" if column in metrics else "-" for column in columns]

    rows = []
    for name, metrics in report["stages"].items():
        rows.append([name, "all", str(metrics["tokens"]), *cells(metrics)])
        for level in metrics["levels"] if len(metrics["levels"]) > 1 else []:
            rows.append(["", level["level"], str(level["tokens"]), *cells(level)])
    header = ["stage", "level", "tokens", "bits per token", *columns[1:]]
    hours = f"n-grams fitted on {report['train_hours']:.2f} h; test {report['test_hours']:.2f} h"
    return f"{hours}\n\n{format_table(header, rows)}\n"


def likelihood_headlines(result: dict[str, Any]) -> list[Headline]:
    """Return the rows of a card's table."""
    rows = []
    for name, metrics in result["stages"].items():
        best = min((f"{order}-gram" for order in result["orders"]), key=lambda gram: metrics[gram])
        text = f"best n-gram ({best}): {metrics[best]:.3f}"
        if OTHER_CONDITION in metrics:
            text += f", with the condition of another recording: {metrics[OTHER_CONDITION]:.3f}"
        rows.append((f"{name} stage, bits per token", f"{metrics['stage']:.3f}", text))
    return rows
