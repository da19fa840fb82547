"""Figures of the runs themselves: isoFLOP curves and training curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
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
    """Loss against peak learning rate, one valley for each N and D, with its lowest run marked."""
    table = runs.table
    if "learning_rate" not in table:
        return style.missing(
            "No learning rates: these runs came without a column `learning_rate`.",
            "Records of `scaling sweep` and `scaling tune` hold it.",
        )
    groups = [group for _, group in table.groupby(["N", "D"]) if len(set(group["learning_rate"])) > 1]
    if not groups:
        return style.missing(
            "No valley: no N and D were trained at two learning rates.", "`scaling tune` trains such runs."
        )
    figure, [[axes]] = style.panels(width=6.8, height=4.3)
    many = len(groups) > style.MOST_IN_LEGEND
    for i, (group, colour) in enumerate(zip(groups, style.ramps(len(groups)))):
        valley = group.groupby("learning_rate")["loss"].mean()
        marker = "o" if many else style.MARKERS[i]
        N, D = numbers.count(group["N"].iloc[0]), numbers.count(group["D"].iloc[0])
        axes.plot(valley.index, valley.values, color=colour, marker=marker, mec=style.ink("paper"), mew=0.4,
                  ms=2 if many else 4.5, lw=0.8 if many else 1.6, label=f"{N} on {D}")  # fmt: skip
        axes.plot(valley.idxmin(), valley.min(), "*", ms=6 if many else 11, mfc=style.ink("paper"), mec=style.ink(),
                  mew=0.8, zorder=4)  # fmt: skip
    style.log_axis(axes, "x", "peak learning rate", "power")
    style.losses(axes, runs)
    axes.set_title("Learning-rate valleys")
    if many:
        style.scale_beside(figure, axes, np.array([float(g["N"].iloc[0]) for g in groups]), "parameters N", "count")
    else:
        figure.legend(*_reversed(axes), loc="outside right center", title="N on D tokens", title_fontsize=7.5)
    return figure


def _reversed(axes: Axes) -> tuple[list, list]:
    handles, labels = axes.get_legend_handles_labels()
    return handles[::-1], labels[::-1]
