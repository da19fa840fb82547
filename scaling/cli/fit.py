"""Fit a law to a table of runs: coefficients with intervals, a certificate, warnings; writes fits/<name>-<law>.json.

The certificate gives three verdicts: converged (the optimality residual is at most 1e-8 and the Hessian positive), global
evidence (starts over the whole box agree and no other optimum comes near), identifiable (the runs tell the coefficients
apart). A fit with warnings is still written, with exit status 0; one that the runs cannot identify at all is refused.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import _runs, emit_json

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit
    from scaling.fitting.isoflop import Frontier
    from scaling.fitting.objective import Objective
    from scaling.runs import Runs

EXAMPLES = """\
examples:
  scaling fit runs/quickstart                              # a folder of records
  scaling fit table.csv --flops 1e24 --plan 70e9,1.4e12    # any table; the answer at a budget, the loss of a planned run
  scaling fit table.csv --objective huber --delta 0.01     # another objective; printed with the answer
  scaling fit table.csv --pin E=1.69 --tie alpha=beta --bound beta=.1:.6 --prior alpha=.34:.02
  scaling fit table.csv --law data-constrained --columns U=unique_tokens
  scaling fit --from fits/table-chinchilla.json            # do it again, and compare with what the file says
"""

#: Options that say how a table was read: kept with the fit, so that it can be made again.
_READING = ("runs", "columns", "units", "count", "flops_as", "checkpoints", "join")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scaling fit`."""
    _runs.add_options(parser, optional=True)
    parser.add_argument("--from", dest="again", metavar="FIT", help="make this fit again from its table, and compare")
    parser.add_argument("--law", default="chinchilla", help="the law (default chinchilla; a wrong name lists all)")
    what = parser.add_argument_group("what is minimised")
    what.add_argument(
        "--objective",
        default="log-huber",
        help="log-huber (default), huber, squared, log-squared, absolute, asymmetric",
    )
    what.add_argument(
        "--delta", type=float, help="where Huber turns from square to linear (log-huber 1e-3, huber 1e-2 nats)"
    )
    what.add_argument("--weight", type=float, help="asymmetric: how much more a law above the run counts (default 10)")
    what.add_argument("--reduction", choices=("sum", "mean"), default="sum", help="over runs (default sum)")
    known = parser.add_argument_group("what is known beforehand; several separated by commas")
    known.add_argument("--pin", action="append", metavar="E=1.69", help="hold a coefficient still")
    known.add_argument("--tie", action="append", metavar="alpha=beta", help="make one coefficient equal another")
    known.add_argument("--bound", action="append", metavar="beta=.1:.6", help="keep a coefficient between two values")
    known.add_argument(
        "--prior", action="append", metavar="alpha=.34:.02", help="what is known of it, with its standard error"
    )
    how = parser.add_argument_group("how sure, and of what")
    how.add_argument("--resamples", type=int, default=4000, help="bootstrap refits (default 4000; 0 for none)")
    how.add_argument(
        "--by", help="what the bootstrap draws: run, budget, or a column (default: the column group, if any)"
    )
    how.add_argument("--level", type=float, default=0.9, help="level of the intervals (default 0.9)")
    how.add_argument("--starts", type=int, default=500, help="starts over the whole box (default 500)")
    how.add_argument("--seed", type=int, default=0, help="seed of starts and bootstrap (default 0)")
    how.add_argument(
        "--rivals",
        metavar="LAW,...",
        help="other laws (`all` for every one that the table has columns for): their answers, and whether the runs tell "
        "them apart by predicting each budget from those below; a few seconds a law",
    )
    how.add_argument(
        "--flops", type=float, action="append", metavar="C", help="a budget to answer for; may be repeated"
    )
    how.add_argument(
        "--plan", action="append", metavar="N,D", help="a planned run: its loss, as mean law and as new run"
    )
    parser.add_argument("-o", "--output", help="where to write the fit (default fits/<name>-<law>.json)")
    parser.add_argument("--force", action="store_true", help="overwrite a different fit of that name")


def run(args: argparse.Namespace) -> int | None:
    """Fit, print, write."""
    if (args.runs is None) == (args.again is None):
        raise ValueError("give a table or folder of runs, or --from FIT; one of the two.")
    return _again(args) if args.again else _fit(args)


def _fit(args: argparse.Namespace) -> None:
    runs = _runs.read(args)
    found = _found(runs, args)
    path = Path(args.output) if args.output else Path("fits") / f"{Path(args.runs).resolve().stem}-{args.law}.json"
    _refuse_other(path, found, args.force)
    found.write(path)
    beside = _frontier(runs)
    if args.json:
        payload = {key: value for key, value in found.to_json().items() if key != "draws"}
        approach2 = None if beside is None else beside.to_json()
        return emit_json(payload | {"path": str(path), "approach2": approach2})
    _print(found)
    _print_beside(found, beside)
    print(f"written to {path}")


