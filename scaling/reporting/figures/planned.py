"""What a fit's law, and each of its bootstrap laws, says is best: the curves that figures draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.planning.allocate.problem import Line, Problem
from scaling.planning.allocate.subject import Subject

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit

#: A band asks at most this many bootstrap laws where the optimum has a closed form, and where it has to be searched for.
MOST_CLOSED, MOST_SEARCHED = 4000, 150


def problem(fit: Fit | Subject, C: Any) -> Problem:
    """Least loss within C FLOPs, counted as in the runs of the fit; C broadcasts."""
    subject = Subject.of(fit)
    return Problem(subject.law, subject.currency, (Line("flops", C),))


def drawn(fit: Fit | Subject, C: Any) -> Problem:
    """The same for bootstrap laws: coefficients are [S, 1], so that answers are [S, K] for C [K]."""
    subject = Subject.of(fit)
    assert subject.draws is not None
    fitted = problem(subject, C)
    most = MOST_CLOSED if fitted.has_closed_form else MOST_SEARCHED
    rows = np.unique(np.linspace(0, len(subject.draws) - 1, most).astype(int))
    law = type(subject.law)(*(column[:, None] for column in subject.draws[rows].T))
    return Problem(law, fitted.currency, fitted.lines)


def effective_share(asked: Problem, N: np.ndarray) -> np.ndarray:
    """C' / C: an optimal run with C' FLOPs has the loss that N [K] parameters reach with C; [K] or [S, K].

    Read off 48 optimal runs from C / 3000 to C, linearly in log C' between them.
    """
    shares = np.geomspace(1 / 3000, 1, 48)
    reached = asked.loss(N, asked.tokens(N))
    optimal = asked.loss(*asked.best(shares))
    rows = zip(np.atleast_2d(reached), np.broadcast_to(optimal, (*np.shape(np.atleast_2d(reached))[:1], len(shares))))
    found = [np.exp(np.interp(-there, -best, np.log(shares))) for there, best in rows]
    return np.reshape(found, np.shape(reached))
