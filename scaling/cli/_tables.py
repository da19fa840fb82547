"""Tables on the terminal, plain, uncut and uncoloured where the output is none; times and memory as people say them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any


def duration(seconds: float | None) -> str:
    """A time as people say it: 0.25 s, 8 s, 3 min 20 s, 2 h 05 min, 8.97 days, 148 years; a dash where missing."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    days = seconds / 86400
    if days < 365.25:
        return f"{days:.3g} days"
    return f"{days / 365.25:,.3g} years" if days < 3.6e5 else f"{days / 365.25:.2g} years"


def memory(size_bytes: float) -> str:
    """Memory as people say it: 180 KiB, 3,400 MiB."""
    kib = size_bytes / 2**10
    return f"{kib:,.0f} KiB" if kib < 2**10 else f"{kib / 2**10:,.0f} MiB"


#: A column of words that has less room than this, and needs more, is taken out of its table.
LEAST_WORDS = 20


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "", words: str = "", keys: int = 1
) -> None:
    """A table: the first column and those named in `words` left, numbers right; plain where the output is no terminal.

    Where a terminal is too narrow for the words, they follow the table, a line for each row that says something, but for
    short ones beside numbers; where it is too narrow for the numbers, the table goes on below, with its first `keys` columns
    again, by which a row is known. No number is ever cut.
    """
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 400, highlight=False, markup=False)
    written = [[str(cell) for cell in row] for row in rows]
    text = [column in words.split(",") for column in columns]
    wide = [max(map(len, cells)) for cells in zip(columns, *written)]
    squeezed = _is_squeezed(wide, text, console.width)
    short = 0 if all(text[keys:]) else LEAST_WORDS
    aside = [wordy and squeezed and size > short for wordy, size in zip(text, wide)]
    if title:
        console.print(title, style="bold" if terminal else "")
    shown = [index for index, out in enumerate(aside) if not out]
    if len(shown) > 1 or not any(aside):
        least = [min(size, LEAST_WORDS) if wordy else size for size, wordy in zip(wide, text)]
        for part in _parts(shown, keys, least, console.width):
            console.print(_table(part, columns, written, text, terminal))
    if any(aside):
        keys = keys if len(shown) > 1 else 1
        said = [("  ".join(row[:keys]), _set_aside(columns, row, aside)) for row in written]
        print_pairs((pair for pair in said if pair[1]), columns[0] if len(shown) == 1 else "")


def _set_aside(columns: Sequence[str], row: Sequence[str], aside: Sequence[bool]) -> str:
    """What a row says in the columns that are taken out, each under its name; nothing of an empty cell or a dash."""
    cells = [(name, cell) for name, cell, out in zip(columns, row, aside) if out and cell not in ("", "-")]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in cells)


def _parts(shown: Sequence[int], keys: int, wide: Sequence[int], width: int) -> list[list[int]]:
    """The columns to show, in as many tables as the room that each needs asks for, each with the first ones."""
    parts = [[*shown[:keys]]]
    for index in shown[keys:]:
        if len(parts[-1]) > keys and sum(wide[each] + 3 for each in (*parts[-1], index)) > width:
            parts.append([*shown[:keys]])
        parts[-1].append(index)
    return parts


def _table(
    part: Sequence[int], columns: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[bool], terminal: bool
) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False)
    for index in part:
        side = "left" if text[index] or index == 0 else "right"
        table.add_column(columns[index], justify=side, overflow="fold", no_wrap=not text[index])
    for row in rows:
        table.add_row(*[row[index] for index in part])
    return table


def _is_squeezed(wide: Sequence[int], text: Sequence[bool], width: int) -> bool:
    """Whether the columns of words have less room beside the others than they need and than can be read."""
    room = width - sum(size for size, wordy in zip(wide, text) if not wordy) - 3 * len(wide)
    wanted = sum(size for size, wordy in zip(wide, text) if wordy)
    return room < wanted and room < LEAST_WORDS * sum(text)


def print_pairs(pairs: Iterable[tuple[str, str]], title: str = "") -> None:
    """Name and value, one a line, wrapped only where the terminal ends."""
    from rich.console import Console
    from rich.table import Table

    terminal = sys.stdout.isatty()
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold" if terminal else "", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, value)
    console = Console(width=None if terminal else 400, highlight=False, markup=False)
    if title:
        console.print(title, style="bold" if terminal else "")
    console.print(table)
