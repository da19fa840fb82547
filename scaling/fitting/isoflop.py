"""Approaches 1 and 2 of Hoffmann et al. 2022: the compute-optimal frontier without a law of the loss, and its bias.

Approach 1 takes at each C the size whose training curve is lowest there; Approach 2 the vertex of a parabola through
the losses of each budget. Both then draw power laws N* = G_N C^a and D* = G_D C^b through what they found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from scaling.fitting.counting import Counting
from scaling.fitting.laws import Law
from scaling.fitting.solve import FitError
from scaling.runs import Runs

#: Runs whose C differ by less than this in log C are of one budget: a few percent either way.
SAME_BUDGET = 0.1
#: Runs whose N differ by less than this in log N are of one size.
SAME_SIZE = 0.02
#: Sizes that a budget needs before a parabola through it has a minimum to speak of.
FEWEST_SIZES = 4
#: Half-width in log tokens of the running mean that quietens a training curve.
SMOOTHING = 0.05


@dataclass(frozen=True)
class Budget:
    """The runs at one budget: `C` in FLOPs (geometric mean) and their `rows` in the table."""

    C: float
    rows: np.ndarray


@dataclass(frozen=True)
class Vertex:
    """Where one budget has its minimum: N in parameters, D in tokens, loss; and why it is left out, if it is.

    N, D and loss are None where there is no minimum at all. `runs` is how many runs it was found from. Of a parabola, `depth` is
    its mean rise from the vertex to the smallest and the largest size, in nats per token. `depth_se` and `N_se` (a share of N)
    are standard errors over the held-out tokens alone, which all runs share: by the jackknife over the parts of these, where
    the records hold the losses on them.
    """

    C: float
    N: float | None
    D: float | None
    loss: float | None
    runs: int
    left_out: str | None = None
    depth: float | None = None
    depth_se: float | None = None
    N_se: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the power laws go through it."""
        return self.left_out is None

    @property
    def more_tokens(self) -> float:
        """How many times the held-out tokens the depth's standard error would take to be a tenth of it; at most 1: enough."""
        return (10 * self.depth_se / self.depth) ** 2 if self.depth_se and self.depth else 1.0


