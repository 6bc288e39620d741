# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The commands of README and docs run from top to bottom of each page, in a folder like a new clone.

Bash runs the blocks as they are printed. Its programs ask this process to do the work in a fork, which has no
libraries to load, with what the tables below replace, add or leave out. A command that is in no table runs as it is.
"""

import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import traceback
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import torch
from huggingface_hub.cli import hf
from transformers import (
    AutoModel,
    LlamaConfig,
    LlamaForCausalLM,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

import audiolm_hf
from audiolm_hf import cli
from tests.conftest import TINY_BACKBONE
from tests.helpers_benchmarks import ITEM, write_zerospeech
from tests.helpers_checkpoint import DATA, ROOT
from tests.helpers_hub import Repo, connect, serve_hub
from tests.helpers_processes import renew_threads
from tests.helpers_rates import CODECS, ENCODERS, filled_codec
from tests.project.test_docs import PROGRAMS, TEXTS, commands

# Pages whose commands do not run here, and what runs them instead.
PAGES_LEFT_OUT = {
    "CONTRIBUTING.md": ".ci/run, which runs what the page says",
    "configs/paper/README.md": "docs/paper.md has the same commands",
    "configs/tiny/speech/README.md": "they are the steps of the recipe (test_docs.py), which docs/train.md runs",
    "configs/tiny/piano/README.md": "the same",
    "spaces/audio_continuation/README.md": "tests/commands/test_space.py runs the app",
    "src/audiolm_hf/checkpoints/speech-tiny/README.md": "what was run for the card, for hours; docs/evaluate.md",
    "src/audiolm_hf/checkpoints/piano-tiny/README.md": "the same",
}
# Beginnings of commands that do not run here, and why.
LEFT_OUT = {
    "pip install": "what it installs is installed; its words are checked in test_docs.py",
    "git clone": "needs a network; the folder has what a clone has",
    "python3 -m venv": "the tests' environment is used",
    "hf auth login": "asks for a token, which the tests' environment has",
    "audiolm-hf demo": "serves until it is stopped: tests/commands/test_space.py",
    "audiolm-hf data": "downloads 3 GB: tests/commands/test_commands_corpora.py has small archives",
    "audiolm-hf tokenize --tokenizer T --codec C --dataset": "reads the Hub: tests/data/test_hf_datasets.py",
    "audiolm-hf train --config configs/tiny/piano/recipe.yaml": "needs fluidsynth: tests/training/test_render.py",
    "torchrun": "8 processes with 200 million weights each; tests/training/test_recipe.py trains with two",
    "accelerate launch": "the same",
    "audiolm-hf continue my.wav -o continuation.wav --watermark": "needs resemble-perth: test_watermark_audiolm.py",
    "audiolm-hf detect --watermark": "the same",
    "audiolm-hf evaluate watermark": "the same",
}
# Words that stand for something else, and lengths that would take too long.
REPLACED = {
    "user/name": "somebody/name",  # the owner of the token of the local stand-in of the Hub
    "user/audio-continuation": "somebody/audio-continuation",
    "data.folder=FOLDER": "data.folder=audio",
    "--tokenizer T": "--tokenizer speech-tiny",
    "--codec C": "--codec speech-tiny",
    "--length-s 600": "--length-s 4",
    "--num-workers 8": "--num-workers 2",
    "--data librispeech/test.parquet": "--data DATA/librispeech/test.parquet",
}
# What is added to a command: smaller sizes, so that every part runs.
SMALL_DETECTOR = "clips.num_continuations=2 clips.num_unconditional=1 clips.num_real=2 num_validation=2"
ADDED = {
    "audiolm-hf train --config configs/lora/voice.yaml": (
        "data.train_minutes=0.3 data.validation_minutes=0.1 stages.parallel.max_steps=2 stages.coarse.max_steps=2"
    ),
    "audiolm-hf train --config configs/lora/recordings.yaml": (
        "data.train_minutes=0.05 data.validation_minutes=0.03 "
        "stages.semantic.max_steps=1 stages.coarse.max_steps=1 stages.parallel.max_steps=1"
    ),
    "audiolm-hf train --config configs/tiny/speech/detector.yaml": f"max_steps=2 batch_size=2 {SMALL_DETECTOR}",
    "audiolm-hf train --config configs/tiny/speech/recipe.yaml": (
        "max_steps=2 warmup_steps=0 decay_steps=0 batch_size=2 batch_tokens=2048 validation_batches=1 "
        "validation_crops=1 validation_crop_length_s=1 "
        "'steps.semantic_encoder.iterations=[{num_clusters: 20, max_steps: 2, layer: 3}]' "
        + " ".join(f"steps.detector.{option}" for option in SMALL_DETECTOR.split())
    ),
    "audiolm-hf train --config configs/public/recipe.yaml": (
        "max_steps=1 batch_tokens=2048 steps.centroids.layer=2 steps.centroids.num_semantic_tokens=16 bf16=false "
        "num_coarse_codebooks=2 steps.coarse.backbone.hidden_size=96"
    ),
    "audiolm-hf evaluate checkpoint --checkpoint piano-tiny": (  # the others with speech-tiny
        "--protocols codec samples --num-clips 1 --num-samples 1"
    ),
    "audiolm-hf evaluate checkpoint --checkpoint my-checkpoint-folder": (
        "--protocols codec continuation samples --num-prompts 2 --num-clips 1 --num-samples 1 --num-continuations 1"
    ),
    "audiolm-hf evaluate checkpoint": "--num-prompts 2 --num-clips 2 --num-samples 1 --num-continuations 1",
    "audiolm-hf evaluate codec": "--num-clips 1",
    "audiolm-hf evaluate continuation": "--num-prompts 2",
    "audiolm-hf evaluate detector": "--num-clips 2 --length-s 1",
    "audiolm-hf evaluate accents": "--num-clips 2",
    "audiolm-hf evaluate voice": "--num-prompts 2 --length-s 1",
    "audiolm-hf benchmark generation": "--rounds 1 --batch 1 --length-s 0.5",
}
# Bash's own commands: into the clone and the environment that the tests have already.
BUILT_IN = "cd() { [ $1 = audiolm_hf ]; }; source() { [ $1 = .venv/bin/activate ]; }\n"
STATUS = {"audiolm-hf detect": (0, 3)}  # 3: generated
SPEAKERS = ["libri-1", "libri-2", "libri-3"]
PAGES = [name for name in dict.fromkeys(name for name, _ in commands()) if name.endswith(".md")]
# A program of bash that hands its words, folder and files to this process, and ends as the fork does.
CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    socket.send_fds(server, [json.dumps([os.getcwd(), words]).encode()], [0, 1, 2])
    os._exit(int(server.recv(16) or b"1"))
"""


