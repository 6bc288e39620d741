# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Word and character error rates of recognized speech."""

import re
from collections.abc import Sequence

import numpy as np


def normalise_text(text: str) -> str:
    """Return a text in lower case, with single spaces and no punctuation but apostrophes inside words."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'")))


def edit_distance(reference: Sequence[str], found: Sequence[str]) -> int:
    """Return the smallest number of substitutions, insertions and deletions that turn one sequence into another."""
    row = np.arange(len(found) + 1)
    steps = row.copy()
    for number, entry in enumerate(reference, 1):
        # Without insertions first; then the cheapest insertions after each place, as a running minimum.
        best = np.minimum(row[1:] + 1, row[:-1] + np.array([entry != other for other in found], dtype=int))
        row = np.minimum.accumulate(np.concatenate([[number], best]) - steps) + steps
    return int(row[-1])


def error_rates(references: Sequence[str], found: Sequence[str]) -> dict[str, float]:
    """Return `wer` and `cer` of texts, all errors over all words or characters; NaN without any.

    Paper: AudioLM (arXiv 2209.03143), acoustic generation from semantic tokens.
    """
    rates = {}
    texts = [[normalise_text(text) for text in each] for each in (references, found)]
    for name, split in (("wer", str.split), ("cer", list)):
        pairs = [(split(reference), split(text)) for reference, text in zip(*texts, strict=True)]
        total = sum(len(reference) for reference, _ in pairs)
        errors = sum(edit_distance(reference, text) for reference, text in pairs)
        rates[name] = errors / total if total else float("nan")
    return rates
