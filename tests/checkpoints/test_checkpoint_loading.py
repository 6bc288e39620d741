# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How a whole model is loaded: in threads, with a dtype for each part, quantized but for what makes tokens."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from transformers import BitsAndBytesConfig, QuantoConfig, TorchAoConfig
from transformers.quantizers.base import HfQuantizer

from audiolm_hf.bundled import checkpoint, list_checkpoints
from audiolm_hf.configuration_audiolm import AudioLMConfig
from audiolm_hf.modeling_audiolm import AudioLMModel


@pytest.fixture(scope="module")
def folder(tiny_audiolm, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    tiny_audiolm.save_pretrained(path)
    return path


def test_loading_in_threads_is_safe(folder, tiny_audiolm):
    expected = tiny_audiolm.state_dict()
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: AudioLMModel.from_pretrained(folder), range(8)))
    for model in models:
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
        for stage in model.stages.values():
            assert stage.lm_head.weight is stage.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ({"coarse_config": torch.bfloat16}, {"coarse": torch.bfloat16}),
        ({"coarse_config": "float16", "fine_config": "bfloat16"}, {"coarse": torch.float16, "fine": torch.bfloat16}),
        ({"": torch.bfloat16, "coarse_config": "float32"}, {"semantic": torch.bfloat16, "fine": torch.bfloat16}),
    ],
)
def test_each_part_has_the_dtype_named_for_it(folder, tiny_audiolm, dtypes, expected):
    model = AudioLMModel.from_pretrained(folder, dtype=dtypes)
    for name, part in model.named_children():
        dtype = expected.get(name, torch.float32)
        assert {parameter.dtype for parameter in part.parameters()} == {dtype}
        assert part.config.dtype == dtype
    weights = tiny_audiolm.state_dict()
    assert all(torch.equal(tensor, weights[name].to(tensor.dtype)) for name, tensor in model.state_dict().items())
    prompt = 0.1 * torch.randn(1, 8000)
    assert model.generate(prompt, seed=0, continuation_length_s=0.1).audio_values.isfinite().all()


def test_a_dtype_for_an_unknown_part_is_refused(folder):
    with pytest.raises(ValueError, match="dtype names 'vocoder_config'; the parts are semantic_tokenizer_config, "):
        AudioLMModel.from_pretrained(folder, dtype={"vocoder_config": torch.bfloat16})


@pytest.mark.parametrize("chosen", [None, ["semantic"]])
def test_quantisation_leaves_what_makes_tokens(tiny_audiolm, chosen):
    skipped = HfQuantizer.get_modules_to_not_convert(tiny_audiolm, chosen, tiny_audiolm._keep_in_fp32_modules)
    assert {"semantic_tokenizer", "codec"} <= set(skipped)


def test_torchao_quantises_the_stages_alone(folder, tiny_audiolm):
    quantization = pytest.importorskip("torchao.quantization")
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    model = AudioLMModel.from_pretrained(folder, quantization_config=config)
    plain = {name: type(parameter) is torch.nn.Parameter for name, parameter in model.named_parameters()}
    quantized = {name.partition(".")[0] for name, is_plain in plain.items() if not is_plain}
    assert quantized == {"semantic", "coarse", "fine"}
    prompt = 0.1 * torch.randn(1, 8000)
    output = model.generate(prompt, seed=0, continuation_length_s=0.1)
    assert torch.equal(model.acoustic_codec.encode(prompt), tiny_audiolm.acoustic_codec.encode(prompt))
    assert output.audio_values.isfinite().all()


QUANTIZATIONS = {
    "bitsandbytes": BitsAndBytesConfig(load_in_8bit=True),
    "optimum.quanto": QuantoConfig(weights="int8"),
}


@pytest.mark.filterwarnings("ignore")  # of libraries that are not in the tested set
@pytest.mark.parametrize("library", QUANTIZATIONS)
def test_other_quantisations_are_of_the_stages_or_name_what_is_missing(folder, tiny_audiolm, library):
    prompt = 0.1 * torch.randn(1, 8000)
    load = partial(AudioLMModel.from_pretrained, folder, quantization_config=QUANTIZATIONS[library])
    if not (importlib.util.find_spec(library.partition(".")[0]) and importlib.util.find_spec(library)):
        with pytest.raises(ImportError, match=f"pip install .*{library.partition('.')[2] or library}"):
            load()
        return
    model = load()
    quantized = {
        name.partition(".")[0] for name, module in model.named_modules() if type(module).__module__.startswith(library)
    }
    assert quantized == {*model.stages}
    assert torch.equal(model.acoustic_codec.encode(prompt), tiny_audiolm.acoustic_codec.encode(prompt))
    assert model.generate(prompt, seed=0, continuation_length_s=0.1).audio_values.isfinite().all()


def test_the_whole_has_no_embeddings_of_its_own(tiny_audiolm):
    assert tiny_audiolm.get_input_embeddings() is None
    assert tiny_audiolm.get_output_embeddings() is None
    tiny_audiolm.enable_input_require_grads()
    assert tiny_audiolm.coarse.get_input_embeddings()(torch.zeros(1, 1, dtype=torch.int64)).requires_grad
    tiny_audiolm.disable_input_require_grads()


def test_the_bundled_stages_keep_a_cache():
    for name in list_checkpoints():
        config = AudioLMConfig.from_pretrained(checkpoint(name))
        assert all(stage.use_cache for stage in config.stage_configs.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, "float16", {"coarse_config": "bfloat16"}])
def test_the_older_name_of_dtype_is_the_same(folder, dtype):
    new, old = (AudioLMModel.from_pretrained(folder, **{name: dtype}) for name in ("dtype", "torch_dtype"))
    assert old.coarse.dtype == new.coarse.dtype != torch.float32
    assert old.dtype == new.dtype


def test_a_state_dict_is_whole_or_refused(tiny_audiolm):
    weights = tiny_audiolm.state_dict()
    load = partial(AudioLMModel.from_pretrained, None, config=tiny_audiolm.config)
    loaded = load(state_dict=dict(weights)).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in weights.items())
    for lacking in ("coarse.", "codec.quantizer"):
        some = {name: tensor for name, tensor in weights.items() if not name.startswith(lacking)}
        with pytest.raises(ValueError, match=rf"state_dict lacks \d+ weights, such as {lacking}"):
            load(state_dict=some)
    with pytest.raises(ValueError, match="has no place for 1 weights, such as more, which state_dict holds"):
        load(state_dict={**weights, "more": torch.zeros(1)})


def test_a_damaged_list_of_shards_names_the_checkpoint(tiny_audiolm, tmp_path):
    tiny_audiolm.save_pretrained(tmp_path, max_shard_size="50KB")
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ValueError, match=f"A JSON file of {tmp_path} is damaged"):
        AudioLMModel.from_pretrained(tmp_path)
