# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from audiolm_hf.configuration_audiolm import AudioLMCoarseConfig, AudioLMFineConfig, AudioLMSemanticConfig
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.training.stages.initial import code_vectors, start_embeddings_
from tests.conftest import tiny_stage_config


def started(model, **vectors):
    before = model.get_input_embeddings().weight.detach().clone()
    start_embeddings_(model, generator=torch.Generator().manual_seed(0), **vectors)
    return before, model.get_input_embeddings().weight.detach()


def test_code_vectors_add_up_to_the_latent(tiny_audiolm):
    codec = tiny_audiolm.codec
    vectors = code_vectors(codec)
    codes = torch.randint(codec.config.codebook_size, (1, codec.config.num_codebooks, 4))
    with torch.no_grad():
        total = sum(vectors[level][codes[0, level]] for level in range(codec.config.num_codebooks))
        assert torch.allclose(codec.quantizer.out_proj(total), codec.quantizer.decode(codes)[0], atol=1e-5)


def test_only_a_soundstream_has_code_vectors(tiny_audiolm):
    with pytest.raises(ValueError, match="codec is a 'audiolm_coarse', not a SoundStream"):
        code_vectors(tiny_audiolm.coarse)


def test_distances_of_every_level_are_kept_and_sizes_too():
    model = AudioLMFineModel(AudioLMFineConfig(**tiny_stage_config()))
    levels = [torch.randn(8, 6) for _ in range(5)]
    before, after = started(model, levels=levels)
    for level, vectors in enumerate(levels):
        rows = after[level * 8 : level * 8 + 8]
        ratio = torch.cdist(rows, rows) / torch.cdist(vectors, vectors)
        assert torch.allclose(ratio[~ratio.isnan()], ratio[0, 1], rtol=1e-3)
        assert rows.norm(dim=1).mean() == pytest.approx(
            float(before[level * 8 : level * 8 + 8].norm(dim=1).mean()), rel=0.3
        )
    assert after[40:].equal(before[40:])  # the special tokens
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_levels_have_directions_of_their_own():
    model = AudioLMFineModel(AudioLMFineConfig(**tiny_stage_config()))
    _, after = started(model, levels=[torch.randn(8, 6) for _ in range(5)])
    means = torch.stack([after[level * 8 : level * 8 + 8].mean(dim=0) for level in range(5)])
    cosines = torch.nn.functional.cosine_similarity(means[:, None], means[None], dim=2)
    assert cosines[~torch.eye(5, dtype=torch.bool)].abs().max() < 0.7


def test_centroids_reach_the_stages_that_have_semantic_tokens():
    centroids = torch.randn(20, 50)  # wider than the stage
    for model_class, config_class in (
        (AudioLMSemanticModel, AudioLMSemanticConfig),
        (AudioLMCoarseModel, AudioLMCoarseConfig),
    ):
        model = model_class(config_class(**tiny_stage_config()))
        before, after = started(model, centroids=centroids)
        assert not after[:20].isclose(before[:20]).any()
        assert after[20:].equal(before[20:])
    fine = AudioLMFineModel(AudioLMFineConfig(**tiny_stage_config()))
    before, after = started(fine, centroids=centroids)
    assert before.equal(after)
