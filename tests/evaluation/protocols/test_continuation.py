# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The protocol on a tiny model, and its yardsticks: what really came next must beat the floors by its own metrics."""

import copy
import json

import numpy as np
import pytest
import soundfile as sf

from audiolm_hf.cli import main
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.evaluation.metrics.music import music_metrics
from audiolm_hf.evaluation.protocols import continuation as continuation_module
from audiolm_hf.evaluation.protocols.continuation import (
    ACOUSTIC_ONLY,
    TASKS,
    choose_recordings,
    continuation_headlines,
    continue_prompts,
    evaluate_continuation,
    format_continuation,
)
from tests.helpers_checkpoint import CLIP, OTHER_CLIP
from tests.helpers_parallel import parallel_audiolm, parallel_fields
from tests.helpers_sounds import C_MAJOR, EXAMPLES, RATE, needs_distillmos, needs_resemblyzer, notes


def write_source(folder, clips):
    """A source of (speaker, array) clips."""
    rows = []
    for number, (speaker, array) in enumerate(clips):
        sf.write(folder / f"{number}.wav", array, RATE)
        rows.append({"path": f"{number}.wav", "speaker": speaker, "text": f"piece {speaker}"})
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return AudioSource(folder / "list.jsonl", RATE)


@pytest.fixture(scope="module")
def speech():
    return sf.read(next(EXAMPLES.glob("*.flac")), dtype="float32")[0]


@pytest.fixture(scope="module")
def two_speakers(speech, tmp_path_factory):
    """Two recordings each of two real voices, the last of which is too short to be continued."""
    first, other = (sf.read(path, dtype="float32")[0] for path in (CLIP, OTHER_CLIP))
    clips = [("19", first), ("118", other), ("19", speech[: round(2.5 * RATE)]), ("118", other[RATE : 2 * RATE])]
    return write_source(tmp_path_factory.mktemp("speakers"), clips)


@needs_resemblyzer
def test_speech_stands_between_its_toplines_and_floors(tiny_audiolm, two_speakers):
    report = evaluate_continuation(tiny_audiolm, two_speakers, 2, 1.2, 1.2, seed=3)
    json.dumps(report)
    systems = report["systems"]
    floors = ["another speaker", "prompt again", "white noise", "silence"]
    assert list(systems) == ["model", "real", "resynthesis", *floors]
    assert set(systems["model"]) == set(TASKS["speech"].metrics) - {"quality"}
    assert systems["real"]["speaker_similarity"] > systems["another speaker"]["speaker_similarity"] + 0.05
    assert systems["real"]["speaker_similarity"] > systems["white noise"]["speaker_similarity"]
    assert systems["real"]["speaker_found"] == 1 > systems["another speaker"]["speaker_found"]
    assert systems["silence"]["silence_share"] == 1
    assert systems["prompt again"]["repetition"] > 0.99
    assert systems["white noise"]["flatness"] > systems["real"]["flatness"]
    assert report["differences"]["real"]["loudness_db"]["mean"] == pytest.approx(
        systems["model"]["loudness_db"] - systems["real"]["loudness_db"]
    )
    assert report["intervals"]["real"]["loudness_db"]["count"] == report["num_prompts"] == 2
    assert (
        "chance among 2 speakers: 0.500"
        in dict(row[::2] for row in continuation_headlines(report))["continuation, found"]
    )
    text = format_continuation(report)
    assert all(
        name in text
        for name in (
            *systems,
            "2 prompts of 1.2 s, continued once",
            "model minus it",
            "nearest of 2 speakers of all recordings, chance 0.500",
        )
    )


def test_piano_stands_between_its_toplines_and_floors(tiny_audiolm, tmp_path):
    clips = [(f"piece {key}", notes([pitch + key for pitch in C_MAJOR * 2], 0.1)) for key in (0, 6)]
    report = evaluate_continuation(tiny_audiolm, write_source(tmp_path, clips), 2, 1.2, 1.2, kind="piano")
    systems = report["systems"]
    assert set(systems["model"]) == set(TASKS["piano"].metrics)
    assert systems["real"]["key_agreement"] == 1 > systems["another piece"]["key_agreement"]
    assert systems["real"]["pitch_class_similarity"] > 0.9 > systems["another piece"]["pitch_class_similarity"]
    assert systems["silence"]["key_agreement"] == 0
    assert "pitch classes" in format_continuation(report)


def test_the_sound_alone_goes_on_where_the_stage_learned_to_and_decodes_as_the_model_does(tiny_audiolm, tmp_path):
    model = copy.deepcopy(tiny_audiolm)
    model.config.coarse_config.condition_dropout = 0.5
    model.generation_config.use_fine_stage = False
    clips = [(f"piece {key}", notes([pitch + key for pitch in C_MAJOR * 2], 0.1)) for key in (0, 6)]
    source = write_source(tmp_path, clips)
    report = evaluate_continuation(model, source, 2, 1.2, 1.2, kind="piano", seed=1)
    assert list(report["systems"])[:5] == ["model", ACOUSTIC_ONLY, "real", "resynthesis", "resynthesis, coarse codes"]
    without = evaluate_continuation(model, source, 2, 1.2, 1.2, kind="piano", seed=1, coarse_guidance_scale=0.0)
    assert report["rows"][ACOUSTIC_ONLY] == without["rows"]["model"] != report["rows"]["model"]
    assert report["rows"]["resynthesis"] != report["rows"]["resynthesis, coarse codes"]


