# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Fine-tune a semantic tokenizer to be speaker-invariant.

Every frame of the tokenizer's features is replaced by the mean of the frames nearest to it, one of each other speaker
(the regression of kNN-VC, arXiv 2305.18975, but towards all speakers at once), and clustered. The encoder and new
centroids are trained to predict these clusters from perturbed voices, against a classifier that predicts the speaker
from the frequencies of the tokens (gradient reversal, arXiv 1505.07818).

ContentVec (arXiv 2204.09224) and Spin (arXiv 2305.11072) are related, but take their targets from converted voices
instead of the frames of other speakers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from audiolm_hf.configuration_audiolm import AudioLMSemanticTokenizerConfig
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.data.loading import require_model_type
from audiolm_hf.evaluation.baselines.token_systems import fit_kmeans
from audiolm_hf.files import replace_folder
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer
from audiolm_hf.progress import progress_bar
from audiolm_hf.settings import Count, InputPath, LearningRate, NotNegative, PartialShare, Positive
from audiolm_hf.training.checkpointing import kept_tensors
from audiolm_hf.training.config import EncoderCrop, MaskedTrainingConfig, MaskLength, Warmup
from audiolm_hf.training.loop import start_accelerator, stop_tracking
from audiolm_hf.training.processes import mean_over_processes, own_rows
from audiolm_hf.training.run import one_run
from audiolm_hf.training.tokenizer.centroids import assign_clusters
from audiolm_hf.training.tokenizer.encoder_trainer import EncoderTrainer
from audiolm_hf.training.tokenizer.spectrum_crops import (
    IGNORED,
    TOKENS_FRAMES,
    CropBatch,
    SpectrumTable,
    VoiceChange,
    draw_crops,
    encoder_states,
    standardized,
)

CHUNK = 32768  # number of frames whose distances are computed at once
FIRST_SCORE_RANGE = 3.0  # range of the initial scores of centroids, so that they are neither uniform nor certain
LEAST_SHARE = 1e-3  # frequency of a token below which the adversary's input is constant


class SpeakerAdversary(nn.Linear):
    """A linear speaker classifier with its own learning rate."""

    def __init__(self, num_tokens: int, num_speakers: int, learning_rate_factor: float) -> None:
        super().__init__(num_tokens, num_speakers)
        self.learning_rate_factor = learning_rate_factor


class SpeakerInvarianceModel(nn.Module):
    """A tokenizer's encoder, trained in place, trainable centroids, and the adversary with its gradient's factor."""

    def __init__(
        self,
        tokenizer: AudioLMSemanticTokenizer,
        centroids: torch.Tensor,
        adversary: SpeakerAdversary,
        adversary_weight: float,
    ) -> None:
        super().__init__()
        self.encoder, self.layer = tokenizer.encoder, tokenizer.config.layer
        self.centroids = nn.Parameter(centroids.clone())
        spread = (centroids - centroids.mean(dim=0)).square().sum(dim=1).mean()
        self.log_scale = nn.Parameter((FIRST_SCORE_RANGE / spread.clamp(min=1e-6)).log())
        self.adversary, self.adversary_weight = adversary, adversary_weight

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return scores of centroids `(..., num_semantic_tokens)`, higher for nearer ones, up to a common constant."""
        return self.log_scale.exp() * (2 * features @ self.centroids.T - self.centroids.square().sum(dim=1))

    def forward(self, batch: CropBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the loss, loss and accuracy of tokens, and the adversary's loss, to be averaged over processes."""
        hidden_states = self.encoder(
            batch.input_features,
            attention_mask=batch.attention_mask,
            mask_time_indices=batch.masked,
            output_hidden_states=True,
        ).hidden_states[self.layer]
        scores = self.scores(hidden_states.float().unflatten(1, (-1, TOKENS_FRAMES)).mean(dim=2))
        real = batch.targets != IGNORED
        count = mean_over_processes(real.sum().float()).clamp(min=1)
        token_loss = functional.cross_entropy(scores[real], batch.targets[real], reduction="sum") / count
        accuracy = (scores.argmax(dim=-1) == batch.targets)[real].sum() / count
        use = (scores.softmax(dim=-1) * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True)  # of each token
        use = (use / LEAST_SHARE).log1p()
        if use.requires_grad:
            use.register_hook(lambda gradient: -self.adversary_weight * gradient)  # reversed for the encoder
        speaker_loss = functional.cross_entropy(self.adversary(use), batch.speakers)
        return token_loss + speaker_loss, token_loss.detach(), accuracy, speaker_loss.detach()


