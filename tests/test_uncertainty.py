"""The bootstrap draws what it is told, profiles are parabolas where they should be, windows drop the small budgets."""

import numpy as np
import pytest
from test_recovery import table

from scaling.fitting import uncertainty
from scaling.fitting.counting import Counting
from scaling.fitting.fit import fit, pose
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


def test_profile_of_a_coefficient_is_the_one_found_by_pinning_it(posed):
    """Two ways to one curve: the coefficient fixed, and any measure held by a constraint."""
    _, problem, theta = posed
    pinned = uncertainty.profile(problem, theta, "alpha", 0.01)
    held = uncertainty.profile_of(problem, theta, {"alpha": lambda law: law.alpha}, {"alpha": 0.01})["alpha"]
    assert held.interval == pytest.approx(pinned.interval, rel=1e-3)


def test_profiles_of_answers_hold_the_answers(posed):
    _, problem, theta = posed
    draws = uncertainty.refit(problem, theta, uncertainty.resample(np.arange(60), 200))
    found = uncertainty.profile_answers(problem, theta, draws, [1e22], [(1e9, 2e10)], 0.9, Counting())
    law = Chinchilla(*problem.to_natural(theta))
    (answer,), (planned,) = found["answers"], found["planned"]
    N, D = law.optimum(1e22)
    for (low, high), value in ((answer["N"], N), (answer["D"], D), (answer["loss"], law.loss(N, D))):
        assert low < value < high
    assert planned["loss"][0] < law.loss(1e9, 2e10) < planned["loss"][1]
    assert found["exponents"]["a"][0] < law.exponents[0] < found["exponents"]["a"][1]


def test_draws_are_spread_by_the_root_of_runs_over_freedom(posed):
    """60 runs and five coefficients: 60 / 55 in variance, about the fit."""
    _, problem, theta = posed
    draws = uncertainty.refit(problem, theta, uncertainty.resample(np.arange(60), 50))
    wide = uncertainty.widen(problem, theta, draws, 60)
    np.testing.assert_allclose(wide[:, 3] - theta[3], np.sqrt(60 / 55) * (draws[:, 3] - theta[3]), rtol=1e-9)


def test_a_priors_own_error_is_in_the_bootstrap():
    """Runs and prior as two measurements of alpha: the standard error is what their precisions add up to."""
    runs = table(TRUE, 60, noise=0.01)

    def error(**how) -> float:
        found = fit(runs, Chinchilla, LogSquared(), resamples=400, starts=32, **how)
        return found.intervals["standard_errors"]["alpha"]

    alone = error()
    for prior in (alone / 3, alone, 3 * alone):
        both = error(prior={"alpha": (TRUE.alpha, prior)})
        assert both == pytest.approx((alone**-2 + prior**-2) ** -0.5, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [LogSquared(), LogHuber(1e-3)], ids=["squared", "log-huber"])
def test_the_interval_covers(objective):
    """The smaller copy of benchmarks/fitting.py coverage: 120 planted laws, 90% interval of a; 84 to 99 of 100 is chance."""
    hits = []
    for seed in range(120):
        runs = table(TRUE, 48, seed=seed, noise=0.01)
        problem = pose(runs, objective=objective)
        theta = solve(problem, 16)[0]
        draws = uncertainty.refit(problem, theta, uncertainty.resample(np.arange(48), 200, seed))
        a = Chinchilla(*uncertainty.widen(problem, theta, draws, 48).T).exponents[0]
        low, high = uncertainty.interval(a, 0.9)
        hits.append(low <= TRUE.exponents[0] <= high)
    assert 0.84 <= np.mean(hits) <= 0.99
