# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The parallel stage is trained, validated, resumed, adapted and put into a checkpoint like the others."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from peft import PeftModel
from safetensors.torch import load_file

from audiolm_hf import AudioLMModel, AudioLMParallelModel
from audiolm_hf.data.crops import StageBatches, validation_batches
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.evaluation.protocols.likelihood import load_stages
from audiolm_hf.sampling_audiolm import TokenSampler
from audiolm_hf.stage_generation_audiolm import generate_parallel_codes
from audiolm_hf.token_layout_audiolm import build_stage_example, hide_codes, pad_examples
from audiolm_hf.training.assemble import AssembleConfig, assemble
from audiolm_hf.training.stages.bits import stage_bits
from audiolm_hf.training.stages.initial import start_embeddings_
from audiolm_hf.training.stages.lora import LoraStageConfig, adapt_stage
from audiolm_hf.training.stages.training import train_stage
from tests.helpers_parallel import parallel_audiolm, parallel_config, parallel_stage
from tests.helpers_stages import config_of, interrupted_after
from tests.helpers_tokens import code_rows, collected, write_tokens


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    return [write_tokens(folder / name, [60, 45, 12]) for name in ("train", "validation")]


def parallel_training(folders, output, **changes):
    return config_of(folders, output, **{"stage": "parallel", "condition_dropout": 0.2, "corruption": 0.1, **changes})


