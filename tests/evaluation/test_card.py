# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Cards have what was measured, from results of the same weights, and keep what people wrote."""

import json
import re
import shutil

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from audiolm_hf.audio_file_audiolm import write_audio
from audiolm_hf.cli import main
from audiolm_hf.evaluation.card import MEASURED, WRITTEN, in_order, split_sections
from audiolm_hf.evaluation.metrics.detection import detection_metrics
from audiolm_hf.evaluation.protocols.accents import summarize_groups
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.provenance_audiolm import checkpoint_hash
from tests.helpers_checkpoint import CLIP

HAND = """---
license: cc0-1.0
tags: [bells]
---

# Bells

Rings on.

## Training

Two bells.

```bash
## no section
```

## Thanks

To the bell-ringers.

## Evaluation

An old figure: 12345.
"""


@pytest.fixture(scope="module")
def checkpoint(tiny_audiolm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "tiny"
    tiny_audiolm.save_pretrained(folder)
    arguments = ["evaluate", "codec", "--codec", str(folder), "--kind", "piano", "--data", str(CLIP)]
    assert main([*arguments, "--num-clips", "1", "--length-s", "1", "-o", str(folder / "codec.json")]) == 0
    return folder


@pytest.fixture
def folder(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "tiny")


def write_report(folder, evaluation, report):
    origin = {"evaluation": evaluation, "command": f"audiolm-hf evaluate {evaluation}", "data": ["piano/test.parquet"]}
    path = folder / f"{evaluation}.json"
    path.write_text(json.dumps(origin | {"checkpoint_sha256": checkpoint_hash(folder)} | report))
    return path


def detector_report(folder):
    rng = np.random.default_rng(0)
    metrics = detection_metrics(rng.uniform(0.3, 1, 17), rng.uniform(0, 0.7, 19))
    table = {"some": metrics}
    report = {"edits": table, "noise": table, "lengths": table, "others": table, "groups": {}}
    report |= {"systems": {"real, through the codec": metrics}, "floors": {"spectral flatness": metrics}}
    counts = {"num_continuations": 13, "num_unconditional": 6, "num_real": 17, "length_s": 3.0, "seed": 0}
    (folder / "detector").mkdir()
    (folder / "detector" / "config.json").write_text("{}")
    return write_report(folder, "detector", report | counts | {"parameters": 712_000}), metrics


def accents_report(folder):
    rows = [
        {"group": group, "speaker": f"{group}{n}", "recording": "r", "continuation": n / 7}
        for group in ("north", "south")
        for n in range(5)
    ]
    settings = {"group_by": "accent", "prompt_length_s": 2.0, "length_s": 2.0, "min_speakers": 5, "seed": 0}
    Image.new("RGB", (8, 8)).save(folder / "accents.png")
    return write_report(folder, "accents", summarize_groups(rows) | settings)


def sections_of(folder):
    card = ModelCard.load(folder / "README.md")
    return card.data, split_sections(card.text)[1]


def test_measured_sections_come_from_results_and_others_are_kept(folder, capsys):
    detector, metrics = detector_report(folder)
    (folder / "README.md").write_text(HAND)
    results = [str(folder / "codec.json"), str(detector), str(accents_report(folder))]
    assert main(["card", str(folder), "--results", *results]) == 0
    assert "Please write the sections Limitations, Licence" in capsys.readouterr().out
    data, sections = sections_of(folder)
    assert data.license == "cc0-1.0" and data.tags == ["bells"]
    assert sections["Training"].endswith("## no section\n```") and sections["Thanks"] == "To the bell-ringers."
    assert list(sections).index("Thanks") == list(sections).index("Training") + 1
    assert "12345" not in (folder / "README.md").read_text()
    report = json.loads((folder / "codec.json").read_text())
    assert report["command"] in sections["Evaluation"] and "--length-s 1" in report["command"]
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found["detector against real, through the codec, EER"] == round(metrics["eer"], 3)
    own = next(iter(report["systems"].values()))
    assert found[f"codec at {own['kbps']:g} kbps, spectral convergence"] == round(own["spectral_convergence"], 3)
    assert f"{100 * metrics['eer_high']:.1f}" in sections["Detector"] and "712,000 parameters" in sections["Detector"]
    of = ", ".join(report["data"])  # perhaps others than those of the whole evaluation
    assert f"**Codec, {of}**" in sections["Evaluation"]
    assert f"spectral convergence, {of} |" in sections["Evaluation"]
    assert "north" in sections["Bias"] and "![groups](samples/accents.png)" in sections["Bias"]
    assert (folder / "samples" / "accents.png").is_file()
    assert checkpoint_hash(folder) in sections["Provenance"]
    parts = AudioLMModel.from_pretrained(folder).stages["coarse"].num_parameters()
    assert f"| coarse stage | {parts / 1e6:.1f} M |" in sections["Parts"]
    once = (folder / "README.md").read_text()
    assert main(["card", str(folder), "--results", *results]) == 0
    assert (folder / "README.md").read_text() == once


def test_every_figure_of_the_evaluation_is_in_the_results(folder):
    assert main(["card", str(folder), "--results", str(folder / "codec.json"), "--license", "mit"]) == 0
    text = sections_of(folder)[1]["Evaluation"].replace(json.loads((folder / "codec.json").read_text())["command"], "")
    values = []

    def collect(value):
        if isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                collect(each)
        elif isinstance(value, int | float):
            values.extend([f"{value:.3f}", f"{value:.0f}", f"{value:g}"])

    collect(json.loads((folder / "codec.json").read_text()))
    values += [str(level) for level in range(12)] + [checkpoint_hash(folder)[:12], "1", "6", "8", "12"]
    unknown = [
        number
        for number in re.findall(r"(?<![\w.-])-?\d[\w.]*", text)
        if number.rstrip(".") not in values and number not in ("256",)
    ]
    assert not unknown


def test_without_results_nothing_is_claimed(folder):
    assert main(["card", str(folder), "--license", "mit"]) == 0
    data, sections = sections_of(folder)
    assert data.eval_results is None and data.license == "mit"
    assert set(WRITTEN) | set(MEASURED) - {"Examples"} == set(sections)
    assert sections["Evaluation"] == "This checkpoint has not been evaluated yet."
    assert sections["Bias"] == "Groups of speakers were not compared."
    assert sections["Detector"] == "This checkpoint has no detector of its audio."


def test_sections_have_an_order():
    given = {"Licence": "l", "Notes": "n", "Uses": "u", "Training": "t"}
    assert list(in_order(given)) == ["Uses", "Training", "Licence", "Notes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda report: report.pop("evaluation"), "codec.json has no key 'evaluation'"),
        (lambda report: report.update(evaluation="weather"), "codec.json.evaluation is 'weather'"),
        (
            lambda report: report.pop("codebooks"),
            "codec.json is not a result of evaluate codec (KeyError: 'codebooks')",
        ),
        (
            lambda report: next(iter(report["systems"].values())).update(kbps="good"),
            "codec.json is not a result of evaluate codec (ValueError: ",
        ),
        (lambda report: report.update(systems={}), "codec.json is not a result of evaluate codec"),
        (lambda report: report.update(seconds=None, codebooks=7), "codec.json is not a result of evaluate codec"),
        (lambda report: report.update(checkpoint_sha256="ab"), "codec.json is of a checkpoint with the SHA-256 ab"),
        (lambda report: report.update(checkpoint_sha256=None), "codec.json is of a checkpoint with the SHA-256"),
    ],
)
def test_a_malformed_result_is_named_with_its_key(folder, capsys, change, message):
    report = json.loads((folder / "codec.json").read_text())
    change(report)
    (folder / "codec.json").write_text(json.dumps(report))
    assert main(["card", str(folder), "--results", str(folder / "codec.json"), "--license", "mit"]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "holds a list"), ("{", "is not JSON"), ("\ufeff{}", "is not JSON"), ("{}", "no key 'eval")],
)
def test_other_files_are_no_results(folder, capsys, text, message):
    (folder / "other.json").write_text(text, encoding="utf-8")
    assert main(["card", str(folder), "--results", str(folder / "other.json"), "--license", "mit"]) == 1
    assert message in capsys.readouterr().err


