# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The Gradio app of the Space: a prompt in, its continuations out, played while they are generated."""

import contextlib
import inspect
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from matplotlib.figure import Figure
from transformers.utils import logging

from audiolm_hf.adapters_audiolm import find_file
from audiolm_hf.audio_file_audiolm import encode_audio, read_audio
from audiolm_hf.bundled import example_prompt, list_checkpoints, resolve_checkpoint
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.hub import pipeline
from audiolm_hf.modeling_detector_audiolm import AudioLMDetectorForAudioClassification
from audiolm_hf.modeling_semantic_tokenizer_audiolm import log_mel_spectrogram
from audiolm_hf.pipeline_audiolm import check_same_rate
from audiolm_hf.provenance_audiolm import VERSION
from audiolm_hf.run_folder import temporary_folder
from audiolm_hf.stages_audiolm import STAGES
from audiolm_hf.threads import set_threads
from audiolm_hf.watermark_audiolm import watermark_is_available

logger = logging.get_logger(__name__)

PROMPT_COLOR, CONTINUATION_COLOR = "#7a828e", "#e4572e"  # both readable on white and on black
MAX_PROMPT_S, MAX_LENGTH_S, MAX_CONTINUATIONS = 30.0, 20.0, 4
MAX_UPLOAD, MAX_QUEUE, KEEP_S = "20mb", 32, 3600  # of a file; visitors who wait; seconds until files are deleted
DYNAMIC_RANGE_DB = 70.0  # of the spectrogram's colours

DESCRIPTION = """# Audio continuation
[AudioLM](https://arxiv.org/abs/2209.03143) continues a few seconds of speech or piano in the same voice and room."""
NOTICE = """**All continuations are synthetic**, and their files are marked as such in the metadata. Only continue your
own voice, or that of a person who has agreed. Continuations of voices, accents and instruments that a checkpoint was
not trained on are worse; *About this checkpoint* states its limits."""
CSS = """
.gradio-container { max-width: 1180px !important; margin: auto !important }
#notice { border-left: 4px solid #e4572e; padding: 8px 14px; border-radius: 4px;
  background: color-mix(in srgb, #e4572e 9%, transparent) }
#notice p { margin: 0 } .stages b { grid-column: 1 / -1 }
.stages { display: grid; grid-template-columns: auto 1fr 3.2em; gap: 6px 12px; align-items: center; padding: 10px 2px }
.stages progress { width: 100%; height: 8px; appearance: none; border: 0; border-radius: 4px; overflow: hidden;
  background: color-mix(in srgb, currentColor 15%, transparent) }
.stages progress::-webkit-progress-bar { background: none } .stages progress::-moz-progress-bar { background: #e4572e }
.stages progress::-webkit-progress-value { background: #e4572e; transition: width .3s }
.stages progress + span { text-align: right; font-variant-numeric: tabular-nums }
#version { opacity: .7; font-size: .85em } .dark audio { color-scheme: dark }
"""
SHOW_RESULTS = """(stops, begin, ...inputs) => { window.stopped = 0; if (innerWidth < 800)
  setTimeout(() => document.getElementById('results').scrollIntoView({behavior: 'smooth', block: 'start'}), 300)
  return [stops, performance.now(), ...inputs] }"""
NEW_SEED = "() => Math.floor(Math.random() * 2 ** 31)"


@dataclass
class Checkpoint:
    """A checkpoint that the page offers: its `source`, a folder or a name on the Hub, loaded."""

    source: str
    pipe: Any
    about: str
    detector: AudioLMDetectorForAudioClassification | None = None
    extractor: AudioLMFeatureExtractor | None = None

    @classmethod
    def load(cls, source: str, device: str | None) -> "Checkpoint":
        """Load a checkpoint, and the detector in its subfolder if it has one."""
        loaded = cls(source, pipeline(source, device=device), describe(source))
        if find_file(source, "detector/config.json", {}) is not None:
            place = {"subfolder": "detector"}
            detector = AudioLMDetectorForAudioClassification.from_pretrained(source, dtype="float32", **place)
            loaded.detector = detector.eval().to(loaded.pipe.device)
            loaded.extractor = AudioLMFeatureExtractor.from_pretrained(source, **place)
            check_same_rate(loaded.detector.config, loaded.extractor)
        return loaded

    def judge(self, audio: np.ndarray) -> dict[str, str | float]:
        """Return `verdict`, `score` and `most_suspicious_s` of samples `(num_samples,)`; empty without a detector."""
        if self.detector is None or self.extractor is None:
            return {}
        inputs = self.extractor(audio, self.pipe.processor.sampling_rate, return_tensors="pt")
        judged = self.detector.judge(**inputs.to(self.detector.device))
        return {name: judged[name] for name in ("verdict", "most_suspicious_s")} | {"score": round(judged["score"], 3)}


