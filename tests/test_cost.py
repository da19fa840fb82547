"""Costs against published runs, exact counts, and the checks that a calculator of this kind must pass."""

import json
import math
from dataclasses import asdict, replace

import pytest

from scaling.cli import main
from scaling.grid import RunSpec
from scaling.planning.cost import Architecture, Preemption, Rates, cost, serving_memory, training_memory
from scaling.planning.cost.efficiency import accelerator_of, efficiency, pareto
from scaling.recipe import Recipe
from scaling.runs import Run
from scaling.shape import Shape


def rates(watts, pue, kg_per_kwh, **more):
    return Rates.of(None, watts=watts, pue=pue, g_per_kwh=kg_per_kwh * 1000, **more)


@pytest.mark.parametrize(
    ("hours", "watts", "pue", "kg_per_kwh", "mwh", "tonnes"),
    [
        # Patterson et al. 2021, table 4: T5-11B, 512 chips for 480 h.
        pytest.param(512 * 480, 310, 1.12, 0.545, 85.3, 46.5, id="T5-11B"),
        # Patterson et al. 2021, table 4: GPT-3, published as 1287 MWh and 552.1 t.
        pytest.param(1e4 * 355.2, 330, 1.10, 0.429, 1289, 553, id="GPT-3"),
        # Chowdhery et al. 2022, appendix B: 6144 chips for 1200 h and 3072 for 336 h.
        pytest.param(8_404_992, 378.5, 1.08, 0.079, 3436, 271.43, id="PaLM"),
        # Touvron et al. 2023 (LLaMA), table 15.
        pytest.param(82_432, 400, 1.1, 0.385, 36, 14, id="LLaMA-7B"),
        # Luccioni et al. 2023, section 4.2: dynamic consumption of BLOOM.
        pytest.param(1_082_990, 400, 1.0, 0.057, 433.2, 24.69, id="BLOOM"),
    ],
)
def test_published_energy(hours, watts, pue, kg_per_kwh, mwh, tonnes):
    spent = cost(rates(watts, pue, kg_per_kwh), device_hours=hours)
    digits = lambda value: 0.5 * 10 ** -(len(str(value).partition(".")[2]))  # noqa: E731
    assert spent.kwh / 1000 == pytest.approx(mwh, abs=digits(mwh))
    assert spent.kg_co2e / 1000 == pytest.approx(tonnes, abs=digits(tonnes))


@pytest.mark.parametrize(
    ("hours", "watts", "pue", "published_mwh"), [(3_552_000, 330, 1.1, 1287), (79, 12_041.51, 1.58, 1.507)]
)
def test_published_energy_as_published(hours, watts, pue, published_mwh):
    assert cost(rates(watts, pue, 0.4), device_hours=hours).kwh / 1000 == pytest.approx(published_mwh, rel=0.016)


def test_bloom_with_idle_and_embodied():
    # Luccioni et al. 2023: idle 256,646 kWh; server 2500 kg over 8 GPUs, GPU 150 kg, 6 years at 85%.
    bloom = rates(400, 1.0, 0.057, idle_watts=256_646e3 / 1_082_990, embodied_kg=150 + 2500 / 8)
    spent = cost(bloom, device_hours=1_082_990)
    assert spent.kg_idle / 1000 == pytest.approx(14.63, abs=0.005)
    assert spent.kg_embodied / 1000 == pytest.approx(7.58 + 3.64, abs=0.01)
    assert spent.kg_co2e / 1000 == pytest.approx(50.53, abs=0.005)
    assert spent.kg_co2e == pytest.approx(spent.kg_operational + spent.kg_idle + spent.kg_embodied)


def test_bert_of_strubell():
    # Strubell et al. 2019, table 3: 12,041.51 W for 79 h, PUE 1.58, .954 lb CO2e a kWh.
    spent = cost(rates(12_041.51, 1.58, 0.954), device_hours=79)
    assert spent.kwh == pytest.approx(1503, abs=0.5)
    assert spent.kg_co2e == pytest.approx(1434, abs=0.5)  # pounds, as the intensity was


def test_h100_at_the_facility():
    # Epoch AI: about 1.05 kW at the facility; 272 g an EFLOP at 40% on the US grid, 199 for chip x PUE.
    whole, chip = Rates.of("h100"), Rates.of("h100", watts=700)
    assert whole.kwh_per_hour == pytest.approx(1.05, abs=0.005)
    assert whole.per_flop("kg_co2e") * 1e21 == pytest.approx(272, abs=0.5)
    assert chip.per_flop("kg_co2e") * 1e21 == pytest.approx(199, abs=0.5)


