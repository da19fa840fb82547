"""fit and `scaling fit`: the file keeps everything, bad tables are refused by name, a user's own law works."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from test_recovery import table

from scaling.cli import main
from scaling.fitting.fit import FIELDS, Fit, FitError, fit, pose, profiles
from scaling.fitting.laws import Chinchilla, Law
from scaling.fitting.objective import Absolute, LogSquared
from scaling.runs import Runs

TRUE = Chinchilla(1.7, 400.0, 600.0, 0.34, 0.3)


@pytest.fixture(scope="module")
def runs():
    return table(TRUE, 60, noise=0.01)


@pytest.fixture(scope="module")
def found(runs):
    return fit(runs, resamples=200, starts=64, plan=[(1e9, 2e10)], flops=[1e22, 1e27])


def test_fit_covers_the_truth_and_says_how(found):
    low, high = found.intervals["exponents"]["a"]
    assert low < TRUE.exponents[0] < high
    assert found.verified
    assert found.draws.shape == (200, 5)
    assert found.stacked.optimum(1e21)[0].shape == (200,)
    assert next(found.draw_laws()).params.keys() == TRUE.params.keys()
    planned = found.planned[0]
    assert planned["new_run"][1] - planned["new_run"][0] > planned["mean_law"][1] - planned["mean_law"][0]
    assert found.answers[0]["flat"]["1.0%"][0] < found.answers[0]["N"] < found.answers[0]["flat"]["1.0%"][1]
    assert any(warned.name == "extrapolation" for warned in found.warnings)


def test_the_file_gives_the_same_fit_back(found, tmp_path):
    path = found.write(tmp_path / "fit.json")
    again = Fit.read(path)
    assert json.loads(json.dumps(again.to_json())) == json.loads(json.dumps(found.to_json()))
    assert np.array_equal(again.draws, found.draws)
    assert again.law == found.law
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a fit"):
        Fit.read(path)


def test_every_key_of_the_file_is_documented(found):
    assert set(found.to_json()) == set(FIELDS)


def test_flat_band_costs_what_it_says(found):
    """The ends of the 1% band lose what 1% less compute loses."""
    answer = found.answers[0]
    law, C = found.law, answer["C"]
    worse = law.loss(*law.optimum(0.99 * C))
    for N in answer["flat"]["1.0%"]:
        assert law.loss(N, C / 6 / N) == pytest.approx(worse, rel=1e-9)


def test_profiles_agree_with_the_bootstrap(runs, found):
    """Log-normal noise and 60 runs: the two intervals of each coefficient overlap by half at least."""
    for held in profiles(runs, found):
        low, high = found.intervals["params"][held.name]
        assert low < held.interval[1]
        assert held.interval[0] < high
        assert held.interval[0] < found.params[held.name] < held.interval[1]
    with pytest.raises(ValueError, match="digest"):
        profiles(runs.where(np.arange(60) < 50), found)


def test_groups_widen_what_copies_cannot(runs):
    copies = Runs(pd.concat([runs.table.assign(group=runs.table["id"])] * 3, ignore_index=True), "copies")
    wide = fit(copies, resamples=300, starts=16)
    narrow = fit(copies, resamples=300, starts=16, by="run")
    assert (wide.settings["by"], narrow.settings["by"]) == ("group", "run")
    assert wide.intervals["standard_errors"]["a"] > 1.4 * narrow.intervals["standard_errors"]["a"]


def test_a_users_own_law_works_everywhere(runs, tmp_path):
    @dataclass(frozen=True)
    class Floor(Law):
        """L = E + B / D^beta: whatever N is."""

        E: float
        B: float
        beta: float

        name: ClassVar[str] = "floor"
        positive: ClassVar[tuple[str, ...]] = ("E", "B")
        linear: ClassVar[tuple[str, ...]] = ("E", "B")
        search: ClassVar[dict] = {"beta": (0.05, 1.0)}

        def loss(self, N, D):
            return self.E + self.B * D**-self.beta

    planted = Floor(1.9, 500.0, 0.3)
    own = Runs(runs.table.assign(loss=planted.loss(runs.N, runs.D)), "own")
    found = fit(own, Floor, LogSquared(), resamples=20, starts=32)
    for name, value in planted.params.items():
        assert found.params[name] == pytest.approx(value, rel=1e-5)
    assert found.draws.shape == (20, 3)
    assert found.write(tmp_path / "own.json").exists()
    assert fit(own, Floor, pin={"E": 1.9}, resamples=0, starts=32).params["E"] == 1.9


def test_seed_noise_and_lack_of_fit():
    """Cells run three times with 1% noise: the repeats' scatter comes back, and the law is not blamed."""
    rng = np.random.default_rng(0)
    cells = table(TRUE, 20).table
    frame = pd.concat([cells] * 3, ignore_index=True)
    frame["loss"] *= np.exp(0.01 * rng.normal(size=60))
    found = fit(
        Runs(frame.assign(id=[str(i) for i in range(60)]), "repeats"), objective=LogSquared(), resamples=0, starts=16
    )
    assert found.noise.repeats == 40
    assert found.noise.seed == pytest.approx(0.01, rel=0.25)
    assert found.noise.lack_of_fit > 0.01