@dataclass
class Job:
    """A visitor's request: a prompt `(num_samples,)`, the seed of the first continuation, sampling options."""

    checkpoint: Checkpoint
    prompt: np.ndarray
    length_s: float
    seed: int
    count: int
    options: dict[str, Any]
    shares: dict[str, float] = field(default_factory=dict)  # of each stage's tokens that are generated

    def run(self, number: int, folder: str) -> Iterator[np.ndarray | dict[str, Any]]:
        """Yield the prompt and a continuation chunk by chunk, then a `dict` of its files in `folder` and of facts."""
        pipe, seed = self.checkpoint.pipe, self.seed + number
        rate = pipe.processor.sampling_rate
        sampling = pipe.model.check_generate_options(**self.options)
        self.shares = dict.fromkeys(sampling.used_stages(pipe.model.config), 0.0)
        chunks = []
        for chunk in pipe.stream(
            {"array": self.prompt, "sampling_rate": rate},
            continuation_length_s=self.length_s,
            min_continuation_length_s=self.length_s,
            seed=seed,
            progress=lambda stage, done, total: self.shares.update({stage: done / total}),
            **self.options,
        ):
            chunks.append(chunk["audio"])
            yield chunk["audio"]
        audio, start = np.concatenate(chunks), len(chunks[0])
        name = f"{folder}/continuation-seed-{seed}"
        marks = {"checkpoint": self.checkpoint.source, "seed": seed, "watermark": watermark_is_available()}
        pipe.processor.save_audio([audio], [f"{name}.wav"], **marks)
        plot_audio(audio, rate, start).savefig(f"{name}.png", transparent=True, dpi=160)
        facts = {"seed": seed, "prompt_s": start / rate, "length_s": len(audio) / rate}
        yield {"audio": f"{name}.wav", "picture": f"{name}.png", **facts, **self.checkpoint.judge(audio[start:])}


