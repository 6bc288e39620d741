# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The page's functions and figure, without a browser. With one: test_space.py."""

import asyncio
import logging
import math
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.colors import to_rgb

import audiolm_hf
from audiolm_hf import read_audio
from tests.helpers_checkpoint import CLIP, ROOT, tiny_processor
from tests.helpers_parallel import parallel_audiolm

gr = pytest.importorskip("gradio")
demo = pytest.importorskip("audiolm_hf.demo")

OWN = (None, None, None, None, None)  # acoustic mode, and temperatures of four stages: those of the checkpoint
PIANO_CARD = Path(audiolm_hf.checkpoint("piano-tiny")) / "README.md"


def build(function, *arguments):
    """Call a function that builds a page in an event loop; without one, Gradio opens some and never closes them."""

    async def call():
        return function(*arguments)

    return asyncio.run(call())


def make_page(checkpoints, folder):
    with gr.Blocks():
        return demo.Page(checkpoints, folder)


@pytest.fixture(scope="module")
def whole():
    return parallel_audiolm()


@pytest.fixture
def page(whole, tiny_audiolm, tmp_path):
    pipes = [audiolm_hf.pipeline(model, processor=tiny_processor(), device="cpu") for model in (whole, tiny_audiolm)]
    offered = {name: demo.Checkpoint(name, pipe, name) for name, pipe in zip(("both", "one"), pipes, strict=True)}
    return build(make_page, offered, str(tmp_path))


def last(page, *inputs):
    """The result of the endpoint, and the files it wrote, read before they are removed."""
    for audio, _, facts in page.continue_audio(*inputs):
        return [read_audio(path)[0][0] for path in audio], facts
    return None


def test_a_prompt_becomes_files_with_pictures_facts_and_provenance(page, tmp_path):
    for audio, pictures, facts in page.continue_audio(str(CLIP), "one", 1.0, 3, 2, *OWN):
        for seed, path, picture in zip((3, 4), audio, pictures, strict=True):
            assert Path(picture).read_bytes()[:4] == b"\x89PNG"
            assert audiolm_hf.read_provenance(path).items() >= {"seed": seed, "checkpoint": "one"}.items()
        assert facts == [{"seed": seed, "prompt_s": 2.5, "length_s": 3.5} for seed in (3, 4)]
    assert list(tmp_path.iterdir()) == []


def test_each_continuation_is_that_of_its_seed_alone(page, tiny_audiolm):
    pipe = page.checkpoints["one"].pipe
    made, _ = last(page, str(CLIP), "one", 1.0, 3, 2, *OWN)
    for seed, audio in zip((3, 4), made, strict=True):
        own = pipe(str(CLIP), continuation_length_s=1.0, min_continuation_length_s=1.0, seed=seed)["audio"]
        np.testing.assert_allclose(audio, own, atol=1.01 / 2**15)


def test_the_mode_and_the_temperatures_reach_the_stages(page):
    inputs = (str(CLIP), "both", 1.0, 0, 1)
    own, _ = last(page, *inputs, *OWN)
    for changed in (("parallel", *OWN[1:]), (None, 5.0, None, None, None), (None, None, 5.0, None, None)):
        assert (last(page, *inputs, *changed)[0][0] != own[0]).any()
    assert (last(page, *inputs, "hierarchical", *OWN[1:])[0][0] == own[0]).all()


def test_chunks_play_while_bars_of_all_stages_move(page):
    seen = [*page.show([], 0, str(CLIP), "one", 1.0, 0, 1, *OWN)]
    bars = [update[page.status] for update in seen if page.status in update]
    for stage in ("semantic", "coarse", "fine"):
        assert f"<span>{stage} stage</span>" in bars[0] and "parallel" not in bars[0]
    assert "Continuation 1 of 1: 0.0 of 1 s" in bars[0] and "Generated in" in bars[-1]
    assert bars[-1].count("<span>100%</span>") == 3
    chunks = [update[page.live] for update in seen if update.get(page.live)]
    assert sum(read_audio(chunk)[0].shape[1] for chunk in chunks) == 56000 * page.plays
    audio = page.results[0][0]
    assert next(update for update in seen if audio in update)[audio]["label"] == "Prompt + continuation 1, seed 0"


@pytest.mark.parametrize(("bias", "verdict"), [(2.0, "real"), (-2.0, "generated")])
def test_the_detector_of_a_checkpoint_judges_the_continuation(bias, verdict, tiny_audiolm, tmp_path):
    folder = audiolm_hf.export_checkpoint(tiny_audiolm, tiny_processor(), tmp_path / "one", with_code=False)
    config = audiolm_hf.AudioLMDetectorConfig()
    detector = audiolm_hf.AudioLMDetectorForAudioClassification(config)
    detector.classifier.weight.data.zero_()
    detector.classifier.bias.data[1] = bias
    audiolm_hf.export_checkpoint(detector, None, folder / "detector", with_code=False)
    loaded = demo.Checkpoint.load(str(folder), "cpu")
    score = round(1 / (1 + math.exp(-bias)), 3)
    judged = loaded.judge(read_audio(CLIP)[0][0])
    assert judged == {"verdict": verdict, "score": score, "most_suspicious_s": [0.0, 2.48]}
    page = build(make_page, {"one": loaded}, str(tmp_path))
    shown = page._show_result(0, {"audio": "a", "picture": "b", "seed": 0, "verdict": verdict, "score": score})
    assert f"is **{verdict}** (score {score:.2f}" in shown[page.results[0][2]]["value"]


