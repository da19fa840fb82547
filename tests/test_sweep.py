"""Sweeps: every cell trained once, whatever stops them; and folders that are not theirs."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from here import Here

from scaling.cli import main
from scaling.grid import Grid
from scaling.runs import Run, Runs, record_paths
from scaling.training import sweep as sweeps
from scaling.training.executors import Local
from scaling.training.state import STATE, Failures
from scaling.training.tasks import tasks_of
from scaling.training.train import train


@pytest.fixture(scope="module")
def grid(text_folder) -> Grid:
    """Four short cells on the tests' own text."""
    table = {
        "corpus": str(text_folder),
        "budgets": [2e8, 4e8],
        "sizes": [{"depth": 1, "width": 8}, {"depth": 1, "width": 16}],
        "context": 16,
        "eval_tokens": 512,
        "recipe": {"batch_tokens": 64, "learning_rate": 1e-2},
    }
    return Grid.of(table, name="tiny")


@pytest.fixture(scope="module")
def swept(grid, tmp_path_factory) -> sweeps.Plan:
    """The finished sweep."""
    return sweeps.sweep(grid, tmp_path_factory.mktemp("runs") / "tiny", Local(2))


def copy_of(plan: sweeps.Plan, folder: Path) -> Path:
    """The same folder of runs elsewhere, to be damaged."""
    folder.mkdir()
    for path in plan.folder.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_every_cell_has_its_record(grid, swept):
    assert {run.status for run in swept.records.values()} == {"done"}
    assert len(record_paths(swept.folder)) == len(swept.specs) == 4
    assert swept.missing == ()
    runs = Runs.read(swept.folder)
    assert len(runs) == 4
    assert sorted(runs.C) == sorted(run.C for run in swept.records.values())
    assert Grid.read(swept.folder).curves == grid.curves


def test_worker_processes_give_the_losses_of_this_process(swept, corpus):
    for spec in swept.specs:
        assert swept.records[spec.id].loss == pytest.approx(train(spec, corpus).loss, abs=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "wsd"])
def test_last_states_are_kept_when_asked_for_and_give_the_losses_again(schedule, grid, corpus, tmp_path):
    recipe = {**grid.recipe, "schedule": schedule}
    (tmp_path / "grid.toml").write_text(replace(grid, recipe=recipe).toml())
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs"), "--keep-checkpoints"]) == 0
    plan = sweeps.plan(Grid.read(tmp_path / "runs"), tmp_path / "runs")
    for spec in plan.specs:
        steps = []
        again = train(spec, corpus, checkpoints=tmp_path / "runs" / STATE / "checkpoints", watch=steps.append)
        assert again.loss == pytest.approx(plan.records[spec.id].loss, abs=1e-6)
        assert steps == []


def test_only_what_is_missing_is_trained(grid, swept, corpus, tmp_path):
    folder = copy_of(swept, tmp_path / "runs")
    gone = swept.specs[1]
    (folder / f"{gone.id}.json").unlink()
    here = Here(corpus)
    seen = []
    plan = sweeps.sweep(grid, folder, here, lambda status: seen.append((status.done, status.total)))
    assert here.trained == [gone.id]
    assert plan.records[gone.id].loss == pytest.approx(swept.records[gone.id].loss, abs=1e-6)
    assert seen == [(4, 4)]


def test_an_interrupted_sweep_keeps_what_is_done_and_goes_on(grid, corpus, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweeps.sweep(grid, tmp_path / "runs", Here(corpus, stop_after=2))
    assert len(record_paths(tmp_path / "runs")) == 2
    here = Here(corpus)
    assert sweeps.sweep(grid, tmp_path / "runs", here).missing == ()
    assert len(here.trained) == 2


def test_the_longest_cells_come_first(grid, tmp_path):
    order = [spec.C for spec in sweeps.plan(grid, tmp_path / "runs").missing]
    assert order == sorted(order, reverse=True)


def worker_that(does: str, folder: Path) -> str:
    """A stand-in for Python that starts the worker after running this code, in which `trainer` is the training module."""
    code = f"import errno, os, sys; import scaling.training.train as trainer; {does}; from scaling.training.worker import main"
    script = folder / "python"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}; sys.exit(main(sys.argv[3:]))' \"$@\"\n")
    script.chmod(0o755)
    return str(script)


