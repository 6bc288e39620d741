# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The model card of a checkpoint, from the results of its evaluations.

The sections in `MEASURED` are generated from results. Those in `WRITTEN` are written by people: existing ones are
kept, and a missing one gets a default text.
"""

import json
import math
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from audiolm_hf.audio_file_audiolm import check_audio
from audiolm_hf.evaluation.protocols.accents import format_accents
from audiolm_hf.evaluation.protocols.checkpoint import PROTOCOLS
from audiolm_hf.evaluation.protocols.detector import detector_headlines, format_detector
from audiolm_hf.evaluation.protocols.generation import format_generation, generation_headlines
from audiolm_hf.evaluation.protocols.long_form import format_long_form
from audiolm_hf.evaluation.protocols.pairs import format_pairs
from audiolm_hf.evaluation.report import Formats, Headline, as_text, format_headlines, from_json, join_parts
from audiolm_hf.files import write_text
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.provenance_audiolm import checkpoint_hash

NOT_STATED = "Not stated yet."
WRITTEN = {
    "Uses": "Continuing audio like that it was trained on, research on audio language models, and tests.",
    "Out of scope": "Continuing a person's voice without that person's consent, and passing generated audio off as a "
    "recording.",
    "Training": NOT_STATED,
    "Limitations": NOT_STATED,
    "Licence": NOT_STATED,
}
MEASURED = ("Parts", "Examples", "Evaluation", "Bias", "Detector", "Provenance")
ORDER = (
    *("Uses", "Out of scope", "Parts", "Examples", "Training", "Evaluation", "Bias", "Detector", "Provenance"),
    *("Limitations", "Licence"),
)
AUDIO_SUFFIXES = (".opus", ".mp3")
LARGEST_EXAMPLE = 500_000  # bytes


FORMATS = {  # of the protocols outside the evaluation of a whole checkpoint
    "generation": Formats("From semantic tokens", as_text(format_generation), generation_headlines),
    "pairs": Formats("Pairs of sounds", as_text(format_pairs)),
    "long_form": Formats("Long continuations", as_text(format_long_form)),
    "accents": Formats("Groups", as_text(format_accents)),
    "detector": Formats("Detector", as_text(format_detector), detector_headlines),
}


class Results:
    """A results file of `audiolm-hf evaluate`, which must be of the checkpoint with the hash `digest`."""

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        try:
            report = from_json(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not JSON ({error}); give a file that audiolm-hf evaluate -o wrote.") from None
        if not isinstance(report, dict):
            raise ValueError(f"{path} holds a {type(report).__name__}, not an object with the key 'evaluation'.")
        for key in ("evaluation", "command", "data", "checkpoint_sha256"):
            if key not in report:
                raise ValueError(f"{path.name} has no key {key!r}; run the evaluation again.")
        self.report, self.evaluation = report, report["evaluation"]
        self.command, self.data = report["command"], report["data"]
        if self.evaluation not in ("checkpoint", *PROTOCOLS, *FORMATS):
            raise ValueError(f"{path.name}.evaluation is {self.evaluation!r}, which is not part of a card.")
        if self.report["checkpoint_sha256"] != digest:
            raise ValueError(
                f"{path.name} is of a checkpoint with the SHA-256 {self.report['checkpoint_sha256']}; this one has "
                f"{digest}. Run the evaluation again."
            )

    def parts(self) -> Iterator[tuple[str, str, list[Headline]]]:
        """Yield title, text and headlines of every protocol of the file, except the examples."""
        whole = self.evaluation == "checkpoint"
        named = self.report["protocols"] if whole else {self.evaluation: self.report}
        for name, result in named.items():
            if name != "samples":
                row: Any = {**PROTOCOLS, **FORMATS}.get(name)
                if row is None:
                    raise ValueError(f"{self.path.name}.protocols has {name!r}, which is not part of a card.")
                try:
                    yield row.title, row.format(result), row.headlines(result)
                except (AttributeError, IndexError, KeyError, TypeError, ValueError, StopIteration) as error:
                    flaw = f"{type(error).__name__}: {error}"
                    raise ValueError(
                        f"{self.path.name} is not a result of evaluate {name} ({flaw}); run it again."
                    ) from None

    def full_title(self, title: str) -> str:
        """Return a title, with the names of the data if the protocol was not part of a whole evaluation."""
        return f"{title}, {', '.join(self.data)}" if self.evaluation in PROTOCOLS else title

    def command_block(self) -> str:
        """Return the command as Markdown."""
        return f"```bash\n{self.command}\n```"


def write_card(
    folder: Path, results: Sequence[Path], examples: Path | None = None, license: str | None = None
) -> Path:
    """Write the card of a checkpoint, its README.md, and copy examples and plots to its subfolder samples.

    Front matter and hand-written sections of a card in `folder` are kept. `results` are JSON files of `audiolm-hf
    evaluate`, `examples` a folder of Opus or MP3 files, each with a PNG picture of the same name, and `license` the
    Hub's identifier of the licence, which is required if the card has none.
    """
    digest, path = checkpoint_hash(folder), folder / "README.md"
    found = [Results(each, digest) for each in results]
    old = path.read_text(encoding="utf-8") if path.is_file() else f"# {folder.resolve().name}\n"
    card = ModelCard(old if old.startswith("---") else f"---\n{{}}\n---\n\n{old}")
    data: Any = card.data
    data.license = license or data.license
    if not data.license:
        raise ValueError(f"{path} states no licence; give its identifier on the Hub, such as --license cc-by-4.0.")
    data.library_name, data.pipeline_tag = "transformers", data.pipeline_tag or "audio-to-audio"
    data.model_name = folder.resolve().name
    data.eval_results = list(_eval_results(found, data.pipeline_tag)) or None
    first, sections = split_sections(card.text)
    pictures = {} if examples is None else find_examples(examples)
    plots = [plot for each in found if (plot := each.path.with_suffix(".png")).is_file()]
    sections = {name: text for name, text in (sections | (WRITTEN | sections)).items() if name not in MEASURED} | {
        "Parts": _parts(folder),
        "Examples": "\n\n".join(f"![{audio.stem}](samples/{picture.name})\n[{audio.stem}, audio](samples/{audio.name})"
                                for audio, picture in pictures.items()),
        "Evaluation": _evaluation(found, digest),
        "Bias": _bias(found, plots),
        "Detector": _detector(found, folder),
        "Provenance": _provenance(digest),
    }  # fmt: skip
    body = "\n".join(f"## {name}\n\n{text}\n" for name, text in in_order(sections).items() if text)
    for file in [*pictures, *pictures.values(), *plots]:
        (folder / "samples").mkdir(exist_ok=True)
        if not (copy := folder / "samples" / file.name).exists() or not copy.samefile(file):
            shutil.copyfile(file, copy)
    text = f"---\n{data.to_yaml()}\n---\n\n{first}\n\n{body}"
    ModelCard(text)  # raises if the front matter is invalid
    write_text(path, text)
    return path


def split_sections(text: str) -> tuple[str, dict[str, str]]:
    """Return the text above the first section of a card, and the texts of the sections by title."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    fenced = False
    for line in text.strip().splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            parts.append((line[3:].strip(), []))
        else:
            parts[-1][1].append(line)
    return "\n".join(parts[0][1]).strip(), {title: "\n".join(lines).strip() for title, lines in parts[1:]}


