"""Figures of the runs themselves: isoFLOP curves and training curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scaling.fitting.isoflop import Budget, Frontier, budgets
from scaling.reporting import numbers
from scaling.reporting.figures import style
from scaling.runs import Runs

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit


@style.drawn
def isoflop(runs: Runs, fit: Fit | None = None, approach2: Frontier | None = None) -> Figure:
    """Loss against N at each budget: the runs, the law's own curve through them, and the vertices of Approach 2.

    Runs that belong to no budget of four sizes are grey.
    """
    found = budgets(runs)
    figure, [[axes]] = style.panels(width=6.8, height=4.3)
    alone = np.setdiff1d(np.arange(len(runs)), np.concatenate([[], *(budget.rows for budget in found)]))
    if alone.size:
        axes.plot(
            runs.N[alone],
            runs.loss[alone],
            "o",
            ms=3 if found else 5,
            color=style.ink("soft"),
            alpha=0.6,
            mew=0,
            zorder=1,
        )
    for i, (budget, colour) in enumerate(zip(found, style.ramps(len(found)))):
        marker = style.MARKERS[i] if len(found) <= style.MOST_IN_LEGEND else "o"
        N = runs.N[budget.rows]
        axes.plot(N, runs.loss[budget.rows], marker, color=colour, mec=style.ink("paper"), mew=0.4, zorder=3)
        if fit is not None:
            sizes = np.geomspace(N.min() / 1.15, N.max() * 1.15, 200)
            axes.plot(sizes, fit.law.loss(sizes, _tokens(runs, budget, sizes)), color=colour, zorder=2)
    vertices = approach2.kept if approach2 else ()
    for vertex in vertices:
        size = 11 if len(found) <= style.MOST_IN_LEGEND else 8
        axes.plot(vertex.N, vertex.loss, "*", ms=size, mfc=style.ink("paper"), mec=style.ink(), mew=1.1, zorder=4)
    style.parameters(axes)
    style.losses(axes, runs)
    axes.set_title("isoFLOP curves")
    _frame(axes, runs, np.concatenate([b.rows for b in found]) if found else np.arange(len(runs)))
    if found:
        _line_key(axes, fit is not None, bool(vertices))
        _budget_key(figure, axes, [budget.C for budget in found], "-" if fit is not None else "")
    else:
        figure.supxlabel("No isoFLOP curve: no budget has four sizes or more.", fontsize=8.5, color=style.ink("soft"))
    return figure


def _tokens(runs: Runs, budget: Budget, N: np.ndarray) -> np.ndarray:
    """D that a budget buys at N, by its own runs' FLOPs per parameter and token, interpolated in log N."""
    rows = budget.rows[np.argsort(runs.N[budget.rows])]
    rate = np.interp(np.log(N), np.log(runs.N[rows]), (runs.C / (runs.N * runs.D))[rows])
    return budget.C / (N * rate)


def _frame(axes: Axes, runs: Runs, rows: np.ndarray) -> None:
    """Show the losses, not where a law's curve leaves them nor a few that lie far from the others: those are marked."""
    low, high = style.within(runs.loss[rows])
    room = 0.06 * ((high - low) or high)
    axes.set_ylim(low - room, high + room)
    style.mark_beyond(axes, runs.N, runs.loss, style.ink("soft"))


def _line_key(axes: Axes, law: bool, vertices: bool) -> None:
    lines = [Line2D([], [], ls="", marker="o", color=style.ink("soft"), label="run")]
    if law:
        lines.append(Line2D([], [], color=style.ink("soft"), label="fitted law"))
    if vertices:
        star = {"ls": "", "marker": "*", "ms": 10, "mfc": style.ink("paper"), "mec": style.ink()}
        lines.append(Line2D([], [], **star, label="vertex (Approach 2)"))
    style.key_above(axes, lines)


