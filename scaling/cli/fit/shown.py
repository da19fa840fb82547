"""A fit on the terminal: law, coefficients, answers, objective, certificate, warnings."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from scaling.cli._tables import print_pairs, print_table
from scaling.reporting import numbers

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit
    from scaling.fitting.isoflop import Frontier


def show(found: Fit) -> None:
    """The fit on the terminal: law, coefficients, answers, objective, certificate, warnings."""
    kind = type(found.law)
    whence = f"{found.n} runs of {found.source}, digest {found.digest}"
    print_pairs([(kind.name, (kind.__doc__ or "").strip().splitlines()[0]), ("", whence)])
    _print_coefficients(found)
    _print_answers(found)
    _print_planned(found)
    _print_beside(found)
    print()
    print_pairs(_trust(found))
    print_pairs(("warning", f"{warned.name}: {warned.message} {warned.remedy}") for warned in found.warnings)


def _put(*table: Any, **words: str) -> None:
    """A table after an empty line, which those on a terminal bring themselves."""
    if not sys.stdout.isatty():
        print()
    print_table(*table, **words)


def _print_coefficients(found: Fit) -> None:
    level, profiles = f"{found.intervals['level']:.0%}", found.profiles
    errors = found.intervals["standard_errors"]
    held = {**profiles.get("params", {}), **profiles.get("exponents", {})}
    rows = [(name, value, found.intervals["params"].get(name, [])) for name, value in found.params.items()]
    if found.exponents is not None:
        rows += [(f"{n}  ({star} ~ C^{n})", value, found.intervals["exponents"].get(n, []))
                 for n, star, value in zip("ab", ("N*", "D*"), found.exponents)]  # fmt: skip
    keys = [name.split(" ")[0] for name, _, _ in rows]
    _put(
        ["", "value", "std. error", f"{level} bootstrap", *([f"{level} profile"] if profiles else [])],
        [
            [
                name,
                f"{value:.6g}",
                "" if errors.get(key) is None else f"{errors[key]:.3g}",
                _range(ends, _four),
                *([_range(held.get(key, []), _four)] if profiles else []),
            ]
            for key, (name, value, ends) in zip(keys, rows)
        ],
    )


#: What is answered at a budget -> how it is called, and how it is written.
_ASKED: dict[str, tuple[str, Callable[[float], str]]] = {
    "N": ("N", numbers.count),
    "D": ("D", numbers.count),
    "tokens_per_parameter": ("D/N", numbers.power),
    "loss": ("loss", numbers.plain),
}


def _print_answers(found: Fit) -> None:
    """Best N, D, D/N and loss at each budget, and the sizes that cost next to nothing."""
    if not found.answers:
        return
    level = f"{found.intervals['level']:.0%}"
    held, rows, flat = found.profiles.get("answers", []), [], []
    for answer, profile in itertools.zip_longest(found.answers, held, fillvalue={}):
        C = numbers.power(answer["C"])
        for key, (label, write) in _ASKED.items():
            ends, profiled = answer.get("intervals", {}).get(key, []), profile.get(key, [])
            at = C if key == "N" else ""
            rows.append([at, label, write(answer[key]), _range(ends, write), _range(profiled, write)])
        flat.append([C, *(_range(answer["flat"][share], numbers.count) for share in ("0.1%", "1.0%"))])
    _put(["at C", "", "best", f"{level} bootstrap", f"{level} profile"], rows)
    _put(["at C", "N that costs < 0.1%", "< 1% of the compute"], flat)


def _print_planned(found: Fit) -> None:
    held = found.profiles.get("planned", ())
    rows = []
    for planned, profile in itertools.zip_longest(found.planned, held, fillvalue={}):
        ends = (planned.get("mean_law", []), profile.get("loss", []), planned.get("new_run", []))
        sizes = [numbers.count(planned["N"]), numbers.count(planned["D"]), numbers.plain(planned["loss"])]
        rows.append([*sizes, *(_range(each, numbers.plain) for each in ends)])
    if rows:
        _put(["planned N", "D", "loss", "the mean law", "its profile", "a new run"], rows)


def _print_beside(found: Fit) -> None:
    """The answer in narrower windows and under other laws, which no bootstrap knows of."""
    from scaling.fitting.fit import ALL_RUNS

    rows = found.beside
    if not rows:
        return
    _put(
        ["law or window", "N", "D/N", "loss", "runs"],
        [
            [
                law if what == ALL_RUNS else what,
                numbers.count(answer["N"]),
                numbers.power(answer["tokens_per_parameter"]),
                numbers.plain(answer["loss"]),
                note,
            ]
            for what, law, answer, note in rows
        ],
        title=f"Beside the bootstrap, at C = {numbers.power(rows[0][2]['C'])}",
        words="runs",
    )


def _trust(found: Fit) -> Iterator[tuple[str, str]]:
    """What was minimised, in what units, and what certifies it."""
    yield "objective", f"{found.value:.8g}  ({found.objective.describe})"
    yield "units", found.units
    if found.noise:
        seed = f"; between repeats {found.noise.seed:.2%}" if found.noise.seed is not None else ""
        fits = f", lack of fit p = {found.noise.lack_of_fit:.2g}" if found.noise.lack_of_fit is not None else ""
        yield "scatter", f"{found.noise.residual:.2%} of the loss around the law{seed}{fits}"
    proof = found.certificate
    rival = proof.next_best
    others = "no other optimum found" if rival is None else f"next optimum {rival.value:.6g} (summed)"
    hit = f", at a bound: {', '.join(proof.bounds_hit)}" if proof.bounds_hit else ""
    agree = f"{proof.agreeing_starts} of {proof.starts} starts agree; {others}"
    yield "certificate", "verified" if proof.verified else "NOT verified"
    yield "  converged", f"{_yes(proof.converged)}; optimality residual {proof.gradient_norm:.1e} (needed 1e-8)"
    yield "  global evidence", f"{_yes(proof.global_evidence)}; {agree}"
    yield "  identifiable", f"{_yes(proof.identifiable)}; condition number {proof.condition_number:.4g}{hit}"


def _yes(verdict: bool) -> str:
    return "yes" if verdict else "NO"


def _four(value: float) -> str:
    return f"{value:.4g}"


def _range(ends: Sequence[float] | None, write: Callable[[float], str]) -> str:
    return f"{write(ends[0])} to {write(ends[1])}" if ends else "-"


def show_beside(found: Fit, frontier: Frontier | None) -> None:
    """N* of each budget by its parabola and by the law, and the two exponents, side by side."""
    if frontier is None:
        return
    mean = "" if found.exponents is None else f", the law {found.exponents[0]:.3f}"
    rows = []
    for vertex in frontier.vertices:
        if vertex.N is None or vertex.D is None or vertex.loss is None:
            rows.append([numbers.power(vertex.C), "", "", "", vertex.left_out or ""])
            continue
        try:
            there = f"{float(found.law.loss(vertex.N, vertex.D)):.4f}"
        except TypeError:  # the law needs further columns, which a vertex has not
            there = ""
        sizes = [numbers.power(vertex.C), numbers.count(vertex.N), f"{vertex.loss:.4f}", there]
        rows.append([*sizes, vertex.left_out or ""])
    _put(
        ["budget", "N* by parabola", "its loss", "law there", "left out"],
        rows,
        title=f"Approach 2 beside: N* ~ C^{frontier.a:.3f}{mean}",
        words="left out",
    )
