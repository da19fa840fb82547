"""Each law: its terms agree with its loss, its optimum beats its neighbours, published numbers come out."""

import jax.numpy as jnp
import numpy as np
import pytest
from test_recovery import PLANTED, table

from scaling.fitting import laws
from scaling.fitting.laws import Chinchilla, Coupled, DataConstrained, Kaplan
from scaling.fitting.published import PUBLISHED
from scaling.fitting.solve import float64

WITH_OPTIMUM = [law for law in PLANTED if law.name not in ("kaplan-n", "kaplan-d", "envelope", "broken", "moe-clark")]


def inputs(law, runs=12):
    frame = table(law, runs).table
    return {name: frame[name].to_numpy() for name in law.columns}


@pytest.mark.parametrize("law", PLANTED, ids=lambda law: law.name)
def test_terms_add_up_to_the_loss(law):
    columns = inputs(law)
    terms = law.log_terms(**columns)
    if terms is None:
        pytest.skip(f"{law.name} is not a sum of power laws")
    fitted = {n: np.log(v) if n in law.positive else v for n, v in law.params.items()}
    total = sum(np.exp(sum(fitted[name] * factor for name, factor in term.items())) for term in terms)
    np.testing.assert_allclose(total, law.loss(**columns), rtol=1e-12)


@pytest.mark.parametrize("law", PLANTED, ids=lambda law: law.name)
def test_loss_traces_and_file_keeps_every_bit(law):
    columns = inputs(law)
    with float64():
        traced = law.loss(**{name: jnp.asarray(value) for name, value in columns.items()})
        np.testing.assert_allclose(np.asarray(traced), law.loss(**columns), rtol=1e-12)
    assert laws.from_json(law.to_json()) == law


@pytest.mark.parametrize("law", WITH_OPTIMUM, ids=lambda law: law.name)
def test_optimum_beats_its_neighbours(law):
    C = np.array([1e19, 1e21, 1e24])
    N, D = law.optimum(C)
    np.testing.assert_allclose(6 * N * D, C, rtol=1e-9)
    best = law.loss(N, D)
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert np.all(law.loss(N * factor, D / factor) >= best * (1 - 1e-15))


@pytest.mark.parametrize("law", [law for law in PLANTED if law not in WITH_OPTIMUM], ids=lambda law: law.name)
def test_a_law_without_a_best_size_says_so(law):
    with pytest.raises(ValueError, match=r"best N|with which N"):
        law.optimum(1e21)


def test_search_agrees_with_the_closed_form():
    law = Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28)
    C = np.array([1e18, 1e22])
    searched = laws.Law.optimum(law, C)
    np.testing.assert_allclose(searched[0], law.optimum(C)[0], rtol=1e-6)


def test_data_constrained_published_value():
    """Muennighoff et al. 2023, L(6.34e9, 242e9, U 25e9), as FITTING.md quotes it."""
    law = DataConstrained(
        np.exp(0.6254804), np.exp(6.255414), np.exp(7.3049974), 0.3526596, 0.3526596, 15.387756, 5.309743
    )
    assert law.loss(6.34e9, 242e9, 25e9) == pytest.approx(2.2256441, abs=1e-6)
    assert law.loss(1e8, 1e10) == pytest.approx(Chinchilla(law.E, law.A, law.B, law.alpha, law.beta).loss(1e8, 1e10))


def test_coupled_with_k_one_is_chinchilla():
    args = (1.7, 400.0, 500.0, 0.34, 0.3)
    assert Coupled(*args, 1.0).loss(1e9, 1e10) == pytest.approx(Chinchilla(*args).loss(1e9, 1e10), rel=1e-14)


def test_kaplan_limits():
    """Kaplan et al. 2020: with endless data only (Nc / N)^aN is left."""
    law = Kaplan(6.4e13, 1.8e13, 0.076, 0.103)
    assert law.loss(1e9, 1e30) == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-6)


def test_clark_with_one_expert_is_its_own_dense_law():
    """Clark et al. 2022: (3.568e13 / N)^.078 without experts. To 2%, their rounding; it says the base."""
    N = np.array([1e8, 1e9])
    np.testing.assert_allclose(PUBLISHED["clark-s-base"].law.loss(N, X=1.847), (3.568e13 / N) ** 0.078, rtol=2e-2)


def test_unknown_law_names_the_known():
    with pytest.raises(ValueError, match="chinchilla"):
        laws.from_json({"law": "chinchila", "params": {}})
    with pytest.raises(ValueError, match="coefficients"):
        laws.from_json({"law": "chinchilla", "params": {"E": 1.0}})
