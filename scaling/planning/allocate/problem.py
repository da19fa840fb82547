"""Problem: a law, a currency and budgets; the N and D that they allow, by closed form where there is one, else by search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scaling.currency import Currency
from scaling.fitting.laws import Chinchilla, Law
from scaling.planning.allocate import closed, search
from scaling.planning.allocate.repetition import effective

#: log N is looked for between these.
_LOWEST, _HIGHEST = math.log(10), math.log(1e30)


@dataclass(frozen=True)
class Line:
    """One budget: per_flop x (training + serving FLOPs) + per_token x D <= limit, in the unit that its name says."""

    name: str
    limit: Any
    per_flop: Any = 1.0
    per_token: Any = 0.0


@dataclass(frozen=True)
class Problem:
    """Least loss within the lines, or least cost (of the first line) at a loss. Coefficients of the law may be arrays [S].

    `served` tokens cost a third of the training FLOPs a token, the forward pass (2N where training is 6N). `unique`
    tokens are repeated where D is more. `cap` and `fixed` bound N.
    """

    law: Law
    currency: Currency = field(default_factory=Currency)
    lines: tuple[Line, ...] = (Line("flops", math.inf),)
    served: float = 0.0
    unique: float | None = None
    cap: float | None = None
    fixed: float | None = None
    columns: Mapping[str, float] = field(default_factory=dict)

    def loss(self, N: Any, D: Any) -> Any:
        """The law's loss, with repeated tokens worth less than new ones."""
        if self.unique is not None and "U" not in self.law.columns:
            N, D = effective(self.law, N, D, self.unique)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            return self.law.loss(N, D, **self.columns)

    def flops(self, N: Any, D: Any) -> Any:
        """Training FLOPs."""
        return self.currency.flops_per_token(N) * D

    def serving(self, N: Any) -> Any:
        """FLOPs of serving."""
        if not self.served:
            return 0.0
        return self.currency.flops_per_token(N) * self.served / 3

    def spent(self, line: Line, N: Any, D: Any) -> Any:
        """What N and D take of a line."""
        return line.per_flop * (self.flops(N, D) + self.serving(N)) + line.per_token * D

    def tokens(self, N: Any, share: Any = 1.0) -> Any:
        """The most tokens that `share` of every line leaves for N; negative where serving alone is too much."""
        fit = [
            (share * line.limit - line.per_flop * self.serving(N))
            / (line.per_flop * self.currency.flops_per_token(N) + line.per_token)
            for line in self.lines
        ]
        return np.minimum.reduce(np.broadcast_arrays(*fit))

    def binding(self, N: float, D: float) -> str:
        """The name of the line that N and D exhaust most nearly."""
        return max(self.lines, key=lambda line: float(self.spent(line, N, D) / line.limit)).name

    @property
    def has_closed_form(self) -> bool:
        """True under L = E + A/N^alpha + B/D^beta and lines that are all multiples of 6ND."""
        counted = self.currency.flops == "6ND" and self.currency.active == 1 and self.currency.shape is None
        plain = isinstance(self.law, Chinchilla) and counted and self.unique is None
        return plain and not self.served and not any(np.any(line.per_token) for line in self.lines)

    def best(self, share: Any = 1.0) -> tuple[Any, Any]:
        """(N, D) of least loss within `share` of every line."""
        if self.fixed is not None:
            return self.fixed, self._positive(self.tokens(np.float64(self.fixed), share))
        if self.has_closed_form:
            C = np.minimum.reduce(np.broadcast_arrays(*(share * line.limit / line.per_flop for line in self.lines)))
            N, _ = self.law.optimum(C)
            N = N if self.cap is None else np.minimum(N, self.cap)
            return N, C / (6 * N)
        return self._search(share)

    def _search(self, share: Any = 1.0) -> tuple[Any, Any]:
        def loss(log_N: np.ndarray) -> np.ndarray:
            N = np.exp(log_N)
            D = self.tokens(N, share)
            return np.where(D > 1, self.loss(N, np.maximum(D, 1.0)), np.inf)

        N = np.exp(self._minimise(loss, share))
        return N, self._positive(self.tokens(N, share))

    def _minimise(self, f: Any, *like: Any) -> np.ndarray:
        coefficients = [getattr(self.law, name) for name in self.law.names()]
        shape = np.broadcast_shapes(*(np.shape(value) for value in (*coefficients, *like, *self._line_values())))
        top = _HIGHEST if self.cap is None else math.log(self.cap)
        found = search.minimise(f, _LOWEST, top, shape)
        # Falling to where there is room for one token alone is falling all the way, too.
        at_edge = shape == () and bool(np.isfinite(f(found)) and not np.isfinite(f(found + 1e-3)))
        if shape == () and (at_edge or not _LOWEST + 1e-6 < found < _HIGHEST - 1e-6):
            raise ValueError(
                f"{self.law.name} has no best size between 10 and 1e30 parameters for this question: its loss falls all the "
                "way. Fix the size (--fixed-params), or use a law with terms in N and D."
            )
        return found

    def _line_values(self) -> list[Any]:
        return [value for line in self.lines for value in (line.limit, line.per_flop, line.per_token)]

    def _positive(self, D: Any) -> Any:
        if np.ndim(D) == 0 and not D > 0:
            line = self.lines[0]
            raise ValueError(
                f"{line.name} = {float(line.limit):.4g} and {self.served:.3g} served tokens contradict: serving alone takes "
                "all of it. Raise the budget, or serve fewer tokens or a smaller model."
            )
        return D

    def least(self, loss: Any) -> tuple[Any, Any]:
        """(N, D) that reach the loss at the least cost of the first line; infinite where nothing does."""
        if self.fixed is not None:
            return self.fixed, self.tokens_at(np.float64(self.fixed), loss)
        if self.has_closed_form:
            C = closed.least_flops(self.law, loss)
            N, D = self.law.optimum(C)
            if self.cap is None or np.all(self.cap >= N):
                return N, D
            N = np.minimum(N, self.cap)
            return N, self.tokens_at(N, loss)
        line = self.lines[0]

        def cost(log_N: np.ndarray) -> np.ndarray:
            N = np.exp(log_N)
            D = self.tokens_at(N, loss)
            finite = np.isfinite(D)
            return np.where(finite, np.log(self.spent(line, N, np.where(finite, D, 1.0))), np.inf)

        N = np.exp(self._minimise(cost, loss))
        return N, self.tokens_at(N, loss)

    def tokens_at(self, N: Any, loss: Any) -> Any:
        """The tokens that bring N parameters to the loss; infinite where none do."""
        if isinstance(self.law, Chinchilla) and self.unique is None:
            return closed.tokens_at(self.law, N, loss)
        log_D = search.root(lambda u: self.loss(N, np.exp(u)) - loss, np.zeros(np.shape(N)), np.full(np.shape(N), 92.0))
        return np.where(log_D > 91, np.inf, np.exp(log_D))

    def with_line(self, line: Line) -> Problem:
        """The same problem under one other line."""
        return replace(self, lines=(line,))
