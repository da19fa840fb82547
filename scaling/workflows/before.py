"""Before a sweep: what its grid can tell, and what it would cost."""

from __future__ import annotations

import numpy as np

from scaling.planning.allocate import Currency
from scaling.planning.cost import Cost, Rates, of_hours
from scaling.planning.design import Target, check
from scaling.training.sweep import Plan

#: The question that a grid is checked against: the best N at this many times its largest budget.
ASKED = 10.0


def design_warning(todo: Plan) -> str | None:
    """What is doubtful about a grid's design: None where it tells the best N at ten times its largest run within a factor 2."""
    if not todo.specs:
        return None
    shapes = [spec.shape for spec in todo.specs]
    currency = Currency("exact", "N", shapes[0].vocab, shapes[0].context)
    target = Target("N", ASKED * max(spec.C for spec in todo.specs), currency)
    N, D = np.array([shape.N for shape in shapes], float), np.array([spec.tokens for spec in todo.specs], float)
    try:
        expected = check(N, D, target)
    except ValueError as error:
        return f"this grid cannot tell a law: {error}"
    if expected.answers:
        return None
    return (
        f"this grid would tell the best N at {target.C:.2g} FLOPs only within x/ {expected.worst:.3g} (90%). "
        f"`scaling design --check` says more, `scaling design` a better grid."
    )


def sweep_cost(seconds: float, devices: int, *, usd_per_hour: float | None = None, watts: float | None = None) -> Cost:
    """Dollars, kWh and kg CO2e of so many devices for so long, at a price and draw a device; None what is not known."""
    rates = Rates.of(None, usd_per_hour=usd_per_hour, watts=watts)
    return of_hours(rates, device_hours=seconds * devices / 3600, devices=devices)
