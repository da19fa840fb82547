"""The fitting engine, measured: speed, memory, coverage; `fitting_scipy.py` holds the optimum against scipy's.

    python benchmarks/fitting.py speed    --data FOLDER     # chinchilla_epoch.csv in FOLDER, or SCALING_DATA
    python benchmarks/fitting.py starts   --data FOLDER     # Hoffmann et al.'s 4500, some minutes
    python benchmarks/fitting.py memory
    python benchmarks/fitting.py coverage --laws 1000

`speed` also times the package `chinchilla` where --peer names a Python that has it:

    python3.11 -m venv /tmp/peer && /tmp/peer/bin/pip install chinchilla
    python benchmarks/fitting.py speed --data FOLDER --peer /tmp/peer/bin/python

Each prints one JSON object; the seeds are in this file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import beta

from scaling.fitting.fit import fit, pose
from scaling.fitting.laws import Chinchilla
from scaling.fitting.objective import LogHuber, LogSquared, Objective
from scaling.fitting.solve import STATUS, Problem, minimise, propose, solve
from scaling.fitting.uncertainty import refit, resample, widening
from scaling.runs import Runs

#: One fit by the package, in its own process: rows N, D, loss on stdin.
PEER = """
import json, sys, tempfile, time
import pandas as pd
from chinchilla import Chinchilla
rows = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    grid = dict(E=[1., 1.5, 2.], A=[100., 1000.], B=[100., 1000.], alpha=[.25, .5], beta=[.25, .5])
    cc = Chinchilla(folder, grid, seed_ranges=dict(C=(1e18, 1e22), N_to_D=(10, 100)))
    for N, D, loss in rows:
        cc.append(N=N, D=D, C=6 * N * D, loss=loss)
    start = time.perf_counter()
    cc.fit(parallel=False)
    print(json.dumps({"seconds": time.perf_counter() - start, "starts": 48,
                      "params": {name: float(getattr(cc, name)) for name in ("E", "A", "B", "alpha", "beta")}}))
"""


def best_of(function: Callable[[], Any], times: int = 5) -> float:
    """Seconds of the fastest of some calls, after one that compiles."""
    function()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def objective_of(problem: Problem, weights: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Chinchilla's objective and exact gradient in centred coordinates, in numpy, for scipy."""
    kind, (x, y) = problem.objective, (np.log(problem.columns[name]) for name in ("N", "D"))
    x, y = x - x.mean(), y - y.mean()
    scale = 1 / max(kind.value(problem.loss, np.full_like(problem.loss, problem.loss.mean())), 1e-12)

    def value(u: np.ndarray) -> tuple[float, np.ndarray]:
        with np.errstate(all="ignore"):
            terms = np.exp([np.full_like(x, u[0]), u[1] - u[3] * x, u[2] - u[4] * y])
            f = terms.sum(0)
            r = np.log(problem.loss) - np.log(f) if kind.log else problem.loss - f
            psi = weights * np.clip(kind.slope * r, kind.low, kind.high)
            J = np.stack([terms[0], terms[1], terms[2], -x * terms[1], -y * terms[2]])
            return float((weights * kind.rho(r)).sum()) * scale, -(J / f if kind.log else J) @ psi * scale

    value.scale = scale  # type: ignore[attr-defined]
    return value


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Warm seconds of one fit from 500 starts and of 4000 refits, beside scipy's BFGS and the package `chinchilla`."""
    runs = Runs.read(Path(args.data) / "chinchilla_epoch.csv")
    runs = runs.where(runs.loss < 3.446995)
    problem = pose(runs)
    theta, value, _ = solve(problem)
    counts = resample(np.arange(len(runs)), 4000, 0)
    from_one = np.repeat(theta[None], 4000, 0)
    refits = lambda: minimise(problem, from_one, weights=counts, smooth=False)  # noqa: E731
    loose, tight = refits(), minimise(problem, from_one, weights=counts, smooth=True, tolerance=1e-12)
    x0 = theta[[0, 1, 2, 3, 4]].copy()
    x0[1] -= theta[3] * np.log(problem.columns["N"]).mean()
    x0[2] -= theta[4] * np.log(problem.columns["D"]).mean()
    begin = time.perf_counter()
    theirs = [
        minimize(objective_of(problem, row), x0, jac=True, method="BFGS", options={"gtol": 1e-9})
        for row in counts[:100]
    ]
    bfgs = (time.perf_counter() - begin) / 100
    excess = [found.fun / objective_of(problem, counts[0]).scale / v - 1 for found, v in zip(theirs, tight.value)]  # type: ignore
    report = {
        "objective": value,
        "fit_500_starts_seconds": best_of(lambda: solve(problem)),
        "refits_4000_seconds": best_of(refits),
        "refits_worst_excess": float(np.max(loose.value / tight.value - 1)),
        "scipy_bfgs_4000_refits_seconds": 4000 * bfgs,
        "scipy_bfgs_share_within_1e-7": float(np.mean(np.array(excess) <= 1e-7)),
        "whole_fit_seconds": best_of(lambda: fit(runs), 2),
    }
    report["cold_command_seconds"] = cold(args.data)
    if args.peer:
        rows = json.dumps(np.stack([runs.N, runs.D, runs.loss], -1).tolist())
        done = subprocess.run([args.peer, "-c", PEER], input=rows, capture_output=True, text=True, check=False)
        report["chinchilla_package"] = (
            json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else done.stderr[-300:]
        )
    return report


