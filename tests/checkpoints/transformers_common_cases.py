"""The parts of this package as transformers' common tests want them; `test_transformers_common.py` runs this file.

It runs inside a package that holds transformers' own test files, so it cannot be collected here.
"""

import tempfile
import unittest
import unittest.mock

import numpy as np
import pytest
import torch
from parameterized import parameterized
from safetensors.torch import save_file
from transformers import DynamicCache
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

import audiolm_hf  # noqa: F401 # the Auto classes know the feature extractor and the processor by it
from audiolm_hf.configuration_audiolm import (
    AudioLMConfig,
    AudioLMSemanticTokenizerConfig,
    SoundStreamConfig,
)
from audiolm_hf.configuration_stage_audiolm import NUM_SPECIAL_TOKENS
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_detector_audiolm import AudioLMDetectorConfig, AudioLMDetectorForAudioClassification
from audiolm_hf.modeling_parallel_audiolm import AudioLMParallelModel
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.processing_audiolm import AudioLMProcessor
from audiolm_hf.token_layout_audiolm import build_stage_example

from . import test_tensor_parallel_mixin
from .generation.test_utils import GenerationTesterMixin
from .test_modeling_common import (
    TEST_EAGER_MATCHES_SDPA_INFERENCE_PARAMETERIZATION,
    ModelTesterMixin,
    _test_eager_matches_sdpa_inference,
    floats_tensor,
    ids_tensor,
)
from .test_processing_common import ProcessorTesterMixin
from .test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin
from .test_tensor_parallel_mixin import TensorParallelTesterMixin, _test_tp_backward_impl
from .test_training_mixin import TrainingTesterMixin

# The common tests tell heads from base models, and whether labels are needed, by names in these tables.
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES |= {
    model_class.config_class.model_type: model_class.__name__
    for model_class in (AudioLMSemanticModel, AudioLMCoarseModel, AudioLMFineModel)
}
MODEL_MAPPING_NAMES |= {
    model_class.config_class.model_type: model_class.__name__
    for model_class in (SoundStreamModel, AudioLMSemanticTokenizer)
}
MODEL_FOR_MASKED_LM_MAPPING_NAMES["audiolm_parallel"] = "AudioLMParallelModel"

BACKBONE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


SOUNDSTREAM = {
    "strides": [4, 5, 8],
    "num_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 8,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "window_length": 320,
}
SEMANTIC_TOKENIZER = {
    "encoder_config": {
        "model_type": "wav2vec2-bert",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "conv_depthwise_kernel_size": 5,
    },
    "layer": 1,
    "num_semantic_tokens": 16,
}


class StageTester:
    """Tiny configuration and inputs of one stage."""

    batch_size = 3
    seq_length = encoder_seq_length = key_length = 7
    is_training = True
    hidden_size = BACKBONE["hidden_size"]
    num_hidden_layers = BACKBONE["num_hidden_layers"]
    num_attention_heads = BACKBONE["num_attention_heads"]
    backbone = BACKBONE

    def __init__(self, model_class):
        self.causal_lm_class = model_class
        self.config_class = model_class.config_class

    def get_config(self):
        return self.config_class(
            backbone_config=dict(self.backbone),
            num_semantic_tokens=24,
            codebook_size=8,
            num_coarse_codebooks=2,
            num_fine_codebooks=3,
        )

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        input_ids = ids_tensor([self.batch_size, self.seq_length], config.bos_token_id)
        if config.stage != "semantic":
            input_ids[:, -1] = config.separator_token_id  # as a prompt ends: what follows is the first level
        # Padded on the right, each row by another number: packing and padding are compared where there is padding.
        return config, {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids).tril(diagonal=3)}


class WholeCheckpoints:
    """In place of the test that loads a file without any of the weights, which here is an error."""

    def test_model_weights_reload_no_missing_tied_weights(self):
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        model = self.all_model_classes[0](config)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            save_file({"tensor": torch.tensor([1, 2])}, f"{folder}/model.safetensors", metadata={"format": "pt"})
            with pytest.raises(ValueError, match=f"lacks {len(model.state_dict())} weights"):
                type(model).from_pretrained(folder)