@dataclass(kw_only=True)
class SpeakerInvarianceConfig(MaskedTrainingConfig):
    """Configuration of the speaker-invariance training; the new tokenizer is saved in `tokenizer`."""

    # folder of a fitted [`AudioLMSemanticTokenizer`] with an encoder of spectra (Wav2Vec2-BERT) and `pooling=2`
    tokenizer: InputPath
    max_steps: Count  # number of training steps
    averaging_rounds: Count = 3  # number of rounds, see `average_over_speakers`
    frames_per_speaker: Count = 1500  # frames of each speaker, see `average_over_speakers`
    crop_length_s: EncoderCrop = 2.56
    mask_share: PartialShare = 0.3
    mask_length_s: MaskLength = 0.16
    vocal_tract_warp: PartialShare = 0.3  # see `VoiceChange`
    pitch_warp: PartialShare = 0.2  # see `VoiceChange`
    equalizer: NotNegative = 0.3  # see `VoiceChange`
    adversary_weight: NotNegative = 0.5  # factor of the adversary's gradient in the encoder
    # factor of `learning_rate` for the adversary; training diverges with 20
    adversary_learning_rate_factor: Positive = 1.0
    learning_rate: LearningRate = 5e-4
    warmup_steps: Warmup = 0.05
    max_kmeans_frames: Count = 150_000
    logging_steps: Count = 100  # steps between entries of the log