def _budget_key(figure: Figure, axes: Axes, budgets: list[float], line: str) -> None:
    """Which colour is which budget: a legend, its curves drawn as `line`, or a colour bar where there are many."""
    if len(budgets) > style.MOST_IN_LEGEND:
        style.scale_beside(figure, axes, np.array(budgets), "budget C, FLOPs", "power")
        return
    handles = [
        Line2D([], [], color=colour, marker=style.MARKERS[i], ls=line, label=numbers.power(C, 2))
        for i, (C, colour) in enumerate(zip(budgets, style.ramps(len(budgets))))
    ]
    figure.legend(handles=handles[::-1], loc="outside right center", title="budget,\nFLOPs", title_fontsize=7.5)


#: A training curve is drawn with at most this many of its points, spread evenly in log tokens.
MOST_POINTS = 150


@style.drawn
def training_curves(runs: Runs, approach1: Frontier | None = None) -> Figure:
    """Training loss against the compute spent so far, one line a run, with the envelope of Approach 1."""
    rows = [(row, np.asarray(runs.curves[run], float)) for row, run in enumerate(runs.id) if runs.curves.get(run)]
    if not rows:
        return style.missing(
            "No training curves: these runs came without their loss over time.",
            "Records of `scaling sweep` hold them; a table of final losses does not.",
        )
    figure, [[axes]] = style.panels(width=6.8, height=4.3)
    position = style.log_position(runs.N)
    lines = []
    for row, curve in rows:
        curve = curve[np.unique(np.geomspace(1, len(curve), MOST_POINTS).astype(int)) - 1]
        lines.append(np.stack([runs.C[row] * curve[:, 0] / runs.D[row], curve[:, 1]], -1))
    hues = [style.ramp(position[row]) for row, _ in rows]
    axes.add_collection(LineCollection(lines, colors=hues, linewidths=0.9, alpha=0.9 if len(rows) < 60 else 0.4))
    axes.plot(runs.C, runs.loss, "o", ms=3, color=style.ink(), zorder=3, label="held-out loss at the end")
    if approach1 is not None:
        envelope = np.array([(v.C, v.loss if v.kept else np.nan) for v in approach1.vertices], float)
        axes.plot(*envelope.T, color=style.series(1), ls="--", lw=1.6, zorder=4, label="envelope (Approach 1)")
    style.flops(axes, label="compute spent, FLOPs")
    style.log_axis(axes, "y", "", "power")
    style.losses(axes, runs)
    axes.set_title("Training curves")
    axes.legend(loc="upper right")
    style.scale_beside(figure, axes, runs.N, "parameters N", "count")
    return figure


@style.drawn
def valleys(runs: Runs) -> Figure:
    """Loss against peak learning rate: a valley for each N, D, batch and corpus, with its lowest run marked.

    A colour is one N on one D. Each corpus has a row of panels, and where an N and D were trained with several batches, each
    of these has a panel: the smallest first.
    """
    if "learning_rate" not in runs.table:
        return style.missing(
            "No learning rates: these runs came without a column `learning_rate`.",
            "Records of `scaling sweep` and `scaling tune` hold it.",
        )
    found = _valleys(runs)
    if not found:
        return style.missing(
            "No valley: no N and D were trained at two learning rates.", "`scaling tune` trains such runs."
        )
    cells = sorted({(each.N, each.D) for each in found})
    many = len(cells) > style.MOST_IN_LEGEND
    sizes = np.array([N for N, _ in cells])
    colours = [style.ramp(at) for at in style.log_position(sizes)] if many else style.ramps(len(cells))
    rows, columns = len({each.corpus for each in found}), 1 + max(each.column for each in found)
    width = 6.8 if columns == 1 else 1.6 + 2.6 * columns
    figure, panels = style.panels(columns, rows, width=width, height=4.3 if rows == 1 else 0.3 + 2.9 * rows)
    corpora = list(dict.fromkeys(each.corpus for each in found))
    for row in panels:
        for axes in row:
            axes.sharex(panels[0][0])
            axes.sharey(row[0])
            axes.set_visible(False)
    for each in found:
        i, axes = cells.index((each.N, each.D)), panels[corpora.index(each.corpus)][each.column]
        _draw_valley(axes, each.losses, colours[i], None if many else style.MARKERS[i])
        axes.set_visible(True)
    for axes, (row, column) in zip(panels.flat, np.ndindex(panels.shape)):
        if shown := [each for each in found if (each.corpus, each.column) == (corpora[row], column)]:
            style.log_axis(axes, "x", "peak learning rate" if row == rows - 1 else "", "power")
            axes.set_title(_valleys_title(shown, rows, columns))
    for row in panels:
        style.losses(row[0], runs)
    if many:
        style.scale_beside(figure, list(panels.flat), sizes, "parameters N", "count")
    else:
        lines = [
            Line2D([], [], color=colour, marker=marker, label=f"{numbers.count(N)} on {numbers.count(D)}")
            for (N, D), colour, marker in zip(cells, colours, style.MARKERS)
        ]
        figure.legend(handles=lines[::-1], loc="outside right center", title="N on D tokens", title_fontsize=7.5)
    return figure