def tp_backward_of_predicted_labels(*arguments):
    """The common test draws labels among all ids; special tokens come last, and are refused as labels."""
    draw = torch.randint
    with unittest.mock.patch.object(
        torch, "randint", lambda low, high, size: draw(low, high - NUM_SPECIAL_TOKENS, size)
    ):
        _test_tp_backward_impl(*arguments)


class StageTest(
    WholeCheckpoints, ModelTesterMixin, GenerationTesterMixin, TrainingTesterMixin, TensorParallelTesterMixin
):
    model_tester = None  # abstract in the mixins

    def setUp(self):
        self.model_tester = StageTester(self.all_model_classes[0])
        # Transformers runs these for its own families alone, unless told otherwise.
        patcher = unittest.mock.patch.object(test_tensor_parallel_mixin, "TP_DISTRIBUTED_TEST_MODEL_TYPES", None)
        patcher.start()
        self.addCleanup(patcher.stop)

    def test_tp_backward(self):
        name = "_test_tp_backward_impl"
        with unittest.mock.patch.object(test_tensor_parallel_mixin, name, tp_backward_of_predicted_labels):
            super().test_tp_backward()

    def _create_text_training_batch(self, batch_size, seq_length, vocab_size):
        """What the stage predicts and the id before it, in place of ids that it never predicts."""
        config = self.model_tester.get_config()
        places = torch.arange(seq_length)
        codes = (places + torch.arange(config.num_codebooks)[:, None]) % config.codebook_size
        example = build_stage_example(config, 1 + places % (config.num_semantic_tokens - 1), codes)
        start = int((example["labels"] >= 0).nonzero()[0]) - 1
        rows = {name: tensor[start : start + seq_length] for name, tensor in example.items()}
        return {name: tensor.expand(batch_size, -1).clone() for name, tensor in rows.items()}

    def test_bc_cache_name_forward(self):
        """Both names are right, without a warning: of the releases in range, some know one, some the other."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model = self.all_model_classes[0](config).eval()
        caches = {name: DynamicCache(config=config.get_text_config()) for name in ("past_key_values", "cache")}
        first, second = (model(**inputs, **{name: cache}).logits for name, cache in caches.items())
        assert torch.equal(first, second)
        assert {cache.get_seq_length() for cache in caches.values()} == {inputs["input_ids"].shape[1]}

    def _logits_scored_by_loss(self, model, logits):
        return logits[..., : model.config.bos_token_id]  # special tokens come last, and are refused as labels


class SemanticModelTest(StageTest, unittest.TestCase):
    all_model_classes = (AudioLMSemanticModel,)


class AcousticStageTest(StageTest):
    @unittest.skip(reason="goes on from embeddings alone, which do not tell the level of the token before")
    def test_generate_continue_from_inputs_embeds(self):
        pass


class CoarseModelTest(AcousticStageTest, unittest.TestCase):
    all_model_classes = (AudioLMCoarseModel,)


class FineModelTest(AcousticStageTest, unittest.TestCase):
    all_model_classes = (AudioLMFineModel,)


class ParallelTester(StageTester):
    """Tiny configuration and inputs of the parallel stage: a semantic token and codes, or masks, of every frame."""

    backbone = BACKBONE | {"model_type": "eurobert"}

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        input_ids = ids_tensor([self.batch_size, self.seq_length, 1 + config.num_codebooks], config.vocab_size)
        return config, {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids[..., 0]).tril(diagonal=3)}


class ParallelModelTest(WholeCheckpoints, ModelTesterMixin, unittest.TestCase):
    all_model_classes = (AudioLMParallelModel,)

    def setUp(self):
        self.model_tester = ParallelTester(AudioLMParallelModel)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Labels are codes of the first level, in place of zeros."""
        inputs = super()._prepare_for_class(inputs_dict, model_class)
        if return_labels:
            labels = torch.full_like(inputs["input_ids"], -100)
            labels[..., 1] = self.model_tester.get_config().acoustic_offset
            inputs["labels"] = labels
        return inputs

    @unittest.skip(reason="a frame has one embedding, the sum of those of its ids")
    def test_inputs_embeds(self):
        pass

    def test_inputs_embeds_matches_input_ids(self):
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model = AudioLMParallelModel(config).eval()
        embeds = model.embed(inputs["input_ids"])
        found = model(inputs_embeds=embeds, attention_mask=inputs["attention_mask"]).logits
        torch.testing.assert_close(found, model(**inputs).logits)