def test_mean_reduction_reports_the_mean(runs):
    mean = fit(runs, objective=Absolute(reduction="mean"), resamples=0, starts=32)
    total = fit(runs, objective=Absolute(), resamples=0, starts=32)
    assert mean.value == pytest.approx(total.value / 60, rel=1e-9)
    assert mean.certificate.converged


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: f.assign(D=20 * f.N, C=120 * f.N**2), "D/N is 20"),
        (lambda f: f.assign(D=1e20 / f.N, C=6e20), "one budget"),
        (lambda f: f.head(4), "4 distinct runs"),
    ],
    ids=["one ratio", "one budget", "few runs"],
)
def test_what_no_law_can_be_fitted_to_is_refused(runs, change, match):
    with pytest.raises(FitError, match=match):
        fit(Runs(change(runs.table), "bad"), resamples=0)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_bad_losses_are_refused_by_row(runs, bad):
    frame = runs.table.copy()
    frame.loc[7, "loss"] = bad
    with pytest.raises(ValueError, match="loss of run run7"):
        fit(Runs(frame, "bad"), resamples=0)


def test_warnings_name_number_and_remedy(runs):
    few = fit(runs.where(np.arange(60) < 6), resamples=0, starts=16)
    narrow = replace(runs, table=runs.table.assign(D=runs.N * np.linspace(19, 22, 60)))
    narrow = replace(narrow, table=narrow.table.assign(C=6 * narrow.N * narrow.D, loss=TRUE.loss(narrow.N, narrow.D)))
    close = fit(narrow, resamples=0, starts=16)
    names = {warned.name for warned in (*few.warnings, *close.warnings)}
    assert {"few-runs", "narrow-ratio", "correlated-design"} <= names
    for warned in (*few.warnings, *close.warnings):
        assert warned.number is not None
        assert warned.message
        assert warned.remedy


def test_influential_runs_are_named(runs):
    frame = runs.table.copy()
    frame.loc[[3, 4], "loss"] *= 1.5
    found = fit(Runs(frame, "outliers"), objective=LogSquared(), resamples=100, starts=32)
    assert set(found.worst["ids"]) == {"run3", "run4"}


def test_missing_column_is_named(runs):
    from scaling.fitting.laws import DataConstrained

    with pytest.raises(ValueError, match="needs a column U"):
        pose(replace(runs, table=runs.table.drop(columns="U")), DataConstrained)