def find(table, words):
    """Return the entry of a table whose key the words begin with, or None."""
    line = " ".join(words)
    return next((value for key, value in table.items() if line.startswith(key)), None)


def replaced(words):
    """Return the words of a command as they are run here."""
    line = "\0".join(words)
    for old, new in REPLACED.items():
        line = line.replace(old.replace(" ", "\0"), new.replace(" ", "\0"))
    return [*line.split("\0"), *shlex.split(find(ADDED, words) or "")]


def work(words):
    """Run a command in this process; returns its exit status."""
    if find(LEFT_OUT, words):
        return 0
    words = replaced(words)
    if words[0] == "audiolm-hf":
        return cli.main(words[1:])
    if words[0] in ("ffplay", "aplay"):  # there is no loudspeaker
        samples, _ = audiolm_hf.read_audio(sys.stdin.buffer.read())
        return 0 if len(samples) else 1
    if words[0] == "hf":
        sys.argv = words
        return hf.main()
    return subprocess.run([shutil.which(words[0]), *words[1:]]).returncode


def run_in_fork(connection):
    """Do what one program of bash was asked to do, with its files in place of this process's."""
    message, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    if os.fork():
        for number in files:
            os.close(number)
        return
    status = 1
    try:
        renew_threads()
        folder, words = json.loads(message)
        os.chdir(folder)
        for name, mode, number, given in zip(("stdin", "stdout", "stderr"), "rww", range(3), files, strict=True):
            os.dup2(given, number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
        warnings.simplefilter("default")
        status = work(words) or 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        expected = find(STATUS, words) or (0,)
        connection.sendall(b"0" if status in expected else str(status).encode())
        os._exit(0)


def run_script(script, folder, programs):
    """Run a script of bash in a folder; returns its exit status and what it wrote."""
    address = str(programs / "socket")
    for name in PROGRAMS:
        if "/" not in name and name not in ("cd", "source"):
            path = programs / name
            path.write_text(CLIENT.format(python=sys.executable, address=address))
            path.chmod(0o700)
    setup = f"set -euo pipefail; PATH={programs}\n{BUILT_IN}"
    with socket.socket(socket.AF_UNIX) as listener, (programs / "output").open("w+") as output:
        listener.bind(address)
        listener.listen()
        listener.settimeout(0.1)
        shell = subprocess.Popen(["bash", "-c", setup + script], cwd=folder, stdout=output, stderr=output)
        while shell.poll() is None:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                run_in_fork(connection)
        output.seek(0)
        return shell.returncode, output.read()


def write_recordings(path, speakers, count=2, accents=("us",), length_s=11):
    """Write a parquet file of recordings, each of the same three clips from another place."""
    clips = [sf.read(clip, dtype="float32") for clip in sorted(DATA.glob("*.flac"))]
    whole, rate = np.concatenate([samples for samples, _ in clips]), clips[0][1]
    rows = []
    for number in range(len(speakers) * count):
        buffer = io.BytesIO()
        samples = np.roll(np.tile(whole, 2), -number * rate // 2)[: length_s * rate]
        sf.write(buffer, samples, rate, format="FLAC")
        rows.append(
            {
                "audio": {"bytes": buffer.getvalue(), "path": f"{number}.flac"},
                "text": "and often has my mother said",
                "speaker": speakers[number % len(speakers)],
                "accent": accents[number % len(accents)],
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Stand-ins of the files that `audiolm-hf data` builds and of the reader's own sound files."""
    folder = tmp_path_factory.mktemp("data")
    for corpus in ("librispeech", "ljspeech", "voices"):
        for split, length_s in (("train", 4), ("validation", 4), ("test", 11)):
            write_recordings(folder / corpus / f"{split}.parquet", SPEAKERS, length_s=length_s)
    write_recordings(folder / "librispeech/adapt.parquet", ["libri-332", "libri-6272"], count=6)
    write_zerospeech(folder / "benchmark")
    write_recordings(folder / "accents/test.parquet", [f"speaker-{n}" for n in range(4)], 2, ("us", "indian"))
    for split in ("train", "validation", "test"):
        write_recordings(folder / f"piano/{split}.parquet", SPEAKERS, length_s=15)
        (folder / split).mkdir()
        for clip in DATA.glob("*.flac"):
            shutil.copy(clip, folder / split)
    items = (
        f"librispeech_19-198-0008 {0.2 + 0.3 * place:.1f} {0.4 + 0.3 * place:.1f} {phone} K T {place // 4}"
        for place, phone in enumerate(["AH", "IY"] * 4)
    )
    (folder / "dev.item").write_text("\n".join([ITEM, *items]))
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The local stand-in of the Hub, with small parts by the names of the public ones."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    AutoModel.from_config(ENCODERS["hubert"]).save_pretrained(folder / "facebook/hubert-base-ls960")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "facebook/hubert-base-ls960")
    filled_codec(CODECS["mimi"]).model.save_pretrained(folder / "kyutai/mimi")
    whisper = WhisperConfig(
        d_model=16, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=16, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=16,
    )  # fmt: skip
    AutoModel.from_config(whisper).save_pretrained(folder / "openai/whisper-tiny.en")
    WhisperFeatureExtractor().save_pretrained(folder / "openai/whisper-tiny.en")
    text = LlamaForCausalLM(LlamaConfig(**{**TINY_BACKBONE, "vocab_size": 40}))
    text.save_pretrained(folder / "HuggingFaceTB/SmolLM2-135M")
    with serve_hub() as hub, pytest.MonkeyPatch.context() as patch:
        connect(patch, hub, folder / "cache")
        for path in folder.glob("*/*/"):
            hub.repos[path.relative_to(folder).as_posix()] = repo = Repo()
            repo.commit("main", {file.name: file.read_bytes() for file in path.iterdir()}, "parts")
        yield hub


def test_the_tables_name_pages_and_commands_that_there_are():
    lines = [" ".join(words) for _, words in commands()]
    beginnings = [*LEFT_OUT, *ADDED, *STATUS]
    assert not [key for key in beginnings if not any(line.startswith(key) for line in lines)]
    assert not [old for old in REPLACED if not any(old in line for line in lines)]
    assert PAGES_LEFT_OUT.keys() < set(PAGES)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["not-a-program", "audiolm-hf continue missing.wav", "cd elsewhere"])
def test_a_page_ends_with_a_command_that_fails_or_is_not_known(command, tmp_path):
    status, output = run_script(f"pip install anything\n{command}\necho too late", tmp_path, tmp_path)
    assert status and "too late" not in output


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PAGES if name not in PAGES_LEFT_OUT])
def test_commands_run_as_printed(name, tmp_path, data, hub):
    folder, programs = tmp_path / "clone", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for part in ("configs", "tests", "spaces"):
        (folder / part).symlink_to(ROOT / part)
    (folder / "DATA").symlink_to(data)
    (folder / "audio").symlink_to(data / "train")
    (folder / "benchmark").symlink_to(data / "benchmark")
    (folder / "dev.item").symlink_to(data / "dev.item")
    clip = DATA / "librispeech_19-198-0008.flac"
    for given in ("my.wav", "a.wav", "b.mp3", "prompt.wav", "generated.wav"):
        samples, rate = sf.read(clip)
        sf.write(folder / given, samples, rate)
    if name == "docs/continue.md":
        if not shutil.which("ffmpeg"):
            pytest.skip("the page pipes from ffmpeg, which is missing")
        subprocess.run(["ffmpeg", "-loglevel", "error", "-i", clip, folder / "film.mkv"], check=True)
    if name == "docs/publish.md":
        continue_audio = audiolm_hf.pipeline(device="cpu")
        audiolm_hf.export_checkpoint(continue_audio.model, continue_audio.processor, folder / "my-checkpoint-folder")
    script = "".join(re.findall(r"```bash\n(.*?)```", TEXTS[name], re.DOTALL))
    status, output = run_script(script, folder, programs)
    assert status == 0, output[-5000:]
