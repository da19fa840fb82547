"""The batched solver: many starts, many resamples, one compiled function, float64.

Every lane is one minimisation of

    F(theta) = sum_r w_r rho(y_r - m_r(theta)) + priors,    psi = rho' = clip(slope r, low, high)

by a damped Newton method on the exact Hessian H. The damping matrix is the majoriser M = sum w (psi / r) J J', so that
H + lambda M is equivariant under any affine change of coefficients: the iterates are the same in any units. Lanes
far from their optimum, and objectives with corners, go through a sequence of slopes, from as smooth as least squares
to the objective itself (finite smoothing; Madsen and Nielsen 1993). Converged lanes leave and waiting ones take
their place, so the shapes, and so the compiled function, never change with the number of starts or resamples.

Axes: L lanes, R runs (padded), P coefficients in fitted coordinates (positive coefficients as logarithms).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.fitting.laws import Law
from scaling.fitting.solve.moments import Data, any_model, power_law_model, with_prior
from scaling.fitting.solve.problem import Problem

RUNNING, CONVERGED, STALLED, EXHAUSTED = 0, 1, 2, 3
STATUS = {RUNNING: "running", CONVERGED: "converged", STALLED: "stalled", EXHAUSTED: "out of iterations"}

#: Losses are never known better than to this part of themselves: the floor under which an objective counts as nought.
RESOLUTION = 1e-6
#: Slope at which an objective with a corner counts as sharp; its residual scale is 1e-10 of the loss.
SHARP = 1e10
#: Information on a coefficient, against the best known one, under which it is held still: its term has vanished.
FAINT = 1e-14
#: Longest step in the logarithm of a positive coefficient.
LONGEST_STEP = 4.0
#: Doubles in flight a column of a lane: keeps a lane batch in the cache, and the memory of any fit bounded.
ELEMENTS = 131072


def float64() -> Any:
    """A context in which jax computes in float64; outside it jax is as it was."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # before jax 0.8

    return enable_x64(True)


class Solution(NamedTuple):
    """Where each lane ended: theta [S, P], value [S] (summed), status [S], and the local picture there."""

    theta: np.ndarray
    value: np.ndarray
    status: np.ndarray
    iterations: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    majoriser: np.ndarray


class _State(NamedTuple):
    theta: Any
    value: Any
    gradient: Any
    hessian: Any
    majoriser: Any
    damping: Any
    slope: Any
    status: Any
    iterations: Any


