"""quickstart: train the grid that comes with the package, fit it, draw it, answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from scaling.fitting.fit import Fit, fit
from scaling.fitting.isoflop import Frontier, approach2
from scaling.grid import Grid
from scaling.planning.allocate import Allocation, allocate
from scaling.runs import Runs
from scaling.training.executors import Executor
from scaling.training.sweep import Plan, Status, sweep

#: The budget that the quickstart answers for, over the largest that it trains.
ASKED = 10.0


@dataclass(frozen=True)
class Answer:
    """What a quickstart found: the runs, the law fitted to them, Approach 2, what to train next, and where it lies.

    `frontier` is None where the curves have too few usable minima; `no_frontier` says why.
    """

    plan: Plan
    runs: Runs
    fit: Fit
    frontier: Frontier | None
    no_frontier: str | None
    allocation: Allocation
    folder: Path

    @property
    def fit_path(self) -> Path:
        """The fit's JSON."""
        return self.folder / "chinchilla.json"

    @property
    def report_path(self) -> Path:
        """The report as Markdown, with its figures beside it."""
        return self.folder / "report.md"

    @property
    def page_path(self) -> Path:
        """The report as one page, with the planner."""
        return self.folder / "report.html"


def quickstart_grid() -> Grid:
    """The grid that comes with the package."""
    return Grid.read(Path(str(files("scaling") / "quickstart.toml")))


def quickstart(
    folder: str | Path,
    grid: Grid | None = None,
    executor: Executor | None = None,
    watch: Callable[[Status], None] = lambda status: None,
) -> Answer:
    """Train the grid into `<folder>/runs`, fit it, solve it, draw it, report it as Markdown and HTML: the whole line.

    Goes on where it stopped when called again. Raises what `sweep` and `fit` raise.
    """
    folder = Path(folder)
    plan = sweep(grid or quickstart_grid(), folder / "runs", executor, watch)
    runs = Runs.read(folder / "runs")
    law = fit(runs)
    answer = Answer(plan, runs, law, *_frontier(runs), _next(runs, law), folder)
    law.write(answer.fit_path)
    _report(answer)
    return answer


def _frontier(runs: Runs) -> tuple[Frontier | None, str | None]:
    try:
        return approach2(runs), None
    except ValueError as why:
        return None, str(why)


def _next(runs: Runs, law: Fit) -> Allocation:
    """What to train with ten times the largest budget; a law that is not verified answers too, and is marked."""
    return allocate(law, flops=ASKED * float(runs.C.max()), force=True)


def _report(answer: Answer) -> None:
    from scaling.reporting.report import html, markdown  # brings matplotlib, which the training need not wait for
    from scaling.reporting.study import Study

    runs, folder = answer.folder / "runs", answer.folder
    study = Study(
        answer.runs,
        [answer.fit],
        [answer.allocation],
        flops=answer.allocation.C,
        title=f"Scaling laws from {len(answer.runs)} runs on this machine",
        commands=[
            f"scaling sweep {runs}",
            f"scaling fit {runs} -o {answer.fit_path}",
            f"scaling allocate {answer.fit_path} --flops {answer.allocation.C:.3g}",
            f"scaling report {runs} {answer.fit_path} -o {answer.page_path}",
        ],
    )
    markdown(study, folder)
    html(study, answer.page_path)
