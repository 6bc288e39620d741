# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Tiny random models of every codec and every speech encoder, and whole AudioLMs of any two of them."""

import torch
from transformers import (
    DacConfig,
    Data2VecAudioConfig,
    EncodecConfig,
    HubertConfig,
    MimiConfig,
    SEWConfig,
    SEWDConfig,
    UniSpeechConfig,
    UniSpeechSatConfig,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    WavLMConfig,
)

from audiolm_hf.acoustic_codec_audiolm import build_acoustic_codec
from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.modeling_audiolm import AudioLMModel
from tests.conftest import randomise, tiny_config, tiny_stage_config

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
SQUEEZED = {**CONVOLUTIONS, "conv_dim": [16] * 13}
ENCODERS = {
    "wav2vec2-bert": Wav2Vec2BertConfig(**SIZES, conv_depthwise_kernel_size=5),
    "hubert": HubertConfig(**SIZES, **CONVOLUTIONS),
    "hubert-large": HubertConfig(**SIZES, **CONVOLUTIONS, feat_extract_norm="layer", do_stable_layer_norm=True),
    "wav2vec2": Wav2Vec2Config(**SIZES, **CONVOLUTIONS, feat_extract_norm="layer"),
    "wav2vec2-conformer": Wav2Vec2ConformerConfig(**SIZES, **CONVOLUTIONS, conv_depthwise_kernel_size=5),
    "wavlm": WavLMConfig(**SIZES, **CONVOLUTIONS),
    "data2vec-audio": Data2VecAudioConfig(
        **SIZES, conv_dim=[16] * 7, num_conv_pos_embeddings=2, num_conv_pos_embedding_groups=4
    ),
    "unispeech": UniSpeechConfig(**SIZES, **CONVOLUTIONS),
    "unispeech-sat": UniSpeechSatConfig(**SIZES, **CONVOLUTIONS),
    "sew": SEWConfig(**SIZES, **SQUEEZED),
    "sew-d": SEWDConfig(**SIZES, **SQUEEZED),
}
# Each at the rate and with the frames of its published models.
CODECS = {
    "soundstream": SoundStreamConfig(
        sampling_rate=24000, strides=[4, 5, 6, 8], num_codebooks=3, codebook_size=8, codebook_dim=8, hidden_size=16,
        intermediate_size=32, num_encoder_layers=1, num_decoder_layers=1, window_length=1920,
    ),
    "encodec": EncodecConfig(
        target_bandwidths=[0.675], num_filters=4, hidden_size=16, codebook_dim=16, codebook_size=8, num_lstm_layers=1
    ),
    "dac": DacConfig(
        sampling_rate=44100, downsampling_ratios=[2, 4, 8, 8], encoder_hidden_size=4, decoder_hidden_size=64,
        n_codebooks=3, codebook_size=8,
    ),
    "mimi": MimiConfig(
        hidden_size=16, num_filters=4, codebook_size=8, codebook_dim=8, num_quantizers=3, num_hidden_layers=1,
        intermediate_size=16, num_attention_heads=2, num_key_value_heads=2, head_dim=8, upsample_groups=16,
        vector_quantization_hidden_dimension=8, sliding_window=16,
    ),
}  # fmt: skip


def filled_codec(config):
    """A codec with random weights whose codebooks hold something."""
    torch.manual_seed(0)
    codec = build_acoustic_codec(config)
    fill_codebooks(codec.model)
    codec.model.eval()
    return codec


def fill_codebooks(model):
    """Give codebooks that are zeros until they are trained some content."""
    for name, buffer in model.named_buffers():
        if name.endswith(("embed", "embed_sum", "codebook")):
            buffer.normal_()


def whole_model(codec_name, encoder_name="wav2vec2-bert"):
    """An AudioLM with random weights of a codec and a speech encoder."""
    torch.manual_seed(0)
    sizes = {"num_coarse_codebooks": 1, "num_fine_codebooks": 2}
    config = tiny_config(
        codec_config=CODECS[codec_name].to_dict(),
        semantic_tokenizer_config={
            "encoder_config": ENCODERS[encoder_name].to_dict(), "layer": 2, "num_semantic_tokens": 20
        },
        **{
            f"{stage}_config": tiny_stage_config(window_length_s=1.0, **sizes)
            for stage in ("semantic", "coarse", "fine")
        },
    )  # fmt: skip
    model = randomise(AudioLMModel(config), scale=0.1)
    fill_codebooks(model.codec)
    return model
