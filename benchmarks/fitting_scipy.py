"""Never above scipy: the solver's objective against the best that scipy's optimisers find, over generated tables.

    python benchmarks/fitting_scipy.py search --tables 0:100 --starts 200 > low.jsonl     # scipy alone, half an hour in all
    python benchmarks/fitting_scipy.py search --tables 100:200 --starts 200 > high.jsonl
    python benchmarks/fitting_scipy.py check benchmarks/fitting_scipy.jsonl > benchmarks/fitting_scipy.json

A table is drawn from its number: law, objective, noise, outliers, design and size. scipy gets what a careful user would
give it: exact gradients in float64, N and D in units of their geometric mean, positive coefficients as logarithms, an
objective of order one; BFGS from every start, then BFGS to its end, Nelder-Mead and L-BFGS-B from the best. None of its
starts is ours. `check` needs scipy's numbers only, so a changed solver is held against the same optima in minutes.

Chinchilla's, Kaplan's and the coupled law are fitted inside their domains (their docstrings say why). scipy searched
without them at first; tables where ours ended above that were searched again inside the domain, by a logistic change of
coordinates and then L-BFGS-B with bounds. These rows of `fitting_scipy.jsonl` say "domain": true ("k": of k alone, the
exponents being free) and count instead of the earlier ones.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from scaling.fitting.laws import Chinchilla, Coupled, Kaplan, Law, OverTraining
from scaling.fitting.objective import Absolute, Asymmetric, Huber, LogHuber, LogSquared, Objective, Squared
from scaling.fitting.solve import Problem, float64, solve

#: Both solvers' rounding, as a part of the objective, and of a loss.
ROUNDING, RESOLUTION = 1e-9, 1e-16


def generated(seed: int, most: int = 1000) -> Problem:
    """A table with law, objective, noise, outliers, design and size (8 to `most` runs) drawn at random."""
    rng = np.random.default_rng(seed)
    law = _law(rng)
    R = int(np.exp(rng.uniform(np.log(8), np.log(most))))
    N = 10 ** rng.uniform(6, 9.5, R)
    D = N * 20 * 10 ** (rng.uniform(0.05, 1.2) * rng.normal(size=R))
    outliers = (rng.random(R) < 0.1) * rng.exponential(0.1, R) * rng.integers(0, 2)
    loss = law.loss(N, D) * np.exp(10 ** rng.uniform(-4, -1.5) * rng.normal(size=R) + outliers)
    columns = {"N": N, "D": D}
    return Problem(type(law), _objective(rng), columns, loss, np.ones(R))


def _law(rng: np.random.Generator) -> Law:
    """A law of one of four kinds; half are Chinchilla's."""
    E, A, B = rng.uniform(0.5, 2.5), 10 ** rng.uniform(1.5, 3.5), 10 ** rng.uniform(1.5, 4)
    alpha, beta = rng.uniform(0.2, 0.6, 2)
    kind = rng.choice(["chinchilla"] * 3 + ["over-training", "kaplan", "coupled"])
    if kind == "over-training":
        return OverTraining(E, A / 2, B / 4, rng.uniform(0.1, 0.25))
    if kind == "kaplan":
        return Kaplan(10 ** rng.uniform(12, 15), 10 ** rng.uniform(12, 15), *rng.uniform(0.05, 0.15, 2))
    if kind == "coupled":
        return Coupled(E, A, B, alpha, beta, rng.uniform(0.6, 1.2))
    return Chinchilla(E, A, B, alpha, beta)


def _objective(rng: np.random.Generator) -> Objective:
    kinds = (LogHuber(10 ** rng.uniform(-4, -2)), LogHuber(), Huber(10 ** rng.uniform(-3, -1)), Squared(), LogSquared(),
             Absolute(), Asymmetric())  # fmt: skip
    return kinds[rng.choice(len(kinds), p=[0.25, 0.15, 0.2, 0.15, 0.15, 0.05, 0.05])]


