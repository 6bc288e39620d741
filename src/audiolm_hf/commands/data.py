# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""`audiolm-hf data`: build the data folder of a recipe from the archives of public corpora."""

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiolm_hf.run_folder import check_writable

if TYPE_CHECKING:
    from audiolm_hf.data.corpora import Corpus, Recording

    Lists = dict[str, list[dict[str, str]]]

EXCERPT_S = 15.0
EXCERPTS_FROM_S = 95.0  # first seconds of each piece, from which excerpts are taken, and which set its loudness


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Download public corpora, verify them, and write their splits as parquet files. Rerunning the command resumes "
        "and skips finished files."
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the corpora, see configs/data")
    parser.add_argument(
        "--archive",
        action="append",
        default=[],
        metavar="CORPUS=PATH",
        help="an archive that is already downloaded, or the folder it was unpacked to; repeat for several corpora",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files built from other lists or archives")
    parser.add_argument("-o", "--output", type=Path, required=True, help="data folder (DATA in the recipes)")


def run(arguments: argparse.Namespace) -> int:
    from audiolm_hf.data.corpora import ARCHIVES_FOLDER, check_digest, fetch, read_lists
    from audiolm_hf.run_folder import hold_folder, holds_finished

    lists_folder, output = arguments.config.parent, arguments.output
    corpora = read_corpora(arguments.config)
    archives = _archives(arguments.archive, corpora)
    lists = {name: read_lists(corpus, lists_folder) for name, corpus in corpora.items()}
    excerpts = {name: _read_excerpts(corpus, lists_folder, lists[name]) for name, corpus in corpora.items()}
    settings = {
        name: {"digest": corpus.digest, "lists": lists[name], "excerpts": excerpts[name]}
        for name, corpus in corpora.items()
    }
    output.mkdir(parents=True, exist_ok=True)
    check_writable(output)
    for name, archive in archives.items():  # all of them before the first is used
        if archive.is_file() and not holds_finished(output / name, "data", settings[name], {}):
            check_digest(archive, corpora[name].digest)
    for name, corpus in corpora.items():
        with hold_folder(output / name, "data", settings[name], {}, overwrite=arguments.overwrite) as held:
            if held.done:
                sys.stdout.write(f"{held.path}: done before.\n")
                continue
            fetched = output / ARCHIVES_FOLDER / Path(corpus.url).name
            archive = archives.get(name) or fetch(corpus.url, fetched, corpus.digest)
            _write_splits(held.path, corpus, lists[name], excerpts[name], archive)
            held.finish(held.path)
    return 0


def read_corpora(path: Path) -> dict[str, "Corpus"]:
    """Read the YAML file of a [`~audiolm_hf.data.corpora.CorporaConfig`], and return its corpora by name."""
    from audiolm_hf.data.corpora import CorporaConfig
    from audiolm_hf.settings import build
    from audiolm_hf.training.yaml_files import read_mapping

    return build(CorporaConfig, read_mapping(path), str(path)).corpora


def _archives(given: list[str], corpora: dict[str, "Corpus"]) -> dict[str, Path]:
    """Return the given archives by name of the corpus."""
    archives: dict[str, Path] = {}
    for text in given:
        name, _, path = text.partition("=")
        if name not in corpora or not path:
            raise ValueError(f"--archive is {text!r}; give CORPUS=PATH, with one of {', '.join(corpora)}.")
        if not Path(path).exists():
            raise FileNotFoundError(f"--archive {text}: there is no file or folder {path}.")
        archives[name] = Path(path)
    return archives


def _read_excerpts(corpus: "Corpus", folder: Path, lists: "Lists") -> dict[str, list[tuple[str, float]]]:
    """Return the path and the start in seconds of the excerpts of each split, which need fluidsynth."""
    from audiolm_hf.data.corpora import read_list
    from audiolm_hf.training.render import RenderConfig, check_synthesizer

    if corpus.excerpts:
        check_synthesizer(RenderConfig.soundfont)
    lengths_s = {row["path"]: min(float(row["duration"]), EXCERPTS_FROM_S) for row in chain(*lists.values())
                 if corpus.excerpts}  # fmt: skip
    excerpts = {}
    for split, name in corpus.excerpts.items():
        excerpts[split] = [(row["path"], float(row["start"])) for row in read_list(folder / name, ("start",))]
        for path, start in excerpts[split]:
            if start >= lengths_s.get(path, 0.0):
                raise ValueError(
                    f"{folder / name} has {path} from {start:g} s, which no list names, or which ends before."
                )
    return excerpts


def _write_splits(
    folder: Path, corpus: "Corpus", lists: "Lists", excerpts: dict[str, list[tuple[str, float]]], archive: Path
) -> None:
    from audiolm_hf.data import corpora

    recordings = corpora.read_corpus(corpus, archive, lists)
    is_midi = corpus.layout == "midi"
    make = corpora.midi_rows if is_midi else corpora.audio_rows
    for split, rows in lists.items():
        features = corpora.MIDI_FEATURES if is_midi else corpora.AUDIO_FEATURES
        _write(folder / f"{split}.parquet", make(corpus, rows, recordings), features)
    labels = {row["path"]: row for rows in lists.values() for row in rows}
    for split, places in excerpts.items():
        made = list(_render_excerpts(places, recordings, labels, corpus.url))
        _write(folder / f"{split}.parquet", made, corpora.AUDIO_FEATURES)


def _write(path: Path, rows: list[dict[str, Any]], features: Any) -> None:
    from audiolm_hf.data.corpora import write_rows

    write_rows(path, rows, features)
    speakers = len({row.get("speaker", row.get("composer")) for row in rows})
    minutes = sum(row["duration"] for row in rows) / 60
    sys.stdout.write(f"{path}: {len(rows)} recordings, {speakers} speakers or composers, {minutes:.1f} min\n")


def _render_excerpts(
    places: list[tuple[str, float]], recordings: dict[str, "Recording"], labels: dict[str, dict[str, str]], url: str
) -> Iterator[dict[str, Any]]:
    from audiolm_hf.data.audio import decode_audio
    from audiolm_hf.data.corpora import SAMPLING_RATE, encode_flac
    from audiolm_hf.progress import progress_bar
    from audiolm_hf.training.render import RenderConfig, render_piece

    for path, start in progress_bar(places, desc="render", unit="excerpt"):
        piece = render_piece(
            recordings[path].content, RenderConfig.soundfont, SAMPLING_RATE, max_length_s=EXCERPTS_FROM_S
        )
        first = round(start * SAMPLING_RATE)
        array = decode_audio(piece, SAMPLING_RATE)[first : first + round(EXCERPT_S * SAMPLING_RATE)]
        row = labels[path]
        yield {
            "audio": {"bytes": encode_flac(array), "path": f"{Path(path).stem}_{start:03.0f}.flac"},
            "text": f"{row['composer']}: {row['title']}",
            "speaker": f"piano-{row['composer'].lower()}",
            "gender": "",
            "accent": "",
            "duration": len(array) / SAMPLING_RATE,
            "start": start,
            "source": f"{url}:midis/{path}",
        }
