"""allocate: what to train under a budget, or the least budget for a loss, with everything known about the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from scaling.planning.allocate import search
from scaling.planning.allocate.budgets import Budgets
from scaling.planning.allocate.problem import Line, Problem
from scaling.planning.allocate.question import answer, caps_of, columns_of, lines_of, require_sense
from scaling.planning.allocate.samples import Ranges, Samples, intervals, sample
from scaling.planning.allocate.subject import Subject
from scaling.planning.cost import Cost, Rates, cost
from scaling.shape import Shape

#: Multiples of the best N whose price is shown.
OFF = (0.25, 0.5, 2.0, 4.0)
#: Shares of the compute that the flatness bands may cost.
FLAT = (0.001, 0.01)


@dataclass(frozen=True)
class Allocation:
    """The answer: N parameters on D tokens, C training FLOPs in the law's currency, and the loss the law expects.

    `intervals` are of the level it holds, None where the law came without draws; an end that no resample reaches is None.
    `flat` are the ranges of N that cost less than that share of the compute; `off` the price of k x N, where the caps allow it.
    `binding` names the limits that hold: a budget or the loss, and the cap on N where it does.
    """

    N: float
    D: float
    C: float
    loss: float
    tokens_per_parameter: float
    binding: str
    used: Mapping[str, float]
    currency: str
    law: Mapping[str, Any]
    label: str
    verified: bool | None
    cost: Cost
    intervals: Mapping[str, Any] | None
    flat: Mapping[str, tuple[float, float]] | None
    off: tuple[Mapping[str, float | None], ...]
    decades_beyond: Mapping[str, float]
    uncertainty: Mapping[str, Any] | None
    subject: Subject = field(repr=False)
    problem: Problem = field(repr=False)
    serving_flops: float = 0.0
    saved: float | None = None
    epochs: float | None = None
    data_usd: float | None = None
    shape: Shape | None = None
    warnings: tuple[str, ...] = ()

    @property
    def total_flops(self) -> float:
        """Training and serving FLOPs together."""
        return self.C + self.serving_flops

    @property
    def total_usd(self) -> float | None:
        """Dollars of compute and of data; None where the price is not known."""
        return None if self.cost.usd is None else self.cost.usd + (self.data_usd or 0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("subject", "problem", "cost", "shape")
        }
        return {
            **plain,
            "flat": self.flat and {name: list(band) for name, band in self.flat.items()},
            "off": [dict(row) for row in self.off],
            "total_flops": self.total_flops,
            "total_usd": self.total_usd,
            "warnings": list(self.warnings),
            "cost": self.cost.to_json(),
            "shape": None if self.shape is None else {**asdict(self.shape), "N": self.shape.N},
        }


def allocate(
    source: Any,
    *,
    flops: float | None = None,
    usd: float | None = None,
    hours: float | None = None,
    devices: int | None = None,
    kwh: float | None = None,
    kg_co2e: float | None = None,
    loss: float | None = None,
    inference_tokens: float = 0.0,
    max_params: float | None = None,
    max_memory_gb: float | None = None,
    total_over_active: float = 1.0,
    unique_tokens: float | None = None,
    data_usd_per_token: float = 0.0,
    fixed_params: float | None = None,
    shape: bool = False,
    rates: Rates | None = None,
    price_range: tuple[float, float] | None = None,
    mfu_range: tuple[float, float] | None = None,
    level: float = 0.9,
    force: bool = False,
    vocab: int | None = None,
    context: int | None = None,
    columns: Mapping[str, float] | None = None,
    active_share: float = 1.0,
) -> Allocation:
    """The best N and D for a Fit, a Law or a Subject: least loss within the budgets, or least cost at `loss`.

    `columns` are what else the law knows (bits P_w, idle share S of a mixture of experts, granularity G); `active_share` is
    the share of N that a token meets, for FLOPs.

    Raises ValueError for a fit that is not verified (unless `force`), constraints that contradict (naming two), and a
    loss that the law cannot reach.
    """
    subject = Subject.of(source, vocab=vocab, context=context)
    subject = replace(subject, currency=replace(subject.currency, active=active_share))
    warnings = [*subject.warnings, *_certificate(subject, force)]
    rates = rates or Rates.of()
    budgets = Budgets(flops, usd, hours, devices, kwh, kg_co2e)
    if shape and subject.currency.flops == "6ND":
        subject = replace(subject, currency=replace(subject.currency, flops="exact"))
    require_sense(
        budgets,
        loss,
        inference_tokens,
        data_usd_per_token,
        unique_tokens,
        fixed_params,
        max_params,
        total_over_active,
        level,
    )
    caps = caps_of(max_params, max_memory_gb, rates, total_over_active, fixed_params)
    problem = Problem(
        law=subject.law,
        currency=subject.currency,
        lines=lines_of(budgets, rates, loss, data_usd_per_token),
        served=inference_tokens,
        unique=unique_tokens,
        cap=min(caps.values(), default=None),
        fixed=fixed_params,
        columns=columns_of(subject.law, columns or {}, unique_tokens),
    )
    N, D = answer(problem, budgets, rates, loss, data_usd_per_token)
    holding = _holding(caps, N)
    built = None
    if shape:
        built, problem, N, D = _snapped(problem, N, loss)
    C = float(problem.flops(N, D))
    serving = float(problem.serving(N))
    expected = float(problem.loss(N, D))
    at = problem if loss is None else problem.with_line(_reached(problem, N, D))
    used = {line.name: float(line_share(problem, line, N, D)) for line in budgets.lines(rates, data_usd_per_token)}
    beyond = subject.decades_beyond(N=N, D=D, C=C)
    ranges = Ranges.of(price_range, mfu_range, rates)
    samples = sample(subject, budgets, problem, rates, loss, data_usd_per_token, (N, D), ranges)
    return Allocation(
        N=N,
        D=D,
        C=C,
        loss=expected,
        tokens_per_parameter=D / N,
        binding=" and ".join(("loss" if loss is not None else problem.binding(N, D), *holding)),
        used=used,
        currency=str(subject.currency),
        law=subject.law.to_json(),
        label=subject.label,
        verified=subject.verified,
        cost=cost(rates, flops=C + serving, devices=devices),
        intervals=intervals(samples.everything, level) if samples.everything else None,
        flat=None
        if problem.fixed is not None
        else {f"{share:.1%}".replace(".0%", "%"): flat_band(at, share, N) for share in FLAT},
        off=() if problem.fixed is not None else off_optimum(at, OFF, N),
        decades_beyond=beyond,
        uncertainty=samples.split(level),
        serving_flops=serving,
        saved=_saved(problem, loss, C + serving),
        epochs=None
        if unique_tokens is None
        else max(D / unique_tokens, 1.0)
        if unique_tokens < D
        else D / unique_tokens,
        data_usd=data_usd_per_token * D if data_usd_per_token else None,
        shape=built,
        warnings=(*warnings, *_warnings(subject, beyond, problem, D, samples, holding)),
        subject=subject,
        problem=at,
    )


def flat_band(problem: Problem, share: float, N: float) -> tuple[float, float]:
    """The N for which the loss is no worse than the best with `share` less of every budget, around the best N."""
    worst = float(problem.loss(*problem.best(1 - share)))

    def spare(log_N: np.ndarray) -> np.ndarray:
        size = np.exp(log_N)
        D = problem.tokens(size)
        return np.where(D > 1, worst - problem.loss(size, np.maximum(D, 1.0)), -1.0)

    middle, reach = math.log(N), math.log(1e3)
    top = middle + reach if problem.cap is None else min(middle + reach, math.log(problem.cap))
    low = search.root(lambda u: spare(-u), np.float64(-middle), np.float64(reach - middle))
    high = search.root(spare, np.float64(middle), np.float64(max(top, middle)))
    return float(np.exp(-low)), float(np.exp(high))


def off_optimum(problem: Problem, ks: Sequence[float], N: float) -> tuple[dict[str, float | None], ...]:
    """What k x N costs at the same budgets: its loss (None where serving alone takes all), and the share of compute lost.

    Sizes above the cap are left out: the question does not allow them.
    """
    ks = [k for k in ks if problem.cap is None or k * N <= problem.cap]
    sizes = N * np.asarray(ks)
    D = problem.tokens(sizes)
    loss = problem.loss(sizes, np.maximum(D, 1.0))

    def spare(log_share: np.ndarray) -> np.ndarray:
        return loss - problem.loss(*problem.best(np.exp(-log_share)))

    lost = -np.expm1(-search.sections(spare, np.zeros(len(sizes)), np.full(len(sizes), math.log(1e6))))
    return tuple(
        {"k": float(k), "N": float(size), "loss": float(here), "compute_lost": float(gone)}
        if tokens > 1
        else {"k": float(k), "N": float(size), "loss": None, "compute_lost": 1.0}
        for k, size, tokens, here, gone in zip(ks, sizes, D, loss, lost)
    )


def _reached(problem: Problem, N: float, D: float) -> Line:
    """The first line, with what the answer spends as its limit: the same optimum seen as a budget."""
    line = problem.lines[0]
    return replace(line, limit=float(problem.spent(line, N, D)))


def line_share(problem: Problem, line: Line, N: float, D: float) -> float:
    """What share of a line's limit the answer takes."""
    return float(problem.spent(line, N, D) / line.limit)


