"""allocate: closed forms against COST.md and against numeric minimisation, and everything an answer carries."""

import json
import math
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from scaling.cli import main
from scaling.fitting.laws import Chinchilla, Precision, Sparse
from scaling.fitting.published import PUBLISHED
from scaling.planning.allocate import Currency, Line, Problem, Subject, allocate, closed, given
from scaling.planning.cost import Rates
from scaling.shape import Shape

#: Besiroglu et al. 2024, headline table, rounded as published.
BESIROGLU = Chinchilla(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
#: H100, 40% MFU, $2.50 an hour, 700 W and PUE 1.1: the set-up of COST.md's checks.
H100 = Rates.of("h100", mfu=0.4, usd_per_hour=2.5, watts=700, pue=1.1, g_per_kwh=369)


def digits(text):
    """(value, half a unit of the last printed digit, doubled: published values are cut off or rounded)."""
    mantissa, _, exponent = text.partition("e")
    scale = 10.0 ** int(exponent or 0)
    return float(text), scale * 10.0 ** -len(mantissa.partition(".")[2])


def agrees(found, text):
    value, unit = digits(text)
    return abs(found - value) <= unit


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        # COST.md, Planning: closed forms. Law of Besiroglu et al. 2024.
        pytest.param({"flops": 1e21}, {"N": "2.778459e9", "D": "5.998528e10", "loss": "2.305529"}, id="flops"),
        pytest.param({"loss": 2.2}, {"C": "3.918244e21", "N": "5.595385e9"}, id="loss"),
        pytest.param({"usd": 1e4}, {"C": "5.698944e21", "N": "6.780058e9", "loss": "2.175267"}, id="usd"),
        pytest.param({"hours": 168, "devices": 8}, {"C": "1.914845e21", "N": "3.876405e9"}, id="hours"),
        pytest.param({"kwh": 1000}, {"C": "1.850306e21"}, id="kwh"),
        pytest.param({"kg_co2e": 369}, {"C": "1.850306e21"}, id="kg"),
        pytest.param(
            {"loss": 2.2, "inference_tokens": 1e12},
            {"N": "2.556449e9", "D": "3.479068e11", "total_flops": "1.044933e22", "saved": "0.308"},
            id="serving",
        ),
        pytest.param({"flops": 1e22, "max_params": 4.5e9}, {"loss": "2.151164"}, id="cap"),
        pytest.param({"fixed_params": 1e9, "loss": 2.5}, {"D": "2.545799e10"}, id="fixed"),
        pytest.param({"usd": 1e4, "data_usd_per_token": 1e-8}, {"N": "7.534572e9"}, id="data price"),
    ],
)
def test_checks(asked, expected):
    found = allocate(BESIROGLU, rates=H100, **asked)
    for name, text in expected.items():
        assert agrees(getattr(found, name), text), (name, getattr(found, name), text)


def test_unique_tokens():
    # Muennighoff et al. 2023, coefficients of their code at full precision; COST.md: C 1e22, U 25e9.
    E, A, B = np.exp([0.6254804, 6.255414, 7.3049974])
    law = Chinchilla(E, A, B, 0.3526596, 0.3526596)
    assert agrees(Problem(law, unique=25e9).loss(6.34e9, 242e9), "2.225644")
    found = allocate(law, flops=1e22, unique_tokens=25e9)
    assert agrees(found.epochs, "9.488")
    assert agrees(found.N, "7.026e9")
    assert pytest.approx(allocate(law, flops=1e22).N, rel=1e-6) == allocate(law, flops=1e22, unique_tokens=1e15).N


def test_off_optimum():
    factor, effective = closed.off_optimum(BESIROGLU, 4.0)
    assert agrees(factor, "1.126")
    assert agrees(effective, "0.514")
    row = next(row for row in allocate(BESIROGLU, flops=1e21).off if row["k"] == 4)
    assert row["compute_lost"] == pytest.approx(1 - effective, rel=1e-6)


