"""Law against law on held-out compute: fit the small runs, predict the large, every law under one harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from scaling.fitting.counting import Counting
from scaling.fitting.isoflop import budgets
from scaling.fitting.laws import LAWS, Law
from scaling.fitting.objective import LogHuber, Objective
from scaling.fitting.pose import pose, settle
from scaling.fitting.solve import FitError, Problem, cores, minimise, propose
from scaling.fitting.uncertainty import resample
from scaling.runs import Runs

#: A law that a table lets be told apart is worse than the best by this many standard errors of the paired difference.
TOLD_APART = 2.0
#: Most folds of the rolling prediction.
FOLDS = 6

#: Resamples of the runs for the standard error of a difference between two laws' predictions: known to 7%.
RESAMPLES = 100

#: Of a fold's starts, the most promising tenth is taken to its optimum, and never fewer than this.
FOLD_STARTS = 20


@dataclass(frozen=True)
class Candidate:
    """A law to fit, with what is known of its coefficients beforehand, as `fit` takes it."""

    law: type[Law]
    pin: Mapping[str, float] = field(default_factory=dict)
    tie: Mapping[str, str | tuple[str, float]] = field(default_factory=dict)
    bound: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    prior: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The law's name, and how it is held: `chinchilla, alpha = beta`."""
        said = [f"{name} = {value:g}" for name, value in self.pin.items()]
        said += [f"{to if isinstance(to, str) else f'{to[1]:g} {to[0]}'} = {name}" for name, to in self.tie.items()]
        said += [f"{name} in {low:g}:{high:g}" for name, (low, high) in self.bound.items()]
        said += [f"{name} = {mean:g} ± {error:g}" for name, (mean, error) in self.prior.items()]
        return ", ".join([self.law.name, *said])

    def pose(self, runs: Runs, objective: Objective) -> Problem:
        """The problem of fitting it to these runs."""
        return pose(runs, self.law, objective, pin=self.pin, tie=self.tie, bound=self.bound, prior=self.prior)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the law's name and those limits that there are."""
        limits = {name: dict(getattr(self, name)) for name in ("pin", "tie", "bound", "prior") if getattr(self, name)}
        return {"law": self.law.name, **limits}

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Candidate:
        """The candidate that `to_json` wrote."""
        return cls(**{**payload, "law": LAWS[payload["law"]]})


@dataclass(frozen=True)
class Fold:
    """One prediction: fitted to the runs with C < `low`, asked for those with low <= C < high (FLOPs)."""

    low: float
    high: float
    fitted: int
    held_out: int

    def holds(self, C: np.ndarray) -> np.ndarray:
        """Which of these C, [R], are asked for."""
        return (self.low <= C) & (self.high > C)