def test_embodied_of_the_chip_is_counted_when_asked():
    assert Rates.of("h100").embodied_kg_per_hour is None
    per_peak_eflop = Rates.of("h100", embodied=True).embodied_kg_per_hour * 1000 / (989.4e12 * 3600 / 1e18)
    assert per_peak_eflop == pytest.approx(0.66)
    with pytest.raises(ValueError, match="no embodied carbon is published for a100"):
        Rates.of("a100", embodied=True)


def test_worked_examples():
    # 7B on 1.4T tokens: 5.88e22 FLOPs, 108,889 A100-hours at 150 TFLOP/s.
    spent = cost(Rates.of("a100", mfu=150 / 312), flops=6 * 7e9 * 1.4e12)
    assert spent.flops == pytest.approx(5.88e22)
    assert spent.device_hours == pytest.approx(108_889, abs=0.5)
    assert cost(Rates.of("a100", mfu=0.5), device_hours=10).flops == pytest.approx(5.616e18)
    # GPT-3 (3.14e23 FLOPs, Brown et al. 2020, table D.1) on 1024 H200 at 40%.
    assert cost(Rates.of("h200"), flops=3.14e23, devices=1024).seconds / 86400 == pytest.approx(8.97, abs=0.005)


def test_claims_not_to_repeat():
    year = 365.25 * 86400
    fp32 = cost(Rates.of("h200", precision="fp32", mfu=1), flops=3.14e23).seconds / year
    assert fp32 == pytest.approx(148, abs=1)
    bert = 1e6 * 256
    assert 6 * 110e6 * bert * 512 == pytest.approx(8.65e19, rel=1e-3)
    assert 6 * 110e6 * bert * (0.9 * 128 + 0.1 * 512) == pytest.approx(2.8e19, rel=0.01)
    assert pytest.approx(2.53e24, rel=2e-3) == 6 * 540e9 * 780e9
    assert serving_memory(1e9, "int4").weights * 4 == serving_memory(1e9, "bf16").weights
    with pytest.raises(ValueError, match="with sparsity"):
        Rates.of("h200", precision="fp8", peak_tflops=3958)


@pytest.mark.parametrize(
    ("name", "N"),
    [
        ("gpt-2", 124_439_808),
        ("gpt-3", 174_604_259_328),
        ("llama-2-7b", 6_738_415_616),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3.1-405b", 405_853_388_800),
    ],
)
def test_parameters_exactly(name, N):
    assert Architecture.named(name).N == N


@pytest.mark.parametrize(
    ("name", "full", "causal"), [("gpt-3", 0.973, 0.987), ("llama-3-8b", 0.832, 0.936), ("gpt-2", 0.874, 0.936)]
)
def test_six_n_over_exact(name, full, causal):
    model = Architecture.named(name)
    assert 6 * model.N / model.flops_per_token("full") == pytest.approx(full, abs=5e-4)
    assert 6 * model.N / model.flops_per_token("causal") == pytest.approx(causal, abs=5e-4)


def test_mixture_of_experts_counts_active_for_flops_and_all_for_memory():
    # Jiang et al. 2024: 46.7B parameters, 12.9B active.
    mixtral = Architecture.named("mixtral")
    assert pytest.approx(46.7e9, abs=5e7) == mixtral.N
    assert mixtral.N_active == pytest.approx(12.9e9, abs=5e7)
    assert training_memory(mixtral.N).state == 16 * mixtral.N
    assert mixtral.flops_per_token() < 6 * mixtral.N / 2


def test_bytes():
    big = Architecture.named("llama-3.1-405b")
    for precision, terabytes in (("fp32", 1.62), ("bf16", 0.81), ("fp8", 0.41), ("int4", 0.20)):
        assert serving_memory(big.N, precision).weights / 1e12 == pytest.approx(terabytes, abs=0.005)
    assert training_memory(1e9, "fp32").state == 16e9
    assert training_memory(1e9, "bf16").state == 16e9
    gpt = Architecture.named("gpt-3")
    s, b, h, L, a = 2048, 3, 12288, 96, 96
    assert gpt.activation_bytes(b) == pytest.approx(s * b * h * L * (34 + 5 * a * s / h))
    assert gpt.activation_bytes(b, "selective") == 34 * s * b * h * L
    assert gpt.activation_bytes(b, "full") == 2 * s * b * h * L
    assert Architecture.named("llama-3-8b").cache_bytes_per_token("bf16") == 2 * 32 * 8 * 128 * 2