def test_sardana():
    # Sardana et al. 2023, figure 1: quality of a 13B, 2e12 tokens served: N 6.97e9, 1.69e22 FLOPs saved, 17.4%.
    law = Chinchilla(1.69, 406.4, 410.7, 0.336, 0.283)
    C = 6 * (13e9 / closed.ratio(law)) ** (1 / law.exponents[0])
    found = allocate(law, loss=float(closed.least_loss(law, C)), inference_tokens=2e12)
    assert agrees(found.N, "6.97e9")
    assert agrees(found.saved, "0.174")
    assert agrees(found.total_flops / (1 - found.saved) * found.saved, "1.69e22")


def test_rounded_exponents_do_not_give_twenty():
    # FITTING.md and COST.md: .34 and .28 give 92.6 tokens a parameter at 5.76e23, not 20.
    assert agrees(
        allocate(given("E=1.69,A=406.4,B=410.7,alpha=.34,beta=.28"), flops=5.76e23).tokens_per_parameter, "92.6"
    )


def test_serving_wants_a_smaller_model_on_more_data():
    plain, served = (allocate(BESIROGLU, loss=2.2, inference_tokens=tokens) for tokens in (0.0, 1e12))
    assert served.N < plain.N
    assert served.D > plain.D


def random_laws(count, seed=0):
    rng = np.random.default_rng(seed)
    alpha, beta = rng.uniform(0.2, 0.6, (2, count))
    A, B = np.exp(rng.uniform(np.log(50), np.log(5000), (2, count)))
    return [Chinchilla(*row) for row in zip(rng.uniform(1, 2.5, count), A, B, alpha, beta)], rng


def excess(law, log_N, D):
    """Reducible loss, which resolves a minimum to 1e-8 where the whole loss could not."""
    return law.A * np.exp(-law.alpha * log_N) + law.B * D**-law.beta


def bounded(f, near):
    found = minimize_scalar(f, bounds=(near - 5, near + 5), method="bounded", options={"xatol": 1e-12, "maxiter": 500})
    return math.exp(found.x)


def test_closed_forms_against_bounded_minimisation():
    """1000 random laws and budgets: N, loss and least FLOPs to 1e-6, against scipy's bounded minimisation."""
    laws, rng = random_laws(1000)
    for law, C in zip(laws, 10 ** rng.uniform(15, 26, len(laws))):
        (N, D), L = law.optimum(C), closed.least_loss(law, C)
        numeric = bounded(lambda u, law=law, C=C: excess(law, u, C / 6 / math.exp(u)), math.log(N) + 0.3)
        assert pytest.approx(numeric, rel=1e-6) == N
        assert law.loss(N, D) == pytest.approx(L, rel=1e-12)
        assert closed.least_flops(law, L) == pytest.approx(C, rel=1e-6)
        assert law.loss(N, closed.tokens_at(law, N, L)) == pytest.approx(L, rel=1e-9)


def test_search_against_closed_forms():
    """The search that serves where there is no closed form, on the same 1000 laws at once: 1e-6 in N."""
    laws, rng = random_laws(1000, seed=1)
    law = Chinchilla(*np.array([[getattr(each, name) for name in Chinchilla.names()] for each in laws]).T)
    C = 10 ** rng.uniform(15, 26, len(laws))
    problem = Problem(law, lines=(Line("flops", C),))
    N, D = problem.best()
    searched, tokens = problem._search()
    np.testing.assert_allclose(searched, N, rtol=1e-6)
    np.testing.assert_allclose(tokens, D, rtol=1e-6)