def test_command_line(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.table[["id", "N", "D", "loss"]].to_csv("tiny.csv", index=False)
    words = ["fit", "tiny.csv", "--resamples", "50", "--starts", "32", "--no-rivals"]
    assert main([*words, "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert {"law", "params", "objective", "certificate", "intervals", "warnings"} <= set(payload)
    assert set(payload["params"]) == {"E", "A", "B", "alpha", "beta"}
    assert {"name", "delta", "reduction", "value", "n"} <= set(payload["objective"])
    needed = {"verified", "gradient_norm", "agreeing_starts", "condition_number", "bounds_hit"}
    assert needed <= set(payload["certificate"])
    assert set(payload["intervals"]["exponents"]) == {"a", "b"}
    assert payload["path"] == "fits/tiny-chinchilla.json"

    assert main([*words[:-1], "--flops", "1e22", "--plan", "1e9,2e10"]) == 0
    shown = capsys.readouterr().out
    for word in (
        "alpha",
        "N* ~ C^a",
        "log-huber, delta 0.001, sum",
        "parameters (N)",
        "6ND",
        "converged",
        "identifiable",
        "chinchilla, alpha = beta",
        "coupled",
        "not told apart",
    ):
        assert word in shown
    assert "\x1b" not in shown

    assert main(["fit", "--from", "fits/tiny-chinchilla.json", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["same"]
    assert {"intervals", "answers", "planned", "profiles", "windows", "rivals"} <= set(again["difference"])
    assert max(again["difference"].values()) < 1e-6
    assert main([*words, "--seed", "1"]) == 2
    assert "different fit" in capsys.readouterr().err
    assert main([*words, "--seed", "1", "--force"]) == 0
    runs.table[["id", "N", "D", "loss"]].head(50).to_csv("tiny.csv", index=False)
    capsys.readouterr()
    assert main(["fit", "--from", "fits/tiny-chinchilla.json"]) == 2
    assert "table changed" in capsys.readouterr().err


def test_standard_errors_weigh_only_where_asked(runs, tmp_path, capsys, monkeypatch):
    """A run with a tiny standard error that lies off the law: it pulls only where the errors are said to be independent."""
    monkeypatch.chdir(tmp_path)
    frame = runs.table[["id", "N", "D", "loss"]].assign(loss_se=0.01)
    frame.loc[5, ["loss", "loss_se"]] = [frame.loc[5, "loss"] * 1.1, 1e-5]
    frame.to_csv("se.csv", index=False)
    words = [
        "fit",
        "se.csv",
        "--objective",
        "log-squared",
        "--resamples",
        "0",
        "--starts",
        "16",
        "--no-rivals",
        "--json",
    ]
    off = []
    for more in ([], ["--weigh-by-se"]):
        assert main([*words, *more, "-o", f"fit{len(more)}.json"]) == 0
        law = Fit.read(f"fit{len(more)}.json").law
        off.append(abs(float(law.loss(frame.N[5], frame.D[5])) / frame.loss[5] - 1))
        assert json.loads(capsys.readouterr().out)["settings"]["weighted"] == bool(more)
    assert off[0] > 0.05
    assert off[1] < 1e-3
    assert main(["fit", "--from", "fit1.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same"]
    frame.drop(columns="loss_se").to_csv("se.csv", index=False)
    assert main([*words, "--weigh-by-se"]) == 2
    assert "no column loss_se" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--law", "chinchila"], "known are chinchilla"), (["--objective", "l2"], "known are log-huber"),
        (["--objective", "squared", "--delta", "1"], "--delta"), (["--pin", "E"], "FIELD=VALUE"),
        (["--bound", "E=1"], "two numbers"), (["--level", "90"], "between 0 and 1"),
        (["--by", "colour"], "no column 'colour'"), (["--from", "x.json"], "one of the two"),
        (["--rivals", "kaplann"], "known are all, chinchilla"),
        (["--rivals", "all", "--no-rivals"], "one of the two"),
    ],
)  # fmt: skip
def test_bad_options_are_one_line(runs, tmp_path, capsys, monkeypatch, words, match):
    monkeypatch.chdir(tmp_path)
    runs.table[["id", "N", "D", "loss"]].to_csv("tiny.csv", index=False)
    assert main(["fit", "tiny.csv", "--starts", "8", "--resamples", "0", *words]) == 2
    error = capsys.readouterr().err
    assert match in error
    assert error.count("\n") == 1