@dataclass(frozen=True)
class Frontier:
    """N* = G_N C^a and D* = G_D C^b through the vertices that were kept, N in parameters, D in tokens, C in FLOPs.

    `a_se` is the standard error of a from the scatter of three or more vertices about the line. `seen` says what the
    vertices were found from.
    """

    approach: int
    a: float
    b: float
    G_N: float
    G_D: float
    a_se: float | None
    vertices: tuple[Vertex, ...]
    seen: str

    def optimum(self, C: Any) -> tuple[np.ndarray, np.ndarray]:
        """(N*, D*) at C FLOPs; vectorised."""
        C = np.asarray(C, np.float64)
        return self.G_N * C**self.a, self.G_D * C**self.b

    @property
    def kept(self) -> tuple[Vertex, ...]:
        """The vertices that the power laws go through."""
        return tuple(vertex for vertex in self.vertices if vertex.kept)

    @property
    def left_out(self) -> tuple[Vertex, ...]:
        """The vertices that were left out, with their reasons."""
        return tuple(vertex for vertex in self.vertices if not vertex.kept)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with each vertex and whether it was kept."""
        return asdict(self) | {
            "vertices": [asdict(vertex) | {"kept": vertex.kept} for vertex in self.vertices],
            "left_out": [{"C": vertex.C, "reason": vertex.left_out} for vertex in self.left_out],
        }


def budgets(runs: Runs, tolerance: float = SAME_BUDGET) -> tuple[Budget, ...]:
    """The isoFLOP budgets of a table, smallest first: runs whose log C lies within `tolerance`, of four or more sizes.

    The window with most runs is taken first, so that budgets stand out of a table that has other runs too; runs next to a
    budget and outside its window are of none.
    """
    order = np.argsort(runs.C, kind="stable")
    found = []
    while (inside := _densest(runs, order, tolerance)) is not None:
        middle = float(np.mean(np.log(runs.C[inside])))
        order = order[np.abs(np.log(runs.C[order]) - middle) > 2 * tolerance]
        found.append(Budget(float(np.exp(middle)), np.sort(inside)))
    return tuple(sorted(found, key=lambda budget: budget.C))


def _densest(runs: Runs, order: np.ndarray, tolerance: float) -> np.ndarray | None:
    """Of the rows in `order` (rising C) the most within `tolerance` in log C that are of enough sizes; None where none are."""
    log_C = np.log(runs.C[order])
    ends = np.searchsorted(log_C, log_C + tolerance, side="right")
    counts = ends - np.arange(len(order))
    for first in np.argsort(-counts, kind="stable"):
        inside = order[first : ends[first]]
        if len(inside) < FEWEST_SIZES:
            return None
        if len(_sizes(runs.N[inside])) >= FEWEST_SIZES:
            return inside
    return None


def _sizes(N: np.ndarray) -> list[np.ndarray]:
    """Rows by size, smallest first: each size reaches from its smallest N to `SAME_SIZE` above it in log N."""
    order = np.argsort(N, kind="stable")
    log_N, groups, first = np.log(N[order]), [], 0
    while first < len(N):
        end = int(np.searchsorted(log_N, log_N[first] + SAME_SIZE, side="right"))
        groups.append(order[first:end])
        first = end
    return groups


def approach2(runs: Runs, *, inner: float = 0.5, tolerance: float = SAME_BUDGET) -> Frontier:
    """The frontier through the vertices of isoFLOP parabolas (Hoffmann et al. 2022, section 3.2).

    Of each budget, loss is a parabola in log N and in log D, by least squares (weighted where the runs have weights). A
    vertex is left out where the parabola has no minimum or has it outside the `inner` part of the sizes that were trained
    (1: anywhere among them; inf: anywhere). Raises FitError where fewer than two are left.
    """
    found = budgets(runs, tolerance)
    if not found:
        raise FitError(
            f"{runs.source}: no isoFLOP budget: no {FEWEST_SIZES} sizes within {tolerance:.0%} of one C. Approach 2 needs at "
            f"least two budgets of {FEWEST_SIZES} sizes each; Approach 3 (`scaling fit`) needs none."
        )
    vertices = tuple(_vertex(runs, budget, inner) for budget in found)
    return _frontier(2, vertices, f"parabolas through {len(found)} budgets", runs.source)


def _vertex(runs: Runs, budget: Budget, inner: float) -> Vertex:
    """The vertex of one budget's parabola, or why it has none."""
    rows = budget.rows
    x, loss = np.log(runs.N[rows]), runs.loss[rows]
    weight = None if runs.weight is None else runs.weight[rows]
    bottom = _bottom(x, loss, weight)
    tokens = _bottom(np.log(runs.D[rows]), loss, weight)
    if bottom is None or tokens is None:
        return Vertex(budget.C, None, None, None, len(rows), "no minimum: the parabola opens downwards.")
    (log_N, least, depth), (log_D, _, _) = bottom, tokens
    low, high = x.min(), x.max()
    middle, reach = (low + high) / 2, inner * (high - low) / 2
    reason = None
    if abs(log_N - middle) > reach:
        side = "below" if log_N < middle else "above"
        span = "the sizes that were trained" if not low <= log_N <= high else f"the inner {inner:.0%} of the sizes"
        reason = f"vertex at N = {np.exp(log_N):.3g}, {side} {span} ({np.exp(low):.3g} to {np.exp(high):.3g})."
    errors = _over_parts(runs, rows, x, weight)
    return Vertex(budget.C, float(np.exp(log_N)), float(np.exp(log_D)), least, len(rows), reason, depth, *errors)


def _over_parts(
    runs: Runs, rows: np.ndarray, x: np.ndarray, weight: np.ndarray | None
) -> tuple[float | None, float | None]:
    """Standard errors of a valley's depth and of log N at its bottom, by the jackknife over parts of the held-out tokens.

    None where the runs have no parts, or a parabola without one of them has no bottom.
    """
    parts = np.array([runs.parts.get(str(id), ()) for id in runs.id[rows]]) if runs.parts else np.empty((0, 0))
    count = parts.shape[-1]
    if count < 2:
        return None, None
    without = [_bottom(x, (parts.sum(1) - parts[:, part]) / (count - 1), weight) for part in range(count)]
    if None in without:
        return None, None
    log_N, _, depth = np.array(without).T
    depth_se, N_se = (float(np.sqrt((count - 1) * np.var(values))) for values in (depth, log_N))
    return depth_se, N_se