def one_cell(grid: Grid) -> Grid:
    """The first cell of a grid, as a grid."""
    return replace(grid, curves=(replace(grid.curves[0], shapes=grid.curves[0].shapes[:1]),))


def test_a_cell_that_kills_its_worker_three_times_is_recorded(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", worker_that("trainer.train = lambda *a, **k: os._exit(7)", tmp_path))
    plan = sweeps.sweep(one_cell(grid), tmp_path / "runs", Local(1))
    assert [run.reason for run in plan.failed] == ["failed 3 times, last: its worker died with exit status 7"]


def test_three_failures_of_a_cell_leave_the_rest_trained_and_exit_3(grid, swept, tmp_path, monkeypatch, capsys):
    """One width always kills its worker; by the command, the other's cells are trained, and it says which failed and why."""
    plain = "plain = trainer.train"
    deadly = "trainer.train = lambda spec, *a, **k: os._exit(7) if spec.shape.width == 8 else plain(spec, *a, **k)"
    monkeypatch.setattr(sys, "executable", worker_that(f"{plain}; {deadly}", tmp_path))
    (tmp_path / "grid.toml").write_text(grid.toml())
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs"), "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert [each["reason"] for each in answer["failed"]] == [
        "failed 3 times, last: its worker died with exit status 7"
    ] * 2
    records = {path.stem: Run.read(path) for path in record_paths(tmp_path / "runs")}
    assert {id for id, run in records.items() if run.status == "done"} == {
        spec.id for spec in swept.specs if spec.shape.width == 16
    }
    assert all(run.loss == swept.records[id].loss for id, run in records.items() if run.status == "done")


def test_workers_that_cannot_start_end_the_sweep(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        ValueError, match=r"\d workers in a row ended before they had a cell, the last with exit status 1"
    ):
        sweeps.sweep(grid, tmp_path / "runs", Local(2))


@pytest.mark.parametrize(
    ("options", "says"),
    [([], "jax has no device here .* Needed one"), (["--needs", "gpu"], "jax has only a cpu here. Needed a gpu")],
)
def test_a_worker_without_its_device_claims_nothing(grid, tmp_path, monkeypatch, options, says):
    """The sweep ends in one line, and no cell is to blame."""
    if not options:
        monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(sys, "executable", worker_that(f"sys.argv += {json.dumps(options)}", tmp_path))
    with pytest.raises(ValueError, match=f"3 workers in a row ended before they had a cell, .*{says}"):
        sweeps.sweep(one_cell(grid), tmp_path / "runs", Local(1))
    assert record_paths(tmp_path / "runs") == []
    assert not list((tmp_path / "runs" / ".sweep").glob("failures/*"))


def test_a_place_without_a_device_leaves_the_others_at_work(grid, swept, tmp_path, monkeypatch):
    """All workers but the first end at once: that one trains all cells, and it is said once."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nmkdir {tmp_path / "taken"} || exit 1\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.warns(UserWarning, match="3 workers in a row .* No more are started while others train"):
        plan = sweeps.sweep(grid, tmp_path / "runs", Local(2))
    assert {id: run.loss for id, run in plan.records.items()} == {id: run.loss for id, run in swept.records.items()}


def test_a_pack_that_failed_is_tried_again_when_asked(grid, tmp_path, monkeypatch):
    """Its failures are counted under an id that depends on the device, which who asks need not know."""
    monkeypatch.setattr(Local, "pack_bytes", 1e9)
    folder, packing, grid = tmp_path / "runs", Local(1), one_cell(grid)
    grid = replace(grid, curves=(replace(grid.curves[0], seeds=(0, 1)),))
    todo = sweeps.plan(grid, folder)
    packs = tasks_of(todo.specs, pack_bytes=1e9)
    assert {task.kind for task in packs} == {"pack"}
    for task in packs:
        for number in range(3):
            Failures(folder).add(task.id, f"bad luck {number}")
    assert len(sweeps.carry_out(todo, packing).failed) == len(todo.specs)
    again = sweeps.carry_out(sweeps.retry_failed(sweeps.plan(grid, folder)), packing)
    assert {run.status for run in again.records.values()} == {"done"}


def test_a_full_disk_ends_the_sweep_in_one_line(grid, tmp_path, monkeypatch, capsys):
    error = 'OSError(errno.ENOSPC, os.strerror(28), "x.json")'
    full = f"trainer.train = lambda *a, **k: (_ for _ in ()).throw({error})"
    monkeypatch.setattr(sys, "executable", worker_that(full, tmp_path))
    (tmp_path / "grid.toml").write_text(grid.toml())
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs")]) == 2
    said = "a worker cannot write (x.json: No space left on device). Once it can, the same command goes on"
    assert said in capsys.readouterr().err
    assert record_paths(tmp_path / "runs") == []


def test_a_diverged_cell_is_failed_and_the_rest_is_trained(grid, tmp_path):
    wild = replace(grid, recipe={**grid.recipe, "learning_rate": 1e30, "clip": 1e30}, curves=grid.curves[:1])
    plan = sweeps.sweep(wild, tmp_path / "runs", Local(1))
    assert [run.status for run in plan.records.values()] == ["failed", "failed"]
    assert all("diverged" in run.reason for run in plan.failed)
    with pytest.raises(ValueError, match="no finished run"):
        Runs.read(tmp_path / "runs")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_cleanly_and_say_how_to_go_on(number, grid, tmp_path):
    """The whole command in a process of its own, stopped while it trains, then finished."""
    long = replace(grid, curves=tuple(replace(curve, budget=curve.budget * 40) for curve in grid.curves), epochs=1000)
    (tmp_path / "grid.toml").write_text(long.toml())
    start = (  # a test run in the background of a shell inherits an ignored SIGINT
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from scaling.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", start, "sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs")]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.time() + 120
    while not record_paths(tmp_path / "runs") and time.time() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    last = complaint.strip().splitlines()[-1]
    assert "cells left" in last
    assert "goes on" in last
    state = tmp_path / "runs" / ".sweep"
    assert [*state.glob("claims/*"), *state.glob("queue-*")] == []  # the workers have ended, too
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert len(record_paths(tmp_path / "runs")) == 4
    assert not list(state.glob("checkpoints/*"))


@pytest.mark.parametrize("flag", ["--max-hours", "--max-flops"])
def test_a_limit_that_is_no_number_is_refused(flag, grid, tmp_path, capsys):
    (tmp_path / "grid.toml").write_text(grid.toml())
    assert main(["sweep", str(tmp_path / "grid.toml"), flag, "nan", "--dry-run"]) == 2
    assert f"{flag} nan: needed a number above 0" in capsys.readouterr().err


def test_max_hours_stops_and_the_same_command_goes_on(grid, tmp_path, capsys):
    (tmp_path / "grid.toml").write_text(replace(grid, epochs=1000).toml())
    command = ["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs"), "--devices", "1"]
    assert main([*command, "--max-hours", "1e-9"]) == 130
    assert "stopped at --max-hours with 4 of 4 cells left" in capsys.readouterr().err
    assert main([*command, "--max-hours", "1"]) == 0
    assert len(record_paths(tmp_path / "runs")) == 4


def test_max_flops_trains_the_cheapest_and_says_what_is_left(grid, tmp_path, capsys):
    (tmp_path / "grid.toml").write_text(grid.toml())
    command = ["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs"), "--devices", "1"]
    cheap = sorted(spec.C for spec in sweeps.plan(grid, tmp_path / "runs").specs)
    assert main([*command, "--max-flops", str(sum(cheap[:2]) + 1)]) == 130
    assert "stopped at --max-flops with 2 of 4 cells left" in capsys.readouterr().err
    assert sorted(Run.read(path).C for path in record_paths(tmp_path / "runs")) == cheap[:2]
    assert main([*command, "--max-flops", "1"]) == 130  # too little for any
    assert len(record_paths(tmp_path / "runs")) == 2


def test_retry_failed_trains_the_failed_cells_again_and_keeps_their_records(grid, swept, tmp_path, capsys):
    folder = copy_of(swept, tmp_path / "runs")
    spec = swept.specs[0]
    Run.of(spec, status="failed", reason="failed 3 times, last: bad luck").write(folder)
    for number in range(3):
        Failures(folder).add(spec.id, f"bad luck {number}")
    assert main(["sweep", str(folder)]) == 3  # left alone unless asked
    assert main(["sweep", str(folder), "--retry-failed", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["missing"] == 1
    assert Run.read(folder / f"{spec.id}.json").status == "failed"  # a dry run moves nothing
    assert main(["sweep", str(folder), "--retry-failed", "--only", "id!=" + spec.id]) == 3
    assert Run.read(folder / f"{spec.id}.json").status == "failed"  # another was meant
    assert main(["sweep", str(folder), "--retry-failed"]) == 0
    assert Run.read(folder / f"{spec.id}.json").loss == swept.records[spec.id].loss
    (aside,) = (folder / ".sweep" / "failed").iterdir()
    assert json.loads(aside.read_text())["reason"].endswith("bad luck")
    assert Failures(folder).of(spec.id) == []


def test_a_sweep_reads_each_record_once(grid, swept, corpus, tmp_path, monkeypatch):
    folder = copy_of(swept, tmp_path / "runs")
    (folder / f"{swept.specs[1].id}.json").unlink()
    read, plain = [], Run.read.__func__
    monkeypatch.setattr(Run, "read", classmethod(lambda cls, path: read.append(Path(path).stem) or plain(cls, path)))
    sweeps.sweep(grid, folder, Here(corpus))
    assert sorted(read) == sorted(spec.id for spec in swept.specs)


def test_a_damaged_record_is_named(grid, swept, tmp_path):
    folder = copy_of(swept, tmp_path / "runs")
    path = record_paths(folder)[0]
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=rf"{path.name}: a damaged record"):
        sweeps.plan(grid, folder)


def test_a_record_of_a_newer_schema_is_named(swept, tmp_path, capsys):
    folder = copy_of(swept, tmp_path / "runs")
    path = record_paths(folder)[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(ValueError, match="newer version"):
        Run.read(path)
    for verb in ("sweep", "status", "table", "fit"):
        assert main([verb, str(folder)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert path.name in line
        assert "newer version" in line


def test_a_folder_of_another_grid_is_refused(grid, swept, corpus, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "grid.toml").write_text(grid.toml())
    with pytest.raises(ValueError, match="belongs to another grid: its eval_tokens is 512, this one's is 256"):
        sweeps.sweep(replace(grid, eval_tokens=256), tmp_path / "runs", Here(corpus))
    N = grid.curves[1].shapes[0].N
    says = f"its isoFLOP curves differ: it has 2 cells, the first 4e\\+08 FLOPs with N = {N:,} and seed 0 more"
    with pytest.raises(ValueError, match=says):
        sweeps.sweep(replace(grid, curves=grid.curves[:1]), swept.folder, Here(corpus))
    seeds = tuple(replace(curve, seeds=(0, 1)) for curve in grid.curves)
    with pytest.raises(ValueError, match="it lacks 4 cells, the first 2e\\+08 FLOPs"):
        sweeps.sweep(replace(grid, curves=seeds), swept.folder, Here(corpus))
    with pytest.raises(ValueError, match=r"its recipe.learning_rate is 0.01, this one's is 0.5\."):
        sweeps.sweep(replace(grid, recipe={**grid.recipe, "learning_rate": 0.5}), swept.folder, Here(corpus))


def test_records_of_another_recipe_are_not_mixed_in(grid, swept, tmp_path):
    folder = copy_of(swept, tmp_path / "runs")
    changed = replace(grid, recipe={**grid.recipe, "learning_rate": 0.02})
    (folder / "grid.toml").write_text(changed.toml())
    with pytest.raises(ValueError, match=r"trained otherwise: learning_rate was 0.01, is now 0.02"):
        sweeps.plan(changed, folder)
    narrower = replace(grid, curves=grid.curves[:1])
    (folder / "grid.toml").write_text(narrower.toml())
    assert sweeps.plan(narrower, folder).warnings[0].startswith("2 records in")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            {"budgets": [1e8], "sizes": [1e4]},
            ["1 of 1 cells take fewer than 500 steps", "one window is the least batch"],
        ),
        (
            {"budgets": [1e11], "sizes": [1e4], "recipe": {"batch_tokens": 8192}},
            ["their batch is too large for their tokens"],
        ),
        (
            {"budgets": [1e11, 1e12], "sizes": [1e4, 4e4], "schedule": "wsd"},
            ["2 of 4 cells share a trunk", "4 to 8 times"],
        ),
        ({"budgets": [1e11, 2e11], "sizes": [1e4, 4e4], "schedule": "wsd"}, []),
        ({"budgets": [1e11, 1e12], "sizes": [1e4, 4e4]}, []),
    ],
    ids=["one window", "large batch", "trunk", "near lengths", "no trunk"],
)
def test_batches_that_cost_loss_are_named(table, says, grid, tmp_path):
    plan = sweeps.plan(Grid.of({"corpus": grid.corpus, "epochs": 1e6, "eval_tokens": 4096, **table}), tmp_path)
    said = [each for each in plan.warnings if "epochs" not in each and "held-out" not in each]
    assert len(said) == bool(says)
    assert all(each in said[0] for each in says)


@pytest.mark.parametrize(
    ("warmup", "says"),
    [
        (206_000, None),
        (1_000_000, "1 of 2 cells end before their warm-up does (N = 9,602, D = "),
        (10**7, "2 of 2 cells"),
    ],
)
def test_warm_ups_longer_than_their_runs_are_named(warmup, says, grid, tmp_path):
    table = {"corpus": grid.corpus, "budgets": [1e10, 1e11], "sizes": [9.6e3], "epochs": 1e6, "eval_tokens": 4096}
    plan = sweeps.plan(Grid.of({**table, "recipe": {"warmup_tokens": warmup}}), tmp_path)
    said = [each for each in plan.warnings if "warm-up" in each]
    assert len(said) == bool(says)
    assert all(says in each and f"warmup_tokens = {warmup:,})" in each for each in said)


def test_records_trained_otherwise_are_seen_however_their_budget_rounds(grid, tmp_path):
    """At 1.25e11 FLOPs whole batches of one size and of another round to 1.2e11 and 1.3e11."""
    table = {"corpus": grid.corpus, "budgets": [1.25e11], "sizes": [1e4, 2e4, 4e4], "epochs": 1e6, "eval_tokens": 4096}
    now = Grid.of({**table, "recipe": {"batch_tokens": 128}})
    digest = sweeps.plan(now, tmp_path / "new").digest
    for spec in Grid.of({**table, "recipe": {"batch_tokens": 2048}}).specs(digest):
        folder = tmp_path / spec.id
        Run.of(spec, status="done", loss=2.0, loss_se=0.0).write(folder)
        with pytest.raises(ValueError, match="batch_tokens was 2048, is now 128"):
            sweeps.plan(now, folder)


def test_too_little_text_says_how_many_epochs(grid, tmp_path):
    hungry = replace(grid, curves=tuple(replace(curve, budget=curve.budget * 1000) for curve in grid.curves))
    with pytest.raises(ValueError, match=r"that is .* epochs, and the grid allows 1"):
        sweeps.plan(hungry, tmp_path)
    assert sweeps.plan(replace(hungry, epochs=1000), tmp_path).warnings[-1].startswith("4 of 4 cells repeat their text")


def test_a_sweep_goes_on_only_from_the_corpus_it_began_with(grid, swept, corpus, tmp_path):
    folder = copy_of(swept, tmp_path / "runs")
    text = tmp_path / "text"
    text.mkdir()
    (text / "other.txt").write_text(" ".join(map(str, range(30_000))))
    moved = replace(grid, corpus=str(text))
    assert sweeps.sweep(moved, folder).corpus is None  # nothing is missing, so the text is not needed
    gone = swept.specs[0]
    (folder / f"{gone.id}.json").unlink()
    for other in (moved, replace(grid, corpus="planted:1"), replace(grid, corpus=str(tmp_path / "gone"))):
        with pytest.raises(ValueError, match=f'(has changed|no such file).*set corpus = "digest:{corpus.digest}"'):
            sweeps.plan(other, folder)
    kept = replace(grid, corpus=f"digest:{corpus.digest}")
    assert [spec.id for spec in sweeps.plan(kept, folder).missing] == [gone.id]
    assert sweeps.sweep(kept, folder, Here(corpus)).missing == ()
    begun = folder / "corpus.json"
    begun.write_text(json.dumps({**json.loads(begun.read_text()), "digest": "0123456789abcdef"}))
    for path in record_paths(folder):
        path.unlink()
    with pytest.raises(ValueError, match="has changed: the runs were trained on digest 0123456789abcdef"):
        sweeps.plan(moved, folder)


def test_a_held_out_set_that_has_changed_is_refused_by_name(grid, corpus, tmp_path):
    more = tmp_path / "more.txt"
    more.write_text("one text " * 100)
    held, folder = replace(grid, heldout={"more": str(more)}), tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        sweeps.sweep(held, folder, Here(corpus, stop_after=1))
    assert len(sweeps.plan(held, folder).missing) == 3
    was = json.loads((folder / "corpus.json").read_text())["heldouts"]["more"]
    more.write_text("another text " * 100)
    with pytest.raises(
        ValueError, match=f"held-out set 'more' has changed: .* digest {was}, it now has [0-9a-f]{{16}}"
    ):
        sweeps.plan(held, folder)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"digest": "01'])
def test_a_damaged_corpus_json_is_named(grid, swept, tmp_path, damage):
    folder = copy_of(swept, tmp_path / "runs")
    (folder / "corpus.json").write_text(damage)
    with pytest.raises(ValueError, match=r"corpus.json: damaged"):
        sweeps.plan(grid, folder)


def test_no_permission_to_write_is_one_line(grid, corpus, capsys, tmp_path):
    (tmp_path / "grid.toml").write_text(grid.toml())
    (tmp_path / "file").write_text("")
    assert main(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "file" / "runs")]) == 2
    assert capsys.readouterr().err.strip().endswith("Not a directory.")


def test_the_verb_plans_trains_and_answers_in_json(grid, swept, tmp_path, capsys):
    folder = copy_of(swept, tmp_path / "runs")
    (folder / f"{swept.specs[0].id}.json").unlink()
    assert main(["sweep", str(folder), "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["total"], planned["done"], planned["missing"]) == (4, 3, 1)
    assert planned["flops"] == swept.specs[0].C
    assert planned["seconds"] > 0
    assert [cell["status"] for cell in planned["cells"]].count("missing") == 1
    assert main(["sweep", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "4 of 4 runs" in shown
    assert f"{swept.records[swept.specs[0].id].loss:.4f}" in shown


def test_failed_cells_set_the_exit_status(grid, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wild = replace(grid, recipe={**grid.recipe, "learning_rate": 1e30, "clip": 1e30}, curves=grid.curves[:1])
    (tmp_path / "grid.toml").write_text(wild.toml())
    assert main(["sweep", str(tmp_path / "grid.toml"), "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["failed"]) == 2
    assert "diverged" in answer["failed"][0]["reason"]
    assert main(["status", "runs/tiny"]) == 3
    assert "diverged" in capsys.readouterr().out
