"""Published best sizes for a budget, to draw beside one's own: N*(C) and D*(C) of Kaplan, Hoffmann, the refit, Llama 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scaling.currency import Currency
from scaling.fitting.published import PUBLISHED
from scaling.planning.allocate import Problem
from scaling.planning.allocate.problem import Line

#: FLOPs of a petaflop-day, Kaplan et al.'s unit of compute.
PF_DAY = 1e15 * 86400


@dataclass(frozen=True)
class Best:
    """(N*, D*) at C FLOPs as somebody published them, on their own corpus and in their own counts."""

    label: str
    optimum: Callable[[Any], tuple[Any, Any]]
    source: str


def of_law(name: str) -> Best:
    """What a published law says is best under C = 6ND. Raises ValueError where it has no best size."""
    published = PUBLISHED[name]
    Problem(published.law, Currency(), (Line("flops", 1e20),)).best()
    return Best(name, published.law.optimum, published.source)


def _kaplan(C: Any) -> tuple[Any, Any]:
    return 1.3e9 * (C / PF_DAY) ** 0.73, 2e10 * (C / PF_DAY) ** 0.27


def _llama3(C: Any) -> tuple[Any, Any]:
    D = 0.29 * C**0.53
    return C / (6 * D), D


#: Short name -> the best sizes that are drawn beside a fit where nothing else is asked.
USUAL: Mapping[str, Best] = {
    "kaplan-2020": Best(
        "Kaplan 2020", _kaplan,
        "Kaplan et al. 2020, arXiv 2001.08361, tables 5 and 6: N = 1.3e9 C^.73, D = 2e10 C^.27 in PF-days, N without embeddings",
    ),
    "hoffmann-2022": Best("Hoffmann 2022", PUBLISHED["hoffmann-tex"].law.optimum, PUBLISHED["hoffmann-tex"].source),
    "besiroglu-2024": Best("Besiroglu 2024", PUBLISHED["besiroglu"].law.optimum, PUBLISHED["besiroglu"].source),
    "llama-3": Best(
        "Llama 3", _llama3,
        "Grattafiori et al. 2024, arXiv 2407.21783, section 3.2.1: D = .29 C^.53 as printed, N = C/6D. Their own extrapolation "
        "to 3.8e25 FLOPs, 402B on 16.55T, has 1.6 times that many tokens: the two numbers are rounded.",
    ),
}  # fmt: skip


def named(name: str) -> Best:
    """One of USUAL, or of a published law. Raises ValueError with the names that are known."""
    if name in USUAL:
        return USUAL[name]
    if name not in PUBLISHED:
        raise ValueError(f"no published law {name!r}; there are {', '.join((*USUAL, *PUBLISHED))}, none.")
    return of_law(name)
