# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The detector of generated audio: a linear classifier of how log spectra change over time and over frequency.

Sampled codes make pitch and harmonics waver, which the bands of log-mel spectra average out. Windows of 64 ms resolve
single harmonics below 2 kHz. The features of both spectra are absolute differences over several spans. Every frame of
20 ms has logits; those of a clip, and of each of its seconds, are the means over frames that are not nearly silent. A
higher score is more real (bona fide), as in ASVspoof.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .checkpoint_audiolm import AudioLMPreTrainedModel
from .config_values_audiolm import SHARE, Within
from .input_checks_audiolm import check_ids, check_waveform, length_mask, row_lengths
from .modeling_semantic_tokenizer_audiolm import log_mel_spectrogram
from .numerics_audiolm import loaded, require_finite
from .strict_config_audiolm import StrictConfig, checked

LABELS = ("generated", "real")
REAL = LABELS.index("real")
MIN_LENGTH_S = 0.5
NUM_MEL_BINS = 80  # of `log_mel_spectrogram`, whose windows begin every 10 ms
FRAME_RATE = 50  # Hz; a frame is two windows
LOW_WINDOW_S, NUM_LOW_BINS = 0.064, 128  # bins of 15.6 Hz, below 2 kHz
LOW_AHEAD_S = 0.0145  # from the beginning of these windows to that of a frame, which centres them on it
DYNAMIC_RANGE = 18.0  # nepers of power below the loudest bin of a clip, 78 dB; what is softer is noise floor
LOUD_RANGE = 8.0  # nepers of power below a clip's mean, 35 dB; softer frames tell about the recording, not the voice
SPANS = (1, 2, 4, 8), (1, 2, 3, 4)  # in windows and in bins, over which spectra are compared
NUM_CHANGES = len(SPANS[0]) + len(SPANS[1]) + 3  # features of a bin
SCALE_FLOOR = 0.01  # added to a feature's standard deviation, which can be 0
POWER_FLOOR = 1e-10  # of a bin's power, which only silence reaches
_CHUNK = 6000  # windows that are transformed at once, which only limits the memory


@strict
class AudioLMDetectorConfig(StrictConfig):
    """Configuration of [`AudioLMDetectorForAudioClassification`].

    Args:
        sampling_rate (`int`, defaults to 16000): samples per second of the audio, Hz; at least 4000.
        initializer_range (`float`, defaults to 0.001): standard deviation of the classifier's initial weights.
    """

    model_type = "audiolm_detector"

    sampling_rate: int = checked(16000, Within(4000, 768_000, whole=True), trained=True)
    initializer_range: float | int = checked(0.001, SHARE)

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        labels = dict(enumerate(LABELS))
        given = vars(self)["id2label"]
        if given not in (labels, {0: "LABEL_0", 1: "LABEL_1"}):  # transformers' default
            raise ValueError(f"{type(self).__name__}.id2label is {given}; the detector has {labels}.")
        self.id2label = labels
        self.label2id = {label: index for index, label in labels.items()}


class _PartwiseLinear(nn.Linear):
    """A linear layer whose weights are read part by part, and not in its `forward`; see `loaded`."""


