# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Train the detector of a checkpoint's audio.

The clips, generated and real, are made once, see [`~audiolm_hf.evaluation.detector_clips`]. Each step draws crops of
these clips, half of them generated, and edits a share of the crops.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from accelerate import Accelerator
from scipy.special import logit
from torch import Tensor, nn

from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.edits import EDITS, edit_audio
from audiolm_hf.data.loading import float16_tensors, load_codec, require_model_type
from audiolm_hf.evaluation.detector_clips import (
    REAL,
    DetectorClipsConfig,
    check_lengths,
    check_range,
    draw,
    pad_clips,
    read_clips,
    score_clips,
    through_codec,
    write_clips,
)
from audiolm_hf.evaluation.metrics.detection import balanced_accuracy, equal_error_rate, even_odds_threshold
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.files import replace_folder
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_detector_audiolm import (
    LABELS,
    MIN_LENGTH_S,
    AudioLMDetectorConfig,
    AudioLMDetectorForAudioClassification,
)
from audiolm_hf.modeling_detector_audiolm import REAL as REAL_LABEL
from audiolm_hf.settings import BatchSize, Count, NamedInput, Share
from audiolm_hf.training.config import AudioDataConfig, TrainingConfig
from audiolm_hf.training.loop import start_accelerator, stop_tracking
from audiolm_hf.training.processes import own_rows
from audiolm_hf.training.run import one_run
from audiolm_hf.training.tokenizer.encoder_trainer import EncoderTrainer

MAX_EDITS = 2  # of a crop
STANDARDIZING_STEPS = 32  # the mean and scale of the features are those of these steps' crops
VALIDATION_LENGTH_S = 3.0
_CropLength = Annotated[float, Within(2 * MIN_LENGTH_S, 60)]  # edits shorten crops, but not to less than half


@dataclass(kw_only=True)
class DetectorTrainingConfig(TrainingConfig):
    """Configuration of the training of a detector of generated audio; it is saved in `detector`."""

    checkpoint: NamedInput  # folder or name of the AudioLM whose audio is detected
    data: AudioDataConfig  # recordings that are continued, and that also serve as real audio
    clips: DetectorClipsConfig = field(default_factory=DetectorClipsConfig)  # the clips for training
    num_validation: Count = 40  # number of continuations, of samples without a prompt and of real clips for validation
    max_steps: Count = 3000  # number of training steps
    batch_size: BatchSize = 16  # crops per step, over all processes
    # shortest and longest crop in seconds
    crop_length_s: list[_CropLength] = field(default_factory=lambda: [1.0, 5.0])
    edit_share: Share = 0.5  # share of crops that are edited, once or twice
    # share that is used of the real clips resynthesized from the coarse levels alone, the real audio that is most like
    # generated audio. With fewer of them, the detector separates generated audio better from all other real audio, but
    # classifies such clips as generated more often.
    coarse_share: Share = 1.0
    # folders or names of other codecs, or of checkpoints with a codec; real clips resynthesized by them count as real
    other_codecs: list[NamedInput] = field(default_factory=list)
    save_steps: Count = 250  # steps between checkpoints
    eval_steps: Count = 250  # steps between validations

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("crop_length_s", self.crop_length_s)
        if self.batch_size % len(LABELS):
            raise ValueError(f"batch_size is {self.batch_size}; give an even number, as half of the crops are real.")
        if self.clips.length_s[0] < 2 * MIN_LENGTH_S:
            raise ValueError(f"clips.length_s is {self.clips.length_s}; give {2 * MIN_LENGTH_S:g} s or more.")


