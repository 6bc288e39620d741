# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Small benchmarks in the official layouts of ZeroSpeech 2021 and SALMon, and pairs and ABX items."""

import numpy as np
import soundfile

RATE = 16000
LEXICAL = "filename,id,voice,frequency,word,phones,length,correct"
SYNTACTIC = "filename,id,voice,type,subtype,transcription,correct"
ITEM = "#file onset offset #phone prev-phone next-phone speaker"
SALMON = ("bg_alignment", "sentiment_consistency")


def write_sound(path, seed=0, seconds=0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)), RATE)


def write_gold(folder, header, rows):
    """Write gold.csv and a sound for each row; the sounds' names say nothing about which is right."""
    for number, row in enumerate(rows):
        write_sound(folder / f"{row.split(',')[0]}.wav", number)
    (folder / "gold.csv").write_text("\n".join([header, *rows]) + "\n")


def lexical_rows():
    """Three words by two voices; the last one is not in the vocabulary."""
    return [
        f"w{word}{voice}{correct},{word},v{voice},{(5, 1, 0)[word]},word,p h o,3,{correct}"
        for word in range(3)
        for voice in range(2)
        for correct in (1, 0)
    ]


def syntactic_rows():
    """Four pairs of two types, each pair by one voice, right and wrong in turn."""
    return [
        f"s{pair}{side},{pair},v0,{('agreement', 'ellipsis')[pair % 2]},sub{pair},a text,{side}"
        for pair in range(4)
        for side in (0, 1)
    ]


def write_zerospeech(folder):
    write_gold(folder / "lexical" / "dev", LEXICAL, lexical_rows())
    write_gold(folder / "syntactic" / "dev", SYNTACTIC, syntactic_rows())
    write_sound(folder / "lexical" / "test" / "unknown.wav")  # its gold.csv is not published
    return folder


def write_salmon(folder):
    for task in SALMON:
        for number in (0, 1, 10):
            for side in (0, 1):
                write_sound(folder / task / f"sample_{number}_{side}.wav", 2 * number + side)
    return folder


def write_pairs(folder):
    for side in ("positive", "negative"):
        for name in ("a.wav", "sub/b.flac"):
            write_sound(folder / "own" / side / name)
    return folder
