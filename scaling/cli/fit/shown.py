"""A fit on the terminal: law, coefficients, answers, objective, certificate, warnings."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit
    from scaling.fitting.isoflop import Frontier


def _console() -> Any:
    """The terminal, or 400 columns of a file."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 400
    return console


def show(found: Fit) -> None:
    """The fit on the terminal: law, coefficients, answers, objective, certificate, warnings."""
    console = _console()
    kind = type(found.law)
    console.print(f"[bold]{kind.name}[/]  {(kind.__doc__ or '').strip().splitlines()[0]}", markup=True)
    console.print(f"{found.n} runs of {found.source}, digest {found.digest}", markup=False)
    _put(console, _coefficients(found))
    if found.answers:
        _put(console, _answers(found))
    for planned, profile in itertools.zip_longest(found.planned, found.profiles.get("planned", ()), fillvalue={}):
        mean, new = (_range(planned.get(key, [])) for key in ("mean_law", "new_run"))
        console.print(
            f"planned N {planned['N']:.4g}, D {planned['D']:.4g}: loss {planned['loss']:.4f}; mean law {mean} (profile "
            f"{_range(profile.get('loss', []))}); a new run {new}"
        )
    _print_other_answers(console, found)
    console.print(f"\nobjective    {found.value:.8g}  ({found.objective.describe})", markup=False)
    console.print(f"units        {found.units}", markup=False)
    if found.noise:
        seed = f"; between repeats {found.noise.seed:.2%}" if found.noise.seed is not None else ""
        fits = f", lack of fit p = {found.noise.lack_of_fit:.2g}" if found.noise.lack_of_fit is not None else ""
        console.print(f"scatter      {found.noise.residual:.2%} of the loss around the law{seed}{fits}", markup=False)
    _print_certificate(console, found)
    for warned in found.warnings:
        console.print(f"[yellow]warning[/]      {warned.name}: ", end="")
        console.print(f"{warned.message} {warned.remedy}", markup=False)


def _print_other_answers(console: Any, found: Fit) -> None:
    """N* at the middle budget asked for, in narrower windows and under other laws, which no bootstrap knows of."""
    rows = found.beside
    if not rows:
        return
    table = _table(f"at C = {rows[0][2]['C']:.4g}", "law", "N", "D/N", "loss", " ", words=("law", " "))
    for what, law, answer, note in rows:
        table.add_row(
            what, law, f"{answer['N']:.4g}", f"{answer['tokens_per_parameter']:.4g}", f"{answer['loss']:.4g}", note
        )
    _put(console, table)


def _print_certificate(console: Any, found: Fit) -> None:
    proof = found.certificate
    verdict = "[green]verified[/]" if proof.verified else "[red]not verified[/]"
    rival = proof.next_best
    beside = "no other optimum found" if rival is None else f"next optimum {rival.value:.6g} (summed)"
    hit = f", at a bound: {', '.join(proof.bounds_hit)}" if proof.bounds_hit else ""
    console.print(f"certificate  {verdict}")
    console.print(
        f"  converged        {_yes(proof.converged)}  optimality residual {proof.gradient_norm:.1e} (needed 1e-8)"
    )
    console.print(
        f"  global evidence  {_yes(proof.global_evidence)}  {proof.agreeing_starts} of {proof.starts} starts agree; {beside}"
    )
    console.print(f"  identifiable     {_yes(proof.identifiable)}  condition number {proof.condition_number:.4g}{hit}")


def _yes(verdict: bool) -> str:
    return "[green]yes[/]" if verdict else "[red]no [/]"


def _range(ends: list[float]) -> str:
    return f"{ends[0]:.5g} to {ends[1]:.5g}" if ends else "-"


def _table(*headings: str, words: Sequence[str] = ()) -> Any:
    """An empty table; its first column and those of words are left, the numbers right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 or heading in words else "right", no_wrap=True)
    return table


def _put(console: Any, table: Any) -> None:
    """A table after an empty line, which only those with a box bring themselves."""
    if table.box is None:
        console.print()
    console.print(table)


def _coefficients(found: Fit) -> Any:
    level, profiles = f"{found.intervals['level']:.0%}", found.profiles
    headings = ["", "value", "std. error", f"{level} bootstrap"] + ([f"{level} profile"] if profiles else [])
    table = _table(*headings)
    errors = found.intervals["standard_errors"]
    held = {**profiles.get("params", {}), **profiles.get("exponents", {})}
    rows = [(name, value, found.intervals["params"].get(name, [])) for name, value in found.params.items()]
    if found.exponents is not None:
        rows += [(f"{n}  ({star} ~ C^{n})", value, found.intervals["exponents"].get(n, []))
                 for n, star, value in zip("ab", ("N*", "D*"), found.exponents)]  # fmt: skip
    for name, value, ends in rows:
        key = name.split(" ")[0]
        error = "" if errors.get(key) is None else f"{errors[key]:.3g}"
        table.add_row(name, f"{value:.6g}", error, _range(ends), *([_range(held.get(key, []))] if profiles else []))
    return table


def _answers(found: Fit) -> Any:
    level = f"{found.intervals['level']:.0%}"
    table = _table("at C", "", "best", f"{level} bootstrap", f"{level} profile", "costs < 0.1%", "costs < 1%")
    held = found.profiles.get("answers", [])
    for answer, profile in itertools.zip_longest(found.answers, held, fillvalue={}):
        flat = [_short(answer["flat"][share]) for share in ("0.1%", "1.0%")]
        for row, (key, label) in enumerate((("N", "N"), ("D", "D"), ("tokens_per_parameter", "D/N"), ("loss", "loss"))):
            ends = answer.get("intervals", {}).get(key, [])
            table.add_row(
                f"{answer['C']:.4g}" if row == 0 else "",
                label,
                f"{answer[key]:.4g}",
                _short(ends),
                _short(profile.get(key, [])),
                *(flat if row == 0 else ("", "")),
                end_section=key == "loss",
            )
    return table


def _short(ends: list[float] | None) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}" if ends else "-"


def show_beside(found: Fit, frontier: Frontier | None) -> None:
    """N* of each budget by its parabola and by the law, and the two exponents, side by side."""
    if frontier is None:
        return
    console = _console()
    mean = "" if found.exponents is None else f", the law {found.exponents[0]:.3f}"
    console.print(f"\nApproach 2 beside: N* ~ C^{frontier.a:.3f}{mean}", markup=False)
    table = _table("budget", "N* by parabola", "its loss", "law there", "left out", words=("left out",))
    for vertex in frontier.vertices:
        if vertex.N is None or vertex.D is None or vertex.loss is None:
            table.add_row(f"{vertex.C:.3g}", "", "", "", vertex.left_out or "")
            continue
        try:
            there = f"{float(found.law.loss(vertex.N, vertex.D)):.4f}"
        except TypeError:  # the law needs further columns, which a vertex has not
            there = ""
        table.add_row(f"{vertex.C:.3g}", f"{vertex.N:.4g}", f"{vertex.loss:.4f}", there, vertex.left_out or "")
    console.print(table)
