"""What every test shares: strict jax, and where the published run tables are."""

import os
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]

# One core a test process: two processes of two threads each on two cores are many times slower than two of one.
if hasattr(os, "sched_setaffinity") and (worker := os.environ.get("PYTEST_XDIST_WORKER")):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker[2:]) % len(cores)]})

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the published run tables: SCALING_DATA, or `shared/data` beside the checkout."""
    named = os.environ.get("SCALING_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "chinchilla_epoch.csv").exists():
        reason = f"no chinchilla_epoch.csv in {folder}; set SCALING_DATA to a folder that has it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> Path:
    """A folder of 200 files of seeded words: enough text for a tiny run."""
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(2, 7))) for _ in range(300)]
    chance = 1 / np.arange(1, 301)
    for number in range(200):
        text = " ".join(rng.choice(words, 400, p=chance / chance.sum()))
        (folder / f"{number:03}.txt").write_text(text)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Corpora and compiled programs of the tests, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def corpus(text_folder, own_cache):
    """The corpus of that folder."""
    from scaling.training.corpus import Corpus

    return Corpus.of(str(text_folder))


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader's folder: the committed runs and fits, a table of their own, some text."""
    for name in ("runs", "fits"):
        shutil.copytree(ROOT / name, tmp_path / name)
    rng = np.random.default_rng(0)
    size, seen = np.repeat([1e6, 3e6, 1e7, 3e7], 4), np.tile([1e8, 3e8, 1e9, 3e9], 4)
    final = (1.7 + 400 / size**0.34 + 410 / seen**0.28) * np.exp(0.002 * rng.standard_normal(16))
    rows = "\n".join(f"{N:.0f},{D:.0f},{loss:.5f}" for N, D, loss in zip(size, seen, final))
    (tmp_path / "my_runs.csv").write_text(f"size,seen,final\n{rows}\n")
    grid = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert grid
    (tmp_path / "grid.toml").write_text(grid[1])
    (tmp_path / "my_text").mkdir()
    for number in range(100):
        words = " ".join(str(n) for n in rng.integers(0, 10_000, 800))
        (tmp_path / "my_text" / f"{number}.txt").write_text(words)
    monkeypatch.chdir(tmp_path)
    return tmp_path
