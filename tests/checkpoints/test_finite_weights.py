# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""NaN and infinity in the weights of tokenizer or codec, in memory or on disk, are errors and not sound."""

import copy

import pytest
import torch
from accelerate import disk_offload

from audiolm_hf.acoustic_codec_audiolm import build_acoustic_codec, wrap_acoustic_codec
from tests.helpers_rates import CODECS

AUDIO = 0.1 * torch.sin(torch.arange(3200) * 0.05)[None]
WEIGHTS = {
    "semantic_tokenizer": ["encoder.feature_projection.projection.weight", "centroids", "feature_mean", "feature_std"],
    "codec": ["encoder.", "quantizer."],
}


def spoil(model, start, value):
    """Set one number of the first weight of floats whose name begins so."""
    name = next(
        name for name, tensor in model.state_dict().items() if name.startswith(start) and tensor.is_floating_point()
    )
    model.state_dict()[name].view(-1)[0] = value
    return model


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("part", "start"), [(part, start) for part in WEIGHTS for start in WEIGHTS[part]])
def test_tokens_of_spoilt_weights_do_not_leave(tiny_audiolm, part, start, value):
    model = copy.deepcopy(tiny_audiolm)
    spoil(model.get_submodule(part), start, value)
    with pytest.raises(ValueError, match=f"{part.replace('_', ' ')}.* NaN or infinite"):
        model.generate(AUDIO, continuation_length_s=0.1, seed=0)


def test_sound_of_a_spoilt_decoder_does_not_leave(tiny_audiolm):
    codec = wrap_acoustic_codec(spoil(copy.deepcopy(tiny_audiolm.codec), "decoder.", float("nan")))
    with pytest.raises(ValueError, match="What the codec decodes has values that are NaN"):
        codec.decode(codec.encode(AUDIO))


@pytest.mark.parametrize(
    ("part", "start"), [("semantic_tokenizer", "encoder.feature_projection"), ("codec", "encoder.")]
)
def test_weights_on_disk_are_no_exception(tiny_audiolm, tmp_path, part, start):
    model = copy.deepcopy(tiny_audiolm)
    disk_offload(spoil(model.get_submodule(part), start, float("nan")), tmp_path, execution_device="cpu")
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.generate(AUDIO, continuation_length_s=0.1, seed=0)


@pytest.mark.parametrize("start", ["encoder", "quantizer"])
@pytest.mark.parametrize("kind", sorted(CODECS))
def test_every_codec_is_checked(kind, start):
    codec = build_acoustic_codec(CODECS[kind])
    audio = 0.1 * torch.randn(1, 4 * codec.hop_length)
    assert codec.encode(audio).shape[2] == 4
    spoil(codec.model, start, float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        codec.encode(audio)
