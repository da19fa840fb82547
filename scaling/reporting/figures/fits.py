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
    own = [panel.dataLim.intervaly.copy() for panel in axes]
    _beside(axes, C, own, beside)
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


#: Published best sizes are followed this far beyond what the runs' own fit says.
FURTHEST = 10.0


def _beside(axes: np.ndarray, C: np.ndarray, own: Sequence[np.ndarray], beside: Sequence[Best]) -> None:
    """What others published, where it comes near: a law of another corpus may lie decades away, and the fit is to be read."""
    lows, highs = (np.array(ends) for ends in zip(*own))
    lows, highs = lows / FURTHEST, highs * FURTHEST
    seen = own
    for i, other in enumerate(beside):
        N, D = other.optimum(C)
        inside = [(v >= low) & (v <= high) for v, low, high in zip((N, D, D / N), lows, highs)]
        away = "" if any(map(np.any, inside)) else " (out of view)"
        how = {"color": style.series(2 + i % 4), "ls": style.DASHES[2 + i % 4], "lw": 1.3, "label": other.label + away}
        _optimum(axes, C, (N, D), **how)
        seen = [
            np.array([min(ends[0], v[near].min(initial=np.inf)), max(ends[1], v[near].max(initial=0))])
            for ends, v, near in zip(seen, (N, D, D / N), inside)
        ]
    for panel, (low, high) in zip(axes, seen):
        panel.set_ylim(low / 1.25, high * 1.25)


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
    top = 1.1 * max(1e-6, *np.abs(style.within(percent)))
    figure, axes = style.panels(2, 2, width=7.2, height=5.0)
    for panel, values, dress in zip(axes.flat, (runs.N, runs.D, runs.C), (style.parameters, style.tokens, style.flops)):
        _scatter(panel, values, percent, top)
        dress(panel)
        panel.set_ylabel("observed over law, %")
    _distribution(axes[1, 1], percent, top)
    figure.suptitle(
        f"Residuals of {len(runs)} runs: median {np.median(percent):+.2g}%, "
        f"half within {np.median(np.abs(percent - np.median(percent))):.2g}%",
        x=0.01, ha="left", fontsize=9.5, fontweight="bold",
    )  # fmt: skip
    return figure


def _scatter(panel: Axes, values: np.ndarray, percent: np.ndarray, top: float) -> None:
    panel.axhline(0, color=style.ink("soft"), lw=0.9)
    panel.set_ylim(-top, top)
    panel.plot(values, percent, "o", ms=4, color=style.series(0), alpha=0.75 if len(values) < 100 else 0.4, mew=0)
    style.mark_beyond(panel, values, percent, style.series(1))


def _distribution(panel: Axes, percent: np.ndarray, top: float) -> None:
    shown = percent[np.abs(percent) <= top]
    bins = "auto" if len(shown) > 20 else max(3, len(shown) // 2)
    panel.hist(shown, bins=bins, color=style.series(0), alpha=0.6)
    if len(shown) < len(percent):
        panel.text(1, 0.99, f"{len(percent) - len(shown)} further out", ha="right", va="top", fontsize=7,
                   color=style.ink("soft"), transform=panel.transAxes)  # fmt: skip
    panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
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
    levels, digits = _levels(runs.loss, loss)
    axes.contourf(N, D, loss, levels, colors=style.ramps(len(levels) - 1)[::-1], alpha=0.35, extend="both")
    lines = axes.contour(N, D, loss, levels, colors=style.ink("soft"), linewidths=0.7)
    C = np.geomspace(6 * N[0] * D[0], 6 * N[-1] * D[-1], 100)
    axes.plot(*planned.problem(fit, C).best(), color=style.ink(), lw=2, label="efficient frontier")
    axes.plot(runs.N, runs.D, "o", color=style.series(1), mec=style.ink("paper"), mew=0.5, ms=4.5, label="run")
    axes.set_xlim(N[0], N[-1])
    axes.set_ylim(D[0], D[-1])
    style.parameters(axes)
    style.tokens(axes, "y")
    axes.clabel(lines, fmt=f"%.{digits}f", fontsize=7, colors=style.ink())
    axes.set_title(f"Loss surface, {runs.loss_unit}")
    style.key_above(axes)
    return figure


def _levels(loss: np.ndarray, plane: np.ndarray) -> tuple[np.ndarray, int]:
    """About ten round losses from below the best run to above the worst and over most of the plane, and their decimals."""
    low = min(loss.min(), np.quantile(plane, 0.05))
    high = max(np.quantile(loss, 0.98), np.quantile(plane, 0.75))
    rough = np.exp(np.linspace(np.log(low) - 0.02, np.log(high) + 0.02, 10))
    finest = np.diff(rough).min()
    decade = 10.0 ** np.floor(np.log10(finest))
    step = decade * max(k for k in (1, 2, 5) if k * decade <= finest)
    return np.unique(np.round(rough / step)) * step, max(1, round(-np.log10(decade)))
