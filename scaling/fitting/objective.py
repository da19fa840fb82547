"""What a fit minimises: the sum or mean over runs of rho(residual), written once for every objective.

All five share one shape. The influence of a residual r is psi(r) = clip(slope r, low, high) and the objective its
integral: squared error never clips, Huber clips at plus and minus delta, absolute error is the limit of a steep
slope, and unequal limits make a lower envelope. So the solver knows one objective, given by three numbers.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class Objective:
    """Base of the objectives. `log` says whether the residual is log L - log f (relative error) or L - f (nats).

    `slope`, `low`, `high` give psi(r) = clip(slope r, low, high); a slope of infinity is a corner at r = 0.
    """

    reduction: Reduction = field(default="sum", kw_only=True)
    name: ClassVar[str]
    log: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.reduction not in ("sum", "mean"):
            raise ValueError(f"reduction {self.reduction!r}: an objective is a `sum` or a `mean` over runs.")
        for key, value in asdict(self).items():
            if key != "reduction" and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{self.name}: {key} = {value!r} must be a positive number.")

    @property
    def slope(self) -> float:
        raise NotImplementedError

    @property
    def low(self) -> float:
        raise NotImplementedError

    @property
    def high(self) -> float:
        raise NotImplementedError

    @property
    def has_corner(self) -> bool:
        """True where rho has a corner at zero, so that optimality is a matter of subgradients."""
        return math.isinf(self.slope)

    def residual(self, loss: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Observed minus predicted, in log loss or in nats: negative where the law lies above the run."""
        return np.log(loss) - np.log(predicted) if self.log else loss - predicted

    def rho(self, residual: np.ndarray) -> np.ndarray:
        """The objective's term of each residual."""
        if self.has_corner:
            return np.where(residual > 0, self.high, self.low) * residual
        psi = np.clip(self.slope * residual, self.low, self.high)
        return psi * residual - psi**2 / (2 * self.slope)

    def value(self, loss: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
        """The objective of a prediction, [R] against [R], summed or averaged with the weights."""
        weights = np.ones(np.shape(loss)) if weights is None else weights
        total = float(np.sum(weights * self.rho(self.residual(loss, predicted))))
        return total / float(np.sum(weights)) if self.reduction == "mean" else total

    @property
    def describe(self) -> str:
        """One line for people: name, limits, log or raw, sum or mean."""
        limits = "".join(f", {key} {value:g}" for key, value in asdict(self).items() if key != "reduction")
        return f"{self.name}{limits}, {self.reduction} over runs, on {'log loss' if self.log else 'loss in nats'}"

    def to_json(self) -> dict[str, Any]:
        """The objective as plain values; `from_json` reads it back."""
        return {"name": self.name, **asdict(self), "residual": "log" if self.log else "raw"}


@dataclass(frozen=True)
class LogHuber(Objective):
    """Huber(log L - log f), summed: the objective of Hoffmann et al. 2022 (section 3.3), delta = 1e-3.

    Huber(r) is r^2 / 2 within delta and delta (|r| - delta / 2) beyond: piecewise smooth and, in the law's
    coefficients, not convex.
    """

    delta: float = 1e-3
    name: ClassVar[str] = "log-huber"

    @property
    def slope(self) -> float:
        return 1.0

    @property
    def low(self) -> float:
        return -self.delta

    @property
    def high(self) -> float:
        return self.delta


@dataclass(frozen=True)
class Huber(LogHuber):
    """Huber(L - f) with delta in nats: least squares that a few bad runs cannot drag."""

    delta: float = 1e-2
    name: ClassVar[str] = "huber"
    log: ClassVar[bool] = False


@dataclass(frozen=True)
class Squared(Objective):
    """(L - f)^2: least squares on the loss in nats."""

    name: ClassVar[str] = "squared"
    log: ClassVar[bool] = False

    @property
    def slope(self) -> float:
        return 2.0

    @property
    def low(self) -> float:
        return -math.inf

    @property
    def high(self) -> float:
        return math.inf


@dataclass(frozen=True)
class LogSquared(Squared):
    """(log L - log f)^2: least squares on relative error, the likelihood of log-normal noise."""

    name: ClassVar[str] = "log-squared"
    log: ClassVar[bool] = True


@dataclass(frozen=True)
class Absolute(Objective):
    """|log L - log f|: least absolute deviations, which is log-Huber as delta goes to nought (over delta).

    The optimum passes exactly through as many runs as the law has coefficients, give or take curvature.
    """

    name: ClassVar[str] = "absolute"

    @property
    def slope(self) -> float:
        return math.inf

    @property
    def low(self) -> float:
        return -1.0

    @property
    def high(self) -> float:
        return 1.0


@dataclass(frozen=True)
class Asymmetric(Objective):
    """|L - f|, counted `weight` times where the law lies above the run: a lower envelope of the runs.

    The default of the package `chinchilla` (Takano 2024): noise and bad recipes only ever raise a loss.
    """

    weight: float = 10.0
    name: ClassVar[str] = "asymmetric"
    log: ClassVar[bool] = False

    @property
    def slope(self) -> float:
        return math.inf

    @property
    def low(self) -> float:
        return -self.weight

    @property
    def high(self) -> float:
        return 1.0


#: Command-line name -> class.
OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind for kind in (LogHuber, Huber, Squared, LogSquared, Absolute, Asymmetric)
}


def from_json(payload: dict[str, Any]) -> Objective:
    """The objective that `to_json` wrote; extra keys (value, n, residual) are passed over."""
    kind = OBJECTIVES[payload["name"]]
    return kind(**{own.name: payload[own.name] for own in fields(kind) if own.name in payload})
