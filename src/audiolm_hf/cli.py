# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The program `audiolm-hf`: finds the verb, runs it, and turns an error into one line.

Each verb is a module of `commands` with `add_parser(subparsers)`; the parser's default `run` takes the parsed
arguments and returns the exit status. `audiolm_hf_cli` shows the overview without importing this package.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

# Verb -> (module of `commands`, extra of the package that installs what it needs beyond the core).
VERBS: dict[str, tuple[str, str | None]] = {
    "continue": ("continue_", None),
    "checkpoints": ("checkpoints", None),
    "tokenize": ("tokenize", "train"),
    "train": ("train", "train"),
    "evaluate": ("evaluate", "evaluation"),
    "benchmark": ("benchmark", "train"),
    "push": ("push", None),
    "demo": ("demo", "space"),
}

# What a user can mend: shown as one line. Anything else is a defect and keeps its traceback.
_USER_ERRORS = (ValueError, TypeError, OSError)


def _missing_extra(verb: str, error: ModuleNotFoundError) -> str:
    extra = VERBS[verb][1]
    what = f"audiolm_hf[{extra}]" if extra else str(error.name)
    return f"the command {verb!r} needs the package {error.name}, which is not installed: pip install '{what}'"


def _is_own(error: ModuleNotFoundError) -> bool:
    return (error.name or "").partition(".")[0] == "audiolm_hf"


def _fail(message: str) -> int:
    sys.stderr.write(f"audiolm-hf: error: {message}\n")
    return 1


def build_parser(verbs: Sequence[str] = tuple(VERBS)) -> argparse.ArgumentParser:
    """Build the parser of the program.

    Args:
        verbs (`Sequence[str]`): verbs to load; by default all, for the overview.

    Returns:
        `argparse.ArgumentParser` whose result has the attribute `run`.

    Raises:
        ModuleNotFoundError: if a package is missing that a single verb needs; among several, its help says so.
    """
    parser = argparse.ArgumentParser(prog="audiolm-hf", description="Continue audio with AudioLM, and train it.")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="command")
    for verb in verbs:
        try:
            module = importlib.import_module(f"audiolm_hf.commands.{VERBS[verb][0]}")
        except ModuleNotFoundError as error:
            if _is_own(error) or len(verbs) == 1:
                raise
            subparsers.add_parser(verb, help=_missing_extra(verb, error))  # for the overview
        else:
            module.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        argv (`Sequence[str]`, *optional*): arguments; by default those of the process.

    Returns:
        `int`: exit status, 0 if all went well.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    verbs = argv[:1] if argv and argv[0] in VERBS else list(VERBS)
    try:
        arguments = build_parser(verbs).parse_args(argv)
        return arguments.run(arguments)
    except ModuleNotFoundError as error:
        if _is_own(error):
            raise
        return _fail(_missing_extra(verbs[0], error))
    except _USER_ERRORS as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130  # the shell's status for Ctrl-C


if __name__ == "__main__":
    sys.exit(main())
