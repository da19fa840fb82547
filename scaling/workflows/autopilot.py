"""autopilot: design, sweep, fit, again, until the answer is sharp enough or the budget is spent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from scaling.fitting.fit import Fit, fit
from scaling.fitting.solve import FitError
from scaling.grid import Grid
from scaling.planning.allocate import Subject
from scaling.planning.design import BYTES, AtHand, Design, Target, design, noise_of, resampled
from scaling.runs import Run, Runs, record_paths, write_whole
from scaling.training.executors import Executor
from scaling.training.sweep import Plan, Status, sweep

#: Share of what is left that a round may spend: early rounds learn what the later ones are designed with.
ROUND = 0.5
#: A round below this share of the whole budget is not worth it: the one before spends all, and half of it is left alone.
LEAST = 0.1
#: Seeds of one round begin this far above those of the round before: a cell bought again is a repeat, not the same run.
SEEDS = 100
#: What stops an autopilot.
REACHED, SPENT = "the target is known well enough", "the budget is spent"


@dataclass(frozen=True)
class Round:
    """One round: its sweep, the fit to all runs so far, the FLOPs spent until then, and how well the target is known.

    `fit` is None where the runs so far cannot be fitted yet (`why` says it), and `factor`, x/ which the target is known
    (the fit's resamples, 90%), is then infinite. `stopped` is REACHED or SPENT in the last round and None before.
    """

    plan: Plan
    runs: Runs
    fit: Fit | None
    fit_path: Path
    flops: float
    value: float
    factor: float
    why: str | None = None
    stopped: str | None = None

    @property
    def folder(self) -> Path:
        """Where its grid.toml and its records lie."""
        return self.plan.folder


def autopilot(
    folder: str | Path,
    target: Target,
    *,
    flops: float,
    factor: float,
    max_run: float | None = None,
    like: Grid | None = None,
    executor: Executor | None = None,
    watch: Callable[[Status], None] = lambda status: None,
    told: Callable[[Round], None] = lambda done: None,
) -> tuple[Round, ...]:
    """Rounds of design, sweep and fit until the target is known within x/ `factor` (90%), or `flops` are spent.

    Round K lies in `<folder>/round-K` and its fit, to the runs of all rounds so far, in `<folder>/fit-K.json`. Called again it
    goes on where it stopped: a grid that is there is swept, never designed again, and finished cells cost nothing. `like`
    gives corpus, recipe and evaluation of the grids; a run takes at most `max_run` FLOPs (a tenth of `flops`). A fit that
    is not verified stops nothing. Raises what `design`, `sweep` and `fit` raise, and ValueError for a folder whose rounds
    were trained otherwise.
    """
    if not (math.isfinite(factor) and factor > 1):
        raise ValueError(f"factor = {factor:g}: the target is known within x/ a factor, a number above 1, e.g. 1.2.")
    if not (math.isfinite(flops) and flops > 0):
        raise ValueError(f"flops = {flops:g}: the budget for all runs is a positive number.")
    folder, like = Path(folder), like or Grid("autopilot", ())
    rounds: list[Round] = []
    largest = flops / 10 if max_run is None else max_run
    while not (rounds and rounds[-1].stopped):
        place = folder / f"round-{len(rounds) + 1}"
        grid = _begun(place, like) or _next(rounds, place, target, flops, largest, like)
        if grid is None:
            rounds[-1] = replace(rounds[-1], stopped=SPENT)
        else:
            plan = sweep(grid, place, executor, watch)
            rounds.append(_learn(folder, [*(done.plan for done in rounds), plan], target, factor))
            told(rounds[-1])
    return tuple(rounds)


def _begun(place: Path, like: Grid) -> Grid | None:
    """The grid of a round that was begun; None where there is none. Raises ValueError for one that differs from `like`."""
    if not (place / "grid.toml").exists():
        return None
    grid = Grid.read(place)
    for each in fields(Grid):
        was, now = getattr(grid, each.name), getattr(like, each.name)
        if each.name not in ("name", "curves") and was != now:
            raise ValueError(
                f"{place} was begun with {each.name} = {was}, and now it is {now}: the two would mix in one fit. Give what "
                "it was begun with, or another folder."
            )
    return grid


def _next(
    rounds: Sequence[Round], place: Path, target: Target, flops: float, max_run: float, like: Grid
) -> Grid | None:
    """The grid of the next round, written into its place; None where what is left buys no run."""
    left = flops - (rounds[-1].flops if rounds else 0.0)
    if left < LEAST / 2 * flops:
        return None
    known = [each.fit for each in rounds if each.fit is not None]
    hand = _at_hand(rounds[-1].runs, target) if rounds else None
    subject = Subject.of(known[-1]) if known else Subject(BYTES, "bytes", target.currency)

    def within(share: float) -> Design:
        return design(
            target,
            flops=share,
            max_run=min(max_run, share),
            prior=subject.law,
            laws=resampled(subject),
            had=None if hand is None else (hand.N, hand.D),
            noise=noise_of(subject, hand, target, trusted=bool(known))[0],
        )

    try:
        found = within(left if ROUND * left < LEAST * flops else ROUND * left)
    except ValueError:  # too little for any run that can be built; the first round says so
        if not rounds:
            raise
        try:
            found = within(left)
        except ValueError:
            return None
    if not found.cells:
        return None
    bought = found.grid(place.name).curves
    shifted = (replace(c, seeds=tuple(SEEDS * len(rounds) + seed for seed in c.seeds)) for c in bought)
    grid = replace(like, name=place.name, curves=tuple(shifted))
    write_whole(place / "grid.toml", grid.toml())
    return grid


def _learn(folder: Path, plans: Sequence[Plan], target: Target, factor: float) -> Round:
    """What the runs of all rounds so far say about the target. A fit that is there already is read, not made again."""
    records = [Run.read(path) for plan in plans for path in record_paths(plan.folder)]
    runs = Runs.of(records, str(folder))
    path, spent = folder / f"fit-{len(plans)}.json", float(sum(record.C for record in records))
    try:
        law = _fit(runs, path)
    except FitError as error:
        return Round(plans[-1], runs, None, path, spent, math.nan, math.inf, str(error))
    assert law.stacked is not None
    low, value, high = np.quantile(target.value(law.stacked), [0.05, 0.5, 0.95])
    known = float(np.exp((high - low) / 2)) if np.isfinite(high - low) else math.inf
    reached = known <= factor and law.verified
    why = None if law.verified else "the fit is not verified"
    return Round(
        plans[-1], runs, law, path, spent, float(np.exp(value)), known, why, stopped=REACHED if reached else None
    )


def _fit(runs: Runs, path: Path) -> Fit:
    """The fit to these runs: the one at `path` where it is theirs, else a new one, written there."""
    if path.exists() and (before := Fit.read(path)).digest == runs.digest:
        return before
    law = fit(runs)
    law.write(path)
    return law


def _at_hand(runs: Runs, target: Target) -> AtHand:
    return AtHand(runs.source, runs.N, runs.D, runs.loss, target.currency)