@pytest.fixture(scope="module")
def trained(folders, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    train_stage(parallel_training(folders, output))
    return output


def test_it_is_trained_and_validated_by_level(trained):
    report = json.loads((trained / "report.json").read_text())
    assert [*report["validation"]] == ["all", *(f"level_{level}" for level in range(5))]
    assert report["validation"]["all"]["bits"] < 3.1  # log2(8) = 3 at first
    model = AudioLMParallelModel.from_pretrained(trained / "final")
    assert (model.config.condition_dropout, model.config.frames_per_token) == (0.2, 2)
    assert model.config.backbone_config.model_type == "eurobert"


def test_it_resumes_with_the_same_masks(folders, trained, tmp_path):
    with interrupted_after(5):
        train_stage(parallel_training(folders, tmp_path))
    train_stage(parallel_training(folders, tmp_path))
    weights, expected = (load_file(path / "final/model.safetensors") for path in (tmp_path, trained))
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_masks_follow_from_the_seed_and_the_number_of_the_batch(folders):
    tokens, config = TokenDataset([str(folders[0])]), parallel_config()
    first, again, other = (StageBatches(tokens, config, 100, 10, seed=seed) for seed in (0, 0, 1))
    for number in (7, 2):
        assert all(torch.equal(first[number][name], value) for name, value in again[number].items())
    assert not torch.equal(first[3]["input_ids"], other[3]["input_ids"])
    batch = first[0]
    assert batch["input_ids"].shape[:2] == batch["attention_mask"].shape
    assert len(batch["input_ids"]) * batch["input_ids"].shape[1] <= 100  # batch_tokens are frames


def test_validation_masks_every_level_of_every_window_in_the_same_way(folders):
    tokens, config = TokenDataset([str(folders[1])]), parallel_config()
    batches, again = (validation_batches(tokens, config, 200) for _ in range(2))
    assert all(torch.equal(one["labels"], other["labels"]) for one, other in zip(batches, again, strict=True))
    for column in range(1, 6):
        rows = sum(int((batch["labels"][..., column] >= 0).any(1).sum()) for batch in batches)
        assert rows == 3 + 2 + 1  # windows of 1 s
    bits = stage_bits(parallel_stage(), batches)
    assert bits["all"]["tokens"] == sum(bits[f"level_{level}"]["tokens"] for level in range(5))


def test_a_pattern_is_learned_and_generated(tmp_path):
    """Codes that follow from the semantic token and the level below: nothing but the right ones is generated."""
    torch.manual_seed(0)
    model = AudioLMParallelModel(parallel_config(num_fine_codebooks=1, condition_dropout=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)

    def codes_of(tokens):
        frames = tokens.repeat_interleave(2)
        return torch.stack([frames % 8, (frames + 3) % 8, (frames % 8 + frames // 8) % 8])

    for _ in range(120):
        rows = [torch.from_numpy(rng.integers(20, size=10)) for _ in range(8)]
        examples = [build_stage_example(model.config, tokens, codes_of(tokens)) for tokens in rows]
        batch = pad_examples([hide_codes(example, model.config, rng) for example in examples], model.config)
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.detach()) < 0.1
    model.eval()
    expected = codes_of(torch.arange(30) % 20)
    known = [expected[:, :4]]
    sampler = TokenSampler(do_sample=True, temperature=0.5, top_k=0, top_p=1.0, num_passes=4)
    (codes,) = collected(generate_parallel_codes(model, code_rows([30], known, [60], [(0, 0)]), sampler), known)
    assert float((codes == expected).float().mean()) > 0.95


def test_the_number_of_levels_is_an_option(folders, tmp_path):
    train_stage(parallel_training(folders, tmp_path, num_fine_codebooks=0, max_steps=1, eval_steps=1))
    assert AudioLMParallelModel.from_pretrained(tmp_path / "final").config.predicted_levels == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_fine_codebooks": 4}, "num_fine_codebooks is 4; give an integer from 0 to 3"),
        ({"remove_repeats": True}, "remove_repeats is True, but the tokens need times"),
        ({"backbone": {"model_type": "llama"}}, "does not look in both directions"),
        ({"backbone": {"hidden_sizes": 3}}, "unknown key 'hidden_sizes'; did you mean 'hidden_size'"),
    ],
)
def test_a_training_that_makes_no_sense_is_one_clear_error(folders, tmp_path, changes, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        train_stage(parallel_training(folders, tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"warm_start": "folder"},
            "warm_start is .*folder.*, a decoder, and the parallel stage an encoder",
        ),
    ],
)
def test_what_only_causal_stages_have_is_refused(folders, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        parallel_training(folders, tmp_path, **changes)


def test_embeddings_start_as_codebook_vectors():
    model = AudioLMParallelModel(parallel_config())
    vectors = [torch.randn(8, 6) for _ in range(5)]
    start_embeddings_(model, levels=vectors, generator=torch.Generator().manual_seed(0))
    table = model.get_input_embeddings().weight[28:36].detach()
    assert model.lm_head.weight is model.get_input_embeddings().weight
    centred = vectors[1] - vectors[1].mean(0)
    distances = torch.pdist(table) / torch.pdist(centred)
    torch.testing.assert_close(distances, distances[0].expand_as(distances), rtol=1e-3, atol=0)


def test_an_adapter_of_the_backbone_is_trained_saved_and_loaded(folders, tmp_path):
    stage = parallel_stage()
    adapted = adapt_stage(stage, LoraStageConfig(rank=2), seed=0)
    trainable = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trainable and all("lora_" in name and ".layers." in name for name in trainable)
    train_stage(
        parallel_training(folders, tmp_path, backbone={}, initial_weights="base", max_steps=2, eval_steps=2), adapted
    )
    loaded = PeftModel.from_pretrained(parallel_stage(), tmp_path / "final").eval()
    batches = validation_batches(TokenDataset([str(folders[1])]), stage.config, 200)
    assert stage_bits(loaded, batches) == stage_bits(adapted, batches)


def test_a_checkpoint_is_assembled_without_a_coarse_stage(folders, tmp_path):
    whole = parallel_audiolm(coarse_config=None, fine_config=None)
    names = ("semantic_tokenizer", "codec", "semantic", "parallel")
    for name in names:
        whole.get_submodule(name).save_pretrained(tmp_path / name)
    stages = {name: str(tmp_path / name) for name in ("parallel", "semantic")}
    settings = {"semantic_tokenizer": str(tmp_path / "semantic_tokenizer"), "codec": str(tmp_path / "codec")}
    settings |= {"stages": stages, "output_folder": str(tmp_path / "whole"), "float16": False}
    assemble(AssembleConfig(**settings, generation={"parallel_num_passes": 3}))
    loaded = AudioLMModel.from_pretrained(tmp_path / "whole")
    assert loaded.generation_config.parallel_num_passes == 3
    options = {"continuation_length_s": 0.4, "seed": 0, "parallel_num_passes": 3}
    made = [model.generate(torch.ones(1, 8000) / 10, **options).audio_values for model in (whole, loaded)]
    assert torch.equal(*made)
    assert [*load_stages([tmp_path / "whole"])] == ["semantic"]  # the parallel stage has no likelihood
    with pytest.raises(ValueError, match="holds the parallel stage, which predicts all frames at once, so that a seq"):
        load_stages([tmp_path / "parallel"])
