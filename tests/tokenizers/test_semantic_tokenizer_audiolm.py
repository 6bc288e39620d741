# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The contract for semantic tokenizers, with one from outside the package."""

import pytest
import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoModel

from audiolm_hf import AudioLMConfig, AudioLMModel, register_semantic_tokenizer
from audiolm_hf.configuration_audiolm import SemanticTokenizerConfig
from audiolm_hf.data.audio import AudioRecord
from audiolm_hf.data.tokenizers import load_tokenizers, token_info, tokenize_recording
from audiolm_hf.semantic_tokenizer_audiolm import SEMANTIC_TOKENIZERS, SemanticTokenizerModel
from tests.conftest import randomise, tiny_config


@strict
class LoudnessConfig(SemanticTokenizerConfig):
    """The loudness of 40 ms, in steps."""

    model_type = "outside_loudness"

    @property
    def hop_length(self) -> int:
        return self.sampling_rate // 25


class LoudnessTokenizer(SemanticTokenizerModel):
    config_class = LoudnessConfig

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("bounds", torch.linspace(0, 0.3, config.num_semantic_tokens - 1))
        self.post_init()
        self.eval()

    def compute_tokens(self, input_values, lengths):
        hop_length = self.config.hop_length
        padded = torch.nn.functional.pad(input_values, (0, -input_values.shape[1] % hop_length))
        return torch.searchsorted(self.bounds, padded.unflatten(1, (-1, hop_length)).square().mean(2).sqrt())


@pytest.fixture
def loudness_tokenizer():
    register_semantic_tokenizer(LoudnessTokenizer)
    yield
    del SEMANTIC_TOKENIZERS["outside_loudness"], AudioLMConfig._semantic_tokenizers["outside_loudness"]


CONFIG = {"model_type": "outside_loudness", "num_semantic_tokens": 20, "sampling_rate": 8000}
SOUND = torch.sin(torch.arange(12000) / 9)[None] * torch.linspace(0, 0.4, 12000)


@pytest.mark.usefixtures("loudness_tokenizer")
def test_a_tokenizer_from_outside_runs_from_recordings_to_continuations(tmp_path):
    model = randomise(AudioLMModel(tiny_config(semantic_tokenizer_config=CONFIG)))
    model.semantic_tokenizer.bounds.data = torch.linspace(0, 0.3, 19)
    model.save_pretrained(tmp_path / "whole")
    loaded = AudioLMModel.from_pretrained(tmp_path / "whole")
    assert type(loaded.semantic_tokenizer) is LoudnessTokenizer
    options = {"seed": 1, "continuation_length_s": 0.4, "min_continuation_length_s": 0.4}
    made = [each.generate(SOUND, **options) for each in (model, loaded)]
    assert torch.equal(made[0].audio_values, made[1].audio_values)
    assert made[0].semantic_tokens.shape == (1, 18 + 10)  # 0.72 and 0.4 s
    assert loaded(SOUND).loss.isfinite()

    model.semantic_tokenizer.save_pretrained(tmp_path / "tokenizer")
    alone = AutoModel.from_pretrained(tmp_path / "tokenizer")
    assert type(alone) is LoudnessTokenizer and not alone.train().training
    pair = load_tokenizers(tmp_path / "tokenizer", tmp_path / "whole")
    assert (token_info(pair).semantic_sampling_rate, token_info(pair).semantic_hop_length) == (8000, 320)
    recording = AudioRecord("one", SOUND[0].numpy(), 16000)
    (record,) = tokenize_recording(recording, pair)
    tokens = alone.tokenize(SOUND, sampling_rate=16000).semantic_tokens[0]
    assert record.semantic_tokens.tolist() == tokens.tolist()
    assert tokens[:-1].equal(tokens[:-1].sort().values)  # it grows louder; the last token's time is not full
    assert len(set(tokens.tolist())) > 10
    parts = {name: model.get_submodule(name) for name in ("codec", "semantic", "coarse", "fine")}
    assert AudioLMModel.from_parts(alone, **parts).config.semantic_tokenizer_config.model_type == "outside_loudness"


def test_padding_gets_no_tokens_and_changes_none():
    tokenizer = LoudnessTokenizer(LoudnessConfig(num_semantic_tokens=20))
    mask = torch.ones(2, 12000, dtype=torch.int64)
    mask[1, 5000:] = 0
    both = tokenizer(SOUND.expand(2, -1), mask)
    assert both.attention_mask.sum(1).tolist() == [19, 8]
    assert both.semantic_tokens[1, 8:].eq(0).all()
    assert both.semantic_tokens[1, :8].equal(tokenizer.tokenize(SOUND[:, :5000]).semantic_tokens[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda tokens: tokens[:, 1:], r"compute_tokens returned tokens of shape \(1, 18\); for a hop_length of 640"),
        (lambda tokens: tokens + 20, "compute_tokens returned has .*give 0 to 19"),
    ],
)
def test_a_tokenizer_that_breaks_the_contract_is_an_error(wrong, message):
    class Broken(LoudnessTokenizer):
        def compute_tokens(self, input_values, lengths):
            return wrong(super().compute_tokens(input_values, lengths))

    with pytest.raises(ValueError, match=message):
        Broken(LoudnessConfig(num_semantic_tokens=20)).tokenize(SOUND)


def test_a_tokenizer_that_is_not_registered_is_refused():
    with pytest.raises(ValueError, match="'outside_loudness'; use one of audiolm_semantic_tokenizer, .*or register"):
        tiny_config(semantic_tokenizer_config=CONFIG)