def starts(args: argparse.Namespace) -> dict[str, Any]:
    """Of Hoffmann et al.'s 4500 starts the share that ends within 1e-6 of the optimum, none re-seeded; BFGS on every ninth."""
    runs = Runs.read(Path(args.data) / "chinchilla_epoch.csv")
    problem = pose(runs.where(runs.loss < 3.446995))
    halves, fives = (0, 0.5, 1, 1.5, 2), (0, 5, 10, 15, 20, 25)
    parts = itertools.product(halves, halves, (-1, -0.5, 0, 0.5, 1), fives, fives)
    grid = np.array([(E, A, B, alpha, beta) for alpha, beta, E, A, B in parts], float)
    found = minimise(problem, grid)
    best, both = 1.0182740e-3, objective_of(problem, problem.weights)
    mean = [np.log(problem.columns[name]).mean() for name in ("N", "D")]
    ends = []
    for start in grid[::9]:
        centred = start - np.r_[0, start[3] * mean[0], start[4] * mean[1], 0, 0]
        ends.append(minimize(both, centred, jac=True, method="BFGS", options={"gtol": 1e-9}).fun / both.scale)  # type: ignore
    return {
        "hoffmann_starts": len(grid),
        "hoffmann_statuses": {STATUS[code]: int(np.sum(found.status == code)) for code in np.unique(found.status)},
        "hoffmann_share_within_1e-6": float(np.mean(found.value <= best * (1 + 1e-6))),
        "hoffmann_share_within_1e-6_bfgs_every_ninth": float(np.mean(np.array(ends) <= best * (1 + 1e-6))),
    }


def cold(data: str) -> float:
    """Seconds of `scaling fit` on Epoch's table in a process of its own: import, compile, fit, 4000 resamples, print."""
    with tempfile.TemporaryDirectory() as folder:
        table = str((Path(data) / "chinchilla_epoch.csv").resolve())
        begin = time.perf_counter()
        words = [sys.executable, "-m", "scaling", "fit", table, "-o", f"{folder}/fit.json"]
        subprocess.run(words, check=True, capture_output=True)
        return time.perf_counter() - begin


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Peak resident memory of 4000 resamples of 1000 runs."""
    rng = np.random.default_rng(0)
    N = 10 ** rng.uniform(7, 10, 1000)
    D = 20 * N * 10 ** rng.normal(0, 0.4, 1000)
    loss = Chinchilla(1.7, 400.0, 600.0, 0.34, 0.3).loss(N, D) * np.exp(0.01 * rng.normal(size=1000))
    problem = Problem(Chinchilla, LogHuber(), {"N": N, "D": D}, loss, np.ones(1000))
    theta, _, _ = solve(problem)
    start = time.perf_counter()
    refit(problem, theta, resample(np.arange(1000), 4000, 0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"peak_gib": peak, "refits_seconds": time.perf_counter() - start}


def designs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (N, D): a grid of sizes and ratios, isoFLOP curves, and runs scattered as a table of somebody's would be."""
    N, ratio = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 3e9, 6), np.geomspace(2, 200, 8)))
    C = np.repeat(np.geomspace(1e18, 1e21, 6), 7)
    size = np.sqrt(C / 120) * np.tile(np.geomspace(1 / 4, 4, 7), 6)
    rng = np.random.default_rng(5)
    anywhere = 10 ** rng.uniform(7, 10, 120)
    scattered = anywhere * 10 ** rng.uniform(0.3, 2.3, 120)
    return {
        "6 sizes x 8 ratios": (N, ratio * N),
        "6 isoFLOP budgets x 7": (size, C / 6 / size),
        "120 scattered": (anywhere, scattered),
    }