def test_what_else_is_missing_is_named(folder, capsys):
    for options, message in (
        ([], "states no licence; give its identifier"),
        (["--results", "missing.json"], "There is no file or folder missing.json"),
        (["--examples", str(folder)], "holds no audio examples; they end in .opus or .mp3"),
    ):
        assert main(["card", str(folder), *options, *(["--license", "mit"] if options else [])]) == 1
        assert message in capsys.readouterr().err


def test_examples_are_copied_and_linked(folder, tmp_path, capsys):
    examples = tmp_path / "examples"
    examples.mkdir()
    write_audio(examples / "a.mp3", np.zeros(16000, np.float32), 16000)
    arguments = ["card", str(folder), "--license", "mit", "--examples", str(examples)]
    assert main(arguments) == 1
    assert "a.mp3 has no picture a.png" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(examples / "a.png")
    assert main(arguments) == 0
    assert sections_of(folder)[1]["Examples"] == "![a](samples/a.png)\n[a, audio](samples/a.mp3)"
    assert (folder / "samples" / "a.mp3").read_bytes() == (examples / "a.mp3").read_bytes()
    arguments[-1] = str(folder / "samples")  # in place
    assert main(arguments) == 0
    (examples / "b.opus").write_bytes(b"no sound")
    Image.new("RGB", (8, 8)).save(examples / "b.png")
    arguments[-1] = str(examples)
    assert main(arguments) == 1
    assert "b.opus" in capsys.readouterr().err
    (examples / "b.opus").write_bytes(bytes(500_001))
    assert main(arguments) == 1
    assert "b.opus has 500,001 bytes; examples have 500,000 at most" in capsys.readouterr().err
