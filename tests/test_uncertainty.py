"""The bootstrap draws what it is told, profiles are parabolas where they should be, windows drop the small budgets."""

import numpy as np
import pytest
from test_recovery import table

from scaling.fitting import uncertainty
from scaling.fitting.fit import pose
from scaling.fitting.laws import Chinchilla
from scaling.fitting.objective import LogHuber, LogSquared
from scaling.fitting.solve import solve

TRUE = Chinchilla(1.7, 400.0, 600.0, 0.34, 0.3)


def test_groups_come_and_go_together():
    counts = uncertainty.resample(np.array(["a", "a", "b", "c", "c", "c"]), 500, seed=0)
    assert counts.shape == (500, 6)
    assert np.array_equal(counts[:, 0], counts[:, 1])
    assert np.array_equal(counts[:, 3], counts[:, 5])
    assert np.all(counts[:, [0, 2, 3]].sum(-1) == 3)
    assert np.array_equal(counts, uncertainty.resample(np.array(["a", "a", "b", "c", "c", "c"]), 500, seed=0))


@pytest.fixture(scope="module")
def posed():
    runs = table(TRUE, 60, noise=0.01)
    problem = pose(runs, objective=LogSquared())
    return runs, problem, solve(problem, 32)[0]


def test_dispersion_of_least_squares_is_twice_the_variance(posed):
    """F = sum r^2 = 2 sigma^2 times minus log likelihood."""
    _, problem, theta = posed
    assert uncertainty.dispersion(problem, theta) == pytest.approx(2 * 0.01**2, rel=0.4)


def test_profile_touches_the_optimum_and_rises_from_it(posed):
    _, problem, theta = posed
    held = uncertainty.profile(problem, theta, "alpha", 0.01, level=0.9, points=21)
    middle = len(held.values) // 2
    assert np.argmin(held.objective) == middle
    assert np.all(np.diff(held.objective[middle:]) > 0)
    assert held.interval[0] < theta[3] < held.interval[1]


def test_profile_interval_is_the_bootstraps_width(posed):
    """Gaussian noise and least squares: the two agree to a third."""
    _, problem, theta = posed
    draws = uncertainty.refit(problem, theta, uncertainty.resample(np.arange(60), 400))
    held = uncertainty.profile(problem, theta, "alpha", float(draws[:, 3].std()), level=0.9)
    width = np.diff(uncertainty.interval(draws[:, 3], 0.9))[0]
    assert np.diff(held.interval)[0] == pytest.approx(width, rel=0.35)


def test_windows_drop_the_smallest_budgets(posed):
    runs, problem, theta = posed
    found = uncertainty.windows(problem, theta, runs.C)
    sizes = [window.n for window in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= 10
    assert uncertainty.budget_edges(np.array([1e18, 1.01e18, 1e19, 1e20, 1.02e20])).tolist() == [1e18, 1e19, 1e20]


def test_noise_without_repeats_has_no_seed_part(posed):
    runs, problem, theta = posed
    scatter = uncertainty.noise(problem, theta, runs.N, runs.D)
    assert scatter.residual == pytest.approx(0.01, rel=0.4)
    assert (scatter.seed, scatter.repeats, scatter.lack_of_fit) == (None, 0, None)


def test_dispersion_under_a_small_delta_is_finite():
    runs = table(TRUE, 60, noise=0.01)
    problem = pose(runs, objective=LogHuber(1e-6))
    theta = solve(problem, 32)[0]
    assert 0 < uncertainty.dispersion(problem, theta) < 1
