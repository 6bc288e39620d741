# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Every number of the model, one configuration class per part.

`AudioLMConfig` composes the semantic tokenizer, the acoustic codec and the three stages of AudioLM
(arXiv 2209.03143). Rates (`hop_length`, `frame_rate`, `vocab_size`) are derived from integers by properties and
never stored, so that two files cannot disagree about them. All checks are made here, when a configuration is built.
"""

import copy
import math
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .backbone_audiolm import check_backbone
from .resampling_audiolm import check_rates
from .strict_config_audiolm import StrictConfig, Within, check_foreign_config, check_plain, checked

STAGE_NAMES = ("semantic", "coarse", "fine")
NUM_SPECIAL_TOKENS = 4  # bos, eos, separator, padding: the last ids of every stage vocabulary
CODECS = ("soundstream", "encodec", "dac", "mimi")
WAVEFORM_ENCODERS = (
    "data2vec-audio",
    "hubert",
    "sew",
    "sew-d",
    "unispeech",
    "unispeech-sat",
    "wav2vec2",
    "wav2vec2-conformer",
    "wavlm",
)
SPECTRUM_ENCODER = "wav2vec2-bert"
NUM_MEL_BINS = 80  # of its input
STACKED_FRAMES = 2  # log-mel frames side by side in one of its frames


# Far above what was ever trained, far below what fills a memory with a single field.
_COUNT = Within(1, 2**20, whole=True)
_LEVELS = Within(1, 256, whole=True)
_LAYERS = Within(0, 1000, whole=True)
_RATE = Within(1000, 768_000, whole=True)
_SHARE = Within(0, 1)
_SECONDS = Within(0, 3600, above=True)
_F0 = Within(1, 384_000)
_VOCABULARY = 2**26  # ids of a stage's layout


def require_usable_codec(config: PreTrainedConfig) -> None:
    """Check that a codec of transformers fits the contract of [`~acoustic_codec_audiolm.AcousticCodec`].

    Raises:
        ValueError: the kind of codec is not known, or its settings cannot be used.
    """
    if config.model_type not in CODECS:
        raise ValueError(f"The codec has model_type {config.model_type!r}; use one of {', '.join(CODECS)}.")
    if config.model_type == "encodec" and (config.audio_channels != 1 or config.normalize):
        raise ValueError(
            f"EncodecConfig has audio_channels = {config.audio_channels} and normalize = {config.normalize}; use a "
            "mono model without normalisation, such as facebook/encodec_24khz."
        )


@strict
class SoundStreamConfig(StrictConfig):
    r"""Configuration of [`SoundStreamModel`], a causal neural codec with a residual vector quantizer.

    Args:
        sampling_rate (`int`, defaults to 16000): samples per second of the audio, Hz.
        strides (`list[int]`, defaults to `[2, 4, 5, 8]`): their product is `hop_length`, samples per frame.
        num_codebooks (`int`, defaults to 12): levels of the residual quantizer (Q of the paper).
        codebook_size (`int`, defaults to 1024): entries of each codebook (N of the paper).
        codebook_dim (`int`, defaults to 32): width of the space in which the quantizer works.
        quantizer_type (`"ema"` or `"factorized"`, defaults to `"ema"`): `"ema"` keeps one projection to
            `codebook_dim` and moves codebooks by exponential averages (SoundStream); `"factorized"` projects every
            level to `codebook_dim` by itself and compares L2-normalised codes learned by gradient (DAC).
        encoder_type (`"spectral"` or `"convolutional"`, defaults to `"spectral"`): short-time spectra followed by
            causal ConvNeXt blocks at the frame rate, or strided causal convolutions on the waveform (SoundStream).
        decoder_type (`"istft"`, `"harmonic"` or `"mirrored"`, defaults to `"istft"`): causal ConvNeXt blocks at the
            frame rate and an inverse short-time transform; such blocks that find a pitch and a filter, and harmonics
            and noise through that filter (for voices); or transposed convolutions that mirror the encoder
            (SoundStream).
        hidden_size (`int`, defaults to 256): width of the ConvNeXt blocks, and of the latent before the quantizer.
        intermediate_size (`int`, defaults to 768): inner width of the ConvNeXt blocks.
        num_encoder_layers, num_decoder_layers (`int`, default to 6 and 8): ConvNeXt blocks.
        kernel_size (`int`, defaults to 7): frames seen by a ConvNeXt block, the current one the last.
        window_length (`int`, defaults to 1280): samples of the analysis and synthesis windows (spectral, istft,
            harmonic).
        num_channels (`int`, defaults to 32): channels of the first convolution (convolutional, mirrored).
        codebook_decay (`float`, defaults to 0.99): decay of the moving averages (SoundStream).
        dead_code_threshold (`float`, defaults to 0.1): a code whose moving use falls below this share of the mean
            use of its level is replaced by an encoder output of the current batch (`"ema"` only).
        quantizer_dropout (`float`, defaults to 0.25): share of training examples that use a random number of levels.
        low_band_dim (`int`, defaults to 0): lowest cosine coefficients of each frame, `frame_rate / 2` Hz wide each,
            that are coded as they are, phase included, beside the latent; 0 leaves them out (`"ema"` only).
        low_band_start_level (`int`, defaults to 4): first level that codes them; the levels before, which the coarse
            stage predicts, code the latent alone.
        low_band_scale (`float`, defaults to 40.0): weight of the coefficients in the choice of codes.
        phase_iterations (`int`, defaults to 0): rounds of fast Griffin-Lim by which `decode` makes the phases of
            overlapping windows agree where no low band is coded, for sounds that hold their pitch, such as a piano's
            (istft only). A decoded sample then depends on all frames.
        num_lookahead_layers (`int`, defaults to 2): first blocks of the decoder that see `(kernel_size - 1) // 2`
            frames after the current one; this and what follows is for the harmonic decoder only.
        lowest_f0, highest_f0 (`float`, default to 55.0 and 520.0): range of the fundamental frequency, Hz.
        num_pitch_bins (`int`, defaults to 160): bins of the fundamental frequency, in equal steps of pitch.
        num_noise_bands (`int`, defaults to 80): bands, on a mel scale, in which the share of noise is set.
        num_phase_bands (`int`, defaults to 40): points, evenly from 0 Hz to half the sampling rate, between which the
            phase of the filter is interpolated.
    """

    model_type = "soundstream"

    sampling_rate: int = checked(16000, _RATE, trained=True)
    strides: list[int] | tuple[int, ...] = checked((2, 4, 5, 8), Within(1, 4096, whole=True), trained=True)
    num_codebooks: int = checked(12, _LEVELS, trained=True)
    codebook_size: int = checked(1024, _COUNT, trained=True)
    codebook_dim: int = checked(32, _COUNT, trained=True)
    quantizer_type: Literal["ema", "factorized"] = checked("ema", trained=True)
    encoder_type: Literal["spectral", "convolutional"] = checked("spectral", trained=True)
    decoder_type: Literal["istft", "harmonic", "mirrored"] = checked("istft", trained=True)
    hidden_size: int = checked(256, _COUNT, trained=True)
    intermediate_size: int = checked(768, _COUNT, trained=True)
    num_encoder_layers: int = checked(6, _LAYERS, trained=True)
    num_decoder_layers: int = checked(8, _LAYERS, trained=True)
    kernel_size: int = checked(7, Within(1, 4096, whole=True), trained=True)
    window_length: int = checked(1280, Within(2, 2**20, whole=True), trained=True)
    num_channels: int = checked(32, _COUNT, trained=True)
    codebook_decay: float | int = checked(0.99, _SHARE)
    dead_code_threshold: float | int = checked(0.1, _SHARE)
    quantizer_dropout: float | int = checked(0.25, _SHARE)
    low_band_dim: int = checked(0, Within(0, 2**20, whole=True), trained=True)
    low_band_start_level: int = checked(4, Within(0, 256, whole=True), trained=True)
    low_band_scale: float | int = checked(40.0, Within(0, 1e6, above=True), trained=True)
    phase_iterations: int = checked(0, Within(0, 1000, whole=True))
    num_lookahead_layers: int = checked(2, _LAYERS, trained=True)
    lowest_f0: float | int = checked(55.0, _F0, trained=True)
    highest_f0: float | int = checked(520.0, _F0, trained=True)
    num_pitch_bins: int = checked(160, Within(2, 2**12, whole=True), trained=True)
    num_noise_bands: int = checked(80, Within(1, 2**12, whole=True), trained=True)
    num_phase_bands: int = checked(40, Within(1, 2**12, whole=True), trained=True)
    initializer_range: float | int = checked(0.02, _SHARE)

    def __post_init__(self, **kwargs: Any) -> None:
        self.strides = list(self.strides)
        super().__post_init__(**kwargs)

    def validate_geometry(self) -> None:
        """Check that the windows fit the hop."""
        excess = self.window_length - self.hop_length
        if self.encoder_type == "spectral" or self.decoder_type != "mirrored":
            if excess <= 0 or excess % 2:
                raise ValueError(
                    f"SoundStreamConfig.window_length is {self.window_length} and hop_length {self.hop_length} (the "
                    "product of strides); window_length - hop_length must be positive and even."
                )

    def validate_phase(self) -> None:
        """Check that there are phases to change."""
        if self.phase_iterations and self.decoder_type != "istft":
            raise ValueError(
                f"SoundStreamConfig.phase_iterations is {self.phase_iterations} with decoder_type "
                f'{self.decoder_type!r}; it can be 0, and above 0 with "istft" only.'
            )

    def validate_pitch(self) -> None:
        """Check that a harmonic decoder has a range of pitch and the layers that look ahead."""
        if self.decoder_type != "harmonic":
            return
        if not self.lowest_f0 < self.highest_f0 <= self.sampling_rate / 4:
            raise ValueError(
                f"SoundStreamConfig.lowest_f0 is {self.lowest_f0} and highest_f0 {self.highest_f0}; give a range that "
                f"rises and ends at {self.sampling_rate / 4:g} Hz (sampling_rate / 4) or below."
            )
        if self.num_lookahead_layers > self.num_decoder_layers:
            raise ValueError(
                f"SoundStreamConfig.num_lookahead_layers is {self.num_lookahead_layers}; give 0 to "
                f"{self.num_decoder_layers} (num_decoder_layers)."
            )

    def validate_low_band(self) -> None:
        """Check that the low band fits the frame, the quantizer and its levels."""
        if self.low_band_dim == 0:
            return
        if self.low_band_dim > self.hop_length or self.quantizer_type != "ema":
            raise ValueError(
                f"SoundStreamConfig.low_band_dim is {self.low_band_dim} with quantizer_type {self.quantizer_type!r}; "
                f'it can be 0 to {self.hop_length} (hop_length), and above 0 with "ema" only.'
            )
        if self.low_band_start_level >= self.num_codebooks:
            raise ValueError(
                f"SoundStreamConfig.low_band_start_level is {self.low_band_start_level}; give a level from 0 to "
                f"{self.num_codebooks - 1} (num_codebooks - 1)."
            )

    @property
    def hop_length(self) -> int:
        """Audio samples per frame of codes."""
        return math.prod(self.strides)

    @property
    def frame_rate(self) -> float:
        """Frames of codes per second, Hz."""
        return self.sampling_rate / self.hop_length

    @property
    def bitrate(self) -> float:
        """Bits per second of all codebooks together."""
        return self.frame_rate * self.num_codebooks * math.log2(self.codebook_size)

    @property
    def lookahead(self) -> int:
        """Samples after the end of a frame that its codes or its decoded samples may depend on.

        0 for the convolutional encoder with the mirrored decoder. Windows that are centred on their frame see
        `(window_length - hop_length) / 2` samples ahead, once in the encoder and once in the decoder; a harmonic
        decoder has them twice, before and after its filter, sees one and a half frames by the interpolation of its
        pitch, and some by `num_lookahead_layers`. The low band is put in its place through windows of two frames.
        Where `phase_iterations` are at work, a sample depends on all frames.
        """
        excess = (self.window_length - self.hop_length) // 2
        windows = {"istft": 1, "harmonic": 2, "mirrored": 0}[self.decoder_type] + (self.encoder_type == "spectral")
        lookahead = windows * excess + 2 * self.hop_length * (self.low_band_dim > 0)
        if self.decoder_type == "harmonic":
            frames_ahead = self.num_lookahead_layers * ((self.kernel_size - 1) // 2)
            lookahead += frames_ahead * self.hop_length + 3 * self.hop_length // 2
        return lookahead


@strict
class AudioLMSemanticTokenizerConfig(StrictConfig):
    r"""Configuration of [`AudioLMSemanticTokenizer`]: a layer of a speech encoder, normalised, quantised by k-means.

    Args:
        encoder_config (`PreTrainedConfig` or `dict`): a speech encoder of transformers with one frame per fixed step
            of audio of any length: Wav2Vec2Bert, HuBERT, wav2vec 2.0, Wav2Vec2Conformer, WavLM, Data2VecAudio,
            UniSpeech, UniSpeechSat, SEW or SEW-D. Defaults to Wav2Vec2Bert.
        sampling_rate (`int`, defaults to 16000): Hz, of the audio that the encoder was trained on.
        layer (`int`, defaults to 7): entry of the encoder's `hidden_states` to quantise; 0 is its input
            (AudioLM: layer 7 of the masked-language-model module).
        num_semantic_tokens (`int`, defaults to 1024): k-means centroids (K of the paper).
        pooling (`int`, defaults to 2): encoder frames averaged into one token; 2 turns 50 Hz into the paper's 25 Hz.
    """

    model_type = "audiolm_semantic_tokenizer"
    sub_configs_defaults: ClassVar[dict] = {
        "encoder_config": SubConfigSpec(config_class=AutoConfig, model_type="wav2vec2-bert"),
    }

    encoder_config: dict | PreTrainedConfig | None = None
    sampling_rate: int = checked(16000, _RATE, trained=True)
    layer: int = checked(7, _LAYERS, trained=True)
    num_semantic_tokens: int = checked(1024, _COUNT, trained=True)
    pooling: int = checked(2, Within(1, 1000, whole=True), trained=True)
    initializer_range: float | int = checked(0.02, _SHARE)

    def validate_quantisation(self) -> None:
        """Check that the encoder can be used and has the layer."""
        self._validate_encoder()
        num_layers = self.encoder_config.num_hidden_layers
        if self.layer > num_layers:
            raise ValueError(
                f"AudioLMSemanticTokenizerConfig.layer is {self.layer}; the encoder has {num_layers} layers, so give "
                f"0 (their input) to {num_layers}."
            )

    def _validate_encoder(self) -> None:
        kind = self.encoder_config.model_type
        if kind in WAVEFORM_ENCODERS:
            return
        if kind != SPECTRUM_ENCODER:
            raise ValueError(
                f"AudioLMSemanticTokenizerConfig.encoder_config has model_type {kind!r}; tokens need an encoder with "
                "one frame per fixed step of audio of any length (Whisper takes 30 s at once, AST makes patches of a "
                f"spectrogram). Use one of {', '.join((SPECTRUM_ENCODER, *WAVEFORM_ENCODERS))}."
            )
        if self.encoder_config.feature_projection_input_dim != STACKED_FRAMES * NUM_MEL_BINS:
            raise ValueError(
                f"encoder_config.feature_projection_input_dim is {self.encoder_config.feature_projection_input_dim}; "
                f"its input is {STACKED_FRAMES} frames of {NUM_MEL_BINS} mel bins, so give "
                f"{STACKED_FRAMES * NUM_MEL_BINS}."
            )
        if self.sampling_rate % 200:
            raise ValueError(
                f"AudioLMSemanticTokenizerConfig.sampling_rate is {self.sampling_rate}; {kind} takes spectra of 25 ms "
                "every 10 ms, so give a multiple of 200 Hz. Audio may have another rate: it is resampled."
            )

    @property
    def encoder_hop_length(self) -> int:
        """Audio samples per encoder frame."""
        if hasattr(self.encoder_config, "conv_stride"):
            # SEW averages frames before its layers
            return math.prod(self.encoder_config.conv_stride) * getattr(self.encoder_config, "squeeze_factor", 1)
        return self.sampling_rate // 50  # log-mel spectra every 10 ms, stacked in pairs (w2v-BERT 2.0)

    @property
    def hop_length(self) -> int:
        """Audio samples per semantic token."""
        return self.encoder_hop_length * self.pooling

    @property
    def semantic_frame_rate(self) -> float:
        """Semantic tokens per second before any removal of repeats, Hz."""
        return self.sampling_rate / self.hop_length


# What generic code (caches, resizing, tensor parallelism, generation) reads from the top configuration of a causal
# model, and sets there. The special tokens are set from the layout: `bos` begins every sequence, `eos` ends a
# recording (semantic stage), `pad` fills short rows and is always masked. What `generate` is told about them can be
# changed (no `eos_token_id`: never stop); the layout cannot.
_BACKBONE_VIEWS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def _backbone_view(name: str) -> property:
    def read(self: "AudioLMStageConfig") -> int:
        return getattr(self.backbone_config, name)

    def write(self: "AudioLMStageConfig", value: int) -> None:
        setattr(self.backbone_config, name, value)

    return property(read, write, doc=f"`{name}` of `backbone_config`.")


@strict
class AudioLMStageConfig(StrictConfig):
    r"""What the three stages share: a causal decoder over one flat vocabulary (see `token_layout_audiolm`).

    Args:
        backbone_config (`PreTrainedConfig` or `dict`): any causal decoder that `AutoModel` builds and that keeps a
            `Cache`; others are refused with the reason. Its `vocab_size` is set from the layout, unless a `dict` names
            a larger one. Defaults to Llama.
        num_semantic_tokens (`int`, defaults to 1024): K of the semantic tokenizer.
        codebook_size (`int`, defaults to 1024): N of the codec.
        num_coarse_codebooks (`int`, defaults to 4): leading levels predicted by the coarse stage (Q').
        num_fine_codebooks (`int`, defaults to 8): remaining levels, predicted by the fine stage (Q - Q').
        window_length_s (`float`): seconds of audio seen at once in training and in generation (30 / 10 / 3 for the
            semantic / coarse / fine stage in AudioLM).
        remove_repeats (`bool`, defaults to `False`): the semantic tokens of this stage have no consecutive repeats.
        mean_semantic_duration (`float`, defaults to 1.0): tokens before removal per token after it, measured on the
            training data; turns seconds into numbers of tokens when `remove_repeats` is set.
        condition_dropout (`float`, defaults to 0.0): share of the training sequences of a coarse stage that came
            without their semantic tokens. Above 0 the stage can be guided (`coarse_guidance_scale`), and goes on from
            the sound alone at a scale of 0.
        condition_stride (`float`, *optional*): tokens predicted for each condition token; 8 for 25 semantic tokens and
            4 levels of 50 codes a second. Positions of the condition then run beside those of what is predicted
            (see [`~token_layout_audiolm.side_by_side_positions`]). By default they are counted up from the beginning.
    """

    stage: ClassVar[Literal["semantic", "coarse", "fine"]]
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]
    sub_configs_defaults: ClassVar[dict] = {
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    backbone_config: dict | PreTrainedConfig | None = None
    num_semantic_tokens: int = checked(1024, _COUNT, trained=True)
    codebook_size: int = checked(1024, _COUNT, trained=True)
    num_coarse_codebooks: int = checked(4, _LEVELS, trained=True)
    num_fine_codebooks: int = checked(8, _LEVELS, trained=True)
    window_length_s: float | int = checked(30.0, _SECONDS)
    remove_repeats: bool = checked(False, trained=True)
    mean_semantic_duration: float | int = checked(1.0, Within(1, 1e6))
    condition_dropout: float | int = checked(0.0, _SHARE)
    condition_stride: float | int | None = checked(None, Within(0, 1e6, above=True), trained=True)
    initializer_range: float | int = checked(0.02, _SHARE)
    use_cache: bool = True
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        named = isinstance(self.backbone_config, dict) and "vocab_size" in self.backbone_config
        views = {name: kwargs.pop(name) for name in _BACKBONE_VIEWS if name in kwargs}
        if isinstance(self.backbone_config, PreTrainedConfig):
            self.backbone_config = copy.deepcopy(self.backbone_config)
        super().__post_init__(**kwargs)
        # Ids of a text model mean nothing here.
        specials = {"bos_token_id": 4, "eos_token_id": 3, "pad_token_id": 1}
        views = {name: self.layout_size - place for name, place in specials.items()} | views
        if not named:
            views.setdefault("vocab_size", self.layout_size)
        for name, value in views.items():
            setattr(self, name, value)

    def validate_backbone(self) -> None:
        """Check that the decoder is one that a stage can use."""
        check_backbone(self.backbone_config, needs_positions=self.condition_stride is not None)

    def validate_layout(self) -> None:
        """Check that the vocabulary holds the layout, and is of a size that can be."""
        if self.condition_stride is not None:
            self._validate_condition_stride()
        if self.layout_size > _VOCABULARY:
            raise ValueError(
                f"{type(self).__name__} has {self.layout_size:,} ids (num_semantic_tokens and codebook_size times the "
                f"levels); at most {_VOCABULARY:,} are allowed."
            )
        if self.vocab_size < self.layout_size:
            raise ValueError(
                f"{type(self).__name__}.backbone_config.vocab_size is {self.vocab_size}; this stage's tokens need at "
                f"least {self.layout_size}. Leave it out and it is set."
            )

    def _validate_condition_stride(self) -> None:
        if self.stage == "semantic":
            reason = "the semantic stage has no condition"
        elif self.remove_repeats:
            reason = "tokens without repeats have no times"
        else:
            return
        raise ValueError(
            f"{type(self).__name__}.condition_stride is {self.condition_stride}, but {reason}; leave it out."
        )

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """The decoder's configuration, for code that sizes caches and embeddings."""
        return self.backbone_config

    @property
    def num_codebooks(self) -> int:
        """Levels of the residual quantizer over both acoustic stages (Q)."""
        return self.num_coarse_codebooks + self.num_fine_codebooks

    @property
    def num_stage_codebooks(self) -> int:
        """Codebook levels in this stage's vocabulary: 0, Q' or Q."""
        return {"semantic": 0, "coarse": self.num_coarse_codebooks, "fine": self.num_codebooks}[self.stage]

    @property
    def acoustic_offset(self) -> int:
        """Id of code 0 of level 0; the semantic tokens, if this stage has any, come before it."""
        return 0 if self.stage == "fine" else self.num_semantic_tokens

    @property
    def layout_size(self) -> int:
        """Ids of the flat vocabulary: semantic tokens | level 0 | level 1 | ... | special tokens."""
        return self.acoustic_offset + self.num_stage_codebooks * self.codebook_size + NUM_SPECIAL_TOKENS

    @property
    def begin_token_id(self) -> int:
        """Before every sequence, whatever `bos_token_id` says."""
        return self.layout_size - 4

    @property
    def end_token_id(self) -> int:
        """After the last semantic token of a recording, whatever `eos_token_id` says."""
        return self.layout_size - 3

    @property
    def separator_token_id(self) -> int:
        """Between the conditioning tokens and the predicted ones (coarse and fine stage)."""
        return self.layout_size - 2

    @property
    def padding_token_id(self) -> int:
        """Fills short rows, always masked, whatever `pad_token_id` says."""
        return self.layout_size - 1


for _name in _BACKBONE_VIEWS:
    setattr(AudioLMStageConfig, _name, _backbone_view(_name))


@strict
class AudioLMSemanticConfig(AudioLMStageConfig):
    """Stage 1: semantic tokens from earlier semantic tokens. See [`AudioLMStageConfig`]."""

    model_type = "audiolm_semantic"
    stage = "semantic"


@strict
class AudioLMCoarseConfig(AudioLMStageConfig):
    """Stage 2: coarse codes from semantic tokens and earlier coarse codes. See [`AudioLMStageConfig`]."""

    model_type = "audiolm_coarse"
    stage = "coarse"

    window_length_s: float | int = checked(10.0, _SECONDS)


@strict
class AudioLMFineConfig(AudioLMStageConfig):
    """Stage 3: fine codes from coarse codes and earlier fine codes. See [`AudioLMStageConfig`]."""

    model_type = "audiolm_fine"
    stage = "fine"

    window_length_s: float | int = checked(3.0, _SECONDS)


@strict
class AudioLMConfig(StrictConfig):
    r"""The two tokenizers and the three stages of one AudioLM; checked to agree with each other.

    Audio comes in and goes out at the codec's sampling rate; the semantic tokenizer may have another one.

    Args:
        semantic_tokenizer_config ([`AudioLMSemanticTokenizerConfig`] or `dict`).
        codec_config ([`SoundStreamConfig`], `EncodecConfig`, `DacConfig`, `MimiConfig` or `dict`).
        semantic_config ([`AudioLMSemanticConfig`] or `dict`).
        coarse_config ([`AudioLMCoarseConfig`] or `dict`).
        fine_config ([`AudioLMFineConfig`] or `dict`).
        loudness_db (`float`, defaults to -24.0): loudness of the training data, to which prompts are brought before
            they are tokenised: RMS of the frames that are no pauses, dB relative to full scale.
    """

    model_type = "audiolm"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["semantic_loss", "coarse_loss", "fine_loss"]
    sub_configs_defaults: ClassVar[dict] = {
        "semantic_tokenizer_config": SubConfigSpec(config_class=AudioLMSemanticTokenizerConfig),
        "codec_config": SubConfigSpec(config_class=SoundStreamConfig),
        "semantic_config": SubConfigSpec(config_class=AudioLMSemanticConfig),
        "coarse_config": SubConfigSpec(config_class=AudioLMCoarseConfig),
        "fine_config": SubConfigSpec(config_class=AudioLMFineConfig),
    }

    semantic_tokenizer_config: dict | PreTrainedConfig | None = None
    codec_config: dict | PreTrainedConfig | None = None
    semantic_config: dict | PreTrainedConfig | None = None
    coarse_config: dict | PreTrainedConfig | None = None
    fine_config: dict | PreTrainedConfig | None = None
    loudness_db: float | int = checked(-24.0, Within(-60, 0))
    initializer_range: float | int = checked(0.02, _SHARE)

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.codec_config, dict):
            # Our own codec is not in transformers' table of models when this file runs from a Hub repository.
            fields = dict(self.codec_config)
            check_plain("AudioLMConfig", {"codec_config": fields})
            model_type = fields.pop("model_type", SoundStreamConfig.model_type)
            if model_type == SoundStreamConfig.model_type:
                self.codec_config = SoundStreamConfig(**fields)
            else:
                self.codec_config = AutoConfig.for_model(model_type, **fields)
                check_foreign_config("AudioLMConfig.codec_config", self.codec_config, fields)
        super().__post_init__(**kwargs)

    @property
    def sampling_rate(self) -> int:
        """Samples per second of the audio that goes in and comes out, Hz."""
        return self.codec_config.sampling_rate

    @property
    def stage_configs(self) -> dict[str, Any]:
        """The stages' [`AudioLMStageConfig`] by name, in order."""
        return {"semantic": self.semantic_config, "coarse": self.coarse_config, "fine": self.fine_config}

    def validate_agreement(self) -> None:
        """Check that tokenizer, codec and stages mean the same tokens."""
        require_usable_codec(self.codec_config)
        semantic_tokenizer = self.semantic_tokenizer_config
        check_rates(self.sampling_rate, semantic_tokenizer.sampling_rate)
        for name, stage in self.stage_configs.items():
            pairs = {
                "num_semantic_tokens": (stage.num_semantic_tokens, semantic_tokenizer.num_semantic_tokens),
                "codebook_size": (stage.codebook_size, self.codec_config.codebook_size),
                "num_coarse_codebooks": (stage.num_coarse_codebooks, self.coarse_config.num_coarse_codebooks),
                "num_fine_codebooks": (stage.num_fine_codebooks, self.fine_config.num_fine_codebooks),
            }
            for field, (given, expected) in pairs.items():
                if given != expected:
                    raise ValueError(
                        f"{name}_config.{field} is {given}, but the tokenizer, codec and other stages use {expected}; "
                        "all parts of one AudioLM must agree."
                    )


__all__ = [
    "CODECS",
    "NUM_MEL_BINS",
    "NUM_SPECIAL_TOKENS",
    "SPECTRUM_ENCODER",
    "STACKED_FRAMES",
    "STAGE_NAMES",
    "WAVEFORM_ENCODERS",
    "AudioLMCoarseConfig",
    "AudioLMConfig",
    "AudioLMFineConfig",
    "AudioLMSemanticConfig",
    "AudioLMSemanticTokenizerConfig",
    "AudioLMStageConfig",
    "SoundStreamConfig",
    "require_usable_codec",
]
