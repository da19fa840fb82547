"""Value, gradient, Hessian and majoriser of the objective, for a batch of lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.fitting.laws import Law


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


def power_law_model(law: type[Law], log: bool) -> Callable:
    """Moments of a sum of power laws, by hand: with m = log sum_k exp(eta_k) and eta linear in theta,
    J = sum_k p_k eta_k' and the second derivative of m is sum_k p_k eta_k' eta_k'^T - J J^T."""
    names = law.names()
    spots = _spots(law)

    def features(terms: list[dict[str, Any]], data: Data) -> list[Any]:
        ones = jnp.ones(data.target.shape[1])
        return [jnp.stack([term[p] * term[q] * ones for p, q in _pairs(term)], -1) for term in terms]

    def model(theta: Any, slope: Any, data: Data) -> tuple[Any, ...]:
        terms = [{n: jnp.asarray(f) for n, f in term.items()} for term in law.log_terms(**data.columns) or []]

        def row(factor: Any) -> Any:
            return factor if factor.ndim == 0 else factor[None, :]

        etas = [sum(theta[:, names.index(n), None] * row(f) for n, f in term.items()) for term in terms]
        shape = data.target.shape
        shares = [jnp.exp(jnp.broadcast_to(eta, shape)) for eta in etas]
        total = sum(shares)
        if log:
            inverse = 1 / total
            shares = [share * inverse for share in shares]
            total = jnp.log(total)
        residual = data.target - total
        rho, psi, bend, ratio = _psi(residual, slope, data)
        w_psi = data.weights * psi
        A = data.weights * bend + (w_psi if log else 0.0)
        J = [
            sum((shares[k] * row(term[name]) for k, term in enumerate(terms) if name in term), jnp.zeros(shape))
            for name in names
        ]
        J_LRP = jnp.stack(J, -1)
        hessian = jnp.einsum("lrp,lrq->lpq", A[..., None] * J_LRP, J_LRP)
        majoriser = jnp.einsum("lrp,lrq->lpq", (data.weights * ratio)[..., None] * J_LRP, J_LRP)
        gradient = -jnp.einsum("lr,lrp->lp", w_psi, J_LRP)
        bent = [(w_psi * share) @ feature for share, feature in zip(shares, features(terms, data))]
        hessian = hessian - (jnp.concatenate(bent, -1) @ spots).reshape(hessian.shape)
        count = jnp.sum(data.weights, -1)
        spread = jnp.sum(data.weights * jnp.abs(residual), -1) / count
        return jnp.sum(data.weights * rho, -1), gradient, hessian, majoriser, spread

    return model


def _pairs(term: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(p, q) for i, p in enumerate(term) for q in list(term)[i:]]


def _spots(law: type[Law]) -> np.ndarray:
    """[pairs, P * P]: where each product of two coefficients of a term goes in the Hessian, and in its mirror."""
    names, rows = law.names(), []
    for term in law.log_terms(**{column: np.ones(1) for column in law.columns}) or []:
        for p, q in _pairs(term):
            row = np.zeros((len(names), len(names)))
            row[names.index(p), names.index(q)] = row[names.index(q), names.index(p)] = 1.0
            rows.append(row.ravel())
    return np.array(rows)


def any_model(law: type[Law], log: bool) -> Callable:
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
        majoriser = (weights * ratio * J.T) @ J
        spread = jnp.sum(weights * jnp.abs(residual)) / jnp.sum(weights)
        return jnp.sum(weights * rho), -(weights * psi) @ J, jax.hessian(total)(theta), majoriser, spread

    def model(theta: Any, slope: Any, data: Data) -> tuple[Any, ...]:
        return jax.vmap(lane, in_axes=(0, 0, 0, 0, None))(theta, slope, data.target, data.weights, data)

    return model


def with_prior(theta: Any, data: Data, value: Any, gradient: Any, hessian: Any, majoriser: Any, _: Any) -> tuple:
    """The moments with the Gaussian priors on the coefficients in their own units added."""
    natural = jnp.where(data.positive, jnp.exp(jnp.where(data.positive, theta, 0.0)), theta)
    first = jnp.where(data.positive, natural, 1.0)
    off = natural - data.prior_mean
    pull = data.prior_weight * off
    eye = jnp.eye(theta.shape[-1])
    firm = data.prior_weight * first**2
    return (
        value + 0.5 * jnp.sum(pull * off, -1),
        gradient + pull * first,
        hessian + (firm + jnp.where(data.positive, pull * natural, 0.0))[:, :, None] * eye,
        majoriser + firm[:, :, None] * eye,
    )