def _bottom(x: np.ndarray, loss: np.ndarray, weight: np.ndarray | None) -> tuple[float, float, float] | None:
    """(x, loss) at the bottom of the least-squares parabola and its mean rise at both ends; None where it has none."""
    centre, spread = x.mean(), np.ptp(x)
    z = (x - centre) / spread
    root = np.ones_like(z) if weight is None else np.sqrt(weight)
    (c0, c1, c2), *_ = np.linalg.lstsq(np.stack([z**0, z, z**2], 1) * root[:, None], loss * root, rcond=None)
    if c2 <= 0:
        return None
    z_min = -c1 / (2 * c2)
    if abs(z_min) > 100:  # flat to rounding: there is nothing to see a hundred grids away
        return None
    rise = c2 * np.mean((np.array([z.min(), z.max()]) - z_min) ** 2)
    return float(centre + spread * z_min), float(c0 - c1**2 / (4 * c2)), float(rise)


def approach1(runs: Runs, *, points: int = 100) -> Frontier:
    """The frontier through the envelope of training curves (Hoffmann et al. 2022, section 3.1).

    At each of `points` values of C, evenly in log C, the size whose curve is lowest there. The curves are those of training
    where the runs have them, else the ends of the runs of each size, in between by interpolation in log C. C goes from the
    least that any run ended at: below it no curve has had the decay of its learning rate. A minimum
    at the smallest or largest size that was trained to this C says only that the optimum is not inside: it is marked and left
    out. Raises FitError where fewer than two sizes are left.
    """
    curves, seen = _curves(runs)
    if len(curves) < 3:
        raise FitError(
            f"{runs.source}: curves of only {len(curves)} sizes; Approach 1 needs three or more sizes with a training curve, "
            "or with runs at two or more C each."
        )
    low = float(np.log(runs.C.min()))
    high = max(curve[-1, 0] for curve in curves.values())
    vertices = tuple(_lowest(curves, log_C) for log_C in np.linspace(low, high, points))
    if len({vertex.N for vertex in vertices if vertex.kept}) < 2:
        raise FitError(
            f"{runs.source}: the envelope has fewer than two sizes that are neither the smallest nor the largest at their C. "
            "Train more sizes at each C."
        )
    return _frontier(1, vertices, seen, runs.source)


def _curves(runs: Runs) -> tuple[dict[float, np.ndarray], str]:
    """N -> [log C, log D, loss] along the curve of that size [T, 3], rising in C; and what they were made of."""
    trained = [len(runs.curves.get(str(id), ())) > 2 for id in runs.id]
    if all(trained):
        parts = [_training_curve(runs, i) for i in range(len(runs))]
        seen = f"training curves of {len(runs)} runs"
    else:
        parts = [np.array([[np.log(C), np.log(D), loss]]) for C, D, loss in zip(runs.C, runs.D, runs.loss)]
        seen = f"ends of {len(runs)} runs, by size"
    merged = {float(np.median(runs.N[rows])): _merge([parts[i] for i in rows]) for rows in _sizes(runs.N)}
    curves = {N: curve for N, curve in merged.items() if len(curve) > 1}
    return curves, seen


def _training_curve(runs: Runs, row: int) -> np.ndarray:
    """A run's curve as [log C, log D, loss], each loss a mean over 5% more and fewer tokens; the last point is the run's own."""
    points = np.array(runs.curves[str(runs.id[row])], np.float64)
    points = points[points[:, 0] > 0]
    log_D, loss = np.log(points[:, 0]), points[:, 1]
    total = np.concatenate([[0.0], np.cumsum(loss)])
    first = np.searchsorted(log_D, log_D - SMOOTHING, side="left")
    last = np.searchsorted(log_D, log_D + SMOOTHING, side="right")
    smooth = (total[last] - total[first]) / (last - first)
    before = log_D < np.log(runs.D[row]) - 1e-9
    log_D = np.append(log_D[before], np.log(runs.D[row]))
    return np.stack([log_D + np.log(runs.C[row] / runs.D[row]), log_D, np.append(smooth[before], runs.loss[row])], 1)


