"""The snippets of the guides, page by page as a reader would run them, and what the reference is made from."""

import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import scaling
from scaling.cli import VERBS, main
from scaling.fitting.fit import FIELDS, Fit
from scaling.grid import KEYS, Grid
from scaling.recipe import Recipe
from scaling.runs.record import ALONE, Run
from scaling.runs.table import COLUMNS
from scaling.shape import Shape

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)

#: Guides that take seconds; the others train, fit or plan at length.
SHORT = {"index", "tables"}


def blocks(page: Path) -> list[tuple[str, str]]:
    return [block for block in BLOCK.findall(page.read_text()) if block[0] in ("sh", "python", "toml", "text")]


def run(kind: str, text: str, folder: Path, capsys) -> None:
    """A block: commands run one after another, Python in a process of its own; a file is written under its first line's name."""
    if kind == "python":
        done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif kind == "sh":
        for command in text.splitlines():
            words = shlex.split(command, comments=True)
            assert words[0] == "scaling", command
            assert main(words[1:]) == 0, f"{command}: {capsys.readouterr().err}"
            said = capsys.readouterr()
            assert (said.out + said.err).strip(), command
    else:
        first, _, rest = text.partition("\n")
        name = re.fullmatch(r"# ([\w-]+\.(?:toml|csv))", first)
        assert name, f"no file name in {first!r}"
        (folder / name[1]).write_text(rest)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page.stem not in SHORT else [], id=page.stem) for page in GUIDES],
)
def test_the_snippets_of_a_guide_run(page, reader, capsys):
    for kind, text in blocks(page):
        run(kind, text, reader, capsys)


def test_every_guide_is_in_the_index_and_every_verb_in_a_guide():
    index = (ROOT / "docs/index.md").read_text()
    assert all(re.search(rf"^{page.stem}$", index, re.M) for page in GUIDES if page.stem != "index")
    told = "\n".join(text for page in GUIDES for kind, text in blocks(page) if kind == "sh")
    told += (ROOT / "README.md").read_text()
    assert {verb for verb in VERBS if f"scaling {verb} " not in told} == set()


def test_every_key_of_a_record_a_fit_and_a_grid_is_described():
    names = {each.name for each in fields(Run)}
    assert set(ALONE) <= names <= set(ALONE) | set(COLUMNS)
    assert {each.name for kind in (Shape, Recipe) for each in fields(kind)} <= set(COLUMNS)
    fit = Fit.read(ROOT / "fits/quickstart-chinchilla.json")
    assert set(fit.to_json()) == set(FIELDS)
    grid = {each.name for each in fields(Grid)} - {"curves"}
    assert grid <= set(KEYS)


def test_the_public_names_have_docstrings():
    assert [name for name in scaling.__all__ if not (getattr(scaling, name).__doc__ or "").strip()] == []
