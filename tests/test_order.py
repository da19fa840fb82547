"""The order of tasks and the time left, by measured speed; what is shared; a look at a folder by its index."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.grid import Grid
from scaling.runs import Run, record_paths
from scaling.training import sweep as sweeps
from scaling.training.executors import Local
from scaling.training.state import STATE, Claims
from scaling.training.sweep import Now, Speeds, Status, sharing
from scaling.training.sweep.index import glance
from scaling.training.sweep.speeds import makespan
from scaling.training.tasks import tasks_of
from scaling.training.worker import Queue

TABLE = {"sizes": [{"depth": 2, "width": 8}, {"depth": 2, "width": 64}], "budgets": [4e9], "eval_tokens": 512}


@pytest.fixture
def cells():
    """Two sizes of one budget, the smaller first; whole batches give the larger .2% more FLOPs."""
    return sorted(Grid.of(TABLE).specs("digest"), key=lambda spec: spec.shape.N)


def record(spec, flops_per_second: float) -> Run:
    rate = flops_per_second / spec.shape.flops_per_token
    return Run.of(spec, status="done", loss=2.0, tokens_per_second=rate, seconds=1.0)


def test_what_takes_longest_comes_first_once_it_was_measured(cells):
    """Of equal FLOPs the larger size comes first, until the smaller is seen to be slower."""
    small, large = cells
    tasks = tasks_of(cells)
    assert [task.specs[0] for task in tasks] == [large, small]
    assert Speeds({}).longest_first(tasks) == tasks
    measured = Speeds.of([record(small, 1e9), record(large, 1e10)])
    assert [task.specs[0] for task in measured.longest_first(tasks)] == [small, large]
    assert measured.seconds(tasks[0]) == pytest.approx((large.C + 512 * large.shape.flops_per_token / 3) / 1e10)


def test_a_shape_between_two_measured_ones_is_between_them():
    speeds = Speeds({100: 1e9, 10_000: 1e11})
    assert [speeds.at(each) for each in (10, 100, 10_000, 10**6)] == pytest.approx([1e9, 1e9, 1e11, 1e11])
    assert speeds.at(1000) == pytest.approx(1e10)
    assert Speeds({}).at(1000) is None


def test_the_time_left_is_that_of_the_last_task():
    assert makespan([3, 1, 1, 1], 2) == 3
    assert makespan([2, 2, 2], 2) == 4
    assert makespan([], 2) == 0


def test_a_cell_that_is_trained_now_is_measured_too(cells, tmp_path):
    """The order changes once, when a shape is measured first; the time left counts what is done of each cell."""
    small, large = cells
    tasks = tasks_of(cells)
    status = Status(tmp_path, {spec.id: spec for spec in cells}, tasks, {})
    assert status.order() is None
    assert status.seconds_left is None
    pace = 1e10 / small.C * small.steps  # 1e10 FLOP/s
    status.now = {"one": Now(small, small.steps // 2, 2.0, 0.05, pace)}
    assert status.order() == tasks
    assert status.order() is None
    evaluated = 512 * (small.shape.flops_per_token + large.shape.flops_per_token) / 3
    assert status.seconds_left == pytest.approx((small.C / 2 + large.C + evaluated) / 1e10, rel=5e-3)
    assert status.flops_spent == pytest.approx(small.C / 2, rel=1e-2)


def test_what_a_trunk_has_done_is_counted_once(tmp_path):
    """Halfway between the first branch's fork and the second's, beside the first branch's own cost."""
    specs = Grid.of({**TABLE, "sizes": TABLE["sizes"][:1], "budgets": [1e9, 4e9], "schedule": "wsd"}).specs("digest")
    (task,) = tasks_of(specs)
    first, last = task.specs
    status = Status(tmp_path, {spec.id: spec for spec in specs}, [task], {first.id: record(first, 1e9)})
    fork = first.steps - first.decay_steps
    status.now = {"one": Now(last, fork + 100, 2.0, 1.0, 50.0)}
    assert task.reached({first.id}) == fork
    assert status.flops_spent == pytest.approx(task.own_flops[first.id] + 100 * last.C / last.steps)


def test_workers_claim_in_the_order_said_last(cells, tmp_path):
    tasks = tasks_of(cells)
    queue = Queue.write(tmp_path, tmp_path, tasks, 60.0)
    there = Queue.read(queue.path)
    assert there.ordered(tasks) == tasks
    queue.reorder(tasks[::-1])
    assert list(there.ordered(tasks)) == list(tasks[::-1])
    queue.remove()
    assert list((tmp_path / STATE).iterdir()) == []