def _frontier(runs: Runs) -> Frontier | None:
    """Approach 2 on the same runs; None where they are not isoFLOP curves."""
    from scaling.fitting.isoflop import approach2

    try:
        return approach2(runs)
    except ValueError:
        return None


def _print_beside(found: Fit, frontier: Frontier | None) -> None:
    """N* of each budget by its parabola and by the law, and the two exponents, side by side."""
    if frontier is None:
        return
    console = _console()
    mean = "" if found.exponents is None else f", the law {found.exponents[0]:.3f}"
    console.print(f"\nApproach 2 beside: N* ~ C^{frontier.a:.3f}{mean}", markup=False)
    table = _table("budget", "N* by parabola", "its loss", "law there", "left out")
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


def _found(runs: Runs, args: argparse.Namespace) -> Fit:
    from dataclasses import replace

    from scaling.fitting.fit import fit
    from scaling.fitting.laws import LAWS

    if args.law not in LAWS:
        raise ValueError(f"--law {args.law}: known are {', '.join(LAWS)}.")
    for name, least in (("resamples", 0), ("starts", 1)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} {getattr(args, name)}: needed {least} or more.")
    if not 0 < args.level < 1:
        raise ValueError(f"--level {args.level}: needed a number between 0 and 1.")
    if any(not C > 0 for C in args.flops or []):
        raise ValueError("--flops: needed a positive number of FLOPs.")
    found = fit(
        runs,
        LAWS[args.law],
        _objective(args),
        resamples=args.resamples,
        level=args.level,
        starts=args.starts,
        seed=args.seed,
        by=args.by,
        pin={name: _number(text, "--pin") for name, text in _runs.pairs(args.pin, "--pin").items()},
        tie=_runs.pairs(args.tie, "--tie"),
        bound={name: _two(text, "--bound", ":") for name, text in _runs.pairs(args.bound, "--bound").items()},
        prior={name: _two(text, "--prior", ":") for name, text in _runs.pairs(args.prior, "--prior").items()},
        flops=args.flops or (),
        plan=[_two(text, "--plan", ",") for text in args.plan or ()],
    )
    reading = {name: getattr(args, name) for name in _READING if getattr(args, name, None) is not None}
    rivals = _rivals(runs, found, args) if args.rivals else ()
    return replace(found, settings={**found.settings, "read": reading}, rivals=rivals)


