"""What a fit's law, and each of its bootstrap laws, says is best: the curves that figures draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.planning.allocate import Line, Problem, Subject

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit

#: A band asks all bootstrap laws where the optimum has a closed form; where it has to be searched for, as many as come to
#: this many searches.
MOST_SEARCHES = 6000


def problem(fit: Fit | Subject, C: Any) -> Problem:
    """Least loss within C FLOPs, counted as in the runs of the fit; C broadcasts."""
    subject = Subject.of(fit)
    return Problem(subject.law, subject.currency, (Line("flops", C),))


def drawn(fit: Fit | Subject, C: Any, searches: int) -> Problem:
    """The same for bootstrap laws: coefficients are [S, 1], so that answers are [S, K] for C [K].

    `searches` is how many optima will be asked of each law: spread evenly over the draws, only so many laws are taken.
    """
    subject = Subject.of(fit)
    assert subject.draws is not None
    fitted = problem(subject, C)
    most = len(subject.draws) if fitted.has_closed_form else MOST_SEARCHES // searches
    rows = np.unique(np.linspace(0, len(subject.draws) - 1, max(2, most)).astype(int))
    law = type(subject.law)(*(column[:, None] for column in subject.draws[rows].T))
    return Problem(law, fitted.currency, fitted.lines)


#: Optimal runs that an effective share of compute is read off.
SHARES = 48


def effective_share(asked: Problem, N: np.ndarray) -> np.ndarray:
    """C' / C: an optimal run with C' FLOPs has the loss that N [K] parameters reach with C; [K] or [S, K].

    Read off `SHARES` optimal runs from C / 3000 to C, linearly in log C' between them.
    """
    shares = np.geomspace(1 / 3000, 1, SHARES)
    reached = asked.loss(N, asked.tokens(N))
    optimal = asked.loss(*asked.best(shares))
    rows = zip(np.atleast_2d(reached), np.broadcast_to(optimal, (*np.shape(np.atleast_2d(reached))[:1], len(shares))))
    found = [np.exp(np.interp(-there, -best, np.log(shares))) for there, best in rows]
    return np.reshape(found, np.shape(reached))