def in_order(sections: Mapping[str, str]) -> dict[str, str]:
    """Return sections in the order of `ORDER`; any other section stays after the one that it followed."""
    place, places = -1, {}
    for title in sections:
        place = ORDER.index(title) if title in ORDER else place
        places[title] = (place, title not in ORDER)
    return {title: sections[title] for title in sorted(sections, key=lambda title: places[title])}


def find_examples(folder: Path) -> dict[Path, Path]:
    """Return the audio files of a folder, small and readable, each with the PNG of the same name."""
    found = sorted(path for path in folder.iterdir() if path.suffix in AUDIO_SUFFIXES)
    if not found:
        raise ValueError(f"{folder} holds no audio examples; they end in {' or '.join(AUDIO_SUFFIXES)}.")
    for path in found:
        if path.stat().st_size > LARGEST_EXAMPLE:
            raise ValueError(f"{path} has {path.stat().st_size:,} bytes; examples have {LARGEST_EXAMPLE:,} at most.")
        if not path.with_suffix(".png").is_file():
            raise ValueError(f"{path} has no picture {path.with_suffix('.png').name} next to it.")
        check_audio(path)
    return {path: path.with_suffix(".png") for path in found}


def _eval_results(found: Sequence[Results], task: str) -> Iterator[EvalResult]:
    for results in found:
        for name, value, _ in (row for *_, rows in results.parts() for row in rows):
            number = float(value.split()[0])
            if math.isfinite(number):
                yield EvalResult(
                    task_type=task,
                    dataset_type=" ".join(results.data[:1]).partition("/")[0] or "unknown",
                    dataset_name=", ".join(results.data) or "unknown",
                    metric_type=re.sub(r"\W+", "_", name.lower()),
                    metric_name=name,
                    metric_value=number,
                )


