"""Figures of how sure a fit is: the bootstrap's coefficients and answers, profiles, laws on held-out compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter
from scipy.ndimage import gaussian_filter

from scaling.planning.allocate import Problem
from scaling.reporting import numbers
from scaling.reporting.figures import planned, style

if TYPE_CHECKING:
    from scaling.fitting.compare import Comparison
    from scaling.fitting.fit import Fit
    from scaling.fitting.uncertainty import Profile
    from scaling.planning.allocate import Subject

NO_BOOTSTRAP = ("This fit has no bootstrap, so there is no spread to draw.", "Fit again with resamples: `scaling fit`.")

#: A coefficient whose draws span more than this factor is drawn as its logarithm.
WIDE = 3.0


@style.drawn
def corner(fit: Fit | Subject) -> Figure:
    """Bootstrap of the law's coefficients, each alone and each pair; regions hold 50% and 90% of the draws."""
    if fit.draws is None:
        return style.missing(*NO_BOOTSTRAP)
    columns = dict(zip(type(fit.law).names(), np.asarray(fit.draws).T))
    return _corner(columns, fit.law.params, {}, "Bootstrap of the coefficients")


@style.drawn
def answers(fit: Fit | Subject, C: float) -> Figure:
    """Bootstrap of what is asked of the law at C FLOPs: the exponent a, N*, D* and the loss there."""
    if fit.draws is None:
        return style.missing(*NO_BOOTSTRAP)
    pair = np.array([C, C * 1.01])
    columns = {name: values.ravel() for name, values in _answer(planned.drawn(fit, pair, 2)).items()}
    best = {name: float(value) for name, value in _answer(planned.problem(fit, pair)).items()}
    return _corner(
        columns, best, {"N*": numbers.count, "D*": numbers.count},
        f"Bootstrap of the answer at {numbers.power(C)} FLOPs",
    )  # fmt: skip


def _answer(asked: Problem) -> dict[str, np.ndarray]:
    """a, N*, D* and the loss at the first of two neighbouring C, from [..., 2] optima."""
    N, D = asked.best()
    loss = asked.loss(N, D)
    a = np.log(N[..., 1] / N[..., 0]) / np.log(asked.lines[0].limit[1] / asked.lines[0].limit[0])
    return {"a": a, "N*": N[..., 0], "D*": D[..., 0], "loss": loss[..., 0]}


def _corner(
    columns: Mapping[str, np.ndarray], best: Mapping[str, float], writers: Mapping[str, Callable], title: str
) -> Figure:
    """Histograms on the diagonal, regions of pairs below it, the fitted value marked in both."""
    names = list(columns)
    figure, axes = style.panels(len(names), len(names), width=1.55 * len(names) + 0.5, height=1.4 * len(names) + 0.6)
    for i, below in enumerate(names):
        for j, left in enumerate(names):
            panel = axes[i, j]
            if j > i:
                panel.remove()
            elif i == j:
                _alone(panel, columns[left], best[left])
            else:
                _pair(panel, columns[left], columns[below], best[left], best[below])
            if j <= i:
                _corner_axis(panel, "x", left, columns[left], writers.get(left), i == len(names) - 1)
            if j < i:
                _corner_axis(panel, "y", below, columns[below], writers.get(below), j == 0)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    return figure


def _wide(values: np.ndarray) -> bool:
    low, high = np.quantile(values, (0.01, 0.99))
    return bool(low > 0 and high / low > WIDE)


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Where a panel begins and ends: all but the outermost percent of the draws."""
    low, high = np.quantile(values, (0.005, 0.995))
    return (float(low), float(high)) if low < high else (float(low) - 0.5, float(high) + 0.5)


def _steps(values: np.ndarray, n: int) -> np.ndarray:
    return (np.geomspace if _wide(values) else np.linspace)(*_ends(values), n)


def _alone(panel: Axes, values: np.ndarray, best: float) -> None:
    panel.hist(values, bins=_steps(values, 31), color=style.series(0), alpha=0.6)
    panel.axvline(best, color=style.ink(), lw=1)
    panel.set_yticks([])
    panel.grid(False)


def _pair(panel: Axes, x: np.ndarray, y: np.ndarray, best_x: float, best_y: float) -> None:
    edges_x, edges_y = _steps(x, 41), _steps(y, 41)
    density = gaussian_filter(np.histogram2d(x, y, (edges_x, edges_y))[0], 1.2)
    descending = np.sort(density, axis=None)[::-1]
    mass = np.cumsum(descending) / descending.sum()
    half, most = (descending[np.searchsorted(mass, share)] for share in (0.5, 0.9))
    middle_x, middle_y = (
        np.sqrt(e[1:]) * np.sqrt(e[:-1]) if e[0] > 0 else (e[1:] + e[:-1]) / 2 for e in (edges_x, edges_y)
    )
    if most < half < density.max():
        levels = (most, half, density.max())
        panel.contourf(middle_x, middle_y, density.T, levels, colors=[style.series(0) + "55", style.series(0) + "aa"])
    panel.plot(best_x, best_y, "+", color=style.ink(), ms=7, mew=1.2)


def _corner_axis(panel: Axes, which: str, name: str, values: np.ndarray, write: Callable | None, outer: bool) -> None:
    axis = getattr(panel, f"{which}axis")
    if _wide(values):
        style.log_axis(panel, which, "", "power", most=3)
    else:
        axis.set_major_locator(MaxNLocator(3))
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: write(value)) if write else ScalarFormatter(useOffset=False)
        )
    getattr(panel, f"set_{which}lim")(*_ends(values))
    axis.set_label_text(name if outer else "")
    panel.tick_params(axis=which, labelsize=7, **{("labelbottom" if which == "x" else "labelleft"): outer})
    if which == "x":
        panel.tick_params(axis="x", rotation=45)


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
        marker, dash = style.MARKERS[i % len(style.MARKERS)], style.DASHES[i % len(style.DASHES)]
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
        values, excess = held.values, 100 * (held.objective / held.objective.min() - 1)
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
        panel.set_xlabel(held.name)
        panel.set_ylabel("objective over its least, %" if panel in axes[:, 0] else "")
    figure.suptitle(
        f"Profile likelihoods, {found[0].level:.0%} intervals", x=0.01, ha="left", fontsize=9.5, fontweight="bold"
    )
    return figure


@style.drawn
def floor(found: Sequence[tuple[str, tuple[float, float | None, float | None]]], planted: float) -> Figure:
    """Each law's E less the planted floor, with its 90% interval where it has one: a law that finds the floor spans 0."""
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
    axes.set_title(f"Is the floor found? The source's is {planted:.4f} nats per token")
    return figure