def _holding(caps: Mapping[str, float], N: float) -> dict[str, float]:
    """The caps that hold N down, the least of them; none where N lies below."""
    least = min(caps.values(), default=math.inf)
    return {name: cap for name, cap in caps.items() if cap == least and cap * (1 - 1e-9) <= N}


def _snapped(problem: Problem, N: float, loss: float | None) -> tuple[Shape, Problem, float, float]:
    """The buildable shape nearest to N, and the problem with N fixed to it and its own exact FLOPs."""
    shape = problem.currency.snap(N)
    count = float(problem.currency.of_shape(shape))
    built = replace(problem, currency=problem.currency.built(shape), fixed=count, cap=None)
    D = float(built.tokens(np.float64(count)) if loss is None else built.tokens_at(np.float64(count), loss))
    if not (math.isfinite(D) and D > 0):
        raise ValueError(
            f"the nearest buildable shape has {count:,.0f} parameters, and no D fits it. Leave --shape out."
        )
    return shape, built, count, D


def _certificate(subject: Subject, force: bool) -> list[str]:
    if subject.verified is not False:
        return []
    if not force:
        raise ValueError(
            f"this fit is not verified ({subject.label}): its optimum is not certain, and an answer from it may be far off. "
            "See `scaling fit`'s certificate, or answer anyway with --force."
        )
    return ["NOT VERIFIED: the fit has no full certificate; this answer was forced."]


