# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The code, the recipes and the documents are in plain English: some common bad habits are refused."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
ENDINGS = {".md", ".yaml"}
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "src").rglob("*.md")),
    *sorted(path for folder in ("configs", "spaces") for path in (ROOT / folder).rglob("*") if path.suffix in ENDINGS),
]

# First word of a docstring -> a better one. It should say what is returned or done.
FIRST_WORDS = {
    "Give": "Return",
    "Gives": "Return",
    "Say": "Return whether",
    "Says": "Return whether",
    "Tell": "Return",
    "Tells": "Return",
    "Put": "Write, Load or Replace",
    "Bring": "Convert or Scale",
    "Let": "what is done",
    "Teach": "Train",
    "Refuse": "Check that",
}
# Pattern of a phrase -> a better one. Models are trained and conditioned, trainings resume, evaluations have metrics.
PHRASES = {
    r"\bgo(es)? on (from|with|where|to)\b": "continue or resume",
    r"\b(hears?|heard|listens|listened|listen to)\b": "models are trained on audio and conditioned on tokens",
    r"\b(stage|model|checkpoint|encoder|decoder|codec)s? (knows?|says?|wants?|understands?)\b": "what it has",
    r"\bby (itself|themselves)\b": "on its own",
    r"\bfigures\b": "metrics",
    r"\bdear(er|est)\b": "slower or larger",
    r"\bforesees?\b": "predict",
    r"\bwithout a word\b": "silently",
    r"\bof before\b": "previous or old",
    r"\bbut for\b": "except",
    r"(?<!there )\b(is|are) no (?!longer|more|better|worse|proof|sign|part|kilo)[a-z]": "is not a",
    r"\b(a|of|with|in|has|by|least|most|over) so many\b": "this many, or the name of the number",
    r"\b(is|are) an? `?(Value|Type|Import|Runtime)Error": "raises",
    r"\bat hand\b": "available",
    r"\byardsticks?\b": "baselines",
    r"\bbeside this file\b": "in this folder",
    r"\bstarted again\b": "rerun",
    r"\btak(e|es|en) down\b": "record",
    r"\bpassed over\b": "skipped or ignored",
    r"\ball the same\b": "still",
    r"\bby heart\b": "overfitting",
    r"\bby and by\b": "gradually",
    r"\b(normal|quant|unquant|initial|token|util|synthes)is(e|ed|es|ing|ation)\b": "-iz-",
}


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Comments and strings of a Python file with their lines; strings of one word are names."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_text = token.type == tokenize.STRING and len(token.string.split()) > 2
        if token.type == tokenize.COMMENT or is_text or token.type == getattr(tokenize, "FSTRING_MIDDLE", -1):
            yield token.start[0], token.string


def wrong_first_words(source: str) -> list[str]:
    found = [(line, text.split()[0]) for line, text in docstrings(ast.parse(source))]
    return [f"{line}: {word}; better: {FIRST_WORDS[word]}" for line, word in found if word in FIRST_WORDS]


def wrong_phrases(parts: Iterator[tuple[int, str]]) -> list[str]:
    return [
        f"{line}: {match[0]!r}; better: {better}"
        for line, text in parts
        for phrase, better in PHRASES.items()
        if (match := re.search(phrase, text, re.IGNORECASE))
    ]


def check_all(paths: list[Path], find: Callable[[str], list[str]]) -> None:
    wrong = {str(path.relative_to(ROOT)): find(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_docstrings_begin_with_what_is_done():
    check_all(SOURCES, wrong_first_words)


def test_code_is_in_plain_english():
    check_all(SOURCES, lambda source: wrong_phrases(texts(source)))


def test_documents_are_in_plain_english():
    check_all(DOCUMENTS, lambda text: wrong_phrases(enumerate(text.splitlines(), start=1)))


def test_names_are_spelled_like_the_prose():
    other = re.compile(r"\w*(normal|summar|standard|quant|token|initial|synthes)is(?:e|ation)\w*", re.IGNORECASE)
    assert {match[0] for path in SOURCES for match in other.finditer(path.read_text(encoding="utf-8"))} == set()


@pytest.mark.parametrize(
    "code",
    [
        'def f():\n    """Give the ids."""',
        'class A:\n    """Says it."""',
        "x = 1  # a run that goes on from the last step",
        'raise ValueError("the stage never heard it")',
        'x = f"the model knows {y} of them"',
        'def f():\n    """Return all, but for the last."""',
        'def f():\n    """Return the frames of so many seconds."""',
        'def f():\n    """Read a file; an empty one is a `ValueError`."""',
    ],
)
def test_check_finds_what_it_refuses(code: str):
    assert len(wrong_first_words(code) + wrong_phrases(texts(code))) == 1
