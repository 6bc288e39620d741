# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Hooks of MkDocs: model cards and recipes become pages, and their tables are copied to where comments name them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
CARDS = "src/audiolm_hf/checkpoints"
PLACES = {CARDS: "cards", "configs": "configs"}  # folder of the repository -> folder of the documentation
SUFFIXES = {".md", ".png", ".mp3", ".opus", ".yaml", ".csv", ".txt"}


def on_files(files: Files, config: Any) -> Files:
    """Add the files of those folders."""
    for folder, place in PLACES.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                name = f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Copy tables to where comments name them, and point links to and from those folders at the pages."""
    markdown = re.sub(r"<!-- table (\w+): (\S+) -->", lambda match: find_table(ROOT / match[2], match[1]), markdown)
    for folder, place in PLACES.items():
        markdown = markdown.replace(f"](../{folder}/", f"]({place}/")
    return re.sub(r"\]\(((?:\.\./)+)docs/", r"](\1", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Link names in docstrings to their descriptions on the same page, and show types without marks of Markdown."""

    def link(match: re.Match) -> str:
        anchor = f"audiolm_hf.{match[1]}"
        return f'<a href="#{anchor}"><code>{match[1]}</code></a>' if f'id="{anchor}"' in html else match[0][1:-1]

    html = re.sub(r"\[<code>~?(?:[a-z_]+\.)*(\w+(?:\.\w+)?)</code>\]", link, html)
    return re.sub(r"<td>\s*<code>[^<]*`[^<]*</code>", lambda match: re.sub(r"\[?`\]?|\*", "", match[0]), html)


def find_table(path: Path, first: str) -> str:
    """Return the table of a Markdown file whose first column has this name."""
    found = re.search(rf"^\| {first} \|.*\n(?:\|.*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{path} has no table whose first column is {first!r}.")
    return found[0]
