# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The semantic tokenizer against transformers' feature extractor, loop oracles and itself, one recording at a time."""

import copy

import pytest
import soxr
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    ASTConfig,
    BertConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    WhisperConfig,
)
from transformers.models.wav2vec2_bert import modeling_wav2vec2_bert

from audiolm_hf.configuration_audiolm import AudioLMSemanticTokenizerConfig
from audiolm_hf.modeling_semantic_tokenizer_audiolm import (
    AudioLMSemanticTokenizer,
    log_mel_spectrogram,
    nearest_centroid,
    relative_key_bias,
    stacked_log_mel,
)
from tests import reference
from tests.helpers_rates import ENCODERS

# transformers' SEW-D before 5.23 compiles a part of itself as it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def tiny_tokenizer(name="wav2vec2-bert", layer=2, **changes):
    torch.manual_seed(0)
    config = AudioLMSemanticTokenizerConfig(
        encoder_config=ENCODERS[name].to_dict(), layer=layer, num_semantic_tokens=40, **changes
    )
    tokenizer = AudioLMSemanticTokenizer(config)
    # Centroids among the features, so that tokens depend on the sound.
    with torch.no_grad():
        features = tokenizer.extract_features(noise(4 * 16000, seed=9))[0][0]
        tokenizer.centroids.copy_(features[:40])
    return tokenizer


