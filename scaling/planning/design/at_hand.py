"""What is at hand before a design: the runs of a folder, a table or a grid.toml, the laws that are plausible, the noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.fitting.laws import Law
from scaling.grid import Grid
from scaling.planning.allocate import Currency, Subject
from scaling.planning.design.information import Target, implied_noise

#: Seed noise of a small run's loss, relative: .002 of 1.77 to .010 of 1.91 on bytes at 1e12 FLOPs.
NOISE = 0.004
#: Resamples of a fit that stand for all that is plausible: designs hardly change with more.
_LAWS = 24


@dataclass(frozen=True)
class AtHand:
    """Runs at (N [R], D [R]), with losses where they are trained; `currency` says how their FLOPs count.

    `corpus` is theirs, None where not known; `free_seed` is the first that none of them has.
    """

    source: str
    N: np.ndarray
    D: np.ndarray
    loss: np.ndarray | None
    currency: Currency
    corpus: str | None = None
    free_seed: int = 0

    @classmethod
    def read(cls, path: str | Path) -> AtHand:
        """The runs in a folder of records or a table; of a folder or file with only a grid, its planned runs."""
        path = Path(path)
        grid = path if path.suffix == ".toml" else path / "grid.toml"
        from scaling.runs import Run, Runs, record_paths

        records = record_paths(path) if path.is_dir() else []
        if not records and grid.exists():
            planned = Grid.read(grid)
            specs = planned.specs("")
            shapes = [spec.shape for spec in specs]
            N, D = (np.array(column, np.float64) for column in ([s.N for s in shapes], [s.tokens for s in specs]))
            currency = Currency("exact", "N", shapes[0].vocab, shapes[0].context)
            return cls(str(grid), N, D, None, currency, planned.corpus, 1 + max(spec.seed for spec in specs))
        runs = Runs.read(path)
        sizes, corpus, seed = {}, None, 0
        if records:
            specs = [Run.read(record).spec for record in records]
            sizes = {name: specs[0]["shape"][name] for name in ("vocab", "context")}
            corpus, seed = specs[0]["corpus"], 1 + max(spec["seed"] for spec in specs)
        return cls(str(path), runs.N, runs.D, runs.loss, Currency(runs.flops, runs.count, **sizes), corpus, seed)

    def noise(self, law: Law | None) -> tuple[float, str] | None:
        """Relative noise of a loss and where it is from: repeats of a cell, else the law's residuals; None without losses."""
        if self.loss is None:
            return None
        _, cell = np.unique(np.stack([self.N, self.D]), axis=1, return_inverse=True)
        counts = np.bincount(cell.ravel())
        log_loss = np.log(self.loss)
        means = np.bincount(cell.ravel(), log_loss) / counts
        repeats = int((counts - 1).sum())
        if repeats >= 3:
            scatter = float(((log_loss - means[cell.ravel()]) ** 2).sum())
            return float(np.sqrt(scatter / repeats)), f"{repeats} repeats of a cell"
        if law is None or len(self.N) <= len(law.names()):
            return None
        residual = np.abs(log_loss - np.log(law.loss(self.N, self.D)))
        # 1.4826 x the median absolute residual: the standard deviation of a normal, whatever a few stray runs do.
        scatter = 1.4826 * float(np.median(residual)) * np.sqrt(len(residual) / (len(residual) - len(law.names())))
        return float(scatter), "the law's residuals"


def resampled(subject: Subject) -> list[Law] | None:
    """The laws that are plausible under a fit: its own and some of its resamples, evenly taken; None where it has none."""
    if subject.draws is None:
        return None
    rows = np.unique(np.linspace(0, len(subject.draws) - 1, _LAWS).astype(int))
    return [subject.law, *(type(subject.law)(*map(float, subject.draws[row])) for row in rows)]


def noise_of(subject: Subject, hand: AtHand | None, target: Target, trusted: bool = True) -> tuple[float, str]:
    """Relative noise of a loss and where it is from: a fit's resamples, the runs at hand, or NOISE.

    Residuals count as noise only where the law is `trusted` to fit the runs at hand.
    """
    if hand is None or hand.loss is None:
        return NOISE, "assumed"
    if subject.draws is not None:
        return implied_noise(subject.law, subject.drawn(), target, hand.N, hand.D), "as the fit's resamples show"
    return hand.noise(subject.law if trusted else None) or (NOISE, "assumed")
