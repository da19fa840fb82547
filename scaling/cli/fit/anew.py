"""`scaling fit TABLE`: what was asked for on the command line, fitted, written, printed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cli import _runs, emit_json

if TYPE_CHECKING:
    from scaling.fitting.compare import Candidate
    from scaling.fitting.fit import Fit
    from scaling.fitting.isoflop import Frontier
    from scaling.fitting.objective import Objective
    from scaling.runs import Runs

#: Options that say how a table was read: kept with the fit, so that it can be made again.
_READING = ("runs", "columns", "units", "count", "flops_as", "checkpoints", "join", "weigh_by_se")


def anew(args: argparse.Namespace) -> None:
    """Fit the table as asked, write the fit, print it."""
    from scaling.cli.fit.shown import show, show_beside

    runs = _runs.read(args)
    if args.weigh_by_se:
        runs = runs.weighed(relative=_objective(args).log)
    found = _found(runs, args)
    path = Path(args.output) if args.output else Path("fits") / f"{Path(args.runs).resolve().stem}-{args.law}.json"
    _refuse_other(path, found, args.force)
    found.write(path)
    beside = _frontier(runs)
    if args.json:
        payload = {key: value for key, value in found.to_json().items() if key != "draws"}
        approach2 = None if beside is None else beside.to_json()
        return emit_json(payload | {"path": str(path), "approach2": approach2})
    show(found)
    show_beside(found, beside)
    print(f"written to {path}")


def _frontier(runs: Runs) -> Frontier | None:
    """Approach 2 on the same runs; None where they are not isoFLOP curves."""
    from scaling.fitting.isoflop import approach2

    try:
        return approach2(runs)
    except ValueError:
        return None


def _found(runs: Runs, args: argparse.Namespace) -> Fit:
    from dataclasses import replace

    from scaling.fitting.compare import Candidate
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
    limits = {
        "pin": {name: _number(text, "--pin") for name, text in _runs.pairs(args.pin, "--pin").items()},
        "tie": _runs.pairs(args.tie, "--tie"),
        "bound": {name: _two(text, "--bound", ":") for name, text in _runs.pairs(args.bound, "--bound").items()},
        "prior": {name: _two(text, "--prior", ":") for name, text in _runs.pairs(args.prior, "--prior").items()},
    }
    found = fit(
        runs,
        LAWS[args.law],
        _objective(args),
        resamples=args.resamples,
        level=args.level,
        starts=args.starts,
        seed=args.seed,
        by=args.by,
        flops=args.flops or (),
        plan=[_two(text, "--plan", ",") for text in args.plan or ()],
        rivals=_rivals(runs, args, Candidate(LAWS[args.law], **limits)),
        **limits,
    )
    reading = {name: getattr(args, name) for name in _READING if getattr(args, name, None) not in (None, False)}
    return replace(found, settings={**found.settings, "read": reading})


def _rivals(runs: Runs, args: argparse.Namespace, own: Candidate) -> Sequence[Candidate]:
    """The laws to put beside: those that were named, every one that applies, or those near the fitted one."""
    from scaling.fitting.compare import Candidate, applicable
    from scaling.fitting.laws import LAWS
    from scaling.fitting.rivals import alternatives

    if args.no_rivals:
        if args.rivals:
            raise ValueError("--rivals and --no-rivals: one of the two.")
        return ()
    if args.rivals is None:
        return alternatives(own)
    names = [law.name for law in applicable(runs)] if args.rivals == "all" else args.rivals.split(",")
    unknown = [name for name in names if name not in LAWS]
    if unknown:
        raise ValueError(f"--rivals {unknown[0]}: known are all, {', '.join(LAWS)}.")
    return [each for each in (Candidate(LAWS[name]) for name in names) if each != own]


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
    return {key: value for key, value in settings.items() if key not in ("read", "flops", "plan", "rivals")}
