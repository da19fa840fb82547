"""The question: what is asked makes sense, as lines and a cap of a Problem, and its N and D or the contradiction in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from scaling.fitting.laws import Law
from scaling.planning.allocate.budgets import Budgets
from scaling.planning.allocate.problem import Line, Problem
from scaling.planning.cost import Rates, training_memory
from scaling.planning.cost.architectures import TRAINING_BYTES


def require_sense(
    budgets: Budgets,
    loss: float | None,
    inference_tokens: float,
    usd_per_token: float,
    unique_tokens: float | None,
    fixed: float | None,
    cap: float | None,
    total_over_active: float,
    level: float,
) -> None:
    """Raise ValueError for what is missing, is not a number that makes sense, or contradicts."""
    if not budgets.given and loss is None:
        raise ValueError(
            "nothing to plan with: give a budget (--flops, --usd, --hours with --devices, --kwh, --kg-co2e) or --loss."
        )
    for name, value in (
        ("loss", loss), ("unique-tokens", unique_tokens), ("fixed-params", fixed), ("max-params", cap),
        ("inference-tokens", inference_tokens or None), ("data-usd-per-token", usd_per_token or None),
    ):  # fmt: skip
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} = {value:g}: needed a positive number.")
    if not 0 < level < 1:
        raise ValueError(f"level = {level:g}: intervals hold a share between 0 and 1, e.g. 0.9.")
    if not 1 <= total_over_active < math.inf:
        raise ValueError(f"total-over-active = {total_over_active:g}: all parameters are at least the active ones.")
    if fixed is not None and cap is not None and fixed > cap:
        raise ValueError(f"fixed-params = {fixed:g} and max-params = {cap:g} contradict. Give one of them.")
    if usd_per_token and loss is None and budgets.usd is None:
        raise ValueError(
            "data-usd-per-token needs a budget in dollars (--usd) or a --loss: nothing else is paid in money."
        )


def columns_of(law: Law, given: Mapping[str, float], unique_tokens: float | None) -> dict[str, float]:
    """What the law's loss takes beside N and D. Raises ValueError for a column that it does not know."""
    extra = [name for name in law.columns if name not in ("N", "D", "C")]
    for name in given:
        if name not in extra:
            knows = ", ".join(extra) or "N and D alone"
            raise ValueError(f"column {name}: the law {law.name} does not know it; it knows {knows}.")
    unique = {"U": unique_tokens} if unique_tokens and "U" in extra else {}
    return {**unique, **given}


def caps_of(
    max_params: float | None, max_memory_gb: float | None, rates: Rates, total_over_active: float, fixed: float | None
) -> dict[str, float]:
    """The most parameters (those a token meets) that each limit allows, by its name; those that are not set are left out."""
    caps = {} if max_params is None else {"max-params": max_params}
    if max_memory_gb is not None:
        precision = rates.precision if rates.precision in TRAINING_BYTES else "bf16"
        per_parameter = training_memory(1.0, precision).state * total_over_active
        held = max_memory_gb * 1e9 / per_parameter
        if not held >= 1:
            raise ValueError(f"max-memory = {max_memory_gb:g} GB: needed a positive number that holds a model.")
        if fixed is not None and fixed > held:
            raise ValueError(
                f"fixed-params = {fixed:g} and max-memory = {max_memory_gb:g} GB contradict: training it takes "
                f"{fixed * per_parameter / 1e9:.4g} GB. Give one of them."
            )
        caps["max-memory"] = held
    return caps


def lines_of(
    budgets: Budgets, rates: Rates, loss: float | None, usd_per_token: float, price: Any = 1.0, mfu: Any = 1.0
) -> tuple[Line, ...]:
    if loss is None:
        return budgets.lines(rates, usd_per_token, price, mfu)
    return (budgets.line("usd", rates, usd_per_token, price, mfu) if usd_per_token else Line("flops", math.inf),)


def answer(
    problem: Problem, budgets: Budgets, rates: Rates, loss: float | None, usd_per_token: float
) -> tuple[float, float]:
    """N and D as numbers. Raises ValueError for a loss that is out of reach, and for one that the budgets do not pay."""
    if loss is None:
        N, D = problem.best()
        return float(N), float(D)
    _require_above_floor(problem, loss)
    N, D = (float(value) for value in problem.least(loss))
    if not math.isfinite(D):
        limits = "max-params" if problem.cap is not None else "unique-tokens"
        raise ValueError(
            f"loss = {loss:g} and {limits} contradict: no number of tokens reaches it. Relax one of the two."
        )
    for line in budgets.lines(rates, usd_per_token):
        spent = float(problem.spent(line, N, D))
        if spent > line.limit * (1 + 1e-9):
            raise ValueError(
                f"loss = {loss:g} and {line.name} = {float(line.limit):.4g} contradict: the loss takes at least {spent:.4g} "
                f"{line.name}. Give one of them."
            )
    return N, D


def _require_above_floor(problem: Problem, loss: float) -> None:
    """Raise ValueError for a loss that endless data cannot reach, naming what stands in its way."""
    held, floor = floor_of(problem), floor_of(replace(problem, cap=None))
    if loss > held:
        return
    if loss > floor:
        raise ValueError(
            f"loss = {loss:g} and at most {problem.cap:.4g} parameters (max-params or max-memory) contradict: with endless "
            f"data they reach {held:.4f}. Relax one of the two."
        )
    what = f"with {problem.fixed:.4g} parameters" if problem.fixed else "of this law"
    raise ValueError(
        f"loss = {loss:g} is at or below the floor {floor:.6f} {what}: no amount of data or compute reaches it. "
        f"Ask for more than {floor:.4f}" + (", or for more parameters." if problem.fixed else ".")
    )


def floor_of(problem: Problem) -> float:
    """The loss with endless data, and parameters where they are not fixed."""
    size = problem.fixed or problem.cap or 1e40
    return float(problem.loss(np.float64(size), np.float64(1e40)))
