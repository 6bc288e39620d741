# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Decoders of transformers as backbones: each works in a stage, or is refused with the reason."""

import re
from contextlib import nullcontext

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

from audiolm_hf.configuration_audiolm import AudioLMCoarseConfig, AudioLMFineConfig, AudioLMSemanticConfig
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.sampling_audiolm import TokenSampler, sample_tokens
from tests.conftest import TINY_LAYOUT, randomise
from tests.reference import greedy_tokens

GREEDY = TokenSampler(do_sample=False, temperature=1.0, top_k=0, top_p=1.0)
NUM_TOKENS = 5

# Every name that some family has for a size; a family gets those that it knows.
SMALL = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size", "lru_width"), 32),
    **dict.fromkeys(("input_embedding_size", "rnn_hidden_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner", "d_inner"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 128),
    **dict.fromkeys(("dropout", "attention_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "q_lora_rank"), 16),
    **dict.fromkeys(("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace", "n_shared_experts", "mamba_n_groups"), 1),
    **dict.fromkeys(("mamba_n_heads", "mamba_d_head", "mamba_d_state", "state_size"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
    "num_experts_per_tok": 2,
    "sliding_window": 64,
    "rotary_dim": 4,
    "is_decoder": True,
}
MIXED = {"layer_types": ["linear_attention", "full_attention"]}
# What a family needs beyond the sizes.
CHANGES = {
    "bamba": {"attn_layer_indices": [1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8},
    "falcon_h1": {"mamba_d_ssm": 64},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "ministral": {"head_dim": 8},
    "qwen3_next": MIXED,
    "qwen3_5_text": MIXED,
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "zaya": {"num_experts_per_tok": 1},
}
OTHERS = {"imagegpt", "mistral4", "molmo2_text", "qwen3_vl_text"} & set(MODEL_MAPPING_NAMES)  # of no causal head
COMMON = ["bert", "bloom", "gemma2", "gpt2", "gpt_neox", "gptj", "llama", "mistral", "mixtral", "opt", "phi", "qwen2"]
COMMON += ["lfm2", "qwen3_next", "roberta", "xglm", "xlm-roberta-xl", "falcon"]
NO_POSITIONS = {"bloom", "mpt"}  # they count distances
# Their modeling files of some release in range fail by themselves at these sizes, or are built by no AutoModel.
TOO_SPECIAL = {
    "blt", "cohere_compass_text", "dbrx", "dots3_note_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text",
    "gemma4_assistant", "gemma4_unified_assistant", "longcat_flash", "mimo_v2_flash", "prophetnet", "trocr",
    "xlnet", "xlstm", "zamba", "zamba2",
}  # fmt: skip
REFUSED = {
    "albert": "does not run on a transformers Cache",
    "bart": "has an encoder",
    "bert": "set is_decoder=True",
    "bert-generation": "set is_decoder=True",
    "clip": "composed of several models",
    "electra": "set is_decoder=True",
    "falcon_mamba": "(does not run on a transformers Cache|has recurrent layers only)",
    "gemma3": "composed of several models",
    "mamba": "(does not run on a transformers Cache|has recurrent layers only)",
    "mamba2": "(does not run on a transformers Cache|has recurrent layers only)",
    "prophetnet": "has an encoder",
    "openai-gpt": "does not run on a transformers Cache",
    "recurrent_gemma": "does not run on a transformers Cache",
    "roberta": "set is_decoder=True",
    "roformer": "does not run on a transformers Cache",
    "rwkv": "does not run on a transformers Cache",
    "t5": "has an encoder",
    "vit": "does not run on a transformers Cache",
    "whisper": "has an encoder",
    "wav2vec2": "does not run on a transformers Cache",
    "xlstm": "does not run on a transformers Cache",
}
STAGES = {
    "semantic": (AudioLMSemanticConfig, AudioLMSemanticModel),
    "coarse": (AudioLMCoarseConfig, AudioLMCoarseModel),
    "fine": (AudioLMFineConfig, AudioLMFineModel),
}


def small_backbone(family):
    """Sizes of a family, as a dictionary."""
    known = AutoConfig.for_model(family)
    sizes = {name: value for name, value in SMALL.items() if name in dir(known) or name in known.attribute_map}
    if family == "falcon":
        sizes.pop("num_key_value_heads", None)
    return {"model_type": family, **sizes, **CHANGES.get(family, {})}


def build(family, stage, **changes):
    config_class, model_class = STAGES[stage]
    config = config_class(backbone_config=small_backbone(family), **TINY_LAYOUT, **changes)
    with torch.device("meta"):  # before memory is taken
        size = sum(parameter.numel() for parameter in model_class(config).parameters())
    assert size < 2e7, f"{family} has sizes of other names"
    torch.manual_seed(0)
    return randomise(model_class(config))


def context_of(config, length):
    codes = [token % 8 + level * 8 for token in range(length) for level in range(2)]
    ids = {"semantic": [*range(length)], "coarse": [*range(length)], "fine": codes}[config.stage]
    end = [] if config.stage == "semantic" else [config.separator_token_id]
    return torch.tensor([config.begin_token_id, *ids, *end])


def sample(model, contexts):
    return sample_tokens(model, contexts, torch.zeros(len(contexts), NUM_TOKENS), GREEDY)


def check_backbone_works(family, stage, **changes):
    """Cached is uncached, batched is single, nothing sees what follows, and every weight of the layers is trained."""
    model = build(family, stage, **changes)
    contexts = [context_of(model.config, length) for length in (3, 6, 4)]
    with torch.no_grad():
        ids = torch.cat([contexts[1], contexts[1][1:2]])[None]
        before, after = model(ids).logits[0, :-1], model(ids[:, :-1]).logits[0]
        torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-3)
        slow = [greedy_tokens(model, context.tolist(), NUM_TOKENS) for context in contexts]
    batched = sample(model, contexts)
    for row, context in enumerate(contexts):
        assert batched[row, : len(slow[row])].tolist() == slow[row]
        assert torch.equal(sample(model, [context])[0], batched[row])
    labels = torch.full_like(ids, -100)
    labels[0, -1] = slow[1][0]
    model.train()(ids, labels=labels).loss.backward()
    assert sum(float(p.grad.abs().sum()) for p in model.model.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("family", COMMON)
def test_a_decoder_works_as_the_coarse_stage(family):
    check_backbone_works(family, "coarse", condition_stride=None if family in NO_POSITIONS else 2.5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("family", sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *OTHERS}))
def test_every_decoder_of_transformers_works_or_is_refused(family, stage):
    if family in TOO_SPECIAL:
        pytest.skip("is built by no AutoModel, or not at the small sizes of this test")
    try:
        STAGES[stage][0](backbone_config=small_backbone(family), **TINY_LAYOUT)
    except (StrictDataclassError, ValueError) as error:
        reason = str(error)
    else:
        reason = ""
        check_backbone_works(family, stage)
    assert not reason or "backbone_config" in reason, reason


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_a_stage_is_refused_with_the_reason(family):
    with pytest.raises(StrictDataclassError, match=f"model_type '{family}', which .*{REFUSED[family]}"):
        AudioLMCoarseConfig(backbone_config={"model_type": family}, **TINY_LAYOUT)


def test_a_head_as_wide_as_the_embeddings_needs_states_of_that_width():
    backbone = {"model_type": "electra", "is_decoder": True}
    with pytest.raises(StrictDataclassError, match="embedding_size = 128 and hidden_size = 256; make them equal"):
        AudioLMCoarseConfig(backbone_config=backbone, **TINY_LAYOUT)


NO_POSITIONS_WITH = {
    "cohere2": {"layer_types": ["full_attention"] * 2},
    "exaone4": {"layer_types": ["full_attention"] * 2},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"], "position_embedding_type": None},
    "jamba": {},
    "nemotron_h": {},
    "smollm3": {"no_rope_layers": [0, 0]},
    **{family: {} for family in sorted(NO_POSITIONS)},
}
POSITIONS_WITH = {
    "cohere2": {"layer_types": ["sliding_attention", "full_attention"]},
    "exaone4": {"layer_types": ["full_attention"] * 2, "sliding_window": None},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"], "position_embedding_type": "rope"},
    "smollm3": {"no_rope_layers": [1, 0]},
}


def moves_with_positions(config):
    """Whether places beside each other, in place of counted ones, change what a stage computes."""
    torch.manual_seed(0)
    model = AudioLMCoarseModel(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)
    ids = torch.tensor([[2, 5, 1, 7, 22, 30, 24, 33, 23, 31]])
    with torch.no_grad():
        counted, beside = (
            model.model(input_ids=ids, attention_mask=torch.ones_like(ids), **places)[0]
            for places in ({}, {"position_ids": torch.tensor([[0, 3, 6, 8, 1, 2, 3, 4, 5, 6]])})
        )
    return not torch.equal(counted, beside)


@pytest.mark.parametrize(("family", "changes"), NO_POSITIONS_WITH.items())
def test_a_stride_needs_a_backbone_with_positions(family, changes):
    backbone = small_backbone(family) | changes
    with pytest.raises(StrictDataclassError, match="does not use position_ids.*leave condition_stride out"):
        AudioLMCoarseConfig(backbone_config=backbone, condition_stride=4, **TINY_LAYOUT)
    config = AudioLMCoarseConfig(backbone_config=backbone, **TINY_LAYOUT)
    assert family in NO_POSITIONS or not moves_with_positions(config)


@pytest.mark.parametrize(("family", "changes"), POSITIONS_WITH.items())
def test_a_stride_is_accepted_where_positions_matter(family, changes):
    backbone = small_backbone(family) | changes
    assert moves_with_positions(AudioLMCoarseConfig(backbone_config=backbone, condition_stride=4, **TINY_LAYOUT))


@pytest.mark.slow
@pytest.mark.parametrize("layers", [None, "full_attention", "sliding_attention"])
@pytest.mark.parametrize("family", sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *OTHERS} - TOO_SPECIAL))
def test_a_stride_is_accepted_where_it_has_an_effect(family, layers):
    backbone = small_backbone(family)
    if layers is not None:
        if "layer_types" not in vars(AutoConfig.for_model(family)):
            pytest.skip("has no kinds of layers")
        backbone["layer_types"] = [layers] * 2
    try:
        config = AudioLMCoarseConfig(backbone_config=backbone, **TINY_LAYOUT)
        moves = moves_with_positions(config)
    except Exception as error:  # whatever a family says to layers that it does not have
        pytest.skip(f"is no backbone: {error}")
    with nullcontext() if moves else pytest.raises(StrictDataclassError, match="does not use position_ids"):
        AudioLMCoarseConfig(backbone_config=backbone, condition_stride=4, **TINY_LAYOUT)


@pytest.mark.parametrize(
    ("family", "plan"), [("gpt2", set()), ("opt", set()), ("llama", {"lm_head", "model.layers.*"})]
)
def test_the_plan_of_several_processes_is_that_of_the_backbone(family, plan):
    model = build(family, "coarse")
    assert {name.rsplit(".", 2)[0] if "layers" in name else name for name in model.tp_plan} >= plan
    assert bool(model.tp_plan) == bool(plan) == bool(model.pp_plan)
    assert model.supports_tp_plan == bool(plan)


@pytest.mark.parametrize("model_type", [["llama"], {}, None, 3])
def test_a_model_type_that_is_no_name_is_one_error(model_type):
    with pytest.raises(ValueError, match=f"transformers has no model_type {re.escape(repr(model_type))}"):
        AudioLMSemanticConfig(backbone_config={"model_type": model_type})
