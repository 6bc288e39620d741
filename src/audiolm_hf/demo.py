# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The Gradio app of the Space: upload or record a prompt, play its continuation, see where that begins."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from matplotlib.figure import Figure
from transformers.utils import logging

from audiolm_hf.bundled import DEFAULT_CHECKPOINT, example_prompt, resolve_checkpoint
from audiolm_hf.hub import pipeline
from audiolm_hf.modeling_semantic_tokenizer_audiolm import log_mel_spectrogram
from audiolm_hf.threads import set_threads

logger = logging.get_logger(__name__)

PROMPT_COLOR, CONTINUATION_COLOR = "#5b6472", "#e4572e"
MAX_PROMPT_S = 30.0
MAX_LENGTH_S = 20.0
DYNAMIC_RANGE_DB = 70.0  # of the spectrogram's colours

EXAMPLE_LABEL = "An example (its source and licence: audiolm_hf/examples/README.md)"
DESCRIPTION = """# Audio continuation
Upload or record a few seconds of speech; [AudioLM](https://arxiv.org/abs/2209.03143) continues it in the same voice.
It was trained on little audio and no text, so the speech has no intelligible words. The result is synthetic and is
marked so in its file. Use your own voice, or one whose owner agrees.
"""


def plot_audio(audio: np.ndarray, sampling_rate: int, prompt_length: int) -> Figure:
    """Plot waveform `(num_samples,)` and mel spectrogram, and mark the beginning of the continuation."""
    length_s, boundary_s = len(audio) / sampling_rate, prompt_length / sampling_rate
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    wave, mel = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    time = np.arange(len(audio)) / sampling_rate
    wave.plot(time[:prompt_length], audio[:prompt_length], color=PROMPT_COLOR, linewidth=0.5)
    wave.plot(time[prompt_length:], audio[prompt_length:], color=CONTINUATION_COLOR, linewidth=0.5)
    wave.set(ylabel="amplitude", ylim=(-1.05, 1.05), xlim=(0, length_s))
    wave.set_title("prompt", loc="left", color=PROMPT_COLOR)
    wave.set_title("continuation", loc="right", color=CONTINUATION_COLOR)

    energy = log_mel_spectrogram(torch.from_numpy(audio)[None], sampling_rate)[0].T.numpy()
    decibel = 10 / np.log(10) * (energy - energy.max())
    extent = (0, length_s, 0, energy.shape[0])
    mel.imshow(decibel, origin="lower", aspect="auto", cmap="magma", extent=extent, vmin=-DYNAMIC_RANGE_DB, vmax=0)
    mel.set(xlabel="seconds", ylabel="mel bin")
    for axis, color in ((wave, "black"), (mel, "white")):
        axis.axvline(boundary_s, color=color, linestyle="--", linewidth=1.5)
    wave.spines[["top", "right"]].set_visible(False)
    return figure


def make_continuation(continue_audio: Any, checkpoint: str, folder: Path) -> Callable:
    """Return the function behind the button, which writes its newest result to `folder` until the app copies it."""

    def continuation(
        prompt: str | None,
        length_s: float,
        seed: float | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - the form that Gradio looks for
    ) -> tuple[str, Figure]:
        def show(stage: str, done: int, total: int) -> None:
            progress((done, total), desc=f"{stage} stage", unit="steps")

        try:
            path, figure = run(prompt, length_s, seed, show)
        except (ValueError, TypeError, OSError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        return str(path), figure

    def run(prompt: str | None, length_s: float, seed: float | None, show: Callable) -> tuple[Path, Figure]:
        if not prompt:
            raise ValueError("There is no prompt yet: upload or record a few seconds of speech first.")
        if seed is None or seed < 0 or seed != int(seed):
            raise ValueError(f"The seed is {seed}; give a whole number of 0 or more.")
        if not 0 < length_s <= MAX_LENGTH_S:
            raise ValueError(f"The length is {length_s} s; give more than 0 and at most {MAX_LENGTH_S:.0f} s.")
        inputs = continue_audio.preprocess(prompt)
        rate = continue_audio.processor.sampling_rate
        prompt_s = inputs["input_values"].shape[-1] / rate
        if prompt_s > MAX_PROMPT_S:
            raise ValueError(f"The prompt lasts {prompt_s:.1f} s; give at most {MAX_PROMPT_S:.0f} s.")
        outputs = continue_audio.forward(
            inputs, continuation_length_s=length_s, min_continuation_length_s=length_s, seed=int(seed), progress=show
        )
        audio = continue_audio.postprocess(outputs)["audio"]
        paths = continue_audio.processor.save_audio(
            audio, folder / "continuation.wav", checkpoint=checkpoint, seed=int(seed)
        )
        return paths[0], plot_audio(audio, rate, int(outputs["prompt_lengths"]))

    return continuation


def build_demo(
    checkpoint: str = DEFAULT_CHECKPOINT, device: str | None = None, threads: int | None = None
) -> gr.Blocks:
    """Load a checkpoint, by bundled name, folder or `user/name`, and build the page."""
    continue_audio = pipeline(resolve_checkpoint(checkpoint), device=device)
    logger.warning(f"{checkpoint} on {continue_audio.device}, {set_threads(continue_audio.model, threads)}")
    folder = tempfile.TemporaryDirectory(prefix="audiolm-hf-demo-")
    with gr.Blocks(title="Audio continuation", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        demo.temporary_folder = folder  # lives as long as the page, and is removed with it
        gr.Markdown(DESCRIPTION)
        with gr.Row():
            with gr.Column(scale=2):
                prompt = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Prompt")
                length_s = gr.Slider(1, MAX_LENGTH_S, value=7, step=0.5, label="Continuation, seconds")
                seed = gr.Number(value=0, minimum=0, precision=0, label="Seed of the continuation")
                button = gr.Button("Continue", variant="primary")
                gr.Examples([[example_prompt(checkpoint)]], inputs=[prompt], label=EXAMPLE_LABEL)
            with gr.Column(scale=3):
                audio = gr.Audio(label="Prompt + continuation", interactive=False, buttons=["download"])
                figure = gr.Plot(label="Waveform and mel spectrogram")
        button.click(
            make_continuation(continue_audio, resolve_checkpoint(checkpoint), Path(folder.name)),
            inputs=[prompt, length_s, seed],
            outputs=[audio, figure],
            api_name="continue_audio",
        )
    return demo


def launch_demo(demo: gr.Blocks, host: str | None = None, port: int | None = None) -> None:
    """Serve the page until the process is stopped; by default for this machine (on a Space, all), from port 7860."""
    demo.launch(server_name=host, server_port=port, share=False, ssr_mode=False)
