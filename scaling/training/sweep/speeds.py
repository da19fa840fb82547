"""Speeds: measured FLOP/s of shapes, and what tasks take by them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.runs import Run
from scaling.training.tasks import Task

if TYPE_CHECKING:
    from scaling.training.sweep.status import Now

#: Evaluating goes forward only, so a token takes a third of what it takes in training.
EVAL_SHARE = 1 / 3


@dataclass(frozen=True)
class Speeds:
    """Measured training FLOP/s by a shape's FLOPs a token; what a task would take at them."""

    flops_per_second: Mapping[int, float]

    @classmethod
    def of(cls, records: Iterable[Run], now: Iterable[Now] = ()) -> Speeds:
        """The speeds that records tell, and cells that are trained just now: of each shape the mean."""
        found = [(run.C // run.D, run.tokens_per_second) for run in records if run.tokens_per_second]
        found += [(each.spec.shape.flops_per_token, each.tokens_per_second) for each in now if each.tokens_per_second]
        rates: dict[int, list[float]] = {}
        for flops_per_token, tokens_per_second in found:
            rates.setdefault(flops_per_token, []).append(tokens_per_second * flops_per_token)
        return cls({flops_per_token: sum(each) / len(each) for flops_per_token, each in sorted(rates.items())})

    def at(self, flops_per_token: int) -> float | None:
        """FLOP/s of a shape: in logarithms on the line between the two measured ones around it, the last one's beyond."""
        known = list(self.flops_per_second.items())
        below = [each for each in known if each[0] <= flops_per_token]
        above = [each for each in known if each[0] >= flops_per_token]
        if not below or not above:
            return (below[-1:] + above[:1])[0][1] if known else None
        (x0, y0), (x1, y1) = below[-1], above[0]
        share = math.log(flops_per_token / x0) / math.log(x1 / x0) if x1 > x0 else 0.0
        return math.exp((1 - share) * math.log(y0) + share * math.log(y1))

    def seconds(self, task: Task, done: float = 0.0) -> float | None:
        """Seconds of training and evaluating a task of which so many FLOPs are done; None where nothing is measured."""
        each = task.specs[0].shape.flops_per_token
        rate = self.at(each)
        if rate is None:
            return None
        return (task.flops - done + EVAL_SHARE * each * sum(spec.eval_tokens for spec in task.specs)) / rate

    def longest_first(self, tasks: Iterable[Task]) -> tuple[Task, ...]:
        """The tasks by the time they take at these speeds; by FLOPs, as they come, where nothing is measured."""
        return tuple(sorted(tasks, key=lambda task: -(self.seconds(task) or 0.0)))


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Seconds until the last of these tasks is done, if whoever is free takes the longest that is left."""
    free_at = [0.0] * max(1, workers)
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(free_at, free_at[0] + each)
    return max(free_at)
