# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The program `audiolm-hf`: run a command, and print an error as one line.

Each command is a module of `commands` with two functions: `add_options(parser)`, and `run`, which takes the parsed
arguments and returns the exit status. `audiolm_hf_cli` prints the overview without importing this package.
"""

import argparse
import importlib
import io
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError

from audiolm_hf.commands.options import Parser
from audiolm_hf.run_folder import Interrupted
from audiolm_hf_cli import build_overview

# Verb -> (module of `commands`, extra of the package that installs what it needs beyond the core).
VERBS: dict[str, tuple[str, str | None]] = {
    "continue": ("continue_", None),
    "detect": ("detect", None),
    "checkpoints": ("checkpoints", None),
    "data": ("data", "train"),
    "tokenize": ("tokenize", "train"),
    "train": ("train", "train"),
    "evaluate": ("evaluate", "evaluation"),
    "benchmark": ("benchmark", "train"),
    "convert": ("convert", "train"),
    "push": ("push", None),
    "demo": ("demo", "space"),
    "card": ("card", "evaluation"),
}

# If this environment variable is set, errors are shown with tracebacks.
TRACEBACK_VARIABLE = "AUDIOLM_HF_TRACEBACK"
# Errors whose messages are for users. For all others, the type and a hint on the traceback are added.
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError, StrictDataclassError, SafetensorError)
_HTTP_ERROR = HfHubHTTPError.__bases__[0]  # of httpx or httpx2, whichever huggingface_hub is built on
SIGNALLED = 128  # plus a signal's number, this is the shell's status after the signal, such as 130 after Ctrl-C
_SIGNAL_DELAY_S = 0.01
BROKEN_PIPE = 141  # the shell's status if the reader of a pipe has gone


def _describe(error: Exception, verb: str) -> str:
    """Return an error as one line."""
    missing = (error.name or "audiolm_hf") if isinstance(error, ModuleNotFoundError) else "audiolm_hf"
    if missing.partition(".")[0] != "audiolm_hf":
        extra = VERBS[verb][1]
        what = f"'.[{extra}]' -c constraints.txt, in the folder of the repository" if extra else missing
        return f"the command {verb!r} needs the package {missing}, which is not installed: pip install {what}"
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    text = str(error)
    if "Traceback (most recent call last)" in text:  # transformers' pipeline puts tracebacks into its messages
        text = re.split(r"^(?:\w+\.)*\w+(?:Error|Exception): ", text, flags=re.MULTILINE)[-1]
    text = " ".join(text.split())
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    if isinstance(error, _HTTP_ERROR) and not isinstance(error, HfHubHTTPError):
        return f"the Hugging Face Hub cannot be reached ({text or type(error).__name__}); check the network"
    if text and isinstance(error, _USER_ERRORS):
        return text
    return " ".join([f"{type(error).__name__}:", *text.split(), f"(set {TRACEBACK_VARIABLE}=1 to see where)"])


def build_parser(verbs: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Build the parser with the options of some commands; its result has the attribute `run`."""
    modules = {verb: importlib.import_module(f"audiolm_hf.commands.{VERBS[verb][0]}") for verb in verbs}
    return build_overview(modules, parser_class=Parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program, also where its output was closed, and return the exit status."""
    with ExitStack() as streams, _terminable():
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream is None:
                streams.enter_context(redirect(streams.enter_context(Path(os.devnull).open("w"))))
        if isinstance(sys.stdout, io.TextIOWrapper):  # file names and labels can have letters that its encoding lacks
            sys.stdout.reconfigure(errors="backslashreplace")
        return _run(argv)


@contextmanager
def _terminable() -> Iterator[None]:
    """End a context on SIGTERM or SIGHUP, unless ignored, as on Ctrl-C, so that nothing unfinished is left."""

    def end(number: int, frame: Any) -> None:
        while frame is not None:
            if frame.f_code.co_name.startswith("vio_"):  # libsndfile, its caller, would drop the exception
                threading.Timer(_SIGNAL_DELAY_S, signal.raise_signal, (number,)).start()
                return
            frame = frame.f_back
        raise Interrupted(number=number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():  # others cannot have handlers
        numbers = []
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.signal(number, end) for number in numbers if signal.getsignal(number) in usual}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(argv: Sequence[str] | None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    verbs = [verb for verb in argv[:1] if verb in VERBS]
    try:
        arguments = build_parser(verbs).parse_args(argv)
        shown = ("/".join(Path(text).parts[-2:]) if Path(text).is_absolute() else text for text in argv)
        arguments.command = shlex.join(["audiolm-hf", *shown])  # reports contain no path of this machine
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as error:
        sys.stderr.write(f"audiolm-hf: {str(error) or 'interrupted.'}\n")
        return SIGNALLED + getattr(error, "number", signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards the rest of the buffer
        return BROKEN_PIPE
    except Exception as error:  # users get no traceback unless they ask for it
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.stderr.write(f"audiolm-hf: error: {_describe(error, verbs[0])}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
