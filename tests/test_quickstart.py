"""The whole line, end to end: once small, and once as people run it."""

import json
from dataclasses import replace

import pytest

from scaling import workflows
from scaling.cli import main
from scaling.fitting.fit import Fit
from scaling.runs import Runs


@pytest.fixture(scope="module")
def tiny(text_folder):
    """Three budgets and four sizes, a second's work, on the tests' text."""
    grid = workflows.quickstart_grid()
    shapes = tuple(replace(shape, context=16) for shape in grid.curves[0].shapes[:4])
    curves = tuple(replace(grid.curves[0], budget=budget, shapes=shapes, seeds=(0,)) for budget in (1e8, 2e8, 4e8))
    return replace(
        grid, corpus=str(text_folder), curves=curves, eval_tokens=1024, recipe={"batch_tokens": 64}, epochs=5.0
    )


def test_everything_is_written_and_agrees(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workflows, "quickstart_grid", lambda: tiny)
    assert main(["quickstart", "--out", str(tmp_path / "q"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    folder = tmp_path / "q"
    runs, fit = Runs.read(folder / "runs"), Fit.read(folder / "chinchilla.json")
    assert len(runs) == answer["done"] == 12
    assert fit.digest == runs.digest
    assert answer["law"]["params"] == fit.params
    assert answer["allocation"]["C"] == pytest.approx(10 * runs.C.max(), rel=1e-6)
    text = (folder / "report.md").read_text()
    for name in ("isoflop", "power-laws", "training-curves", "residuals"):
        assert f"figures/{name}.png" in text
        for kind in ("png", "pdf"):
            assert (folder / "figures" / f"{name}.{kind}").stat().st_size > 2000
    assert (folder / "report.html").stat().st_size > 10_000

    assert main(["fit", str(folder / "runs"), "-o", str(tmp_path / "fit.json"), "--json"]) == 0
    beside = json.loads(capsys.readouterr().out)
    assert beside["params"] == pytest.approx(fit.params)
    assert beside["approach2"] == answer["approach2"]  # None where no curve of this tiny text has its minimum inside

    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*.json")}
    assert main(["quickstart", "--out", str(folder)]) == 0  # again: nothing is trained twice
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*.json")}
    shown = capsys.readouterr().out
    assert "isoFLOP curves" in shown or answer["approach2"] is None
    assert str(folder / "report.md") in shown


@pytest.mark.slow
def test_the_quickstart_finds_its_valleys(tmp_path, capsys):
    """The command as people run it: every minimum inside the trained sizes, N* rising at every budget."""
    assert main(["quickstart", "--out", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    vertices = answer["approach2"]["vertices"]
    assert len(vertices) >= 4
    assert all(vertex["kept"] for vertex in vertices)
    best = [vertex["N"] for vertex in sorted(vertices, key=lambda vertex: vertex["C"])]
    assert best == sorted(best)
    assert 0.35 < answer["approach2"]["a"] < 0.65
