"""Figures of what to do with a law: how flat the optimum is, what being off costs, loss against each cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.reporting import numbers
from scaling.reporting.figures import planned, style
from scaling.reporting.study import COSTS
from scaling.runs import Runs

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit
    from scaling.planning.allocate import Subject
    from scaling.planning.design import Design, Expected

#: Sizes that waste at most these shares of the compute are marked.
FLAT = (0.01, 0.05, 0.2)


@style.drawn
def flatness(fit: Fit | Subject, C: float) -> Figure:
    """Loss against N at C FLOPs, and which N waste less than 1%, 5% and 20% of the compute."""
    figure, [[axes]] = style.panels(width=6.4, height=4.0)
    asked = planned.problem(fit, C)
    N, D = asked.best()
    sizes = N * np.geomspace(1 / 12, 12, 401)
    sizes = sizes[asked.tokens(sizes) > 1]
    loss, best = asked.loss(sizes, asked.tokens(sizes)), float(asked.loss(N, D))
    share = planned.effective_share(asked, sizes)
    for i, wasted in reversed(list(enumerate(FLAT))):
        inside = sizes[share >= 1 - wasted]
        text = f"wastes under {100 * wasted:g}%: {numbers.count(inside[0])} to {numbers.count(inside[-1])}"
        axes.axvspan(inside[0], inside[-1], color=style.series(0), alpha=0.28 - 0.08 * i, lw=0, label=text)
    axes.plot(sizes, loss, color=style.ink(), label="fitted law")
    axes.plot(N, best, "*", ms=12, mfc=style.ink("paper"), mec=style.ink(), label=f"N* = {numbers.count(N)}")
    high = float(np.quantile(loss, 0.9))
    axes.set_ylim(best - 0.07 * (high - best), high)
    style.parameters(axes)
    style.losses(axes)
    axes.set_title(f"How flat the optimum is at {numbers.power(C)} FLOPs")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@style.drawn
def being_off(fit: Fit | Subject, C: float) -> Figure:
    """Share of C FLOPs that still counts when training k N* instead of N*, with the bootstrap's band.

    A run off the optimum reaches the loss of an optimal run with less compute; that compute over C is drawn.
    The band asks bootstrap laws what training k times the fitted N* costs, so it shows what trusting N* risks.
    """
    figure, [[axes]] = style.panels(width=6.4, height=4.0)
    k = np.geomspace(1 / 10, 10, 81)
    asked = planned.problem(fit, C)
    sizes = k * asked.best()[0]
    if fit.draws is not None:
        low, high = np.nanquantile(
            planned.effective_share(planned.drawn(fit, C, planned.SHARES), sizes), (0.05, 0.95), axis=0
        )
        axes.fill_between(k, 100 * low, 100 * high, color=style.series(0), alpha=0.22, lw=0, label="90% bootstrap")
    share = planned.effective_share(asked, sizes)
    axes.plot(k, 100 * share, color=style.ink(), label="fitted law")
    for at in (1 / 4, 1 / 2, 2, 4):
        value = 100 * np.interp(np.log(at), np.log(k), share)
        beside = {"xytext": (12 if at > 1 else -12, 4), "ha": "left" if at > 1 else "right"}
        axes.annotate(f"{value:.0f}%", (at, value), textcoords="offset points", fontsize=7.5, **beside)
        axes.plot(at, value, "o", color=style.ink(), ms=3.5)
    style.log_axis(axes, "x", f"N over N* = {numbers.count(sizes[40])}", "power")
    axes.set_ylim(0, 104)
    axes.set_ylabel("compute that counts, %")
    axes.set_title(f"The cost of being off at {numbers.power(C)} FLOPs")
    axes.legend(loc="lower center")
    return figure


@style.drawn
def pareto(runs: Runs, costs: Mapping[str, np.ndarray]) -> Figure:
    """Loss against each cost of the runs (label with unit -> [R]), with the runs that no other beats joined."""
    costs = {label: np.asarray(cost, float) for label, cost in costs.items()}
    if not costs:
        return style.missing("No cost to draw loss against.", "Give dollars, hours, kWh or kg for each run.")
    columns = min(2, len(costs))
    rows = -(-len(costs) // columns)
    figure, axes = style.panels(
        columns, rows, width=6.4 if columns == 1 else 7.6, height=(3.6 if rows == 1 else 0.4 + 2.5 * rows)
    )
    for panel in axes.flat[len(costs) :]:
        panel.remove()
    for panel, (label, cost) in zip(axes.flat, costs.items()):
        _front(panel, label, cost, runs)
    figure.suptitle(
        "Loss against cost: the runs that no other run beats", x=0.01, ha="left", fontsize=9.5, fontweight="bold"
    )
    unknown = [label.split(",")[0] for label in COSTS if label not in costs]
    if unknown:
        figure.supxlabel(f"Not known for these runs: {', '.join(unknown)}.", fontsize=7.5, color=style.ink("soft"))
    return figure


def _front(panel: Axes, label: str, cost: np.ndarray, runs: Runs) -> None:
    loss = runs.loss
    known = np.isfinite(cost) & (cost > 0) & np.isfinite(loss)
    if not known.any():
        style.note(panel, f"{label}: not known for any run")
        return
    cost, loss = cost[known], loss[known]
    best = unbeaten(cost, loss)
    low, high = style.within(loss)
    room = 0.06 * ((high - low) or high)
    panel.plot(cost, loss, "o", color=style.ink("soft"), alpha=0.5, ms=3.5, mew=0)
    panel.step(cost[best], loss[best], where="post", color=style.series(1), lw=1.4)
    panel.plot(cost[best], loss[best], "o", color=style.series(1), mec=style.ink(), mew=0.7, ms=4.5)
    panel.set_ylim(min(low, float(loss.min())) - room, high + room)
    style.mark_beyond(panel, cost, loss, style.ink("soft"))
    style.log_axis(panel, "x", label, "power", most=5)
    style.losses(panel, runs)


def unbeaten(cost: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Indices of the runs with no other run at most as dear and at most as high in loss, cheapest first."""
    order = np.lexsort((loss, cost))
    lowest = np.minimum.accumulate(loss[order])
    first = np.concatenate([[True], lowest[1:] < lowest[:-1]])
    return order[first]


