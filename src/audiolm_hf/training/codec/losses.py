# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Losses of the codec, and the balance of adversarial and other losses.

Reconstruction losses compare mel spectra at several scales and the waveform (SoundStream, arXiv 2107.03312, equation
4; DAC, arXiv 2306.06546, section 3.5). Adversarial losses are hinge losses and feature matching (SoundStream,
equations 1 to 3).
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.harmonic_decoder_audiolm import pitch_bins
from audiolm_hf.spectral_codec_audiolm import windowed_spectrum
from audiolm_hf.training.processes import mean_over_processes, sum_over_processes

LOG_FLOOR = 1e-5
PITCH_SPREAD = 1.0  # bins, standard deviation of a target
MAGNITUDE_FLOOR = 0.01  # 90 dB below a full-scale tone in a window of 1280 samples


class MultiScaleMelLoss(nn.Module):
    """Mean absolute difference of log-mel spectra, averaged over window lengths; a hop is a quarter of a window."""

    def __init__(self, sampling_rate: int, window_lengths: Sequence[int], num_mels: Sequence[int]) -> None:
        super().__init__()
        self.window_lengths = list(window_lengths)
        self.min_num_samples = max(window_lengths)
        for length, bands in zip(window_lengths, num_mels, strict=True):
            filters = mel_filter_bank(
                num_frequency_bins=length // 2 + 1,
                num_mel_filters=bands,
                min_frequency=0.0,
                max_frequency=sampling_rate / 2,
                sampling_rate=sampling_rate,
                norm="slaney",
                mel_scale="slaney",
            )
            self.register_buffer(f"filters_{length}", torch.from_numpy(filters).float(), persistent=False)
            self.register_buffer(f"window_{length}", torch.hann_window(length), persistent=False)

    def forward(self, audio_values: Tensor, target_values: Tensor) -> Tensor:
        """Return the loss of two batches of shape `(batch, num_samples)`."""
        losses = []
        for length in self.window_lengths:
            estimate = self._log_mel(audio_values, length)
            with torch.no_grad():
                target = self._log_mel(target_values, length)
            losses.append(F.l1_loss(estimate, target))
        return torch.stack(losses).mean()

    def _log_mel(self, audio_values: Tensor, length: int) -> Tensor:
        window = self.get_buffer(f"window_{length}")
        spectrum = torch.stft(audio_values.float(), length, length // 4, window=window, return_complex=True)
        power = torch.view_as_real(spectrum).pow(2).sum(-1)
        magnitude = (power + LOG_FLOOR**2).sqrt()
        return (magnitude.transpose(1, 2) @ self.get_buffer(f"filters_{length}")).clamp(min=LOG_FLOOR).log10()


class MagnitudeLoss(nn.Module):
    """Mean absolute difference between the log-magnitudes of a decoder's windows and those of the target.

    The windows are those of a harmonic decoder's output, or those that an iSTFT decoder predicts; the phases that
    `phase_iterations` estimates depend on the predicted magnitudes. The narrow bins resolve semitones, which mel bands
    do not.
    """

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        if config.decoder_type not in ("istft", "harmonic"):
            raise ValueError(
                f'decoder_type is {config.decoder_type!r}; magnitude_weight above 0 needs "istft" or "harmonic".'
            )
        self.config = config

    def forward(self, decoded: Tensor, target_values: Tensor) -> Tensor:
        """Return the loss for waveforms `(batch, num_samples)`.

        `decoded` are the natural log-magnitudes `(batch, frames, bins)` of an iSTFT decoder, else waveforms.
        """
        magnitude = decoded.exp() if self.config.decoder_type == "istft" else self._magnitude(decoded)
        with torch.no_grad():
            target = self._magnitude(target_values)
        return F.l1_loss((magnitude + MAGNITUDE_FLOOR).log10(), (target + MAGNITUDE_FLOOR).log10())

    def _magnitude(self, audio_values: Tensor) -> Tensor:
        missing = -audio_values.shape[1] % self.config.hop_length
        return windowed_spectrum(F.pad(audio_values, (0, missing)), self.config).abs()


class PitchLoss(nn.Module):
    """Cross-entropy of voicing, and of a Gaussian around the bin of F0 in voiced frames (CREPE, arXiv 1802.06182)."""

    def __init__(self, config: SoundStreamConfig) -> None:
        super().__init__()
        if config.decoder_type != "harmonic":
            raise ValueError(f'decoder_type is {config.decoder_type!r}; pitch_weight above 0 needs "harmonic".')
        self.config = config

    def forward(self, pitch_logits: Tensor, f0: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses of voicing and of the bins in nats; the latter is 0 if no frame is voiced.

        `pitch_logits`, `(batch, frames, num_pitch_bins + 1)`, has the logits of the bins and, last, that of voicing.
        `f0`, `(batch, frames)`, is the true F0 in Hz; 0 in unvoiced frames.
        """
        voiced = f0 > 0
        voicing = F.binary_cross_entropy_with_logits(pitch_logits[..., -1], voiced.float())
        bins = pitch_bins(self.config, f0.device).log()
        log_f0 = f0[voiced].clamp(self.config.lowest_f0, self.config.highest_f0).log()
        distance = (log_f0[:, None] - bins) / (bins[1] - bins[0])
        target = (-0.5 * (distance / PITCH_SPREAD) ** 2).softmax(1)
        losses = -(target * pitch_logits[..., :-1][voiced].log_softmax(1)).sum(1)
        return voicing, losses.sum() / max(1, len(losses))


def discriminator_loss(real_scores: Sequence[Tensor], fake_scores: Sequence[Tensor]) -> Tensor:
    """Return the mean hinge loss of the discriminators (SoundStream, equation 1)."""
    losses = [
        F.relu(1 - real).mean() + F.relu(1 + fake).mean() for real, fake in zip(real_scores, fake_scores, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_loss(fake_scores: Sequence[Tensor]) -> Tensor:
    """Return the hinge loss of the generator, averaged over the discriminators (SoundStream, equation 2)."""
    return torch.stack([F.relu(1 - fake).mean() for fake in fake_scores]).mean()


def feature_matching_loss(
    real_features: Sequence[Sequence[Tensor]], fake_features: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Return the mean difference of the features relative to the real ones (SoundStream, equation 3)."""
    pairs = [
        (real.detach(), fake)
        for real_layers, fake_layers in zip(real_features, fake_features, strict=True)
        for real, fake in zip(real_layers, fake_layers, strict=True)
    ]
    differences = torch.stack([F.l1_loss(fake, real) for real, fake in pairs])
    sizes = mean_over_processes(torch.stack([real.abs().mean() for real, _ in pairs]))
    return (differences / sizes.clamp(min=1e-5)).mean()


def balanced_gradient(
    audio_values: Tensor, reference: Tensor, others: Mapping[str, Tensor], weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, float]]:
    """Return the gradient of several losses at the waveform `(batch, num_samples)`, and their norms before scaling.

    Adversarial gradients vary by orders of magnitude during training. The gradient of each of the `others` is
    therefore scaled to `weights[name]` times the norm of the gradient of `reference`, the reconstruction loss (like
    the loss balancer of EnCodec, arXiv 2210.13438, section 3.4). Norms are taken over the batch of all processes.
    """
    gradients = {
        name: torch.autograd.grad(loss, audio_values, retain_graph=True)[0]
        for name, loss in {"reconstruction": reference, **others}.items()
    }
    norms = sum_over_processes(torch.stack([gradient.pow(2).sum() for gradient in gradients.values()])).sqrt()
    total = gradients["reconstruction"]
    for name, norm in zip(list(gradients)[1:], norms[1:], strict=True):
        total = total + gradients[name] * (weights[name] * norms[0] / norm.clamp(min=1e-12))
    return total, dict(zip(gradients, norms.tolist(), strict=True))