def test_devices_that_hold_it():
    assert training_memory(7e9).devices(80) == math.ceil(112 / 80)
    assert training_memory(1e6).devices(80) == 1


def test_preemption():
    spot = Preemption(mean_hours=8, save_hours=2 / 60, restart_hours=10 / 60)
    assert spot.interval_hours == pytest.approx(0.730, abs=5e-4)
    assert spot.overhead == pytest.approx(0.112, abs=5e-4)
    steady, shaky = Rates.of("h100"), Rates.of("h100", preemption=spot)
    assert shaky.per_flop("usd") / steady.per_flop("usd") - 1 == pytest.approx(0.126, abs=5e-4)
    with pytest.raises(ValueError, match="no time to train"):
        Preemption(mean_hours=0.1)


def test_a_v4_chip_is_priced_as_one():
    # v4-64 is 32 chips; $3.22 is one chip-hour.
    spent = cost(Rates.of("tpu-v4", mfu=1.0), devices=32, hours=1)
    assert spent.usd == pytest.approx(32 * 3.22)
    assert spent.flops == pytest.approx(32 * 275e12 * 3600)


def test_missing_is_missing():
    spent = cost(rates(400, 1.1, 0.385), device_hours=1)
    assert spent.usd is None
    assert spent.flops is None
    assert "--usd-per-hour" in spent.missing["usd"]
    assert cost(Rates.of("tpu-v5e"), flops=1e20).kwh is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"device_hours": 3, "hours": 3, "devices": 2}, "both device-hours"),
        ({"hours": 3}, "without devices"),
        ({"flops": 1e20, "device_hours": 3}, "both FLOPs and device-hours"),
        ({}, "neither"),
        ({"flops": -1.0}, "positive"),
        ({"flops": math.nan}, "positive"),
    ],
)
def test_contradictions(given, said):
    with pytest.raises(ValueError, match=said):
        cost(Rates.of("h100"), **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mfu": 40.0}, "share"),
        ({"pue": 0.9}, "pue = 0.9: .* 1 or more"),
        ({"pue": "us"}, "no PUE"),
        ({"region": "atlantis"}, "unknown region"),
        ({"watts": -1.0}, "positive"),
        ({"pue": math.nan}, "pue = nan"),
        ({"usd_per_hour": -1.0}, "usd-per-hour = -1: needed a positive"),
        ({"server_factor": -2.0}, "server-factor = -2"),
        ({"server_factor": 0.0}, "server-factor = 0"),
        ({"g_per_kwh": math.nan}, "g-per-kwh = nan"),
        ({"idle_watts": -50.0}, "idle-watts = -50: needed a number of 0 or more"),
        ({"idle_watts": math.inf}, "idle-watts = inf"),
        ({"embodied_kg": -500.0}, "embodied-kg = -500: needed a number of 0 or more"),
        ({"embodied_kg": 150.0, "lifetime_years": -6.0}, "lifetime-years = -6: needed a positive"),
        ({"embodied_kg": 150.0, "lifetime_utilisation": 2.0}, "lifetime-utilisation = 2: needed a share"),
        ({"embodied": True, "lifetime_years": 0.0}, "lifetime-years = 0 without embodied-kg"),
        ({"embodied": True, "lifetime_utilisation": 2.0}, "lifetime-utilisation = 2 without embodied-kg"),
        ({"lifetime_years": 4.0}, "lifetime-years = 4 without embodied-kg"),
        ({"precision": "fp7"}, "precision"),
    ],
)
def test_bad_rates(given, said):
    with pytest.raises(ValueError, match=said):
        Rates.of("h100", **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mean_hours": math.nan}, "preempted-every = nan"),
        ({"save_hours": -2 / 60}, "save-minutes = -2"),
        ({"restart_hours": -10 / 60}, "restart-minutes = -10"),
        ({"restart_hours": math.nan}, "restart-minutes = nan"),
    ],
)
def test_bad_preemption(given, said):
    with pytest.raises(ValueError, match=said):
        Preemption(**given)


