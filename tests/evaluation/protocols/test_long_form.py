# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Long continuations, measured block by block beside their prompts."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from audiolm_hf import cli
from audiolm_hf.evaluation.metrics.spectrograms import level_db
from audiolm_hf.evaluation.protocols.long_form import evaluate_long_form, format_long_form
from tests.evaluation.protocols.test_continuation import write_source
from tests.helpers_checkpoint import CLIP, OTHER_CLIP
from tests.helpers_sounds import needs_resemblyzer


class Fading:
    """Continues any prompt by what it is given, one block after the other, each half as loud."""

    sampling_rate = 16000
    device = torch.device("cpu")

    def stream(self, input_values, *, continuation_length_s, min_continuation_length_s, seed, chunk_s):
        assert min_continuation_length_s == continuation_length_s
        left = round(continuation_length_s * self.sampling_rate)
        block = input_values[0].repeat(1000)[: round(chunk_s * self.sampling_rate)]
        while left > 0:
            yield block[:left]
            block, left = block / 2, left - len(block)


@needs_resemblyzer
def test_drift_is_seen_block_by_block(tmp_path):
    clips = [(path.stem, sf.read(path, dtype="float32")[0]) for path in (CLIP, OTHER_CLIP)]
    report = evaluate_long_form(Fading(), write_source(tmp_path, clips), 2, 1.0, 30.5, seed=0)
    json.dumps(report)
    assert list(report["blocks"]) == ["prompt", "real", "0-10 s", "10-20 s", "20-30 s"]  # half a second is left out
    prompt, _, first, second, third = report["blocks"].values()
    assert first["loudness_db"] == pytest.approx(prompt["loudness_db"], abs=0.1)
    assert second["loudness_db"] == pytest.approx(first["loudness_db"] - 6.02, abs=0.1)
    assert report["drift"]["loudness_db"]["mean"] == pytest.approx(-12.04, abs=0.1)
    assert third["silence_share"] > first["silence_share"]
    assert first["speaker_similarity"] > 0.8 and prompt["timbre_similarity"] == pytest.approx(1.0)
    text = format_long_form(report)
    assert "20-30 s" in text and "speaker" in text


def test_music_has_no_speaker(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(80000).astype(np.float32)
    report = evaluate_long_form(Fading(), write_source(tmp_path, [("a", noise)]), 1, 1.0, 20.0, kind="piano")
    assert "speaker_similarity" not in report["drift"]
    assert report["blocks"]["real"]["loudness_db"] == pytest.approx(level_db(noise[16000:]), abs=0.1)


def test_long_continuations_are_made_once(tmp_path, capsys):
    (tmp_path / "list.jsonl").write_text("")
    arguments = ["--data", str(tmp_path / "list.jsonl"), "--num-continuations", "2", "--checkpoint", "speech-tiny"]
    assert cli.main(["evaluate", "continuation", "--length-s", "600", *arguments]) == 1
    assert "each prompt is continued once; leave out --num-continuations" in capsys.readouterr().err
