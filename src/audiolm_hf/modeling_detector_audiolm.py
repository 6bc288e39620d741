# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The detector of generated audio: a linear classifier of how log spectra change over time and over frequency.

Sampled codes make pitch and harmonics waver, which the bands of log-mel spectra average out. Windows of 64 ms resolve
single harmonics below 2 kHz. The features of both spectra are absolute differences over several spans. Every frame of
20 ms that is not nearly silent has logits, which are averaged over each second. A recording is judged by the means of
all stretches of 3 s of such frames, the most suspicious of which counts most, as a file can begin with a real prompt.
As in ASVspoof, a higher score is more real (bona fide).
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .checkpoint_audiolm import AudioLMPreTrainedModel
from .config_values_audiolm import SHARE, Within
from .input_checks_audiolm import check_ids, check_waveform, length_mask, row_lengths
from .modeling_semantic_tokenizer_audiolm import log_mel_spectrogram
from .numerics_audiolm import loaded, require_finite
from .strict_config_audiolm import StrictConfig, checked, strict

LABELS = ("generated", "real")
REAL = LABELS.index("real")
MIN_LENGTH_S = 0.5
NUM_MEL_BINS = 80  # of `log_mel_spectrogram`, whose windows begin every 10 ms
FRAME_RATE = 50  # Hz; a frame is two windows
LOW_WINDOW_S, NUM_LOW_BINS = 0.064, 128  # bins of 15.6 Hz, below 2 kHz
LOW_AHEAD_S = 0.0145  # by which these windows begin before a frame, so that they are centred on it
DYNAMIC_RANGE = 18.0  # nepers of power below the loudest bin of a clip, 78 dB; what is softer is noise floor
LOUD_RANGE = 8.0  # nepers of power below a clip's mean, 35 dB; softer frames are of the recording, not of the voice
SPANS = (1, 2, 4, 8), (1, 2, 3, 4)  # in windows and in bins, over which spectra are compared
NUM_CHANGES = len(SPANS[0]) + len(SPANS[1]) + 3  # features of a bin
STRETCH = 150  # frames whose mean logits are compared within a recording, 3 s without silence
SOFTNESS = 1.5  # of the maximum over stretches; below, long real recordings have more false alarms
SCALE_FLOOR = 0.01  # added to a feature's standard deviation, which can be 0
POWER_FLOOR = 1e-10  # of a bin's power, which only silence reaches
_BLOCK = 3000  # frames that are processed at once, a minute, which limits the memory


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
        logits = _clip_logits(_stretch_odds(*self._frame_logits(input_values, attention_mask)))
        loss = None if labels is None else F.cross_entropy(logits, labels.long())
        return SequenceClassifierOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def judge(self, input_values: Tensor, attention_mask: Tensor | None = None) -> dict[str, Any]:
        """Return the `score` of one recording, the probability that it is real, and the `verdict`, its likelier label.

        The score is low if any stretch of 3 s sounds generated; `most_suspicious_s` is the beginning and the end of
        the one that does most, in seconds. The `scores_per_second` are a list, with None for NaN. Arguments and errors
        are those of `forward`; more than one recording is an error.
        """
        if len(input_values) > 1:
            raise ValueError(f"input_values has {len(input_values)} rows; give one, or call the model for several.")
        frame_logits, mask = self._frame_logits(input_values, attention_mask)
        odds = _stretch_odds(frame_logits, mask)
        score, first = float(_clip_logits(odds).softmax(-1)[0, REAL]), int(odds.argmax())
        seconds = _second_scores(frame_logits, mask)[0].tolist()
        places = mask[0].nonzero()[first : first + STRETCH, 0].tolist()
        return {
            "score": score,
            "verdict": LABELS[REAL] if score >= 0.5 else LABELS[1 - REAL],
            "most_suspicious_s": [places[0] / FRAME_RATE, (places[-1] + 1) / FRAME_RATE],
            "scores_per_second": [None if math.isnan(each) else each for each in seconds],
        }

    @torch.no_grad()
    def scores_per_second(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the score of each second, the probability that it is real.

        Arguments and errors are those of `forward`. A second is scored by the means of its frames' logits, which also
        depend on the peak and the mean of the whole clip; the last one may be shorter.

        Returns:
            `torch.FloatTensor` of shape `(batch, seconds)`; NaN in silence and after the end of a clip.
        """
        return _second_scores(*self._frame_logits(input_values, attention_mask))

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def _frame_logits(self, input_values: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits `(batch, frames, 2)`, 0 in padding and in silence, and the mask of the other frames."""
        blocks = [self._block_logits(*block) for block in self._blocks(input_values, attention_mask)]
        logits, mask = (torch.cat(parts, dim=1) for parts in zip(*blocks, strict=True))
        return logits, mask

    def _block_logits(self, changes: Iterator[tuple[Tensor, Tensor]], mask: Tensor) -> tuple[Tensor, Tensor]:
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
        sums = []
        for changes, _ in self._blocks(input_values, attention_mask):
            parts = [((change * each[..., None]).sum(1), each.sum(1, keepdim=True)) for change, each in changes]
            sums.append(
                torch.stack([torch.cat([part[place].expand_as(part[0]) for part in parts], 1) for place in (0, 1)])
            )
        total, count = torch.stack(sums).sum(0)
        return total / count.clamp(min=1)

    def _check_lengths(self, lengths: Tensor) -> None:
        least = math.ceil(MIN_LENGTH_S * self.config.sampling_rate)
        if not (lengths.is_meta or torch.compiler.is_compiling()) and int(lengths.min()) < least:
            row, seconds = int(lengths.argmin()), int(lengths.min()) / self.config.sampling_rate
            raise ValueError(
                f"The clip in row {row} lasts {seconds:.3f} s; the detector needs {MIN_LENGTH_S} s or more."
            )

    def _blocks(
        self, input_values: Tensor, attention_mask: Tensor | None
    ) -> Iterator[tuple[Iterator[tuple[Tensor, Tensor]], Tensor]]:
        """Yield the features of [`_changes_of`] of both spectra, and the mask `(batch, frames)` of loud frames.

        The features of log spectra below 2 kHz, by frame, come first, then those of log-mel spectra, by half frame.
        Recordings of more than a minute are split into blocks of equal length.
        """
        check_waveform(input_values)
        lengths = row_lengths(input_values, attention_mask)
        self._check_lengths(lengths)
        rate = self.config.sampling_rate
        window, hop = rate // 40, rate // 100
        num_windows, total = (1 + (each - window) // hop for each in (lengths, input_values.shape[1]))

        size = _BLOCK * hop
        # A mask of all samples would take more memory than they do.
        pieces = [
            (piece.float() * length_mask(lengths - number * size, piece.shape[1])).sum(1, keepdim=True)
            for number, piece in enumerate(input_values.split(size, dim=1))
        ]
        offset = torch.stack(pieces).sum(0) / lengths[:, None]

        def low(start: int, stop: int) -> Tensor:
            first = start * (rate // FRAME_RATE) - round(LOW_AHEAD_S * rate)
            last = first + (stop - start - 1) * (rate // FRAME_RATE) + round(LOW_WINDOW_S * rate)
            begin = max(first, 0)
            part = input_values[:, begin:last].float() - offset
            part = part * length_mask(lengths - begin, part.shape[1])
            return _low_spectrum(F.pad(part, (max(-first, 0), last - begin - part.shape[1])), rate)

        frames = -(-total // 2)
        size = -(-frames // -(-frames // _BLOCK))
        spans = [(start, min(start + size, frames)) for start in range(0, frames, size)]
        power = torch.cat([low(*span).exp().sum(-1) for span in spans], dim=1)
        loud = _loud(power, length_mask(-(-num_windows // 2), frames))
        mel_loud = length_mask(num_windows, total) & loud.repeat_interleave(2, dim=1)[:, :total]
        for start, stop in spans:
            mel_mask = mel_loud[:, 2 * start : 2 * stop]
            last = (2 * start + mel_mask.shape[1] - 1) * hop + window
            mel = log_mel_spectrogram(input_values[:, 2 * start * hop : last], rate)
            mask = loud[:, start:stop]
            yield itertools.chain(_changes_of(low(start, stop), mask), _changes_of(mel, mel_mask)), mask


def _low_spectrum(clip: Tensor, rate: int) -> Tensor:
    """Return the logarithm of the power of bins `(batch, frames, 128)` of clips `(batch, num_samples)`."""
    length = round(LOW_WINDOW_S * rate)
    shape = torch.hann_window(length, device=clip.device, dtype=torch.float32)
    spectrum = torch.fft.rfft(clip.unfold(1, length, rate // FRAME_RATE) * shape)[..., 1 : 1 + NUM_LOW_BINS]
    return (spectrum.abs().square() + POWER_FLOOR).log()


def _loud(power: Tensor, mask: Tensor) -> Tensor:
    """Return the part of a mask in which the power `(batch, frames)` is within `LOUD_RANGE` of its mean."""
    mean = (power * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return mask & (power >= mean * math.exp(-LOUD_RANGE))


def _stretch_odds(frame_logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean log odds of generated audio `(batch, frames)` of all stretches of `STRETCH` frames of a mask.

    A stretch is indexed by its first frame among those of the mask; indices without a stretch have minus infinity. The
    frames of a shorter recording are one stretch.
    """
    order = (~mask).int().argsort(dim=1, stable=True)
    odds = (frame_logits[..., 1 - REAL] - frame_logits[..., REAL]).gather(1, order)  # 0 after those of the mask
    sums, count = STRETCH * F.avg_pool1d(F.pad(odds, (0, STRETCH - 1)), STRETCH, 1), mask.sum(1)
    last = (count - STRETCH).clamp(min=0)
    means = sums / count.clamp(max=STRETCH)[:, None]
    return means.masked_fill(~length_mask(last + 1, mask.shape[1]), -math.inf)


def _second_scores(frame_logits: Tensor, mask: Tensor) -> Tensor:
    """Return [`AudioLMDetectorForAudioClassification.scores_per_second`] from logits and the mask of their frames."""
    missing = -mask.shape[1] % FRAME_RATE
    sums = F.pad(frame_logits, (0, 0, 0, missing)).unflatten(1, (-1, FRAME_RATE)).sum(2)
    counts = F.pad(mask, (0, missing)).unflatten(1, (-1, FRAME_RATE)).sum(2)
    return (sums / counts[..., None]).softmax(-1)[..., REAL]  # 0 / 0 in silence and after the end


def _clip_logits(odds: Tensor) -> Tensor:
    """Return the logits `(batch, 2)` of clips from [`_stretch_odds`]: a soft maximum over their stretches.

    It is reduced by the logarithm of their number, so that long real recordings are not called generated.
    """
    odds = SOFTNESS * ((odds / SOFTNESS).logsumexp(1) - (odds > -math.inf).sum(1).float().log())
    require_finite(odds, "The detector")
    return torch.stack([odds, -odds], dim=1) / 2


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
    mean = (spectrum * mask[..., None]).sum(1, keepdim=True) / mask.sum(1).clamp(min=1)[:, None, None]
    yield (spectrum - mean).abs(), mask
