# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Benchmark files in their official layouts: pairs of sounds, one of which should be more likely, and ABX items.

ZeroSpeech 2021 has `lexical` (sWUGGY) and `syntactic` (sBLIMP), each with folders `dev` and `test` of WAV files and a
`gold.csv`. SALMon has a folder for each task, with `sample_<number>_0.wav` (positive) and `sample_<number>_1.wav`.
Other pairs lie in the folders `positive` and `negative`, under the same names.
"""

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiolm_hf.data.clips import AUDIO_SUFFIXES
from audiolm_hf.evaluation.metrics.abx import AbxItem

LAYOUTS = "lexical/ or syntactic/ with dev/ or test/, folders of sample_<number>_<0|1>.wav, or positive/ and negative/"
_LEXICAL = ("filename", "id", "voice", "frequency", "word", "phones", "length", "correct")
_SYNTACTIC = ("filename", "id", "voice", "type", "subtype", "transcription", "correct")
_ITEM = ("#file", "onset", "offset", "#phone", "prev-phone", "next-phone", "speaker")
_SALMON = re.compile(r"sample_(\d+)_([01])\.wav")


@dataclass(frozen=True)
class Pair:
    """Two sounds by name; `positive` should be the more likely one.

    Pairs of the same `item` are averaged first. Each `group` has a row in the table, in addition to that of all pairs.
    """

    positive: str
    negative: str
    item: str
    group: str = ""


@dataclass(frozen=True)
class PairTask:
    """A task: all sounds by name, and their pairs. Without `gold.csv` there are no pairs, only scores."""

    name: str
    files: dict[str, Path]
    pairs: tuple[Pair, ...] = ()


def read_benchmark(folder: str | Path) -> list[PairTask]:
    """Return the tasks of a folder in one of `LAYOUTS`; a `ValueError` names the invalid file and line."""
    folder = Path(folder)
    tasks = [*_zerospeech_tasks(folder), *_salmon_tasks(folder), *_folder_tasks(folder)]
    if not tasks:
        raise ValueError(f"{folder} has none of the layouts of pairs; give a folder with {LAYOUTS}.")
    return tasks


def _bad(path: Path, line: int, problem: str) -> ValueError:
    return ValueError(f"{path}, line {line}: {problem}; give the file as it was published.")


def _read_rows(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and the cells of each line of a table, whose header must have all `columns`."""
    header: list[str] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            cells = next(csv.reader([line.decode("utf-8-sig")], delimiter=delimiter, strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise _bad(path, number, f"it cannot be read ({error})") from None
        if number == 1:
            header = cells
            missing = [name for name in columns if name not in header]
            if missing:
                raise _bad(path, 1, f"the header has no {', '.join(missing)}")
            if len(set(header)) < len(header):
                raise _bad(path, 1, "the header has a column twice")
        elif len(cells) != len(header):
            raise _bad(path, number, f"it has {len(cells)} cells, and the header {len(header)}")
        else:
            yield number, dict(zip(header, cells, strict=True))
    if not header:
        raise _bad(path, 1, "the file is empty")


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _bad(path, line, f"{name} is {text!r}, not a number")
    return value


def _zerospeech_tasks(folder: Path) -> Iterator[PairTask]:
    for part, columns in (("lexical", _LEXICAL), ("syntactic", _SYNTACTIC)):
        for split in ("dev", "test"):
            if (folder / part / split).is_dir():
                files = {path.stem: path for path in sorted((folder / part / split).glob("*.wav"))}
                if not files:
                    raise ValueError(f"{folder / part / split} holds no .wav files; unpack the benchmark again.")
                gold = folder / part / split / "gold.csv"
                pairs = _gold_pairs(gold, columns, files) if gold.is_file() else ()
                yield PairTask(f"{part}/{split}", files, tuple(pairs))


def _gold_pairs(path: Path, columns: Sequence[str], files: dict[str, Path]) -> Iterator[Pair]:
    """Pair words by voice and id, and sentences by their order, as the official scorers do."""
    sides: tuple[list[tuple[int, dict[str, str]]], ...] = ([], [])
    seen: set[str] = set()
    for line, row in _read_rows(path, columns, ","):
        row["filename"] = row["filename"].removesuffix(".wav")
        if row["filename"] not in files:
            raise _bad(path, line, f"there is no {row['filename']}.wav next to it")
        if row["filename"] in seen:
            raise _bad(path, line, f"{row['filename']} has an earlier line")
        if row["correct"] not in ("0", "1"):
            raise _bad(path, line, f"correct is {row['correct']!r}, not 0 or 1")
        seen.add(row["filename"])
        sides[int(row["correct"])].append((line, row))
    lexical = columns is _LEXICAL
    for (_, wrong), (line, right) in _match_words(path, *sides) if lexical else _match_sentences(path, *sides):
        if lexical:
            known = _number(path, line, "frequency", right["frequency"]) > 0
            group = "in vocabulary" if known else "out of vocabulary"
        else:
            group = right["type"]
        yield Pair(right["filename"], wrong["filename"], right["id"], group)


_Line = tuple[int, dict[str, str]]


def _match_words(path: Path, wrong: list[_Line], right: list[_Line]) -> Iterator[tuple[_Line, _Line]]:
    matched = set()
    for line, word in right:
        found = [other for other in wrong if all(other[1][key] == word[key] for key in ("voice", "id"))]
        if not found:
            raise _bad(path, line, f"no non-word has the id {word['id']} and the voice {word['voice']}")
        matched |= {other for other, _ in found}
        yield from ((other, (line, word)) for other in found)
    for line, other_word in wrong:
        if line not in matched:
            raise _bad(path, line, f"no word has the id {other_word['id']} and the voice {other_word['voice']}")


def _match_sentences(path: Path, wrong: list[_Line], right: list[_Line]) -> Iterator[tuple[_Line, _Line]]:
    for other, own in zip(wrong, right, strict=False):
        if other[1]["subtype"] != own[1]["subtype"]:
            raise _bad(path, other[0], f"its pair in line {own[0]} has another subtype, {own[1]['subtype']}")
        yield other, own
    if len(wrong) != len(right):
        longer, count = max(wrong, right, key=len), min(len(wrong), len(right))
        raise _bad(path, longer[count][0], f"it has no pair: {len(right)} lines are correct, {len(wrong)} are not")


def _salmon_tasks(folder: Path) -> Iterator[PairTask]:
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = {path.stem: path for path in sorted(part.glob("sample_*.wav")) if _SALMON.fullmatch(path.name)}
        for stem in files:
            partner = f"{stem[:-1]}{1 - int(stem[-1])}"
            if partner not in files:
                raise ValueError(f"{files[stem]} has no pair: there is no {partner}.wav next to it.")
        numbers = sorted({stem[:-1] for stem in files}, key=lambda stem: int(stem.split("_")[1]))
        if files:
            yield PairTask(part.name, files, tuple(Pair(f"{name}0", f"{name}1", name) for name in numbers))


def _folder_tasks(folder: Path) -> Iterator[PairTask]:
    for positive in sorted(path for path in folder.rglob("positive") if path.is_dir()):
        sides = {}
        for side in (positive, positive.with_name("negative")):
            paths = sorted(path for path in side.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
            sides[side.name] = {str(path.relative_to(side).with_suffix("")): path for path in paths}
            if len(sides[side.name]) < len(paths):
                raise ValueError(f"{side} has sounds that only differ in their endings; give each another name.")
        odd = sorted(sides["positive"].keys() ^ sides["negative"].keys())
        if odd or not sides["positive"]:
            problem = f"{odd[0]!r} is in one of them only" if odd else "there are none"
            raise ValueError(f"{positive.parent} needs the same names in positive/ and negative/: {problem}.")
        files = {f"{side}/{name}": path for side, named in sides.items() for name, path in named.items()}
        pairs = tuple(Pair(f"positive/{name}", f"negative/{name}", name) for name in sides["positive"])
        relative = positive.parent.relative_to(folder)
        yield PairTask(str(relative) if relative.parts else folder.resolve().name, files, pairs)


def read_items(path: str | Path) -> list[AbxItem]:
    """Return the triphones of an ABX item file; a `ValueError` names an invalid line."""
    path, items, seen = Path(path), list[AbxItem](), set[AbxItem]()
    for line, row in _read_rows(path, _ITEM, " "):
        onset, offset = (_number(path, line, name, row[name]) for name in ("onset", "offset"))
        if not 0 <= onset < offset:
            raise _bad(path, line, f"onset {onset:g} and offset {offset:g} are not an interval")
        context = (row["prev-phone"], row["next-phone"])
        items.append(AbxItem(row["#phone"], context, row["speaker"], row["#file"], onset, offset))
        if items[-1] in seen:  # a duplicate would always be the nearest item
            raise _bad(path, line, "the same item has an earlier line")
        seen.add(items[-1])
    if not items:
        raise _bad(path, 1, "there are no items after it")
    return items
