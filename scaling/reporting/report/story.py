"""What a report says, in order, before it is Markdown or HTML: sections of paragraphs, tables, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scaling.reporting import figures, numbers
from scaling.reporting.study import Study
from scaling.runs import Runs


@dataclass(frozen=True)
class Paragraph:
    """Plain text; `kind` is "answer", "warning" or "" for the rest."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; every cell is already written for people."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A figure, drawn when asked for; `says` tells in words what it shows."""

    name: str
    draw: Callable[[], Figure]
    says: str


@dataclass(frozen=True)
class Code:
    """Commands to copy."""

    text: str


Block = Paragraph | Table | Picture | Code


@dataclass(frozen=True)
class Section:
    """A title and its blocks."""

    title: str
    blocks: Sequence[Block]


def story(study: Study) -> list[Section]:
    """The sections of the report of a study, the answer first."""
    sections = [_answer(study), _pictures(study), _law(study), _budgets(study), _runs(study.runs), _again(study)]
    return [section for section in sections if section.blocks]


def _answer(study: Study) -> Section:
    blocks: list[Block] = [Paragraph(_sentence(answer), "answer") for answer in study.allocations]
    if study.fit is not None:
        blocks += [Paragraph(str(warning), "warning") for warning in study.fit.warnings]
    if study.allocations:
        blocks.append(_allocation_table(study.allocations))
    return Section("The answer", blocks)


def _sentence(answer: Any) -> str:
    return (
        f"With {numbers.power(answer.C)} FLOPs: train {numbers.count(answer.N)} parameters on {numbers.count(answer.D)} "
        f"tokens ({numbers.plain(answer.D / answer.N, 3)} a parameter); the law predicts a loss of "
        f"{numbers.plain(answer.loss)} nats per token."
    )


def _allocation_table(answers: Sequence[Any]) -> Table:
    rows = []
    for answer in answers:
        between = answer.intervals or {}
        rows.append(
            [
                numbers.power(answer.C),
                _with_interval(numbers.count, answer.N, between.get("N")),
                _with_interval(numbers.count, answer.D, between.get("D")),
                _with_interval(numbers.plain, answer.loss, between.get("loss")),
                numbers.plain(answer.D / answer.N, 3),
            ]
        )
    head = ["C, FLOPs", "N*", "D*, tokens", "loss, nats per token", "D*/N*"]
    return Table("What to train, with 90% bootstrap intervals where the fit has a bootstrap.", head, rows)


def _with_interval(write: Callable[[float], str], value: float, interval: Sequence[float] | None) -> str:
    if interval is None:
        return write(value)
    return f"{write(value)} ({write(interval[0])} to {write(interval[1])})"


#: The figures of a report, in its order; the others are drawn by `scaling plot`.
PICTURES = ("isoflop", "power-laws", "training-curves", "residuals", "flatness", "being-off", "corner")

#: Figures that would only say what they lack are left out of a report.
_LACKING: dict[str, Callable[[Study], bool]] = {
    "power-laws": lambda study: study.fit is None and study.approach2 is None,
    "training-curves": lambda study: not study.runs.curves,
    "corner": lambda study: study.fit.draws is None,
}


def _pictures(study: Study) -> Section:
    kinds = {name: figures.KINDS[name] for name in PICTURES}
    return Section(
        "Figures",
        [
            Picture(name, lambda kind=kind: kind.of(study), kind.says)
            for name, kind in kinds.items()
            if not (kind.needs_fit and study.fit is None) and not _LACKING.get(name, lambda study: False)(study)
        ],
    )


def _law(study: Study) -> Section:
    fit = study.fit
    if fit is None:
        return Section("The law", [])
    rows = [
        [name, _with_interval(lambda value: numbers.power(value, 5), value, (fit.intervals or {}).get(name))]
        for name, value in fit.law.params.items()
    ]
    fitted = (
        f"Fitted to {fit.n} runs (digest {fit.digest}) with N = {fit.count} and FLOPs counted {fit.flops}. "
        f"Objective: {fit.objective}. "
    )
    return Section(
        "The law",
        [
            Paragraph(type(fit.law).__name__ + ": " + _first_line(type(fit.law))),
            Table("Coefficients, with 90% bootstrap intervals where the fit has a bootstrap.", ["name", "value"], rows),
            Paragraph(fitted),
        ],
    )


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _budgets(study: Study) -> Section:
    approach2 = study.approach2
    if approach2 is None:
        return Section("Budgets", [])
    rows = [
        [
            numbers.power(vertex.C, 2),
            str(vertex.runs),
            *("-" if value is None else write(value) for write, value in (
                (numbers.count, vertex.N), (numbers.count, vertex.D), (numbers.plain, vertex.loss)
            )),
            vertex.left_out or "yes",
        ]
        for vertex in approach2.vertices
    ]  # fmt: skip
    head = ["C, FLOPs", "runs", "vertex N", "vertex D", "loss there", "used"]
    return Section("Each budget", [Table("Vertices of the isoFLOP parabolas (Approach 2).", head, rows)])


#: A report lists at most this many runs.
MOST_RUNS = 60


def _runs(runs: Runs) -> Section:
    order = np.lexsort((runs.N, runs.C))[:MOST_RUNS]
    rows = [
        [
            str(runs.id[row]),
            numbers.count(runs.N[row]),
            numbers.count(runs.D[row]),
            numbers.power(runs.C[row]),
            numbers.plain(runs.loss[row], 5),
        ]
        for row in order
    ]
    caption = f"{len(runs)} runs from {runs.source}" + (
        f"; the first {MOST_RUNS} by compute." if len(runs) > MOST_RUNS else "."
    )
    return Section("The runs", [Table(caption, ["id", "N", "D, tokens", "C, FLOPs", "loss"], rows)])


def _again(study: Study) -> Section:
    return Section("How to make this again", [Code("\n".join(study.commands))] if study.commands else [])
