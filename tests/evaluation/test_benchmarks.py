# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Benchmarks in their official layouts are read, and what is damaged is an error with file and line."""

import pytest

from audiolm_hf.evaluation.benchmarks import Pair, read_benchmark, read_items
from tests.helpers_benchmarks import (
    ITEM,
    LEXICAL,
    SYNTACTIC,
    lexical_rows,
    syntactic_rows,
    write_gold,
    write_pairs,
    write_salmon,
    write_zerospeech,
)


def test_zerospeech_pairs_words_by_voice_and_id_and_sentences_by_order(tmp_path):
    lexical, test, syntactic = read_benchmark(write_zerospeech(tmp_path))
    assert [task.name for task in (lexical, test, syntactic)] == ["lexical/dev", "lexical/test", "syntactic/dev"]
    assert lexical.pairs[0] == Pair("w001", "w000", "0", "in vocabulary") and len(lexical.pairs) == 6
    assert lexical.pairs[-1] == Pair("w211", "w210", "2", "out of vocabulary") and len(lexical.files) == 12
    assert syntactic.pairs[1] == Pair("s11", "s10", "1", "ellipsis") and len(syntactic.pairs) == 4
    assert test.pairs == () and list(test.files) == ["unknown"]


def test_salmon_and_folders_of_pairs(tmp_path):
    tasks = read_benchmark(write_salmon(tmp_path / "salmon"))
    assert [task.name for task in tasks] == ["bg_alignment", "sentiment_consistency"]
    assert [pair.positive for pair in tasks[0].pairs] == ["sample_0_0", "sample_1_0", "sample_10_0"]
    assert [pair.negative for pair in tasks[0].pairs] == ["sample_0_1", "sample_1_1", "sample_10_1"]
    folder = write_pairs(tmp_path / "pairs")
    for given in (folder, folder / "own"):
        (task,) = read_benchmark(given)
        assert task.name == "own" and len(task.files) == 4
        assert task.pairs == (Pair("positive/a", "negative/a", "a"), Pair("positive/sub/b", "negative/sub/b", "sub/b"))


def changed(rows, line, old, new):
    return [row.replace(old, new) if number == line else row for number, row in enumerate(rows, 2)]


LINES = {
    "voice": ("lexical", LEXICAL, changed(lexical_rows(), 4, "v1", "v7"), "line 4: no non-word has the id 0 and the"),
    "non-word": ("lexical", LEXICAL, [*lexical_rows(), "x,9,v0,1,word,p,1,0"], "line 14: no word has the id 9"),
    "correct": (
        "lexical",
        LEXICAL,
        changed(lexical_rows(), 3, "3,0", "3,yes"),
        "line 3: correct is 'yes', not 0 or 1",
    ),
    "frequency": ("lexical", LEXICAL, changed(lexical_rows(), 2, "v0,5", "v0,often"), "line 2: frequency is 'often'"),
    "cells": ("lexical", LEXICAL, changed(lexical_rows(), 5, ",word", ""), "line 5: it has 7 cells, and the header 8"),
    "quote": ("lexical", LEXICAL, changed(lexical_rows(), 5, ",word", ',"word'), "line 5: it cannot be read"),
    "twice": ("lexical", LEXICAL, [*lexical_rows(), lexical_rows()[0]], "line 14: w001 has an earlier line"),
    "header": ("lexical", LEXICAL.replace("voice", "speaker"), lexical_rows(), "line 1: the header has no voice"),
    "subtype": (
        "syntactic",
        SYNTACTIC,
        changed(syntactic_rows(), 4, "sub1", "sub9"),
        "line 4: its pair in line 5 has",
    ),
    "sentence": ("syntactic", SYNTACTIC, syntactic_rows()[:-1], "line 8: it has no pair: 3 lines are correct, 4 are"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_damaged_gold_file_is_an_error_with_file_and_line(tmp_path, name):
    part, header, rows, message = LINES[name]
    write_gold(tmp_path / part / "dev", header, rows)
    with pytest.raises(ValueError, match=rf"{part}/dev/gold.csv, {message}"):
        read_benchmark(tmp_path)


def test_missing_sounds_bytes_and_layouts_are_errors(tmp_path):
    gold = write_zerospeech(tmp_path / "zerospeech") / "lexical" / "dev" / "gold.csv"
    gold.with_name("w010.wav").unlink()
    with pytest.raises(ValueError, match=r"gold.csv, line 5: there is no w010.wav next to it"):
        read_benchmark(tmp_path / "zerospeech")
    for content, message in (
        (b"", "line 1: the file is empty"),
        (LEXICAL.encode() + b"\n\xff", "line 2: it cannot be"),
    ):
        gold.write_bytes(content)
        with pytest.raises(ValueError, match=f"gold.csv, {message}"):
            read_benchmark(tmp_path / "zerospeech")
    (write_salmon(tmp_path / "salmon") / "bg_alignment" / "sample_10_0.wav").unlink()
    with pytest.raises(ValueError, match=r"sample_10_1.wav has no pair: there is no sample_10_0.wav next to it"):
        read_benchmark(tmp_path / "salmon")
    (write_pairs(tmp_path / "pairs") / "own" / "negative" / "a.wav").unlink()
    with pytest.raises(ValueError, match=r"own needs the same names in positive/ and negative/: 'a' is in one"):
        read_benchmark(tmp_path / "pairs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has none of the layouts of pairs; give a folder with lexical/ or"):
        read_benchmark(tmp_path / "empty")


def test_item_files_are_read_and_their_damage_is_an_error_with_file_and_line(tmp_path):
    path = tmp_path / "dev.item"
    path.write_text(f"{ITEM}\nrec1 0.25 0.5 AH K T 84\nrec2 1 1.5 T AH K 12\n")
    first, second = read_items(path)
    assert (first.phone, first.context, first.speaker, first.recording) == ("AH", ("K", "T"), "84", "rec1")
    assert (second.onset, second.offset) == (1.0, 1.5)
    for line, message in (
        ("rec1 0.25 0.5 AH K T", "line 2: it has 6 cells, and the header 7"),
        ("rec1 0.25 end AH K T 84", "line 2: offset is 'end', not a number"),
        ("rec1 0.5 0.25 AH K T 84", "line 2: onset 0.5 and offset 0.25 are not an interval"),
    ):
        path.write_text(f"{ITEM}\n{line}\n")
        with pytest.raises(ValueError, match=f"dev.item, {message}"):
            read_items(path)
    path.write_text(ITEM)
    with pytest.raises(ValueError, match=r"dev.item, line 1: there are no items after it"):
        read_items(path)


def test_sounds_that_only_differ_in_their_endings_are_refused(tmp_path):
    folder = write_pairs(tmp_path)
    first = next(folder.rglob("positive/a.*"))
    first.with_suffix(".flac").write_bytes(first.read_bytes())
    with pytest.raises(ValueError, match="positive has sounds that only differ in their endings"):
        read_benchmark(folder)


ITEM_HEADER, ITEM_LINE = "#file onset offset #phone prev-phone next-phone speaker", "a 0.1 0.2 AA B C s"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{ITEM_HEADER}\n{ITEM_LINE}\n{ITEM_LINE}", "line 3: the same item has an earlier line"),
        (f"{ITEM_HEADER} speaker\n{ITEM_LINE} t", "line 1: the header has a column twice"),
    ],
)
def test_items_and_columns_are_there_once(tmp_path, text, problem):
    (tmp_path / "dev.item").write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_items(tmp_path / "dev.item")