class WaveformTester:
    """Tiny configuration and inputs of a model that takes waveforms."""

    batch_size = 2
    num_samples = 1600
    is_training = False

    def __init__(self, config):
        self.config = config

    def get_config(self):
        return self.config

    def prepare_config_and_inputs_for_common(self):
        input_values = floats_tensor([self.batch_size, self.num_samples], scale=0.5)
        return self.get_config(), {"input_values": input_values, "attention_mask": torch.ones_like(input_values)}


class WaveformTest(WholeCheckpoints, ModelTesterMixin):
    test_resize_embeddings = False
    test_torch_exportable = False
    has_attentions = False

    @unittest.skip(reason="takes waveforms, has no token embeddings")
    def test_inputs_embeds(self):
        pass

    @unittest.skip(reason="takes waveforms, has no token embeddings")
    def test_model_get_set_embeddings(self):
        pass


class TokenizerTest(WaveformTest):
    @unittest.skip(reason="returns codes, tokens or the logits of clips; has no hidden states of one shape to return")
    def test_hidden_states_output(self):
        pass

    @unittest.skip(reason="returns codes, tokens or the logits of clips; has no hidden states of one shape to return")
    def test_retain_grad_hidden_states_attentions(self):
        pass


class SoundStreamModelTest(TokenizerTest, unittest.TestCase):
    all_model_classes = (SoundStreamModel,)

    def setUp(self):
        self.model_tester = WaveformTester(SoundStreamConfig(**SOUNDSTREAM))


class SemanticTokenizerTest(TokenizerTest, unittest.TestCase):
    all_model_classes = (AudioLMSemanticTokenizer,)

    @unittest.skip(reason="of classes outside it, transformers passes over modules without weights of their own")
    def test_can_init_all_missing_weights(self):
        pass

    @unittest.skip(reason="returns tokens; has no hidden states to return")
    def test_can_capture_specific_layers_hidden_states(self):
        pass

    @unittest.skip(reason="returns tokens; has no hidden states or attentions to capture")
    def test_capture_outputs_decorator(self):
        pass

    def setUp(self):
        self.model_tester = WaveformTester(AudioLMSemanticTokenizerConfig(**SEMANTIC_TOKENIZER))


class DetectorTester(WaveformTester):
    """Tiny configuration of the detector, and clips of its shortest length."""

    is_training = True
    num_samples = 8000


class DetectorTest(TokenizerTest, unittest.TestCase):
    all_model_classes = (AudioLMDetectorForAudioClassification,)

    @unittest.skip(reason="its two labels are fixed")
    def test_can_load_ignoring_mismatched_shapes(self):
        pass

    def setUp(self):
        self.model_tester = DetectorTester(AudioLMDetectorConfig())


class AudioLMTester(WaveformTester):
    """Tiny configuration of the whole, and recordings."""

    is_training = True
    num_samples = 1920
    seq_length = 1920 // 640 + 2  # of the semantic stage: 3 tokens between beginning and end
    hidden_size = BACKBONE["hidden_size"]
    num_hidden_layers = 3  # one in each stage
    expected_num_hidden_layers = num_hidden_layers + 3  # and the embeddings of each
    num_attention_heads = BACKBONE["num_attention_heads"]

    def __init__(self):
        stage = {"num_semantic_tokens": 16, "codebook_size": 16, "num_coarse_codebooks": 1, "num_fine_codebooks": 2}
        stages = {
            f"{name}_config": {"backbone_config": BACKBONE | {"num_hidden_layers": 1}, **stage}
            for name in ("semantic", "coarse", "fine")
        }
        super().__init__(
            AudioLMConfig(semantic_tokenizer_config=SEMANTIC_TOKENIZER, codec_config=dict(SOUNDSTREAM), **stages)
        )