def test_the_sound_alone_is_that_of_the_stages_which_generate(tmp_path):
    model = parallel_audiolm(parallel_config=parallel_fields(condition_dropout=0.5))
    clips = [(f"piece {key}", notes([pitch + key for pitch in C_MAJOR * 2], 0.1)) for key in (0, 6)]
    source = write_source(tmp_path, clips)
    for mode, has_floor in (("hierarchical", False), ("parallel", True)):
        report = evaluate_continuation(model, source, 2, 1.2, 1.2, kind="piano", acoustic_mode=mode)
        assert (ACOUSTIC_ONLY in report["systems"]) == has_floor


def test_metrics_are_those_of_the_seed(tiny_audiolm, tmp_path):
    source = write_source(tmp_path, [("piece", notes(C_MAJOR, 0.1))])
    first, again, other = (
        evaluate_continuation(tiny_audiolm, source, 1, 0.6, 0.3, seed, kind="piano")["rows"] for seed in (0, 0, 1)
    )
    assert json.dumps(first) == json.dumps(again)  # NaN, which equals nothing, is among them
    assert first["model"] != other["model"] and first["white noise"] != other["white noise"]
    assert json.dumps(first["real"]) == json.dumps(other["real"])


def test_a_prompts_metrics_are_the_means_of_its_continuations_and_of_the_others(tiny_audiolm, tmp_path):
    clips = [(f"piece {key}", notes([pitch + key for pitch in C_MAJOR * 2], 0.1)) for key in (0, 6, 3)]
    source = write_source(tmp_path, clips)
    report = evaluate_continuation(tiny_audiolm, source, 3, 0.6, 0.6, kind="piano", num_continuations=2)
    assert (report["num_continuations"], report["num_others"]) == (2, continuation_module.NUM_OTHERS)
    prompt, real = source[0].array[: round(0.6 * RATE)], source[0].array[round(0.6 * RATE) : round(1.2 * RATE)]
    (made,) = continue_prompts(tiny_audiolm, prompt[None], 0.6, seed=0, num_continuations=2)
    assert not np.array_equal(*made) and {len(array) for array in made} == {len(real)}
    expected = np.mean([music_metrics(array, prompt, RATE)["pitch_class_similarity"] for array in made])
    assert report["rows"]["model"][0]["pitch_class_similarity"] == pytest.approx(expected)
    others = [source[place].array[round(0.6 * RATE) : round(1.2 * RATE)] for place in (1, 2)]
    expected = np.mean([music_metrics(array, prompt, RATE)["pitch_class_similarity"] for array in others])
    assert report["rows"]["another piece"][0]["pitch_class_similarity"] == pytest.approx(expected)


def test_without_resemblyzer_or_other_speakers_their_metrics_are_left_out(tiny_audiolm, speech, tmp_path, monkeypatch):
    monkeypatch.setattr(continuation_module, "speaker_embedding_is_available", lambda: False)
    source = write_source(tmp_path, [("ann", speech[: 2 * RATE])])
    report = evaluate_continuation(tiny_audiolm, source, 2, 0.9, 0.5)
    assert "another speaker" not in report["systems"]
    assert "speaker_similarity" not in report["systems"]["model"]
    assert "pip install --no-deps resemblyzer" in format_continuation(report)


@needs_distillmos
def test_quality_is_measured_on_demand(tiny_audiolm, two_speakers, monkeypatch):
    monkeypatch.setattr(continuation_module, "speaker_embedding_is_available", lambda: False)
    report = evaluate_continuation(tiny_audiolm, two_speakers, 1, 1.2, 1.2, quality=True)
    quality = {name: metrics["quality"] for name, metrics in report["systems"].items()}
    assert quality["real"] > quality["white noise"] + 0.5 and np.isnan(quality["silence"])
    assert report["differences"]["real"]["quality"]["mean"] == pytest.approx(quality["model"] - quality["real"])
    assert "DistillMOS" in format_continuation(report)
    assert [row[0] for row in continuation_headlines(report)] == ["continuation, DistillMOS"]


def test_without_its_package_or_of_piano_quality_is_an_error_before_any_work(tmp_path, capsys, monkeypatch):
    data = ["--data", str(OTHER_CLIP), "--quality", "--checkpoint", "speech-tiny"]
    for command, message in (
        (["continuation", "--kind", "piano", *data], "of speech, not of piano; leave out --quality"),
        (["continuation", "--length-s", "600", *data], "leave out --quality"),
    ):
        assert main(["evaluate", *command]) == 1
        assert message in capsys.readouterr().err
    monkeypatch.setattr("audiolm_hf.evaluation.metrics.quality.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("audiolm_hf.modeling_audiolm.AudioLMModel.from_pretrained", None)
    checkpoint = ["checkpoint", "--checkpoint", "speech-tiny", "--data", str(tmp_path), "--quality"]
    for command in (["continuation", *data], [*checkpoint, "-o", str(tmp_path / "report.json")]):
        assert main(["evaluate", *command]) == 1
        assert "pip install --no-deps distillmos" in capsys.readouterr().err


def test_speakers_take_turns(two_speakers):
    chosen = choose_recordings(two_speakers, 2 * RATE, 9)
    assert [record.speaker for record in chosen] == ["19", "118", "19"]
    assert chosen[0].id != chosen[2].id
    assert len(choose_recordings(two_speakers, RATE // 2, 2)) == 2


def test_recordings_that_are_too_short_are_an_error(tiny_audiolm, two_speakers):
    with pytest.raises(ValueError, match=r"No recording lasts 10.0 s \(the longest 2.9 s\)"):
        evaluate_continuation(tiny_audiolm, two_speakers)
    assert np.isfinite(two_speakers.durations).all()
