"""Value, gradient, Hessian and majoriser of the objective, for a batch of lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.fitting.laws import Law

#: Longest step in the logarithm of a positive coefficient, or of a term.
LONGEST_STEP = 4.0
#: Most that a step may change the logarithm of a term at the edge of the runs against their middle.
STEEPEST_TILT = 0.5
#: Least share of the law that a term keeps while the objective is a smoothed one.
FAINTEST = 1e-3


class Data(NamedTuple):
    columns: Any
    target: Any
    weights: Any
    free: Any
    ties: Any
    low: Any
    high: Any
    positive: Any
    prior_mean: Any
    prior_weight: Any
    psi_low: Any
    psi_high: Any
    slope: Any
    tolerance: Any


def _psi(residual: Any, slope: Any, data: Data) -> tuple[Any, Any, Any, Any]:
    """(rho, psi, psi', psi / r), each [L, R]."""
    slope = slope[:, None]
    linear = slope * residual
    psi = jnp.clip(linear, data.psi_low, data.psi_high)
    rho = psi * residual - psi**2 / (2 * slope)
    size = jnp.abs(residual)
    return (
        rho,
        psi,
        jnp.where(psi == linear, slope, 0.0),
        jnp.where(psi == linear, slope, jnp.abs(psi) / jnp.maximum(size, 1e-300)),
    )


def lane_model(law: type[Law], log: bool) -> tuple[Callable, Callable, Callable]:
    """(moments, predict, retract) of a batch of lanes.

    `moments` gives value [L], gradient [L, P], Hessian and majoriser [L, P, P]; `predict` m [L, R]; `retract` the
    point [L, P] to which a step leads. The Hessian is that of the objective along retracted steps, which at an
    optimum is the Hessian.
    """
    return _power_law_model(law, log) if is_power_law(law) else _any_model(law, log)


def is_power_law(law: type[Law]) -> bool:
    """True where the law gives its terms, so that its derivatives are by hand."""
    return bool(_probe(law))


def _probe(law: type[Law]) -> list[dict[str, Any]]:
    """The law's terms at one made-up run, to see which coefficients are in which."""
    return law.log_terms(**{column: np.full(1, 0.5) for column in law.columns}) or []


def _power_law_model(law: type[Law], log: bool) -> tuple[Callable, Callable, Callable]:
    """Moments of a sum of power laws, by hand.

    With m = log sum_k exp(eta_k), eta linear in theta and p_k the share of term k, the first derivative is
    J = sum_k p_k eta_k' and the second sum_k p_k eta_k' eta_k'^T - J J^T. The eta_k' depend on the runs only, so all
    sums over runs are products of [L, R] with a few columns of theirs, put where they belong by constant matrices.
    """
    names = law.names()
    kinds = [tuple(term) for term in _probe(law)]
    pairs = [(k, j) for k in range(len(kinds)) for j in range(k, len(kinds))]
    across = [(kinds[k], None if k == j else kinds[j]) for k, j in pairs]
    units = _probe(law)
    amplitude = np.array([amplitude_of(term, names) for term in units])
    to_gradient = _gradient_spots(kinds, names)
    to_bent = _hessian_spots([(kind, None) for kind in kinds], names)
    to_outer = _hessian_spots(across, names)

    def expand(theta: Any, data: Data) -> tuple[list[dict[str, Any]], list[Any]]:
        ones = jnp.ones(data.target.shape[1])
        terms = [{name: factor * ones for name, factor in t.items()} for t in law.log_terms(**data.columns) or []]
        etas = [sum(theta[:, names.index(n), None] * factor[None, :] for n, factor in t.items()) for t in terms]
        return terms, [jnp.exp(eta) for eta in etas]

    def predict(theta: Any, data: Data) -> Any:
        total = sum(expand(theta, data)[1])
        return jnp.log(total) if log else total

    def model(theta: Any, slope: Any, data: Data) -> tuple[Any, ...]:
        lanes = len(theta)
        terms, shares = expand(theta, data)
        total = sum(shares)
        if log:
            shares = [share / total for share in shares]
            total = jnp.log(total)
        residual = data.target - total
        rho, psi, bend, ratio = _psi(residual, slope, data)
        pull = data.weights * psi

        def outer(weight: Any) -> Any:
            """sum_r weight J J^T, [L, P, P]."""
            parts = [
                (weight * shares[k] * shares[j])
                @ jnp.stack([terms[k][a] * terms[j][b] for a, b in _products(*both)], -1)
                for (k, j), both in zip(pairs, across)
            ]
            return (jnp.concatenate(parts, -1) @ to_outer).reshape(lanes, len(names), len(names))

        first = [(pull * s) @ jnp.stack([t[a] for a in t], -1) for s, t in zip(shares, terms)]
        second = [
            (pull * s) @ jnp.stack([t[a] * t[b] for a, b in _products(kind)], -1)
            for s, t, kind in zip(shares, terms, kinds)
        ]
        bent = (jnp.concatenate(second, -1) @ to_bent).reshape(lanes, len(names), len(names))
        slant = jnp.stack([jnp.sum(pull * s, -1) for s in shares], -1) * (1 - weight_of_terms(theta, data))
        slant = jnp.einsum("lk,kp,kq->lpq", slant, middle(data), middle(data))
        hessian = outer(data.weights * bend + (pull if log else 0.0)) - bent + slant
        majoriser = outer(data.weights * ratio)
        gradient = -jnp.concatenate(first, -1) @ to_gradient
        return jnp.sum(data.weights * rho, -1), gradient, hessian, majoriser

    def middle(data: Data) -> Any:
        """[K, P]: the change of each term's logarithm, in the middle of the runs, by each coefficient."""
        terms = law.log_terms(**data.columns) or []
        rows = [[jnp.mean(jnp.asarray(t[name])) if name in t else jnp.zeros(()) for name in names] for t in terms]
        return jnp.stack([jnp.stack(row) for row in rows])

    def halfwidth(data: Data) -> Any:
        """[K, P]: as `middle`, the change between the middle and the edge of the runs."""
        terms = law.log_terms(**data.columns) or []
        rows = [[jnp.ptp(jnp.asarray(t[name])) / 2 if name in t else jnp.zeros(()) for name in names] for t in terms]
        return jnp.stack([jnp.stack(row) for row in rows])

    def weight_of_terms(theta: Any, data: Data) -> Any:
        """[L, K]: each term's share of the law in the middle of the runs; nought where the residual is linear in it."""
        return jax.nn.softmax(theta @ middle(data).T, -1) if log else jnp.zeros(())

    def retract(theta: Any, step: Any, data: Data, smooth: Any) -> Any:
        """The step, with terms growing so that the residual in the middle of the runs, not the logarithm, is linear.

        A term of share p grows by the factor 1 + (e^(p s) - 1) / p: as e^s where it is all of the law, as 1 + s
        where it is a small part of it. On a smoothed objective no term falls under FAINTEST of the law: a term that
        vanishes early, because its exponent is still wrong, would not come back.
        """
        tilt = jnp.max(jnp.abs(step) @ halfwidth(data).T, -1, keepdims=True)
        step = step * jnp.minimum(1.0, STEEPEST_TILT / jnp.maximum(tilt, 1e-300))
        change, size = step @ middle(data).T, theta @ middle(data).T
        share = weight_of_terms(theta, data) + 1e-9
        up = jnp.clip(change, 0.0, LONGEST_STEP)
        short = jnp.where(change > 0, jnp.log1p(jnp.expm1(share * up) / share), jnp.maximum(change, -LONGEST_STEP))
        least = jax.nn.logsumexp(size, -1, keepdims=True) + jnp.log(FAINTEST) - size
        short = jnp.where(smooth[:, None], jnp.maximum(short, least), short)
        return theta + step + (short - change) @ amplitude

    return model, predict, retract


def amplitude_of(term: dict[str, Any], names: tuple[str, ...]) -> list[float]:
    """[P]: 1 at the coefficient that multiplies the whole term, the first whose factor is the number 1."""
    which = next((name for name, factor in term.items() if np.ndim(factor) == 0 and factor == 1.0), None)
    return [float(name == which) for name in names]


def _products(kind: tuple[str, ...], other: tuple[str, ...] | None = None) -> list[tuple[str, str]]:
    """The products of two coefficients' factors: within one term (each once), or across two."""
    if other is None:
        return [(a, b) for i, a in enumerate(kind) for b in kind[i:]]
    return [(a, b) for a in kind for b in other]


def _gradient_spots(kinds: list[tuple[str, ...]], names: tuple[str, ...]) -> np.ndarray:
    """[sums, P]: which coefficient's gradient each sum belongs to."""
    return np.array([[float(name == a) for name in names] for kind in kinds for a in kind])


def _hessian_spots(pairs: list[tuple[Any, Any]], names: tuple[str, ...]) -> np.ndarray:
    """[sums, P * P]: where each sum belongs in a symmetric matrix; pairs of a term with itself have None second."""
    rows = []
    for kind, other in pairs:
        for a, b in _products(kind, other):
            row = np.zeros((len(names), len(names)))
            row[names.index(a), names.index(b)] += 1.0
            if other is not None or a != b:
                row[names.index(b), names.index(a)] += 1.0
            rows.append(row.ravel())
    return np.array(rows)


def _any_model(law: type[Law], log: bool) -> tuple[Callable, Callable, Callable]:
    """Moments of any law, by automatic differentiation of its loss."""
    names = law.names()

    def predict(theta: Any, data: Data) -> Any:
        natural = [jnp.exp(theta[i]) if name in law.positive else theta[i] for i, name in enumerate(names)]
        loss = law(*natural).loss(**data.columns)
        return jnp.log(loss) if log else loss

    def lane(theta: Any, slope: Any, target: Any, weights: Any, data: Data) -> tuple[Any, ...]:
        shape = target.shape

        def total(theta: Any) -> Any:
            rho, *_ = _psi((target - predict(theta, data))[None], slope[None], data)
            return jnp.sum(weights * rho[0])

        m, J = jnp.broadcast_to(predict(theta, data), shape), jax.jacfwd(predict)(theta, data)
        J = jnp.broadcast_to(J, (*shape, len(names)))
        residual = target - m
        rho, psi, _, ratio = (value[0] for value in _psi(residual[None], slope[None], data))
        majoriser = ((weights * ratio)[None] * J.T) @ J
        return jnp.sum(weights * rho), -(weights * psi) @ J, jax.hessian(total)(theta), majoriser

    def model(theta: Any, slope: Any, data: Data) -> tuple[Any, ...]:
        return jax.vmap(lane, in_axes=(0, 0, 0, 0, None))(theta, slope, data.target, data.weights, data)

    def predict_lanes(theta: Any, data: Data) -> Any:
        return jnp.broadcast_to(jax.vmap(predict, in_axes=(0, None))(theta, data), data.target.shape)

    def retract(theta: Any, step: Any, data: Data, smooth: Any) -> Any:
        """The step, shortened as a whole where it would change a positive coefficient by orders of magnitude."""
        longest = jnp.max(jnp.where(data.positive, jnp.abs(step), 0.0), -1, keepdims=True)
        return theta + step * jnp.minimum(1.0, LONGEST_STEP / jnp.maximum(longest, 1e-300))

    return model, predict_lanes, retract


def with_prior(theta: Any, data: Data, value: Any, gradient: Any, hessian: Any, majoriser: Any) -> tuple:
    """The moments with the Gaussian priors on the coefficients in their own units added."""
    natural = jnp.where(data.positive, jnp.exp(jnp.where(data.positive, theta, 0.0)), theta)
    first = jnp.where(data.positive, natural, 1.0)
    off = natural - data.prior_mean
    pull = data.prior_weight * off
    eye = jnp.eye(theta.shape[-1])[None]
    firm = data.prior_weight * first**2
    return (
        value + 0.5 * jnp.sum(pull * off, -1),
        gradient + pull * first,
        hessian + (firm + jnp.where(data.positive, pull * natural, 0.0))[:, :, None] * eye,
        majoriser + firm[:, :, None] * eye,
    )