class DetectorClips:
    """Batches of crops of clips; a batch depends only on the seed and the step.

    Of the clips resynthesized from the coarse levels alone, the first `coarse_share` are used.
    """

    def __init__(self, groups: Mapping[str, list[np.ndarray]], sampling_rate: int, coarse_share: float = 1.0) -> None:
        self.groups, self.sampling_rate = groups, sampling_rate
        self.by_label: list[list[np.ndarray]] = [[] for _ in LABELS]
        for name, clips in groups.items():
            clips = clips[: round(coarse_share * len(clips))] if name == "coarse" else clips
            self.by_label[REAL_LABEL if name in REAL else 1 - REAL_LABEL] += clips

    def batch(self, config: DetectorTrainingConfig, step: int, rows: slice) -> dict[str, Tensor]:
        """Return some rows of a step's batch: `input_values`, `attention_mask`, `labels`."""
        length_s = draw(np.random.default_rng([config.seed, step]), config.crop_length_s)
        places = range(config.batch_size)[rows]
        crops = [self._crop(config, step, row, round(length_s * self.sampling_rate)) for row in places]
        return pad_clips(crops) | {"labels": torch.tensor([row % len(LABELS) for row in places])}

    def _crop(self, config: DetectorTrainingConfig, step: int, row: int, length: int) -> np.ndarray:
        rng = np.random.default_rng([config.seed, step, row])
        clips = self.by_label[row % len(LABELS)]
        clip = clips[int(rng.integers(len(clips)))]
        start = int(rng.integers(max(1, len(clip) - length + 1)))
        crop = clip[start : start + length].astype(np.float32) / 32767.0
        if rng.random() < config.edit_share:
            for name in rng.choice(list(EDITS), int(rng.integers(MAX_EDITS)) + 1, replace=False):
                crop = edit_audio(crop, self.sampling_rate, name, int(rng.integers(2**32)))
        return crop

    def validate(self, detector: AudioLMDetectorForAudioClassification) -> dict[str, float]:
        """Return accuracy and equal error rate on the beginnings of all clips."""
        generated, real = (self._scores(detector, clips) for clips in self.by_label)
        return {"accuracy": balanced_accuracy(real, generated), "eer": equal_error_rate(real, generated)}

    def _scores(self, detector: AudioLMDetectorForAudioClassification, clips: list[np.ndarray]) -> np.ndarray:
        length = round(VALIDATION_LENGTH_S * self.sampling_rate)
        return np.asarray(score_clips(detector, [clip[:length].astype(np.float32) / 32767.0 for clip in clips]))

    @torch.no_grad()
    def calibrate_(self, detector: AudioLMDetectorForAudioClassification) -> None:
        """Shift the logits so that a score of 0.5 means even odds for the validation clips.

        Real clips resynthesized from the coarse levels alone are excluded, because they are rare in practice.
        """
        real = [clip for name in REAL if name != "coarse" for clip in self.groups.get(name, [])]
        scores = (self._scores(detector, clips) for clips in (real, self.by_label[1 - REAL_LABEL]))
        threshold = even_odds_threshold(*(logit(each.clip(1e-7, 1 - 1e-7)) for each in scores))
        if threshold is not None:
            detector.classifier.bias[REAL_LABEL] -= threshold


