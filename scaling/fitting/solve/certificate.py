"""solve: the best optimum there is, and the certificate that it is.

Three verdicts, each with its numbers. *Converged*: the optimality residual is at most 1e-8 and the Hessian of the
coefficients that are free is positive definite. *Global evidence*: starts spread over the whole box agree, and no
other basin comes close to the same value with another answer. *Identifiable*: the runs tell the coefficients apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scaling.fitting.solve.corners import Exact
from scaling.fitting.solve.newton import CONVERGED, FAINT, RESOLUTION, SHARP, STATUS, Solution, minimise
from scaling.fitting.solve.problem import FitError, Problem
from scaling.fitting.solve.starts import propose

#: Optimality residual under which a point counts as an optimum.
OPTIMAL = 1e-8
#: Two lanes are in one basin when their objectives agree to this.
SAME_VALUE = 1e-6
#: Another optimum within this of the best objective is a near-tie.
NEAR_TIE = 0.05
#: Condition number of the column-normalised log-amplitude Jacobian above which the runs cannot tell coefficients apart.
WORST_CONDITION = 1e5
#: Stands for infinity, which JSON has not.
UNKNOWN = 1e300
#: Lanes that are taken to their end where the best one is not at its own; and how far down a vanished term is put.
FINISHED, BURIED = 12, 25.0
#: Slope, in units of one over the mean residual, up to which lanes go where the objective has corners; they go on from there
#: one by one, those apart whose smoothed objective is over HOPELESS times the best.
SHARPEST_OF_LANES, HOPELESS = 30.0, 2.0
#: Share of the starts that must reach an optimum before their agreement says anything of the rest.
LEAST_ENDED = 0.2
#: Starts that must agree before the optimum counts as global.
LEAST_AGREEING = 5


@dataclass(frozen=True)
class Basin:
    """A distinct local optimum: its objective, its coefficients, and how many starts ended there."""

    value: float
    params: Mapping[str, float]
    starts: int


@dataclass(frozen=True)
class Certificate:
    """What is known about an optimum. `gradient_norm` is the optimality residual: the gradient in the coordinates in
    which the Hessian is the identity, over the root of twice the objective, so that its square is the relative excess
    over the optimum; no unit of N, D or loss changes it. `least_eigenvalue` is of the Hessian of the free coefficients
    with a unit diagonal; `condition_number` of the column-normalised log-amplitude Jacobian."""

    converged: bool
    global_evidence: bool
    identifiable: bool
    gradient_norm: float
    least_eigenvalue: float
    starts: int
    agreeing_starts: int
    statuses: Mapping[str, int]
    basins: tuple[Basin, ...]
    condition_number: float
    bounds_hit: tuple[str, ...]

    @property
    def verified(self) -> bool:
        """All three verdicts at once."""
        return self.converged and self.global_evidence and self.identifiable

    @property
    def next_best(self) -> Basin | None:
        """The best optimum in another basin."""
        return self.basins[1] if len(self.basins) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """The certificate as plain values, with `verified`."""
        payload = asdict(self) | {"verified": self.verified}
        payload["basins"] = [asdict(basin) for basin in self.basins]
        payload["bounds_hit"] = list(self.bounds_hit)
        return payload

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Certificate:
        """The certificate that `to_json` wrote."""
        fields = {key: value for key, value in payload.items() if key != "verified"}
        fields["basins"] = tuple(Basin(**basin) for basin in payload["basins"])
        fields["bounds_hit"] = tuple(payload["bounds_hit"])
        return cls(**fields)


def solve(problem: Problem, starts: int = 500, seed: int = 0) -> tuple[np.ndarray, float, Certificate]:
    """(theta [P] in fitted coordinates, summed objective, certificate) of the best optimum.

    Raises FitError where no start ends at a finite objective, or the runs leave a direction wholly open.
    """
    points = propose(problem, starts, seed)
    if not len(points):
        raise FitError(f"{problem.law.name}: no start gives a finite loss on these runs; look at the columns' units.")
    sharp = _gentle(problem, points[0]) if problem.objective.has_corner else SHARP
    solution = minimise(problem, points, iterations=100, sharp=sharp)
    if not np.isfinite(solution.value).any():
        raise FitError(f"{problem.law.name}: no start of {len(points)} ended at a finite objective.")
    solution = _sharpen(problem, solution) if problem.objective.has_corner else _finish(problem, solution)
    best = _best(problem, solution)
    return solution.theta[best], float(solution.value[best]), _certify(problem, solution, best)


def _best(problem: Problem, solution: Solution) -> int:
    """The lane of least objective; of those equal to rounding, one that has converged."""
    least = np.nanmin(solution.value)
    equal = solution.value <= least + 1e-10 * (abs(least) + _floor(problem))
    done = equal & (solution.status == CONVERGED)
    return int(np.flatnonzero(done if done.any() else equal)[0])


def _finish(problem: Problem, solution: Solution) -> Solution:
    """The solution with the best lanes taken to their ends, where the best had stopped before its own."""
    if solution.status[_best(problem, solution)] != CONVERGED:
        order = np.argsort(np.where(np.isfinite(solution.value), solution.value, np.inf), kind="stable")
        chosen = order[solution.status[order] != CONVERGED][:FINISHED]
        for smooth in (False, True):
            _improve(
                problem, solution, chosen, minimise(problem, solution.theta[chosen], smooth=smooth, iterations=1000)
            )
    best = np.array([_best(problem, solution)])
    if solution.status[best[0]] != CONVERGED:
        _press(problem, solution, best[0])
    gone = _vanished(problem, _reduced(problem, solution, best[0])[2])
    if (gone & problem.positive).any():  # its term is lost in the others already; what it still costs is as small
        buried = problem.constrain(solution.theta[best] - np.where(gone & problem.positive, BURIED, 0.0))
        _improve(problem, solution, best, minimise(problem, buried, smooth=False, iterations=100))
    return solution


def _press(problem: Problem, solution: Solution, best: int) -> None:
    """Take the best lane to a bound that is downhill, where it creeps towards one: one coefficient at a time, then all free."""
    downhill = np.where(solution.gradient[best] > 0, *problem.box)
    pressed = np.flatnonzero(np.isfinite(downhill) & problem.free)
    if not len(pressed):
        return
    starts, free = np.repeat(solution.theta[best][None], len(pressed), 0), np.ones((len(pressed), len(downhill)), bool)
    lanes = np.arange(len(pressed))
    starts[lanes, pressed], free[lanes, pressed] = downhill[pressed], False
    held = minimise(problem, starts, free=free, smooth=False, iterations=300)
    ended = minimise(problem, held.theta, smooth=False, iterations=300)
    least = _best(problem, ended)
    _improve(problem, solution, np.array([best]), Solution(*(each[[least]] for each in ended)))


def _gentle(problem: Problem, theta: np.ndarray) -> float:
    """The slope in place of a corner with which lanes still converge, and end near the exact optimum."""
    size = np.abs(problem.objective.residual(problem.loss, problem.predict(theta)))
    return SHARPEST_OF_LANES / (float(np.average(size, weights=problem.weights)) + RESOLUTION)


def _sharpen(problem: Problem, solution: Solution) -> Solution:
    """The solution with the best smoothed optima taken to the exact ones at the corners, all lanes of each together."""
    exact, smooth = Exact(problem), solution.value.copy()
    solution.value[:] = [exact.value(theta) if np.isfinite(v) else np.inf for theta, v in zip(solution.theta, smooth)]
    left = np.argsort(np.where(np.isfinite(smooth), smooth, np.inf), kind="stable")
    most = HOPELESS * smooth[left[0]]
    for _ in range(FINISHED):
        if not len(left) or not smooth[left[0]] <= most:
            break
        together = left[smooth[left] <= smooth[left[0]] * (1 + SAME_VALUE)]
        corner = exact.descend(solution.theta[left[0]])
        gone = _vanished(problem, problem.ties.T @ corner.majoriser @ problem.ties) & problem.positive
        if gone.any():
            corner = min(corner, exact.descend(corner.theta - np.where(gone, BURIED, 0.0)), key=lambda end: end.value)
        for kept, values in zip((solution.theta, solution.value, *solution[4:]), corner):
            kept[together] = values
        solution.status[left[0]] = CONVERGED
        left = left[len(together) :]
    return solution


def _improve(problem: Problem, solution: Solution, lanes: np.ndarray, again: Solution) -> None:
    """Put the lanes' second ends in place of their first, where these are no worse."""
    before = solution.value[lanes]
    better = again.value <= before + 1e-10 * (np.abs(before) + _floor(problem)) * (again.status == CONVERGED)
    for kept, values in zip(solution, again):
        kept[lanes[better]] = values[better]


