# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Word and character error rates of recognized speech."""

import re
from collections.abc import Sequence

import jiwer


def normalise_text(text: str) -> str:
    """Return a text in lower case, with single spaces and no punctuation but apostrophes inside words."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'")))


def error_rates(references: Sequence[str], found: Sequence[str]) -> dict[str, float]:
    """Return `wer` and `cer` of texts, all errors over all words or characters; NaN without any.

    Paper: AudioLM (arXiv 2209.03143), acoustic generation from semantic tokens.
    """
    known, recognized = ([normalise_text(text) for text in texts] for texts in (references, found))
    if not any(known):
        return {"wer": float("nan"), "cer": float("nan")}
    return {"wer": jiwer.wer(known, recognized), "cer": jiwer.cer(known, recognized)}