def test_serving_and_data_price_against_their_first_order_conditions():
    """COST.md's two conditions without closed form, solved by scipy's brentq, for 300 random laws: 1e-6 in N."""
    laws, rng = random_laws(300, seed=2)
    for law in laws:
        served, loss = 10 ** rng.uniform(9, 13), law.E + 10 ** rng.uniform(-1, 0)
        N, _ = Problem(law, served=served).least(loss)
        assert float(N) == pytest.approx(solve_near(lambda u: serving_balance(law, u, loss, served), N), rel=1e-6)  # noqa: B023
        c, c_d, usd = 1e-18, 10 ** rng.uniform(-10, -7), 10 ** rng.uniform(4, 7)
        N, D = Problem(law, lines=(Line("usd", usd, c, c_d),)).best()
        assert float(N) == pytest.approx(solve_near(lambda u: price_balance(law, u, c, c_d, usd), N), rel=1e-6)  # noqa: B023
        assert 6 * c * N * D + c_d * D == pytest.approx(usd, rel=1e-9)


def solve_near(f, N):
    """The root of f in log N within 10% of N, as N."""
    return math.exp(brentq(f, math.log(N) - 0.1, math.log(N) + 0.1, xtol=1e-13))


def tilt(law, log_N, D):
    """alpha A N^-alpha over beta B D^-beta; endless where D is."""
    return law.alpha * law.A * math.exp(-law.alpha * log_N) / max(law.beta * law.B * D**-law.beta, 1e-300)


def serving_balance(law, log_N, loss, served):
    D = float(closed.tokens_at(law, np.exp(log_N), loss))
    return 6 * (1 - tilt(law, log_N, D)) + 2 * served / D


def price_balance(law, log_N, c, c_d, usd):
    compute = 6 * c * math.exp(log_N)
    return tilt(law, log_N, usd / (compute + c_d)) - compute / (compute + c_d)


def test_the_tighter_budget_binds_and_is_named():
    both = allocate(BESIROGLU, usd=1e4, hours=168, devices=8, rates=H100)
    assert both.binding == "hours"
    assert pytest.approx(1.914845e21, rel=1e-6) == both.C
    assert both.used["usd"] < 1
    assert both.used["hours"] == pytest.approx(1)
    assert allocate(BESIROGLU, usd=1e3, hours=168, devices=8, rates=H100).binding == "usd"


def test_a_cap_that_holds_is_named_and_no_size_above_it_is_shown():
    held = allocate(BESIROGLU, flops=1e24, max_memory_gb=64, max_params=1e10, rates=H100)
    assert pytest.approx(4e9) == held.N  # 16 bytes a parameter
    assert held.binding == "flops and max-memory"
    assert [row["k"] for row in held.off] == [0.25, 0.5]
    assert any("max-memory" in warning for warning in held.warnings)
    assert (
        allocate(BESIROGLU, flops=1e24, max_params=4e9, max_memory_gb=640, rates=H100).binding == "flops and max-params"
    )
    assert allocate(BESIROGLU, loss=2.2, max_params=4.5e9, rates=H100).binding == "loss and max-params"
    shaped = allocate(BESIROGLU, flops=1e17, max_params=2e6, shape=True, vocab=256, context=64)
    assert shaped.binding == "flops and max-params"


def test_a_cap_that_does_not_hold_only_hides_the_sizes_above_it():
    free = allocate(BESIROGLU, flops=1e21, max_params=6e9, rates=H100)
    assert free.binding == "flops"
    assert [row["k"] for row in free.off] == [0.25, 0.5, 2.0]
    assert not any("held down" in warning for warning in free.warnings)
    assert len(allocate(BESIROGLU, flops=1e21, rates=H100).off) == 4


def test_budgets_that_both_bind():
    """Dollars that also buy data, and FLOPs: the answer is no worse than any N within both."""
    lines = (Line("flops", 1e21), Line("usd", 3e3, H100.per_flop("usd"), 3e-8))
    problem = Problem(BESIROGLU, lines=lines)
    N, D = problem.best()
    sizes = np.exp(np.linspace(np.log(1e8), np.log(1e11), 4001))
    assert problem.loss(N, D) <= problem.loss(sizes, problem.tokens(sizes)).min() + 1e-9
    assert all(problem.spent(line, N, D) <= line.limit * (1 + 1e-9) for line in lines)


