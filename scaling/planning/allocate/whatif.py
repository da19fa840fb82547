"""whatif: the same question under one lever at a time, and what each does to loss, dollars, kWh and kg CO2e."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from scaling.currency import Currency
from scaling.fitting.laws import Chinchilla
from scaling.fitting.published import PUBLISHED
from scaling.hardware import Accelerator
from scaling.planning.allocate.allocation import Allocation, allocate
from scaling.planning.allocate.distillation import Teacher
from scaling.planning.allocate.problem import Line, Problem
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
    subject: Subject,
    plan: Allocation,
    rates_of: Callable[..., Rates],
    asked: Mapping[str, Any],
    teacher: Teacher | None = None,
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
            how = f"{rate:g} TFLOP/s at the same utilisation"
            faster = rates_of(precision=precision, peak_tflops=None)
            name = f"{precision} arithmetic"
            levers.append(
                _in_bits(name, how, subject, plan, faster, asked)
                if precision == "fp8"
                else _again(name, how, subject, plan, faster, asked)
            )
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
    levers.append(_distilled(plan, asked.get("loss"), teacher))
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
#: Published laws that are asked where the plan's own law knows neither.
BITS_LAW, IDLE_LAW = "kumar", "abnar"
#: A law whose own loss at the plan's FLOPs is more than this many times the plan's is of far larger runs: it is not asked.
FAR_OFF = 2.0


def _in_bits(name: str, how: str, subject: Subject, plan: Allocation, rates: Rates, asked: Mapping[str, Any]) -> Lever:
    """The question asked again with 8 bits in weights, activations and cache: by this law, or with N worth less."""
    bits = {"P_w": BITS, "P_a": BITS, "P_kv": BITS}
    if "P_w" in subject.law.columns:
        columns = {**dict(asked.get("columns") or {}), **bits}
        return _again(name, f"{how}; the loss by this law", subject, plan, rates, {**asked, "columns": columns})
    if type(subject.law) is not Chinchilla:
        return Lever(name, None, None, None, None, f"{how}; what it does to this law's loss is not known")
    law, borrowed = subject.law, PUBLISHED[BITS_LAW]
    kept = float(borrowed.law.kept(**bits) / borrowed.law.kept(16.0, 16.0, 16.0))
    smaller = replace(subject, law=replace(law, A=law.A * kept**-law.alpha))
    said = f"{how}; a parameter counts as {kept:.2f} (borrowed: {borrowed.source.split(',')[0]})"
    return _again(name, said, smaller, plan, rates, asked)


def _laws(subject: Subject, plan: Allocation, rates: Rates, asked: Mapping[str, Any]) -> list[Lever]:
    """Levers that need more than a law in N and D: asked of it where it knows, else of a published law."""
    levers = [_in_bits("train in 8 bits", "at the same rates", subject, plan, rates, asked)]
    if "S" in subject.law.columns:
        columns = {**dict(asked.get("columns") or {}), "S": IDLE}
        how = f"N counts all experts, {1 - IDLE:.3g} of them active; FLOPs count the active; the loss by this law"
        mixed = {**asked, "columns": columns, "active_share": 1 - IDLE}
        levers.append(_again("mixture of experts", how, subject, plan, rates, mixed))
    else:
        levers.append(_borrowed_experts(plan, asked.get("loss")))
    return levers


def _borrowed_experts(plan: Allocation, loss: float | None) -> Lever:
    """What idle experts change under a published law: its loss at the plan's FLOPs, or its FLOPs at the same loss."""
    borrowed = PUBLISHED[IDLE_LAW]
    line = Line("flops", plan.total_flops)
    dense = Problem(borrowed.law, lines=(line,), served=plan.problem.served, columns={"S": 0.0})
    mixed = replace(dense, currency=Currency(active=1 - IDLE), columns={"S": IDLE})
    how = (
        f"{1 - IDLE:.3g} of all parameters active; borrowed: what it changes under {borrowed.source.split(',')[0]}'s own law "
        "at these FLOPs; memory counts all"
    )
    before = float(dense.loss(*dense.best()))
    if before > FAR_OFF * plan.loss:
        how = f"not known: {borrowed.source.split(',')[0]}'s law is of far larger runs, it gives {before:.3g} nats at these FLOPs"
        return Lever("mixture of experts", None, None, None, None, how)
    if loss is None:
        N, D = mixed.best()
        return Lever("mixture of experts", float(mixed.loss(N, D)) - before, 0.0, 0.0, 0.0, how, float(N), float(D))
    N, D = mixed.least(before)
    saved = float(mixed.flops(N, D) + mixed.serving(N)) / plan.total_flops - 1
    return Lever("mixture of experts", 0.0, saved, saved, saved, how, float(N), float(D))


def _distilled(plan: Allocation, loss: float | None, teacher: Teacher | None) -> Lever:
    """A student of a teacher that exists, at the same budgets, or at the same loss."""
    unknown = lambda how: Lever("distil from a teacher", None, None, None, None, how)  # noqa: E731
    if teacher is None:
        return unknown(
            "give --teacher-loss and --distillation: the law is Busbridge et al.'s, its nine numbers are yours"
        )
    if plan.problem.unique is not None:
        return unknown("what a teacher's words are worth when they repeat (--unique-tokens) is not known")
    if loss is not None and loss <= teacher.loss:
        return unknown(f"this law lets no student below its teacher's loss of {teacher.loss:g}")
    problem = teacher.taught(plan.problem)
    N, D = (float(value) for value in (problem.best() if loss is None else problem.least(loss)))
    if not np.isfinite(D):
        return unknown("no number of tokens brings a student of this teacher to the loss")
    extra = teacher.flops_per_token * D
    total = float(problem.flops(N, D) + problem.serving(N)) + extra
    paid = (
        f"{teacher.N:.3g} parameters asked at every token" if teacher.N else "its logits at hand, nothing paid for them"
    )
    how = f"a teacher of loss {teacher.loss:g} that exists, {paid}; coefficients as given"
    spent = cost(plan.cost.rates, flops=total, devices=plan.cost.devices)
    return _against("distil from a teacher", how, plan, float(problem.loss(N, D)), N, D, spent)
