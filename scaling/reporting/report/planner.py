"""The planner: the report's page that answers again when a budget or a price is moved. Its arithmetic is assets/planner.js."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scaling.currency import BEND, EMBEDDINGS, GROWTH, LEAST_DEPTH, WIDTH, Currency
from scaling.fitting import isoflop
from scaling.fitting.laws import Chinchilla, Coupled, DataConstrained, Kaplan, Law, OverTraining
from scaling.fitting.laws.base import FLOPS_PER_ND
from scaling.hardware import TRAINING_PRECISIONS, Accelerator, Region
from scaling.planning.allocate import Subject
from scaling.planning.allocate.repetition import R_D, R_N
from scaling.planning.allocate.samples import EVEN
from scaling.planning.cost import Preemption, training_memory
from scaling.planning.cost.rates import (
    DEFAULT_ACCELERATOR,
    DEFAULT_MFU,
    DEFAULT_PUE,
    DEFAULT_REGION,
    DEFAULT_SERVER_FACTOR,
)
from scaling.reporting.study import Study

#: What of a chip the arithmetic needs.
_CHIP = ("name", *TRAINING_PRECISIONS, "watts", "power_share", "server_factor", "usd_on_demand", "usd_committed",
         "usd_spot", "price_date", "memory_gb")  # fmt: skip


@dataclass(frozen=True)
class Canonical:
    """A law as L = E + (A / N^alpha + B / D^beta)^k, the form that the page knows; entries are numbers or arrays [S].

    `r_d` and `r_n` are what repeated tokens are worth; None where unique tokens cannot be asked of this law. `kinked` is 1
    where parameters in excess of what D suits are worth less even if no token repeats.
    """

    E: Any
    A: Any
    B: Any
    alpha: Any
    beta: Any
    k: Any = 1.0
    r_d: Any = None
    r_n: Any = None
    kinked: float = 0.0


def _kaplan(law: Kaplan) -> Canonical:
    power = law.aN / law.aD
    return Canonical(0.0, law.Nc**power, law.Dc, power, 1.0, law.aD)


def _over_training(law: OverTraining) -> Canonical:
    per_nd = FLOPS_PER_ND**-law.eta
    return Canonical(law.E, law.a * per_nd, law.b * per_nd, 2 * law.eta, 2 * law.eta)


#: Law -> its form on the page.
FORMS: dict[type[Law], Callable[[Any], Canonical]] = {
    Chinchilla: lambda law: Canonical(law.E, law.A, law.B, law.alpha, law.beta, 1.0, R_D, R_N),
    Coupled: lambda law: Canonical(law.E, law.A, law.B, law.alpha, law.beta, law.k, R_D, R_N),
    DataConstrained: lambda law: Canonical(law.E, law.A, law.B, law.alpha, law.beta, 1.0, law.R_D, law.R_N, 1.0),
    Kaplan: _kaplan,
    OverTraining: _over_training,
}


def serves(study: Study) -> bool:
    """Whether the study's law has the form that the planner's arithmetic knows."""
    return study.subject is not None and type(study.subject.law) in FORMS


def facts(subject: Subject, level: float = 0.9) -> dict[str, Any]:
    """Everything that the arithmetic rests on, as plain JSON values. Raises ValueError for a law of another form."""
    form = FORMS.get(type(subject.law))
    if form is None:
        known = ", ".join(law.name for law in FORMS)
        raise ValueError(f"the planner knows the laws {known}, and this is {subject.law.name}.")
    law, drawn = asdict(form(subject.law)), {} if subject.draws is None else asdict(form(subject.drawn()))
    varied = [name for name, values in drawn.items() if np.ndim(values)]
    return {
        "law": {name: None if value is None else float(value) for name, value in law.items()},
        "columns": varied,
        "draws": _packed(np.stack([drawn[name] for name in varied], -1)) if varied else None,
        "even": list(EVEN),
        "currency": _currency(subject.currency),
        "accelerators": [{key: getattr(chip, key) for key in _CHIP} for chip in Accelerator.all() if _trains(chip)],
        "regions": [
            {"name": place.name, "g_per_kwh": place.g_per_kwh, "pue": place.pue}
            for place in Region.all()
            if place.g_per_kwh is not None
        ],
        "defaults": {
            "accelerator": DEFAULT_ACCELERATOR,
            "region": DEFAULT_REGION,
            "mfu": DEFAULT_MFU,
            "pue": DEFAULT_PUE,
            "server_factor": DEFAULT_SERVER_FACTOR,
            "spot_overhead": Preemption().overhead,
            "training_bytes": {name: training_memory(1.0, name).state for name in TRAINING_PRECISIONS},
        },
        "domain": {name: list(ends) for name, ends in subject.domain.items()},
        "level": level,
    }


def data(study: Study) -> dict[str, Any]:
    """The facts, and what the planner's picture shows: the runs, and the budget to begin with."""
    assert study.subject is not None
    runs = study.runs
    return {
        **facts(study.subject),
        "verified": study.subject.verified is not False,
        "begin": study.budget,
        "unit": runs.loss_unit,
        "runs": [[float(N), float(C), float(loss)] for N, C, loss in zip(runs.N, runs.C, runs.loss)],
        "budgets": [float(f"{budget.C:.4g}") for budget in isoflop.budgets(runs)],
    }


def script_json(payload: object) -> str:
    """JSON that is safe inside a <script> element, whatever names are in it."""
    text = json.dumps(payload, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packed(draws: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(draws, "<f8").tobytes()).decode()


def _currency(currency: Currency) -> dict[str, Any]:
    dial = {
        "width": WIDTH,
        "growth": GROWTH,
        "least": LEAST_DEPTH,
        "bend": BEND,
        "embeddings": EMBEDDINGS[currency.count],
    }
    return {**{key: value for key, value in asdict(currency).items() if key != "shape"}, **dial, "says": str(currency)}


def _trains(chip: Accelerator) -> bool:
    return any(getattr(chip, precision) is not None for precision in TRAINING_PRECISIONS)