def test_flatness_band_costs_what_it_says():
    found = allocate(BESIROGLU, flops=1e21)
    for share, name in ((0.001, "0.1%"), (0.01, "1%")):
        for N in found.flat[name]:
            _, effective = closed.off_optimum(BESIROGLU, N / found.N)
            assert 1 - effective == pytest.approx(share, rel=1e-6)
    assert found.flat["1%"][0] < found.flat["0.1%"][0] < found.N < found.flat["0.1%"][1] < found.flat["1%"][1]


# --- exact FLOPs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["N", "N_nonembedding", "N_matmul"])
def test_the_smooth_currency_follows_the_dial(count):
    currency = Currency("exact", count, vocab=512, context=128)
    narrow = [Shape.of_width(2, width, vocab=512, context=128) for width in (8, 12, 20, 28, 36)]
    for shape in (*narrow, *(Shape.of_depth(depth, vocab=512, context=128) for depth in range(2, 40))):
        assert currency.flops_per_token(float(currency.of_shape(shape))) == pytest.approx(
            shape.flops_per_token, rel=0.04
        )


def test_exact_currency_is_spent_exactly():
    subject = replace(Subject.of(BESIROGLU), currency=Currency("exact", vocab=256, context=64))
    found = allocate(subject, flops=1e16)
    assert subject.currency.flops_per_token(found.N) * found.D == pytest.approx(1e16, rel=1e-9)
    assert "exact" in found.currency
    sizes = found.N * np.exp(np.linspace(-1, 1, 201))
    losses = BESIROGLU.loss(sizes, 1e16 / subject.currency.flops_per_token(sizes))
    assert found.loss <= losses.min() + 1e-12


def test_shape_is_buildable_and_spends_the_budget():
    found = allocate(BESIROGLU, flops=1e17, shape=True, vocab=256, context=64)
    assert found.shape is not None
    assert found.N == found.shape.N
    assert found.shape.flops_per_token * found.D == pytest.approx(1e17)
    assert Shape.near(found.N) == found.shape


# --- uncertainty --------------------------------------------------------------------------------------------------


def drawn(spread=0.01, size=400):
    rng = np.random.default_rng(0)
    centre = np.array([BESIROGLU.E, BESIROGLU.A, BESIROGLU.B, BESIROGLU.alpha, BESIROGLU.beta])
    draws = centre * np.exp(spread * rng.normal(size=(size, 5)))
    domain = {"N": (1e8, 1e10), "D": (1e9, 1e11), "C": (1e18, 1e21)}
    return Subject(BESIROGLU, "drawn", draws=draws, domain=domain, verified=True)


def test_intervals_are_quantiles_of_the_draws():
    subject = drawn()
    found = allocate(subject, flops=1e21, level=0.8)
    N = subject.drawn().optimum(1e21)[0]
    np.testing.assert_allclose(found.intervals["N"], np.quantile(N, [0.1, 0.9], method="nearest"))
    assert found.intervals["level"] == 0.8
    low, high = found.intervals["loss"]
    assert low < found.loss < high


def test_extrapolation_is_loud():
    inside, outside = allocate(drawn(), flops=1e20), allocate(drawn(), flops=1e25)
    assert not any("BEYOND" in warning for warning in inside.warnings)
    assert outside.decades_beyond["C"] == pytest.approx(4)
    assert any("FAR BEYOND" in warning and "4.00 decades" in warning for warning in outside.warnings)


def test_what_dominates():
    sharp = allocate(drawn(1e-5), loss=2.2, rates=H100, price_range=(2.0, 4.0), mfu_range=(0.39, 0.41))
    assert sharp.uncertainty["dominant"] == "price"
    loose = allocate(drawn(0.05), loss=2.2, rates=H100, price_range=(2.4, 2.6), mfu_range=(0.39, 0.41))
    assert loose.uncertainty["dominant"] == "law"
    assert not loose.uncertainty["assumed"]
    slow = allocate(drawn(1e-5), loss=2.2, rates=H100, price_range=(2.4, 2.6), mfu_range=(0.2, 0.6))
    assert slow.uncertainty["dominant"] == "utilisation"