def test_a_lifetime_spreads_the_kilograms_that_are_given():
    short, long = (Rates.of("h100", embodied_kg=150, lifetime_years=years).embodied_kg_per_hour for years in (3.0, 6.0))
    assert short == pytest.approx(2 * long)
    assert Rates.of("h100", embodied_kg=150).embodied_kg_per_hour == long


def test_a_pue_below_one_in_a_table_of_ones_own_is_refused(tmp_path):
    (tmp_path / "regions.csv").write_text("name,pue,g_per_kwh\nattic,0.5,100\n")
    with pytest.raises(ValueError, match=r"pue of attic = 0\.5"):
        Rates.of("h100", region="attic", regions=tmp_path / "regions.csv")


def record(tmp_path, seed, loss, seconds, status="done"):
    shape = Shape.of_depth(2)
    spec = RunSpec(shape, Recipe(1e-2, 256, 0), "python", "x", 25600 * (seed + 1), seed)
    run = Run.of(spec, status=status, loss=loss, seconds=seconds, device="cpu", reason=None if loss else "NaN")
    run.write(tmp_path)
    return run


def test_efficiency_counts_the_failed_and_finds_the_front(tmp_path):
    best = record(tmp_path, 0, 2.0, 3600.0)
    worse = record(tmp_path, 1, 2.1, 7200.0)
    failed = record(tmp_path, 2, None, 1800.0, "failed")
    report = efficiency(tmp_path, Rates.of(None, watts=100, pue=1.0, g_per_kwh=500, usd_per_hour=0.2))
    assert report.total["device_hours"] == pytest.approx(3.5)
    assert report.failed["kwh"] == pytest.approx(0.05)
    assert report.total["C"] == best.C + worse.C + failed.C
    assert report.total["kg_co2e"] == pytest.approx(0.35 * 0.5)
    assert report.fronts["C"] == (best.id,)
    assert pareto(report.runs, "usd") == (best.id,)
    assert accelerator_of([best, worse]) is None


def test_efficiency_counts_every_clock(tmp_path):
    run = record(tmp_path, 0, 2.0, 3600.0)
    replace(run, compile_seconds=360.0, eval_seconds=720.0).write(tmp_path)
    record(tmp_path, 1, 2.1, 3600.0)
    report = efficiency(tmp_path, Rates.of(None, watts=100, pue=1.0, g_per_kwh=500, usd_per_hour=0.2))
    assert report.hours == pytest.approx({"training": 2.0, "compiling": 0.1, "evaluating": 0.2})
    assert report.total["device_hours"] == pytest.approx(2.3)
    assert report.total["usd"] == pytest.approx(0.46)
    assert "evaluating was not clocked in 1 of 2 runs" in report.obtained["device_hours"]


