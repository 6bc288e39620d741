"""The models of this package as transformers' common tests want them; see `test_transformers_common.py`, which runs it.

Runs inside a package that holds transformers' own test files, so it cannot be collected here.
"""

import unittest

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

from audiolm_hf.configuration_audiolm import AudioLMCoarseConfig, AudioLMFineConfig, AudioLMSemanticConfig
from audiolm_hf.modeling_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel

from .generation.test_utils import GenerationTesterMixin
from .test_modeling_common import ModelTesterMixin, ids_tensor, random_attention_mask

BACKBONE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}

# The common tests tell heads from base models, and whether labels are needed, by names in these tables.
for model_class in (AudioLMSemanticModel, AudioLMCoarseModel, AudioLMFineModel):
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_class.config_class.model_type] = model_class.__name__
del model_class


class StageTester:
    """Tiny configurations and inputs of one stage."""

    batch_size = 3
    seq_length = 7
    is_training = True
    hidden_size = BACKBONE["hidden_size"]
    num_hidden_layers = BACKBONE["num_hidden_layers"]
    num_attention_heads = BACKBONE["num_attention_heads"]
    encoder_seq_length = seq_length
    key_length = seq_length

    def __init__(self, config_class):
        self.config_class = config_class

    def get_config(self):
        return self.config_class(
            backbone_config=dict(BACKBONE),
            num_semantic_tokens=24,
            codebook_size=8,
            num_coarse_codebooks=2,
            num_fine_codebooks=3,
        )

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        input_ids = ids_tensor([self.batch_size, self.seq_length], config.layout_size - 4)
        attention_mask = random_attention_mask([self.batch_size, self.seq_length])
        return config, {"input_ids": input_ids, "attention_mask": attention_mask}


class StageTest(ModelTesterMixin, GenerationTesterMixin):
    test_resize_embeddings = True
    test_missing_keys = False

    def setUp(self):
        self.model_tester = StageTester(self.all_model_classes[0].config_class)


class SemanticModelTest(StageTest, unittest.TestCase):
    all_model_classes = (AudioLMSemanticModel,)


class CoarseModelTest(StageTest, unittest.TestCase):
    all_model_classes = (AudioLMCoarseModel,)


class FineModelTest(StageTest, unittest.TestCase):
    all_model_classes = (AudioLMFineModel,)
