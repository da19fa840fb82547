"""How work goes, on stderr: a live display in a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scaling.cli._tables import duration

if TYPE_CHECKING:
    from scaling.training.sweep import Status


def note(message: str) -> None:
    """One line on stderr in a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        print(message, file=sys.stderr)


@contextmanager
def sweep_display(quiet: bool = False) -> Iterator[Callable[[Status], None]]:
    """A function to call with the status of a sweep; it draws on stderr while stderr is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda status: None
        return
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[speed]}"),
        console=console,
        expand=True,
    )
    task = bar.add_task("training", total=1.0, speed="")
    with Live(bar, console=console, refresh_per_second=4, transient=True) as live:

        def show(status: Status) -> None:
            failed = f", [red]{status.failed} failed[/]" if status.failed else ""
            left = "" if status.seconds_left is None else f", {duration(status.seconds_left)} left"
            speed = f"{status.tokens_per_second:,.0f} tokens/s, {status.flops_per_second / 1e9:.1f} GFLOP/s{left}"
            bar.update(
                task,
                description=f"{status.done + status.failed}/{status.total} runs{failed}",
                completed=status.flops_spent,
                total=max(status.flops, 1.0),
                speed=speed,
            )
            live.update(Group(bar, _running(status)))

        yield show


def _running(status: Status) -> Table:
    table = Table(box=None, padding=(0, 2), show_edge=False, header_style="dim")
    for name in ("N", "D", "C", "step", "loss now", "tokens/s"):
        table.add_column(name, justify="right")
    for _, now in sorted(status.now.items()):
        spec = now.spec
        rate = f"{now.step * spec.recipe.batch_tokens / now.seconds:,.0f}" if now.seconds else ""
        loss = f"{now.loss:.3f}" if now.loss is not None else "compiling"
        table.add_row(
            f"{spec.shape.N:,}", f"{spec.tokens:,}", f"{spec.C:.2e}", f"{now.step:,}/{spec.steps:,}", loss, rate
        )  # fmt: skip
    return table