def _reduced(problem: Problem, solution: Solution, lane: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(gradient [P], Hessian [P, P], majoriser [P, P]) by the coefficients that are free, their followers with them."""
    ties = problem.ties
    return (
        ties.T @ solution.gradient[lane],
        ties.T @ solution.hessian[lane] @ ties,
        ties.T @ solution.majoriser[lane] @ ties,
    )


def _certify(problem: Problem, solution: Solution, best: int) -> Certificate:
    theta, value = solution.theta[best], float(solution.value[best])
    gradient, hessian, majoriser = _reduced(problem, solution, best)
    free, bounds_hit = _free(problem, theta, gradient, majoriser)
    residual, least = _optimality(gradient[free], hessian[np.ix_(free, free)], value + _floor(problem))
    condition = condition_number(problem, theta, free)
    basins = _basins(problem, solution)
    agreeing = int(np.sum(solution.value <= value + SAME_VALUE * (abs(value) + _floor(problem))))
    enough = min(LEAST_AGREEING, len(solution.value))
    rival = [basin for basin in basins[1:] if basin.value <= value * (1 + NEAR_TIE)]
    return Certificate(
        converged=bool(residual <= OPTIMAL and least > 0),
        global_evidence=bool(agreeing >= enough and np.mean(solution.status == CONVERGED) >= LEAST_ENDED and not rival),
        identifiable=bool(condition <= WORST_CONDITION and not bounds_hit),
        gradient_norm=residual,
        least_eigenvalue=least,
        starts=len(solution.value),
        agreeing_starts=agreeing,
        statuses={STATUS[code]: int(np.sum(solution.status == code)) for code in np.unique(solution.status)},
        basins=basins[:5],
        condition_number=condition,
        bounds_hit=bounds_hit,
    )


def _floor(problem: Problem) -> float:
    """The objective of residuals that are nothing but rounding in the table."""
    slope = 2.0 if problem.objective.has_corner else min(problem.objective.slope, 2.0)
    return 0.5 * slope * RESOLUTION**2 * float(problem.weights.sum())


def _free(
    problem: Problem, theta: np.ndarray, gradient: np.ndarray, majoriser: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """[P] of bool: coefficients that can move; and the names of those at a bound or whose term has vanished."""
    low, high = problem.box
    at_bound = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    stuck = problem.free & (at_bound | _vanished(problem, majoriser))
    return problem.free & ~stuck, tuple(np.array(problem.law.names())[stuck].tolist())


def _vanished(problem: Problem, majoriser: np.ndarray) -> np.ndarray:
    """[P] of bool: free coefficients that the runs say nothing of any more, since their term has vanished."""
    information = np.diag(majoriser)
    none = information < FAINT * information.max() if information.max() > 0 else np.zeros(len(information), bool)
    return none & problem.free


def _optimality(gradient: np.ndarray, hessian: np.ndarray, value: float) -> tuple[float, float]:
    """(optimality residual, least eigenvalue of the Hessian with unit diagonal)."""
    if not len(gradient):
        return 0.0, 1.0
    if not (np.isfinite(gradient).all() and np.isfinite(hessian).all()):
        return UNKNOWN, -1.0
    size = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    eigenvalues, vectors = np.linalg.eigh(hessian / np.outer(size, size))
    along = vectors.T @ (gradient / size)
    if eigenvalues[0] <= 0:
        return float(min(np.abs(along).max() / np.sqrt(2 * value), UNKNOWN)), float(eigenvalues[0])
    return float(np.sqrt(np.sum(along**2 / eigenvalues) / (2 * value))), float(eigenvalues[0])


def jacobian(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """[R, P]: derivative of the log loss by each fitted coordinate, by central differences of complex-free steps."""
    step = 1e-6 * np.maximum(np.abs(theta), 1.0)
    columns = []
    for index, width in enumerate(step):
        shift = np.zeros(len(theta))
        shift[index] = width
        up, down = problem.predict(theta + shift), problem.predict(theta - shift)
        columns.append((np.log(up) - np.log(down)) / (2 * width))
    return np.stack(columns, -1)


def condition_number(problem: Problem, theta: np.ndarray, free: np.ndarray | None = None) -> float:
    """Condition number of the column-normalised log-amplitude Jacobian over the free coefficients."""
    J = (jacobian(problem, theta) @ problem.ties)[:, problem.free if free is None else free]
    J = J * np.sqrt(problem.weights)[:, None]
    size = np.linalg.norm(J, axis=0)
    if J.shape[1] == 0:
        return 1.0
    if not np.isfinite(J).all():
        return UNKNOWN
    singular = np.linalg.svd(J / np.where(size > 0, size, 1.0), compute_uv=False)
    if len(singular) < J.shape[1] or singular[-1] == 0:
        return UNKNOWN
    return float(min(singular[0] / singular[-1], UNKNOWN))


def _basins(problem: Problem, solution: Solution) -> tuple[Basin, ...]:
    """The distinct optima among the converged lanes, best first."""
    done = np.flatnonzero((solution.status == CONVERGED) & np.isfinite(solution.value))
    done = done[np.argsort(solution.value[done], kind="stable")]
    basins: list[tuple[float, np.ndarray, int]] = []
    for lane in done:
        value, theta = solution.value[lane], solution.theta[lane]
        if basins and value <= basins[-1][0] + SAME_VALUE * (abs(basins[-1][0]) + _floor(problem)):
            basins[-1] = (*basins[-1][:2], basins[-1][2] + 1)
        else:
            basins.append((value, theta, 1))
    names = problem.law.names()
    return tuple(
        Basin(float(value), dict(zip(names, map(float, problem.to_natural(theta)))), count)
        for value, theta, count in basins
    )


__all__ = ["SHARP", "Basin", "Certificate", "condition_number", "jacobian", "solve"]
