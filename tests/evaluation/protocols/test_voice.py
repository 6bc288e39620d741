# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import json
import re

import numpy as np
import pytest
import soundfile as sf
from peft import LoraConfig

from audiolm_hf import AudioLMModel
from audiolm_hf.adapters_audiolm import ADAPTER_FILE
from audiolm_hf.cli import main
from audiolm_hf.evaluation.metrics.speaker import speaker_embedding_is_available
from audiolm_hf.evaluation.protocols.voice import _gains, format_voice
from tests.helpers_checkpoint import tiny_model, tiny_processor

needs_embedder = pytest.mark.skipif(not speaker_embedding_is_available(), reason="resemblyzer is not installed")


def rows_of(base, adapter):
    return {
        "base": {"voice": base, "prompt": base},
        "adapter": {"voice": adapter, "prompt": adapter},
    }


def test_gain_is_paired():
    spread = np.linspace(0, 1, 20)  # prompts differ far more than the adapter changes them
    gain = _gains(rows_of(list(spread), list(spread + 0.01 + 0.001 * np.sin(np.arange(20)))), seed=0)["voice"]
    assert 0 < gain["low"] < gain["mean"] < gain["high"] < 0.02
    assert gain["prompts_better"] == 20
    noise = np.random.default_rng(0).standard_normal(20)
    assert _gains(rows_of(list(spread), list(spread + noise)), seed=0)["voice"]["low"] < 0


def test_report_is_a_table():
    rows = rows_of([0.5, 0.6], [0.7, 0.9])
    report = {
        "systems": {name: {metric: float(np.mean(row[metric])) for metric in row} for name, row in rows.items()},
        "gain": _gains(rows, 0),
        "prompts": ["a", "b"],
        "prompt_length_s": 3.0,
        "continuation_length_s": 5.0,
        "num_continuations": 1,
    }
    text = format_voice(report)
    assert "adapter         0.800          0.800" in text
    assert "Adapter over base, to the voice: +0.250, 95 % interval +0.200 to +0.300, better for 2 of 2 prompts" in text


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Five recordings of ann and two of bob, and an adapter that learned ann's first two."""
    folder = tmp_path_factory.mktemp("voice")
    rng = np.random.default_rng(0)
    lines = ["path,speaker,source"]
    for number in range(7):
        hum = np.sin(2 * np.pi * (120 + 10 * number) * np.arange(24000) / 16000)
        sf.write(folder / f"{number}.wav", 0.1 * hum + 0.02 * rng.standard_normal(24000), 16000)
        lines.append(f"{number}.wav,{'ann' if number < 5 else 'bob'},book/{number}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    tiny_model().save_pretrained(folder / "base")
    tiny_processor().save_pretrained(folder / "base")
    model = AudioLMModel.from_pretrained(folder / "base")
    model.add_adapter(LoraConfig(r=4, target_modules=r"coarse\..*_proj", init_lora_weights=False))
    model.save_pretrained(folder / "adapter")
    path = folder / "adapter" / ADAPTER_FILE
    learned = {"speaker": "ann", "train": ["book/0"], "validation": ["book/1"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recordings": learned}))
    return folder


@needs_embedder
def test_adapter_is_judged_on_what_it_did_not_learn(folders, tmp_path, capsys):
    lengths = ["--prompt-length-s", "1", "--length-s", "0.4"]
    arguments = ["evaluate", "voice", "--data", str(folders / "list.csv"), *lengths]
    adapter = [*arguments, "--checkpoint", str(folders / "adapter"), "-o", str(tmp_path / "adapter.json")]
    assert main([*adapter, "--num-prompts", "2"]) == 0
    assert "Adapter over base, to the voice" in capsys.readouterr().out
    report = json.loads((tmp_path / "adapter.json").read_text())
    assert [name.rpartition("/")[2] for name in report["prompts"]] == ["2.wav", "3.wav"]
    assert list(report["systems"]) == ["base", "adapter", "real", "resynthesis", "another speaker"]
    assert report["speaker"] == "ann" and report["left_out"] == ["book/0", "book/1"]
    assert report["rows"]["base"] != report["rows"]["adapter"]

    held_out = [line for line in (folders / "list.csv").read_text().splitlines() if not re.search("book/[01]$", line)]
    (folders / "held_out.csv").write_text("\n".join(held_out))
    plain = ["evaluate", "voice", "--data", str(folders / "held_out.csv"), *lengths, "--num-prompts", "2"]
    plain += ["--checkpoint", str(folders / "base"), "-o", str(tmp_path / "base.json")]
    assert main([*plain, "--speaker", "ann"]) == 0
    before = json.loads((tmp_path / "base.json").read_text())
    assert before["prompts"] == report["prompts"] and before["gain"] == {}
    assert before["rows"]["base"] == report["rows"]["base"]  # without the adapter, it is the base


@needs_embedder
def test_too_few_recordings_are_an_error(folders, capsys):
    arguments = ["--data", str(folders / "list.csv"), "--speaker", "ann", "--length-s", "9"]
    assert main(["evaluate", "voice", "--checkpoint", str(folders / "base"), *arguments]) == 1
    assert "0 of 5 recordings last 12 s; give two or more." in capsys.readouterr().err
