"""Problem: one table, one law, one objective, and what is known of the coefficients beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.fitting.laws import Law
from scaling.fitting.objective import Objective


class FitError(ValueError):
    """A fit that cannot be trusted at all."""


@dataclass(frozen=True)
class Problem:
    """One table, one law, one objective, and what is known of the coefficients beforehand.

    `columns` [R] each and `loss` [R] are as measured; `weights` [R]. `pin` fixes coefficients, `tie` maps a coefficient
    to the one it equals (or to (name, factor)), `bound` gives (low, high), `prior` gives (mean, standard error), all in
    the law's own units. `dispersion` is what one unit of log likelihood is worth in the objective, for priors.
    """

    law: type[Law]
    objective: Objective
    columns: Mapping[str, np.ndarray]
    loss: np.ndarray
    weights: np.ndarray
    pin: Mapping[str, float] = field(default_factory=dict)
    tie: Mapping[str, str | tuple[str, float]] = field(default_factory=dict)
    bound: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    prior: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    dispersion: float = 1.0

    def __post_init__(self) -> None:
        known = self.law.names()
        for what, given in (("pin", self.pin), ("tie", self.tie), ("bound", self.bound), ("prior", self.prior)):
            for name in given:
                if name not in known:
                    raise ValueError(f"{what} {name}: {self.law.name} has the coefficients {', '.join(known)}.")
        for name, (leader, factor) in self.links.items():
            if leader not in known or leader in self.tie or leader == name:
                raise ValueError(
                    f"tie {name}={leader}: needed another coefficient of {', '.join(known)}, itself not tied."
                )
            if (name in self.law.positive) != (leader in self.law.positive):
                raise ValueError(
                    f"tie {name}={leader}: one must be positive and the other need not be; they cannot be one."
                )
            if name in self.law.positive and factor != 1:
                raise ValueError(f"tie {name}={factor:g}*{leader}: a factor is for exponents only.")
        for name in set(self.pin) & set(self.tie):
            raise ValueError(f"{name} is pinned and tied; one of the two.")
        for name, value in self.pin.items():
            if name in self.law.positive and not value > 0:
                raise ValueError(f"pin {name}={value:g}: {name} must be positive.")
        for name, (low, high) in self.bound.items():
            if not low < high or (name in self.law.positive and low < 0):
                raise ValueError(
                    f"bound {name}={low:g}:{high:g}: needed low < high"
                    + (", and not below nought." if name in self.law.positive else ".")
                )
        for name, (_, error) in self.prior.items():
            if not error > 0:
                raise ValueError(f"prior {name}: its standard error {error:g} must be positive.")

    @property
    def target(self) -> np.ndarray:
        """What the law is compared with: log loss or loss, [R]."""
        return np.log(self.loss) if self.objective.log else self.loss

    @property
    def positive(self) -> np.ndarray:
        """[P] of bool: the coefficients fitted as logarithms."""
        return np.array([name in self.law.positive for name in self.law.names()])

    def to_fitted(self, values: np.ndarray) -> np.ndarray:
        """Coefficients [..., P] in fitted coordinates."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.positive, np.log(values), values)

    def to_natural(self, theta: np.ndarray) -> np.ndarray:
        """Fitted coordinates [..., P] as coefficients."""
        with np.errstate(over="ignore"):
            return np.where(self.positive, np.exp(np.where(self.positive, theta, 0.0)), theta)

    def predict(self, theta: np.ndarray) -> np.ndarray:
        """Loss [R] of one point in fitted coordinates."""
        return np.broadcast_to(self.law(*self.to_natural(theta)).loss(**self.columns), self.loss.shape)

    def constrain(self, theta: np.ndarray) -> np.ndarray:
        """Points [S, P] with pins, ties and bounds put in force."""
        theta = np.clip(theta, *self.box)
        names = self.law.names()
        for name, value in self.pin.items():
            index = names.index(name)
            theta[:, index] = self.to_fitted(np.full(len(names), value))[index]
        for follower, (leader, factor) in self.links.items():
            theta[:, names.index(follower)] = factor * theta[:, names.index(leader)]
        return theta

    @property
    def free(self) -> np.ndarray:
        """[P] of bool: neither pinned nor tied to another."""
        return np.array([name not in self.pin and name not in self.tie for name in self.law.names()])

    @property
    def ties(self) -> np.ndarray:
        """[P, P]: how a step in the free coefficients moves all of them."""
        names, matrix = self.law.names(), np.eye(len(self.law.names()))
        for follower, (leader, factor) in self.links.items():
            matrix[names.index(follower)] = factor * matrix[names.index(leader)]
        return matrix

    @property
    def links(self) -> dict[str, tuple[str, float]]:
        """Tied coefficient -> (the one it follows, the factor between them)."""
        return {name: (to, 1.0) if isinstance(to, str) else (to[0], float(to[1])) for name, to in self.tie.items()}

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) [P] in fitted coordinates: the user's bounds, and the law's domain where the user gave none."""
        low, high = np.full((2, len(self.law.names())), -np.inf)
        high = -low
        for name, (least, most) in {**self.law.domain, **self.bound}.items():
            index = self.law.names().index(name)
            low[index], high[index] = self.to_fitted(np.full((2, len(low)), [[least], [most]]))[:, index]
        return low, high
