"""Rounds of design, sweep and fit on tiny real models: several rounds, both ways to stop, and going on after a kill."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from here import Here

from scaling.cli import main
from scaling.fitting.fit import Fit
from scaling.grid import Grid
from scaling.planning.allocate import Currency
from scaling.planning.design import BYTES, Target
from scaling.runs import Run, record_paths
from scaling.workflows import autopilot
from scaling.workflows.autopilot import REACHED, SPENT

TARGET = Target("loss", 1e11, Currency("exact", "N", 256, 16))
#: All runs together: about ten, of a tenth of a second each.
FLOPS = 1e10


@pytest.fixture(scope="module")
def like(text_folder):
    """A grid without curves, for the tests' own text."""
    recipe = {"batch_tokens": 1024}
    return Grid("tiny", (), corpus=str(text_folder), recipe=recipe, eval_tokens=1024, epochs=1000.0)


@pytest.fixture(scope="module")
def flown(like, corpus, tmp_path_factory):
    """Killed in its first and in its second round, then let go to the end of its budget."""
    folder, trained = tmp_path_factory.mktemp("auto"), []
    for stop_after in (2, 5):
        here = Here(corpus, stop_after)
        with pytest.raises(KeyboardInterrupt):
            autopilot(folder, TARGET, flops=FLOPS, factor=1.0001, like=like, executor=here)
        trained += here.trained
    here = Here(corpus)
    rounds = autopilot(folder, TARGET, flops=FLOPS, factor=1.0001, like=like, executor=here)
    return folder, rounds, trained + here.trained


def test_it_stops_at_the_budget_after_several_rounds(flown):
    folder, rounds, _ = flown
    assert len(rounds) >= 2
    assert [each.stopped for each in rounds[:-1]] == [None] * (len(rounds) - 1)
    assert rounds[-1].stopped == SPENT
    assert 0.7 * FLOPS < rounds[-1].flops <= 1.02 * FLOPS  # tokens are whole batches
    assert [len(each.runs) for each in rounds] == sorted({len(each.runs) for each in rounds})
    assert rounds[-1].fit.digest == Fit.read(folder / f"fit-{len(rounds)}.json").digest


def test_no_run_is_trained_twice_and_none_is_the_same_as_another(flown):
    _, rounds, trained = flown
    records = [Run.read(path) for each in rounds for path in record_paths(each.folder)]
    assert len(trained) == len(set(trained)) == len(records) == len(rounds[-1].runs)
    assert {record.id for record in records} == set(trained)
    assert all(each.plan.grid == Grid.read(each.folder) for each in rounds)


def test_again_it_trains_and_fits_nothing(flown, like, monkeypatch):
    folder, rounds, _ = flown
    monkeypatch.setattr(sys.modules["scaling.workflows.autopilot"], "fit", None)
    again = autopilot(folder, TARGET, flops=FLOPS, factor=1.0001, like=like, executor=None)
    assert [(each.factor, each.flops) for each in again] == [(each.factor, each.flops) for each in rounds]


class Planted:
    """Trains nothing: the losses of a law, with seed noise, so that a fit is worth its name at once."""

    def run(self, tasks, folder, corpus, look):
        for spec in (spec for task in tasks for spec in task.specs):
            noise = np.random.default_rng(int(spec.id, 16)).normal(0, 0.002)
            loss = float(BYTES.loss(spec.shape.N, spec.tokens) * np.exp(noise))
            run = Run.of(spec, status="done", loss=loss, loss_se=0.001, bits_per_byte=loss / np.log(2))
            run.write(folder)
        look()


def test_it_stops_at_the_target(like, tmp_path):
    """A wish that half the budget fulfils: it ends there, verified, and the planted answer is inside the interval."""
    target = Target("N", 1e13, Currency("exact", "N", 256, 16))
    rounds = autopilot(tmp_path, target, flops=2e12, factor=1.5, like=like, executor=Planted())
    last = rounds[-1]
    assert last.stopped == REACHED
    assert last.factor <= 1.5
    assert last.fit.verified
    assert last.flops < 1.9e12
    truth = float(np.exp(target.value(BYTES)))
    assert truth / last.factor**2 < last.value < truth * last.factor**2


def test_rounds_that_were_trained_otherwise_do_not_mix(flown, like):
    folder, _, _ = flown
    with pytest.raises(ValueError, match="eval_tokens = 1024, and now it is 512"):
        autopilot(folder, TARGET, flops=FLOPS, factor=1.1, like=replace(like, eval_tokens=512))


def test_command(flown, like, tmp_path, capsys):
    folder, rounds, _ = flown
    shapes = rounds[0].plan.grid.curves[:1]
    (tmp_path / "like.toml").write_text(replace(like, curves=shapes).toml())
    argv = ["autopilot", "--at", "1e11", "--target", "loss", "--flops", f"{FLOPS}", "--factor", "1.0001"]
    argv += ["--like", str(tmp_path / "like.toml"), "--out", str(folder)]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stopped"] == SPENT
    assert len(found["rounds"]) == len(rounds)
    assert found["factor"] == pytest.approx(rounds[-1].factor)
    assert main(argv) == 0
    assert "the budget is spent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--factor", "0.9"], "a number above 1"),
        (["--flops", "-1"], "positive number"),
        (["--flops", "1e8"], "Raise --max-run"),
        (["--flops", "1e10"], "Raise --flops or lower --max-run"),
        (["--at", "0"], "positive number of FLOPs"),
        (["--like", "nowhere.toml"], "no such file"),
    ],
)
def test_bad_input_is_one_line(flags, said, tmp_path, capsys):
    asked = {"--at": "1e14", "--flops": "1e13", "--out": str(tmp_path), flags[0]: flags[1]}
    assert main(["autopilot", *(word for pair in asked.items() for word in pair)]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
