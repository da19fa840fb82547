"""Corner figures of a bootstrap: each quantity alone on the diagonal, each pair below it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    from scaling.fitting.fit import Fit
    from scaling.planning.allocate import Subject

NO_BOOTSTRAP = ("This fit has no bootstrap, so there is no spread to draw.", "Fit again with resamples: `scaling fit`.")

#: What is drawn on a log axis: draws that span more than this factor.
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


#: Inches of a panel, between panels, and left, right, below and above all of them. They are fixed: a layout that is searched for
#: takes as long as drawing all the panels again.
PANEL, GAP, LEFT, RIGHT, BELOW, ABOVE = 1.3, 0.16, 0.7, 0.16, 0.66, 0.42


def _corner(
    columns: Mapping[str, np.ndarray], best: Mapping[str, float], writers: Mapping[str, Callable], title: str
) -> Figure:
    """Histograms on the diagonal, regions of pairs below it, the fitted value marked in both."""
    names = list(columns)
    inside = len(names) * (PANEL + GAP) - GAP
    width, height = LEFT + inside + RIGHT, BELOW + inside + ABOVE
    figure = Figure(figsize=(width, height))
    for i, below in enumerate(names):
        for j, left in enumerate(names[: i + 1]):
            corner_x, corner_y = LEFT + j * (PANEL + GAP), BELOW + (len(names) - 1 - i) * (PANEL + GAP)
            panel = figure.add_axes((corner_x / width, corner_y / height, PANEL / width, PANEL / height))
            if i == j:
                _alone(panel, columns[left], best[left])
            else:
                _pair(panel, columns[left], columns[below], best[left], best[below])
                _axis(panel, "y", below, columns[below], writers.get(below), j == 0)
            _axis(panel, "x", left, columns[left], writers.get(left), i == len(names) - 1)
    figure.text(0.1 / width, 1 - 0.1 / height, title, ha="left", va="top", fontsize=9.5, fontweight="bold")
    return figure


def _wide(values: np.ndarray) -> bool:
    low, high = np.quantile(values, (0.005, 0.995))
    return bool(low > 0 and high / low > WIDE)


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Where a panel begins and ends: all but the outermost percent of the draws."""
    low, high = np.quantile(values, (0.005, 0.995))
    return (float(low), float(high)) if low < high else (float(low) - 0.5, float(high) + 0.5)


def _alone(panel: Axes, values: np.ndarray, best: float) -> None:
    """How often each value was drawn, the middle 90% darker."""
    edges = (np.geomspace if _wide(values) else np.linspace)(*_ends(values), 31)
    heights = np.histogram(values, edges)[0]
    low, high = np.quantile(values, (0.05, 0.95))
    for ends, alpha in ((edges, 0.35), (np.clip(edges, low, high), 0.45)):
        panel.stairs(heights, ends, fill=True, color=style.series(0), alpha=alpha, lw=0)
    panel.axvline(best, color=style.ink(), lw=1)
    panel.set_ylim(0, 1.06 * max(1, heights.max()))
    panel.set_yticks([])
    panel.grid(False)


#: Cells a side of the plane in which the density of a pair is counted, and how many deviations it reaches out.
CELLS, REACH = 48, 4.5


def _pair(panel: Axes, x: np.ndarray, y: np.ndarray, best_x: float, best_y: float) -> None:
    """The least regions that hold 50% and 90% of the draws."""
    wide = _wide(x), _wide(y)
    inside = np.all([values > 0 if log else np.isfinite(values) for values, log in zip((x, y), wide)], 0)
    drawn = np.stack([np.log(values[inside]) if log else values[inside] for values, log in zip((x, y), wide)])
    if np.all(np.ptp(drawn, axis=1) > 0):
        (across, up), density = _density(drawn)
        descending = np.sort(density, axis=None)[::-1]
        mass = np.cumsum(descending) / descending.sum()
        half, most = (descending[np.searchsorted(mass, share)] for share in (0.5, 0.9))
        across, up = (np.exp(values) if log else values for values, log in zip((across, up), wide))
        shades = [style.series(0) + "55", style.series(0) + "aa"]
        panel.contourf(across, up, density, (most, half, 2 * density.max()), colors=shades)
        # Where one nearly follows from the other, the region is thinner than a line: its edge is what is seen.
        panel.contour(across, up, density, (most,), colors=[style.series(0)], linewidths=0.9)
    panel.plot(best_x, best_y, "+", color=style.ink(), ms=7, mew=1.2)


def _density(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Density of draws [2, S] on a grid: its places [2, K, K] and values [K, K].

    It is counted and smoothed, with Scott's width, in coordinates in which the draws are not correlated, so that a narrow ridge
    stays narrow.
    """
    centre = np.median(drawn, axis=1)
    # A little of the identity keeps the factor where one of the two follows from the other.
    scale = np.std(drawn, axis=1)
    mixed = np.corrcoef(drawn) * (1 - 1e-6) + 1e-6 * np.eye(2)
    factor = scale[:, None] * np.linalg.cholesky(mixed)
    apart = np.linalg.solve(factor, drawn - centre[:, None])
    edges = np.linspace(-REACH, REACH, CELLS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    counted = np.histogram2d(*apart, (edges, edges))[0]
    width = drawn.shape[1] ** (-1 / 6) / (edges[1] - edges[0])
    grid = np.stack(np.meshgrid(middle, middle, indexing="ij"))
    return centre[:, None, None] + np.einsum("ij,jkl->ikl", factor, grid), gaussian_filter(counted, width)


def _axis(panel: Axes, which: str, name: str, values: np.ndarray, write: Callable | None, outer: bool) -> None:
    axis = getattr(panel, f"{which}axis")
    if _wide(values):
        style.log_axis(panel, which, "", "power", most=3)
    else:
        axis.set_major_locator(MaxNLocator(3))
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: write(value)) if write else ScalarFormatter(useOffset=False)
        )
    getattr(panel, f"set_{which}lim")(*_ends(values))
    panel.tick_params(axis=which, labelsize=7, **{("labelbottom" if which == "x" else "labelleft"): outer})
    if which == "x":
        panel.tick_params(axis="x", rotation=45)
    if outer:
        axis.set_label_text(style.symbol(name))
        # Names of one row or column stand in one line, whatever the length of the ticks' labels.
        axis.set_label_coords(*((0.5, -0.34) if which == "x" else (-0.37, 0.5)))
