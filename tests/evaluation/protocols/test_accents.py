# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Groups of speakers: known differences are found, chance is not, small groups are guarded; table, plot and card."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from audiolm_hf import AudioLMDetectorConfig, AudioLMDetectorForAudioClassification, cli, export_checkpoint
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.metrics.speaker import speaker_embedding_is_available
from audiolm_hf.evaluation.protocols.accents import format_accents, plot_groups, summarize_groups, worst_minus_best
from tests.helpers_checkpoint import CLIP, DATA, OTHER_CLIP, tiny_model, tiny_processor

needs_embedder = pytest.mark.skipif(not speaker_embedding_is_available(), reason="resemblyzer is not installed")


def rows_of(values):
    """Rows of {group: {speaker: values of the clips}}, with a metric that is better if higher, and one if lower."""
    return [
        {"group": group, "speaker": speaker, "recording": f"{speaker}{clip}", "continuation": value, "bits": value}
        for group, speakers in values.items()
        for speaker, clips in speakers.items()
        for clip, value in enumerate(clips)
    ]


def test_clips_of_a_speaker_are_averaged_first():
    result = summarize_groups(rows_of({"north": {"ann": [1.0, 1.0, 1.0], "bob": [0.0]}}), min_speakers=2)
    assert result["groups"]["north"]["continuation"]["mean"] == 0.5
    assert result["groups"]["north"]["num_speakers"] == 2 and result["groups"]["north"]["num_clips"] == 4
    assert result["gaps"] == {}


def test_worst_and_best_depend_on_the_metrics_direction_and_small_groups_are_not_compared():
    rng = np.random.default_rng(0)
    values = {
        group: {f"{group}{number}": [mean + 0.01 * rng.standard_normal()] for number in range(count)}
        for group, mean, count in (("low", 0.2, 6), ("high", 0.8, 6), ("middle", 0.5, 6), ("few", 0.0, 4))
    }
    result = summarize_groups(rows_of(values), min_speakers=5)
    for title, worst, best, sign in (("continuation", "low", "high", -1), ("bits", "high", "low", 1)):
        gap = result["gaps"][title]
        assert (gap["worst"], gap["best"]) == (worst, best)
        assert gap["low"] < gap["difference"] < gap["high"] and gap["difference"] == pytest.approx(
            0.6 * sign, abs=0.02
        )
        assert abs(gap["difference"]) > gap["by_chance"]
    assert result["groups"]["few"]["num_speakers"] == 4


def test_random_groups_rarely_differ_more_than_by_chance():
    rng = np.random.default_rng(0)
    gaps = [worst_minus_best({name: rng.random(6) for name in "abcd"}, True, seed) for seed in range(60)]
    assert all(gap["difference"] <= 0 for gap in gaps)  # the worst of four is below the best, whatever they are
    assert sum(abs(gap["difference"]) > gap["by_chance"] for gap in gaps) <= 8  # 5 % of 60 are 3


def test_labels_are_of_the_recordings_or_any_column_of_parquet_files(tmp_path):
    bytes_ = CLIP.read_bytes()
    rows = [{"audio": {"bytes": bytes_}, "gender": gender, "accent": "us"} for gender in ("f", None, "m")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    source = AudioSource(tmp_path / "a.parquet")
    assert source.labels("accent") == ["us"] * 3 and source.labels("gender") == ["f", "", "m"]
    with pytest.raises(ValueError, match="has no label 'age'; it has audio, gender, accent"):
        source.labels("age")
    with pytest.raises(ValueError, match=r"has no label 'age'; it has speaker, accent, source"):
        AudioSource(CLIP).labels("age")


@needs_embedder
def test_the_command_writes_table_and_plot(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("audiolm_hf.evaluation.protocols.accents.NUM_RESAMPLES", 100)
    tiny_model().save_pretrained(tmp_path / "tiny")
    tiny_processor().save_pretrained(tmp_path / "tiny")
    config = AudioLMDetectorConfig()
    detector = AudioLMDetectorForAudioClassification(config)
    export_checkpoint(detector, None, tmp_path / "tiny" / "detector", with_code=False)
    clips = [CLIP, OTHER_CLIP, DATA / "librispeech_7859-102519-0047.flac"]
    names = zip([*clips, CLIP], ("north", "south", "south", "unlabelled"), strict=True)
    rows = [{"path": str(path), "accent": accent, "speaker": path.stem} for path, accent in names]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["evaluate", "accents", "--checkpoint", str(tmp_path / "tiny"), "--data", str(tmp_path / "list.jsonl")]
    arguments += ["--prompt-length-s", "1.2", "--length-s", "1", "-o", str(tmp_path / "new" / "out.json")]
    options = ["--detector", str(tmp_path / "tiny"), "--min-speakers", "1"]
    assert cli.main([*arguments, *options]) == 0
    printed = capsys.readouterr().out
    assert "continuation / own" in printed and "coarse stage, bits/s" in printed and "called generated" in printed
    assert "no proof that there is none" in printed
    report = json.loads((tmp_path / "new" / "out.json").read_text())
    assert {name: group["num_clips"] for name, group in report["groups"].items()} == {"north": 1, "south": 2}
    assert report["gaps"] == {}  # one speaker has no spread, whatever is asked for
    assert all(0 < row["coarse stage, bits/s"] < 10_000 for row in report["rows"])
    assert report["command"].startswith("audiolm-hf evaluate accents") and report["data"][0].endswith("list.jsonl")
    with Image.open(tmp_path / "new" / "out.png") as image:
        assert image.width > 500
    assert cli.main([*arguments, "--card", "README.md"]) == 1
    assert "--card was removed: audiolm-hf card writes the model card" in capsys.readouterr().err
    assert cli.main([*arguments, "--group-by", "age"]) == 1
    assert "has no label 'age'" in capsys.readouterr().err
    assert cli.main([*arguments, "--length-s", "30"]) == 1
    assert "No recording of 31.2 s has the label accent" in capsys.readouterr().err


def test_the_table_names_what_is_above_chance():
    values = {group: {f"{group}{n}": [mean + n / 100] for n in range(5)} for group, mean in (("a", 0), ("b", 1))}
    settings = {"group_by": "accent", "prompt_length_s": 2, "length_s": 2, "min_speakers": 5, "seed": 0}
    lines = format_accents(summarize_groups(rows_of(values)) | settings).splitlines()
    for cells in (["continuation", "a", "b", "-1.000"], ["bits", "b", "a", "+1.000"]):
        (line,) = (line for line in lines if line.split()[:4] == cells)
        assert line.endswith("yes")


def test_labels_are_drawn_as_they_are(tmp_path):
    rows = [{"group": group, "speaker": group, "recording": group, "continuation": 0.5} for group in (r"$a\b$", "$_{")]
    plot_groups(summarize_groups(rows) | {"min_speakers": 5}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
