# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The initial codec of a training: random weights, or the weights of a trained codec, perhaps with other sizes."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.data.loading import require_model_type
from audiolm_hf.harmonic_decoder_audiolm import HarmonicDecoder
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.spectral_codec_audiolm import ISTFTDecoder

NOISE_START = -1.0  # logit of the initial share of noise, 27 %


def start_codec(initial_weights: str | Path | None, changes: dict[str, Any]) -> SoundStreamModel:
    """Return the codec, in float32, that a training starts from: random, or a trained one with `changes` of its sizes.

    Weights of the trained codec are used wherever name and shape agree. Levels with another `codebook_dim` are
    initialized later by k-means, and the decoder's weights for a new low band are 0. A harmonic decoder that replaces
    an iSTFT decoder starts with its magnitudes as the filter.
    """
    if initial_weights is None:
        return SoundStreamModel(SoundStreamConfig(**changes))
    require_model_type(initial_weights, SoundStreamConfig.model_type, "initial_weights")
    trained = SoundStreamModel.from_pretrained(initial_weights, dtype=torch.float32)
    if not changes:
        return trained
    model = SoundStreamModel(SoundStreamConfig(**trained.config.to_dict() | changes))
    given, own = trained.state_dict(), model.state_dict()
    kept = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    for name in own:
        if name.endswith(".codebook") and name not in kept:
            level = name.removesuffix("codebook")
            kept = {key: value for key, value in kept.items() if not key.startswith(level)}
    model.load_state_dict(kept, strict=False)
    projection = model.quantizer.low_band_proj
    if isinstance(projection, nn.Linear) and trained.quantizer.low_band_proj is None:
        nn.init.zeros_(projection.weight)
    if isinstance(model.decoder, HarmonicDecoder) and isinstance(trained.decoder, ISTFTDecoder):
        _start_filter(model.decoder, trained.decoder.out_proj)
    return model


@torch.no_grad()
def _start_filter(decoder: HarmonicDecoder, out_proj: nn.Linear) -> None:
    """Initialize the filter from a projection to magnitudes and phases, with little noise and no pitch."""
    weight, bias = out_proj.weight[: out_proj.out_features // 2], out_proj.bias[: out_proj.out_features // 2]
    if weight.shape == decoder.magnitude_proj.weight.shape:
        decoder.magnitude_proj.weight.copy_(weight)
        decoder.magnitude_proj.bias.copy_(bias)
    for projection in (decoder.noise_proj, decoder.phase_proj, decoder.pitch_proj):
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
    nn.init.constant_(decoder.noise_proj.bias, NOISE_START)