def _warnings(
    subject: Subject,
    beyond: Mapping[str, float],
    problem: Problem,
    D: float,
    samples: Samples,
    holding: Mapping[str, float],
) -> list[str]:
    found = []
    furthest = max(beyond, key=lambda name: beyond[name], default=None)
    if furthest is not None and beyond[furthest] > 0:
        low, high = subject.domain[furthest]
        size = "FAR BEYOND THE DATA" if beyond[furthest] > 2 else "beyond the data"
        found.append(
            f"{size}: {furthest} lies {beyond[furthest]:.2f} decades outside the {low:.3g} to {high:.3g} that was trained. "
            "The intervals hold only if the law does."
        )
    if not subject.domain:
        found.append("how far this extrapolates is not known: the coefficients do not say which runs they come from.")
    if problem.unique is not None and problem.unique < D and "U" not in subject.law.columns:
        found.append("what repeated tokens are worth is taken from Muennighoff et al. 2023, not from these runs.")
    for name, cap in holding.items():
        found.append(
            f"N is held down by the cap of {cap:.4g} parameters ({name}); the rest of the budget goes into tokens."
        )
    if samples.unreached:
        found.append(f"{samples.unreached:.1%} of the resamples never reach this loss, so upper ends are open.")
    return found


def _saved(problem: Problem, loss: float | None, total: float) -> float | None:
    """Share of the FLOPs saved by counting the serving, against the model that is best for training alone."""
    if not problem.served or loss is None or problem.fixed is not None:
        return None
    N, D = replace(problem, served=0.0).least(loss)
    return 1 - total / float(problem.flops(N, D) + problem.serving(N))
