"""Figures of a fitted law: its power laws N*(C) and D*(C), and its residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scaling.fitting.isoflop import Frontier
from scaling.reporting.figures import planned, style
from scaling.reporting.frontiers import Best
from scaling.runs import Runs

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit
    from scaling.planning.allocate import Subject


@style.drawn
def power_laws(
    runs: Runs,
    fit: Fit | Subject | None = None,
    approach2: Frontier | None = None,
    beside: Sequence[Best] = (),
) -> Figure:
    """N*(C), D*(C) and D/N: the law's optimum with its bootstrap band, Approach 2, and what others published `beside`."""
    if fit is None and approach2 is None:
        return style.missing("No optimum to draw: neither a fit nor a vertex of Approach 2.", "Run `scaling fit`.")
    figure, [axes] = style.panels(3, width=9.6, height=3.7)
    C = np.geomspace(runs.C.min() / 3, runs.C.max() * 30, 60)
    if fit is not None:
        _band(axes, C, fit)
        _optimum(axes, C, planned.problem(fit, C).best(), color=style.ink(), lw=1.8, label="fitted law")
    if approach2 is not None:
        how = {"color": style.series(1)}
        _optimum(axes, C, approach2.optimum(C), ls=style.DASHES[1], label="Approach 2", **how)
        C_kept, *found = (np.array([getattr(vertex, name) for vertex in approach2.kept]) for name in ("C", "N", "D"))
        _optimum(axes, C_kept, found, marker="*", ms=10, ls="", mfc=style.ink("paper"), label="vertex", **how)
    for i, other in enumerate(beside):
        how = {"color": style.series(2 + i % 4), "ls": style.DASHES[2 + i % 4], "lw": 1.1}
        _optimum(axes, C, other.optimum(C), label=other.label, **how)
    for panel, label, title in zip(
        axes, ("parameters N*", "tokens D*", "tokens per parameter D*/N*"), ("N*(C)", "D*(C)", "D*/N*")
    ):
        style.flops(panel)
        panel.xaxis.get_major_locator().most = 5
        style.log_axis(panel, "y", label, "count")
        panel.set_title(title)
        panel.axvspan(runs.C.min(), runs.C.max(), color=style.ink("rule"), alpha=0.45, lw=0, zorder=0, label="trained")
        panel.set_xlim(C[0], C[-1])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
    return figure


def _optimum(axes: np.ndarray, C: np.ndarray, optimum: Sequence[np.ndarray], **how: Any) -> None:
    N, D = optimum
    for panel, values in zip(axes, (N, D, D / N)):
        panel.plot(C, values, **how)


def _band(axes: np.ndarray, C: np.ndarray, fit: Fit | Subject) -> None:
    """90% of the bootstrap's optima at each C."""
    if fit.draws is None:
        return
    coarse = np.geomspace(C[0], C[-1], 15)
    N, D = planned.drawn(fit, coarse, len(coarse)).best()
    for panel, values in zip(axes, (N, D, D / N)):
        low, high = np.nanquantile(values, (0.05, 0.95), axis=0)
        panel.fill_between(coarse, low, high, color=style.series(0), alpha=0.22, lw=0, label="90% bootstrap")


@style.drawn
def residuals(runs: Runs, fit: Fit | Subject) -> Figure:
    """Observed over predicted loss, in percent, against N, D and C, and as a distribution."""
    percent = 100 * np.expm1(np.log(runs.loss) - np.log(fit.law.loss(runs.N, runs.D)))
    figure, axes = style.panels(2, 2, width=7.2, height=5.0)
    for panel, values, dress in zip(axes.flat, (runs.N, runs.D, runs.C), (style.parameters, style.tokens, style.flops)):
        _scatter(panel, values, percent)
        dress(panel)
        panel.set_ylabel("observed over law, %")
    _distribution(axes[1, 1], percent)
    figure.suptitle(
        f"Residuals of {len(runs)} runs: median {np.median(percent):+.2g}%, "
        f"half within {np.median(np.abs(percent - np.median(percent))):.2g}%",
        x=0.01, ha="left", fontsize=9.5, fontweight="bold",
    )  # fmt: skip
    return figure


def _scatter(panel: Axes, values: np.ndarray, percent: np.ndarray) -> None:
    panel.axhline(0, color=style.ink("soft"), lw=0.9)
    panel.set_ylim(*(1.1 * np.array([-1, 1]) * max(np.abs(percent).max(), 1e-6)))
    panel.plot(values, percent, "o", ms=4, color=style.series(0), alpha=0.75 if len(values) < 100 else 0.4, mew=0)


def _distribution(panel: Axes, percent: np.ndarray) -> None:
    panel.hist(
        percent, bins="auto" if len(percent) > 20 else max(3, len(percent) // 2), color=style.series(0), alpha=0.6
    )
    panel.xaxis.set_major_locator(MaxNLocator(6))
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.axvline(0, color=style.ink("soft"), lw=0.9)
    panel.set_xlabel("observed over law, %")
    panel.set_ylabel("runs")


@style.drawn
def surface(runs: Runs, fit: Fit | Subject) -> Figure:
    """The law's loss over N and D: contours, the runs, lines of equal compute, and the efficient frontier."""
    figure, [[axes]] = style.panels(width=6.8, height=4.8)
    N, D = (np.geomspace(values.min() / 2, values.max() * 2, 120) for values in (runs.N, runs.D))
    loss = fit.law.loss(N[None, :], D[:, None])
    levels = _levels(runs.loss)
    axes.contourf(N, D, loss, levels, colors=style.ramps(len(levels) - 1)[::-1], alpha=0.35, extend="both")
    lines = axes.contour(N, D, loss, levels, colors=style.ink("soft"), linewidths=0.7)
    C = np.geomspace(6 * N[0] * D[0], 6 * N[-1] * D[-1], 100)
    axes.plot(*planned.problem(fit, C).best(), color=style.ink(), lw=2, label="efficient frontier")
    axes.plot(runs.N, runs.D, "o", color=style.series(1), mec=style.ink("paper"), mew=0.5, ms=4.5, label="run")
    axes.set_xlim(N[0], N[-1])
    axes.set_ylim(D[0], D[-1])
    style.parameters(axes)
    style.tokens(axes, "y")
    axes.clabel(lines, fmt="%g", fontsize=7, colors=style.ink())
    axes.set_title(f"Loss surface, {runs.loss_unit}")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def _levels(loss: np.ndarray) -> np.ndarray:
    """About ten round losses from below the best run to above the worst."""
    span = np.log(np.quantile(loss, (0, 0.98)))
    rough = np.exp(np.linspace(span[0] - 0.02, span[1] + 0.02, 10))
    digits = max(1, int(np.ceil(-np.log10(np.diff(rough).min()))))
    return np.unique(np.round(rough, digits))
