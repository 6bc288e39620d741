# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The detector of generated audio: a small convolutional classifier of log-mel spectra and of single harmonics.

Sampled codes make pitch and harmonics waver, which the bands of log-mel spectra average out. Windows of 64 ms resolve
single harmonics below 2 kHz, whose differences from bin to bin and from frame to frame show it. Every frame of 20 ms
has logits; those of a clip, and of each of its seconds, are the means over their frames. A higher score is more real
(bona fide), as in ASVspoof.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .checkpoint_audiolm import AudioLMPreTrainedModel
from .config_values_audiolm import COUNT, LAYERS, SHARE, Within
from .input_checks_audiolm import check_ids, check_waveform, length_mask, row_lengths
from .modeling_semantic_tokenizer_audiolm import log_mel_spectrogram
from .spectral_codec_audiolm import LAYER_SCALE, CausalConvNeXtBlock
from .strict_config_audiolm import StrictConfig, checked

LABELS = ("generated", "real")
REAL = LABELS.index("real")
MIN_LENGTH_S = 0.5
NUM_MEL_BINS = 80  # of `log_mel_spectrogram`, whose windows begin every 10 ms
FRAME_RATE = 50  # Hz; a frame is two windows
LOW_WINDOW_S, NUM_LOW_BINS = 0.064, 128  # bins of 15.6 Hz, below 2 kHz
LOW_AHEAD_S = 0.0145  # from the beginning of these windows to that of a frame, which centres them on it
DYNAMIC_RANGE = 18.0  # nepers of power below the loudest bin of a clip, 78 dB; what is softer is noise floor
FEATURE_SCALE = 4.0  # about the standard deviation of log-mel spectra
MEAN_DIFFERENCE = 1.0  # about that of neighbouring bins and frames
POWER_FLOOR = 1e-10  # of a bin's power, which only silence reaches
_CHUNK = 6000  # windows that are transformed at once, which only limits the memory


@strict
class AudioLMDetectorConfig(StrictConfig):
    """Configuration of [`AudioLMDetectorForAudioClassification`].

    Args:
        sampling_rate (`int`, defaults to 16000): samples per second of the audio, Hz; at least 4000.
        hidden_size (`int`, defaults to 192): width of the ConvNeXt blocks.
        intermediate_size (`int`, defaults to 448): inner width of the ConvNeXt blocks.
        num_hidden_layers (`int`, defaults to 6): ConvNeXt blocks.
        kernel_size (`int`, defaults to 15): frames of 20 ms seen by a block.
        initializer_range (`float`, defaults to 0.02): standard deviation of the classifier's initial weights.
    """

    model_type = "audiolm_detector"

    sampling_rate: int = checked(16000, Within(4000, 768_000, whole=True), trained=True)
    hidden_size: int = checked(192, COUNT, trained=True)
    intermediate_size: int = checked(448, COUNT, trained=True)
    num_hidden_layers: int = checked(6, LAYERS, trained=True)
    kernel_size: int = checked(15, Within(1, 4096, whole=True), trained=True)
    initializer_range: float | int = checked(0.02, SHARE)

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        labels = dict(enumerate(LABELS))
        given = vars(self)["id2label"]
        if given not in (labels, {0: "LABEL_0", 1: "LABEL_1"}):  # transformers' default
            raise ValueError(f"{type(self).__name__}.id2label is {given}; the detector has {labels}.")
        self.id2label = labels
        self.label2id = {label: index for index, label in labels.items()}


