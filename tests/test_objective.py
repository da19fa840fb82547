"""The five objectives: values against their definitions, and the one shape they share."""

import numpy as np
import pytest

from scaling.fitting import objective
from scaling.fitting.objective import OBJECTIVES, Absolute, Asymmetric, Huber, LogHuber, LogSquared, Squared

R = np.linspace(-3e-2, 3e-2, 61)


def test_values_are_their_definitions():
    quad = np.abs(R) < 1e-3
    huber = np.where(quad, R**2 / 2, 1e-3 * (np.abs(R) - 5e-4))
    np.testing.assert_allclose(LogHuber(1e-3).rho(R), huber, atol=1e-18)
    np.testing.assert_allclose(Squared().rho(R), R**2)
    np.testing.assert_allclose(Absolute().rho(R), np.abs(R))
    np.testing.assert_allclose(Asymmetric(weight=10).rho(R), np.where(R < 0, -10 * R, R))


def test_asymmetric_punishes_a_law_above_the_run():
    kind = Asymmetric()
    assert kind.value(np.array([2.0]), np.array([2.1])) == pytest.approx(
        10 * kind.value(np.array([2.1]), np.array([2.0]))
    )


@pytest.mark.parametrize("kind", [k() for k in OBJECTIVES.values()], ids=lambda k: k.name)
def test_psi_is_the_slope_of_rho(kind):
    psi = np.where(R > 0, kind.high, kind.low) if kind.has_corner else np.clip(kind.slope * R, kind.low, kind.high)
    step, away = 1e-7, np.abs(R) > 1e-5
    slope = (kind.rho(R + step) - kind.rho(R - step)) / (2 * step)
    np.testing.assert_allclose(slope[away], psi[away], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "kind", [LogHuber(2e-3, reduction="mean"), Huber(0.05), Squared(), LogSquared(), Absolute(), Asymmetric(3.0)]
)
def test_file_keeps_it(kind):
    assert objective.from_json({**kind.to_json(), "value": 1.0, "n": 3}) == kind
    assert kind.name in kind.describe
    assert kind.reduction in kind.describe


def test_mean_is_the_sum_over_the_weights():
    L, f, w = np.array([2.0, 3.0]), np.array([2.1, 2.9]), np.array([1.0, 3.0])
    assert LogHuber(reduction="mean").value(L, f, w) == pytest.approx(LogHuber().value(L, f, w) / 4)


@pytest.mark.parametrize(
    "bad", [lambda: LogHuber(0.0), lambda: LogHuber(float("nan")), lambda: Squared(reduction="max")]
)
def test_bad_limits_are_refused(bad):
    with pytest.raises(ValueError, match=r"delta|reduction"):
        bad()