@style.drawn
def design(runs: Runs, fit: Fit | Subject, expected: Sequence[Expected], proposed: Design | None = None) -> Figure:
    """Where runs lie over N and D, the runs to train next, and the factor (90%) within which N* is known at each asked C."""
    figure, [[plane, told]] = style.panels(2, width=8.6, height=4.0)
    bought = [] if proposed is None else [cell for cell, _ in proposed.cells]
    C = np.geomspace(runs.C.min() / 3, runs.C.max() * 3, 60)
    plane.plot(*planned.problem(fit, C).best(), color=style.ink(), label="best N and D")
    plane.plot(runs.N, runs.D, "o", color=style.series(1), mec=style.ink("paper"), mew=0.5, ms=4.5, label="run")
    if proposed is not None:
        sizes = np.array([(cell.N, cell.D) for cell in bought])
        plane.scatter(*sizes.T, s=[14 * seeds for _, seeds in proposed.cells], marker="D", zorder=3, lw=1.1,
                      facecolors="none", edgecolors=style.series(2), label="to train next")  # fmt: skip
    style.parameters(plane)
    style.tokens(plane, "y")
    more = f" and {sum(seeds for _, seeds in proposed.cells)} to train next" if proposed is not None else ""
    plane.set_title(f"{len(runs)} runs{more}")
    _told(told, expected, proposed)
    drawn = [panel.get_legend_handles_labels() for panel in (plane, told)]
    handles, labels = ([*one, *other] for one, other in zip(*drawn))
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    return figure


def _told(panel: Axes, expected: Sequence[Expected], proposed: Design | None) -> None:
    """Over the asked C, the factor within which N* is known, and where the proposed runs would bring it."""
    C = np.array([target.C for target in expected])
    worst = np.array([target.worst for target in expected])
    panel.fill_between(C, 1 / worst, worst, color=style.series(0), alpha=0.22, lw=0, label="nine in ten plausible laws")
    factor = np.array([target.factor for target in expected])
    for side in (factor, 1 / factor):
        panel.plot(C, side, color=style.ink(), label="fitted law" if side is factor else None)
    if proposed is not None:
        after = proposed.expected
        panel.plot([after.C] * 2, [1 / after.factor, after.factor], color=style.series(2), marker="D", ms=4.5,
                   mfc=style.ink("paper"), label="with the next runs")  # fmt: skip
    panel.axhline(1, color=style.ink("soft"), lw=0.8)
    top = float(np.clip(worst[np.isfinite(worst)].max(initial=1.2), 1.2, 100))
    panel.set_ylim(1 / top**1.1, top**1.1)
    style.flops(panel, label="asked compute C, FLOPs")
    style.log_axis(panel, "y", "N* found over N*, 90%", "power")
    panel.set_title("What they can tell")
