# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The residual quantizer against loops, its moving averages, dead codes, dropout and initialization."""

import torch

from audiolm_hf.configuration_audiolm import SoundStreamConfig
from audiolm_hf.residual_quantizer_audiolm import EMACodebook, ResidualVectorQuantizer, kmeans, nearest_codes
from tests.reference import ema_codebook_update, nearest_code, residual_codes


def small_config(**changes):
    sizes = {"num_codebooks": 3, "codebook_size": 8, "codebook_dim": 4, "hidden_size": 4, "quantizer_dropout": 0.0}
    return SoundStreamConfig(**{**sizes, **changes})


def filled_quantizer(**changes):
    quantizer = ResidualVectorQuantizer(small_config(**changes))
    for level in quantizer.levels:
        level.codebook.normal_()
        level.initialized.fill_(True)
    return quantizer


def test_nearest_codes_match_the_loop():
    vectors, codebook = torch.randn(50, 4), torch.randn(8, 4)
    assert nearest_codes(vectors, codebook).tolist() == [nearest_code(vector, codebook) for vector in vectors]


def test_residual_codes_match_the_loop():
    quantizer = filled_quantizer().eval()
    latents = torch.randn(2, 7, 4)
    projected = quantizer.in_proj(latents).detach()
    expected = residual_codes(projected.flatten(0, 1), [level.codebook for level in quantizer.levels])
    assert quantizer.encode(latents, 3).transpose(1, 2).reshape(-1, 3).tolist() == expected


def test_decode_adds_up_the_chosen_codes():
    quantizer = filled_quantizer().eval()
    codes = torch.tensor([[[1, 2], [3, 4], [5, 6]]])
    books = [level.codebook for level in quantizer.levels]
    expected = quantizer.out_proj(
        torch.stack([books[0][1] + books[1][3] + books[2][5], books[0][2] + books[1][4] + books[2][6]])
    )
    assert torch.allclose(quantizer.decode(codes)[0][0], expected, atol=1e-6)


def test_every_level_leaves_less():
    quantizer = ResidualVectorQuantizer(small_config(codebook_size=32))
    latents = torch.randn(8, 50, 4)
    quantizer.initialize(latents)
    quantizer.eval()
    projected = quantizer.in_proj(latents).flatten(0, 1)
    residual, errors = projected, []
    for level in quantizer.levels:
        residual = residual - level.decode(nearest_codes(residual, level.codebook))
        errors.append(residual.pow(2).mean().item())
    assert errors[0] < projected.pow(2).mean().item()
    assert errors[0] > errors[1] > errors[2]


def test_moving_averages_match_the_loop():
    torch.manual_seed(1)
    level = EMACodebook(small_config(dead_code_threshold=0.0)).train()
    level.initialize(torch.randn(100, 4))
    before = level.codebook.clone(), level.counts.clone(), level.sums.clone()
    vectors = torch.randn(30, 4)
    codes = level(vectors, None)[1]
    expected = ema_codebook_update(*before, vectors, codes, decay=0.99)
    assert torch.allclose(level.codebook, expected, atol=1e-5)


def test_evaluation_moves_nothing():
    quantizer = filled_quantizer().eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(torch.randn(2, 5, 4), 3)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_dead_codes_are_replaced_by_vectors_of_the_batch():
    level = EMACodebook(small_config()).train()
    level.initialize(torch.randn(100, 4))
    level.codebook[0], level.sums[0], level.counts[0] = 1e3, 0.0, 0.0
    vectors = torch.randn(200, 4)
    level(vectors, None)
    assert level.codebook[0].abs().max() < 10
    assert (vectors - level.codebook[0]).norm(dim=1).min() < 1e-4


def test_all_levels_of_a_drifting_source_stay_in_use():
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(small_config(codebook_size=16, codebook_decay=0.9)).train()
    for step in range(200):
        codes = quantizer(torch.randn(4, 64, 4) + step / 50, 3).audio_codes
    used = [len(codes[:, level].unique()) for level in range(3)]
    assert min(used) >= 12


def test_quantizer_dropout_uses_fewer_levels_in_training_only():
    quantizer = filled_quantizer(quantizer_dropout=1.0)
    latents = torch.randn(64, 3, 4)
    full = quantizer.eval()(latents, 3).quantized
    torch.manual_seed(0)
    dropped = quantizer.train()(latents, 3).quantized
    rows_changed = (full - dropped).abs().amax((1, 2)) > 0.2
    assert 0.3 < rows_changed.float().mean() < 1.0
    # The training step has moved the codebooks a little, so what evaluation gives is compared with all their levels.
    all_levels, _ = quantizer.decode(quantizer.eval().encode(latents, 3))
    assert torch.allclose(quantizer(latents, 3).quantized, all_levels, atol=1e-5)


def test_gradients_pass_through_to_the_latents():
    quantizer = ResidualVectorQuantizer(small_config()).train()
    latents = torch.randn(2, 30, 4, requires_grad=True)
    quantizer(latents, 3).quantized.sum().backward()
    assert latents.grad.abs().sum() > 0


def test_zero_levels_pass_the_latents_unquantised():
    quantizer = filled_quantizer().train()
    latents = torch.randn(1, 3, 4)
    output = quantizer(latents, 0)
    assert torch.allclose(output.quantized, quantizer.out_proj(quantizer.in_proj(latents)))
    assert output.audio_codes.shape == (1, 0, 3)


def test_kmeans_finds_separate_clusters():
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    vectors = centers.repeat_interleave(50, 0) + 0.1 * torch.randn(150, 2)
    torch.manual_seed(3)
    centroids = kmeans(vectors, 3)
    distances = torch.cdist(vectors, centroids).min(1).values
    assert (
        distances.pow(2).mean() <= torch.cdist(vectors, vectors[torch.randperm(150)[:3]]).min(1).values.pow(2).mean()
    )


def test_kmeans_of_fewer_vectors_than_clusters():
    centroids = kmeans(torch.randn(3, 2), 8)
    assert centroids.shape == (8, 2) and centroids.isfinite().all()