def _parts(folder: Path) -> str:
    """Return the table of the checkpoint's parts."""
    model = AudioLMModel.from_pretrained(folder, dtype="float32")
    codec, tokenizer = model.acoustic_codec, model.semantic_tokenizer
    rate, levels, size = codec.frame_rate, codec.num_codebooks, codec.codebook_size
    kbps = rate * levels * math.log2(size) / 1000
    codes = f"{codec.sampling_rate / 1000:g} kHz; {levels} levels of {size} codes at {rate:g} Hz, {kbps:g} kbps"
    tokens = f"{tokenizer.config.num_semantic_tokens} tokens at {tokenizer.config.semantic_frame_rate:g} Hz"
    described = {"codec": (codec.model, codes), "semantic tokenizer": (tokenizer, tokens)}
    for name, stage in model.stages.items():
        decoder = stage.config.backbone_config
        text = f"{decoder.model_type}, {decoder.num_hidden_layers} layers of {decoder.hidden_size}"
        described[f"{name} stage"] = (stage, text)
    rows = [
        f"| {name} | {sum(each.numel() for each in part.parameters()) / 1e6:.1f} M | {text} |"
        for name, (part, text) in described.items()
    ]
    return "\n".join(["| part | parameters | description |", "|---|--:|---|", *rows])


def _evaluation(found: Sequence[Results], digest: str) -> str:
    shown = [each for each in found if each.evaluation not in ("accents", "detector")]
    if not shown:
        return "This checkpoint has not been evaluated yet."
    parts = {each: list(each.parts()) for each in shown}
    text = [
        f"Of the weights with the SHA-256 {digest[:12]}. `DATA` is the data folder of the recipe.",
        format_headlines(
            [
                (each.full_title(name), value, others)
                for each, rows in parts.items()
                for *_, headlines in rows
                for name, value, others in headlines
            ]
        ),
    ]
    for results, sections in parts.items():
        text += [
            results.command_block(),
            *(f"**{results.full_title(title)}**\n\n{table}" for title, table, _ in sections),
        ]
    return join_parts(text).rstrip()


def _bias(found: Sequence[Results], plots: Sequence[Path]) -> str:
    shown = [each for each in found if each.evaluation == "accents"]
    text = []
    for results in shown:
        text += [results.command_block(), *(table for _, table, _ in results.parts())]
        plot = results.path.with_suffix(".png")
        text += [f"![groups](samples/{plot.name})"] if plot in plots else []
    return "\n\n".join(text) or "Groups of speakers were not compared."


def _detector(found: Sequence[Results], folder: Path) -> str:
    if not (folder / "detector" / "config.json").is_file():
        return "This checkpoint has no detector of its audio."
    shown = [each for each in found if each.evaluation == "detector"]
    name = folder.resolve().name
    text = [f"It is in the subfolder `detector`: `audiolm-hf detect FILE --detector {name}`."]
    for results in shown:
        for _, table, rows in results.parts():
            text += [results.command_block(), format_headlines(rows), table]
    return "\n\n".join(text if shown else [*text, "It has not been evaluated yet."])


def _provenance(digest: str) -> str:
    text = (
        "Files that the program, `processor.save_audio` and the Space write state in their metadata that they are "
        "generated, software and version, time, seed, and the checkpoint with its SHA-256. "
        "`audiolm-hf detect --metadata FILE` reads them; many programs drop metadata."
    )
    return f"{textwrap.fill(text, 110, break_long_words=False)}\n\nSHA-256: `{digest}`"
