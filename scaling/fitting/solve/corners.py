"""The exact optimum of an objective with corners: absolute and asymmetric errors.

Such an optimum passes exactly through some of the runs, and a smoothed objective only comes near it. Here the law is
linearised instead: what is left is a linear program with an exact answer, and its step is taken as far as a trust
region lets it. The program also says through which runs the law should pass; on these a Newton step of the Lagrangian,
with the law's curvature, makes convergence quadratic whether or not the optimum is a vertex (Fletcher and Sainz de la
Maza 1989; Byrd, Gould, Nocedal and Waltz 2004).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import linprog

from scaling.fitting.laws import Law
from scaling.fitting.solve.moments import amplitude_of, lane_model, with_prior
from scaling.fitting.solve.newton import RESOLUTION, SHARP, bucket, common_data, float64
from scaling.fitting.solve.problem import Problem

#: Most steps of a descent, and the part of the objective whose promise ends it: some times the rounding of a sum over runs.
STEPS, NOTHING = 100, 1e-12
#: Coefficients, and directions, that change the law less than this part of what others do are left alone: a term has vanished.
GONE, FAINTEST = 1e-9, 1e-12
#: A coefficient this near to its bound is at it.
ROUNDING = 1e-13
#: Most that a step takes away from a term.
NEARLY_ALL = 1 - 1e-9
#: A run is passed through where its influence is this far inside its limits.
INSIDE = 1e-8


class Corner(NamedTuple):
    """Where a descent ended, in fitted coordinates: theta [P], the summed objective, and the moments as `look` gives them."""

    theta: np.ndarray
    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    majoriser: np.ndarray


class _Local(NamedTuple):
    """The problem at a point: J [R, K] by directions that are orthonormal over the runs, each `moves` [P, K] of theta."""

    theta: np.ndarray
    value: float
    residual: np.ndarray
    slope: np.ndarray
    J: np.ndarray
    moves: np.ndarray
    walls: np.ndarray
    room: np.ndarray
    prior: tuple[float, np.ndarray, np.ndarray]


def _program(
    here: _Local, low: np.ndarray, high: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """(step [K], influence psi [R] of each run, decrease) of the linearised problem within `reach` and the walls.

    The dual is solved, which has as many rows as the law has coefficients: max psi . r - reach |s| - room . u subject to
    J' psi = prior + s + walls' u with low <= psi <= high, u >= 0. The step is what its rows are worth.
    """
    K, unit = here.J.shape[1], max(float(np.abs(here.residual).mean()), 1e-300)
    costs = np.r_[-here.residual, np.full(2 * K, reach), here.room] / unit
    rows = np.concatenate([here.J.T, -np.eye(K), np.eye(K), -here.walls.T], 1)
    limits = np.concatenate([np.stack([low, high], -1), np.tile([0.0, np.inf], (len(costs) - len(low), 1))])
    found = linprog(costs, A_eq=rows, b_eq=here.moves.T @ here.prior[1], bounds=limits, method="highs-ds")
    if found.status != 0:
        return np.zeros(K), None, 0.0
    decrease = here.value - here.prior[0] + found.fun * unit
    return -found.eqlin.marginals * unit, found.x[: len(low)], float(decrease)


class Exact:
    """A problem whose objective has corners, looked at point by point."""

    def __init__(self, problem: Problem) -> None:
        self.problem, R = problem, len(problem.loss)
        self.low, self.high = problem.objective.low * problem.weights, problem.objective.high * problem.weights
        pad = np.concatenate([np.arange(R), np.zeros(bucket(R) - R, int)])
        self.data = common_data(problem, pad, 1e-9)._replace(target=np.zeros((1, bucket(R))))
        self.free = problem.ties[:, problem.free]
        self.slope_of, self.bend_of = _derivatives(problem.law, problem.objective.log)
        self.middle, self.amplitude = _terms(problem)

    def value(self, theta: np.ndarray) -> float:
        """The summed objective with its priors; infinite where the law has no loss."""
        with np.errstate(all="ignore"):
            residual = self.problem.objective.residual(self.problem.loss, self.problem.predict(theta))
        total = float(np.sum(self.problem.weights * self.problem.objective.rho(residual))) + self._prior(theta)[0]
        return total if np.isfinite(total) else np.inf

    def descend(self, theta: np.ndarray) -> Corner:
        """The exact local optimum that a point [P] leads to."""
        here, last = self.look(self.problem.constrain(theta[None].copy())[0]), None
        floor = NOTHING * (here.value + RESOLUTION**2 * float(self.problem.weights.sum()))
        reach = float(np.linalg.norm(here.residual)) + 1e-12
        least = 1e-14 * reach
        for _ in range(STEPS if np.isfinite(here.value) and here.J.size else 0):
            step, psi, promise = _program(here, self.low, self.high, reach)
            last = psi if psi is not None else last
            if psi is None or promise <= floor or reach < least:
                break
            moved, value, length = self.best(here, step, psi)
            gain = (here.value - value) / promise
            here = self.look(moved) if value < here.value else here
            reach = max(reach, 2 * length) if gain > 0.7 else reach if gain > 0.1 else reach / 4
        return self.corner(here, last)

    def look(self, theta: np.ndarray) -> _Local:
        """The problem around a point."""
        problem, R = self.problem, len(self.problem.loss)
        with float64():
            slope = np.asarray(self.slope_of(theta, self.data))[:R]
        slope = np.where(np.isfinite(slope), slope, 0.0)  # where a term has overflowed nothing moves
        with np.errstate(all="ignore"):
            residual = problem.objective.residual(problem.loss, problem.predict(theta))
        J = slope @ self.free
        size = np.linalg.norm(J, axis=0)
        gone = size <= GONE * size.max(initial=1e-300)
        J, size = np.where(gone, 0.0, J), np.where(gone, 1.0, size)
        values, vectors = np.linalg.eigh((J / size).T @ (J / size))
        kept = values > FAINTEST
        whiten = vectors[:, kept] / np.sqrt(values[kept]) / size[:, None]
        moves = self.free @ whiten
        low, high = problem.box
        walls = np.concatenate([moves[np.isfinite(high)], -moves[np.isfinite(low)], -self.middle @ moves])
        room = [
            (high - theta)[np.isfinite(high)],
            (theta - low)[np.isfinite(low)],
            np.full(len(self.middle), NEARLY_ALL),
        ]
        steep = np.maximum(np.linalg.norm(walls, axis=1), 1e-300)
        return _Local(
            theta,
            self.value(theta),
            residual,
            slope,
            J @ whiten,
            moves,
            walls / steep[:, None],
            np.maximum(np.concatenate(room), 0.0) / steep,
            self._prior(theta),
        )

    def best(self, here: _Local, step: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, float, float]:
        """(theta, value, length of the step) of the best of the program's step, Newton's, and Newton's put right."""
        tries = [step]
        with np.errstate(all="ignore"):
            tries += self._newton(here, step, psi)
        points = [self._moved(here, each) for each in tries]
        values = [self.value(point) for point in points]
        k = int(np.argmin(values))
        return points[k], values[k], float(np.abs(tries[k]).max(initial=0.0))

    def _moved(self, here: _Local, step: np.ndarray) -> np.ndarray:
        """Where a step [K] leads: in the middle of the runs terms grow by the factor 1 + s, not e^s, so can go to nought."""
        move = here.moves @ step
        change = np.maximum(self.middle @ move, -NEARLY_ALL)
        low, high = self.problem.box
        point = np.clip(here.theta + move + (np.log1p(change) - change) @ self.amplitude, low, high)
        near = ROUNDING * (1 + np.abs(point))
        return np.where(point - low <= near, low, np.where(high - point <= near, high, point))

    def _newton(self, here: _Local, step: np.ndarray, psi: np.ndarray) -> list[np.ndarray]:
        """Steps to the optimum of the Lagrangian's second order on the runs passed through and the walls touched."""
        through = self._through(psi)
        touched = here.room - here.walls @ step <= 1e-9 * (np.abs(here.room) + np.abs(here.walls) @ np.abs(step))
        held, goal = (
            np.concatenate([here.J[through], here.walls[touched]]),
            np.r_[here.residual[through], here.room[touched]],
        )
        inverse = np.linalg.pinv(held, rcond=1e-10)
        onto = inverse @ goal
        values, vectors = np.linalg.eigh(np.eye(len(step)) - inverse @ held)
        along = vectors[:, values > 0.5]
        H = here.moves.T @ self._bend(here, psi) @ here.moves
        g = here.moves.T @ here.prior[1] - here.J.T @ psi + H @ onto
        if not np.isfinite(H).all():
            return []
        values, vectors = np.linalg.eigh(along.T @ H @ along)
        freely = -(along @ vectors) @ (
            (vectors.T @ (along.T @ g)) / np.maximum(np.abs(values), 1e-12 * np.abs(values).max(initial=1e-300))
        )
        longest = 3 * (np.abs(step).max(initial=0.0) + np.abs(onto).max(initial=0.0))
        newton = onto + freely * min(1.0, longest / max(float(np.abs(freely).max(initial=0.0)), 1e-300))
        miss = self.problem.objective.residual(self.problem.loss, self.problem.predict(self._moved(here, newton)))[
            through
        ]
        right = newton + inverse @ np.r_[miss, np.zeros(int(touched.sum()))]
        return [each for each in (newton, right) if np.isfinite(each).all()]

    def _through(self, psi: np.ndarray) -> np.ndarray:
        """[R] of bool: the runs that the law should pass through, whose influence lies inside its limits."""
        slack = INSIDE * (self.high - self.low)
        return (psi > self.low + slack) & (psi < self.high - slack)

    def _bend(self, here: _Local, psi: np.ndarray) -> np.ndarray:
        """[P, P]: Hessian of the Lagrangian along moves, the runs' influence held."""
        pull = np.zeros(self.data.target.shape[1])
        pull[: len(psi)] = psi
        slant = self.amplitude @ (here.prior[1] - psi @ here.slope)
        with float64():
            bend = np.asarray(self.bend_of(here.theta, pull, self.data))
        return here.prior[2] - bend - (self.middle.T * slant) @ self.middle

    def _prior(self, theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Value, gradient [P] and Hessian [P, P] of the priors."""
        P = len(theta)
        if not self.problem.prior:
            return 0.0, np.zeros(P), np.zeros((P, P))
        with float64():
            nothing = np.zeros(1), np.zeros((1, P)), np.zeros((1, P, P)), np.zeros((1, P, P))
            value, gradient, hessian, _ = (np.asarray(each)[0] for each in with_prior(theta[None], self.data, *nothing))
        return float(value), gradient, hessian

    def corner(self, here: _Local, psi: np.ndarray | None) -> Corner:
        """The point as the certificate reads it: the gradient by the runs' influence, sharp on those passed through."""
        psi = np.where(here.residual > 0, self.high, self.low) if psi is None else psi
        through = self._through(psi)
        sharp = here.slope[through].T @ (here.slope[through] * (SHARP * self.problem.weights[through])[:, None])
        ratio = np.where(
            through, SHARP * self.problem.weights, np.abs(psi) / np.maximum(np.abs(here.residual), 1 / SHARP)
        )
        return Corner(
            here.theta,
            here.value,
            here.prior[1] - psi @ here.slope,
            self._bend(here, psi) + sharp,
            (here.slope.T * ratio) @ here.slope,
        )


def _terms(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Of a sum of power laws: how each term's logarithm in the middle of the runs goes with theta [T, P], and its amplitude."""
    law, names = problem.law, problem.law.names()
    terms = law.log_terms(**problem.columns) or []
    middle = [[float(np.mean(term.get(name, 0.0))) for name in names] for term in terms]
    amplitude = [amplitude_of(term, names) for term in terms]
    return np.reshape(middle, (-1, len(names))), np.reshape(amplitude, (-1, len(names)))


@lru_cache(maxsize=16)
def _derivatives(law: type[Law], log: bool) -> tuple[Callable, Callable]:
    """(J [R, P], sum of pull times the second derivatives [P, P]) of what the residual subtracts, at one point."""
    _, predict, _ = lane_model(law, log)

    def one(theta: Any, data: Any) -> Any:
        return predict(theta[None], data)[0]

    def bend(theta: Any, pull: Any, data: Any) -> Any:
        return jax.hessian(lambda at: pull @ one(at, data))(theta)

    return jax.jit(jax.jacfwd(one)), jax.jit(bend)
