"""Study: the runs, the fits and the answers that a figure or a report is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from scaling.fitting import isoflop
from scaling.fitting.fit import Fit, FitError
from scaling.planning.allocate import Allocation, Subject
from scaling.runs import Runs


@dataclass(frozen=True)
class Study:
    """Runs, the fits of laws to them (the first is the one that answers), and allocations under the first.

    `flops` is the budget that figures of one budget are drawn at: by default 10 times the largest trained.
    `commands` are what makes the study again, for its report.
    """

    runs: Runs
    fits: Sequence[Fit] = ()
    allocations: Sequence[Allocation] = ()
    flops: float | None = None
    title: str = "Scaling report"
    commands: Sequence[str] = ()

    @property
    def fit(self) -> Fit | None:
        """The fit that answers; None where there is none."""
        return self.fits[0] if self.fits else None

    @cached_property
    def subject(self) -> Subject | None:
        """The fit that answers, with how it counts FLOPs."""
        return None if self.fit is None else Subject.of(self.fit)

    @property
    def budget(self) -> float:
        """FLOPs of the figures that are drawn at one budget."""
        return 10 * float(self.runs.C.max()) if self.flops is None else self.flops

    @cached_property
    def approach1(self) -> isoflop.Frontier | None:
        """Approach 1 on these runs; None where they do not allow it."""
        return _where_possible(isoflop.approach1, self.runs)

    @cached_property
    def approach2(self) -> isoflop.Frontier | None:
        """Approach 2 on these runs; None where they do not allow it."""
        return _where_possible(isoflop.approach2, self.runs)


def _where_possible(approach: Callable[[Runs], isoflop.Frontier], runs: Runs) -> isoflop.Frontier | None:
    try:
        return approach(runs)
    except FitError:
        return None
