"""The planner: the report's page that answers again when a budget or a price is moved. Its arithmetic is assets/planner.js."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Any

import numpy as np

from scaling.fitting.laws import Chinchilla
from scaling.hardware import TRAINING_PRECISIONS, Accelerator, Region
from scaling.planning.allocate import Subject
from scaling.planning.allocate.currency import EMBEDDINGS, GROWTH, WIDTH, Currency
from scaling.planning.allocate.repetition import R_D, R_N
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


def serves(study: Study) -> bool:
    """Whether the planner's arithmetic is that of the study's law."""
    return study.subject is not None and isinstance(study.subject.law, Chinchilla)


def facts(subject: Subject, level: float = 0.9) -> dict[str, Any]:
    """Everything that the arithmetic rests on, as plain JSON values. Raises ValueError for another law than Chinchilla's."""
    if not isinstance(subject.law, Chinchilla):
        raise ValueError(f"the planner's arithmetic is that of the Chinchilla law, and this is {subject.law.name}.")
    return {
        "law": subject.law.params,
        "draws": None if subject.draws is None else _packed(subject.draws),
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
            "r_d": R_D,
            "r_n": R_N,
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
    }


def script_json(payload: object) -> str:
    """JSON that is safe inside a <script> element, whatever names are in it."""
    text = json.dumps(payload, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packed(draws: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(draws, "<f8").tobytes()).decode()


def _currency(currency: Currency) -> dict[str, Any]:
    dial = {"width": WIDTH, "growth": GROWTH, "embeddings": EMBEDDINGS[currency.count]}
    return {**{key: value for key, value in asdict(currency).items() if key != "shape"}, **dial, "says": str(currency)}


def _trains(chip: Accelerator) -> bool:
    return any(getattr(chip, precision) is not None for precision in TRAINING_PRECISIONS)