def lanes_for(runs: int) -> int:
    """How many lanes travel together for a padded number of runs."""
    return int(max(16, min(512, ELEMENTS // runs)))


def bucket(runs: int) -> int:
    """The padded number of runs: next of 16, 32, 64, 96, 128, 192, 256, 384, ..."""
    size = 16
    while size < runs:
        size = (
            size * 3 // 2 if size >= 64 and size & (size - 1) == 0 else (size * 4 // 3 if size % 3 == 0 else size * 2)
        )
    return size


def minimise(
    problem: Problem,
    starts: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    loss: np.ndarray | None = None,
    free: np.ndarray | None = None,
    smooth: bool = True,
    tolerance: float = 1e-9,
    iterations: int = 200,
) -> Solution:
    """The minimum that each start [S, P] (fitted coordinates) leads to, summed objective.

    `weights` [S, R], `loss` [S, R] and `free` [S, P] give a lane its own resample, its own losses, its own pins.
    `smooth` begins each lane with a smoother objective, for starts that are far away. A lane has converged when a
    Newton step promises less than tolerance^2 of the objective.
    """
    S, R = len(starts), len(problem.loss)
    if S == 0:
        raise ValueError("no start to minimise from.")
    width, lanes = bucket(R), lanes_for(bucket(R))
    pad = np.concatenate([np.arange(R), np.zeros(width - R, int)])
    target = problem.target if loss is None else np.log(loss) if problem.objective.log else loss
    mass = problem.weights if weights is None else weights
    mask = np.broadcast_to(problem.free if free is None else free & problem.free, starts.shape)
    starts = problem.constrain(np.array(starts, np.float64))
    shared = _shared(problem, pad, tolerance)

    def rows(table: np.ndarray, index: np.ndarray) -> np.ndarray:
        return np.broadcast_to(table, (lanes, R)) if table.ndim == 1 else table[index]

    def load(index: np.ndarray) -> Data:
        padded = np.zeros((lanes, width))
        padded[:, :R] = rows(mass, index)
        return shared._replace(target=rows(target, index)[:, pad], weights=padded, free=mask[index])

    with float64():
        begin, advance = _compiled(problem.law, problem.objective.log)
        return _drive(begin, advance, load, starts, lanes, smooth, iterations)


def _drive(
    begin: Callable, advance: Callable, load: Callable, starts: np.ndarray, lanes: int, smooth: bool, iterations: int
) -> Solution:
    """Keep all lanes busy until every start has ended: the converged leave, the waiting enter."""
    S = len(starts)
    ended: list[Any] = [None] * 7
    index = np.minimum(np.arange(lanes), S - 1)
    waiting = min(lanes, S)
    occupied = np.arange(lanes) < S
    data = load(index)
    state = begin(starts[index], data, smooth, ~occupied)
    budget = iterations
    while occupied.any():
        state = _State(*map(np.asarray, advance(state, data, 6 if waiting < S else 12, budget)))
        out = occupied & (state.status != RUNNING)
        if out.any():
            values = (state.theta, state.value, state.status, state.iterations, *state[2:5])
            for slot, value in enumerate(values):
                if ended[slot] is None:
                    ended[slot] = np.zeros((S, *value.shape[1:]), value.dtype)
                ended[slot][index[out]] = value[out]
            occupied = occupied & ~out
        vacant = np.flatnonzero(~occupied)
        if waiting < S and len(vacant) >= min(lanes // 8, S - waiting):
            entering = vacant[: S - waiting]
            index[entering] = waiting + np.arange(len(entering))
            waiting += len(entering)
            occupied[entering] = True
            data = load(index)
            fresh = begin(starts[index], data, smooth, ~occupied)
            new = np.isin(np.arange(lanes), entering)
            state = _State(
                *(np.where(new.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(map(np.asarray, fresh), state))
            )
    theta, value, status, steps, gradient, hessian, majoriser = ended
    for begun in range(0, S, lanes):
        index = np.minimum(np.arange(begun, begun + lanes), S - 1)
        if np.any(status[index] != CONVERGED):  # they stopped on a smoothed objective: report the objective itself
            state = begin(theta[index], load(index), False, np.ones(lanes, bool))
            value[index], gradient[index], hessian[index], majoriser[index] = map(np.asarray, state[1:5])
    return Solution(theta, value, status, steps, gradient, hessian, majoriser)


def _shared(problem: Problem, pad: np.ndarray, tolerance: float) -> Data:
    names, objective = problem.law.names(), problem.objective
    mean, weight = np.zeros((2, len(names)))
    for name, (centre, error) in problem.prior.items():
        mean[names.index(name)], weight[names.index(name)] = centre, problem.dispersion / error**2
    low, high = problem.box
    return Data(
        columns={name: np.asarray(value, np.float64)[pad] for name, value in problem.columns.items()},
        target=None,
        weights=None,
        free=None,
        ties=problem.ties,
        low=low,
        high=high,
        positive=problem.positive,
        prior_mean=mean,
        prior_weight=weight,
        psi_low=np.float64(objective.low),
        psi_high=np.float64(objective.high),
        slope=np.float64(SHARP if objective.has_corner else objective.slope),
        tolerance=np.float64(tolerance),
    )


@lru_cache(maxsize=64)
def _compiled(law: type[Law], log: bool) -> tuple[Callable, Callable]:
    """(begin, advance) for a law: compiled once a shape."""
    model = power_law_model(law, log) if law.log_terms(**{c: np.ones(1) for c in law.columns}) else any_model(law, log)

    def moments(theta: Any, slope: Any, data: Data) -> tuple[Any, ...]:
        return with_prior(theta, data, *model(theta, slope, data))

    def begin(theta: Any, data: Data, smooth: Any, ended: Any) -> _State:
        lanes = theta.shape[0]
        ones = jnp.ones(lanes)
        _, _, _, _, spread = model(theta, data.slope * ones, data)
        gentle = jnp.minimum(data.slope, _gentle_slope(spread, data))
        slope = jnp.where(smooth & jnp.isfinite(data.psi_high), gentle, data.slope * ones)
        value, gradient, hessian, majoriser = moments(theta, slope, data)
        status = jnp.where(ended, CONVERGED, jnp.where(jnp.isfinite(value), RUNNING, STALLED)).astype(int)
        return _State(
            theta,
            value,
            gradient,
            hessian,
            majoriser,
            ones * jnp.where(smooth, 1e-2, 0.0),
            slope,
            status,
            jnp.zeros(lanes, int),
        )

    def advance(state: _State, data: Data, steps: Any, budget: Any) -> _State:
        def more(carry: tuple[Any, _State]) -> Any:
            return (carry[0] < steps) & jnp.any(carry[1].status == RUNNING)

        def body(carry: tuple[Any, _State]) -> tuple[Any, _State]:
            return carry[0] + 1, _iterate(carry[1], data, moments, budget)

        return jax.lax.while_loop(more, body, (0, state))[1]

    return jax.jit(begin), jax.jit(advance)


def _gentle_slope(spread: Any, data: Data) -> Any:
    """The slope at which residuals of twice the mean size still count as small."""
    return jnp.minimum(data.psi_high, -data.psi_low) / (2 * spread + 1e-300)


def _iterate(state: _State, data: Data, moments: Callable, budget: Any) -> _State:
    """One damped Newton step of every running lane."""
    gradient = state.gradient @ data.ties
    hessian, majoriser = (data.ties.T @ matrix @ data.ties for matrix in (state.hessian, state.majoriser))
    pressed = ((state.theta <= data.low) & (gradient > 0)) | ((state.theta >= data.high) & (gradient < 0))
    step, promise, definite = _step(gradient, hessian, majoriser, data.free & ~pressed, state.damping)
    longest = jnp.max(jnp.where(data.positive, jnp.abs(step), 0.0), -1)
    step = step * jnp.minimum(1.0, LONGEST_STEP / jnp.maximum(longest, 1e-300))[:, None]

    count = jnp.sum(data.weights, -1)
    scale = jnp.abs(state.value) + 0.5 * jnp.minimum(state.slope, 2.0) * RESOLUTION**2 * count
    sharp = state.slope >= data.slope
    done = (promise <= jnp.where(sharp, data.tolerance**2, 1e-6) * scale) & definite & (state.damping <= 1e-2)
    sharpen = done & ~sharp
    slope = jnp.where(sharpen, jnp.minimum(data.slope, 5 * state.slope), state.slope)

    trial = jnp.where(sharpen[:, None], state.theta, jnp.clip(state.theta + step @ data.ties.T, data.low, data.high))
    value, new_gradient, new_hessian, new_majoriser = moments(trial, slope, data)
    gain = (state.value - value) / jnp.maximum(promise, 1e-300)
    better = jnp.isfinite(value) & (value <= state.value + 1e-14 * scale)
    accept = (sharpen | (better & ~(done & sharp))) & (state.status == RUNNING)
    good = better & (gain > 0.7)
    damping = state.damping
    damping = jnp.where(
        sharpen,
        0.0,
        jnp.where(good, damping / 10, jnp.where(better & (gain > 0.2), damping, jnp.maximum(8 * damping, 1e-2))),
    )
    damping = jnp.where(damping < 1e-7, 0.0, damping)

    iterations = state.iterations + (state.status == RUNNING)
    status = jnp.where(done & sharp, CONVERGED, RUNNING)
    status = jnp.where((status == RUNNING) & (damping > 1e12), STALLED, status)
    status = jnp.where((status == RUNNING) & (iterations >= budget), EXHAUSTED, status)
    running = state.status == RUNNING

    def pick(new: Any, old: Any) -> Any:
        return jnp.where(accept.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return _State(
        pick(trial, state.theta),
        pick(value, state.value),
        pick(new_gradient, state.gradient),
        pick(new_hessian, state.hessian),
        pick(new_majoriser, state.majoriser),
        jnp.where(running, damping, state.damping),
        jnp.where(running, slope, state.slope),
        jnp.where(running, status, state.status).astype(int),
        iterations,
    )


def _step(gradient: Any, hessian: Any, majoriser: Any, free: Any, damping: Any) -> tuple[Any, Any, Any]:
    """The step [L, P], what it promises [L], and whether it is Newton's: (H + damping M) where that is positive
    definite, and (1 + damping) M, the re-weighted least squares step, where it is not."""
    diagonal = jnp.diagonal(majoriser, axis1=1, axis2=2)
    size = jnp.sqrt(jnp.maximum(diagonal, FAINT * jnp.max(diagonal, -1, keepdims=True) + 1e-300))
    inverse = jnp.where(free, 1 / size, 0.0)
    outer = inverse[:, :, None] * inverse[:, None, :]
    H, M, g = hessian * outer, majoriser * outer, gradient * inverse
    fixed = jnp.where(free, 0.0, 1.0)[:, :, None] * jnp.eye(H.shape[-1])

    faint = jnp.maximum(0.0, 1.0 - jnp.diagonal(M, axis1=1, axis2=2))  # 0 but where a term has all but vanished
    ridge = (faint + 1e-13)[:, :, None] * jnp.eye(H.shape[-1])
    damped = damping[:, None, None] * M + ridge + fixed
    both, definite = _solve_definite(jnp.concatenate([H + damped, M + damped]), jnp.concatenate([-g, -g]))
    (newton, majorised), definite = jnp.split(both, 2), definite[: len(g)]
    step = jnp.where(definite[:, None], newton, majorised)
    curvature = jnp.where(definite[:, None, None], H, M)
    promise = -jnp.sum(step * g, -1) - 0.5 * jnp.sum(step * jnp.sum(curvature * step[:, None, :], -1), -1)
    return step * inverse, promise, definite


def _solve_definite(matrix: Any, right: Any) -> tuple[Any, Any]:
    """Solve [L, P, P] x = [L, P] by elimination without pivoting, and whether each matrix is positive definite."""
    P = matrix.shape[-1]
    tableau = jnp.concatenate([matrix, right[:, :, None]], -1)
    definite = jnp.ones(matrix.shape[0], bool)

    def eliminate(k: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        tableau, definite = carry
        row = jax.lax.dynamic_index_in_dim(tableau, k, 1)
        pivot = jax.lax.dynamic_index_in_dim(row[:, 0], k, 1)
        good = pivot > 1e-14
        row = row / jnp.where(good, pivot, 1.0)[:, :, None]
        column = jax.lax.dynamic_index_in_dim(tableau, k, 2)
        here = (jnp.arange(P) == k)[None, :, None]
        return jnp.where(here, row, tableau - column * row), definite & good[:, 0]

    tableau, definite = jax.lax.fori_loop(0, P, eliminate, (tableau, definite))
    return tableau[:, :, -1], definite
