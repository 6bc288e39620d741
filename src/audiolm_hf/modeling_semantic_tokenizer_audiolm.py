# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The semantic tokenizer: audio in, one discrete token per 40 ms out (unless configured otherwise).

A speech encoder of transformers turns a waveform into hidden states; one of its layers is normalized per dimension,
averaged over `pooling` frames and replaced by the index of the nearest k-means centroid. Normalization and centroids
are buffers, so one safetensors file holds the whole tokenizer.

Paper: AudioLM (arXiv 2209.03143), section on semantic tokens.
"""

import math
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.audio_utils import mel_filter_bank
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

from .compat_audiolm import unmoved_generator, with_globals
from .configuration_audiolm import NUM_MEL_BINS, STACKED_FRAMES, AudioLMSemanticTokenizerConfig
from .input_checks_audiolm import length_mask
from .numerics_audiolm import loaded, require_finite
from .semantic_tokenizer_audiolm import SemanticTokenizerModel, register_semantic_tokenizer

PREEMPHASIS = 0.97  # Kaldi
MEL_FLOOR = 2.0**-23  # Kaldi: the smallest energy before the logarithm
INT16_SCALE = 2.0**15  # Kaldi works on 16-bit samples
VARIANCE_EPSILON = 1e-7  # transformers' feature extractors


def log_mel_spectrogram(input_values: Tensor, sampling_rate: int) -> Tensor:
    """Return Kaldi's log-mel spectrogram `(batch, frames, 80)` of waveforms `(batch, num_samples)` of at least 25 ms.

    Povey windows of 25 ms every 10 ms, only whole windows; natural logarithm of the energy of 16-bit samples.
    """
    window_length, hop_length = sampling_rate // 40, sampling_rate // 100
    fft_length = 2 ** math.ceil(math.log2(window_length))
    frames = input_values.float().unfold(-1, window_length, hop_length) * INT16_SCALE
    frames = frames - frames.mean(dim=-1, keepdim=True)
    # The first sample of a window has no sample before it; Kaldi repeats it.
    frames = frames - PREEMPHASIS * F.pad(frames, (1, 0), mode="replicate")[..., :-1]
    hann = torch.hann_window(window_length, periodic=False, device=frames.device, dtype=torch.float32)
    power = torch.fft.rfft(frames * hann**0.85, n=fft_length).abs().square()  # Povey's window
    filters = mel_filter_bank(
        num_frequency_bins=fft_length // 2 + 1,
        num_mel_filters=NUM_MEL_BINS,
        min_frequency=20,
        max_frequency=sampling_rate // 2,
        sampling_rate=sampling_rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    energy = power @ torch.as_tensor(filters, dtype=power.dtype, device=power.device)
    return energy.clamp(min=MEL_FLOOR).log()


def stacked_log_mel(input_values: Tensor, lengths: Tensor, sampling_rate: int, num_frames: int) -> Tensor:
    """Return the input features `(batch, num_frames, 160)` of w2v-BERT 2.0 for a padded batch; a frame is 20 ms.

    Every mel bin of a recording has mean 0 and variance 1 over the windows that lie wholly inside the recording, as in
    transformers' `SeamlessM4TFeatureExtractor`. Frames after those repeat the last of them, because silence would look
    like another sound.
    """
    window_length, hop_length = sampling_rate // 40, sampling_rate // 100
    num_windows = num_frames * STACKED_FRAMES
    width = (num_windows - 1) * hop_length + window_length
    input_values = F.pad(input_values, (0, max(width - input_values.shape[-1], 0)))[:, :width]
    mel = log_mel_spectrogram(input_values, sampling_rate)

    num_real = 1 + (lengths - window_length).clamp(min=0) // hop_length
    position = torch.arange(num_windows, device=mel.device)
    real = (position < num_real[:, None])[..., None]  # (batch, frames, 1)
    mean = mel.where(real, 0.0).sum(dim=1, keepdim=True) / num_real[:, None, None]
    centred = (mel - mean).where(real, 0.0)
    variance = centred.square().sum(dim=1, keepdim=True) / (num_real - 1).clamp(min=1)[:, None, None]
    mel = centred / (variance + VARIANCE_EPSILON).sqrt()

    source = torch.minimum(position, num_real[:, None] - 1)
    mel = mel.gather(1, source[..., None].expand(-1, -1, NUM_MEL_BINS))
    return mel.reshape(mel.shape[0], num_frames, STACKED_FRAMES * NUM_MEL_BINS)


def nearest_centroid(features: Tensor, centroids: Tensor) -> Tensor:
    """Return the nearest of `centroids (num_semantic_tokens, hidden_size)` to `features (..., hidden_size)`."""
    centroids = centroids.float()
    # |x - c|^2 without |x|^2, which is the same for every c.
    return (centroids.square().sum(dim=-1) - 2 * features.float() @ centroids.T).argmin(dim=-1)


def relative_key_bias(attention: Any, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Return `query` and the position bias `(batch, heads, length, length)` of `query (batch, heads, length, size)`.

    transformers' function looks up an embedding for the distance of every pair of frames, which takes 0.6 GB for 30 s.
    This one multiplies each query with the embedding of each distance once, and looks up the products.
    """
    most_left, most_right = attention.left_max_position_embeddings, attention.right_max_position_embeddings
    embeddings = attention.distance_embedding(torch.arange(most_left + most_right + 1, device=query.device))
    products = query @ embeddings.to(query.dtype).T * attention.scaling
    frames = torch.arange(key.shape[2], device=query.device)
    distances = (frames - frames[:, None]).clamp(-most_left, most_right) + most_left
    return query, products.gather(-1, distances.expand(*query.shape[:2], *distances.shape))