class DetectorLoss(nn.Module):
    """A detector that returns the values that [`EncoderTrainer`] reads."""

    def __init__(self, detector: AudioLMDetectorForAudioClassification) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss twice, the second time without gradients, and the accuracy."""
        outputs = self.detector(**batch)
        accuracy = (outputs.logits.argmax(-1) == batch["labels"]).float().mean()
        return outputs.loss, outputs.loss.detach(), accuracy


class DetectorTrainer(EncoderTrainer):
    """The training loop, with validation by accuracy and equal error rate."""

    validation: DetectorClips | None = None

    def metrics(self) -> dict[str, float]:
        """Return the values of the last step and, with validation clips, those of [`DetectorClips.validate`]."""
        if self.validation is None:
            return self.values
        detector: Any = self.modules["model"].eval()
        found = self.validation.validate(detector.detector)
        return self.values | {f"validation_{name}": value for name, value in found.items()}


@one_run("detector", "detector")
def train_detector(config: DetectorTrainingConfig) -> None:
    """Generate the clips and train a detector, or resume; the result is in `detector`, its EER in `log.jsonl`."""
    accelerator = start_accelerator(config, "detector")
    rows, output = own_rows(config.batch_size), Path(config.output_folder)
    codecs = [load_codec(resolve_checkpoint(name)) for name in config.other_codecs]
    with accelerator.main_process_first():  # the others read the files that the main process writes
        rate, plans = _make_clips(config, accelerator, codecs)
    groups = {name: read_clips(output / name, plan) for name, plan in plans.items()}
    for codec in codecs:
        for group in groups.values():
            group["codec"] = group["codec"] + through_codec(codec, group["real"])
    clips = {name: DetectorClips(each, rate, config.coarse_share) for name, each in groups.items()}
    validation = clips.get("validation")
    detector = fit_detector(config, accelerator, rows, clips["training"], validation)
    stop_tracking(accelerator)
    if accelerator.is_main_process:
        if validation is not None:
            validation.calibrate_(detector.eval())
        replace_folder(output / "detector", partial(save_detector, detector.cpu()))
    accelerator.wait_for_everyone()


def fit_detector(
    config: DetectorTrainingConfig,
    accelerator: Accelerator,
    rows: slice,
    training: DetectorClips,
    validation: DetectorClips | None,
) -> AudioLMDetectorForAudioClassification:
    """Train a detector on clips, or resume; `rows` are this process's part of a batch."""
    torch.manual_seed(config.seed)
    detector = AudioLMDetectorForAudioClassification(AudioLMDetectorConfig(sampling_rate=training.sampling_rate))
    first = (training.batch(config, step, slice(None)) for step in range(STANDARDIZING_STEPS))
    detector.standardize_((each["input_values"], each["attention_mask"]) for each in first)

    def batch(part: int, step: int) -> dict[str, Tensor]:
        drawn = training.batch(config, step, rows)
        return {name: values.to(accelerator.device) for name, values in drawn.items()}

    trainer = DetectorTrainer(
        config,
        accelerator,
        DetectorLoss(detector),
        batch,
        folder=Path(config.output_folder),
        names=("loss", "accuracy"),
        max_steps=config.max_steps,
        logging_steps=config.eval_steps,
        save_steps=config.save_steps,
    )
    trainer.validation = validation
    trainer.run()
    return detector


def _make_clips(
    config: DetectorTrainingConfig, accelerator: Accelerator, codecs: list[AcousticCodec]
) -> tuple[int, dict[str, DetectorClipsConfig]]:
    """Write the missing clips, and return their sampling rate and the configuration of each folder."""
    folder = resolve_checkpoint(config.checkpoint)
    if Path(folder).is_dir():
        require_model_type(folder, "audiolm", "checkpoint")
    count, output = config.num_validation, Path(config.output_folder)
    held_out = replace(
        config.clips, num_continuations=count, num_unconditional=count, num_real=count, seed=config.clips.seed + 1
    )
    plans = {
        "training": (config.clips, config.data.train_paths),
        "validation": (held_out, config.data.validation_paths),
    }
    sources = {name: AudioSource(paths) for name, (_, paths) in plans.items() if paths}
    for name, source in sources.items():
        check_lengths(source, plans[name][0])
    model = AudioLMModel.from_pretrained(folder, dtype="float32").eval().to(accelerator.device)
    if rates := {codec.sampling_rate for codec in codecs} - {model.sampling_rate}:
        raise ValueError(
            f"other_codecs has codecs of {rates} Hz; give codecs of the checkpoint's {model.sampling_rate} Hz."
        )
    for mode in config.clips.acoustic_modes:
        model.check_generate_options(acoustic_mode=mode)
    for name, source in sources.items():
        source.sampling_rate = model.sampling_rate
        write_clips(model, source, plans[name][0], output / name)
    return model.sampling_rate, {name: plans[name][0] for name in sources}


def save_detector(detector: AudioLMDetectorForAudioClassification, folder: Path) -> None:
    """Save a detector, its weights in float16, with its feature extractor."""
    detector.save_pretrained(folder, state_dict=float16_tensors(detector))
    AudioLMFeatureExtractor(sampling_rate=detector.config.sampling_rate, min_length_s=MIN_LENGTH_S).save_pretrained(
        folder
    )
