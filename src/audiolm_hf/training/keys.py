# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Help on the keys of a training's YAML file, from its dataclass: types, defaults and the docstrings' `Args`."""

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

_WIDTH = 110
_ENTRY = re.compile(r"^    ([\w, ]+) \(.*?\): (.*(?:\n      .*)*)", re.MULTILINE)


def describe_keys(config_class: type) -> str:
    """Return a line for every key: its type, its default if it has one, and its description."""
    return "\n".join(
        textwrap.fill(line, _WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
        for line in _lines(config_class, "")
    )


def _lines(config_class: Any, prefix: str) -> Iterator[str]:
    hints = typing.get_type_hints(config_class)
    texts = key_texts(config_class)
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        facts = [_type_text(hint)]
        if field.default is not dataclasses.MISSING:
            facts += [] if field.default is None else [f"default {field.default}"]
        elif field.default_factory is dataclasses.MISSING:
            facts.append("required")
        yield f"{prefix}{field.name} ({', '.join(facts)}): {texts[field.name]}"
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner):
                yield from _lines(inner, f"{prefix}{field.name}{'' if inner is hint else '[]'}.")


def key_texts(config_class: type) -> dict[str, str]:
    """Return the descriptions in the docstrings of a dataclass and its bases by field."""
    texts: dict[str, str] = {}
    for each in config_class.__mro__:
        _, _, described = inspect.cleandoc(each.__doc__ or "").partition("Args:\n")
        for names, text in _ENTRY.findall(described):
            for name in names.split(", "):
                texts.setdefault(name, " ".join(text.replace("`", "").split()))
    return texts


def _type_text(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_text(each) for each in arguments if each is not type(None)) + ", optional"
    if origin is list:
        return f"list of {_type_text(arguments[0])}"
    return "keys below" if dataclasses.is_dataclass(hint) else (origin or hint).__name__
