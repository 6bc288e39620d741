# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Fit the note onsets to expect of a semantic stage's tokens, on continuations that the whole model generates.

Rates counted on recordings would be too high, because generated tokens lead to fewer onsets.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.files import fill_folder, write_json
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMSemanticModel
from audiolm_hf.onsets_audiolm import MIN_LENGTH_S, onset_rate
from audiolm_hf.progress import progress_bar
from audiolm_hf.settings import Count, NamedInput, OutputPath, Seed, Settings, Use
from audiolm_hf.training.checkpointing import kept_tensors
from audiolm_hf.training.config import AudioDataConfig
from audiolm_hf.training.processes import training_device
from audiolm_hf.training.run import one_run

_RIDGE = 100.0  # chosen on piano, by the error on other prompts
_FOLDS = 5  # of the cross-validation
_Length = Annotated[float, Within(MIN_LENGTH_S, 3600)]


@dataclass
class OnsetRatesConfig(Settings):
    """Configuration of the fit of a semantic stage's onset rates; the stage is saved in `semantic`."""

    checkpoint: NamedInput  # folder or name of the AudioLM whose semantic stage gets the rates
    data: AudioDataConfig  # recordings of music that are continued
    output_folder: OutputPath  # folder for the continuations' tokens and rates, and for the stage
    num_prompts: Count = 60  # prompts, each at a random place of a random recording
    num_continuations: Count = 8  # continuations of each prompt
    prompt_length_s: _Length = 4.0  # length of the prompts in seconds
    continuation_length_s: _Length = 10.0  # length of the continuations in seconds
    use_cpu: Annotated[bool, Use.FREE] = False  # generate on the CPU even if there is an accelerator
    seed: Seed = 0  # random seed of the prompts and of the continuations


@one_run("onset_rates", "semantic", alone=True)
def fit_onset_rates(config: OnsetRatesConfig) -> None:
    """Fit and save the stage; `report.json` has the correlation of expected and found rates on other prompts."""
    model = AudioLMModel.from_pretrained(resolve_checkpoint(config.checkpoint), dtype="float32").eval()
    stage = model.to(training_device(config.use_cpu)).semantic
    if stage.config.remove_repeats:
        raise ValueError("The semantic stage has remove_repeats; onset rates need tokens at equal distances in time.")
    source = AudioSource(config.data.train_paths, model.sampling_rate)
    if source.durations.max() < config.prompt_length_s:
        raise ValueError(f"No recording lasts {config.prompt_length_s:g} s; give a shorter prompt_length_s.")
    folder = Path(config.output_folder) / "continuations"
    folder.mkdir(exist_ok=True)
    samples = [
        kept_tensors(folder / f"{number:05d}.safetensors", partial(_continue, model, source, config, number))
        for number in progress_bar(range(config.num_prompts), desc="onset rates", unit="prompt")
    ]
    tokens, rates = (torch.cat([each[name] for each in samples]) for name in ("tokens", "rates"))
    embeddings = stage.get_input_embeddings().weight[: stage.config.num_semantic_tokens].detach().float().cpu()
    table, correlation = fit_rates(tokens, rates.numpy(), embeddings, config.num_continuations)
    write_json(folder.parent / "report.json", {"correlation": correlation, "mean_rate": float(rates.mean())})
    fill_folder(folder.parent / "semantic", with_onset_rates(stage, table).save_pretrained)


def _continue(model: AudioLMModel, source: AudioSource, config: OnsetRatesConfig, number: int) -> dict[str, Tensor]:
    """Return `tokens (continuations, length)` and onset `rates (continuations,)` of one prompt."""
    rng = np.random.default_rng([config.seed, number])
    length = round(config.prompt_length_s * source.sampling_rate)
    places = np.flatnonzero(source.durations * source.sampling_rate >= length)
    array = source[int(rng.choice(places))].array
    start = int(rng.integers(len(array) - length + 1))
    output = model.generate(
        torch.from_numpy(array[start : start + length])[None].to(model.device),
        num_return_sequences=config.num_continuations,
        continuation_length_s=config.continuation_length_s,
        min_continuation_length_s=config.continuation_length_s,
        semantic_num_candidates=1,
        seed=int(rng.integers(2**32)),
    )
    new = round(config.continuation_length_s / model.time_grid.token_s)
    rates = [onset_rate(each[length:], model.sampling_rate) for each in output.audio_values]
    return {"tokens": output.semantic_tokens[:, -new:].cpu().contiguous(), "rates": torch.tensor(rates)}


def fit_rates(
    tokens: Tensor, rates: np.ndarray, embeddings: Tensor, num_continuations: int
) -> tuple[Tensor, float | None]:
    """Fit a table of onset rates `(2 * num_tokens,)`, see [`AudioLMSemanticModel.expected_onset_rate`].

    The rate of a token is linear in its embedding, with other coefficients for tokens that repeat the one before them.

    Args:
        tokens (`torch.LongTensor` of shape `(num_samples, length)`): semantic tokens, those of a prompt in turn.
        rates (`np.ndarray` of shape `(num_samples,)`): onsets per second of what was generated from them.
        embeddings (`torch.FloatTensor` of shape `(num_tokens, size)`): of the semantic tokens.
        num_continuations (`int`): samples of each prompt.

    Returns:
        `tuple`: the table, and the correlation of rates with those expected from the other prompts (`None` with fewer
        prompts than folds, or if all rates are equal).
    """
    scaled = (embeddings - embeddings.mean(0)) / embeddings.std(0).clamp(min=1e-6)
    vectors = torch.cat([scaled, torch.ones(len(scaled), 1)], dim=1).numpy()
    differs = (tokens[:, 1:] != tokens[:, :-1]).numpy()
    found = vectors[tokens[:, 1:].numpy()]
    features = np.concatenate(
        [(found * kind[..., None]).mean(axis=1) for kind in (~differs, differs)], axis=1, dtype=np.float64
    )
    regression = make_pipeline(StandardScaler(), Ridge(_RIDGE)).fit(features, rates)
    scaler, ridge = regression[0], regression[1]
    repeated, changed = np.split(ridge.coef_ / scaler.scale_, 2)
    constant = ridge.intercept_ - scaler.mean_ @ (ridge.coef_ / scaler.scale_)
    by_kind = [vectors @ coefficients + constant for coefficients in (repeated, changed)]
    table = torch.from_numpy(np.concatenate(by_kind)).float()
    groups = np.arange(len(rates)) // num_continuations
    if groups[-1] + 1 < _FOLDS or not rates.std():
        return table, None
    guesses = cross_val_predict(regression, features, rates, groups=groups, cv=GroupKFold(_FOLDS))
    return table, float(np.corrcoef(guesses, rates)[0, 1])


def with_onset_rates(stage: AudioLMSemanticModel, table: Tensor) -> AudioLMSemanticModel:
    """Return a stage with the same weights and a table of onset rates."""
    config = stage.config.__class__.from_dict(stage.config.to_dict() | {"has_onset_rates": True})
    new = AudioLMSemanticModel(config)
    new.load_state_dict(stage.state_dict() | {"onset_rates": table})
    return new.eval()