class AudioLMDetectorForAudioClassification(AudioLMPreTrainedModel):
    """Classifier of audio clips as generated (label 0) or real (label 1).

    The result does not depend on the loudness of a clip, nor on padding. The spectra are float32 in any dtype.
    """

    config_class = AudioLMDetectorConfig
    base_model_prefix = "detector"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    _no_split_modules = ("CausalConvNeXtBlock",)

    def __init__(self, config: AudioLMDetectorConfig) -> None:
        config.validate()  # fields may have been assigned since it was built
        super().__init__(config)
        self.in_proj = nn.Conv1d(NUM_MEL_BINS, config.hidden_size, 5, stride=2, padding=2)
        self.low_proj = nn.Linear(3 * NUM_LOW_BINS, config.hidden_size)
        self.in_norm = nn.LayerNorm(config.hidden_size)
        self.blocks = nn.ModuleList(CausalConvNeXtBlock(config, centred=True) for _ in range(config.num_hidden_layers))
        self.out_norm = nn.LayerNorm(config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d):
            std = self.config.initializer_range if module is self.classifier else module.weight[0].numel() ** -0.5
            init.normal_(module.weight, mean=0.0, std=std)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, CausalConvNeXtBlock):
            init.constant_(module.scale, LAYER_SCALE)

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
        loss = None if labels is None else F.cross_entropy(logits, labels.long())
        return SequenceClassifierOutput(loss=loss, logits=logits)

    @torch.no_grad()
    def judge(self, input_values: Tensor, attention_mask: Tensor | None = None) -> dict[str, str | float]:
        """Return the `score` of one recording, the probability that it is real, and the `verdict`, its likelier label.

        Arguments and errors are those of `forward`.
        """
        score = float(self(input_values, attention_mask).logits.softmax(-1)[0, REAL])
        return {"score": score, "verdict": LABELS[REAL] if score >= 0.5 else LABELS[1 - REAL]}

    @torch.no_grad()
    def scores_per_second(self, input_values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the score of each second, the probability that it is real.

        Arguments and errors are those of `forward`. A second is scored by the means of its frames' logits, which also
        depend on up to a second around it; the last one may be shorter.

        Returns:
            `torch.FloatTensor` of shape `(batch, seconds)`; NaN after the end of a clip.
        """
        frame_logits, frame_mask = self._frame_logits(input_values, attention_mask)
        missing = -frame_logits.shape[1] % FRAME_RATE
        sums = F.pad(frame_logits, (0, 0, 0, missing)).unflatten(1, (-1, FRAME_RATE)).sum(2)
        counts = F.pad(frame_mask, (0, missing)).unflatten(1, (-1, FRAME_RATE)).sum(2)
        return (sums / counts[..., None]).softmax(-1)[..., REAL]  # 0 / 0 after the end

    def _frame_logits(self, input_values: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits `(batch, frames, 2)`, 0 in padding, and the mask `(batch, frames)` of real frames."""
        check_waveform(input_values)
        lengths = row_lengths(input_values, attention_mask)
        self._check_lengths(lengths)
        mel, low, mask = self._features(input_values, lengths)
        dtype = self.in_proj.weight.dtype
        hidden_states = self.in_proj(mel.transpose(1, 2).to(dtype)).transpose(1, 2) + self.low_proj(low.to(dtype))
        hidden_states = self.in_norm(hidden_states) * mask[..., None]
        for block in self.blocks:  # convolutions pad with zeros, which padding is set to
            hidden_states = block(hidden_states) * mask[..., None]
        return self.classifier(self.out_norm(hidden_states)).float() * mask[..., None], mask

    def _check_lengths(self, lengths: Tensor) -> None:
        least = math.ceil(MIN_LENGTH_S * self.config.sampling_rate)
        if not (lengths.is_meta or torch.compiler.is_compiling()) and int(lengths.min()) < least:
            row, seconds = int(lengths.argmin()), int(lengths.min()) / self.config.sampling_rate
            raise ValueError(
                f"The clip in row {row} lasts {seconds:.3f} s; the detector needs {MIN_LENGTH_S} s or more."
            )

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def _features(self, input_values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the spectra of windows and of frames, and the mask `(batch, frames)` of real frames.

        The former are log-mel spectra `(batch, windows, 80)`. The latter `(batch, frames, 384)` are log spectra below
        2 kHz, and their absolute differences from the frame and from the bin before, less `MEAN_DIFFERENCE`. Spectra
        have mean 0 over time.
        """
        rate = self.config.sampling_rate
        window, hop = rate // 40, rate // 100
        total = 1 + (input_values.shape[1] - window) // hop
        starts = range(0, total, _CHUNK)
        spans = ((start * hop, (min(start + _CHUNK, total) - 1) * hop + window) for start in starts)
        mel = torch.cat([log_mel_spectrogram(input_values[:, start:stop], rate) for start, stop in spans], dim=1)
        num_windows = 1 + (lengths - window) // hop
        mel_mask, mask = length_mask(num_windows, total), length_mask(-(-num_windows // 2), -(-total // 2))
        clip = input_values.float() * length_mask(lengths, input_values.shape[1])
        low = _limited(_low_spectrum(clip, rate, mask.shape[1]), mask)
        over_time = F.pad(low[:, 1:] - low[:, :-1], (0, 0, 1, 0)).abs() - MEAN_DIFFERENCE
        over_bins = F.pad(low[..., 1:] - low[..., :-1], (1, 0)).abs() - MEAN_DIFFERENCE
        low = torch.cat([_centred(low, mask) / FEATURE_SCALE, over_time, over_bins], dim=-1) * mask[..., None]
        return _centred(_limited(mel, mel_mask), mel_mask) / FEATURE_SCALE, low, mask


def _low_spectrum(clip: Tensor, rate: int, num_frames: int) -> Tensor:
    """Return the logarithm of the power of bins `(batch, frames, 128)` of clips `(batch, num_samples)`."""
    length = round(LOW_WINDOW_S * rate)
    windows = F.pad(clip, (round(LOW_AHEAD_S * rate), length)).unfold(1, length, rate // FRAME_RATE)[:, :num_frames]
    shape = torch.hann_window(length, device=clip.device, dtype=torch.float32)
    parts = [torch.fft.rfft(part * shape)[..., 1 : 1 + NUM_LOW_BINS] for part in windows.split(_CHUNK, dim=1)]
    return (torch.cat(parts, dim=1).abs().square() + POWER_FLOOR).log()


def _limited(spectrum: Tensor, mask: Tensor) -> Tensor:
    """Return log spectra `(batch, length, bins)` within `DYNAMIC_RANGE` of the loudest bin of a clip."""
    peak = spectrum.masked_fill(~mask[..., None], -math.inf).amax((1, 2), keepdim=True)
    return torch.maximum(spectrum, peak - DYNAMIC_RANGE)


def _centred(spectrum: Tensor, mask: Tensor) -> Tensor:
    """Return log spectra `(batch, length, bins)` less their mean over time, 0 in padding."""
    spectrum = spectrum * mask[..., None]
    return (spectrum - spectrum.sum(1, keepdim=True) / mask.sum(1)[:, None, None]) * mask[..., None]