def test_an_answer_at_the_lowest_list_price_says_so(capsys):
    """The point is the cheapest listed price and the interval of price alone runs from it; a given range has it inside."""
    listed = Rates.of("h100")
    assert listed.usd_per_hour == listed.price_range[0]
    found = allocate(BESIROGLU, usd=1e4, rates=listed)
    split = found.uncertainty
    assert split["from_lowest_price"]
    assert split["answer_at"] == {"usd_per_hour": listed.usd_per_hour, "mfu": 0.4}
    assert split["price_range"] == pytest.approx(listed.price_range)
    assert found.loss < split["price"][0]
    assert split["utilisation"][0] < found.loss < split["utilisation"][1]
    said = "the answer is at the lowest listed price, intervals with the price run from there to dearer ones"
    assert main(["allocate", "--law", LAW, "--usd", "1e4", "--accelerator", "h100"]) == 0
    out = capsys.readouterr().out
    assert said in out
    assert "the answer at 2.69 $/h and 0.40" in out
    assert main(["allocate", "--law", LAW, "--usd", "1e4", "--usd-per-hour", "2:4"]) == 0
    out = capsys.readouterr().out
    assert "the lowest" not in out.partition("rests on")[0]
    assert "the answer at 2.83 $/h and 0.40" in out


def test_an_answer_in_the_middle_of_a_given_range_lies_in_its_interval():
    given = allocate(BESIROGLU, usd=1e4, rates=Rates.of("h100", usd_per_hour=math.sqrt(8)), price_range=(2.0, 4.0))
    low, high = given.uncertainty["price"]
    assert not given.uncertainty["from_lowest_price"]
    assert low < given.loss < high


def test_resamples_that_never_reach_the_loss_leave_the_end_open():
    found = allocate(drawn(0.05), loss=1.9)
    assert found.intervals["C"][1] is None
    assert any("never reach" in warning for warning in found.warnings)
    json.dumps(found.to_json(), allow_nan=False)