def _merge(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The lower envelope of several curves of one size, at all their C."""
    at = np.unique(np.concatenate([part[:, 0] for part in parts]))
    single = all(len(part) == 1 for part in parts)
    if single:
        stacked = np.concatenate(parts)
        best = [stacked[stacked[:, 0] == log_C] for log_C in at]
        return np.stack([points[np.argmin(points[:, 2])] for points in best])
    loss = np.stack([np.interp(at, part[:, 0], part[:, 2], left=np.inf, right=np.inf) for part in parts])
    tokens = np.stack([np.interp(at, part[:, 0], part[:, 1]) for part in parts])
    best = np.argmin(loss, 0)
    columns = np.arange(len(at))
    return np.stack([at, tokens[best, columns], loss[best, columns]], 1)


def _lowest(curves: Mapping[float, np.ndarray], log_C: float) -> Vertex:
    """The size whose curve is lowest at this C, and why it says nothing, where it says nothing."""
    C, slack = float(np.exp(log_C)), 1e-9
    here = {N: curve for N, curve in curves.items() if curve[0, 0] - slack <= log_C <= curve[-1, 0] + slack}
    if len(here) < 3:
        return Vertex(
            C, None, None, None, len(here), f"trained to this C: {len(here)} of {len(curves)} sizes; needed three."
        )
    losses = {N: float(np.interp(log_C, curve[:, 0], curve[:, 2])) for N, curve in here.items()}
    N = min(losses, key=losses.__getitem__)
    D = float(np.exp(np.interp(log_C, here[N][:, 0], here[N][:, 1])))
    edge = "smallest" if min(here) == N else "largest" if max(here) == N else None
    reason = None if edge is None else f"edge minimum: N = {N:.3g} is the {edge} size that was trained to this C."
    return Vertex(C, N, D, losses[N], len(here), reason)


def _frontier(approach: int, vertices: tuple[Vertex, ...], seen: str, source: str) -> Frontier:
    """The two power laws through the vertices that are kept."""
    kept = [vertex for vertex in vertices if vertex.kept]
    if len(kept) < 2:
        reasons = " ".join(f"C = {vertex.C:.3g}: {vertex.left_out}" for vertex in vertices if not vertex.kept)
        raise FitError(f"{source}: {len(kept)} usable budgets of {len(vertices)}, needed two. {reasons}")
    C = np.array([vertex.C for vertex in kept])
    (log_G_N, a, a_se), (log_G_D, b, _) = (
        _line(np.log(C), np.log(np.array([getattr(vertex, size) for vertex in kept], np.float64))) for size in "ND"
    )
    return Frontier(approach, a, b, float(np.exp(log_G_N)), float(np.exp(log_G_D)), a_se, vertices, seen)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float | None]:
    """Intercept and slope by least squares, and the slope's standard error where there are three points or more."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    intercept = float(y.mean() - slope * x.mean())
    residual = y - intercept - slope * x
    se = float(np.sqrt(residual @ residual / (len(x) - 2) / (centred @ centred))) if len(x) > 2 else None
    return intercept, slope, se


# --- the bias of Approach 2 --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bias:
    """What Approach 2 would find on this grid if the law were the truth and there were no noise, beside that truth.

    `a` is what it would find, `a_law` the truth on the same budgets. `errors` holds, for each C, (C, relative error of N*,
    relative error of D*); outside the budgets it is that of the power laws carried on.
    """

    a: float
    a_law: float
    errors: tuple[tuple[float, float, float], ...]
    frontier: Frontier

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "a": self.a,
            "a_law": self.a_law,
            "a_bias": self.a - self.a_law,
            "errors": [{"C": C, "N": N, "D": D} for C, N, D in self.errors],
        }


def bias(runs: Runs, law: Law, at: Sequence[float] = (), *, inner: float = 0.5, tolerance: float = SAME_BUDGET) -> Bias:
    """The bias of Approach 2 on this very grid, computed from the fitted law (Czech et al. 2026, arXiv 2603.22339).

    The losses are replaced by the law's, so that what is left of the difference to the law's own optimum is the parabola's
    misfit and the grid's position. `at` adds values of C in FLOPs to those of the budgets that were kept.
    """
    frontier = approach2(noise_free(runs, law), inner=inner, tolerance=tolerance)
    kept = np.array([vertex.C for vertex in frontier.kept])
    counting, C = Counting.of(runs), np.concatenate([kept, np.asarray(at, np.float64)])
    N_kept = counting.optimum(law, kept)[0]
    N_true, D_true = counting.optimum(law, C)
    N, D = frontier.optimum(C)
    errors = tuple(zip(C.tolist(), (N / N_true - 1).tolist(), (D / D_true - 1).tolist()))
    return Bias(frontier.a, _line(np.log(kept), np.log(N_kept))[1], errors, frontier)


def noise_free(runs: Runs, law: Law) -> Runs:
    """The same runs with the losses that the law gives them."""
    columns = {name: runs.table[name].to_numpy(np.float64) for name in law.columns}
    return replace(runs, table=runs.table.assign(loss=np.asarray(law.loss(**columns))), parts={})
