"""whatif: the same question under one lever at a time, and what each does to loss, dollars, kWh and kg CO2e."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from scaling.hardware import Accelerator
from scaling.planning.allocate.allocation import Allocation, allocate
from scaling.planning.allocate.subject import Subject
from scaling.planning.cost import Rates, cost

#: A region whose grid is nearly free of carbon: Quebec's, 2 to 30 g a kWh.
GREEN = "northamerica-northeast1"
#: Recomputing every activation runs the forward pass twice: 8ND of work for 6ND that count.
RECOMPUTED = 6 / 8


@dataclass(frozen=True)
class Lever:
    """One change to a plan: the difference in loss (nats), and the relative changes in cost; None where not known."""

    name: str
    loss: float | None
    usd: float | None
    kwh: float | None
    kg_co2e: float | None
    how: str
    N: float | None = None
    D: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def whatif(
    subject: Subject, plan: Allocation, rates_of: Callable[..., Rates], asked: Mapping[str, Any]
) -> tuple[Lever, ...]:
    """Every lever that applies, each against `plan`.

    `rates_of(**changes)` gives the plan's rates with some arguments of Rates.of changed. Levers of hardware ask the same
    question again, so a budget in dollars buys a better loss and a budget in FLOPs costs fewer dollars.
    """
    again = lambda name, how, **changes: _again(name, how, subject, plan, rates_of(**changes), asked)  # noqa: E731
    rates = plan.cost.rates
    levers: list[Lever] = []
    chip = None if rates.accelerator is None else Accelerator.named(rates.accelerator)
    for precision in ("fp8", "bf16", "tf32"):
        rate = None if chip is None else getattr(chip, precision)
        if rate is not None and precision != rates.precision and rates.peak_flops is not None:
            how = f"{rate:g} TFLOP/s at the same utilisation; its effect on the loss is not in this law"
            levers.append(again(f"{precision} arithmetic", how, precision=precision, peak_tflops=None))
    levers.append(
        again("recompute activations", "8ND of work for 6ND that count; activations shrink", mfu=rates.mfu * RECOMPUTED)
    )
    for price in ("spot", "committed"):
        usd = None if chip is None else chip.usd_per_hour(price)
        if usd is not None and rates.usd_per_hour is not None:
            how = f"{usd:g} $/h instead of {rates.usd_per_hour:g}"
            if price == "spot":
                how += ", preempted every 8 h, 2 min to save, 10 min to restart"
            levers.append(again(f"{price} price", how, price=price, usd_per_hour=None))
    if rates.g_per_kwh is not None:
        how = f"2 g CO2e a kWh instead of {rates.g_per_kwh:g}"
        levers.append(again(f"region {GREEN}", how, region=GREEN, g_per_kwh=None, pue=rates.pue))
    levers += _models(plan)
    levers += _laws(subject, plan, rates_of(), asked)
    return tuple(levers)


def _again(name: str, how: str, subject: Subject, plan: Allocation, rates: Rates, asked: Mapping[str, Any]) -> Lever:
    alone = replace(subject, draws=None)  # a lever has no interval
    found = allocate(alone, rates=rates, **{**asked, "price_range": None, "mfu_range": None, "force": True})
    return _against(name, how, plan, found.loss, found.N, found.D, found)


def _against(name: str, how: str, plan: Allocation, loss: float, N: float, D: float, found: Any) -> Lever:
    spent = found.cost if isinstance(found, Allocation) else found
    change = lambda new, old: None if new is None or not old else new / old - 1  # noqa: E731
    return Lever(
        name,
        loss - plan.loss,
        change(spent.usd, plan.cost.usd),
        change(spent.kwh, plan.cost.kwh),
        change(spent.kg_co2e, plan.cost.kg_co2e),
        how,
        N,
        D,
    )


def _models(plan: Allocation) -> list[Lever]:
    """Levers of the model: half the size at the same loss, and serving it in fewer bits."""
    problem = plan.problem
    levers = []
    half = plan.N / 2
    D = float(problem.tokens_at(np.float64(half), plan.loss))
    if np.isfinite(D):
        total = float(problem.flops(half, D) + problem.serving(half))
        served = "" if problem.served else "; pays once it serves more than it trained (--inference-tokens)"
        how = (
            f"half the parameters on {D / plan.D:.2f} x the tokens, the same loss, half the cost a served token{served}"
        )
        spent = cost(plan.cost.rates, flops=total, devices=plan.cost.devices)
        levers.append(_against("smaller and longer", how, plan, plan.loss, half, D, spent))
    return levers


#: Bits, and idle share of a mixture of experts, that the levers of the law try.
BITS, IDLE = 8, 7 / 8


def _laws(subject: Subject, plan: Allocation, rates: Rates, asked: Mapping[str, Any]) -> list[Lever]:
    """Levers that need more than a law in N and D: asked of it where it knows, else said to be unknown."""
    known, columns = subject.law.columns, dict(asked.get("columns") or {})
    unknown = lambda name, how: Lever(name, None, None, None, None, how)  # noqa: E731
    levers = []
    if "P_w" in known:
        bits = {**columns, "P_w": BITS, "P_a": BITS, "P_kv": BITS}
        how = "by this law, at the same FLOPs; arithmetic that is faster in 8 bits comes on top"
        levers.append(_again("train in 8 bits", how, subject, plan, rates, {**asked, "columns": bits}))
    else:
        levers.append(unknown("train in 8 bits: the loss", "fit the law `precision` on runs at several bits"))
    if "S" in known:
        mixed = {**asked, "columns": {**columns, "S": IDLE}, "active_share": 1 - IDLE}
        how = f"N counts all experts, {1 - IDLE:.3g} of them active; FLOPs count the active"
        levers.append(_again("mixture of experts", how, subject, plan, rates, mixed))
    else:
        how = "fit `moe-sparse` or `moe-granular`; FLOPs count active parameters, memory all (--total-over-active)"
        levers.append(unknown("mixture of experts", how))
    levers.append(
        unknown(
            "distil from a teacher",
            "the student's coefficients of the distillation law (Busbridge et al. 2025) could not be checked, so none are used",
        )
    )
    return levers
