"""`scaling fit --from FIT`: a fit made again from its own settings, and every number compared with what its file says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from scaling.cli import _runs, emit_json

if TYPE_CHECKING:
    from scaling.fitting.fit import Fit
    from scaling.runs import Runs

#: What of a fit's file is made again; its intervals follow from draws that other machines round otherwise.
_PARTS = ("params", "objective", "intervals", "answers", "planned", "profiles", "windows", "rivals", "worst", "noise")
#: Coefficients that differ by less than this part of themselves are the same.
_SAME = 1e-6


def again(args: argparse.Namespace) -> None:
    """Make a fit again; raise ValueError where its coefficients are not the same to 1e-6."""
    from scaling.cli.fit.shown import show
    from scaling.fitting import laws
    from scaling.fitting.compare import Candidate
    from scaling.fitting.fit import Fit, fit

    there = Fit.read(args.again)
    runs = _read(there)
    if runs.digest != there.digest:
        raise ValueError(
            f"{runs.source}: digest {runs.digest}, but {args.again} was fitted to {there.digest}: the table changed."
        )
    chosen = {key: value for key, value in there.settings.items() if key not in ("weighted", "read", "rivals")}
    rivals = [Candidate.from_json(each) for each in there.settings.get("rivals", ())]
    here = fit(runs, laws.LAWS[there.law.name], there.objective, rivals=rivals, **chosen)
    new, old = here.to_json(), there.to_json()
    apart = {part: _difference(new[part], old[part]) for part in _PARTS if old[part]}
    if args.json:
        emit_json({"from": args.again, "same": apart["params"] < _SAME, "difference": apart, "params": here.params})
    else:
        show(here)
        shown = ", ".join(f"{part} {difference:.1e}" for part, difference in apart.items())
        print(f"{args.again}: largest difference of {shown}", file=sys.stderr)
    if not apart["params"] < _SAME:
        raise ValueError(
            f"{args.again}: made again, its coefficients differ by up to {apart['params']:.1e} of themselves."
        )


def _read(there: Fit) -> Runs:
    """The runs of a fit, read as they were read for it."""
    from scaling.runs import Runs

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
    return runs.weighed(relative=there.objective.log) if reading.get("weigh_by_se") else runs


def _difference(new: Any, old: Any) -> float:
    """The largest relative difference between the numbers of two values of one form; infinity where the form differs."""
    return max(_differences(new, old), default=0.0)


def _differences(new: Any, old: Any) -> Iterator[float]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from (each for key in old for each in _differences(new.get(key), old[key]))
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        yield from (each for pair in zip(new, old) for each in _differences(*pair))
    elif isinstance(old, float) and isinstance(new, float):
        yield abs(new / old - 1) if old else abs(new)
    elif new != old:
        yield float("inf")
