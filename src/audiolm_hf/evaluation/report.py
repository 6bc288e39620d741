# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Plain-text tables for the terminal, shared by every evaluation."""

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others to the right.

    Args:
        header (sequence of `str`): column names.
        rows (sequence of sequences of `str`): cells, as many in each row as in `header`.

    Returns:
        `str`: lines without a newline at the end.
    """
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [list(header), ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


__all__ = ["format_table"]
