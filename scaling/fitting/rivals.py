"""Rivals: what other laws answer from the same runs, and whether the runs show that they predict worse.

A bootstrap takes the law for granted, so it understates what is unknown far from the runs. Laws that predict each budget from
the smaller ones as well as the fitted one does are as good a reading of the runs, whatever they answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scaling.fitting.compare import Candidate, Comparison, compare
from scaling.fitting.counting import Counting
from scaling.fitting.laws import Chinchilla, Coupled, Law
from scaling.fitting.objective import Objective
from scaling.fitting.uncertainty import sizes
from scaling.runs import Runs

#: Most starts of a rival: its answer is looked at beside the fit, not certified like it.
STARTS = 100


def alternatives(own: Candidate) -> tuple[Candidate, ...]:
    """The laws to put beside a law of N and D where none are named: cheap ones that are near it.

    Chinchilla's, the coupled law that holds it (one more exponent), and Chinchilla's with one exponent for both terms, which is
    Gadre et al.'s over-training law in other letters. None where the law does not divide a budget between N and D.
    """
    if not {"N", "D"} <= set(own.law.columns):
        return ()
    near = (Candidate(Chinchilla), Candidate(Chinchilla, tie={"beta": "alpha"}))
    near = (Candidate(Coupled), *near) if own.law is Chinchilla else near
    return tuple(each for each in near if each != own)


def beside(
    runs: Runs,
    own: Candidate,
    others: Sequence[type[Law] | Candidate],
    objective: Objective,
    flops: Sequence[float],
    starts: int = STARTS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The fitted law and the others as plain values, the best prediction first: coefficients, error, answers at `flops`."""
    compared = compare(runs, [own, *others], objective, starts=min(starts, STARTS), seed=seed)
    counting = Counting.of(runs)
    return [_entry(compared, i, own.name, flops, counting) for i in range(len(compared.contenders))]


def _entry(compared: Comparison, index: int, own: str, flops: Sequence[float], counting: Counting) -> dict[str, Any]:
    each = compared.contenders[index]
    return {
        "law": each.name, "fitted": each.name == own, "params": dict(each.params), "objective": each.value,
        "verified": each.verified, "rolling_error": each.rolling_error, "behind": each.behind, "behind_se": each.behind_se,
        "told_apart": each.told_apart, "answers": sizes(each.law, flops, counting) if each.law else [], "why_not": each.why,
    }  # fmt: skip
