"""The committed runs and fits: every fit comes out again from the runs that it names."""

import json
from pathlib import Path

import pytest

from scaling.fitting.fit import Fit, fit
from scaling.grid import Grid
from scaling.runs import Run, Runs, record_paths

ROOT = Path(__file__).parents[1]
GRIDS = sorted(path.parent for path in ROOT.glob("runs/*/grid.toml"))
FITS = sorted(ROOT.glob("fits/*.json"))


def test_there_is_something_to_hold():
    assert GRIDS
    assert FITS


@pytest.mark.parametrize("folder", GRIDS, ids=lambda path: path.name)
def test_every_cell_of_a_grid_has_its_record(folder):
    digest = json.loads((folder / "corpus.json").read_text())["digest"]
    specs = {spec.id for spec in Grid.read(folder).specs(digest)}
    records = {path.stem: Run.read(path) for path in record_paths(folder)}
    assert specs == set(records)
    assert all(run.id == id and run.status == "done" for id, run in records.items())


@pytest.mark.parametrize("path", FITS, ids=lambda path: path.stem)
def test_a_fit_comes_out_again(path):
    kept = Fit.read(path)
    runs = Runs.read(ROOT / kept.source)
    assert runs.digest == kept.digest
    again = fit(runs, type(kept.law), kept.objective, resamples=0)
    assert again.value == pytest.approx(kept.value, rel=1e-9)
    assert again.params == pytest.approx(kept.params, rel=1e-5)