def draw_start(law: type[Law], rng: np.random.Generator) -> np.ndarray:
    """A random start of scipy's in fitted coordinates, for N and D in units of their geometric mean."""
    wide = lambda low, high: rng.uniform(low, high)  # noqa: E731
    E, terms = wide(-1, 1.2), rng.uniform(-4, 1, 2)
    if law is Chinchilla:
        return np.r_[E, terms, rng.uniform(0.05, 1, 2)]
    if law is OverTraining:
        return np.r_[E, terms, wide(0.02, 0.6)]
    if law is Kaplan:
        aN, aD = rng.uniform(0.02, 0.6, 2)
        sizes = rng.uniform(-1, 1.5, 2) / (aN, aD)
        return np.r_[sizes, np.log(aN), np.log(aD)]
    k = wide(0.3, 1.6)
    return np.r_[E, terms / k, rng.uniform(0.05, 1, 2), np.log(k)]


def objective_of(problem: Problem, natural: bool = False) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Objective (scaled to order one, `.scale`) and exact gradient in fitted coordinates of centred columns, for scipy.

    Coefficients with bounds are logistic functions of their coordinates, but where `natural`.
    """
    kind, law, R = problem.objective, problem.law, len(problem.loss)
    width = 16 * -(-R // 16)  # so that few sizes are compiled
    pad = np.r_[np.arange(R), np.zeros(width - R, int)]
    centred = {name: (v / np.exp(np.log(v).mean()))[pad] for name, v in problem.columns.items()}
    weights, loss = np.r_[problem.weights, np.zeros(width - R)], problem.loss[pad]
    scale = 1 / max(kind.value(problem.loss, np.full_like(problem.loss, problem.loss.mean())), 1e-12)
    positive, (low, high) = problem.positive, problem.box
    bounded = np.isfinite(low) & np.isfinite(high) & (not natural)

    def value(theta: Any) -> Any:
        inside = jnp.where(bounded, low, 0.0) + jnp.where(bounded, high - low, 0.0) * jax.nn.sigmoid(theta)
        theta = jnp.where(bounded, inside, theta)
        params = [jnp.exp(theta[i]) if positive[i] else theta[i] for i in range(len(positive))]
        f = law(*params).loss(**centred)
        r = jnp.log(loss) - jnp.log(f) if kind.log else loss - f
        if kind.has_corner:
            return scale * jnp.sum(weights * jnp.where(r > 0, kind.high, kind.low) * r)
        psi = jnp.clip(kind.slope * r, kind.low, kind.high)
        return scale * jnp.sum(weights * (psi * r - psi**2 / (2 * kind.slope)))

    compiled = jax.jit(jax.value_and_grad(value))

    def both(theta: np.ndarray) -> tuple[float, np.ndarray]:
        found, gradient = compiled(theta)
        return float(found), np.asarray(gradient)

    both.scale = scale  # type: ignore[attr-defined]
    return both


def best_of_scipy(problem: Problem, starts: int, iterations: int, seed: int) -> float:
    """The least objective, summed, that scipy's optimisers find from random starts."""
    rng, found = np.random.default_rng(10_000 + seed), []
    with float64(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = objective_of(problem)
        bfgs = lambda x, most: minimize(both, x, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": most})  # noqa: E731
        for _ in range(starts):
            ended = bfgs(unbounded(problem, draw_start(problem.law, rng)), iterations)
            found += [(float(ended.fun), ended.x)] if np.isfinite(ended.fun) else []
        for _, x in sorted(found, key=lambda pair: pair[0])[:5]:
            ended = bfgs(x, 2000)
            found.append((float(ended.fun), ended.x))
        tight = {"xatol": 1e-12, "fatol": 1e-15, "maxfev": 800}
        last = minimize(
            lambda x: both(x)[0], min(found, key=lambda pair: pair[0])[1], method="Nelder-Mead", options=tight
        )
        found.append((float(last.fun), last.x))
        last = minimize(both, last.x, jac=True, method="L-BFGS-B", options={"ftol": 1e-16, "gtol": 1e-12})
        found.append((float(last.fun), last.x))
        if problem.law.domain:
            found.append((_within(problem, min(found, key=lambda pair: pair[0])[1]), last.x))
    return min(value for value, _ in found) / both.scale  # type: ignore[attr-defined]


def unbounded(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """The coordinates of `objective_of` of a point inside the bounds."""
    low, high = problem.box
    with np.errstate(all="ignore"):
        part = (theta - low) / (high - low)
        return np.where(np.isfinite(low) & np.isfinite(high), np.log(part / (1 - part)), theta)


def _within(problem: Problem, u: np.ndarray) -> float:
    """The least objective by L-BFGS-B with bounds, from a point in `objective_of`'s coordinates."""
    low, high = problem.box
    both = objective_of(problem, natural=True)
    with np.errstate(all="ignore"):
        inside = low + (high - low) / (1 + np.exp(-u))
    start = np.where(np.isfinite(low) & np.isfinite(high), inside, u)
    tight = {"ftol": 1e-16, "gtol": 1e-12, "maxiter": 5000}
    return float(minimize(both, start, jac=True, method="L-BFGS-B", bounds=list(zip(low, high)), options=tight).fun)


def search(args: argparse.Namespace) -> None:
    """scipy's best of each table, one line each."""
    span = args.tables
    for seed in range(*map(int, span.split(":"))) if ":" in span else map(int, span.split(",")):
        if generated(seed).law.name in args.skip.split(","):
            continue
        least = best_of_scipy(generated(seed), args.starts, args.iterations, seed)
        row = {"table": seed, "starts": args.starts, "iterations": args.iterations, "scipy": least}
        row |= {"domain": True} if generated(seed).law.domain else {}
        print(json.dumps(row), flush=True)


def check(args: argparse.Namespace) -> None:
    """Our objective of every table beside scipy's; `above` are the tables where ours is the larger."""
    found = [json.loads(line) for name in args.files for line in Path(name).read_text().splitlines()]
    found = [row for row in found if generated(row["table"]).law.name not in args.skip.split(",")]
    found = {row["table"]: row for row in found}  # a later row of a table counts instead of an earlier one
    log = Path(args.log) if args.log else None
    done = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    tables = [row for row in done if row["scipy"] == found[row["table"]]["scipy"]]
    left = [row for table, row in found.items() if table not in {row["table"] for row in tables}]
    for row in sorted(left, key=_compiled_as):
        tables.append(_beside(row))
        if log:
            with log.open("a") as file:
                file.write(json.dumps(tables[-1]) + "\n")
    tables.sort(key=lambda row: row["table"])
    summary = {
        "above": [row for row in tables if row["excess"] > ROUNDING],
        "below": sum(row["excess"] < -ROUNDING for row in tables),
        "verified": sum(row["verified"] for row in tables),
    }
    lines = ",\n".join("  " + json.dumps(row) for row in tables)
    print(f'{json.dumps(summary, indent=1)[:-2]},\n "tables": [\n{lines}\n ]\n}}')


def _compiled_as(row: dict[str, Any]) -> tuple[Any, ...]:
    """Sorts tables that are compiled alike together."""
    problem = generated(row["table"])
    return problem.law.name, problem.objective.log, len(problem.loss), row["table"]


def _beside(row: dict[str, Any]) -> dict[str, Any]:
    problem = generated(row["table"])
    theta, _, proof = solve(problem)
    ours = problem.objective.value(problem.loss, problem.predict(theta), problem.weights)
    kinds = {"law": problem.law.name, "objective": problem.objective.name, "runs": len(problem.loss)}
    return {**row, **kinds, "ours": ours, "excess": (ours - RESOLUTION) / row["scipy"] - 1, "verified": proof.verified}


def main() -> None:
    """Search or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "check"))
    parser.add_argument("files", nargs="*", help="what `search` printed")
    parser.add_argument("--tables", default="0:200", metavar="FIRST:END or a,b,c")
    parser.add_argument("--skip", default="", metavar="LAW,...", help="tables of these laws are left out")
    parser.add_argument("--log", help="where `check` keeps its rows: a check that was stopped goes on")
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument(
        "--iterations", type=int, default=150, help="of BFGS from each start; the best go on to their end"
    )
    args = parser.parse_args()
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # scipy waits for every evaluation anyway
    {"search": search, "check": check}[args.what](args)


if __name__ == "__main__":
    main()
