# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Codec, semantic encoder and speaker invariance on two processes: both end with the weights of one process."""

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer
from tests.helpers_codec_training import (
    CODECS,
    replaced_codes,
    train_all,
    trained_codec,
    trained_encoder,
    trained_invariance,
)
from tests.helpers_processes import train_on_two
from tests.training.tokenizer.test_semantic_encoder import ENCODER

KINDS = [*CODECS, "encoder", "invariance"]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    generator = np.random.default_rng(0)
    for name in ("first", "second", "0", "1", "2", "3", "4"):
        sf.write(folder / f"{name}.wav", 0.1 * generator.standard_normal(32000), 16000)
    (folder / "speakers.csv").write_text("path,speaker\n0.wav,ann\n1.wav,bob\n2.wav,cleo\n")
    torch.manual_seed(0)
    # Dropout is the one thing that differs with the number of processes.
    encoder = Wav2Vec2BertModel(Wav2Vec2BertConfig(**ENCODER, conformer_conv_dropout=0.0))
    AudioLMSemanticTokenizer.from_encoder(encoder, 1, 6).save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def of_two(recordings, tmp_path_factory):
    """Folder with what each of two processes wrote after every training."""
    output = tmp_path_factory.mktemp("two")
    train_on_two(train_all, output, recordings, output)
    return output


def of_each(folder, kind):
    return [load_file(folder / f"{kind}-{rank}.safetensors") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_like_one(kind, of_two, recordings, tmp_path):
    first, second = of_each(of_two, kind)
    batches = [first.pop("batch"), second.pop("batch")]
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    if kind == "encoder":
        before, after, batch = trained_encoder(recordings, tmp_path)
    elif kind == "invariance":
        before, after, batch = trained_invariance(recordings, tmp_path)
    else:
        before, after, batch = trained_codec(kind, recordings, tmp_path)
    assert torch.equal(batch[0::2], batches[0])  # each of the two saw its own half
    assert torch.equal(batch[1::2], batches[1])
    for name, weight in after.items():
        if name.endswith("linear_k.bias"):  # softmax does not see it: nothing but rounding moves it
            continue
        moved = (weight.double() - before[name].double()).norm()
        apart = (weight.double() - first[name].double()).norm()
        assert apart <= 0.02 * moved + 1e-6, f"{name} moved by {moved} and is {apart} apart"


@pytest.mark.slow
def test_dead_codes_are_replaced_alike_where_a_process_has_nothing_to_learn_from(of_two):
    first, second = of_each(of_two, "codebook")
    assert torch.equal(first["codebook"], second["codebook"])
    assert torch.allclose(first["codebook"], replaced_codes(0, 1), atol=1e-5)
