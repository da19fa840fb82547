"""Designs: gradients against differences, the algorithm against brute force, and better than an even grid."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scaling.cli import main
from scaling.fitting.laws import Chinchilla
from scaling.grid import Grid
from scaling.planning.allocate import Currency
from scaling.planning.design import BYTES, Target, check, design, even_grid
from scaling.planning.design.at_hand import AtHand
from scaling.planning.design.information import implied_noise, jacobian, standard_errors
from scaling.planning.design.optimal import Objective, shares, whole_runs

EXACT = Currency("exact", "N", 256, 64)
TARGET = Target("N", 1e14, EXACT)


def columns(cells):
    return np.array([cell.N for cell in cells]), np.array([cell.D for cell in cells])


def test_bytes_prior_is_what_was_measured():
    # Bytes of Python, default recipe: best near 61k at 1e12 FLOPs with loss 1.75, near 121k at 4e12 with 1.52.
    for C, N, loss in ((1e12, 61e3, 1.75), (4e12, 121e3, 1.52)):
        assert np.exp(Target("N", C, EXACT).value(BYTES)) == pytest.approx(N, rel=0.05)
        assert np.exp(Target("loss", C, EXACT).value(BYTES)) == pytest.approx(loss, rel=0.01)


def test_gradients_against_the_closed_form():
    """Under 6ND, d log N*/d log A = 1/(alpha+beta) and d log N*/d log B = -1/(alpha+beta)."""
    gradient = Target("N", 1e20, Currency()).gradients([BYTES])[0]
    np.testing.assert_allclose(gradient[:3], [0, 1 / 0.7, -1 / 0.7], atol=1e-6)
    N, D = np.array([1e4, 1e6]), np.array([1e7, 1e6])
    terms = np.stack([np.full(2, BYTES.E), BYTES.A * N**-0.35, BYTES.B * D**-0.35], -1)
    np.testing.assert_allclose(jacobian(BYTES, N, D)[:, :3], terms / terms.sum(-1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("kind", ["N", "ratio", "loss"])
def test_expected_error_is_that_of_refits(kind):
    """The standard error that is promised, against least-squares refits to 300 noisy copies of an even grid."""
    from scipy.optimize import least_squares

    N, D = columns(even_grid(BYTES, EXACT, 1e12))
    target = Target(kind, 1e13, EXACT)
    promised = standard_errors([BYTES], target, N, D, 0.002)[0]
    rng = np.random.default_rng(0)
    start = np.log([BYTES.params[name] for name in BYTES.names()])
    values = []
    for _ in range(300):
        observed = np.log(BYTES.loss(N, D)) + 0.002 * rng.normal(size=len(N))
        found = least_squares(lambda t, y=observed: np.log(Chinchilla(*np.exp(t)).loss(N, D)) - y, start, method="lm")
        values.append(np.exp(found.x))
    spread = np.std(target.value(Chinchilla(*np.array(values).T)))
    # 300 copies know a standard deviation to 4%; linearisation takes the rest.
    assert promised == pytest.approx(spread, rel=0.15)


def objective(laws=(BYTES,)):
    cells = even_grid(BYTES, EXACT, 1e12)
    N, D = columns(cells)
    return Objective(list(laws), TARGET, N, D, (np.zeros(0), np.zeros(0))), np.array([cell.C for cell in cells])


def test_shares_satisfy_the_equivalence_theorem():
    """At a c-optimal design no cell's gain a FLOP exceeds the budget's inverse (Silvey 1980); Elfving's is its special case."""
    asked, cost = objective()
    share = shares(asked, cost, 1e13)
    _, gains = asked.gains(share / cost)
    assert share.sum() == pytest.approx(1e13)
    assert (gains / cost).max() * 1e13 == pytest.approx(1, abs=0.03)


def test_whole_runs_fit_the_budget_and_are_nearly_optimal():
    asked, cost = objective()
    runs = whole_runs(asked, cost, 1e13, 50)
    assert (runs * cost).sum() <= 1e13
    bound, _ = asked.gains(shares(asked, cost, 1e13) / cost)
    reached, _ = asked.gains(runs)
    assert reached <= bound + 0.15


def test_design_beats_an_even_grid_at_half_its_flops():
    """The benchmark holds this over 100 planted laws with refits; here by the expected error."""
    even = even_grid(BYTES, EXACT, 1e12)
    flops = sum(cell.C for cell in even)
    found = design(TARGET, flops=flops / 2, max_run=1e12)
    assert found.flops <= flops / 2
    assert found.expected.factor < check(*columns(even), TARGET).factor
    assert max(cell.C for cell, _ in found.cells) <= 1e12


def test_runs_at_hand_are_used():
    had = columns(even_grid(BYTES, EXACT, 1e12))
    fresh, more = design(TARGET, flops=3e12, max_run=1e12), design(TARGET, flops=3e12, max_run=1e12, had=had)
    assert more.before is not None
    assert more.expected.factor < more.before.factor
    assert more.expected.factor < fresh.expected.factor


