"""Distillation: the loss of a student that learns from a teacher, with coefficients that you give.

    L_S = L_T + L_T^-c0 (1 + (L_T / (d1 L))^(1/f1))^(-c1 f1) (A/N^alpha + B/D^beta)^gamma

L_T is the teacher's loss and L(N, D) what the student would reach without one (Busbridge et al. 2025, arXiv 2502.08606,
equation 8). The form is theirs; their nine fitted numbers could not be read at a source, so none are built in.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.fitting.laws import Law
from scaling.planning.allocate.problem import Problem

#: FLOPs a token of the teacher's forward pass = 2 N_T.
FORWARD = 2.0


@dataclass(frozen=True)
class Coefficients:
    """The nine numbers of the law; A, B, alpha, beta, gamma are primed in the paper."""

    A: float
    B: float
    alpha: float
    beta: float
    gamma: float
    c0: float
    c1: float
    d1: float
    f1: float

    @classmethod
    def read(cls, text: str) -> Coefficients:
        """From NAME=NUMBER,... or a JSON file with these names. Raises ValueError for one that is missing or not positive."""
        names = [field.name for field in fields(cls)]
        given = _from_file(text) if Path(text).is_file() else _from_text(text)
        if set(given) != set(names):
            odd = sorted(set(given) ^ set(names))
            raise ValueError(f"--distillation {text}: needed exactly {', '.join(names)}; check {', '.join(odd)}.")
        for name, value in given.items():
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise ValueError(f"--distillation {text}: {name} = {value!r} has to be a positive number.")
        return cls(**given)


@dataclass(frozen=True)
class Teacher:
    """A teacher that exists already: its loss, its parameters (None where its logits are at hand), and the law's numbers."""

    loss: float
    coefficients: Coefficients
    N: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("teacher-loss", self.loss), ("teacher-params", self.N)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} = {value:g}: needed a positive number.")

    @property
    def flops_per_token(self) -> float:
        """What asking the teacher costs for each token of the student."""
        return FORWARD * (self.N or 0.0)

    def taught(self, problem: Problem) -> Problem:
        """The same problem with a student of this teacher, who is asked at every token and paid from every line."""
        asked = self.flops_per_token
        lines = tuple(replace(line, per_token=line.per_token + line.per_flop * asked) for line in problem.lines)
        return replace(problem, law=Student(problem.law, self), lines=lines)


@dataclass(frozen=True)
class Student(Law):
    """The loss of a student under a teacher; `alone` is the law that it would follow without one."""

    alone: Law
    teacher: Teacher

    name = "distillation"
    source = "Busbridge et al. 2025, equation 8"

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """None: nothing of it is fitted here."""
        return ()

    def loss(self, N: Any, D: Any, **columns: Any) -> Any:
        """Nats per token; arrays broadcast."""
        c, L_T = self.teacher.coefficients, self.teacher.loss
        behind = np.log(L_T / (c.d1 * self.alone.loss(N, D, **columns))) / c.f1
        gap = np.exp(-c.c1 * c.f1 * np.logaddexp(0.0, behind))
        return L_T + L_T**-c.c0 * gap * (c.A * N**-c.alpha + c.B * D**-c.beta) ** c.gamma


def _from_text(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        try:
            found[name] = float(value)
        except ValueError:
            what = f"{part!r} is not NAME=NUMBER" if equals else "no such file, and not NAME=NUMBER,..."
            raise ValueError(f"--distillation {text}: {what}.") from None
    return found


def _from_file(path: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--distillation {path}: not JSON ({error}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"--distillation {path}: needed one object of names and numbers.")
    return {name: value for name, value in found.items() if name != "source"}
