# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Families of odd inputs for what lies on disk, and for the command line: see `odd_inputs`."""

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from audiolm_hf import AudioLMModel
from audiolm_hf.cli import VERBS, build_parser, main
from audiolm_hf.data.recordings import read_manifest
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.training.kinds import RECIPE, training_kind
from audiolm_hf.training.recipe import RecipeConfig, load_config
from audiolm_hf.training.yaml_files import merge
from tests.helpers_checkpoint import CLIP, ROOT
from tests.helpers_tokens import INFO, write_tokens
from tests.odd_audio import damaged, processor, scratch
from tests.odd_inputs import Case, brief, holds, misspelled, odd_value
from tests.odd_objects import model

_PLAIN = (str, bool, int, float, type(None), list, dict)
_TEXTS = [
    "",
    " ",
    "-1",
    "0",
    "1",
    "2",
    "0.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "abc",
    "no such",
    ".",
    "/",
    "a=b",
    "--x",
    "ü",
]


def _plain_value(rng: random.Random) -> Any:
    """An odd value that YAML and JSON hold."""
    while not isinstance(value := odd_value(rng), _PLAIN) or isinstance(value, np.generic):
        pass
    return value


def _places(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value inside nested ones."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [place for key, value in inner for place in [(*path, key), *_places(value, (*path, key))]]


def _change(rng: random.Random, values: Any) -> tuple[str, tuple[str, ...]]:
    """Change one of nested values in place: another value, gone, or under another key; what, and its names."""
    *parents, key = rng.choice(_places(values))
    holder = functools.reduce(lambda inner, each: inner[each], parents, values)
    how = rng.choice(["value"] * 4 + ["gone", "key"])
    old, word = holder[key], str(key)
    if how == "value":
        holder[key] = rng.choice([_plain_value(rng), *([-old, old * 1000, old + 0.5] if isinstance(old, int) else [])])
    elif how == "gone":
        del holder[key]
    elif isinstance(key, str):
        word = misspelled(rng, key)
        holder[word] = holder.pop(key)
    what = brief(holder[word if how == "key" and isinstance(key, str) else key]) if how != "gone" else how
    return f"{how} {'.'.join(map(str, [*parents, word]))} {what}", (word, str(key), "kind")


@functools.cache
def _trainings() -> list[dict[str, Any]]:
    """The content of every training file of the repository."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs").rglob("*.yaml"))]
    found = [values for values in files if isinstance(values, dict) and "kind" in values]
    found = [merge(values, phase) for values in found for phase in values.pop("phases", {"": {}}).values()]
    steps = [step for values in found for step in values.get("steps", []) if "kind" in step]
    return [*found, *({key: value for key, value in step.items() if key != "name"} for step in steps)]


def training_files(rng: random.Random) -> Case:
    """Training files of every kind with a key or a value changed, overrides, or bytes damaged."""
    values = json.loads(json.dumps(rng.choice(_trainings())))
    names: tuple[str, ...] = ("kind",)
    what, overrides = "whole", []
    path = scratch() / "training.yaml"
    how = rng.choice(["change", "change", "field", "override", "damage"])
    if how == "change":
        what, names = _change(rng, values)
    elif how == "field":
        config_class = RecipeConfig if values["kind"] == RECIPE else training_kind(values["kind"])[0]
        field = rng.choice(dataclasses.fields(config_class))
        values[field.name] = _plain_value(rng)
        what, names = f"{field.name} = {brief(values[field.name])}", (field.name,)
    elif how == "override":
        place = rng.choice(_places(values))
        overrides = [f"{'.'.join(map(str, place))}{rng.choice(['=', '=', '', '.x='])}{rng.choice(_TEXTS)}"]
        what, names = overrides[0], (str(place[-1]), "override")
    text = yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass")
    if how == "damage":
        what, text = damaged(rng, text)
        names = ("training.yaml", "kind")
    path.write_bytes(text)

    def check(config: Any) -> None:
        stated = json.dumps(dataclasses.asdict(config), default=str)
        holds("NaN" not in stated and "Infinity" not in stated, "a number that is none")
        for field in dataclasses.fields(config):
            default = field.default if field.default is not dataclasses.MISSING else None
            value = getattr(config, field.name)
            if default is not None:
                kinds = (int, float) if isinstance(default, float) else type(default)
                holds(value is None or isinstance(value, kinds), f"{field.name} is {value!r}")

    label = f"{values.get('kind')}: {what}"
    return Case(label, lambda: load_config(path, overrides), check, names)


def manifests(rng: random.Random) -> Case:
    """Lists of recordings with odd rows, or damaged."""
    suffix = rng.choice([".jsonl", ".jsonl", ".csv", ".txt"])
    row: dict[str, Any] = {"path": "a.wav", "start": 1, "end": 2.5, "speaker": "ann", "text": "b"}
    what, names = _change(rng, row)
    path = scratch() / f"list{suffix}"
    rows = [{"path": "b.wav"}, row]
    if suffix == ".jsonl":
        text = "\n".join(map(json.dumps, rows)).encode("utf-8", "surrogatepass")
    elif suffix == ".csv":
        keys = [*row]
        lines = [
            ",".join(keys),
            *(",".join(str(each.get(key, "")).replace(",", " ") for key in keys) for each in rows),
        ]
        text = "\n".join(lines).encode()
    else:
        text = b"a.wav\n\nb.wav\n"
    if rng.random() < 0.4:
        what, text = damaged(rng, text)
    path.write_bytes(text)

    def check(entries: Any) -> None:
        for entry in entries:
            holds(isinstance(entry.path, Path) and 0 <= entry.start_s < 1e12, "its path or start")
            holds(entry.end_s is None or entry.start_s < entry.end_s < float("inf"), "its end")
            labels = (entry.speaker, entry.accent, entry.text, entry.source)
            holds(all(isinstance(label, str) for label in labels), "its labels")

    return Case(f"{suffix} {what}", lambda: read_manifest(path), check, (*names, path.name))


@functools.cache
def _tokens(seed: int) -> dict[str, bytes]:
    folder = write_tokens(Path(tempfile.mkdtemp(dir=scratch())) / "tokens", [5, 9, 30], seed)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _spoil(rng: random.Random, files: dict[str, bytes], others: dict[str, bytes]) -> str:
    """Change one file of a folder in place; what was done."""
    name = rng.choice([*files])
    how = rng.choice(["gone", "empty", "damage", "damage", "of another", "twice", "json", "json"])
    if how == "gone":
        del files[name]
    elif how == "empty":
        files[name] = b""
    elif how == "of another":
        files[name] = others.get(name, b"{}")
    elif how == "twice":
        files[name.replace("00000", "00001")] = files[name]
    elif how == "json" and (names := [each for each in files if each.endswith(".json")]):
        name = rng.choice(names)
        values = json.loads(files[name])
        how, _ = _change(rng, values)
        files[name] = json.dumps(values).encode("utf-8", "surrogatepass")
    else:
        how, files[name] = damaged(rng, files[name])
    return f"{name} {how}"


def _folder(files: dict[str, bytes]) -> Path:
    folder = scratch() / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def token_datasets(rng: random.Random) -> Case:
    """Token datasets whose shards or description are damaged, exchanged or changed."""
    files = dict(_tokens(0))
    what = _spoil(rng, files, _tokens(1))
    folder = _folder(files)

    def run() -> Any:
        dataset = TokenDataset(folder)
        return dataset.info, [dataset[index] for index in range(len(dataset))]

    def check(result: Any) -> None:
        info, records = result
        holds(len(records) == 3, f"{len(records)} records")
        for record in records:
            tokens, codes = record.semantic_tokens, record.audio_codes
            holds(tokens.min() >= 0 and tokens.max() < info.num_semantic_tokens, "its tokens")
            holds(codes.shape[0] == info.num_codebooks and codes.max() < info.codebook_size, "its codes")
        if "tokens.json" not in what:
            holds(info == INFO, "its description")

    return Case(f"tokens {what}", run, check, ("folder", "tokens"))


@functools.cache
def _checkpoint(seed: int) -> dict[str, bytes]:
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    if seed == 0:
        model().save_pretrained(folder)
    else:
        torch.manual_seed(seed)
        AudioLMModel(model().config).save_pretrained(folder)
    processor().save_pretrained(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoints(rng: random.Random) -> Case:
    """Checkpoints whose files are damaged, exchanged, or have other keys and values."""
    files = dict(_checkpoint(0))
    del files["processor_config.json"]
    what = _spoil(rng, files, _checkpoint(1))
    folder = _folder(files)

    def check(loaded: AudioLMModel) -> None:
        if "safetensors" in what:
            holds(all(values.isfinite().all() for values in loaded.state_dict().values()), "its weights")
            return
        own = model().state_dict()
        holds(all(torch.equal(values, own[name]) for name, values in loaded.state_dict().items()), "its weights")
        output = loaded.generate(continuation_length_s=0.08, seed=0, generation_config=model().generation_config)
        expected = model().generate(continuation_length_s=0.08, seed=0)
        holds(torch.equal(output.audio_codes, expected.audio_codes), "what it generates")

    names = ("folder", "config", "safetensors", "Field", *what.split()[-2].split("."))
    return Case(f"checkpoint {what}", lambda: AudioLMModel.from_pretrained(folder), check, names)


@functools.cache
def _checkpoint_folder() -> Path:
    folder = scratch() / "checkpoint"
    for name, data in _checkpoint(0).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@functools.cache
def _prompt() -> str:
    """A copy: an odd command line may well overwrite it."""
    return str(shutil.copy(CLIP, scratch() / "prompt.flac"))


@functools.cache
def _actions(verb: str) -> list[argparse.Action]:
    subparsers = next(action for action in build_parser((verb,))._actions if action.dest == "verb")
    return [action for action in subparsers.choices[verb]._actions if action.dest != "help"]  # type: ignore[index]


def _argument(rng: random.Random, action: argparse.Action, wrong: bool) -> list[str]:
    """An option of the command line with a value; one that cannot be right, if so wanted."""
    if not action.option_strings or (action.nargs == 0 and not wrong):
        return [rng.choice(action.option_strings)] if action.option_strings else []
    texts = ["abc", "nan", "-7"] if wrong and action.type in (int, float) else _TEXTS
    return [rng.choice(action.option_strings), rng.choice([*texts, _prompt()])]


def command_lines(rng: random.Random) -> Case:
    """Argument vectors of every verb, in this process: options, values, files and folders that are odd."""
    verb = rng.choice([*VERBS, "continue", "continue", "train"])
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    argv = [verb]
    if verb == "continue":
        argv += [
            "--checkpoint",
            str(_checkpoint_folder()),
            "--length-s",
            "0.1",
            "-o",
            str(folder / "out.wav"),
            str(CLIP),
        ]
    elif verb == "train":
        path = folder / "train.yaml"
        values = rng.choice(_trainings()) | {"output_folder": str(folder / "no" / "such" / "\0")}
        path.write_bytes(damaged(rng, yaml.safe_dump(values).encode())[1])
        argv += ["--config", str(path)]
    elif verb != "checkpoints":  # these would begin to work: a wrong option stands among the others
        argv += rng.choice([["--no-such-option"], ["--threads", "-1"], ["no such file"]])
    options = [action for action in _actions(verb) if action.option_strings]
    for action in rng.sample(options, min(len(options), rng.choice([1, 1, 2]))):
        argv += _argument(rng, action, wrong=verb not in ("continue", "train", "checkpoints"))

    def run() -> int:
        errors, output = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
            try:
                status = main(argv)
            except SystemExit as stopped:
                status = int(stopped.code or 0)
        text = errors.getvalue()
        if status:
            lines = [line for line in text.splitlines() if "error: " in line]
            holds(len(lines) == 1 and "Traceback" not in text and "AUDIOLM_HF_TRACEBACK" not in text, text[-600:])
            raise ValueError(lines[0])
        return status

    def check(status: int) -> None:
        if verb == "continue" and argv[-2] not in ("-o", "--output", "-h", "--version"):
            holds("-o" in argv, "no output")

    return Case(" ".join(argv), run, check, ("error: ",))


FAMILIES: dict[Callable[[random.Random], Case], int] = {
    training_files: 300,
    manifests: 150,
    token_datasets: 80,
    checkpoints: 100,
    command_lines: 120,
}
