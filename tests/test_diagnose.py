"""Warnings fire where they should and stay quiet where they should not."""

from dataclasses import replace

import numpy as np
import pytest
from test_recovery import table

from scaling.fitting import diagnose, uncertainty
from scaling.fitting.fit import FitError, fit, pose
from scaling.fitting.laws import Chinchilla
from scaling.fitting.objective import LogSquared
from scaling.fitting.solve import Basin, solve
from scaling.fitting.uncertainty import Noise

TRUE = Chinchilla(1.7, 400.0, 600.0, 0.34, 0.3)


@pytest.fixture(scope="module")
def sound():
    runs = table(TRUE, 80, noise=0.003)
    problem = pose(runs)
    return runs, problem, *solve(problem, 64)


def test_a_sound_design_is_not_warned_of(sound):
    runs, problem, _, value, proof = sound
    assert diagnose.check(runs, problem) == []
    assert list(diagnose.review(proof, value, TRUE, Noise(0.003, None, 0, None))) == []


def test_review_names_each_fault(sound):
    *_, value, proof = sound
    basins = (Basin(value, TRUE.params, 50), Basin(1.01 * value, TRUE.params, 9))
    worse = replace(proof, converged=False, bounds_hit=("E",), condition_number=1e6, basins=basins)
    names = [warned.name for warned in diagnose.review(worse, value, TRUE, Noise(0.003, 0.001, 9, 1e-4))]
    assert names == ["not-converged", "near-tie", "bound-hit", "ill-conditioned", "lack-of-fit"]
    few = replace(proof, global_evidence=False, basins=proof.basins[:1])
    assert [w.name for w in diagnose.review(few, value, TRUE, Noise(0.003, None, 0, None))] == ["few-agree"]


def test_extrapolation_is_loud_after_two_decades():
    known = np.array([1e18, 1e21])
    assert list(diagnose.extrapolation("C = 1e+22", 1e22, known)) == []
    (far,) = diagnose.extrapolation("C = 1e+24", 1e24, known)
    assert far.number == pytest.approx(3.0)


def test_worst_runs_are_a_fiftieth():
    residual = np.zeros(245)
    residual[[3, 7]] = [0.5, -0.9]
    worst = diagnose.worst_runs(residual)
    assert worst.sum() == 5
    assert worst[[3, 7]].all()


def test_five_runs_move_beta(shared_data):
    """FITTING.md: of all 245 runs, the five highest losses move beta by .09; the fit says so by itself."""
    from scaling.runs import Runs

    found = fit(Runs.read(shared_data / "chinchilla_epoch.csv"), resamples=300, starts=64)
    (warned,) = [warned for warned in found.warnings if warned.name == "influential-runs"]
    assert found.params["beta"] - found.worst["params"]["beta"] == pytest.approx(0.08, abs=0.015)
    assert "beta" in warned.message
    (drifts,) = [warned for warned in found.warnings if warned.name == "window-drift"]
    assert abs(drifts.number) > 3


@pytest.mark.parametrize(("size", "coefficient"), [("N", "alpha"), ("D", "beta")])
def test_one_size_says_nothing_of_its_exponent(size, coefficient):
    runs = table(TRUE, 30)
    frame = runs.table.assign(**{size: 1e8})
    with pytest.raises(FitError, match=f"{size} is 1e.08 in all 30 runs.*{coefficient}"):
        fit(replace(runs, table=frame.assign(C=6 * frame.N * frame.D)), resamples=0)


def test_a_vanished_term_is_a_bound_hit():
    """Losses that grow past any floor: E has nothing to do and is said to be at its bound."""
    runs = table(Chinchilla(1e-12, 40.0, 60.0, 0.1, 0.1), 60, noise=0.02, seed=0)
    found = fit(runs, resamples=0, starts=64)
    assert found.certificate.bounds_hit == ("E",)
    assert found.certificate.converged
    assert not found.verified
    assert "bound-hit" in {warned.name for warned in found.warnings}


def test_windows_of_a_law_that_holds_are_not_warned_of_more_often_than_said():
    """12 planted laws, five to seven windows each: 14 of 100 such laws were warned of; six of 12 happen once in 300."""
    alarms = 0
    for seed in range(12):
        runs = table(TRUE, 48, seed=seed, noise=0.01)
        posed = pose(runs, objective=LogSquared())
        theta, *_ = solve(posed, 8)
        found = uncertainty.windows(posed, theta, runs.C)
        found = uncertainty.shifts(posed, theta, found, uncertainty.resample(np.arange(48), 60, seed))
        assert all((window.a_shift_se is not None) == (window.n >= 16) for window in found)
        alarms += len(list(diagnose.drift(Chinchilla(*posed.to_natural(theta)), found, 0.9)))
    assert alarms < 6


def rival(law: str, fitted: bool, N: float, behind: float, told_apart: bool) -> dict:
    return {"law": law, "fitted": fitted, "rolling_error": 0.01 + behind, "behind": behind, "behind_se": 1e-3,
            "told_apart": told_apart, "answers": [{"C": 1e22, "N": N}]}  # fmt: skip


def test_rivals_that_predict_better_or_answer_otherwise_are_named():
    answers = [{"C": 1e22, "N": 1e9, "intervals": {"N": [8e8, 1.2e9]}}]
    quiet = [rival("chinchilla", True, 1e9, 0.0, False), rival("coupled", False, 1.1e9, 1e-4, False)]
    assert list(diagnose.others(quiet, answers)) == []
    far = [rival("coupled", False, 3e9, 0.0, False), rival("chinchilla", True, 1e9, 3e-3, True)]
    better, answer = diagnose.others(far, answers)
    assert (better.name, better.number) == ("better-rival", pytest.approx(3.0))
    assert (answer.name, answer.number) == ("rival-answer", pytest.approx(3.0))
    worse = [rival("chinchilla", True, 1e9, 0.0, False), rival("kaplan", False, 9e9, 5e-3, True)]
    assert list(diagnose.others(worse, answers)) == []