def test_dollars_carry_the_law(shared_data):
    """On Besiroglu's 240 runs, $2 to 4 an hour, MFU .3 to .5: L 2.2 costs $5.2k to 11.2k, of which the law is 12%.

    And 1.95 costs $1.25M to 10.4M, of which the law is a factor 7. The intervals were published without saying how price and
    utilisation are distributed inside their ranges, nor which resamples were drawn. The shapes used here (log-uniform,
    triangular) were chosen, after trying several, to be near them: this holds the choice, it does not confirm it. Hence 3%
    near the data and 10% far from it; the law's part alone depends on no such choice.
    """
    from scaling.fitting.fit import fit
    from scaling.runs import Runs

    runs = Runs.read(shared_data / "chinchilla_epoch.csv")
    with jax.numpy_rank_promotion("allow"):
        found = fit(runs.where(runs.loss < 3.446995))
    rates = Rates.of("h100", usd_per_hour=math.sqrt(8))
    near = allocate(found, loss=2.2, rates=rates, price_range=(2.0, 4.0), mfu_range=(0.3, 0.5))
    np.testing.assert_allclose(near.intervals["usd"], [5.2e3, 11.2e3], rtol=0.03)
    low, high = near.uncertainty["law"]
    assert math.sqrt(high / low) - 1 == pytest.approx(0.12, abs=0.01)
    assert near.uncertainty["dominant"] == "price"
    assert any("log-uniform" in said for said in near.uncertainty["assumptions"])
    far = allocate(found, loss=1.95, rates=rates, price_range=(2.0, 4.0), mfu_range=(0.3, 0.5))
    # 12%: COST.md does not say how price and utilisation are distributed, and these draws are 1% wider than plain resamples.
    np.testing.assert_allclose(far.intervals["usd"], [1.25e6, 10.4e6], rtol=0.12)
    assert far.uncertainty["dominant"] == "law"
    low, high = far.uncertainty["law"]
    assert high / low == pytest.approx(7, rel=0.2)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "nothing to plan with"),
        ({"loss": 1.8}, "floor 1.817200"),
        ({"loss": 2.1, "fixed_params": 1e9}, "2.174354"),
        ({"loss": 2.2, "flops": 1e20}, "loss = 2.2 and flops = 1e.20 contradict"),
        ({"loss": 2.2, "usd": 100}, "loss = 2.2 and usd = 100 contradict"),
        (
            {"flops": 1e20, "fixed_params": 2e9, "max_params": 1e9},
            "fixed-params = 2e.09 and max-params = 1e.09 contradict",
        ),
        (
            {"flops": 1e20, "fixed_params": 1e10, "max_memory_gb": 80},
            "fixed-params = 1e.10 and max-memory = 80 GB contradict",
        ),
        ({"hours": 10}, "without devices"),
        ({"flops": -1}, "positive"),
        ({"flops": math.nan}, "positive"),
        ({"flops": 1e20, "total_over_active": math.nan}, "total-over-active = nan"),
        ({"flops": 1e20, "price_range": (-1.0, 2.0)}, "price-range = -1 to 2: needed numbers above 0"),
        ({"flops": 1e20, "mfu_range": (0.4, 1.2)}, "mfu-range = 0.4 to 1.2: needed shares"),
        ({"flops": 1e20, "data_usd_per_token": 1e-8}, "dollars"),
        ({"flops": 1e18, "fixed_params": 1e9, "inference_tokens": 1e12}, "contradict"),
    ],
)
def test_bad_input(asked, said):
    with pytest.raises(ValueError, match=said):
        allocate(BESIROGLU, rates=H100, **asked)


def test_unverified_only_with_force():
    subject = replace(drawn(), verified=False)
    with pytest.raises(ValueError, match="--force"):
        allocate(subject, flops=1e20)
    assert allocate(subject, flops=1e20, force=True).warnings[0].startswith("NOT VERIFIED")


def test_given_coefficients_have_no_intervals_and_say_so():
    found = allocate(BESIROGLU, flops=1e20)
    assert found.intervals is None
    assert found.verified is None
    assert any("no certificate and no intervals" in warning for warning in found.warnings)


@pytest.mark.parametrize("text", ["E=1.69", "E=1,A=x,B=1,alpha=1,beta=1", "E=1,A=-1,B=1,alpha=1,beta=1"])
def test_bad_law(text):
    with pytest.raises(ValueError, match="--law"):
        given(text)


# --- the command --------------------------------------------------------------------------------------------------

LAW = "E=1.8172,A=482.01,B=2085.43,alpha=.3478,beta=.3658"


def test_command(capsys):
    assert main(["allocate", "--law", LAW, "--flops", "1e21", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"C", "N", "D", "loss", "tokens_per_parameter", "intervals", "flat", "binding", "warnings"} <= set(found)
    assert found["N"] == pytest.approx(2.778459e9, rel=1e-6)
    assert found["intervals"] is None
    assert set(found["flat"]) == {"0.1%", "1%"}


def test_command_prints(capsys):
    assert main(["allocate", "--law", LAW, "--usd", "1e4", "--kwh", "900"]) == 0
    out = capsys.readouterr().out
    assert "6ND" in out
    assert "binding: kwh" in out
    assert "datasheet" in out


@pytest.mark.parametrize("terminal", [False, True])
def test_an_answer_without_intervals_has_no_empty_head(terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["allocate", "--law", LAW, "--flops", "1e21"]) == 0
    before, _, _ = capsys.readouterr().out.partition("N, parameters")
    assert "binding" in before
    assert "\u2500" not in before  # the rule under a head
    assert all(line.strip() for line in before.splitlines())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--flops", "1e20"], "give a fit's file or --law"),
        (["--law", LAW, "--loss", "1.5"], "floor"),
        (["--law", LAW, "--flops", "1e20", "--accelerator", "h1000"], "h100"),
        (["nothing.json", "--flops", "1e20"], "nothing.json"),
    ],
)
def test_bad_command(argv, said, capsys):
    assert main(["allocate", *argv]) == 2
    assert said in capsys.readouterr().err