def coverage(args: argparse.Namespace) -> dict[str, Any]:
    """How often the 90% bootstrap interval of a covers the truth: planted laws by design and objective, log-normal noise of 1%.

    Laws are fitted a hundred in a batch, each from eight starts and from the truth; 400 resamples each. `unwidened` is the
    same without the small-sample factor of `uncertainty.widen`. With --log FILE every batch is kept there, and a measurement
    that was stopped goes on.
    """
    log, report = Path(args.log) if args.log else None, {}
    kept = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    for (name, (N, D)), kind in itertools.product(designs().items(), (LogSquared(), LogHuber(1e-3))):
        what = f"{name}, {kind.name}"
        batches = [row for row in kept if row["what"] == what]
        laws, loss = planted(args.laws, N, D)
        for first in range(sum(row["laws"] for row in batches), args.laws, 100):
            each = slice(first, min(first + 100, args.laws))
            batches.append({"what": what, **covered(laws[each], loss[each], N, D, kind, seed=first)})
            if log:
                with log.open("a") as file:
                    file.write(json.dumps(batches[-1]) + "\n")
        of = sum(row["laws"] for row in batches)
        report[what] = {"laws": of, "runs": len(N), "resamples": 400}
        for how in ("covered", "unwidened"):
            hits = sum(row[how] for row in batches)
            report[what] |= {how: hits / of, f"{how}_binomial_95": binomial(hits, of)}
        print(what, report[what], file=sys.stderr, flush=True)
    return report


def planted(count: int, N: np.ndarray, D: np.ndarray) -> tuple[list[Chinchilla], np.ndarray]:
    """Laws drawn at random, and their losses [count, R] with noise of 1%."""
    rng = np.random.default_rng(0)
    draw = rng.uniform
    laws = [
        Chinchilla(draw(1.2, 2.2), 10 ** draw(2.2, 3), 10 ** draw(2.2, 3.3), *draw(0.28, 0.4, 2)) for _ in range(count)
    ]
    return laws, np.stack([law.loss(N, D) for law in laws]) * np.exp(0.01 * rng.normal(size=(count, len(N))))


def covered(
    laws: list[Chinchilla], loss: np.ndarray, N: np.ndarray, D: np.ndarray, kind: Objective, seed: int
) -> dict[str, int]:
    """Of how many laws the interval covers a, with the small-sample factor and without."""
    R, resamples = len(N), 400
    problem = Problem(Chinchilla, kind, {"N": N, "D": D}, loss[0], np.ones(R))
    truth = problem.to_fitted(np.array([list(law.params.values()) for law in laws]))
    starts = [np.r_[propose(replace(problem, loss=row), 8), t[None]] for row, t in zip(loss, truth)]
    which = np.repeat(np.arange(len(laws)), list(map(len, starts)))
    found = minimise(problem, np.concatenate(starts), loss=loss[which])
    best = np.array([np.flatnonzero(which == k)[np.nanargmin(found.value[which == k])] for k in range(len(laws))])
    theta, again = found.theta[best], np.repeat(np.arange(len(laws)), resamples)
    counts = resample(np.arange(R), len(again), seed)
    draws = minimise(problem, theta[again], weights=counts, loss=loss[again], smooth=False).theta
    hits = {"laws": len(laws)}
    for how, factor in (("covered", widening(problem, R)), ("unwidened", 1.0)):
        spread = theta[again] + factor * (draws - theta[again])
        a = (spread[:, 4] / (spread[:, 3] + spread[:, 4])).reshape(len(laws), resamples)
        low, high = np.quantile(a, [0.05, 0.95], axis=1)
        truths = np.array([law.exponents[0] for law in laws])
        hits[how] = int(np.sum((low <= truths) & (truths <= high)))
    return hits


def binomial(hits: int, of: int) -> list[float]:
    """The 95% interval of a share (Clopper and Pearson 1934)."""
    return [float(beta.ppf(0.025, hits, of - hits + 1)), float(beta.ppf(0.975, hits + 1, of - hits))]


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "starts", "memory", "coverage"))
    parser.add_argument("--data", default=os.environ.get("SCALING_DATA", "../shared/data"))
    parser.add_argument("--peer", help="a Python with the package chinchilla")
    parser.add_argument("--laws", type=int, default=1000)
    parser.add_argument("--log", help="where `coverage` keeps its batches")
    args = parser.parse_args()
    measure = {"speed": speed, "starts": starts, "memory": memory, "coverage": coverage}[args.what]
    warnings.simplefilter("ignore")
    json.dump({"what": args.what, **measure(args)}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