class AudioLMDetectorForAudioClassification(AudioLMPreTrainedModel):
    """Classifier of audio clips as generated (label 0) or real (label 1).

    The result does not depend on the loudness of a clip, a constant offset or padding, and hardly on silence. The
    features are float32 in any dtype.
    """

    config_class = AudioLMDetectorConfig
    base_model_prefix = "detector"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    mean: Tensor
    scale: Tensor
    _no_split_modules = ("AudioLMDetectorForAudioClassification",)  # accelerate forgets buffers beside a split

    def __init__(self, config: AudioLMDetectorConfig) -> None:
        config.validate()  # fields may have been assigned since it was built
        super().__init__(config)
        num_features = NUM_CHANGES * (NUM_LOW_BINS + NUM_MEL_BINS)
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))
        self.classifier = _PartwiseLinear(num_features, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            init.zeros_(module.bias)
        elif module is self:
            init.zeros_(module.mean)
            init.ones_(module.scale)

    @torch.no_grad()
    def standardize_(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set `mean` and `scale` by the features of clips, in batches of `input_values` and `attention_mask`."""
        means = torch.cat([self._clip_means(*batch) for batch in batches])
        self.mean.copy_(means.mean(0))
        self.scale.copy_(means.std(0) + SCALE_FLOOR)

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Classify clips.

        Args:
            input_values (`torch.FloatTensor` of shape `(batch, num_samples)`): mono audio at `config.sampling_rate`,
                at least 0.5 s in every row.
            attention_mask (`torch.Tensor` of shape `(batch, num_samples)`, *optional*): 1 for real samples, 0 for
                padding on the right.
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*): 0 for generated clips, 1 for real ones.
            kwargs: ignored; transformers passes some to all models.

        Returns:
            [`~transformers.modeling_outputs.SequenceClassifierOutput`] with `logits` of shape `(batch, 2)`, float32,
            and, with labels, the cross-entropy as `loss`.

        Raises:
            TypeError: if the samples are not floats, or the labels not integers.
            ValueError: if a clip is too short, samples or labels are out of range, or a shape does not fit.
        """
        if labels is not None:
            check_ids("labels", labels, len(LABELS))
            if labels.shape != input_values.shape[:1]:
                raise ValueError(
                    f"labels has shape {tuple(labels.shape)}; give one of each of {len(input_values)} clips."
                )
        frame_logits, frame_mask = self._frame_logits(input_values, attention_mask)
        logits = frame_logits.sum(1) / frame_mask.sum(1, keepdim=True)
        require_finite(logits, "The detector")
        loss = None if labels is None else F.cross_entropy(logits, labels.long())
        return SequenceClassifierOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def judge(self, input_values: Tensor, attention_mask: Tensor | None = None) -> dict[str, str | float]:
        """Return the `score` of one recording, the probability that it is real, and the `verdict`, its likelier label.

        Arguments and errors are those of `forward`; several recordings are an error.
        """
        if len(input_values) > 1:
            raise ValueError(f"input_values has {len(input_values)} rows; give one, or call the model for several.")
        score = float(self(input_values, attention_mask).logits.softmax(-1)[0, REAL])
        return {"score": score, "verdict": LABELS[REAL] if score >= 0.5 else LABELS[1 - REAL]}

    @torch.no_grad()
    def scores_per_second(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the score of each second, the probability that it is real.

        Arguments and errors are those of `forward`. A second is scored by the means of its frames' logits, which also
        depend on the peak and the mean of the whole clip; the last one may be shorter.

        Returns:
            `torch.FloatTensor` of shape `(batch, seconds)`; NaN in silence and after the end of a clip.
        """
        frame_logits, frame_mask = self._frame_logits(input_values, attention_mask)
        missing = -frame_logits.shape[1] % FRAME_RATE
        sums = F.pad(frame_logits, (0, 0, 0, missing)).unflatten(1, (-1, FRAME_RATE)).sum(2)
        counts = F.pad(frame_mask, (0, missing)).unflatten(1, (-1, FRAME_RATE)).sum(2)
        return (sums / counts[..., None]).softmax(-1)[..., REAL]  # 0 / 0 in silence and after the end

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def _frame_logits(self, input_values: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits `(batch, frames, 2)`, 0 in padding and in silence, and the mask of the other frames."""
        changes, mask = self._changes(input_values, attention_mask)
        start = 0
        with loaded(self):
            logits = self.classifier.bias.float().repeat(*mask.shape, 1)
            for change, present in changes:
                part = slice(start, start + change.shape[-1])
                mean, scale, weight = self.mean[part], self.scale[part], self.classifier.weight[:, part]
                shares = ((change - mean.float()) / scale.float() * present[..., None]) @ weight.float().T
                missing = -shares.shape[1] % mask.shape[1]
                logits = logits + F.pad(shares, (0, 0, 0, missing)).unflatten(1, (mask.shape[1], -1)).mean(2)
                start = part.stop
        return logits * mask[..., None], mask

    def _clip_means(self, input_values: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return the means of the features of clips over time, `(batch, num_features)`."""
        changes, _ = self._changes(input_values, attention_mask)
        sums = [
            ((change * each[..., None]).sum(1), each.sum(1, keepdim=True).clamp(min=1)) for change, each in changes
        ]
        return torch.cat([total / count for total, count in sums], dim=1)

    def _check_lengths(self, lengths: Tensor) -> None:
        least = math.ceil(MIN_LENGTH_S * self.config.sampling_rate)
        if not (lengths.is_meta or torch.compiler.is_compiling()) and int(lengths.min()) < least:
            row, seconds = int(lengths.argmin()), int(lengths.min()) / self.config.sampling_rate
            raise ValueError(
                f"The clip in row {row} lasts {seconds:.3f} s; the detector needs {MIN_LENGTH_S} s or more."
            )

    def _changes(
        self, input_values: Tensor, attention_mask: Tensor | None
    ) -> tuple[Iterator[tuple[Tensor, Tensor]], Tensor]:
        """Return the features of [`_changes_of`] of both spectra, and the mask `(batch, frames)` of loud frames.

        Those of frames, which are log spectra below 2 kHz, come first, then those of half frames, log-mel spectra.
        """
        check_waveform(input_values)
        lengths = row_lengths(input_values, attention_mask)
        self._check_lengths(lengths)
        rate = self.config.sampling_rate
        window, hop = rate // 40, rate // 100
        total = 1 + (input_values.shape[1] - window) // hop
        starts = range(0, total, _CHUNK)
        spans = ((start * hop, (min(start + _CHUNK, total) - 1) * hop + window) for start in starts)
        mel = torch.cat([log_mel_spectrogram(input_values[:, start:stop], rate) for start, stop in spans], dim=1)
        num_windows = 1 + (lengths - window) // hop
        clip, real = input_values.float(), length_mask(lengths, input_values.shape[1])
        clip = (clip - (clip * real).sum(1, keepdim=True) / lengths[:, None]) * real
        low = _low_spectrum(clip, rate, -(-total // 2))
        mask = _loud(low, length_mask(-(-num_windows // 2), low.shape[1]))
        mel_mask = length_mask(num_windows, total) & mask.repeat_interleave(2, dim=1)[:, :total]
        return itertools.chain(_changes_of(low, mask), _changes_of(mel, mel_mask)), mask


def _low_spectrum(clip: Tensor, rate: int, num_frames: int) -> Tensor:
    """Return the logarithm of the power of bins `(batch, frames, 128)` of clips `(batch, num_samples)`."""
    length = round(LOW_WINDOW_S * rate)
    windows = F.pad(clip, (round(LOW_AHEAD_S * rate), length)).unfold(1, length, rate // FRAME_RATE)[:, :num_frames]
    shape = torch.hann_window(length, device=clip.device, dtype=torch.float32)
    parts = [torch.fft.rfft(part * shape)[..., 1 : 1 + NUM_LOW_BINS] for part in windows.split(_CHUNK, dim=1)]
    return (torch.cat(parts, dim=1).abs().square() + POWER_FLOOR).log()


def _loud(spectrum: Tensor, mask: Tensor) -> Tensor:
    """Return the part of a mask in which a log spectrum `(batch, length, bins)` is within `LOUD_RANGE` of its mean."""
    power = spectrum.exp().sum(-1) * mask
    mean = power.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return mask & (power >= mean * math.exp(-LOUD_RANGE))


def _changes_of(spectrum: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features in the shape of a log spectrum `(batch, length, bins)`, each with a mask of where it is defined.

    They are absolute differences from earlier windows and from lower bins, second differences of both, and deviations
    from the mean over time. What is more than `DYNAMIC_RANGE` below the loudest bin of a clip is raised to this floor.
    """
    peak = spectrum.masked_fill(~mask[..., None], -math.inf).amax((1, 2), keepdim=True)
    spectrum = torch.maximum(spectrum, peak - DYNAMIC_RANGE)
    present = [mask & F.pad(mask[:, :-span], (span, 0)) for span in SPANS[0]]
    for span, each in zip(SPANS[0], present, strict=True):
        yield F.pad(spectrum[:, span:] - spectrum[:, :-span], (0, 0, span, 0)).abs(), each
    over_time = spectrum[:, 2:] - 2 * spectrum[:, 1:-1] + spectrum[:, :-2]
    yield F.pad(over_time, (0, 0, 2, 0)).abs(), present[0] & present[1]  # of spans 1 and 2
    for span in SPANS[1]:
        yield F.pad(spectrum[..., span:] - spectrum[..., :-span], (span, 0)).abs(), mask
    yield F.pad(spectrum[..., 2:] - 2 * spectrum[..., 1:-1] + spectrum[..., :-2], (2, 0)).abs(), mask
    mean = (spectrum * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    yield (spectrum - mean).abs(), mask
