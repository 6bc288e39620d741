# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The whole evaluation of a tiny checkpoint on two clips: all parts, kept and used again, in JSON and Markdown."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from audiolm_hf.cli import main
from audiolm_hf.commands.evaluate import EVALUATIONS, Evaluation
from audiolm_hf.commands.options import add_checkpoint
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.protocols.checkpoint import (
    PROTOCOLS,
    CheckpointEvaluation,
    CheckpointProtocol,
    format_checkpoint,
)
from audiolm_hf.evaluation.protocols.tokens import METRICS, evaluate_tokens, format_tokens, token_headlines
from audiolm_hf.evaluation.report import from_json, headline, systems_table, to_json
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.provenance_audiolm import checkpoint_hash, read_provenance
from tests.helpers_checkpoint import OTHER_CLIP
from tests.helpers_sounds import EXAMPLES, RATE
from tests.tokenizers.test_semantic_tokenizer_audiolm import LoudnessConfig, LoudnessTokenizer

TEXT = "Catherine grows quite a good looking girl, she is almost"


def row(speaker, text, array):
    buffer = io.BytesIO()
    sf.write(buffer, array, RATE, format="FLAC")
    duration = len(array) / RATE
    return {
        "audio": {"bytes": buffer.getvalue(), "path": None},
        "speaker": speaker,
        "text": text,
        "duration": duration,
    }


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Two clips for testing, of which one has words that are not said, and one for training."""
    folder = tmp_path_factory.mktemp("data")
    speech = sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0]
    other = sf.read(OTHER_CLIP, dtype="float32")[0]
    files = {
        "librispeech/test": [row("19", TEXT, speech), row("118", "", other)],
        "librispeech/train": [row("118", "", other)],
        "ljspeech/train": [row("lj", "", speech[: 2 * RATE])],
    }
    for name, rows in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tiny_audiolm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_audiolm.save_pretrained(folder)
    return folder


def test_codec_and_tokens_are_measured_once(checkpoint, corpora, tmp_path, capsys, monkeypatch):
    arguments = [
        "evaluate",
        "checkpoint",
        "--checkpoint",
        str(checkpoint),
        "--data",
        str(corpora),
        "-o",
        str(tmp_path / "all.json"),
    ]
    arguments += ["--protocols", "codec", "tokens", "--num-clips", "1"]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "all.json").read_text())
    assert list(report["protocols"]) == ["codec", "tokens"]
    tokens = report["protocols"]["tokens"]
    assert tokens["aligned"] == 1 and len(tokens["failed"]) == 1
    for name in ("semantic tokens", "k-means on log-mel", "k-means on MFCC"):
        assert set(METRICS["speech"]) <= set(tokens["systems"][name])
    assert tokens["systems"]["k-means on MFCC"]["pnmi"] > tokens["systems"]["k-means on MFCC"]["pnmi_shuffled"]
    text = (tmp_path / "all.md").read_text()
    assert text in capsys.readouterr().out
    assert report["evaluation"] == "checkpoint" and report["data"] == ["librispeech/test.parquet"]
    assert report["command"].endswith("--protocols codec tokens --num-clips 1")
    assert report["checkpoint_sha256"] == checkpoint_hash(checkpoint)
    assert all(line in text for line in ("| metric | value | baselines |", "semantic tokens, PNMI", "**Codec**"))
    kept = tmp_path / "all.results" / "codec" / "report.json"
    time = kept.stat().st_mtime_ns
    monkeypatch.chdir(corpora / "ljspeech")
    assert main(["../" if argument == str(corpora) else argument for argument in arguments]) == 0
    assert kept.stat().st_mtime_ns == time
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"pytest-of" in path.read_bytes()] == []
    other = [*arguments, "--seed", "1", "--protocols", "codec"]
    assert main(other) == 1
    assert "different: seed (0, now 1)" in capsys.readouterr().err
    assert main([*other, "--overwrite"]) == 0
    assert kept.stat().st_mtime_ns > time
    assert json.loads((tmp_path / "all.json").read_text())["protocols"]["codec"]["num_clips"] == 1


@pytest.mark.slow
def test_likelihood_continuation_and_pictures(checkpoint, corpora, tmp_path):
    data = tmp_path / "data"
    for name in ("librispeech/test", "librispeech/train", "ljspeech/train"):
        rows = pq.read_table(corpora / f"{name}.parquet").to_pylist()
        for entry in rows:  # 3 s and 7 s are more than the clips have
            array = np.tile(sf.read(io.BytesIO(entry["audio"]["bytes"]), dtype="float32")[0], 5)[: 10 * RATE]
            entry |= row(entry["speaker"], entry["text"], array)
        (data / name).parent.mkdir(exist_ok=True, parents=True)
        pq.write_table(pa.Table.from_pylist(rows), data / f"{name}.parquet")
    evaluation = CheckpointEvaluation(checkpoint, data, tmp_path / "results", num_prompts=1, num_samples=1)
    report = evaluation.run(("likelihood", "continuation", "samples"))
    assert set(report["protocols"]["likelihood"]["stages"]) == {"semantic", "coarse", "fine"}
    assert report["protocols"]["continuation"]["num_prompts"] == 1
    (picture,) = report["protocols"]["samples"]["files"]
    path = tmp_path / "results" / "samples" / picture
    assert 1000 < path.stat().st_size <= 80_000
    assert read_provenance(path.with_suffix(".mp3"))["checkpoint"] == checkpoint.name
    assert sf.info(path.with_suffix(".mp3")).duration == pytest.approx(10, abs=0.2)
    text = format_checkpoint(from_json(to_json(report)))
    assert f"(samples/{picture})" in text and "best n-gram" in text


def test_the_midi_files_of_piano_are_inputs(checkpoint, tmp_path, monkeypatch):
    for name in ("test", "train", "midi_test"):
        (tmp_path / "piano").mkdir(exist_ok=True)
        (tmp_path / f"piano/{name}.parquet").write_text(name)
    protocol = replace(PROTOCOLS["tokens"], evaluate=lambda evaluation: {"figure": 1.0})
    monkeypatch.setitem(PROTOCOLS, "tokens", protocol)
    evaluation = CheckpointEvaluation(checkpoint, tmp_path, tmp_path / "results", "piano")
    evaluation.run(("tokens",))
    (tmp_path / "piano/midi_test.parquet").write_text("another")
    with pytest.raises(ValueError, match=r"different: train \(midi_test.parquet has other content\)"):
        evaluation.run(("tokens",))


def test_only_what_the_chosen_protocols_read_has_to_be_there(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "piano").mkdir()
    (tmp_path / "piano/test.parquet").write_text("test")
    monkeypatch.setitem(PROTOCOLS, "codec", replace(PROTOCOLS["codec"], evaluate=lambda evaluation: {"figure": 1.0}))
    evaluation = CheckpointEvaluation(checkpoint, tmp_path, tmp_path / "results", "piano")
    assert evaluation.run(("codec",))["protocols"] == {"codec": {"figure": 1.0}}
    with pytest.raises(FileNotFoundError, match="piano/train.parquet; give the folder"):
        evaluation.run(("codec", "likelihood"))


def test_what_is_missing_is_named(checkpoint, tmp_path):
    evaluation = CheckpointEvaluation(checkpoint, tmp_path, tmp_path / "results")
    with pytest.raises(FileNotFoundError, match=r"librispeech/test.parquet; give the folder that holds the corpora"):
        evaluation.run()
    with pytest.raises(ValueError, match=r"no protocols \['codecs'\]; choose from codec, tokens"):
        evaluation.run(("codecs",))


def test_a_protocol_from_outside_is_run_by_both_commands(checkpoint, corpora, tmp_path, monkeypatch, capsys):
    def measure(model):
        return {"systems": {"model": {"stages": float(len(model.stages))}}}

    def format_stages(result):
        return systems_table(result["systems"], {"stages": "stages"}) + "\n"

    protocol = CheckpointProtocol(
        "Stages",
        lambda evaluation: measure(evaluation.model),
        format_stages,
        lambda result: [headline("stages", "number of stages", result["systems"])],
        (),
    )
    monkeypatch.setitem(PROTOCOLS, "stages", protocol)

    def add_options(parser):
        add_checkpoint(parser, default=None)

    def evaluate(arguments, device):
        result = measure(AudioLMModel.from_pretrained(arguments.checkpoint))
        return result, format_stages(result)

    monkeypatch.setitem(EVALUATIONS, "stages", Evaluation("number of stages", "Count.", add_options, evaluate))
    assert main(["evaluate", "stages", "--checkpoint", str(checkpoint)]) == 0
    assert "model    3.000" in capsys.readouterr().out
    whole = ["evaluate", "checkpoint", "--checkpoint", str(checkpoint), "--data", str(corpora)]
    assert main([*whole, "-o", str(tmp_path / "all.json"), "--protocols", "stages"]) == 0
    text = capsys.readouterr().out
    assert "| number of stages | 3.000 |" in text and "**Stages**" in text
    report = json.loads((tmp_path / "all.json").read_text())
    assert report["protocols"] == {"stages": {"systems": {"model": {"stages": 3.0}}}}


def test_tokens_of_any_registered_tokenizer_are_evaluated(corpora):
    tokenizer = LoudnessTokenizer(LoudnessConfig(num_semantic_tokens=20))
    sources = [AudioSource([corpora / f"librispeech/{name}.parquet"], RATE) for name in ("test", "train")]
    result = evaluate_tokens(tokenizer, None, *sources)
    own = result["systems"]["semantic tokens"]
    assert own["pnmi"] > own["pnmi_shuffled"] and "abx_tokens_within" in own
    assert "abx_centroids_within" not in own and "abx_centroids_within" in result["systems"]["k-means on MFCC"]
    assert result["num_tokens"] == 20
    assert "semantic tokens" in format_tokens(result)
    names = [name for name, *_ in token_headlines(result)]
    assert names == ["semantic tokens, PNMI", "semantic tokens, speaker probe"]
