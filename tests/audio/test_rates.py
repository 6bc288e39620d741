# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Codecs and speech encoders of different sampling rates, end to end: tokens, training, generation, folders."""

import json
from itertools import product

import numpy as np
import pytest
import soundfile as sf
import torch

import audiolm_hf
from audiolm_hf import AudioLMFeatureExtractor, AudioLMModel, AudioLMProcessor, export_checkpoint
from audiolm_hf.configuration_audiolm import AudioLMSemanticTokenizerConfig
from audiolm_hf.data.clips import list_clips
from audiolm_hf.data.crops import StageBatches, validation_batches
from audiolm_hf.data.tokenization import tokenize_recordings
from audiolm_hf.data.tokenizers import TokenizerPair
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer
from audiolm_hf.training.stages.config import StageTrainingConfig
from audiolm_hf.training.stages.training import build_stage_config, build_stage_model
from tests.conftest import randomise, some_slow
from tests.helpers_checkpoint import CLIP, run_python
from tests.helpers_rates import CODECS, ENCODERS, filled_codec
from tests.helpers_stages import BACKBONE

# transformers' SEW-D before 5.23 compiles a part of itself as it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

WINDOWS = {"semantic": 1.0, "coarse": 0.6, "fine": 0.4}
LENGTH_S = 0.7
OPTIONS = {"continuation_length_s": LENGTH_S, "min_continuation_length_s": LENGTH_S, "seed": 0}
# Every codec with one encoder, and every encoder with one codec.
PAIRS = sorted({*product(CODECS, ["wav2vec2-bert"]), *zip(list(CODECS) * 3, ENCODERS, strict=False)})

WITHOUT_PACKAGE = """
import json, sys
sys.modules["audiolm_hf"] = None  # hides the package, also an installed one
from transformers import pipeline
result = {}
for folder in sys.argv[3:]:
    pipe = pipeline("audio-continuation", model=folder, device="cpu", trust_remote_code=True)
    result[folder] = pipe(sys.argv[1], **json.loads(sys.argv[2]))["audio"].tolist()
print(json.dumps(result))
"""


def tokenizer_of(name):
    """A tokenizer of 25 tokens a second with centroids among the features of noise."""
    torch.manual_seed(0)
    encoder = ENCODERS[name]
    config = AudioLMSemanticTokenizerConfig(
        encoder_config=encoder.to_dict(), layer=2, num_semantic_tokens=20, pooling=1 if "sew" in name else 2
    )
    tokenizer = AudioLMSemanticTokenizer(config)
    with torch.no_grad():
        tokenizer.centroids.copy_(tokenizer.extract_features(0.1 * torch.randn(1, 20 * 640))[0][0])
    return tokenizer


def tokens_of(pair, folder):
    """A token dataset of two recordings, of 2.3 and 0.9 s."""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    for seconds in (2.3, 0.9):
        sf.write(folder / "audio" / f"{seconds}.flac", rng.uniform(-0.5, 0.5, round(seconds * 22050)), 22050)
    return tokenize_recordings(list_clips(folder / "audio"), lambda: pair, folder / "tokens")


def trained_stage(stage, tokens, folder):
    """A stage of the tokens' vocabulary after one step of training, and the batch it learned from."""
    values = {
        "stage": stage,
        "output_folder": str(folder),
        "train_tokens": [str(tokens.folders[0])],
        "validation_tokens": [str(tokens.folders[0])],
        "backbone": BACKBONE,
        "window_length_s": WINDOWS[stage],
        "num_coarse_codebooks": 1,
        "align_condition": stage != "semantic",
        "max_steps": 1,
    }
    config = StageTrainingConfig(**values)
    model = build_stage_model(config, build_stage_config(config, tokens.info))
    batch = StageBatches(tokens, model.config, 400, 1)[0]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss = model(**batch).loss
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert loss.isfinite()
    assert any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    return model


def build(codec_name, encoder_name, folder):
    codec, tokenizer = filled_codec(CODECS[codec_name]), tokenizer_of(encoder_name)
    tokens = tokens_of(TokenizerPair(tokenizer, codec), folder)
    stages = {stage: trained_stage(stage, tokens, folder / stage) for stage in WINDOWS}
    for stage, model in stages.items():
        predicted = sum(
            int((batch["labels"] != -100).sum()) for batch in validation_batches(tokens, model.config, 900)
        )
        levels = {"semantic": 1, "coarse": 1, "fine": codec.num_codebooks - 1}[stage]
        rate = 25 if stage == "semantic" else codec.frame_rate
        assert predicted == pytest.approx(3.2 * rate * levels, abs=4 * levels)
    return randomise(AudioLMModel.from_parts(tokenizer, codec.model, **stages)), tokens


@pytest.mark.parametrize(
    ("codec_name", "encoder_name"), some_slow(PAIRS, *list(zip(CODECS, ENCODERS, strict=False))[:3])
)
def test_end_to_end(codec_name, encoder_name, tmp_path):
    model, tokens = build(codec_name, encoder_name, tmp_path)
    rate, hop = model.sampling_rate, model.acoustic_codec.hop_length
    assert (rate, tokens.info.semantic_sampling_rate) == (CODECS[codec_name].sampling_rate, 16000)
    for record in tokens:
        assert record.audio_codes.shape[1] == -(-round(record.duration * rate) // hop)
        assert len(record.semantic_tokens) == -(-round(record.duration * rate) * 25 // rate)

    clip = {"array": 0.3 * np.random.default_rng(0).standard_normal(3 * rate), "sampling_rate": rate}
    processor = AudioLMProcessor(AudioLMFeatureExtractor(sampling_rate=rate))
    output = model.generate(**processor(clip), **OPTIONS)
    assert output.audio_lengths.tolist() == [3 * rate + round(LENGTH_S * rate)]
    # The longest window, 1 s, and one unit of the grid more of the prompt; then the continuation.
    num_tokens, num_frames = output.semantic_tokens.shape[1], output.audio_codes.shape[2]
    assert 0.95 <= (num_tokens - round(LENGTH_S * 25)) / 25 <= 1.1
    assert (num_frames * hop / rate) == pytest.approx(num_tokens / 25, abs=0.09)
    assert output.audio_values.isfinite().all()

    audiolm_hf.pipeline(model=model, processor=processor).save_pretrained(tmp_path / "saved")
    again = audiolm_hf.pipeline(tmp_path / "saved")(clip, **OPTIONS)
    assert again["sampling_rate"] == rate
    np.testing.assert_array_equal(again["audio"], output.audio_values[0].numpy())


@pytest.mark.slow
def test_exported_with_code(tmp_path):
    expected = {}
    for codec_name, encoder_name in (("mimi", "wavlm"), ("dac", "wav2vec2-bert")):
        model, _ = build(codec_name, encoder_name, tmp_path / codec_name)
        processor = AudioLMProcessor(AudioLMFeatureExtractor(sampling_rate=model.sampling_rate))
        folder = export_checkpoint(model, processor, tmp_path / f"{codec_name}-exported")
        expected[str(folder)] = processor.batch_decode(model.generate(**processor(CLIP), **OPTIONS))[0]
    found = json.loads(run_python(WITHOUT_PACKAGE, CLIP, json.dumps(OPTIONS), *expected, home=tmp_path))
    for folder, audio in expected.items():
        np.testing.assert_array_equal(np.asarray(found[folder], dtype=np.float32), audio)