@pytest.mark.parametrize(("apart", "share"), [(1.5, 0.507), (2.0, 0.613), (3.0, 0.736)])
def test_closer_budgets_share_more(apart, share):
    """Five budgets: the longest and a fifth of the others, over all."""
    assert sharing.by_spacing(5, 0.2)[apart] == pytest.approx(share, abs=1e-3)


def test_a_plan_says_what_branches_would_save(text_folder, tmp_path):
    table = {"corpus": str(text_folder), "sizes": [{"depth": 1, "width": 8}], "context": 16, "eval_tokens": 512}
    table |= {"budgets": [1e8, 2e8, 4e8], "epochs": 1000}
    plan = sweeps.plan(Grid.of(table), tmp_path)
    branched = sweeps.plan(Grid.of({**table, "schedule": "wsd"}), tmp_path)
    assert plan.share_of_single == 1
    assert plan.share_as_branches == pytest.approx(branched.share_of_single)
    assert plan.share_as_branches == pytest.approx(plan.share_by_spacing[2.0], rel=0.03)
    one = sweeps.plan(Grid.of({**table, "budgets": [1e8]}), tmp_path)
    assert one.share_as_branches == 1
    assert (one.lengths, plan.lengths) == (1, 3)


@pytest.mark.parametrize(
    ("schedule", "says"), [("wsd", "Branches share their trunks: 6"), ("linear", 'schedule = "wsd" would')]
)
def test_a_dry_run_says_what_branches_save(schedule, says, text_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Local, "measure", lambda self, specs, corpus: {spec.id: (1e5, 0.1) for spec in specs})
    grid = Grid.of({
        "corpus": str(text_folder), "sizes": [{"depth": 1, "width": 8}], "context": 16, "eval_tokens": 512,
        "budgets": [1e8, 2e8, 4e8], "epochs": 1000, "schedule": schedule,
    })  # fmt: skip
    (tmp_path / "grid.toml").write_text(grid.toml())
    assert main(["sweep", str(tmp_path / "grid.toml"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert says in shown
    assert "for 3 lengths a size by how far apart they are: 58% 1.5x apart, 66% 2x apart, 75% 3x apart" in shown
    assert main(["sweep", str(tmp_path / "grid.toml"), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["share_by_spacing"]["2"] == pytest.approx(0.657, abs=1e-3)


@pytest.fixture
def folder(cells, tmp_path) -> Path:
    """A folder with a record of each cell."""
    for spec in cells:
        record(spec, 1e9).write(tmp_path)
    (tmp_path / STATE).mkdir()
    return tmp_path


def test_a_glance_reads_only_what_has_changed(folder, cells, monkeypatch):
    assert {id: run.loss for id, run in glance(folder).items()} == {spec.id: 2.0 for spec in cells}
    read = []
    monkeypatch.setattr(Run, "read", classmethod(lambda cls, path: read.append(path) or record(cells[0], 1e9)))
    assert len(glance(folder)) == 2
    assert read == []
    path = record_paths(folder)[0]
    os.utime(path, ns=(1, 1))
    glance(folder)
    assert [Path(each) for each in read] == [path]


def test_a_glance_sees_new_gone_and_damaged_records(folder, cells):
    glance(folder)
    (folder / f"{cells[0].id}.json").unlink()
    assert glance(folder).keys() == {cells[1].id}
    replace(record(cells[0], 1e9), status="failed", loss=None, reason="why").write(folder)
    assert glance(folder)[cells[0].id].reason == "why"
    (folder / STATE / "index.json").write_text("{")
    assert len(glance(folder)) == 2
    (folder / f"{cells[0].id}.json").write_text("{")
    with pytest.raises(ValueError, match=rf"{cells[0].id}.json: a damaged record"):
        glance(folder)


def test_a_glance_at_a_folder_that_cannot_be_written_reads_it(folder, cells, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert len(glance(folder)) == 2
    assert list((folder / STATE).iterdir()) == []


def test_a_claim_says_how_fast_its_cell_goes(cells, tmp_path):
    claim = Claims(tmp_path).take([cells[0].id], "one")
    assert claim
    claim.beat(id=cells[0].id, step=10, loss=2.0, seconds=1.0, compile_seconds=0.0, steps_per_second=20.0)
    status = Status(tmp_path, {spec.id: spec for spec in cells}, tasks_of(cells), {})
    status.look()
    assert status.tokens_per_second == 20 * cells[0].recipe.batch_tokens
    claim.beat(id=cells[0].id, step=10, loss=2.0, seconds=1.0, compile_seconds=0.0)  # as a worker of before said it
    status.look()
    assert status.tokens_per_second == 0
    assert json.loads(claim.paths[0].read_text())["now"]["step"] == 10
