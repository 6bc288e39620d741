# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A decorator that runs a training once per output folder, in one process or several; see `run_folder.py`."""

import dataclasses
import functools
import os
import time
import typing
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.utils import logging

from audiolm_hf.bundled import checkpoint, is_path, list_checkpoints
from audiolm_hf.data.clips import recording_files
from audiolm_hf.run_folder import RunFolder, check_writable, hold_folder, holds_finished, named_files
from audiolm_hf.settings import Settings, Use
from audiolm_hf.training.processes import announce, process_rank

POLL_S = 1.0  # seconds between checks for the end of another process's work


def one_run(kind: str, result: str = "", alone: bool = False, shared: bool = False) -> Callable[[Callable], Callable]:
    """Return a decorator that ties a training to its `output_folder`.

    Calling the training again resumes it, or does nothing if it is finished. A folder of another training is an error,
    unless `overwrite` is set. The decorated function has this additional argument, and returns the `Path` of its
    `result` in the folder. With `alone`, only the main process trains while the others wait.
    """

    def decorate(train: Callable[..., Any]) -> Callable[..., Path]:
        @functools.wraps(train)
        def run(config: Any, *arguments: Any, overwrite: bool = False) -> Path:
            folder = Path(config.output_folder)
            check_writable(folder)
            settings, inputs = describe_config(config)
            if alone and process_rank():
                while not holds_finished(folder, kind, settings, inputs):
                    time.sleep(POLL_S)
                return folder / result
            with ExitStack() as stack:

                def hold() -> RunFolder:
                    held = hold_folder(folder, kind, settings, inputs, overwrite=overwrite, shared=shared)
                    return stack.enter_context(held)

                held = hold() if alone else _first_decides(hold, getattr(config, "use_cpu", False))
                if held.done:
                    announce(f"Done before: {folder / result}")
                    return folder / result
                start = time.monotonic()
                if logging.is_progress_bar_enabled():  # hides those of transformers' loading and saving
                    logging.disable_progress_bar()
                    stack.callback(logging.enable_progress_bar)
                train(config, *arguments)
                if not process_rank():
                    held.finish(folder / result if (folder / result).is_dir() else folder)
            announce(f"Done after {(time.monotonic() - start) / 60:.1f} min: {folder / result}")
            return folder / result

        return run

    return decorate


def _first_decides(hold: Callable[[], RunFolder], use_cpu: bool) -> RunFolder:
    """Hold a folder in the main process, and send the result to the others."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return hold()
    PartialState(cpu=use_cpu or not torch.accelerator.is_available())
    found: list[Any] = [None if process_rank() else hold()]
    return broadcast_object_list(found)[0]


def describe_config(config: Any, prefix: str = "") -> tuple[dict[str, Any], dict[str, dict[str, Path]]]:
    """Return the settings and input files, by key, that the result of a training depends on."""
    settings: dict[str, Any] = {}
    inputs: dict[str, dict[str, Path]] = {}
    hints = typing.get_type_hints(type(config), include_extras=True)
    for entry in dataclasses.fields(config):
        name, value, uses = prefix + entry.name, getattr(config, entry.name), _uses(hints[entry.name])
        if Use.FREE in uses or value is None:
            continue
        for key, each in _parts(name, value, uses):
            if dataclasses.is_dataclass(each):
                inner, inner_inputs = describe_config(each, f"{key}.")
                settings |= inner
                inputs |= inner_inputs
            elif Use.DATA in uses:
                inputs[key] = recording_files([Path(config.folder) / path for path in each])
            elif Use.NAMED_INPUT in uses and each in list_checkpoints():
                inputs[key] = named_files([Path(checkpoint(each))])
            elif Use.NAMED_INPUT in uses and not Path(each).is_dir() and not is_path(each):
                settings[key] = each
            elif uses & {Use.INPUT, Use.NAMED_INPUT}:
                paths = [Path(path) for path in ([each] if isinstance(each, str) else each)]
                for path in paths:
                    if not path.exists():
                        raise FileNotFoundError(f"{key} is {path}, which does not exist; give an existing one.")
                inputs[key] = named_files(paths)
            elif isinstance(each, list):
                settings[key] = [vars(item) if isinstance(item, Settings) else item for item in each]
            else:
                settings[key] = each
    return settings, inputs


def _parts(key: str, value: Any, uses: set[str]) -> list[tuple[str, Any]]:
    """Split a mapping of paths or dataclasses, or a list of names, into values by key; keep any other value whole."""
    if isinstance(value, list) and Use.NAMED_INPUT in uses:
        value = dict(enumerate(value))
    if isinstance(value, dict) and (uses or any(map(dataclasses.is_dataclass, value.values()))):
        return [(f"{key}.{name}", each) for name, each in value.items()]
    return [(key, value)]


def _uses(hint: Any) -> set[str]:
    """Return the [`Use`] marks anywhere in an annotation."""
    arguments = typing.get_args(hint)
    found = {mark for mark in arguments if isinstance(mark, str)} if typing.get_origin(hint) is Annotated else set()
    return found.union(*map(_uses, arguments))
