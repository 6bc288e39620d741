# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Generation protocol: how much of the content of recordings is left in audio generated from their semantic tokens?

The stages after the semantic one generate audio from a recording's semantic tokens, in a voice of their own or in the
voice of a prompt, which is the beginning of another recording of the speaker. The tokens of this audio are compared
with the given ones, frame by frame, and, with a speech recognizer, its words with the transcript. The topline is the
recording itself, and the floor the tokens of another recording.

Paper: AudioLM (arXiv 2209.03143), acoustic generation, table II.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jiwer
import numpy as np
import soxr
import torch
from transformers import pipeline

from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.evaluation.bootstrap import summarize
from audiolm_hf.evaluation.protocols.continuation import RESYNTHESIS, resynthesize
from audiolm_hf.evaluation.report import Headline, format_interval, headline, join_parts, systems_table
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.progress import progress_bar

METRICS = {"token_agreement": "same tokens %", "wer": "WER %", "cer": "CER %"}
LONGEST_S = 30.0  # of a recording: what recognizers take at once
Recognizer = Callable[[np.ndarray, int], str]  # samples (num_samples,) and their rate -> the words


def load_recognizer(name: str, device: str = "cpu") -> Recognizer:
    """Load a model for transformers' task automatic-speech-recognition, by folder or Hub name."""
    recognizer = pipeline("automatic-speech-recognition", model=name, device=device)
    own_rate = recognizer.feature_extractor.sampling_rate

    def recognize(array: np.ndarray, sampling_rate: int) -> str:
        array = soxr.resample(array, sampling_rate, own_rate) if sampling_rate != own_rate else array
        return recognizer({"raw": array, "sampling_rate": own_rate})["text"]

    return recognize


def normalize_text(text: str) -> str:
    """Return a text in lower case, with single spaces and no punctuation but apostrophes inside words."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'")))


def error_rates(references: Sequence[str], found: Sequence[str]) -> dict[str, float]:
    """Return `wer` and `cer` of texts, all errors over all words or characters; NaN without any."""
    known, recognized = ([normalize_text(text) for text in texts] for texts in (references, found))
    if not any(known):
        return {"wer": float("nan"), "cer": float("nan")}
    return {"wer": jiwer.wer(known, recognized), "cer": jiwer.cer(known, recognized)}


def token_agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the share of equal tokens `(semantic_length,)`, frame by frame, as far as both go."""
    length = min(len(first), len(second))
    return float((first[:length] == second[:length]).double().mean())


@torch.inference_mode()
def evaluate_generation(
    model: AudioLMModel,
    source: AudioSource,
    num_clips: int = 24,
    seed: int = 0,
    recognize: Recognizer | None = None,
    prompt_length_s: float | None = None,
) -> dict[str, Any]:
    """Generate audio from the semantic tokens of the first recordings of at most `LONGEST_S`.

    With a `prompt_length_s`, each is generated after the first seconds of the next recording of its speaker. The
    result has `systems`, the share of tokens that stay the same and, with a recognizer, `wer` and `cer` over all
    recordings with a text; `agreement`, the share for the model with its bootstrap interval; `texts`; and the
    settings.

    Raises:
        ValueError: no recording is short enough, none has a text to recognize, or a speaker has no other recording.
    """
    places = [place for place, duration in enumerate(source.durations) if duration <= LONGEST_S][:num_clips]
    if not places:
        raise ValueError(f"No recording lasts {LONGEST_S:g} s or less (the shortest {source.durations.min():.1f} s).")
    records = [source[place] for place in places]
    if recognize is not None and not any(record.text for record in records):
        raise ValueError("No recording has a `text`; give transcribed recordings, or leave out --asr.")
    prompts = _prompts(records, None if prompt_length_s is None else round(prompt_length_s * model.sampling_rate))
    tokenize = model.semantic_tokenizer.tokenize
    given = [_tokens(tokenize, record.array, record) for record in records]
    rows: dict[str, list[float]] = {}
    texts: dict[str, list[str]] = {}
    for number, record in enumerate(progress_bar(records, desc="generate", unit="recording")):
        output = model.generate(prompts[number], semantic_tokens=given[number][None], seed=seed + number)
        made = (
            output.audio_values[0, int(output.prompt_lengths[0]) : int(output.audio_lengths[0])].float().cpu().numpy()
        )
        sounds = {"model": made, RESYNTHESIS: resynthesize(model, record.array)[0], "real": record.array}
        for name, array in sounds.items():
            tokens = given[number] if name == "real" else _tokens(tokenize, array, record)
            rows.setdefault(name, []).append(token_agreement(given[number], tokens))
            if recognize is not None and record.text:
                texts.setdefault(name, []).append(recognize(array, record.sampling_rate))
        if len(records) > 1:
            other = given[(number + 1) % len(records)]
            rows.setdefault("another recording", []).append(token_agreement(given[number], other))
    references = [record.text for record in records if record.text]
    systems = {
        name: {"token_agreement": float(np.mean(shares))}
        | (error_rates(references, texts[name]) if name in texts else {})
        for name, shares in rows.items()
    }
    return {
        "systems": systems,
        "agreement": summarize(rows["model"], seed),
        "texts": {"reference": references} | texts if texts else {},
        "num_clips": len(records),
        "seconds": sum(record.duration for record in records),
        "prompt_length_s": prompt_length_s,
        "seed": seed,
    }


def _prompts(records: Sequence[AudioRecord], num_samples: int | None) -> list[torch.Tensor | None]:
    """Return the first samples `(1, num_samples)` of the next recording of each speaker, or None for each."""
    if num_samples is None:
        return [None] * len(records)
    prompts: list[torch.Tensor | None] = []
    for number, record in enumerate(records):
        following = [*records[number + 1 :], *records[:number]]
        others = (other for other in following if record.speaker and other.speaker == record.speaker)
        other = next((other for other in others if len(other.array) >= num_samples), None)
        if other is None:
            raise ValueError(
                f"{record.id} has the speaker {record.speaker!r}, of whom no other recording is long enough for a "
                "prompt. Give more recordings (--num-clips) that have a `speaker`, or leave out the length of prompts."
            )
        prompts.append(torch.from_numpy(other.array[None, :num_samples]))
    return prompts


def _tokens(tokenize: Callable[..., Any], array: np.ndarray, record: AudioRecord) -> torch.Tensor:
    return tokenize(torch.from_numpy(array)[None], sampling_rate=record.sampling_rate).semantic_tokens[0]


def format_generation(result: dict[str, Any]) -> str:
    """Format the result of [`evaluate_generation`] as a table."""
    words: Sequence[str] = result["texts"].get("reference", ())
    length_s = result["prompt_length_s"]
    prompt = "without a prompt" if length_s is None else f"after {length_s:g} s of another recording of the speaker"
    return join_parts(
        [
            f"Audio generated from the semantic tokens of {result['num_clips']} recordings, {result['seconds']:.0f} "
            f"s, {prompt}, seed {result['seed']}; words of {len(words)} transcripts",
            systems_table(result["systems"], METRICS if words else {"token_agreement": METRICS["token_agreement"]}),
            f"Share of the model's tokens that stay the same, with its 95 % bootstrap interval over the recordings: "
            f"{format_interval(result['agreement'])}",
        ]
    )


def generation_headlines(result: dict[str, Any]) -> list[Headline]:
    """Return the rows of a card's table."""
    names = [name for name in METRICS if name in result["systems"]["model"]]
    return [
        headline(name, f"from semantic tokens, {METRICS[name].removesuffix(' %')}", result["systems"])
        for name in names
    ]
