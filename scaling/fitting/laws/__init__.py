"""Laws: the loss as a function of parameters N and tokens D, one small frozen class each.

`LAWS` has them by name; the docstring of `scaling.fitting.laws.base` shows how to write your own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from scaling.fitting.laws.base import FLOPS_PER_ND as FLOPS_PER_ND
from scaling.fitting.laws.base import Law as Law
from scaling.fitting.laws.base import module as module
from scaling.fitting.laws.budget import Broken as Broken
from scaling.fitting.laws.budget import Envelope as Envelope
from scaling.fitting.laws.dense import Chinchilla as Chinchilla
from scaling.fitting.laws.dense import Coupled as Coupled
from scaling.fitting.laws.dense import DataConstrained as DataConstrained
from scaling.fitting.laws.dense import OverTraining as OverTraining
from scaling.fitting.laws.dense import Precision as Precision
from scaling.fitting.laws.kaplan import Kaplan as Kaplan
from scaling.fitting.laws.kaplan import KaplanD as KaplanD
from scaling.fitting.laws.kaplan import KaplanN as KaplanN
from scaling.fitting.laws.mixture import Granular as Granular
from scaling.fitting.laws.mixture import Routed as Routed
from scaling.fitting.laws.mixture import Sparse as Sparse

#: Command-line name -> class.
LAWS: dict[str, type[Law]] = {
    law.name: law
    for law in (
        Chinchilla, Kaplan, KaplanN, KaplanD, Coupled, DataConstrained, OverTraining, Envelope,
        Routed, Granular, Sparse, Precision, Broken,
    )
}  # fmt: skip


def from_json(payload: Mapping[str, Any]) -> Law:
    """The law that `to_json` wrote. Raises ValueError for a name that is not in LAWS or coefficients that do not fit it."""
    try:
        kind = LAWS[payload["law"]]
    except KeyError:
        raise ValueError(f"law {payload.get('law')!r}: known are {', '.join(sorted(LAWS))}.") from None
    params = payload["params"]
    if set(params) != set(kind.names()):
        raise ValueError(f"{kind.name}: coefficients {sorted(params)}, but it has {sorted(kind.names())}.")
    return kind(**params)


def iterate(kind: type[Law], draws: np.ndarray) -> Iterator[Law]:
    """One law a row of draws [S, P]."""
    for row in draws:
        yield kind(*(float(value) for value in row))
