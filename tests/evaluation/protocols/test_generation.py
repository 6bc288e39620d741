# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Audio from semantic tokens: agreement of tokens, and words by a recognizer."""

import json

import numpy as np
import pytest
import torch

from audiolm_hf import cli
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.protocols.generation import (
    error_rates,
    evaluate_generation,
    format_generation,
    normalize_text,
    token_agreement,
)
from tests.helpers_checkpoint import CLIP, OTHER_CLIP, tiny_model, tiny_processor


@pytest.fixture(scope="module")
def transcribed(tmp_path_factory):
    path = tmp_path_factory.mktemp("transcribed") / "list.jsonl"
    rows = [{"path": str(CLIP), "text": "ONE TWO"}, {"path": str(OTHER_CLIP), "text": "THREE FOUR"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_tokens_agree_as_far_as_both_go():
    assert token_agreement(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 0, 3])) == pytest.approx(2 / 3)


def test_words_are_compared_with_the_transcripts(transcribed):
    source = AudioSource(transcribed)
    words = {len(record.array): record.text.lower() for record in source}
    calls = []

    def recognize(array, rate):  # it knows recordings by their length; generated audio has whole frames
        calls.append(rate)
        return words.get(len(array), "one two five")

    report = evaluate_generation(tiny_model().eval(), source, 2, recognize=recognize)
    systems = report["systems"]
    assert list(systems) == ["model", "resynthesis", "real", "another recording"] and calls == [16000] * 6
    assert systems["real"] == {"token_agreement": 1.0, "wer": 0.0, "cer": 0.0}
    assert systems["model"]["wer"] == pytest.approx((1 + 3) / 4)
    assert 0 <= systems["model"]["token_agreement"] < 1 and "wer" not in systems["another recording"]
    assert report["texts"]["reference"] == ["ONE TWO", "THREE FOUR"]
    text = format_generation(report)
    assert "words of 2 transcripts" in text and "100.0" in text


def test_audio_is_generated_in_the_voice_of_another_recording(tmp_path, monkeypatch):
    path = tmp_path / "list.jsonl"
    clips = ((CLIP, "a"), (OTHER_CLIP, "b"), (CLIP, "b"), (OTHER_CLIP, "a"))
    path.write_text("\n".join(json.dumps({"path": str(clip), "speaker": speaker}) for clip, speaker in clips))
    source, model, given = AudioSource(path), tiny_model().eval(), []
    generate = model.generate

    def watched(prompt, **options):
        given.append(prompt[0])
        return generate(prompt, **options)

    monkeypatch.setattr(model, "generate", watched)
    report = evaluate_generation(model, source, 4, prompt_length_s=0.5)
    for number, other in enumerate((3, 2, 1, 0)):
        assert torch.equal(given[number], torch.from_numpy(source[other].array[:8000]))
    assert report["prompt_length_s"] == 0.5 and "after 0.5 s of another recording" in format_generation(report)
    with pytest.raises(ValueError, match="speaker 'a', of whom no other recording is long enough for a prompt"):
        evaluate_generation(model, source, 3, prompt_length_s=0.5)


def test_the_command_without_a_recognizer_and_without_texts(tmp_path, capsys):
    tiny_model().save_pretrained(tmp_path / "tiny")
    tiny_processor().save_pretrained(tmp_path / "tiny")
    arguments = ["evaluate", "generation", "--checkpoint", str(tmp_path / "tiny"), "--data", str(CLIP)]
    assert cli.main([*arguments, "-o", str(tmp_path / "out.json")]) == 0
    assert "same tokens %" in (printed := capsys.readouterr().out) and "WER" not in printed
    assert json.loads((tmp_path / "out.json").read_text())["num_clips"] == 1
    with pytest.raises(ValueError, match="No recording has a `text`"):
        evaluate_generation(tiny_model().eval(), AudioSource(CLIP), 1, recognize=lambda array, rate: "")


def test_rates_are_errors_over_all_words_and_letters():
    rates = error_rates(["THE CAT SAT", "on a mat"], ["the cat, sat.", "on mat too"])
    assert rates["wer"] == pytest.approx(2 / 6)  # a missing, too one too many
    assert rates["cer"] == pytest.approx(5 / 19)  # 2 letters missing, 3 of " too" and a space
    assert error_rates(["one"], ["a b c"])["wer"] == 3.0  # insertions count, so that a rate can exceed 1
    assert np.isnan(error_rates([""], ["a"])["wer"])


def test_letters_of_all_languages_and_apostrophes_stay():
    assert normalize_text(" Don\u2019t -- 'Stop',  Zoë_2! ") == "don't stop zoë 2"