class RelativeKeyAttention(Wav2Vec2BertSelfAttention):
    """The attention of w2v-BERT 2.0, with position biases in less time and memory."""

    forward = with_globals(Wav2Vec2BertSelfAttention.forward, _apply_relative_key_position_encoding=relative_key_bias)


def _speed_up_positions(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if type(module) is Wav2Vec2BertSelfAttention:
            module.__class__ = RelativeKeyAttention


class AudioLMSemanticTokenizer(SemanticTokenizerModel):
    """The semantic tokenizer: a layer of a speech encoder, quantized by k-means. Always in evaluation mode.

    Paper: AudioLM (arXiv 2209.03143), semantic tokens.
    """

    config: AudioLMSemanticTokenizerConfig
    config_class = AudioLMSemanticTokenizerConfig
    _no_split_modules: ClassVar[list[str]] = ["AudioLMSemanticTokenizer"]  # accelerate forgets buffers beside a split

    def __init__(self, config: AudioLMSemanticTokenizerConfig) -> None:
        config.validate()  # fields may have been assigned since it was built
        super().__init__(config)
        hidden_size = config.encoder_config.hidden_size
        self.encoder = AutoModel.from_config(config.encoder_config, dtype=torch.float32)
        _speed_up_positions(self.encoder)
        self.register_buffer("feature_mean", torch.zeros(hidden_size, dtype=torch.float32))
        self.register_buffer("feature_std", torch.ones(hidden_size, dtype=torch.float32))
        self.register_buffer("centroids", _unfitted_centroids(config))
        self.post_init()
        self.eval()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.zeros_(self.feature_mean)
            init.ones_(self.feature_std)
            init.copy_(self.centroids, _unfitted_centroids(self.config))

    @classmethod
    def from_encoder(
        cls,
        encoder: PreTrainedModel,
        layer: int,
        num_semantic_tokens: int = 1024,
        pooling: int = 2,
        sampling_rate: int = 16000,
    ) -> "AudioLMSemanticTokenizer":
        """Wrap a trained speech encoder; its centroids are random until they are fitted.

        Args:
            encoder (`PreTrainedModel`): a speech encoder, such as that of `facebook/w2v-bert-2.0` from
                `AutoModel.from_pretrained`. It becomes part of the tokenizer and loses the layers above `layer`.
            layer (`int`): entry of the encoder's `hidden_states` to quantize.
            num_semantic_tokens (`int`, defaults to 1024): k-means centroids.
            pooling (`int`, defaults to 2): encoder frames averaged into one token.
            sampling_rate (`int`, defaults to 16000): Hz, of the audio that the encoder was trained on.

        Raises:
            ValueError: if the model is not a supported speech encoder, or a number is out of range.
        """
        config = AudioLMSemanticTokenizerConfig(
            encoder_config=encoder.config.to_dict(),
            layer=layer,
            num_semantic_tokens=num_semantic_tokens,
            pooling=pooling,
            sampling_rate=sampling_rate,
        )
        tokenizer = cls(config).to(encoder.device)
        tokenizer.encoder = encoder.eval()
        _speed_up_positions(encoder)
        tokenizer.prune_to_layer()
        return tokenizer

    def prune_to_layer(self) -> None:
        """Remove the encoder layers above `config.layer`, which are not used."""
        encoder_config = self.config.encoder_config
        layer = self.config.layer
        # These encoders normalize the output of their last layer only, so the layer must not become the last.
        if encoder_config.model_type == "wav2vec2-conformer" or getattr(encoder_config, "do_stable_layer_norm", False):
            layer += 1
        depth = min(max(layer, 1), encoder_config.num_hidden_layers)
        if encoder_config.model_type == "sew-d":
            self.encoder.encoder.encoder.layer = self.encoder.encoder.encoder.layer[:depth]
        else:
            self.encoder.encoder.layers = self.encoder.encoder.layers[:depth]
        self.encoder.config.num_hidden_layers = depth
        encoder_config.num_hidden_layers = depth

    def compute_tokens(self, input_values: Tensor, lengths: Tensor) -> Tensor:
        """Return the nearest centroids of the features."""
        features = self._features(input_values, lengths)
        with loaded(self):
            for values in (features, self.feature_std, self.centroids):
                require_finite(values, "The semantic tokenizer")
            return nearest_centroid(features, self.centroids)

    def extract_features(
        self, input_values: Tensor, attention_mask: Tensor | None = None, sampling_rate: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the normalized hidden states at the rate of the tokens, before quantization, and their mask.

        They are float32 `(batch, semantic_length, hidden_size)`. Arguments and errors are those of `tokenize`.
        """
        input_values, lengths = self.read_waveforms(input_values, attention_mask, sampling_rate)
        return self._features(input_values, lengths), self.token_mask(input_values, lengths)

    def _features(self, input_values: Tensor, lengths: Tensor) -> Tensor:
        """Return normalized hidden states `(batch, semantic_length, hidden_size)`, see `extract_features`."""
        num_tokens = -(-lengths // self.config.hop_length)
        semantic_length = -(-input_values.shape[1] // self.config.hop_length)
        with loaded(self.encoder), torch.autocast(input_values.device.type, enabled=False):
            hidden_states = self._encode(input_values, lengths, num_tokens * self.config.pooling).float()
        missing = semantic_length * self.config.pooling - hidden_states.shape[1]
        hidden_states = F.pad(hidden_states, (0, 0, 0, missing))
        pooled = hidden_states.unflatten(1, (semantic_length, self.config.pooling)).mean(dim=2)
        # Averages and affine maps commute, so normalizing after pooling is the same and cheaper.
        with loaded(self):
            return (pooled - self.feature_mean.float()) / self.feature_std.float()

    def _encode(self, input_values: Tensor, lengths: Tensor, num_frames: Tensor) -> Tensor:
        """Return hidden states `(batch, frames, hidden_size)` of the layer for the frames of the longest recording."""
        if self.encoder.main_input_name == "input_features":  # log-mel spectra, as of Wav2Vec2Bert
            longest = int(num_frames.max())
            features = stacked_log_mel(input_values, lengths, self.config.sampling_rate, longest)
            return self._hidden_states(features, length_mask(num_frames, longest).long())
        # Encoders of waveforms are run on one recording at a time, because padding would change their results (by
        # normalization over time and convolutions).
        rows = [
            self._encode_waveform(row[:length], frames)
            for row, length, frames in zip(input_values, lengths.tolist(), num_frames.tolist(), strict=True)
        ]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def _encode_waveform(self, recording: Tensor, num_frames: int) -> Tensor:
        """Run an encoder of waveforms (all other kinds) on one recording `(num_samples,)` of mean 0 and variance 1."""
        encoder_config = self.config.encoder_config
        stride, field = math.prod(encoder_config.conv_stride), _receptive_field(encoder_config)
        convolved = num_frames * self.config.encoder_hop_length // stride  # SEW averages pairs of convolved frames
        width = (convolved - 1) * stride + field
        centred = recording - recording.mean()
        normalized = centred / (centred.square().mean() + VARIANCE_EPSILON).sqrt()
        padded = F.pad(normalized, (0, max(width - len(recording), 0)))[:width]
        return self._hidden_states(padded[None])[0]

    def _hidden_states(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        inputs = inputs.to(self.encoder.dtype)
        with nullcontext() if self.encoder.training else unmoved_generator():
            outputs = self.encoder(inputs, attention_mask=attention_mask, output_hidden_states=True)
        return outputs.hidden_states[self.config.layer]


def _unfitted_centroids(config: AudioLMSemanticTokenizerConfig) -> Tensor:
    """Return distinct initial centroids `(num_semantic_tokens, hidden_size)`, the same in every run."""
    shape = (config.num_semantic_tokens, config.encoder_config.hidden_size)
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randn(shape, generator=generator, device="cpu", dtype=torch.float32)


def _receptive_field(encoder_config: Any) -> int:
    """Return the receptive field of a stack of convolutions in samples."""
    field, step = 1, 1
    for kernel, stride in zip(encoder_config.conv_kernel, encoder_config.conv_stride, strict=True):
        field += (kernel - 1) * step
        step *= stride
    return field


register_semantic_tokenizer(AudioLMSemanticTokenizer)
