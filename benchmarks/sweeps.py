"""What a sweep takes beside its training: `python benchmarks/sweeps.py [overhead|throughput|status]`, all where none is named.

overhead: a sweep of 35 runs of about ten seconds each (7 sizes, 5 seeds; tokens by a speed measured first), one worker a core.
The driver's share is its own CPU seconds over the wall time; the gaps are the share of the workers' time from their first claim
to their last record in which no cell was trained, evaluated or compiled (starting Python and jax is said apart).
throughput: 16 equal tiny runs with one worker and with one a core, in turn, three times: tokens per second from first claim to
last record, as a ratio. One worker may use all cores, as one process does.
status: `scaling status`, and a sweep's plan with its checks, of 10,000 cells: none, 9,900 and all with records; wall-clock and
CPU seconds of a new process, the first without an index and three with it.

Writes benchmarks/sweeps.json, each part when it is done. Look at the load before: the machine must be quiet.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from scaling.grid import Grid
from scaling.runs import Run, record_paths, to_json, write_whole
from scaling.training import sweep as sweeps
from scaling.training.executors import Local, usable_cores
from scaling.training.state import Claims

HERE = Path(__file__)
WIDTHS = (16, 24, 32, 40, 48, 56, 64)


def main() -> None:
    """Measure what was asked for."""
    parts = {"overhead": overhead, "throughput": throughput, "status": status}
    for name in sys.argv[1:] or parts:
        load = os.getloadavg()[0]
        found = {"load_before": load, "cores": len(usable_cores()), **parts[name]()}
        path = HERE.with_suffix(".json")
        before = json.loads(path.read_text()) if path.exists() else {}
        write_whole(path, to_json({**before, name: found}))
        print(name, json.dumps(found, indent=1))


def overhead(seconds: float = 10.0, seeds: int = 5) -> dict:
    """The driver's share of a sweep of 35 runs, and the workers' gaps."""
    from scaling.training.corpus import Corpus

    corpus = Corpus.of("python")
    shapes = [{"depth": 2, "width": width} for width in WIDTHS]
    specs = Grid.of({"sizes": shapes, "tokens": [1e6]}).specs(corpus.digest)
    rates = Local().measure(specs, corpus.folder)
    table = {
        "cells": [{"sizes": [shape], "tokens": [rates[spec.id][0] * seconds]} for shape, spec in zip(shapes, specs)],
        "seeds": list(range(seeds)),
        "epochs": 1000,
    }
    with tempfile.TemporaryDirectory() as folder:
        return _timed(Grid.of(table, name="overhead"), Path(folder) / "runs", Local())


def throughput(repeats: int = 3) -> dict:
    """Tokens per second of one worker, and of one a core."""
    table = {"sizes": [{"depth": 2, "width": 32}], "tokens": [1.5e5], "seeds": list(range(16)), "epochs": 1000}
    rates: dict[str, list[float]] = {"one": [], "one a core": []}
    for _ in range(repeats):
        for name, executor in (("one", Local(1)), ("one a core", Local())):
            with tempfile.TemporaryDirectory() as folder:
                found = _timed(Grid.of(table, name="tiny"), Path(folder) / "runs", executor)
            rates[name].append(found["tokens"] / found["wall_seconds_from_first_claim"])
    ratios = [many / one for many, one in zip(rates["one a core"], rates["one"])]
    return {"tokens_per_second": rates, "ratios": ratios, "ratio_median": float(np.median(ratios))}


def _timed(grid: Grid, folder: Path, executor: Local) -> dict:
    """A sweep, its wall-clock times and what the driver and the workers did in them."""
    claimed: list[float] = []

    def watch(_: sweeps.Status) -> None:
        if not claimed and Claims(folder).live():
            claimed.append(time.time())

    todo = sweeps.plan(grid, folder)
    begin, cpu = time.time(), _cpu()
    done = sweeps.carry_out(todo, executor, watch)
    wall, driver = time.time() - begin, _cpu() - cpu
    last = max(path.stat().st_mtime for path in record_paths(folder))
    span = last - claimed[0]
    runs = list(done.records.values())
    at_work = sum(run.seconds + run.compile_seconds + run.eval_seconds for run in runs)
    return {
        "runs": len(runs),
        "tokens": sum(run.D for run in runs),
        "seconds_a_run": {
            "median": float(np.median([run.seconds for run in runs])),
            "most": max(r.seconds for r in runs),
        },
        "wall_seconds": wall,
        "wall_seconds_before_first_claim": claimed[0] - begin,
        "wall_seconds_from_first_claim": span,
        "wall_seconds_after_last_record": wall - (last - begin),
        "driver_cpu_seconds": driver,
        "driver_share": driver / wall,
        "workers": executor.workers,
        "idle_share_of_workers": 1 - at_work / (executor.workers * span),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def status() -> dict:
    """Seconds of looking at 10,000 cells."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, share in (("none", 0.0), ("9,900", 0.99), ("all", 1.0)):
            place = Path(folder) / name
            _many(place, share)
            first = _process("status", str(place))
            looks = [_process("status", str(place)) for _ in range(3)]
            planned = [_process_of(PLAN, str(place)) for _ in range(2)]
            found[name] = {"first": first, "indexed": _median(looks), "plan": _median(planned)}
    return found


#: A sweep's plan of a folder with its check of the design, without the corpus, as `--dry-run` has it before it measures.
PLAN = (
    "import sys; from scaling.grid import Grid; from scaling.training.sweep import plan; from scaling.workflows import "
    "design_warning; todo = plan(Grid.read(sys.argv[1]), sys.argv[1], brief=True); design_warning(todo), todo.warnings, "
    "todo.missing"
)


def _many(place: Path, share: float) -> None:
    """A folder of 10,000 cells, as a sweep leaves it, this share of them with records like a committed one."""
    from scaling.training.corpus import Corpus

    place.mkdir()
    table = {
        "budgets": [1e10 * 1.2**k for k in range(25)], "sizes": [{"depth": 2, "width": 8 + 2 * k} for k in range(20)],
        "seeds": list(range(20)), "epochs": 1000,
    }  # fmt: skip
    grid, corpus = Grid.of(table, name="many"), Corpus.of("python")
    specs = grid.specs(corpus.digest)
    assert len(specs) == 10_000
    like = json.loads(record_paths(HERE.parents[1] / "runs" / "quickstart")[0].read_text())
    names = ("loss", "loss_se", "seconds", "tokens_per_second", "device", "versions", "curve", "epochs")
    measured = {name: like[name] for name in names}
    for spec in specs[: round(share * len(specs))]:
        (place / f"{spec.id}.json").write_text(to_json(vars(Run.of(spec, status="done", **measured))))
    (place / ".sweep").mkdir()
    (place / "grid.toml").write_text(grid.toml())
    (place / "corpus.json").write_text(json.dumps({"digest": corpus.digest}))


def _process(*verb: str) -> dict[str, float]:
    return _process_of("import sys; from scaling.cli import main; sys.exit(main(sys.argv[1:]))", *verb)


def _process_of(code: str, *arguments: str) -> dict[str, float]:
    """Wall-clock and CPU seconds of a new process."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def _median(looks: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.median([each[name] for each in looks])) for name in looks[0]}


if __name__ == "__main__":
    main()
