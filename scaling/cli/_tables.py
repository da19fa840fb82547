"""Tables on the terminal, and times as people say them: plain, uncut and uncoloured where the output is no terminal."""

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


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "", words: str = "") -> None:
    """A table: the first column and those named in `words` left, numbers right; plain where the output is no terminal."""
    if not sys.stdout.isatty():
        print("\n".join([*([title] if title else []), *_plain(columns, rows, words.split(","))]))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        text = column in words.split(",")
        table.add_column(column, justify="left" if text or index == 0 else "right", overflow="fold", no_wrap=not text)
    for row in rows:
        table.add_row(*[str(cell) for cell in row])
    console = Console(highlight=False, markup=False)
    if title:
        console.print(title, style="bold")
    console.print(table)


def _plain(columns: Sequence[str], rows: Iterable[Sequence[Any]], words: Sequence[str]) -> list[str]:
    """The lines of a table, two blanks between columns; ten thousand take no time."""
    cells = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    left = [index == 0 or column in words for index, column in enumerate(columns)]
    lines = (
        "  ".join(cell.ljust(width) if text else cell.rjust(width) for cell, width, text in zip(row, widths, left))
        for row in cells
    )
    return [line.rstrip() for line in lines]


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