def _rivals(runs: Runs, found: Fit, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Other laws beside the fitted one: what each answers, and whether the runs show that it predicts worse than the best."""
    from scaling.fitting.compare import applicable, compare
    from scaling.fitting.laws import LAWS
    from scaling.fitting.uncertainty import sizes

    own = type(found.law)
    names = [law.name for law in applicable(runs)] if args.rivals == "all" else args.rivals.split(",")
    unknown = [name for name in names if name not in LAWS]
    if unknown:
        raise ValueError(f"--rivals {unknown[0]}: known are all, {', '.join(LAWS)}.")
    kinds = [own, *(LAWS[name] for name in names if LAWS[name] is not own)]
    compared = compare(runs, kinds, found.objective, starts=args.starts, seed=args.seed)
    asked = [answer["C"] for answer in found.answers]
    return [
        {
            "law": each.name, "params": dict(each.params), "objective": each.value, "verified": each.verified,
            "rolling_error": each.rolling_error, "behind": each.behind, "behind_se": each.behind_se,
            "told_apart": each.told_apart, "answers": sizes(each.law, asked) if each.law else [], "why_not": each.why,
        }
        for each in compared.contenders
    ]  # fmt: skip


def _objective(args: argparse.Namespace) -> Objective:
    from scaling.fitting.objective import OBJECTIVES

    if args.objective not in OBJECTIVES:
        raise ValueError(f"--objective {args.objective}: known are {', '.join(OBJECTIVES)}.")
    kind = OBJECTIVES[args.objective]
    limits = {name: value for name, value in (("delta", args.delta), ("weight", args.weight)) if value is not None}
    odd = [name for name in limits if name not in kind.__dataclass_fields__]
    if odd:
        raise ValueError(f"--{odd[0]}: the objective {kind.name} has none.")
    return kind(**limits, reduction=args.reduction)


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} {text}: needed a number.") from None


def _two(text: str, option: str, between: str) -> tuple[float, float]:
    parts = text.split(between)
    if len(parts) != 2:
        raise ValueError(f"{option} {text}: needed two numbers with `{between}` between them.")
    return _number(parts[0], option), _number(parts[1], option)


def _refuse_other(path: Path, found: Fit, force: bool) -> None:
    """Raise ValueError rather than overwrite what is not this same fit."""
    from scaling.fitting.fit import Fit

    if force or not path.exists():
        return
    there = Fit.read(path)
    same = (there.digest, there.law.name, there.objective, _identity(there)) == (
        found.digest, found.law.name, found.objective, _identity(found),
    )  # fmt: skip
    if not same:
        raise ValueError(
            f"{path}: holds a different fit (of {there.source}, {there.n} runs). Write elsewhere with -o, or --force."
        )


def _identity(found: Fit) -> dict[str, Any]:
    """The settings that make a fit what it is, as they come back from a file."""
    import json

    settings = json.loads(json.dumps(dict(found.settings)))
    return {key: value for key, value in settings.items() if key not in ("read", "flops", "plan")}


def _again(args: argparse.Namespace) -> int | None:
    """Make a fit again from its own settings; exit 0 where it is the same to 1e-6, raise ValueError where it is not."""
    from scaling.fitting import laws
    from scaling.fitting.fit import Fit, fit
    from scaling.runs import Runs

    there = Fit.read(args.again)
    chosen = {key: value for key, value in there.settings.items() if key not in ("weighted", "read")}
    reading = there.settings.get("read", {})
    runs = Runs.read(
        reading.get("runs", there.source),
        _runs.pairs(reading.get("columns"), "--columns"),
        count=reading.get("count"),
        flops=reading.get("flops_as"),
        units=_runs.pairs(reading.get("units"), "--units"),
        checkpoints=reading.get("checkpoints", "end"),
        join=reading.get("join"),
    )
    if runs.digest != there.digest:
        raise ValueError(
            f"{runs.source}: digest {runs.digest}, but {args.again} was fitted to {there.digest}: the table changed."
        )
    here = fit(runs, laws.LAWS[there.law.name], there.objective, **chosen)
    apart = {name: abs(here.params[name] / value - 1) if value else 0.0 for name, value in there.params.items()}
    worst = max(apart, key=lambda name: apart[name])
    if args.json:
        emit_json({"from": args.again, "same": apart[worst] < 1e-6, "difference": apart, "params": here.params})
    else:
        _print(here)
        print(f"{args.again}: largest difference {apart[worst]:.1e} of {worst}", file=sys.stderr)
    if apart[worst] >= 1e-6:
        raise ValueError(f"{args.again}: {worst} is {here.params[worst]:.8g} here and {there.params[worst]:.8g} there.")
    return None


def _console() -> Any:
    """The terminal, or 400 columns of a file."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 400
    return console


def _print(found: Fit) -> None:
    """The fit on the terminal: law, coefficients, answers, objective, certificate, warnings."""
    console = _console()
    kind = type(found.law)
    console.print(f"[bold]{kind.name}[/]  {(kind.__doc__ or '').strip().splitlines()[0]}", markup=True)
    console.print(f"{found.n} runs of {found.source}, digest {found.digest}\n", markup=False)
    console.print(_coefficients(found))
    if found.answers:
        console.print(_answers(found))
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
        console.print(f"scatter      {found.noise.residual:.2%} of the loss around the law{seed}", markup=False)
    _print_certificate(console, found)
    for warned in found.warnings:
        console.print(f"[yellow]warning[/]      {warned.name}: ", end="")
        console.print(f"{warned.message} {warned.remedy}", markup=False)


def _print_other_answers(console: Any, found: Fit) -> None:
    """N* at the middle budget asked for, in narrower windows and under other laws, which no bootstrap knows of."""
    if not found.answers:
        return
    at = len(found.answers) // 2
    rows = [("all runs", found.law.name, found.answers[at], "")]
    rows += [
        (each["what"], found.law.name, each["answers"][at], f"{each['n']} runs")
        for each in found.windows
        if each["answers"]
    ]
    verdict = {True: "predicts worse", False: "not told apart", None: "no prediction"}
    for each in found.rivals:
        if each["law"] != found.law.name and each["answers"]:
            rows.append(("all runs", each["law"], each["answers"][at], verdict[each["told_apart"]]))
    if len(rows) < 2:
        return
    table = _table(f"at C = {found.answers[at]['C']:.4g}", "law", "N", "D/N", "loss", "")
    for what, law, answer, note in rows:
        table.add_row(
            what, law, f"{answer['N']:.4g}", f"{answer['tokens_per_parameter']:.4g}", f"{answer['loss']:.4g}", note
        )
    console.print(table)


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


def _table(*headings: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    return table


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