def test_the_options_shown_are_those_of_the_chosen_checkpoint(page):
    def shown(name, chosen=None):
        about, mode, *temperatures = page.show_checkpoint(name, chosen)
        assert mode["value"] == chosen
        return about["value"], mode["visible"], [own["visible"] for own in temperatures]

    assert page.options == [f"{stage}_temperature" for stage in ("semantic", "coarse", "fine", "parallel")]
    assert shown("both") == shown("both", "hierarchical") == ("both", True, [True, True, True, False])
    assert shown("both", "parallel") == ("both", True, [True, False, False, True])
    assert shown("one") == ("one", False, [True, True, True, False])
    # What was set for a stage that no longer runs is reset.
    assert [update["value"] for update in page.update("both", "parallel")[2:]] == [
        update["value"] for update in page.update("both")[2:]
    ]
    assert page.show_checkpoint("one")[3]["value"] == 0.8


def test_the_page_has_what_the_card_says_of_the_checkpoint_and_its_limits(tmp_path):
    about = demo.describe(str(PIANO_CARD.parent))
    assert about.startswith("A small AudioLM (arXiv 2209.03143) for 16 kHz piano")
    assert "The training data are one synthesized piano" in about and "## " not in about
    assert demo.describe(str(tmp_path)).startswith("This checkpoint has no model card")


def test_the_figure_shows_all_of_the_sound_in_colours_for_light_and_dark():
    audio = np.sin(np.linspace(0, 2000, 24000)).astype(np.float32)
    figure = demo.plot_audio(audio, 16000, 8000)
    wave, mel = figure.axes
    prompt, new, boundary = wave.lines
    assert len(prompt.get_xdata()) == 8000 and len(new.get_xdata()) == 16000
    assert boundary.get_xdata()[0] == mel.lines[0].get_xdata()[0] == 0.5
    assert tuple(wave.get_xlim()) == (0, 1.5) and tuple(mel.images[0].get_extent()[:2]) == (0, 1.5)
    for color in (demo.PROMPT_COLOR, demo.CONTINUATION_COLOR):
        assert min(contrast(color, page) for page in ("#ffffff", "#1e293b")) > 3  # WCAG's least for graphics


def contrast(color, other):
    """The ratio of two colours' luminances, as WCAG 2 defines it."""

    def luminance(name):
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(name)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(color), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: None}, "no prompt yet"),
        ({0: "missing.wav"}, "does not exist"),
        ({0: str(ROOT / "LICENSE")}, "cannot be decoded"),
        ({3: None}, "There is no seed"),
        ({3: -3}, "seed is -3"),
        ({5: "parallel"}, "acoustic_mode is 'parallel', but the model has the stages semantic, coarse, fine"),
        ({6: -1.0}, "semantic_temperature is -1.0"),
        ({9: 1.0}, "no parallel stage"),
    ],
)
def test_misuse_is_shown_to_the_visitor(page, change, message):
    inputs = {**dict(enumerate((str(CLIP), "one", 1.0, 0, 1, *OWN))), **change}
    for function in (partial(page.show, [], 0), page.continue_audio):
        with pytest.raises(gr.Error, match=message):
            next(function(*inputs.values()))


def test_a_continuation_ends_when_stop_is_pressed_after_continue(page):
    stops, inputs = [1], (str(CLIP), "one", 1.0, 0, 1, *OWN)
    again = page.show(stops, 1, *inputs)
    assert "Stopped." not in [next(again), next(again)][1][page.status]
    stops.append(2)
    for shown in (again, page.show(stops, 1, *inputs)):
        assert "Stopped." in [*shown][-1][page.status]


def test_errors_have_no_paths_of_the_server(page, tmp_path):
    (tmp_path / "gradio" / "abc").mkdir(parents=True)
    text = tmp_path / "gradio" / "abc" / "notes.wav"
    text.write_text("no audio")
    with pytest.raises(gr.Error, match="The audio file '?notes.wav'? cannot be decoded") as caught:
        next(page.show([], 0, str(text), "one", 1.0, 0, 1, *OWN))
    assert str(tmp_path) not in str(caught.value)


def test_a_long_prompt_is_refused_before_it_is_whole_in_memory(page, tmp_path):
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 16000, 8) as file:
        for _ in range(60):
            file.write(np.zeros((160_000, 8), np.float32))
    assert path.stat().st_size < 2**20  # ten minutes of eight channels, 307 MB once decoded
    tracemalloc.start()
    try:
        with pytest.raises(gr.Error, match="lasts more than 30 s"):
            next(page.show([], 0, str(path), "one", 1.0, 0, 1, *OWN))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20


def test_folders_of_one_name_cannot_be_told_apart(tmp_path):
    names = [tmp_path / place / "model" for place in "ab"]
    for folder in names:
        folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="have the same name; rename a folder"):
        demo.build_demo([str(folder) for folder in names])


def test_visitors_wait_in_a_queue_and_their_files_are_deleted_after_an_hour(monkeypatch, caplog):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # put back after the test
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(demo, "set_threads", lambda model, threads: f"{threads} threads (as asked)")
    page = build(demo.build_demo, ["speech-tiny"], "cpu", 2)
    assert "speech-tiny on cpu, 2 threads (as asked)" in caplog.text
    with page.temporary_folder as folder:
        assert page.delete_cache == (600, 3600)
        (examples,) = (part for part in page.blocks.values() if isinstance(part, gr.Dataset))
        assert [prompt for prompt, _ in examples.raw_samples] == [audiolm_hf.example_prompt("speech-tiny")]
        assert not [*Path(folder).rglob("*.flac")]  # examples are read in place: copies would be deleted, too
        assert all(f"{folder}/gradio" == part.GRADIO_CACHE for part in page.blocks.values())
    limits = [call.concurrency_limit for call in page.fns.values() if call.concurrency_id == "model"]
    assert limits == [1, 1] and page._queue.max_size == 32