def test_efficiency_takes_measured_energy_and_what_a_shared_trunk_cost(tmp_path):
    """A meter beats an estimate, over two devices hours count twice, and a branch counts what it added."""
    first, second = record(tmp_path, 0, 2.0, 1800.0), record(tmp_path, 1, 1.9, 3600.0)
    metered = {"energy_kwh": 0.3, "energy_how": "measured: NVML", "devices": 2, "flops_spent": first.C // 4}
    replace(first, **metered).write(tmp_path)
    replace(second, energy_kwh=9.0, energy_how="estimated: power x time").write(tmp_path)
    rates = Rates.of(None, watts=100, pue=1.2, g_per_kwh=500)
    report = efficiency(tmp_path, rates)
    assert report.total["device_hours"] == pytest.approx(2.0)
    assert report.total["C"] == first.C // 4 + second.C
    assert report.total["kwh"] == pytest.approx(0.3 * 1.2 + 0.1 * 1.2)
    assert report.total["kg_co2e"] == pytest.approx(0.5 * report.total["kwh"])
    assert "measured: NVML, x server factor x PUE (1 of 2 runs)" in report.obtained["kwh"]
    assert "1 runs share a trunk" in report.obtained["C"]
    assert efficiency(tmp_path, Rates.of(None, pue=1.2)).total["kwh"] == pytest.approx((0.3 + 9.0) * 1.2)


def test_efficiency_without_a_clock_has_no_total(tmp_path):
    record(tmp_path, 0, 2.0, 3600.0)
    record(tmp_path, 2, None, None, "failed")
    report = efficiency(tmp_path, Rates.of(None))
    assert report.total["device_hours"] is None
    assert report.done["device_hours"] == pytest.approx(1)
    assert "missing for 1 of 2" in report.obtained["device_hours"]


def run_json(capsys, *argv):
    assert main(["cost", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_command(capsys):
    found = run_json(capsys, "--device-hours", "82432", "--watts", "400", "--pue", "1.1", "--g-per-kwh", "385")
    assert {"device_hours", "seconds", "usd", "kwh", "kg_co2e", "flops"} <= set(found)
    assert found["kwh"] == pytest.approx(36_270.08)
    assert found["kg_co2e"] == pytest.approx(13_963.98, abs=0.01)
    found = run_json(capsys, "gpt-3", "--accelerator", "h200", "--devices", "1024")
    assert found["flops"] == pytest.approx(3.143e23, rel=1e-3)
    assert found["flops_exact"] == pytest.approx(found["flops"] / 0.987, rel=1e-3)
    assert found["memory"]["training"]["devices"] > 1
    found = run_json(capsys, "--params", "1e9", "--tokens", "2e10", "--inference-tokens", "1e12")
    assert found["flops"] == pytest.approx(6e9 * 2e10 + 2e9 * 1e12)
    assert len(run_json(capsys, "--list")["accelerators"]) > 15


def test_command_on_a_folder(tmp_path, capsys):
    record(tmp_path, 0, 2.0, 3600.0)
    found = run_json(capsys, str(tmp_path), "--report", "--watts", "65")
    assert found["kwh"] == pytest.approx(65 / 1000 * 1.1)
    assert found["usd"] is None
    assert main(["cost", str(tmp_path), "--report", "--watts", "65"]) == 0
    assert "measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--flops", "1e20", "--accelerator", "h1000"], "h100"),
        (["--device-hours", "1", "--hours", "1", "--devices", "1"], "both device-hours"),
        (["gpt-5"], "unknown model"),
        (["gpt-3", "--params", "1e9"], "says another"),
        (["--flops", "1e20", "--params", "1e9", "--tokens", "1e9"], "say it twice"),
        (["--report"], "needs a folder"),
        ([], "neither"),
        (["--flops", "-100", "--params", "1e9", "--inference-tokens", "1e12"], "flops = -100"),
        (["--flops", "1e21", "--pue", "nan"], "pue = nan"),
        (["--flops", "1e21", "--embodied", "--lifetime-years", "0"], "lifetime-years = 0"),
        (["--flops", "1e21", "--price", "spot", "--restart-minutes", "-10"], "restart-minutes = -10"),
        (["llama-3-8b", "--tokens", "1e12", "--sequences", "-1"], "sequences = -1: needed a positive"),
        (["--flops", "1e21", "--sequences", "nan"], "sequences = nan"),
    ],
)
def test_bad_input_is_one_line(argv, said, capsys):
    assert main(["cost", *argv]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["cost", "allocate"])
@pytest.mark.parametrize(
    ("flag", "text", "said"),
    [
        ("--usd-per-hour", "-1", "needed a number above 0"),
        ("--usd-per-hour", "0:2", "needed a number above 0"),
        ("--usd-per-hour", "nan", "needed a number above 0"),
        ("--usd-per-hour", "4:2", "LO below HI"),
        ("--mfu", ".4:1.2", "needed a share in (0, 1]"),
    ],
)
def test_a_span_that_no_rate_can_be_is_refused_by_its_flag(verb, flag, text, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--flops", "1e21", flag, text])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"scaling: argument {flag}: {text!r}: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_costs_are_plain_json():
    payload = cost(Rates.of("h100"), flops=1e21).to_json()
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    assert payload["facts"][0]["source"]
    assert asdict(Rates.of("h100"))["accelerator"] == "h100-sxm"


def test_command_on_a_planned_sweep(tmp_path, capsys):
    (tmp_path / "grid.toml").write_text("budgets = [1e10, 3e10]\nsizes = [8e3, 15e3]\nseeds = [0, 1]\n")
    found = run_json(capsys, str(tmp_path), "--peak-tflops", "0.1", "--mfu", ".5")
    assert found["runs"] == 8
    # Whole batches: within a batch of each budget.
    assert found["flops"] == pytest.approx(4 * (1e10 + 3e10), rel=0.02)
    assert found["seconds"] == pytest.approx(found["flops"] / 0.5e11)
    assert main(["cost", str(tmp_path), "--report"]) == 2
    assert "no records yet" in capsys.readouterr().err
