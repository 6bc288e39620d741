# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The page's function and figure, without a server. With one: test_space.py."""

from pathlib import Path

import numpy as np
import pytest

import audiolm_hf
from audiolm_hf import read_audio
from tests.helpers_checkpoint import CLIP, tiny_processor

gr = pytest.importorskip("gradio")
demo = pytest.importorskip("audiolm_hf.demo")


@pytest.fixture
def continuation(tiny_audiolm, tmp_path):
    pipe = audiolm_hf.pipeline(tiny_audiolm, processor=tiny_processor(), device="cpu")
    return demo.make_continuation(pipe, "tiny", tmp_path)


class Progress:
    def __init__(self) -> None:
        self.seen: list[tuple] = []

    def __call__(self, step: tuple[int, int], desc: str, unit: str) -> None:
        self.seen.append((desc, *step))


def test_a_prompt_becomes_a_file_and_a_figure(continuation, tmp_path):
    progress = Progress()
    path, figure = continuation(str(CLIP), 1.0, 0, progress)
    audio, prompt = read_audio(path)[0][0], read_audio(CLIP)[0][0]
    assert Path(path).parent == tmp_path
    assert len(audio) == len(prompt) + 16000
    np.testing.assert_allclose(audio[: len(prompt)], prompt, atol=1.01 / 2**15)
    boundaries = [line.get_xdata()[0] for axis in figure.axes for line in axis.lines if line.get_linestyle() == "--"]
    assert boundaries == [2.5, 2.5]
    assert list(dict.fromkeys(stage for stage, *_ in progress.seen)) == [
        "semantic stage",
        "coarse stage",
        "fine stage",
    ]


def test_the_figure_shows_all_of_the_sound():
    audio = np.sin(np.linspace(0, 2000, 24000)).astype(np.float32)
    figure = demo.plot_audio(audio, 16000, 8000)
    wave, mel = figure.axes
    prompt, new, _ = wave.lines
    assert len(prompt.get_xdata()) == 8000 and len(new.get_xdata()) == 16000
    assert tuple(wave.get_xlim()) == (0, 1.5) and tuple(mel.images[0].get_extent()[:2]) == (0, 1.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 1.0, 0), "no prompt yet"),
        (("missing.wav", 1.0, 0), "does not exist"),
        ((str(CLIP), 0, 0), "length is 0 s"),
        ((str(CLIP), 1000.0, 0), "length is 1000.0 s"),
        ((str(CLIP), 1.0, None), "seed is None"),
        ((str(CLIP), 1.0, -3), "seed is -3"),
        ((str(CLIP), 1.0, 0.5), "seed is 0.5"),
    ],
)
def test_misuse_is_shown_to_the_visitor(continuation, arguments, message):
    with pytest.raises(gr.Error, match=message):
        continuation(*arguments, Progress())


def test_a_long_prompt_is_refused_before_the_work(continuation, tmp_path):
    long = np.tile(read_audio(CLIP)[0][0], 13)
    path = audiolm_hf.write_audio(tmp_path / "long.wav", long, 16000)
    with pytest.raises(gr.Error, match="lasts 32.5 s; give at most 30 s"):
        continuation(str(path), 1.0, 0, Progress())
