"""Figures of how sure a fit is: laws on held-out compute, profiles, the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.interpolate import PchipInterpolator

from scaling.reporting.figures import style
from scaling.reporting.figures.corner import WIDE

if TYPE_CHECKING:
    from scaling.fitting.compare import Comparison
    from scaling.fitting.uncertainty import Profile


@style.drawn
def comparison(found: Comparison) -> Figure:
    """Error of each law on budgets that it was not fitted to, and the mean of it; laws that are not told apart are filled."""
    asked = [law for law in found.contenders if law.rolling_error is not None]
    if not asked:
        return style.missing(
            "No law could be asked for compute that it had not seen.", "Runs at three budgets or more are needed."
        )
    figure, [[each, mean]] = style.panels(2, width=8.6, height=max(3.4, 1.6 + 0.3 * len(asked)))
    for i, law in enumerate(asked):
        done = [
            (prediction.fold.low, 100 * prediction.error) for prediction in law.rolling if prediction.error is not None
        ]
        marker, dash = style.MARKERS[i % len(style.MARKERS)], style.dash(i)
        each.plot(*zip(*done), color=style.series(i), marker=marker, ls=dash, label=law.name)
        told = bool(law.told_apart)
        mean.errorbar(100 * (law.rolling_error or 0), i, xerr=100 * (law.behind_se or 0), fmt=marker, ms=6, capsize=2,
                      color=style.series(i), mfc=style.ink("paper") if told else style.series(i))  # fmt: skip
    style.flops(each, label="predicted budgets from C, FLOPs")
    style.log_axis(each, "y", "mean error of the loss, %", "power")
    each.set_title("Predicted from all smaller budgets")
    mean.set_yticks(range(len(asked)), [law.name for law in asked])
    mean.set_ylim(len(asked) - 0.5, -0.5)
    style.log_axis(mean, "x", "mean error, %; bar: se of the difference to the best", "power", most=5)
    mean.set_title("Filled: not told apart from the best")
    if len(asked) > 1:
        figure.legend(*each.get_legend_handles_labels(), loc="outside lower center", ncols=min(8, len(asked)))
    return figure


@style.drawn
def profiles(found: Sequence[Profile], best: Mapping[str, float]) -> Figure:
    """Objective with one coefficient held, over its least: where it stays low the runs do not tell; shaded, the interval."""
    if not found:
        return style.missing(
            "No profile: no coefficient of this fit was free.", "Fit with fewer coefficients pinned or tied."
        )
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure, axes = style.panels(columns, rows, width=max(5.0, 2.9 * columns), height=0.5 + 2.3 * rows)
    for panel in axes.flat[len(found) :]:
        panel.remove()
    for panel, held in zip(axes.flat, found):
        values, excess = _smooth(held)
        panel.plot(values, excess, color=style.ink())
        panel.axvspan(*held.interval, color=style.series(0), alpha=0.2, lw=0)
        panel.axvline(best[held.name], color=style.ink("soft"), lw=0.9)
        ends = np.interp(held.interval, values, excess)
        panel.set_ylim(0, 4 * max(ends.max(), 1e-3))
        near = values[excess <= panel.get_ylim()[1]]
        if near[0] > 0 and near[-1] / near[0] > WIDE:
            style.log_axis(panel, "x", "", "power", most=4)
        else:
            panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.set_xlim(near[0], near[-1])
        panel.set_xlabel(style.symbol(held.name))
        panel.set_ylabel("objective over its least, %" if panel in axes[:, 0] else "")
    figure.suptitle(
        f"Profile likelihoods, {found[0].level:.0%} intervals", x=0.01, ha="left", fontsize=9.5, fontweight="bold"
    )
    return figure


def _smooth(held: Profile) -> tuple[np.ndarray, np.ndarray]:
    """Many values and their percent over the least; what is interpolated is the signed root of that, which is nearly straight."""
    low, high = held.values[[0, -1]]
    at = np.geomspace(low, high, 400) if low > 0 and high / low > WIDE else np.linspace(low, high, 400)
    lowest = int(np.argmin(held.objective))
    root = np.sqrt(100 * (held.objective / held.objective[lowest] - 1))
    root[:lowest] *= -1
    return at, PchipInterpolator(held.values, root)(at) ** 2


@style.drawn
def floor(
    found: Sequence[tuple[str, tuple[float, float | None, float | None]]], planted: float | None = None
) -> Figure:
    """Each law's E less the planted floor, with its 90% interval where it has one: a law that finds the floor spans 0.

    `planted` is the floor where all laws are of one source; of several, each name says its own.
    """
    figure, [[axes]] = style.panels(width=6.4, height=1.7 + 0.45 * len(found))
    for i, (_, (value, low, high)) in enumerate(found):
        told = low is None or high is None or not low <= 0 <= high
        marker = {"marker": style.MARKERS[i % len(style.MARKERS)], "color": style.series(i), "ms": 7}
        if low is not None and high is not None:
            axes.plot([low, high], [i, i], color=style.series(i), lw=2.2, solid_capstyle="butt")
        axes.plot(value, i, ls="", mfc=style.ink("paper") if told else style.series(i), mew=1.4, **marker)
    axes.axvline(0, color=style.ink(), lw=1.1)
    axes.set_yticks(range(len(found)), [name for name, _ in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.margins(x=0.12)
    axes.set_xlabel("fitted E less the planted floor, nats per token; bar: 90%, filled where it holds 0")
    axes.set_title(
        "Is the floor found?" + (f" The source's is {planted:.4f} nats per token" if planted is not None else "")
    )
    return figure