def without_speaker_directions(features: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Standardize features `(frames, hidden_size)`, and remove the subspace spanned by the means of the speakers."""
    names = np.unique(speakers)
    standard = standardized(features)
    means = np.stack([standard[speakers == name].mean(axis=0) for name in names])
    _, lengths, directions = np.linalg.svd(means.astype(np.float64), full_matrices=False)
    kept = directions[lengths > 1e-4].astype(np.float32)
    return (standard - (standard @ kept.T) @ kept).astype(np.float32)


def nearest_of_others(
    features: np.ndarray, speakers: np.ndarray, frames_per_speaker: int, rng: np.random.Generator
) -> np.ndarray:
    """Replace every frame by the mean of the frames nearest to it, one of each other speaker."""
    names = np.unique(speakers)
    if len(names) < 2:
        raise ValueError(f"All recordings are of the speaker {str(names[0])!r}; give those of two or more speakers.")
    frames = torch.from_numpy(features)
    total = torch.zeros_like(frames)
    for name in progress_bar(names, desc="averaging", unit="speaker"):
        own = np.flatnonzero(speakers == name)
        pool = frames[rng.permutation(own)[:frames_per_speaker]]
        half_norms = pool.square().sum(dim=1) / 2
        for others in torch.from_numpy(np.flatnonzero(speakers != name)).split(CHUNK):
            total[others] += pool[(half_norms - frames[others] @ pool.T).argmin(dim=1)]
    return (total / (len(names) - 1)).numpy()


def average_over_speakers(
    features: np.ndarray, speakers: np.ndarray, num_rounds: int, frames_per_speaker: int, seed: int
) -> np.ndarray:
    """Remove the speaker from features by repeated [`without_speaker_directions`] and [`nearest_of_others`].

    `features` are `(frames, hidden_size)`, `speakers` `(frames,)`, at least two. In each of `num_rounds` (more than
    three change little), `frames_per_speaker` random frames of each speaker are compared.
    """
    for index in range(num_rounds):
        rng = np.random.default_rng([seed, index])
        features = nearest_of_others(without_speaker_directions(features, speakers), speakers, frames_per_speaker, rng)
    return features


def token_batch(
    table: SpectrumTable,
    targets: np.ndarray,
    speakers: np.ndarray,
    rng: np.random.Generator,
    config: SpeakerInvarianceConfig,
    rows: slice = slice(None),
) -> CropBatch:
    """Return some rows of [`draw_crops`] that begin with a token, with perturbed voices."""
    drawn = draw_crops(table, targets, rng, config, TOKENS_FRAMES, speakers)
    change = VoiceChange(config.vocal_tract_warp, config.pitch_warp, config.equalizer)
    return replace(drawn, input_features=change(drawn.input_features, rng)).map(lambda tensor: tensor[rows])


def token_targets(
    table: SpectrumTable, speakers: np.ndarray, tokenizer: AudioLMSemanticTokenizer, config: SpeakerInvarianceConfig
) -> dict[str, torch.Tensor]:
    """Return the cluster of every token after averaging across speakers, and the mean feature of each cluster."""
    states, shared = [], []
    for index in progress_bar(range(len(table)), desc="features"):
        rows = encoder_states(table.recording(index), tokenizer.encoder, tokenizer.config.layer)
        states.append(_pooled(rows))
        shared.append(_pooled(standardized(rows)))
    owners = np.repeat(speakers, [len(rows) for rows in states])
    shared_part = average_over_speakers(
        np.concatenate(shared), owners, config.averaging_rounds, config.frames_per_speaker, config.seed
    )
    shared_part = standardized(shared_part)
    chosen = np.random.default_rng(config.seed).permutation(len(shared_part))[: config.max_kmeans_frames]
    clusters = fit_kmeans(shared_part[chosen], tokenizer.config.num_semantic_tokens, config.seed)
    tokens = assign_clusters(shared_part, clusters)
    features = np.concatenate(states)
    sums = np.zeros((len(clusters), features.shape[1]))
    np.add.at(sums, tokens, features)
    counts = np.bincount(tokens, minlength=len(clusters))[:, None]
    # Adding one frame with the mean of all frames defines the centroid of an empty cluster.
    centroids = torch.from_numpy((sums + features.mean(axis=0)) / (counts + 1)).float()
    return {"tokens": torch.from_numpy(tokens), "centroids": centroids}


def _pooled(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows) // TOKENS_FRAMES, TOKENS_FRAMES, -1).mean(axis=1)


@one_run("speaker_invariance", "tokenizer")
def train_speaker_invariance(config: SpeakerInvarianceConfig) -> None:
    """Fine-tune a tokenizer to be speaker-invariant, or resume the training; the result is in `tokenizer`."""
    output = Path(config.output_folder)
    accelerator = start_accelerator(config, "speaker-invariance")
    rows = own_rows(config.batch_size)
    tokenizer = _load_tokenizer(config)
    table, speakers = _load_spectra(config, tokenizer.config.sampling_rate)
    with accelerator.main_process_first():  # the other processes read the file that it writes
        make = partial(token_targets, table, speakers, tokenizer.to(accelerator.device), config)
        targets = kept_tensors(output / "targets.safetensors", make)
    tokens, centroids = targets["tokens"].numpy(), targets["centroids"]
    torch.manual_seed(config.seed)  # for the initial weights of the adversary
    adversary = SpeakerAdversary(len(centroids), speakers.max() + 1, config.adversary_learning_rate_factor)
    model = SpeakerInvarianceModel(tokenizer, centroids, adversary, config.adversary_weight)

    def batch(part: int, step: int) -> CropBatch:
        rng = np.random.default_rng([config.seed, part, step])
        drawn = token_batch(table, tokens, speakers, rng, config, rows)
        return drawn.map(lambda tensor: tensor.to(accelerator.device))

    EncoderTrainer(
        config,
        accelerator,
        model,
        batch,
        folder=output,
        max_steps=config.max_steps,
        save_steps=config.save_steps,
        names=("loss", "accuracy", "speaker_loss"),
        logging_steps=config.logging_steps,
    ).run()
    stop_tracking(accelerator)
    tokenizer.eval()  # the encoder is in training mode
    with torch.no_grad():
        tokenizer.feature_mean.zero_()  # the trained centroids apply to features without normalization
        tokenizer.feature_std.fill_(1.0)
        tokenizer.centroids.copy_(model.centroids)
    if accelerator.is_main_process:
        replace_folder(output / "tokenizer", tokenizer.save_pretrained)
    accelerator.wait_for_everyone()


def _load_tokenizer(config: SpeakerInvarianceConfig) -> AudioLMSemanticTokenizer:
    require_model_type(config.tokenizer, AudioLMSemanticTokenizerConfig.model_type, "tokenizer")
    tokenizer = AudioLMSemanticTokenizer.from_pretrained(
        config.tokenizer, attn_implementation={"encoder_config": config.attn_implementation}
    )
    if tokenizer.encoder.main_input_name != "input_features" or tokenizer.config.pooling != TOKENS_FRAMES:
        raise ValueError(
            f"{config.tokenizer} has a {type(tokenizer.encoder).__name__} and pools {tokenizer.config.pooling} "
            f"frames; give one with an encoder of spectra (Wav2Vec2BertModel) that pools {TOKENS_FRAMES}."
        )
    return tokenizer


def _load_spectra(config: SpeakerInvarianceConfig, sampling_rate: int) -> tuple[SpectrumTable, np.ndarray]:
    """Return the spectra of all recordings, and the index of the speaker of each."""
    names: list[str] = []
    source = AudioSource(config.data.train_paths, sampling_rate)

    def records() -> Iterator[AudioRecord]:
        for record in progress_bar(source, desc="training spectra"):
            names.append(record.speaker)
            yield record

    table = SpectrumTable.from_records(records())
    if not all(names) or len(set(names)) < 2:
        raise ValueError(
            f"The {len(names)} recordings of {config.data.train} name {len(set(names) - {''})} speakers, "
            f"{sum(not name for name in names)} none; give recordings with a column `speaker`, of two or more."
        )
    return table, np.unique(names, return_inverse=True)[1]
