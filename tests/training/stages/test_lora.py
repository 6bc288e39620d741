# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file

from audiolm_hf import AudioLMModel
from audiolm_hf.adapters_audiolm import ADAPTER_FILE, read_adapter_notes
from audiolm_hf.cli import main
from audiolm_hf.settings import build
from audiolm_hf.training.stages.lora import LoraTrainingConfig, adapt_stage, quantization_config, train_lora
from tests.conftest import tiny_config
from tests.helpers_checkpoint import CLIP, ROOT, environment, tiny_model, tiny_processor
from tests.helpers_stages import interrupted_after

WEIGHTS = "adapter_model.safetensors"
STAGE = {"rank": 4, "max_steps": 4, "warmup_steps": 1, "eval_steps": 2, "batch_tokens": 200, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight half seconds of two speakers, listed by a file."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lines = ["path,speaker,source"]
    for number in range(8):
        sf.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(8000), 16000)
        lines.append(f"{number}.wav,{'ann' if number % 4 else 'bob'},book/{number}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder


def values_of(base, data, output, **changes):
    recordings = {"folder": str(data), "recordings": ["list.csv"], "speaker": "ann"}
    stages = {"coarse": STAGE, "fine": STAGE}
    stages |= {name: changes.pop(name) for name in ("semantic", "coarse", "fine") if name in changes}
    return {
        "base": str(base),
        "output_folder": str(output),
        "data": recordings | {"train_minutes": 1.2 / 60, "validation_minutes": 0.5 / 60},
        "stages": {name: stage for name, stage in stages.items() if stage is not None},
        "bf16": False,
        "use_cpu": True,
    } | changes


def config_of(base, data, output, **changes):
    return build(LoraTrainingConfig, values_of(base, data, output, **changes))


def adapter_tensors(folder):
    prefix = "base_model.model."
    return {name.removeprefix(prefix): tensor for name, tensor in load_file(folder / WEIGHTS).items()}


@pytest.fixture(scope="module")
def trained(checkpoint, data, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    train_lora(config_of(checkpoint, data, output))
    return output


def test_nothing_that_is_written_has_a_path_of_this_machine(trained):
    assert [path for path in trained.rglob("*") if path.is_file() and b"pytest-of" in path.read_bytes()] == []


def test_only_adapters_change(trained, checkpoint, tmp_path):
    model = AudioLMModel.from_pretrained(trained / "adapter")
    before = AudioLMModel.from_pretrained(checkpoint).state_dict()
    after = {name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items()}
    assert before.keys() == {name for name in after if ".lora_" not in name}
    assert all(tensor.equal(after[name]) for name, tensor in before.items())
    tensors = adapter_tensors(trained / "adapter")
    assert {name.partition(".")[0] for name in tensors} == {"coarse", "fine"}
    assert len(tensors) == 2 * 2 * 7 * 2  # stages, layers, linear layers of each, A and B
    assert all(bool(tensor.any()) for name, tensor in tensors.items() if "lora_B" in name)  # zeros at first
    fresh = adapt_stage(tiny_model().coarse, config_of(checkpoint, trained, tmp_path).stages["coarse"], seed=0)
    starts = {
        name.replace(".default", "").replace("base_model.model", "coarse"): weight
        for name, weight in fresh.named_parameters()
    }
    assert all(not tensor.equal(starts[name]) for name, tensor in tensors.items() if name.startswith("coarse."))


def test_folder_is_an_adapter_of_peft_and_tells_what_was_learned(trained, checkpoint):
    recordings = read_adapter_notes(trained / "adapter")["recordings"]
    assert recordings["speaker"] == "ann"
    assert recordings["train"] == ["book/1", "book/2", "book/3"]
    assert recordings["validation"] == ["book/5"]
    config = PeftConfig.from_pretrained(str(trained / "adapter"))
    assert (trained / "adapter" / config.base_model_name_or_path).resolve() == checkpoint.resolve()
    model = AudioLMModel.from_pretrained(trained / "adapter")
    by_peft = PeftModel.from_pretrained(tiny_model(), trained / "adapter").base_model.model
    ids = torch.randint(0, 20, (1, 6))
    for name in ("coarse", "fine"):
        alone = PeftModel.from_pretrained(getattr(tiny_model(), name), trained / name / "final")
        assert torch.equal(model.stages[name](ids).logits, alone(ids).logits)
        assert torch.equal(by_peft.stages[name](ids).logits, alone(ids).logits)
    report = json.loads((trained / "report.json").read_text())
    assert set(report) == {"coarse", "fine"}
    assert report["coarse"]["parameters"]["stage"] == tiny_model().coarse.num_parameters()
    for figures in report.values():
        assert figures["after"]["all"]["bits"] < figures["before"]["all"]["bits"]


def test_stages_of_other_ranks_are_joined(checkpoint, data, tmp_path):
    changes = {"coarse": STAGE | {"max_steps": 1}, "fine": STAGE | {"max_steps": 1, "rank": 2}}
    train_lora(config_of(checkpoint, data, tmp_path, **changes))
    model = AudioLMModel.from_pretrained(tmp_path / "adapter")
    ids = torch.randint(0, 20, (1, 6))
    for name, rank in (("coarse", 4), ("fine", 2)):
        assert model.stages[name].model.layers[0].mlp.up_proj.r["default"] == rank
        alone = PeftModel.from_pretrained(getattr(tiny_model(), name), tmp_path / name / "final")
        assert torch.equal(model.stages[name](ids).logits, alone(ids).logits)


@pytest.fixture
def old_folder(trained, checkpoint, tmp_path):
    """An adapter folder of the older form."""
    for name in ("coarse", "fine"):
        shutil.copytree(trained / name / "final", tmp_path / "old" / name)
    norms = {name: getattr(tiny_model(), name).model.norm.weight[:16].tolist() for name in ("coarse", "fine")}
    notes = {"base": os.path.relpath(checkpoint, tmp_path / "old"), "stages": norms, "recordings": {"speaker": "ann"}}
    (tmp_path / "old" / ADAPTER_FILE).write_text(json.dumps(notes))
    return tmp_path / "old"


def test_a_folder_of_the_older_form_is_converted(trained, old_folder, tmp_path):
    assert main(["convert", str(old_folder), str(tmp_path / "new")]) == 0
    new, expected = adapter_tensors(tmp_path / "new"), adapter_tensors(trained / "adapter")
    assert new.keys() == expected.keys() and all(tensor.equal(new[name]) for name, tensor in expected.items())
    assert read_adapter_notes(tmp_path / "new")["recordings"] == {"speaker": "ann"}
    ids = torch.randint(0, 20, (1, 6))
    model, same = (AudioLMModel.from_pretrained(folder) for folder in (tmp_path / "new", trained / "adapter"))
    assert all(torch.equal(stage(ids).logits, same.stages[name](ids).logits) for name, stage in model.stages.items())


def test_what_cannot_be_converted_is_refused(trained, old_folder, tmp_path, capsys):
    assert main(["convert", str(trained / "adapter"), str(tmp_path / "new")]) == 1
    assert "is not an adapter folder of the older form" in capsys.readouterr().err
    assert main(["convert", str(old_folder), str(trained)]) == 1
    assert "already exists; name a new folder" in capsys.readouterr().err
    path = old_folder / ADAPTER_FILE
    notes = json.loads(path.read_text())
    notes["stages"]["fine"][3] += 0.1
    path.write_text(json.dumps(notes))
    assert main(["convert", str(old_folder), str(tmp_path / "new")]) == 1
    assert "The fine stage of" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_resumed_training_equals_an_uninterrupted_one(trained, checkpoint, data, tmp_path):
    config = config_of(checkpoint, data, tmp_path, fine=None)
    with interrupted_after(3):
        train_lora(config)
    assert not (tmp_path / "adapter").exists()
    train_lora(config)
    whole, resumed = adapter_tensors(trained / "adapter"), adapter_tensors(tmp_path / "adapter")
    assert set(resumed) == {name for name in whole if name.startswith("coarse.")}
    assert all(tensor.equal(whole[name]) for name, tensor in resumed.items())


def test_training_goes_through_the_program(checkpoint, data, tmp_path, capsys):
    config = tmp_path / "voice.yaml"
    values = values_of(checkpoint, data, tmp_path / "run", coarse=None, fine=None, semantic=STAGE | {"max_steps": 1})
    config.write_text(json.dumps({"kind": "lora"} | values))  # JSON is YAML
    assert main(["train", "--config", str(config), "data.train_minutes=0.01"]) == 0
    output = tmp_path / "out.wav"
    arguments = ["--length-s", "0.1", "--device", "cpu", "-o", str(output)]
    assert main(["continue", str(CLIP), "--checkpoint", str(tmp_path / "run/adapter"), *arguments]) == 0
    assert sf.info(output).duration == pytest.approx(sf.info(CLIP).duration + 0.1, abs=0.01)
    capsys.readouterr()
    assert main(["train", "--config", str(config), "stages.semantic.rnk=4"]) == 1
    assert "did you mean 'rank'?" in capsys.readouterr().err


def test_other_base_in_the_same_folder_is_refused(trained, data, tmp_path):
    model = tiny_model()
    model.coarse.model.norm.weight.data *= 2
    model.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"different: base \(.*model.safetensors has other content"):
        train_lora(config_of(tmp_path, data, trained))


def test_another_voice_in_the_same_folder_is_refused(trained, checkpoint, data):
    before = (trained / "adapter/adapter_model.safetensors").read_bytes()
    config = config_of(checkpoint, data, trained)
    assert train_lora(config) == trained / "adapter"
    other_rank = config.stages | {"coarse": replace(config.stages["coarse"], rank=3)}
    for values, message in (
        ({"data": replace(config.data, speaker="another")}, r"different: data.speaker \(.*, now 'another'\)"),
        ({"stages": other_rank}, r"different: stages.coarse.rank \(.*, now 3\)"),
        ({"seed": 9}, r"different: seed \(0, now 9\)"),
    ):
        with pytest.raises(ValueError, match=message):
            train_lora(replace(config, **values))
    assert (trained / "adapter/adapter_model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coarse": None, "fine": None}, "stages is {}; give a value that is not empty"),
        ({"coarse": STAGE | {"rank": 0}}, "rank is 0"),
        ({"coarse": STAGE | {"dropout": 1.0}}, "dropout is 1.0"),
        ({"stages": {"coars": STAGE}}, "unknown stage 'coars'; did you mean 'coarse'?"),
        ({"quantization": "2bit"}, "quantization is '2bit'; it must be one of"),
    ],
)
def test_settings_that_make_no_sense_are_errors(checkpoint, data, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config_of(checkpoint, data, tmp_path, **changes)


def test_a_stage_that_the_base_does_not_have_is_refused(data, tmp_path):
    AudioLMModel(tiny_config(fine_config=None)).save_pretrained(tmp_path / "base")
    config = config_of(tmp_path / "base", data, tmp_path / "out")
    with pytest.raises(ValueError, match="base has no fine stage, only semantic, coarse; leave the key out"):
        train_lora(config)


def test_quantisation_without_its_library_or_without_an_accelerator_is_an_error(monkeypatch):
    assert quantization_config("none") is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="quantization is '4bit', which needs bitsandbytes"):
        quantization_config("4bit")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ValueError, match="quantization is '8bit', which needs an accelerator"):
        quantization_config("8bit", use_cpu=True)


@pytest.mark.slow
def test_two_processes_train_the_same_adapters_as_one(trained, checkpoint, data, tmp_path):
    config = tmp_path / "voice.yaml"
    config.write_text(json.dumps({"kind": "lora"} | values_of(checkpoint, data, tmp_path / "two")))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = subprocess.run(
        [*launcher, "-m", "audiolm_hf.cli", "train", "--config", str(config)],
        cwd=tmp_path,
        env=environment(tmp_path) | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-5000:]
    one, two = adapter_tensors(trained / "adapter"), adapter_tensors(tmp_path / "two" / "adapter")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-5)