@dataclass(frozen=True)
class Prediction:
    """How a law did on a fold: mean of |predicted / measured - 1|, mean of predicted / measured - 1; or why it could not."""

    fold: Fold
    error: float | None
    offset: float | None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; a fold without an upper end has `high` null."""
        payload = asdict(self)
        payload["fold"]["high"] = None if np.isinf(self.fold.high) else self.fold.high
        return payload


@dataclass(frozen=True)
class Contender:
    """One law: its fit to all runs (`free` coefficients), its predictions, and how it stands to the best one.

    `rolling_error` is the mean relative error over all runs that the rolling folds hold out; `behind` its difference to the
    best law's, `behind_se` that difference's standard error by bootstrap: both laws refitted to the same resamples of the
    runs, so that what the runs of a fold share, the law fitted below it, counts as the one error it is. `answer` is
    (N, D) at the comparison's C.
    """

    name: str
    law: Law | None
    value: float | None
    verified: bool
    hold_out: tuple[Prediction, ...]
    rolling: tuple[Prediction, ...]
    rolling_error: float | None
    behind: float | None
    behind_se: float | None
    answer: tuple[float, float] | None
    why: str | None = None
    free: int = 0

    @property
    def told_apart(self) -> bool | None:
        """Whether the runs show that this law predicts worse than the best one; None where it made no prediction."""
        if self.behind is None or self.behind_se is None:
            return None
        return self.behind > TOLD_APART * self.behind_se

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "law": self.name,
            "parameters": self.free,
            "params": self.params,
            "objective": self.value,
            "verified": self.verified,
            "hold_out": [prediction.to_json() for prediction in self.hold_out],
            "rolling": [prediction.to_json() for prediction in self.rolling],
            "rolling_error": self.rolling_error,
            "behind": self.behind,
            "behind_se": self.behind_se,
            "told_apart": self.told_apart,
            "answer": None if self.answer is None else {"N": self.answer[0], "D": self.answer[1]},
            "why_not": self.why,
        }

    @property
    def params(self) -> Mapping[str, float]:
        """Coefficients of the fit to all runs."""
        return {} if self.law is None else self.law.params


@dataclass(frozen=True)
class Comparison:
    """The laws, best prediction first; `C` is where their answers are compared, in FLOPs."""

    contenders: tuple[Contender, ...]
    objective: Objective
    C: float
    n: int

    @property
    def cannot_tell_apart(self) -> tuple[str, ...]:
        """The laws that the runs do not show to predict worse than the best one, the best one first."""
        return tuple(contender.name for contender in self.contenders if contender.told_apart is False)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "laws": [contender.to_json() for contender in self.contenders],
            "cannot_tell_apart": list(self.cannot_tell_apart),
            "objective": {**self.objective.to_json(), "n": self.n},
            "answer_at": self.C,
        }


def compare(
    runs: Runs,
    laws: Sequence[type[Law] | Candidate] | None = None,
    objective: Objective | None = None,
    *,
    hold_out: Sequence[float] = (),
    at: float | None = None,
    starts: int = 200,
    seed: int = 0,
) -> Comparison:
    """Every law under one harness, best rolling prediction first.

    laws: classes, or candidates that hold some coefficients; by default all laws that the table has columns for.
    objective: the same for all; log-Huber, delta 1e-3, summed.
    hold_out: C in FLOPs; fit the runs below, predict those from it on. By default a tenth of the largest C.
    at: C where the laws' answers are compared; by default ten times the largest.

    Rolling: from the third budget on, each is predicted from all smaller ones, in at most FOLDS folds (of equally many C
    where the table has no budgets). Raises FitError where no law can be fitted to all runs.
    """
    chosen = tuple(applicable(runs) if laws is None else laws)
    if not chosen:
        raise ValueError(f"{runs.source}: no law to compare.")
    loss = LogHuber() if objective is None else objective
    cuts = tuple(hold_out) or _decade_below(runs)
    held = [_fold(runs, cut) for cut in cuts]
    rolled = _rolling(runs)
    C = 10 * float(runs.C.max()) if at is None else at
    harness = _Harness(runs, loss, starts, seed)
    candidates = [each if isinstance(each, Candidate) else Candidate(each) for each in chosen]
    with ThreadPoolExecutor(min(cores(), len(candidates))) as pool:  # a law a core: most of the time goes to compiling
        entries = list(pool.map(lambda candidate: harness.enter(candidate, held, rolled, C), candidates))
    return Comparison(tuple(_rank(entries, runs)), loss, C, len(runs))


def applicable(runs: Runs) -> tuple[type[Law], ...]:
    """The built-in laws whose columns the table has, with more runs than coefficients."""
    return tuple(
        law
        for law in LAWS.values()
        if all(name in runs.table and np.issubdtype(runs.table[name].dtype, np.number) for name in law.columns)
        and len(runs) > len(law.names()) + 1
    )


def _decade_below(runs: Runs) -> tuple[float, ...]:
    """A tenth of the largest C; the median C where less than half of the runs lie below that; nothing of one budget."""
    cut = float(max(runs.C.max() / 10, np.median(runs.C)))
    return (cut,) if runs.C.min() < cut else ()


def _fold(runs: Runs, low: float, high: float = np.inf) -> Fold:
    C = runs.C
    fold = Fold(float(low), float(high), int(np.sum(low > C)), 0)
    fold = replace(fold, held_out=int(fold.holds(C).sum()))
    if not fold.fitted or not fold.held_out:
        raise ValueError(
            f"--hold-out {low:.4g}: {fold.fitted} runs below and {fold.held_out} from there on; C goes from {C.min():.4g} to "
            f"{C.max():.4g}."
        )
    return fold


def _rolling(runs: Runs) -> list[Fold]:
    """Folds that predict a budget from all below it, from the third budget on, neighbours joined where there are many."""
    found = budgets(runs)
    if len(found) >= 4:
        starts = [float(runs.C[budget.rows].min()) for budget in found[2:]]
    else:
        starts = [float(part[0]) for part in np.array_split(np.unique(runs.C), FOLDS + 2)[2:] if part.size]
    starts = [starts[i] for i in np.unique(np.linspace(0, len(starts) - 1, FOLDS).round().astype(int))]
    return (
        [_fold(runs, low, high) for low, high in zip(starts, [*starts[1:], np.inf])] if runs.C.min() < starts[0] else []
    )


@dataclass(frozen=True)
class _Entry:
    """A contender before it is ranked, with its rolling error on each resample of the runs [RESAMPLES]."""

    contender: Contender
    resampled: np.ndarray


@dataclass(frozen=True)
class _Harness:
    """What all laws are put through."""

    runs: Runs
    objective: Objective
    starts: int
    seed: int

    @cached_property
    def counting(self) -> Counting:
        """How the runs' FLOPs follow from N and D."""
        return Counting.of(self.runs)

    def enter(self, candidate: Candidate, held: Sequence[Fold], rolled: Sequence[Fold], C: float) -> _Entry:
        """One law's fit to all runs and its predictions."""
        problem = candidate.pose(self.runs, self.objective)
        free = int(problem.free.sum())
        try:
            whole = settle(self.runs, problem, self.starts, self.seed)
        except FitError as error:
            why = " ".join(str(error).split())
            nothing = Contender(candidate.name, None, None, False, (), (), None, None, None, None, why, free)
            return _Entry(nothing, np.empty(0))
        errors = np.full(len(self.runs), np.nan)
        below = self._fit_below(whole.problem, (*held, *rolled))
        predictions = [
            self._predict(fold, found, errors if i >= len(held) else None)
            for i, (fold, found) in enumerate(zip((*held, *rolled), below))
        ]
        hold_out, rolling = tuple(predictions[: len(held)]), tuple(predictions[len(held) :])
        complete = rolling and all(prediction.why is None for prediction in rolling)
        contender = Contender(
            candidate.name,
            whole.law,
            whole.reported,
            whole.certificate.verified,
            hold_out,
            rolling,
            float(np.nanmean(errors)) if complete else None,
            None,
            None,
            self._answer(whole.law, C),
            free=free,
        )
        laws = [law for law in below[len(held) :] if isinstance(law, Law)]
        return _Entry(contender, self._resampled(whole.problem, rolled, laws))

    def _resampled(self, problem: Problem, folds: Sequence[Fold], laws: Sequence[Law]) -> np.ndarray:
        """The rolling error [S] on resamples of the runs, the same for every law: each fold refitted to what was drawn
        below it. Nothing where a fold has no law."""
        if not laws or len(laws) < len(folds):
            return np.empty(0)
        C = self.runs.C
        counts = resample(self.runs.group, RESAMPLES, self.seed)
        theta = problem.to_fitted(np.array([list(law.params.values()) for law in laws]))
        below = np.stack([fold.low > C for fold in folds])
        weights = (problem.weights * below)[:, None] * counts
        refitted = minimise(
            problem, np.repeat(theta, RESAMPLES, 0), weights=weights.reshape(-1, len(C)), smooth=False, iterations=50
        )
        total, drawn = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
        for fold, points in zip(folds, np.split(problem.to_natural(refitted.theta), len(folds))):
            above = fold.holds(C)
            columns = {name: values[above] for name, values in problem.columns.items()}
            with np.errstate(all="ignore"):
                predicted = problem.law(*(points[:, k, None] for k in range(points.shape[1]))).loss(**columns)
            errors = np.abs(predicted / self.runs.loss[above] - 1)
            total += np.sum(counts[:, above] * np.where(np.isfinite(errors), errors, 1.0), -1)
            drawn += counts[:, above].sum(-1)
        return total / np.maximum(drawn, 1.0)

    def _fit_below(self, problem: Problem, folds: Sequence[Fold]) -> list[Law | str]:
        """The law fitted to the runs below each fold, or why it cannot be: all starts of all folds in one batch.

        The runs that are held out have weight nought, and have no part in the choice of the starts either.
        """
        kind, needed = problem.law, int(problem.free.sum()) + 2
        below = [self.runs.C < fold.low for fold in folds]  # noqa: SIM300
        found: list[Law | str] = [f"{rows.sum()} runs below, {kind.name} needs {needed}." for rows in below]
        enough = [i for i, rows in enumerate(below) if rows.sum() >= needed]
        most = max(FOLD_STARTS, self.starts // 10)
        starts = {i: propose(_part(problem, below[i]), self.starts, self.seed)[:most] for i in enough}
        starts = {i: points for i, points in starts.items() if len(points)}
        if not starts:
            return found
        lanes = np.repeat(list(starts), [len(points) for points in starts.values()])
        weights = problem.weights * np.stack(below)[lanes]
        solution = minimise(problem, np.concatenate(list(starts.values())), weights=weights)
        for i in starts:
            values = np.where(lanes == i, solution.value, np.nan)
            found[i] = f"{kind.name}: no start ended at a finite objective on the runs below."
            if np.isfinite(values).any():
                found[i] = kind(*map(float, problem.to_natural(solution.theta[np.nanargmin(values)])))
        return found

    def _predict(self, fold: Fold, found: Law | str, errors: np.ndarray | None) -> Prediction:
        """How the law that was fitted below does on the runs of the fold; notes each run's error where asked to."""
        if isinstance(found, str):
            return Prediction(fold, None, None, found)
        above = fold.holds(self.runs.C)
        table = self.runs.table[above]
        predicted = np.asarray(found.loss(**{name: table[name].to_numpy(np.float64) for name in found.columns}))
        relative = predicted / self.runs.loss[above] - 1
        if errors is not None:
            errors[above] = np.abs(relative)
        return Prediction(fold, float(np.mean(np.abs(relative))), float(np.mean(relative)))

    def _answer(self, law: Law, C: float) -> tuple[float, float] | None:
        """The law's (N, D) at C FLOPs; None where it has no optimum of these two alone."""
        try:
            N, D = self.counting.optimum(law, C)
        except (ValueError, TypeError, NotImplementedError):
            return None
        return float(N), float(D)


def _part(problem: Problem, rows: np.ndarray) -> Problem:
    """The same problem on some of its runs."""
    columns = {name: values[rows] for name, values in problem.columns.items()}
    return replace(problem, columns=columns, loss=problem.loss[rows], weights=problem.weights[rows])


def _rank(entries: Sequence[_Entry], runs: Runs) -> list[Contender]:
    """The contenders, best rolling error first, each with its paired difference to the best."""
    if all(entry.contender.law is None for entry in entries):
        raise FitError(f"{runs.source}: no law could be fitted. {entries[0].contender.why}")
    order = sorted(
        entries, key=lambda entry: (entry.contender.rolling_error is None, entry.contender.rolling_error or 0.0)
    )
    best = order[0]
    if best.contender.rolling_error is None:
        return [entry.contender for entry in order]
    return [_placed(entry, best) for entry in order]


def _placed(entry: _Entry, best: _Entry) -> Contender:
    contender, least = entry.contender, best.contender.rolling_error
    if contender.rolling_error is None or least is None:
        return contender
    spread = float(np.std(entry.resampled - best.resampled))
    return replace(contender, behind=contender.rolling_error - least, behind_se=spread)