def describe(source: str) -> str:
    """Return the first paragraph of a checkpoint's model card, and its limitations."""
    path = find_file(source, "README.md", {})
    card = "" if path is None else Path(path).read_text(encoding="utf-8")
    first = re.search(r"^# .+\n+((?:.+\n)+)", card, re.MULTILINE)
    limits = re.search(r"^## Limitations\n+(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    found = [part[1] for part in (first, limits) if part]
    return "\n\n".join(found) or "This checkpoint has no model card that states what it was trained on."


def plot_audio(audio: np.ndarray, sampling_rate: int, prompt_length: int) -> Figure:
    """Plot waveform `(num_samples,)` and mel spectrogram, and mark the beginning of the continuation."""
    length_s, boundary_s = len(audio) / sampling_rate, prompt_length / sampling_rate
    figure = Figure(figsize=(5, 3.8), layout="constrained")
    wave, mel = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    seconds = np.arange(len(audio)) / sampling_rate
    wave.plot(seconds[:prompt_length], audio[:prompt_length], color=PROMPT_COLOR, linewidth=0.5)
    wave.plot(seconds[prompt_length:], audio[prompt_length:], color=CONTINUATION_COLOR, linewidth=0.5)
    wave.set(ylabel="amplitude", ylim=(-1.05, 1.05), xlim=(0, length_s))
    wave.set_title("prompt", loc="left", color=PROMPT_COLOR)
    wave.set_title("continuation", color=CONTINUATION_COLOR)
    energy = log_mel_spectrogram(torch.from_numpy(audio)[None], sampling_rate)[0].T.numpy()
    decibel = 10 / np.log(10) * (energy - energy.max())
    extent = (0, length_s, 0, energy.shape[0])
    mel.imshow(decibel, origin="lower", aspect="auto", cmap="magma", extent=extent, vmin=-DYNAMIC_RANGE_DB, vmax=0)
    mel.set(xlabel="seconds", ylabel="mel bin")
    for axis, color in ((wave, PROMPT_COLOR), (mel, "white")):
        axis.axvline(boundary_s, color=color, linestyle="--", linewidth=1.5)
        axis.tick_params(colors=PROMPT_COLOR)
        for part in (axis.xaxis.label, axis.yaxis.label, axis.spines[:]):
            part.set_color(PROMPT_COLOR)
    wave.spines[["top", "right"]].set_visible(False)
    return figure


def show_stages(title: str, shares: dict[str, float]) -> str:
    """Return HTML with a bar for each stage."""
    bars = (
        f'<span>{stage} stage</span><progress value="{share:.3f}"></progress><span>{share:.0%}</span>'
        for stage, share in shares.items()
    )
    return f'<div class="stages" role="status"><b>{title}</b>{"".join(bars)}</div>'


@contextlib.contextmanager
def errors_on_page(folder: str) -> Iterator[None]:
    """Show errors about a visitor's inputs on the page, without paths of the server."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        text = re.sub(rf"{re.escape(folder)}\S*/", "", str(error))
        raise gr.Error(text, duration=None, print_exception=False) from error


class Page:
    """The components of the page and its events.

    Args:
        checkpoints (`dict[str, Checkpoint]`): by the names that visitors choose from.
        folder (`str`): for results until Gradio has copied them to its own folder.
    """

    def __init__(self, checkpoints: dict[str, Checkpoint], folder: str) -> None:
        self.checkpoints, self.folder = checkpoints, folder
        self.plays = shutil.which("ffmpeg") is not None  # with which Gradio encodes streams
        gr.Markdown(DESCRIPTION)
        gr.Markdown(NOTICE, elem_id="notice", container=False)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self._add_inputs()
            with gr.Column(scale=3, min_width=300, elem_id="results"):
                self._add_outputs()
        gr.Markdown(f"audiolm_hf {VERSION}", elem_id="version")
        self._add_events()

    def _add_inputs(self) -> None:
        names = [*self.checkpoints]
        stages = {stage for loaded in self.checkpoints.values() for stage in loaded.pipe.model.config.stage_configs}
        self.options = [f"{stage}_temperature" for stage in STAGES if stage in stages]
        about, mode, *temperatures = self.show_checkpoint(names[0])
        self.prompt = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Prompt", buttons=[])
        self.checkpoint = gr.Radio(names, value=names[0], label="Checkpoint", visible=len(names) > 1)
        gr.set_static_paths(Path(example_prompt()).parent)  # read in place: copies would be deleted like uploads
        examples = {example_prompt(loaded.source): name for name, loaded in reversed(self.checkpoints.items())}
        gr.Examples(
            [[path, name] for path, name in reversed(examples.items())],
            [self.prompt, self.checkpoint],
            example_labels=[f"Example for {name}" for name in reversed(examples.values())],
            label="Examples (LibriSpeech, CC BY 4.0; piano-midi.de, CC BY-SA 3.0 DE)",
        )
        self.length_s = gr.Slider(1, MAX_LENGTH_S, value=7, step=0.5, label="Continuation, seconds")
        with gr.Accordion("More options", open=False):
            info = "each has the next higher seed"
            self.count = gr.Slider(1, MAX_CONTINUATIONS, 1, step=1, label="Continuations", info=info)
            with gr.Row():
                self.seed = gr.Number(value=0, minimum=0, precision=0, label="Seed", min_width=120)
                dice = gr.Button("New seed", min_width=120)
            dice.click(None, outputs=self.seed, js=NEW_SEED)
            self.mode = gr.Radio(["hierarchical", "parallel"], label="Acoustic stages", **mode)
            self.temperatures = [  # without values, which would be the endpoint's defaults for all checkpoints
                gr.Number(label=f"Temperature of the {name.split('_')[0]} stage", step=0.05, visible=update["visible"])
                for name, update in zip(self.options, temperatures, strict=True)
            ]
        with gr.Row():
            self.button = gr.Button("Continue", variant="primary", scale=3)
            self.stop = gr.Button("Stop", scale=1, min_width=80)
        with gr.Accordion("About this checkpoint", open=False):
            self.about = gr.Markdown(**about)

    def _add_outputs(self) -> None:
        self.status = gr.HTML(show_stages("Nothing has been generated yet.", {}))
        label = "Plays while it is generated" if self.plays else "Playback while it is generated needs ffmpeg"
        self.live = gr.Audio(streaming=True, autoplay=True, label=label, interactive=False, buttons=[])
        self.groups, self.results = [], []
        for _ in range(MAX_CONTINUATIONS):
            with gr.Column(visible=False) as group:
                audio = gr.Audio(interactive=False, buttons=["download"], type="filepath")
                picture = gr.Image(show_label=False, interactive=False, buttons=["download", "fullscreen"])
                verdict = gr.Markdown(visible=False, container=True)
            self.groups.append(group)
            self.results.append((audio, picture, verdict))

    def _add_events(self) -> None:
        inputs = [self.prompt, self.checkpoint, self.length_s, self.seed, self.count, self.mode, *self.temperatures]
        outputs = [self.status, self.live, *self.groups, *(part for parts in self.results for part in parts)]
        limits: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
        quiet: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
        private = {"api_visibility": "private", "show_progress_on": self.status, "js": SHOW_RESULTS, **limits}
        # When Stop and Continue were pressed, by the browser: Gradio only cancels what the server has answered.
        stops, begin = gr.State([]), gr.Number(0, visible=False)
        running = self.button.click(self.show, [stops, begin, *inputs], outputs, **private)
        # The texts are chosen in the browser, because the server's answers may arrive in any order.
        self.stopped, failed = (show_stages(text, {}) for text in ("Stopped.", "Nothing was generated."))
        self.stop.click(None, outputs=self.status, js=f"() => {self.stopped!r}", cancels=[running])
        self.stop.click(list.append, [stops, begin], js="own => [own, window.stopped = performance.now()]", **quiet)
        # Also through the server, because its answer removes the error shown over the status.
        ended = {"js": f"() => window.stopped ? {self.stopped!r} : {failed!r}", **quiet}
        running.failure(lambda shown: shown, self.status, self.status, **ended)
        shown = [self.about, self.mode, *self.temperatures]
        gr.on(None, self.update, self.checkpoint, shown, **quiet)
        self.mode.input(self.update, [self.checkpoint, self.mode], shown, **quiet)
        with gr.Column(visible=False):
            files = gr.File(label="Audio files", file_count="multiple")
            pictures = gr.File(label="Pictures", file_count="multiple")
            facts = gr.JSON(label="Facts on each continuation")
            endpoint, outputs = _named(self.continue_audio, self.options), [files, pictures, facts]
            gr.Button().click(endpoint, inputs, outputs, api_name="continue_audio", **limits)

    def show_checkpoint(self, name: str, mode: str | None = None) -> list[dict[str, Any]]:
        """Return the components that depend on checkpoint and mode: description, mode, temperatures of the stages."""
        model = self.checkpoints[name].pipe.model
        own, modes = model.check_generate_options(), [*model.config.acoustic_modes]
        used = own.with_options(acoustic_mode=mode or own.acoustic_mode).used_stages(model.config)
        info: Any = f"{own.acoustic_mode or modes[0]} by default"
        shown = [{"value": self.checkpoints[name].about}, {"value": mode, "visible": len(modes) > 1, "info": info}]
        own_values = [(option.split("_")[0] in used, getattr(own, option, None)) for option in self.options]
        return [*shown, *({"visible": visible, "value": value} for visible, value in own_values)]

    def update(self, name: str, mode: str | None = None) -> list[dict[str, Any]]:
        """Show the options when the page is loaded, and when another checkpoint or mode is chosen."""
        return [gr.update(**update) for update in self.show_checkpoint(name, mode)]

    def read(self, *inputs: Any) -> Job:
        """Check a visitor's inputs, and read the prompt."""
        prompt, checkpoint, length_s, seed, count, acoustic_mode, *temperatures = inputs
        if not prompt:
            raise ValueError("There is no prompt yet: record, upload or pick a few seconds of audio first.")
        if seed is None:
            raise ValueError("There is no seed; give a whole number of 0 or more.")
        loaded = self.checkpoints[checkpoint]
        options = dict(zip(self.options, temperatures, strict=True)) | {"acoustic_mode": acoustic_mode}
        own = vars(loaded.pipe.model.check_generate_options())
        options = {name: value for name, value in options.items() if value not in (None, own.get(name))}
        loaded.pipe.model.check_generate_options(seed=seed, **options)
        samples, rate = read_audio(prompt, loaded.pipe.processor.sampling_rate, MAX_PROMPT_S + 0.1)
        if len(samples) > MAX_PROMPT_S * rate:
            raise ValueError(f"The prompt lasts more than {MAX_PROMPT_S:.0f} s; cut it, or give a shorter one.")
        return Job(loaded, samples, length_s, seed, int(count), options)

    def show(self, stops: list[float], begin: float, *inputs: Any) -> Iterator[dict[Any, Any]]:
        """Play each continuation while it is generated, and show it when it is whole, until a stop after `begin`."""
        start = time.monotonic()
        with errors_on_page(self.folder), tempfile.TemporaryDirectory(dir=self.folder) as folder:
            job = self.read(*inputs)
            yield {self.live: None, **{group: gr.update(visible=False) for group in self.groups}}
            rate = job.checkpoint.pipe.processor.sampling_rate
            for number in range(job.count):
                made_s = -len(job.prompt) / rate
                for piece in job.run(number, folder):
                    if stops and stops[-1] > begin:
                        yield {self.status: self.stopped}
                        return
                    if isinstance(piece, dict):
                        yield self._show_result(number, piece)
                        continue
                    made_s += len(piece) / rate
                    title = f"Continuation {number + 1} of {job.count}: {made_s:.1f} of {job.length_s:g} s"
                    update = {self.status: show_stages(title, job.shares)}
                    yield update | ({self.live: encode_audio(piece, rate)} if self.plays else {})
            yield {self.status: show_stages(f"Generated in {time.monotonic() - start:.0f} s.", job.shares)}

    def _show_result(self, number: int, result: dict[str, Any]) -> dict[Any, Any]:
        audio, picture, verdict = self.results[number]
        label = f"Prompt + continuation {number + 1}, seed {result['seed']}"
        text = "Detector: the continuation is **{verdict}** (score {score:.2f}; 0 is generated, 1 is real)."
        judged = {"visible": True, "value": text.format(**result)} if "score" in result else {"visible": False}
        shown = {self.groups[number]: gr.update(visible=True), picture: gr.update(value=result["picture"])}
        return shown | {audio: gr.update(value=result["audio"], label=label), verdict: gr.update(**judged)}

    def continue_audio(self, *inputs: Any) -> Iterator[tuple[list[str], list[str], list[dict[str, Any]]]]:
        """Continue a recording. Returns audio files of prompt and continuation, their pictures, and facts on each.

        The metadata of the files state how they were made. `seed` is that of the first continuation; the next one has
        `seed + 1`. Temperatures and `acoustic_mode` are the checkpoint's own where they are left out.
        """
        with errors_on_page(self.folder), tempfile.TemporaryDirectory(dir=self.folder) as folder:
            job = self.read(*inputs)
            results = [piece for n in range(job.count) for piece in job.run(n, folder) if isinstance(piece, dict)]
            yield [one.pop("audio") for one in results], [one.pop("picture") for one in results], results


def _named(function: Callable, temperatures: Sequence[str]) -> Callable:
    """Return a function whose parameters have names, which Gradio shows in the endpoint's documentation."""

    def named(*inputs: Any) -> Iterator[Any]:
        yield from function(*inputs)

    names = ["prompt", "checkpoint", "length_s", "seed", "num_continuations", "acoustic_mode", *temperatures]
    kind, defaults = inspect.Parameter.POSITIONAL_OR_KEYWORD, [inspect.Parameter.empty] * 5 + [None] * len(names)
    parameters = [inspect.Parameter(name, kind, default=own) for name, own in zip(names, defaults, strict=False)]
    named.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    named.__doc__ = function.__doc__
    return named


def build_demo(
    checkpoints: Sequence[str] | None = None, device: str | None = None, threads: int | None = None
) -> gr.Blocks:
    """Load checkpoints, by bundled name, folder or `user/name` (by default all bundled ones), and build the page."""
    sources = [resolve_checkpoint(name) for name in checkpoints or list_checkpoints()[::-1]]
    loaded = {Path(source).name if Path(source).is_dir() else source: source for source in sources}
    if len(loaded) < len(sources):
        raise ValueError(f"Two of the checkpoints {', '.join(sources)} have the same name; rename a folder.")
    offered = {name: Checkpoint.load(source, device) for name, source in loaded.items()}
    largest = max((one.pipe.model for one in offered.values()), key=lambda model: model.num_parameters())
    logger.warning(f"{', '.join(offered)} on {largest.device}, {set_threads(largest, threads)}")
    folder, lock = temporary_folder("audiolm-hf-demo-")
    os.environ["GRADIO_TEMP_DIR"] = gr.routes.DEFAULT_TEMP_DIR = f"{folder.name}/gradio"  # uploads and results
    with gr.Blocks(title="Audio continuation", analytics_enabled=False, delete_cache=(KEEP_S // 6, KEEP_S)) as demo:
        demo.temporary_folder, demo.lock = folder, lock  # live as long as the page; the folder is removed with it
        Page(offered, folder.name)
    return demo.queue(max_size=MAX_QUEUE)


def launch_demo(demo: gr.Blocks, host: str | None = None, port: int | None = None) -> None:
    """Serve the page until the process is stopped; by default for this machine (on a Space, all), from port 7860."""
    for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:  # to end like Ctrl-C
        signal.signal(number, signal.getsignal(number) or signal.default_int_handler)
    fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none is fetched
    theme = gr.themes.Default(primary_hue="orange", neutral_hue="slate", **fonts)
    theme.set(button_primary_background_fill="#c2410c", button_primary_background_fill_dark="#c2410c")
    demo.launch(
        server_name=host, server_port=port, ssr_mode=False, max_file_size=MAX_UPLOAD, theme=theme, css=CSS, share=False
    )