class AudioLMModelTest(WaveformTest, unittest.TestCase):
    all_model_classes = (AudioLMModel,)
    all_generative_model_classes = ()  # its `generate` is its own: waveforms to waveforms, in three stages
    has_attentions = True
    _is_composite = True

    @unittest.skip(reason="of classes outside it, transformers passes over modules without weights of their own")
    def test_can_init_all_missing_weights(self):
        pass

    @unittest.skip(reason="numbers of layers are those of each of three stages, not of all in one row")
    def test_can_capture_specific_layers_hidden_states(self):
        pass

    def check_training_gradient_checkpointing(self, gradient_checkpointing_kwargs=None):
        def stages_first(model):
            inner = [module for stage in model.stages.values() for module in stage.modules()]
            yield from [*inner, *(module for module in torch.nn.Module.modules(model) if module not in set(inner))]

        # The test watches the first layer that can be checkpointed, which here would be the frozen tokenizer's.
        with unittest.mock.patch.object(AudioLMModel, "modules", stages_first):
            super().check_training_gradient_checkpointing(gradient_checkpointing_kwargs)

    def test_can_load_ignoring_mismatched_shapes(self):
        # The test sets each field with `_std` in its name to a small number, as if all were of initial weights.
        fields = AudioLMConfig.__iter__
        others = lambda config: (key for key in fields(config) if key != "spectrum_std_db")  # noqa: E731
        with unittest.mock.patch.object(AudioLMConfig, "__iter__", others):
            super().test_can_load_ignoring_mismatched_shapes()

    def test_keep_in_fp32_modules(self):
        """As the common test, but in bfloat16, too, the tokenizers stay in float32."""
        with tempfile.TemporaryDirectory() as folder:
            AudioLMModel(self.model_tester.get_config()).save_pretrained(folder)
            for dtype in (torch.float16, torch.bfloat16):
                for name, value in AudioLMModel.from_pretrained(folder, dtype=dtype).state_dict().items():
                    kept = name.startswith(("semantic_tokenizer.", "codec."))
                    expected = torch.float32 if kept else dtype
                    assert not value.is_floating_point() or value.dtype == expected, name

    def test_num_layers_is_small(self):
        for stage in AudioLMModel(self.model_tester.get_config()).stages.values():
            assert stage.config.num_hidden_layers == 1  # and there are three of them

    @parameterized.expand(TEST_EAGER_MATCHES_SDPA_INFERENCE_PARAMETERIZATION)
    def test_eager_matches_sdpa_inference(self, name, dtype, padding_side, use_attention_mask, *options):
        if use_attention_mask and padding_side == "left":
            self.skipTest("recordings are padded on the right; padding on the left is refused")
        _test_eager_matches_sdpa_inference(self, name, dtype, padding_side, use_attention_mask, *options)

    def setUp(self):
        self.model_tester = AudioLMTester()


class FeatureExtractionTester:
    """Waveforms of different lengths."""

    batch_size = 4
    feature_size = 1
    min_seq_length = 2000
    max_seq_length = 4100
    seq_length_diff = (max_seq_length - min_seq_length) // (batch_size - 1)

    def prepare_feat_extract_dict(self):
        return {"feature_size": self.feature_size, "sampling_rate": 16000, "padding_value": 0.0}

    def prepare_inputs_for_common(self, equal_length=False, numpify=False):
        lengths = [self.min_seq_length + row * self.seq_length_diff for row in range(self.batch_size)]
        generator = np.random.default_rng(0)
        rows = [generator.uniform(-1, 1, lengths[-1] if equal_length else length) for length in lengths]
        return rows if numpify else [row.tolist() for row in rows]


class FeatureExtractionTest(SequenceFeatureExtractionTestMixin, unittest.TestCase):
    feature_extraction_class = AudioLMFeatureExtractor

    def setUp(self):
        self.feat_extract_tester = FeatureExtractionTester()


class ProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = AudioLMProcessor

    @classmethod
    def _setup_feature_extractor(cls):
        return AudioLMFeatureExtractor()

    def prepare_audio_inputs(self, batch_size=None):
        generator = np.random.default_rng(0)
        return [{"raw": generator.uniform(-1, 1, 3200), "sampling_rate": 16000} for _ in range(batch_size or 1)]

    @unittest.skip(reason="hands the same input to both, but files and dictionaries are for the processor alone")
    def test_subprocessor_defaults_3_audio(self):
        pass

    @unittest.skip(reason="has no tokenizer, and so no chat template")
    def test_chat_template_save_loading(self):
        pass
