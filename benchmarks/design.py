"""Does `scaling design` reach an even isoFLOP grid's interval with at most half its FLOPs? 100 planted laws, refitted.

For each planted law, losses with seed noise are drawn 400 times at the runs of (a) an even grid of 5 budgets 3x apart with 7
sizes each and (b) a design that may spend half of (a)'s FLOPs, with the same largest run and knowing only the prior that (a)
is centred by. Each table is refitted (least squares on log loss, Levenberg-Marquardt from the planted coefficients); the width
is the 5 to 95% range of the refitted log N* at 100 x the largest run. Two kinds of noise: the same everywhere, and rising as
C^-1/6 towards small budgets, which the design does not know.

    python benchmarks/design.py [--laws 100] [--out benchmarks/design.json]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from scaling.fitting.laws import Chinchilla
from scaling.planning.allocate import Currency, Line, Problem
from scaling.planning.design import BYTES, NOISE, Target, design, even_grid
from scaling.runs import to_json, write_whole

LARGEST = 1e12
REPLICATES = 400


def planted(rng: np.random.Generator, currency: Currency) -> Chinchilla:
    """A law with exponents, floor, best size and best loss at 1e12 FLOPs all away from the prior's."""
    alpha, beta = rng.uniform(0.27, 0.47, 2)
    N = 61e3 * np.exp(rng.normal(0, 0.4))
    D = LARGEST / float(currency.flops_per_token(N))
    excess = rng.uniform(0.7, 1.5)
    # At a 6ND optimum alpha A N^-alpha = beta B D^-beta; exact FLOPs move it by little.
    share = beta / (alpha + beta)
    A, B = excess * share * N**alpha, excess * (1 - share) * D**beta
    return Chinchilla(E=rng.uniform(0.4, 1.3), A=A, B=B, alpha=alpha, beta=beta)


def refit(law: Chinchilla, N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> Chinchilla:
    """Least squares on log loss for every row of loss [S, R], as one law of arrays [S]."""
    names = law.names()
    theta = np.log([getattr(law, name) for name in names]) + np.zeros((len(loss), 1))
    observed, damping = np.log(loss), np.full(len(loss), 1e-3)

    def residuals(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        E, A, B, alpha, beta = np.exp(theta).T[:, :, None]
        terms = np.stack(np.broadcast_arrays(E, A * N**-alpha, B * D**-beta), -1)
        total = terms.sum(-1)
        parts = terms / total[..., None]
        jacobian = np.concatenate(
            [parts, (-parts[..., 1] * alpha * np.log(N))[..., None], (-parts[..., 2] * beta * np.log(D))[..., None]], -1
        )
        return np.log(total) - observed, jacobian

    residual, jacobian = residuals(theta)
    value = (residual**2).sum(-1)
    for _ in range(100):
        hessian = np.einsum("srp,srq->spq", jacobian, jacobian)
        gradient = np.einsum("srp,sr->sp", jacobian, residual)
        diagonal = np.einsum("spp->sp", hessian)[..., None] * np.eye(5)
        step = np.linalg.solve(hessian + damping[:, None, None] * diagonal, -gradient[..., None])[..., 0]
        trial = theta + np.clip(step, -1, 1)
        found, columns = residuals(trial)
        better = (found**2).sum(-1) < value
        theta = np.where(better[:, None], trial, theta)
        residual, jacobian = (
            np.where(better[:, None], found, residual),
            np.where(better[:, None, None], columns, jacobian),
        )
        value = (residual**2).sum(-1)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-9, 1e6)
    return Chinchilla(*np.exp(theta).T)


def width(law: Chinchilla, cells: tuple[np.ndarray, np.ndarray], noise: np.ndarray, target: Target, seed: int) -> float:
    """The 5 to 95% range of log N* at the target's budget over refits to noisy losses."""
    N, D = cells
    rng = np.random.default_rng(seed)
    loss = law.loss(N, D) * np.exp(noise * rng.normal(size=(REPLICATES, len(N))))
    refitted = refit(law, N, D, loss)
    problem = Problem(refitted, target.currency, (Line("flops", target.C),))
    low, high = np.quantile(np.log(problem.best()[0]), [0.05, 0.95])
    return float(high - low)


def summary(ratios: np.ndarray) -> dict[str, float]:
    """Median and 90% range of width(design)/width(even), the share of laws at most 1, FLOPs for equal width."""
    equal = 0.5 * np.median(ratios) ** 2
    return {
        "width_ratio_median": float(np.median(ratios)),
        "width_ratio_p05": float(np.quantile(ratios, 0.05)),
        "width_ratio_p95": float(np.quantile(ratios, 0.95)),
        "share_at_most_one": float(np.mean(ratios <= 1)),
        "flops_share_for_equal_width": float(equal),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/design.json"))
    args = parser.parse_args()
    currency = Currency("exact", "N", 256, 64)
    target = Target("N", 100 * LARGEST, currency)
    grid = even_grid(BYTES, currency, LARGEST)
    even = np.array([cell.N for cell in grid]), np.array([cell.D for cell in grid])
    even_flops = sum(cell.C for cell in grid)
    started = time.perf_counter()
    plan = design(target, flops=even_flops / 2, max_run=LARGEST)
    seconds = time.perf_counter() - started
    bought = tuple(
        np.repeat([getattr(cell, name) for cell, _ in plan.cells], [seeds for _, seeds in plan.cells]) for name in "ND"
    )
    rng = np.random.default_rng(args.seed)
    laws = [planted(rng, currency) for _ in range(args.laws)]
    flat = lambda N, D: np.full(len(N), NOISE)  # noqa: E731
    rising = lambda N, D: NOISE * (currency.flops_per_token(N) * D / LARGEST) ** (-1 / 6)  # noqa: E731
    report = {"laws": args.laws, "replicates": REPLICATES, "seed": args.seed, "noise": NOISE, "prior": BYTES.to_json()}
    report |= {
        "even_flops": even_flops,
        "even_runs": len(grid),
        "design_flops": plan.flops,
        "design_runs": len(bought[0]),
    }
    report |= {"design_seconds": round(seconds, 2)}
    for name, noise in (("constant noise", flat), ("noise rising as C^-1/6", rising)):
        widths = [
            [width(law, cells, noise(*cells), target, seed) for cells in (bought, even)]
            for seed, law in enumerate(laws)
        ]
        found = np.array(widths)
        report[name] = {
            **summary(found[:, 0] / found[:, 1]),
            "factor_design_median": float(np.exp(np.median(found[:, 0]) / 2)),
            "factor_even_median": float(np.exp(np.median(found[:, 1]) / 2)),
        }
        print(name, report[name], flush=True)
    write_whole(args.out, to_json(report))
    print(
        f"design: {plan.flops:.3g} FLOPs in {len(bought[0])} runs; even: {even_flops:.3g} in {len(grid)}; {seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
