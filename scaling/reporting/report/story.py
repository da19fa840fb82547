"""What a report says, in order, before it is Markdown or HTML: sections of paragraphs, tables, pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scaling.fitting.fit import Fit
from scaling.planning.allocate import Allocation
from scaling.reporting import figures, numbers
from scaling.reporting.study import Floor, Study
from scaling.runs import Runs


@dataclass(frozen=True)
class Paragraph:
    """Plain text; `kind` is "answer", "warning", "hint" (small print) or "" for the rest."""

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
    """A figure, drawn when asked for; `says` tells in words what it shows, `of` for who cannot see it what it is drawn from."""

    name: str
    draw: Callable[[], Figure]
    says: str
    of: str


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
    sections = [
        _answer(study),
        _pictures(study),
        _law(study),
        _budgets(study),
        _spent(study),
        _runs(study.runs),
        _again(study),
    ]
    return [section for section in sections if section.blocks]


def _answer(study: Study) -> Section:
    blocks: list[Block] = [Paragraph(_sentence(answer), "answer") for answer in study.allocations]
    said = [text for answer in study.allocations for text in answer.warnings]
    if study.fit is not None:
        said += [f"{warned.message} {warned.remedy}" for warned in study.fit.warnings]
    blocks += [Paragraph(text, "warning") for text in dict.fromkeys(said)]
    if study.allocations:
        blocks.append(_allocation_table(study.allocations))
        blocks += [_cost_table(study.allocations), Paragraph(_assumed(study.allocations[0]), "hint")]
    return Section("The answer", blocks)


def _sentence(answer: Allocation) -> str:
    N, D, loss = (
        _ranged(write, getattr(answer, name), answer.intervals, name)
        for name, write in (("N", numbers.count), ("D", numbers.count), ("loss", numbers.plain))
    )
    level = f" In brackets: {answer.intervals['level']:.0%} bootstrap intervals." if answer.intervals else ""
    return (
        f"With {numbers.power(answer.C)} FLOPs: train {N} parameters on {D} tokens, "
        f"{numbers.plain(answer.tokens_per_parameter, 3)} a parameter; the law predicts a loss of {loss}.{level}"
    )


def _allocation_table(answers: Sequence[Allocation]) -> Table:
    shares = list(answers[0].flat or {})
    rows = [
        [
            numbers.power(answer.C),
            _ranged(numbers.count, answer.N, answer.intervals, "N"),
            _ranged(numbers.count, answer.D, answer.intervals, "D"),
            _ranged(numbers.plain, answer.loss, answer.intervals, "loss"),
            _ranged(_ratio, answer.tokens_per_parameter, answer.intervals, "tokens_per_parameter"),
            *(" to ".join(map(numbers.count, (answer.flat or {}).get(share, ()))) or "-" for share in shares),
        ]
        for answer in answers
    ]
    head = ["C, FLOPs", "N*", "D*, tokens", "loss", "D*/N*", *(f"N that wastes under {share}" for share in shares)]
    return Table(f"What to train{_level(answers[0].intervals)}.", head, rows)


#: Column of the cost table -> the name of the cost and how it is written.
COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "device-hours": ("device_hours", numbers.hours_alone),
    "dollars": ("usd", numbers.usd),
    "kWh": ("kwh", numbers.power),
    "kg CO2e": ("kg_co2e", numbers.power),
}


def _cost_table(answers: Sequence[Allocation]) -> Table:
    rates = answers[0].cost.rates
    rows = []
    for answer in answers:
        spent = {head: (name, write, getattr(answer.cost, name)) for head, (name, write) in COSTS.items()}
        rows.append(
            [numbers.power(answer.C + answer.serving_flops)]
            + [
                answer.cost.missing.get(name, "not known")
                if value is None
                else _ranged(write, value, answer.intervals, name)
                for name, write, value in spent.values()
            ]
        )
    return Table(f"What it costs, for example, on {rates.accelerator or 'this device'}.", ["FLOPs", *COSTS], rows)


def _assumed(answer: Allocation) -> str:
    """What the costs rest on, with its sources."""
    return (
        "These costs rest on: "
        + "; ".join(
            f"{fact.name} {fact.value} ({fact.source}{f', {fact.date}' if fact.date else ''})"
            for fact in answer.cost.rates.facts
        )
        + "."
    )


def _ratio(value: float) -> str:
    return numbers.plain(value, 3)


def _level(intervals: Mapping[str, Any] | None) -> str:
    return f", with {intervals['level']:.0%} bootstrap intervals of the law" if intervals else ""


def _ranged(write: Callable[[float], str], value: float, intervals: Mapping[str, Any] | None, key: str) -> str:
    """A value with its interval where there is one; an end that no resample reaches is open."""
    if not intervals or key not in intervals:
        return write(value)
    low, high = ("unbounded" if end is None else write(end) for end in intervals[key])
    return write(value) if low == high else f"{write(value)} ({low} to {high})"


#: The figures of a report, in its order; the others are drawn by `scaling plot`.
PICTURES = (
    "isoflop", "power-laws", "surface", "training-curves", "residuals", "flatness", "being-off", "corner", "answers", "profiles",
    "pareto", "design", "valleys", "floor",
)  # fmt: skip

#: Figures that would only say what they lack are left out of a report.
_LACKING: dict[str, Callable[[Study], bool]] = {
    "power-laws": lambda study: study.fit is None and study.approach2 is None,
    "training-curves": lambda study: not study.runs.curves,
    "corner": lambda study: not _has_draws(study.fit),
    "answers": lambda study: not _has_draws(study.fit),
    "profiles": lambda study: study.fit is None or not _has_draws(study.fit) or study.fit.digest != study.runs.digest,
    "valleys": lambda study: not figures.has_valleys(study.runs),
    "floor": lambda study: study.floor is None or not study.floored,
}


def _has_draws(fit: Fit | None) -> bool:
    """Whether there is a fit, with a bootstrap."""
    return fit is not None and fit.draws is not None


def _pictures(study: Study) -> Section:
    kinds = {name: figures.KINDS[name] for name in PICTURES}
    return Section(
        "Figures",
        [
            Picture(name, lambda kind=kind: kind.of(study), kind.says, f"Figure {name}. {_seen(study.runs)}")
            for name, kind in kinds.items()
            if not (kind.needs_fit and study.fit is None) and not _LACKING.get(name, lambda study: False)(study)
        ],
    )


def _seen(runs: Runs) -> str:
    """What every figure is drawn from, in a sentence."""
    spans = [
        (numbers.count, runs.N, "parameters"),
        (numbers.power, runs.C, "FLOPs"),
        (numbers.plain, runs.loss, runs.loss_unit),
    ]
    told = (f"{write(v.min())} to {write(v.max())} {unit}" for write, v, unit in spans)
    return f"{len(runs)} runs of {', '.join(told)}; the numbers are in the tables below."


def _law(study: Study) -> Section:
    return Section("The law", [block for fit in study.fits for block in _card(fit, study.floor)])


def _card(fit: Fit, floor: Floor | None) -> list[Block]:
    """The fit card: the law, its coefficients, how it was fitted, and what certifies it."""
    params = fit.intervals.get("params", {})
    exponents = {name: value for name, value in zip("ab", getattr(fit.law, "exponents", ()))}
    rows = [[name, _ranged(_five, value, params, name)] for name, value in fit.law.params.items()] + [
        [name, _ranged(_five, value, fit.intervals.get("exponents"), name)] for name, value in exponents.items()
    ]
    if floor is not None and "E" in fit.law.params:
        above, *ends = floor.above(fit)
        between = "" if None in ends else f" ({' to '.join(_five(end) for end in ends)})"
        rows.append([f"E less the planted floor of {_five(floor.value)}", f"{_five(above)}{between}"])
    seen = fit.certificate
    checks = [
        ["verdict", "verified" if fit.verified else "NOT verified"],
        ["converged", f"{_yes(seen.converged)}: optimality residual {seen.gradient_norm:.1e}"],
        ["best of all", f"{_yes(seen.global_evidence)}: {seen.agreeing_starts} of {seen.starts} starts end there"],
        ["identifiable", f"{_yes(seen.identifiable)}: condition number {numbers.power(seen.condition_number)}"],
        ["value", f"{fit.value:.7g}"],
        *([name, text] for name, text in fit.checklist.items() if name != "law"),
    ]
    return [
        Paragraph(f"{type(fit.law).__name__}: {_first_line(type(fit.law))}"),
        Table(f"Coefficients{_level(fit.intervals if params else None)}.", ["name", "value"], rows),
        *_beside(fit),
        Table("The fit card.", ["what", "found"], checks),
    ]


def _beside(fit: Fit) -> list[Block]:
    """What narrower windows and other laws answer, which no bootstrap knows of."""
    beside = fit.beside
    if not beside:
        return []
    rows = [
        [
            what,
            law,
            numbers.count(answer["N"]),
            _ratio(answer["tokens_per_parameter"]),
            numbers.plain(answer["loss"]),
            note,
        ]
        for what, law, answer, note in beside
    ]
    C = numbers.power(beside[0][2]["C"])
    caption = (
        f"The answer at {C} FLOPs, in narrower windows and under other laws; in brackets, the error on unseen budgets."
    )
    return [Table(caption, ["runs", "law", "N*", "D*/N*", "loss", ""], rows)]


def _five(value: float) -> str:
    return numbers.power(value, 5)


def _yes(verdict: bool) -> str:
    return "yes" if verdict else "no"


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


def _spent(study: Study) -> Section:
    """The efficiency report (Schwartz et al. 2020): what the runs themselves cost, and how each number was obtained."""
    spent = study.efficiency
    if spent is None:
        return Section("What the runs cost", [])
    names = {
        "runs": "runs",
        "C": "FLOPs",
        "device_hours": "device-hours",
        "usd": "dollars",
        "kwh": "kWh",
        "kg_co2e": "kg CO2e",
    }
    groups = (spent.done, spent.failed, spent.total)
    rows = [
        [name, *(_known(group[key]) for group in groups), spent.obtained.get(key, "counted")]
        for key, name in names.items()
    ]
    caption = f"Schwartz et al. 2020, on {', '.join(spent.devices) or 'an unknown device'}."
    return Section("What the runs cost", [Table(caption, ["", "done", "failed", "all", "how obtained"], rows)])


def _known(value: float | None) -> str:
    return "not known" if value is None else numbers.power(value)


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