# --- levers -------------------------------------------------------------------------------------------------------


def whatif_json(capsys, *argv):
    assert main(["allocate", "--law", LAW, *argv, "--whatif", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return found, {lever["name"]: lever for lever in found["whatif"]}


def test_levers_of_hardware(capsys):
    """Under a budget in FLOPs a cheaper hour costs fewer dollars for the same loss; in dollars it buys a better loss."""
    _, levers = whatif_json(capsys, "--flops", "1e21", "--accelerator", "tpu-v4")
    assert levers["committed price"]["usd"] == pytest.approx(2.03 / 3.22 - 1)
    assert levers["committed price"]["loss"] == pytest.approx(0)
    spot = 1.45 / 3.22 / (1 - 0.11212) - 1
    assert levers["spot price"]["usd"] == pytest.approx(spot, rel=1e-4)
    assert levers["region northamerica-northeast1"]["kg_co2e"] == pytest.approx(2 / 369 - 1)
    assert levers["recompute activations"]["usd"] == pytest.approx(8 / 6 - 1)
    _, levers = whatif_json(capsys, "--usd", "1e4", "--accelerator", "h100")
    assert levers["fp8 arithmetic"]["loss"] < 0
    assert levers["fp8 arithmetic"]["usd"] == pytest.approx(0)


def test_levers_that_this_law_does_not_know_are_borrowed_and_say_so(capsys):
    """Kumar et al.'s 8 bits make a parameter worth less; Abnar et al.'s idle experts lower the loss, or the FLOPs to one."""
    kumar = PUBLISHED["kumar"].law
    _, levers = whatif_json(capsys, "--flops", "1e21")
    kept = kumar.kept(8, 8, 8) / kumar.kept(16, 16, 16)
    worse = replace(BESIROGLU, A=BESIROGLU.A * kept**-BESIROGLU.alpha)
    expected = closed.least_loss(worse, 1e21) - closed.least_loss(BESIROGLU, 1e21)
    assert levers["train in 8 bits"]["loss"] == pytest.approx(expected, rel=1e-6)
    assert levers["fp8 arithmetic"]["loss"] == pytest.approx(expected, rel=1e-6)
    assert levers["mixture of experts"]["loss"] < 0
    assert all("borrowed" in levers[name]["how"] for name in ("train in 8 bits", "mixture of experts"))
    assert levers["distil from a teacher"]["loss"] is None
    _, levers = whatif_json(capsys, "--loss", "2.3")
    assert levers["mixture of experts"]["usd"] < -0.3
    _, levers = whatif_json(capsys, "--flops", "1e10")  # where that law gives a dense model 112 nats
    assert levers["mixture of experts"]["loss"] is None
    assert "far larger runs" in levers["mixture of experts"]["how"]


STUDENT = {"A": 2e3, "B": 2e6, "alpha": 0.3, "beta": 0.6, "gamma": 0.7, "c0": 2.5, "c1": 5.0, "d1": 1.3, "f1": 0.1}


def test_a_student_follows_the_distillation_law(capsys, tmp_path):
    """Against the equation written out (Busbridge et al. 2025, equation 8), at the optimum of a numeric search."""
    (tmp_path / "law.json").write_text(json.dumps({**STUDENT, "source": "mine"}))
    argv = ["--teacher-loss", "2.0", "--teacher-params", "7e9", "--distillation", str(tmp_path / "law.json")]
    _, levers = whatif_json(capsys, "--flops", "1e21", *argv)

    def taught(N, D):
        c = STUDENT
        behind = 2.0 / (c["d1"] * BESIROGLU.loss(N, D))
        gap = (1 + behind ** (1 / c["f1"])) ** (-c["c1"] * c["f1"])
        return 2.0 + 2.0 ** -c["c0"] * gap * (c["A"] * N ** -c["alpha"] + c["B"] * D ** -c["beta"]) ** c["gamma"]

    at = lambda log_N: taught(math.exp(log_N), 1e21 / (6 * math.exp(log_N) + 2 * 7e9))  # noqa: E731
    best = minimize_scalar(at, bounds=(math.log(1e8), math.log(1e11)), method="bounded", options={"xatol": 1e-10})
    lever, alone = levers["distil from a teacher"], closed.least_loss(BESIROGLU, 1e21)
    assert lever["loss"] == pytest.approx(best.fun - alone, rel=1e-9)
    assert lever["usd"] == pytest.approx(0, abs=1e-6)
    text = ",".join(f"{name}={value}" for name, value in STUDENT.items())
    _, levers = whatif_json(capsys, "--loss", "2.2", "--teacher-loss", "2.0", "--distillation", text)
    lever = levers["distil from a teacher"]
    assert taught(lever["N"], lever["D"]) == pytest.approx(2.2, rel=1e-9)
    assert lever["loss"] == pytest.approx(0, abs=1e-9)
    _, levers = whatif_json(capsys, "--loss", "1.9", "--teacher-loss", "2.0", "--distillation", text)
    assert "below its teacher" in levers["distil from a teacher"]["how"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--teacher-loss", "2"], "needs both"),
        (["--teacher-loss", "2", "--distillation", "A=1,B=2"], "needed exactly"),
        (["--teacher-loss", "2", "--distillation", "nowhere.json"], "no such file"),
        (["--teacher-loss", "-2", "--distillation", ",".join(f"{k}={v}" for k, v in STUDENT.items())], "positive"),
    ],
)
def test_bad_teacher(flags, said, capsys):
    assert main(["allocate", "--law", LAW, "--flops", "1e21", "--whatif", *flags]) == 2
    assert said in capsys.readouterr().err


def test_smaller_and_longer_keeps_the_loss(capsys):
    found, levers = whatif_json(capsys, "--flops", "1e21")
    lever = levers["smaller and longer"]
    assert lever["N"] == pytest.approx(found["N"] / 2)
    assert BESIROGLU.loss(lever["N"], lever["D"]) == pytest.approx(found["loss"])
    assert lever["usd"] == pytest.approx(6 * lever["N"] * lever["D"] / 1e21 - 1)


def test_a_law_that_knows_bits_and_experts_is_asked():
    precision = Precision(1.8, 482.0, 2085.0, 0.35, 0.36, 2.0, 2.0, 1.0)
    fewer = allocate(precision, flops=1e21, columns={"P_w": 4, "P_a": 4, "P_kv": 4})
    assert fewer.loss > allocate(precision, flops=1e21).loss
    assert pytest.approx(float(precision.optimum(1e21, P_w=4, P_a=4, P_kv=4)[0]), rel=1e-6) == fewer.N
    sparse = Sparse(1.6, 480.0, 2000.0, 1.0, 10.0, 0.35, 0.36, 0.3, 0.1, -0.1)
    mixed = allocate(sparse, flops=1e21, columns={"S": 0.875}, active_share=0.125)
    assert pytest.approx(1e21) == 6 * 0.125 * mixed.N * mixed.D
    with pytest.raises(ValueError, match="does not know it"):
        allocate(BESIROGLU, flops=1e21, columns={"S": 0.5})
    with pytest.raises(ValueError, match="active share"):
        allocate(BESIROGLU, flops=1e21, active_share=1.5)