def noise(num_samples, seed=0, batch=1):
    """Noise whose colour and loudness change, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(batch, num_samples, generator=generator)
    time = torch.arange(num_samples) / 16000
    return (0.1 * white + 0.2 * torch.sin(2000 * time + 30 * torch.sin(9 * time))).clamp(-1, 1)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.mark.parametrize("num_samples", [880, 4720, 16000, 12345])
def test_features_are_those_of_the_seamless_feature_extractor(num_samples):
    waveform = noise(num_samples)
    expected = SeamlessM4TFeatureExtractor()(
        waveform[0].numpy(), sampling_rate=16000, pad_to_multiple_of=None, return_tensors="pt"
    )["input_features"]
    num_frames = -(-num_samples // 640) * 2
    features = stacked_log_mel(waveform, torch.tensor([num_samples]), 16000, num_frames)
    assert features.shape == (1, num_frames, 160)
    torch.testing.assert_close(features[:, : expected.shape[1]], expected, atol=2e-3, rtol=0)


def test_frames_after_the_last_window_repeat_it():
    features = stacked_log_mel(noise(6400), torch.tensor([6400]), 16000, 20)
    mel = features.reshape(40, 80)
    last = (6400 - 400) // 160
    assert (mel[last + 1 :] == mel[last]).all()
    assert not (mel[last] == mel[last - 1]).all()


def test_digital_silence_is_finite():
    assert log_mel_spectrogram(torch.zeros(1, 800), 16000).isfinite().all()
    assert stacked_log_mel(torch.zeros(1, 100), torch.tensor([100]), 16000, 2).abs().max() < 0.1


@settings(max_examples=40, deadline=None)
@given(num_samples=st.integers(1, 5000), pooling=st.sampled_from([1, 2, 3]))
def test_number_of_tokens_is_the_ceiling(num_samples, pooling):
    tokenizer = tiny_tokenizers()[pooling]
    tokens = tokenizer.tokenize(noise(num_samples)).semantic_tokens
    assert tokens.shape == (1, -(-num_samples // (320 * pooling)))
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < 40


_TOKENIZERS = {}


def tiny_tokenizers():
    """A tokenizer for each pooling, built once."""
    if not _TOKENIZERS:
        _TOKENIZERS.update({pooling: tiny_tokenizer(pooling=pooling) for pooling in (1, 2, 3)})
    return _TOKENIZERS


@pytest.mark.parametrize("num_samples", [1, 79, 320, 641, 6400])
@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "wav2vec2-bert"])
def test_number_of_tokens_of_waveform_encoders(name, num_samples):
    tokenizer = tiny_tokenizer(name)
    tokens = tokenizer.tokenize(noise(num_samples)).semantic_tokens
    assert tokens.shape == (1, -(-num_samples // tokenizer.config.hop_length))


@pytest.mark.parametrize("name", ENCODERS)
def test_padded_batch_equals_single_recordings(name):
    tokenizer = tiny_tokenizer(name)
    lengths = [9000, 300, 6401, 4000]
    rows = [noise(length, seed) for seed, length in enumerate(lengths)]
    padded = torch.full((4, 9000), 0.5)  # padding must not be heard, whatever it holds
    mask = torch.zeros(4, 9000, dtype=torch.long)
    for row, (waveform, length) in enumerate(zip(rows, lengths, strict=True)):
        padded[row, :length] = waveform[0]
        mask[row, :length] = 1
    batch = tokenizer.tokenize(padded, mask)
    features, _ = tokenizer.extract_features(padded, mask)
    for row, waveform in enumerate(rows):
        single = tokenizer.tokenize(waveform)
        count = single.semantic_tokens.shape[1]
        length = -(-9000 // tokenizer.config.hop_length)
        assert batch.attention_mask[row].tolist() == [1] * count + [0] * (length - count)
        assert batch.semantic_tokens[row, count:].eq(0).all()
        assert (batch.semantic_tokens[row, :count] == single.semantic_tokens[0]).all()
        expected = tokenizer.extract_features(waveform)[0][0]
        torch.testing.assert_close(features[row, :count], expected, atol=1e-4, rtol=1e-4)


def test_nearest_centroid_is_the_loop_oracle():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 6, generator=generator)
    centroids = torch.randn(9, 6, generator=generator)
    expected = [reference.nearest_centroid(row, centroids) for row in features]
    assert nearest_centroid(features, centroids).tolist() == expected
    assert nearest_centroid(features.view(5, 10, 6), centroids).shape == (5, 10)


def test_tokens_are_the_nearest_centroids_of_normalised_pooled_hidden_states(tokenizer):
    waveform = noise(6400)
    inputs = stacked_log_mel(waveform, torch.tensor([6400]), 16000, 20)
    with torch.no_grad():
        hidden_states = tokenizer.encoder(inputs, output_hidden_states=True).hidden_states[2][0]
        mean = torch.randn(32, generator=torch.Generator().manual_seed(1))
        tokenizer.feature_mean.copy_(mean)
        tokenizer.feature_std.fill_(0.5)
    normalized = (hidden_states - mean) / 0.5
    pooled = [(normalized[2 * i] + normalized[2 * i + 1]) / 2 for i in range(10)]
    expected = [reference.nearest_centroid(row, tokenizer.centroids) for row in pooled]
    assert tokenizer.tokenize(waveform).semantic_tokens[0].tolist() == expected
    with torch.no_grad():
        tokenizer.feature_mean.zero_()
        tokenizer.feature_std.fill_(1.0)


def test_tokens_depend_on_the_sound_but_not_on_its_level(tokenizer):
    tokens = tokenizer.tokenize(noise(32000)).semantic_tokens
    assert len(tokens.unique()) > 5
    assert (tokenizer.tokenize(noise(32000) * 0.25).semantic_tokens == tokens).float().mean() > 0.95


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_pruning_keeps_the_tokens(name, layer):
    tokenizer = tiny_tokenizer(name, layer)
    before = tokenizer.tokenize(noise(8000)).semantic_tokens
    parameters = tokenizer.num_parameters()
    tokenizer.prune_to_layer()
    assert (tokenizer.tokenize(noise(8000)).semantic_tokens == before).all()
    stack = tokenizer.encoder.encoder
    layers = stack.encoder.layer if name == "sew-d" else stack.layers
    assert tokenizer.config.encoder_config.num_hidden_layers == len(layers)
    if layer == 1:
        assert tokenizer.num_parameters() < parameters


def test_save_and_load_are_bit_equal(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = AudioLMSemanticTokenizer.from_pretrained(tmp_path)
    expected = tokenizer.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    assert torch.equal(loaded.tokenize(noise(20000)).semantic_tokens, tokenizer.tokenize(noise(20000)).semantic_tokens)


def test_from_encoder_keeps_its_weights_and_drops_the_layers_above():
    torch.manual_seed(3)
    encoder = Wav2Vec2BertModel(copy.deepcopy(ENCODERS["wav2vec2-bert"]))
    with torch.no_grad():
        inputs = stacked_log_mel(noise(6400), torch.tensor([6400]), 16000, 20)
        expected = encoder.eval()(inputs, output_hidden_states=True).hidden_states[1][0]
    tokenizer = AudioLMSemanticTokenizer.from_encoder(encoder, layer=1, num_semantic_tokens=7, pooling=1)
    assert len(tokenizer.encoder.encoder.layers) == 1
    assert tokenizer.centroids.shape == (7, 32)
    with torch.no_grad():
        torch.testing.assert_close(tokenizer.extract_features(noise(6400))[0][0], expected)


@pytest.mark.parametrize(("batch_size", "length"), [(1, 1), (2, 7), (1, 50)])
@pytest.mark.parametrize(("left", "right"), [(64, 8), (3, 0), (0, 0)])
def test_position_biases_are_those_of_transformers(batch_size, length, left, right):
    torch.manual_seed(0)
    config = Wav2Vec2BertConfig(
        hidden_size=32, num_attention_heads=2, left_max_position_embeddings=left, right_max_position_embeddings=right
    )
    attention = modeling_wav2vec2_bert.Wav2Vec2BertSelfAttention(config)
    query, key = torch.randn(2, batch_size, 2, length, 16)
    same, bias = relative_key_bias(attention, query, key)
    expected = modeling_wav2vec2_bert._apply_relative_key_position_encoding(attention, query, key)
    assert same is query
    assert bias.shape == (batch_size, 2, length, length)
    torch.testing.assert_close(bias, expected[1])


@pytest.mark.parametrize("wrapped", [False, True])
def test_no_tensor_of_the_encoder_holds_an_embedding_for_every_pair_of_frames(tokenizer, wrapped, monkeypatch):
    def refuse(*arguments):
        raise MemoryError("an embedding for every pair of frames")

    if wrapped:
        encoder = Wav2Vec2BertModel(copy.deepcopy(ENCODERS["wav2vec2-bert"]))
        tokenizer = AudioLMSemanticTokenizer.from_encoder(encoder, layer=2, num_semantic_tokens=40)
    tokens = tokenizer.tokenize(noise(16000)).semantic_tokens
    monkeypatch.setattr(modeling_wav2vec2_bert, "_apply_relative_key_position_encoding", refuse)
    assert torch.equal(copy.deepcopy(tokenizer).tokenize(noise(16000)).semantic_tokens, tokens)


def test_stays_in_evaluation_mode(tokenizer):
    first = tokenizer.train().tokenize(noise(16000)).semantic_tokens
    assert not any(module.training for module in tokenizer.modules())
    assert torch.equal(tokenizer.tokenize(noise(16000)).semantic_tokens, first)


def test_half_precision_changes_few_tokens(tokenizer):
    expected = tokenizer.tokenize(noise(64000)).semantic_tokens
    half = tiny_tokenizer().to(torch.bfloat16)
    assert (half.tokenize(noise(64000)).semantic_tokens == expected).float().mean() > 0.7


@pytest.mark.parametrize(
    ("input_values", "attention_mask", "message"),
    [
        (torch.zeros(640), None, r"shape \(640,\)"),
        (torch.zeros(1, 0), None, "none of them 0"),
        (torch.zeros(1, 640), torch.ones(1, 641), "give that of its input"),
        (torch.zeros(1, 4), torch.tensor([[0, 1, 1, 1]]), "on the right"),
        (torch.zeros(2, 4), torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]]), "row 1"),
    ],
)
def test_errors(tokenizer, input_values, attention_mask, message):
    with pytest.raises(ValueError, match=message):
        tokenizer.tokenize(input_values, attention_mask)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (WhisperConfig(), "'whisper'.*one frame per fixed step"),
        (ASTConfig(), "'audio-spectrogram-transformer'.*Use one of wav2vec2-bert"),
        (BertConfig(), "'bert'"),
        (Wav2Vec2BertConfig(feature_projection_input_dim=80), "input_dim is 80; .*give 160"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_other_encoders_are_refused_by_the_configuration(encoder, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        AudioLMSemanticTokenizerConfig(encoder_config=encoder.to_dict(), layer=1)


def test_rate_of_spectra_has_whole_windows():
    with pytest.raises(StrictDataclassClassValidationError, match="sampling_rate is 22050; .* multiple of 200 Hz"):
        AudioLMSemanticTokenizerConfig(sampling_rate=22050)


@pytest.mark.parametrize("name", ["wav2vec2-bert", "hubert", "sew"])
@pytest.mark.parametrize("rate", [24000, 44100, 8000])
def test_audio_at_another_rate_gives_the_tokens_of_resampled_audio(name, rate):
    tokenizer = tiny_tokenizer(name)
    array = soxr.resample(noise(40000)[0].numpy(), 16000, rate, quality="VHQ")
    expected = tokenizer.tokenize(torch.from_numpy(soxr.resample(array, rate, 16000, quality="VHQ"))[None])
    tokens = tokenizer.tokenize(torch.from_numpy(array)[None], sampling_rate=rate).semantic_tokens
    assert tokens.shape == (1, -(-len(array) * 16000 // (rate * tokenizer.config.hop_length)))
    length = expected.semantic_tokens.shape[1]
    assert (tokens[:, :length] == expected.semantic_tokens).float().mean() > 0.9


def test_padded_batch_at_another_rate_equals_single_recordings(tokenizer):
    rows, mask = noise(12000, batch=2), torch.ones(2, 12000)
    mask[1, 7001:] = 0
    features, real = tokenizer.extract_features(rows, mask, sampling_rate=24000)
    single, _ = tokenizer.extract_features(rows[1:, :7001], sampling_rate=24000)
    assert real.sum(1).tolist() == [13, 8]
    torch.testing.assert_close(features[1, :8], single[0], atol=1e-4, rtol=1e-4)


def test_encoder_of_another_rate():
    encoder = Wav2Vec2BertModel(copy.deepcopy(ENCODERS["wav2vec2-bert"]))
    tokenizer = AudioLMSemanticTokenizer.from_encoder(encoder, layer=1, num_semantic_tokens=7, sampling_rate=24000)
    assert (tokenizer.config.sampling_rate, tokenizer.config.hop_length) == (24000, 960)
    assert tokenizer.tokenize(noise(9600)).semantic_tokens.shape == (1, 10)


@pytest.mark.parametrize("change", ["fraction", "negative", "nan", "twos", "shape", "complex", "hole"])
def test_masks_that_are_none_are_refused(tokenizer, change):
    mask = torch.ones(2, 640)
    if change == "shape":
        mask = mask[:1]
    elif change == "complex":
        mask = mask.to(torch.complex64)
    elif change == "hole":
        mask[1, 3] = 0
    else:
        mask[1, -1] = {"fraction": 0.5, "negative": -1, "nan": torch.nan, "twos": 2}[change]
    with pytest.raises(TypeError if change == "complex" else ValueError, match="attention_mask"):
        tokenizer.tokenize(noise(640, batch=2), mask)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool, torch.int16])
def test_waveforms_are_real_floats(tokenizer, dtype):
    for method in (tokenizer, tokenizer.tokenize, tokenizer.extract_features):
        with pytest.raises(TypeError, match="give floats"):
            method(torch.ones(1, 640).to(dtype))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_waveforms_are_finite(tokenizer, value):
    waveforms = noise(640, batch=3)
    waveforms[2, 7] = value
    with pytest.raises(ValueError, match="row 2 that are NaN or infinite"):
        tokenizer.extract_features(waveforms)
