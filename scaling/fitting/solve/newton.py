"""The batched solver: many starts, many resamples, one compiled function, float64.

Every lane is one minimisation of

    F(theta) = sum_r w_r rho(y_r - m_r(theta)) + priors,    psi = rho' = clip(slope r, low, high)

by a damped Newton method on the exact Hessian H. The damping matrix is the majoriser M = sum w (psi / r) J J', so that
H + lambda M is equivariant under any affine change of coefficients: the iterates are the same in any units. Lanes
far from their optimum, and objectives with corners, go through a sequence of slopes, from as smooth as least squares
to the objective itself (finite smoothing; Madsen and Nielsen 1993). Converged lanes leave and waiting ones take
their place, so the shapes, and so the compiled function, never change with the number of starts or resamples. Each
core has lanes of its own.

Axes: L lanes, R runs (padded), P coefficients in fitted coordinates (positive coefficients as logarithms).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.fitting.laws import Law
from scaling.fitting.solve.moments import Data, is_power_law, lane_model, with_prior
from scaling.fitting.solve.problem import Problem

RUNNING, CONVERGED, STALLED, EXHAUSTED = 0, 1, 2, 3
#: Damping after the first refused step, and how it grows with each further one and shrinks with each good one.
FIRST, GROW, SHRINK = 1e-2, 30.0, 10.0
STATUS = {RUNNING: "running", CONVERGED: "converged", STALLED: "stalled", EXHAUSTED: "out of iterations"}

#: Losses are never known better than to this part of themselves: the floor under which an objective counts as nought.
RESOLUTION = 1e-6
#: Slope at which an objective with a corner counts as sharp; its residual scale is 1e-10 of the loss.
SHARP = 1e10
#: Information on a coefficient, against the best known one, under which it is held still: its term has vanished.
FAINT = 1e-14
#: Part of the objective that a step must promise for a smoothed stage to go on, and the factor between stages.
SMOOTH_ENOUGH, SHARPEN = 1e-3, 10.0
#: Compiling costs more than fitting: the passes left out halve it and change no timing that we could measure.
COMPILE = {"xla_llvm_disable_expensive_passes": True}
#: Doubles in flight a column of a lane: keeps a lane batch in the cache, and the memory of any fit bounded.
ELEMENTS = 16384


@contextmanager
def float64() -> Iterator[None]:
    """A context in which jax computes in float64 on the CPU; outside it jax is as it was."""
    if hasattr(jax, "enable_x64"):
        wide = jax.enable_x64(True)
    else:
        from jax.experimental import enable_x64  # before jax 0.8

        wide = enable_x64(True)
    with wide, jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


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
    cautious: Any
    slope: Any
    status: Any
    iterations: Any


def lanes_for(law: type[Law], runs: int) -> int:
    """How many lanes travel together for a padded number of runs: fewer where derivatives are automatic."""
    return int(max(16, min(512, ELEMENTS // runs // (1 if is_power_law(law) else 4))))


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
    prior_mean: np.ndarray | None = None,
    smooth: bool = True,
    tolerance: float = 1e-9,
    iterations: int = 200,
    sharp: float = SHARP,
) -> Solution:
    """The minimum that each start [S, P] (fitted coordinates) leads to, summed objective.

    `weights` [S, R], `loss` [S, R], `free` [S, P] and `prior_mean` [S, P] give a lane its own resample, its own losses, its
    own pins, its own centres of the priors.
    `smooth` begins each lane with a smoother objective, for starts that are far away. A lane has converged when a
    Newton step promises less than tolerance^2 of the objective. `sharp` is the slope that stands for an infinite one.
    """
    S, R = len(starts), len(problem.loss)
    if S == 0:
        raise ValueError("no start to minimise from.")
    width, lanes = bucket(R), lanes_for(problem.law, bucket(R))
    pad = np.concatenate([np.arange(R), np.zeros(width - R, int)])
    target = problem.target if loss is None else np.log(loss) if problem.objective.log else loss
    mass = problem.weights if weights is None else weights
    mask = np.broadcast_to(problem.free if free is None else free & problem.free, starts.shape)
    starts = problem.constrain(np.array(starts, np.float64))
    shared = common_data(problem, pad, tolerance, sharp)
    centres = np.broadcast_to(shared.prior_mean if prior_mean is None else prior_mean, starts.shape)

    def rows(table: np.ndarray, index: np.ndarray) -> np.ndarray:
        return np.broadcast_to(table, (lanes, R)) if table.ndim == 1 else table[index]

    def load(index: np.ndarray) -> Data:
        padded = np.zeros((lanes, width))
        padded[:, :R] = rows(mass, index)
        own = {"weights": padded, "free": mask[index], "prior_mean": centres[index]}
        return shared._replace(target=rows(target, index)[:, pad], **own)

    def first_slopes(rows: np.ndarray) -> np.ndarray:
        """The slope that each start in these rows begins with: where `smooth`, one at which its residuals count as squares."""
        if not smooth:
            return np.full(len(rows), shared.slope)
        batches = [rows[i : i + lanes] for i in range(0, len(rows), lanes)]
        full = [np.resize(batch, lanes) for batch in batches]
        spread = [np.asarray(program.spread(starts[each], load(each)))[: len(b)] for each, b in zip(full, batches)]
        gentle = min(shared.psi_high, -shared.psi_low) / (2 * np.concatenate(spread) + 1e-300)
        return np.minimum(shared.slope / 2, gentle)

    def part(rows: np.ndarray) -> Solution:
        """Where the starts in these rows end."""
        with float64():
            slopes = first_slopes(rows)

            def enter(index: np.ndarray, occupied: np.ndarray) -> _State:
                return _begin(starts[rows[index]], slopes[index], smooth, occupied)

            fill = lambda index: load(rows[index])  # noqa: E731
            ended = _drive(program.advance, enter, fill, starts[rows], lanes, iterations)
            _look(program.advance, fill, shared.slope, ended, lanes)
        return ended

    with float64():
        program, idle = _program(problem.law, problem.objective.log), np.zeros(lanes, int)
        program.compile(_begin(starts[idle], shared.slope + idle, smooth, idle > 0), load(idle), smooth)
    parts = np.array_split(np.arange(S), min(cores(), -(-S // lanes)))
    if len(parts) == 1:
        return part(parts[0])
    with ThreadPoolExecutor(len(parts)) as pool:  # XLA lets go of Python's lock while it computes
        return Solution(*map(np.concatenate, zip(*pool.map(part, parts))))


def look(problem: Problem, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Summed objective [S], gradient [S, P], Hessian and majoriser [S, P, P] at points [S, P] in fitted coordinates."""
    found = minimise(problem, points, smooth=False, iterations=0)
    return found.value, found.gradient, found.hessian, found.majoriser


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _drive(
    advance: Callable, enter: Callable, load: Callable, starts: np.ndarray, lanes: int, iterations: int
) -> Solution:
    """Keep all lanes busy until every start has ended: the converged leave, the waiting enter."""
    S, P = starts.shape
    ended = Solution(
        np.zeros((S, P)), np.zeros(S), np.zeros(S, int), np.zeros(S, int), np.zeros((S, P)), *np.zeros((2, S, P, P))
    )
    index, occupied, waiting = np.minimum(np.arange(lanes), S - 1), np.arange(lanes) < S, min(lanes, S)
    data = load(index)
    state = enter(index, occupied)
    while occupied.any():
        state = _State(*map(np.asarray, advance(state, data, 4, iterations)))
        out = occupied & (state.status != RUNNING)
        for kept, values in zip(ended, (*state[:1], state.value, state.status, state.iterations, *state[2:5])):
            kept[index[out]] = values[out]
        occupied = occupied & ~out
        vacant = np.flatnonzero(~occupied)
        if waiting < S and len(vacant) >= min(lanes // 8, S - waiting):
            entering = vacant[: S - waiting]
            index[entering] = waiting + np.arange(len(entering))
            waiting += len(entering)
            occupied[entering] = True
            data = load(index)
            new = np.isin(np.arange(lanes), entering)
            fresh = enter(index, occupied)
            state = _State(*(np.where(new.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(fresh, state)))
    return ended


def _look(advance: Callable, load: Callable, slope: float, ended: Solution, lanes: int) -> None:
    """Put the objective itself, and its derivatives, where a lane stopped on a smoother one."""
    stopped = np.flatnonzero(ended.status != CONVERGED)
    for begun in range(0, len(stopped), lanes):
        index = np.resize(stopped[begun : begun + lanes], lanes)
        state = _begin(ended.theta[index], np.full(lanes, slope), False, np.ones(lanes, bool))
        state = advance(state, load(index), 1, 2)
        ended.value[index] = np.asarray(state.value)
        for kept, values in zip(ended[4:], state[2:5]):
            kept[index] = np.asarray(values)


def common_data(problem: Problem, pad: np.ndarray, tolerance: float, sharp: float = SHARP) -> Data:
    """What all lanes of a problem share; `target`, `weights`, `free` and, in resamples, `prior_mean` are each lane's own."""
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
        low=low[None],
        high=high[None],
        positive=problem.positive[None],
        prior_mean=mean[None],
        prior_weight=weight[None],
        psi_low=np.float64(objective.low),
        psi_high=np.float64(objective.high),
        slope=np.float64(sharp if objective.has_corner else objective.slope),
        tolerance=np.float64(tolerance),
    )


class _Program:
    """What is compiled for a law, once a shape: the mean size of the residuals, and some steps of all lanes."""

    def __init__(self, law: type[Law], log: bool) -> None:
        model, predict, retract = lane_model(law, log)

        def spread(theta: Any, data: Data) -> Any:
            residual = jnp.abs(data.target - predict(theta, data))
            return jnp.sum(data.weights * residual, -1) / jnp.sum(data.weights, -1)

        def advance(state: _State, data: Data, steps: Any, budget: Any) -> _State:
            def more(carry: tuple[Any, _State]) -> Any:
                return (carry[0] < steps) & jnp.any(carry[1].status == RUNNING)

            def body(carry: tuple[Any, _State]) -> tuple[Any, _State]:
                return carry[0] + 1, _iterate(carry[1], data, model, retract, budget)

            return jax.lax.while_loop(more, body, (0, state))[1]

        self.spread, self.advance = (jax.jit(f, compiler_options=COMPILE) for f in (spread, advance))
        self._alone, self._known = Lock(), set()

    def compile(self, state: _State, data: Data, smooth: bool) -> None:
        """Compile for these shapes, unless that was done: two threads that meet a new shape would both compile it."""
        shape = (smooth, state.theta.shape, data.target.shape)
        with self._alone:
            if shape not in self._known:
                self.advance(state, data, 0, 0)
                if smooth:
                    self.spread(state.theta, data)
                self._known.add(shape)


_programs = lru_cache(maxsize=64)(_Program)
_ALONE = Lock()


def _program(law: type[Law], log: bool) -> _Program:
    """The one program of a law, whatever thread asks for it."""
    with _ALONE:
        return _programs(law, log)


def _begin(theta: np.ndarray, slope: np.ndarray, cautious: bool, occupied: np.ndarray) -> _State:
    """Lanes that have not been looked at yet: an infinite objective makes the first iteration look and not step."""
    L, P = theta.shape
    return _State(
        theta=theta,
        value=np.full(L, np.inf),
        gradient=np.zeros((L, P)),
        hessian=np.zeros((L, P, P)),
        majoriser=np.zeros((L, P, P)),
        damping=np.zeros(L),
        cautious=np.full(L, cautious),
        slope=slope,
        status=np.where(occupied, RUNNING, CONVERGED),
        iterations=np.zeros(L, int),
    )


def _iterate(state: _State, data: Data, model: Callable, retract: Callable, budget: Any) -> _State:
    """One step of every running lane: propose, look, accept or damp."""
    fresh = jnp.isinf(state.value)
    gradient = state.gradient @ data.ties
    hessian, majoriser = (
        jnp.einsum("pi,lpq,qj->lij", data.ties, matrix, data.ties) for matrix in (state.hessian, state.majoriser)
    )
    pressed = ((state.theta <= data.low) & (gradient > 0)) | ((state.theta >= data.high) & (gradient < 0))
    information = jnp.diagonal(majoriser, axis1=1, axis2=2)
    faint = information < FAINT * jnp.max(information, -1, keepdims=True)  # its term has vanished, and wants to
    pressed = pressed | (faint & (~data.positive | (gradient > 0)))
    step, promise, newton = _step(gradient, hessian, majoriser, data.free & ~pressed, state.damping, state.cautious)
    rounding = 0.5 * jnp.minimum(state.slope, 2.0) * RESOLUTION**2 * jnp.sum(data.weights, -1)
    scale = jnp.where(fresh, 0.0, jnp.abs(state.value)) + rounding
    sharp = state.slope >= data.slope
    enough = jnp.where(sharp, data.tolerance**2, SMOOTH_ENOUGH) * scale
    done = (promise <= enough) & (newton | ~sharp) & (state.damping <= 1e-2) & ~fresh
    sharpen = done & ~sharp
    slope = jnp.where(sharpen, jnp.minimum(data.slope, SHARPEN * state.slope), state.slope)

    step = jnp.where((sharpen | fresh)[:, None], 0.0, step @ data.ties.T)
    trial = jnp.clip(retract(state.theta, step, data, ~(sharp | sharpen)), data.low, data.high)
    trial = jnp.where(data.free @ data.ties.T > 0, trial, state.theta)
    value, *picture = with_prior(trial, data, *model(trial, slope, data))
    better = jnp.isfinite(value) & (value <= state.value + 1e-14 * scale)
    gain = (state.value - value) / jnp.maximum(promise, 1e-300)
    running = state.status == RUNNING
    accept = (sharpen | (better & ~done)) & running

    damping = jnp.where(
        better, jnp.where(gain > 0.7, state.damping / SHRINK, state.damping), jnp.maximum(GROW * state.damping, FIRST)
    )
    damping = jnp.where(sharpen | fresh | (damping < 1e-7), 0.0, damping)
    cautious = jnp.where(newton, ~better, ~better | (promise > 1e-2 * scale))
    cautious = jnp.where(fresh, state.cautious, cautious & ~sharpen)
    iterations = state.iterations + running
    status = jnp.where(iterations >= budget, EXHAUSTED, RUNNING)
    status = jnp.where((damping > 1e12) | (fresh & ~better), STALLED, status)
    status = jnp.where(done & sharp, CONVERGED, status)

    # A smoothed stage that no longer gains (its terms are held up) is over too; then look again before stepping on.
    idle = better & (state.value - value <= enough) | (damping > 1e3)
    idle = idle & ~sharp & ~sharpen & ~fresh & running
    slope = jnp.where(idle, jnp.minimum(data.slope, SHARPEN * slope), slope)
    damping = jnp.where(idle, 0.0, damping)

    def pick(which: Any, new: Any, old: Any) -> Any:
        return jnp.where(which.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    local = [pick(accept, new, old) for new, old in zip((trial, value, *picture), state[:5])]
    local[1] = jnp.where(idle, jnp.inf, local[1])
    rest = [pick(running, new, old) for new, old in zip((damping, cautious, slope, status), state[5:9])]
    return _State(*local, *rest[:3], rest[3].astype(int), iterations)


def _step(gradient: Any, hessian: Any, majoriser: Any, free: Any, damping: Any, cautious: Any) -> tuple[Any, Any, Any]:
    """The step [L, P], what it promises [L], and whether it is Newton's: (H + damping M) where that is positive
    definite, and (1 + damping) M, the re-weighted least squares step, where it is not."""
    diagonal = jnp.diagonal(majoriser, axis1=1, axis2=2)
    size = jnp.sqrt(jnp.maximum(diagonal, FAINT * jnp.max(diagonal, -1, keepdims=True) + 1e-300))
    inverse = jnp.where(free, 1 / size, 0.0)
    outer = inverse[:, :, None] * inverse[:, None, :]
    H, M, g = hessian * outer, majoriser * outer, gradient * inverse
    fixed = jnp.where(free, 0.0, 1.0)[:, :, None] * jnp.eye(H.shape[-1])[None]

    faint = jnp.maximum(0.0, 1.0 - jnp.diagonal(M, axis1=1, axis2=2))  # 0 but where a term has all but vanished
    ridge = (faint + 1e-13)[:, :, None] * jnp.eye(H.shape[-1])[None]
    damped = damping[:, None, None] * M + ridge + fixed
    both, definite = _solve_definite(jnp.concatenate([H + damped, M + damped]), jnp.concatenate([-g, -g]))
    (newton, majorised), definite = jnp.split(both, 2), definite[: len(g)]
    definite = definite & ~cautious
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