@dataclass(frozen=True)
class _Valley:
    """Mean losses by learning rate, of runs that differ in nothing else but their seed. `column` counts a cell's batches."""

    corpus: str
    N: float
    D: float
    batch: float
    column: int
    losses: pd.Series


#: A length that is this much longer, or less, is the same one in whole batches of another size.
SAME_D = 1.05


def _valleys(runs: Runs) -> list[_Valley]:
    """The valleys of a table, by corpus, N and D. Batch and corpus count where the table has them."""
    table = runs.table
    known = {
        name: table[name].fillna(no) if name in table else no for name, no in (("digest", ""), ("batch_tokens", 0))
    }
    groups = [group for _, group in table.assign(**known).groupby(["digest", "N", "D", "batch_tokens"])]
    groups = [group for group in groups if int(group["learning_rate"].nunique()) > 1]
    cells: list[tuple[str, float, float]] = []
    batches: dict[tuple[str, float, float], list[float]] = {}
    for group in groups:
        first = group.iloc[0]
        cell = (str(first["digest"]), float(first["N"]), float(first["D"]))
        if cells and cells[-1][:2] == cell[:2] and cell[2] < SAME_D * cells[-1][2]:
            cell = cells[-1]
        cells.append(cell)
        batches.setdefault(cell, []).append(float(first["batch_tokens"]))
    found, called = [], {}
    for cell, group in zip(cells, groups):
        digest, N, D = cell
        batch = float(group["batch_tokens"].iloc[0])
        column = sorted(set(batches[cell])).index(batch)
        means = group.groupby("learning_rate")["loss"].mean()
        found.append(_Valley(called.setdefault(digest, _corpus(group)), N, D, batch, column, means))
    return found


def has_valleys(runs: Runs) -> bool:
    """Whether any runs differ in their learning rate alone."""
    return "learning_rate" in runs.table and bool(_valleys(runs))


def _corpus(group: pd.DataFrame) -> str:
    """What the runs' corpus is called: its name and the first digits of its digest."""
    told = [str(group[name].iloc[0])[:most] for name, most in (("corpus", 24), ("digest", 8)) if name in group]
    return " ".join(each for each in told if each)


def _draw_valley(axes: Axes, losses: pd.Series, colour: str, marker: str | None) -> None:
    axes.plot(losses.index, losses.values, color=colour, marker=marker or "o", mec=style.ink("paper"), mew=0.4,
              ms=4.5 if marker else 2, lw=1.6 if marker else 0.8)  # fmt: skip
    axes.plot(losses.idxmin(), losses.min(), "*", ms=11 if marker else 6, mfc=style.ink("paper"), mec=style.ink(),
              mew=0.8, zorder=4)  # fmt: skip


def _valleys_title(shown: list[_Valley], rows: int, columns: int) -> str:
    """A panel's corpus and batches, where these differ between panels."""
    if not shown or rows == columns == 1:
        return "Learning-rate valleys"
    low, high = (f"{end(each.batch for each in shown):,.0f}" for end in (min, max)) if columns > 1 else ("", "")
    batch = [f"batch {low}" if low == high else f"batch {low} to {high}"] if columns > 1 else []
    return ", ".join([*([shown[0].corpus] if rows > 1 else []), *batch])