def test_a_line_of_runs_cannot_answer():
    """All runs at D = 20 N: the terms cannot be told apart (FITTING.md: condition 1e6 and more)."""
    N = np.geomspace(1e4, 3e5, 12)
    line = check(N, 20 * N, TARGET)
    assert not line.answers
    assert line.condition > 1e5
    assert line.correlation == pytest.approx(1)
    spread = check(*columns(even_grid(BYTES, EXACT, 1e12)), TARGET)
    assert spread.answers
    assert spread.condition < 1e3


def test_too_few_runs():
    with pytest.raises(ValueError, match="cannot tell 5 coefficients apart"):
        check(np.array([1e4, 1e5]), np.array([1e6, 1e6]), TARGET)
    with pytest.raises(ValueError, match="different runs"):
        design(TARGET, flops=3e12, max_run=1e12, decades=0)


def test_command_writes_a_grid_that_sweep_takes(tmp_path, capsys):
    out = tmp_path / "next" / "grid.toml"
    argv = ["design", "--at", "1e14", "--flops", "4e12", "--max-run", "1e12", "-o", str(out), "--json"]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    grid = Grid.read(out)
    specs = grid.specs("digest")
    assert grid.name == "next"
    assert len(specs) == found["runs"]
    # Whole batches move a run's FLOPs by less than one batch in 500.
    assert sum(spec.C for spec in specs) == pytest.approx(found["flops"], rel=0.01)
    assert main(argv) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["design", "--check", str(out), "--at", "1e14"]) == 0
    assert "can answer" in capsys.readouterr().out


def test_command_prints(capsys):
    assert main(["design", "--at", "1e14", "--flops", "4e12", "--max-run", "1e12"]) == 0
    out = capsys.readouterr().out
    assert "even grid" in out
    assert "decades beyond" in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--check", "--at", "1e14"], "needs runs"),
        (["--at", "1e14"], "give --flops"),
        (["--at", "-1", "--flops", "1e12"], "positive"),
        (["--at", "1e14", "--flops", "1e12", "--prior", "a", "--law", "besiroglu"], "two priors"),
        (["--at", "1e14", "--flops", "1e12", "--noise", "2"], "noise"),
        (["--at", "1e14", "--flops", "1e8"], "no run of"),
        (["--at", "1e14", "--flops", "nan"], "flops = nan"),
        (["--at", "1e14", "--flops", "1e13", "--max-run", "-1"], "max-run = -1: the most that one run may take"),
        (["--at", "1e14", "--flops", "1e13", "--reach", "0"], "reach = 0: needed a factor of 1 or more"),
        (["--at", "1e14", "--flops", "1e13", "--reach", "nan"], "reach = nan"),
        (["--at", "1e14", "--flops", "1e13", "--max-seeds", "0"], "max-seeds = 0"),
        (["--at", "1e14", "--flops", "1e13", "--context", "0"], "context = 0: needed a whole number"),
    ],
)
def test_bad_command(argv, said, capsys):
    assert main(["design", *argv]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_noise_comes_from_repeats_else_from_residuals():
    rng = np.random.default_rng(0)
    N, D = columns(even_grid(BYTES, EXACT, 1e12))
    thrice = AtHand("memory", np.repeat(N, 3), np.repeat(D, 3), np.zeros(0), EXACT)
    noisy = BYTES.loss(thrice.N, thrice.D) * np.exp(0.005 * rng.normal(size=len(thrice.N)))
    sd, origin = replace(thrice, loss=noisy).noise(None)
    assert sd == pytest.approx(0.005, rel=0.3)
    assert "repeats" in origin
    once = BYTES.loss(N, D) * np.exp(0.005 * rng.normal(size=len(N)))
    once[0] *= 1.5
    sd, origin = AtHand("memory", N, D, once, EXACT).noise(BYTES)
    assert sd == pytest.approx(0.005, rel=0.5)
    assert "residuals" in origin
    assert AtHand("memory", N, D, None, EXACT).noise(BYTES) is None


def test_implied_noise_gives_the_bootstrap_back():
    """Draws that scatter as 0.3% of noise on an even grid would make them imply 0.3%."""
    N, D = columns(even_grid(BYTES, EXACT, 1e12))
    J = jacobian(BYTES, N, D)
    spread = np.random.default_rng(0).multivariate_normal(np.zeros(5), 0.003**2 * np.linalg.inv(J.T @ J), 4000)
    drawn = Chinchilla(*(np.array(list(BYTES.params.values())) * np.exp(spread)).T)
    # 4000 draws know the ends of a 90% range to 3%.
    assert implied_noise(BYTES, drawn, TARGET, N, D) == pytest.approx(0.003, rel=0.05)


def test_a_design_beside_runs_trains_their_corpus_with_seeds_of_its_own(tmp_path):
    """A cell that is bought again is a repeat, not the same run under another name."""
    had, out = tmp_path / "had" / "grid.toml", tmp_path / "next" / "grid.toml"
    had.parent.mkdir()
    grid = replace(design(TARGET, flops=2e12, max_run=1e12).grid("had", "mine", seed=4), corpus="mine")
    had.write_text(grid.toml())
    first = {spec.seed for spec in grid.specs("digest")}
    assert min(first) == 4
    assert main(["design", str(had.parent), "--at", "1e14", "--flops", "2e12", "-o", str(out)]) == 0
    after = Grid.read(out)
    assert after.corpus == "mine"
    assert min(spec.seed for spec in after.specs("digest")) == max(first) + 1
