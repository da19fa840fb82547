"""Every command and snippet of the README, run in a folder that holds what the README's reader has."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest

from scaling.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.S)
COMMANDS = [block.splitlines() for kind, block in BLOCKS if kind == "sh" and block.startswith("scaling ")]
SNIPPETS = [block for kind, block in BLOCKS if kind == "python"]

#: Blocks that install; each is run by a test below, or by `.ci/run` itself.
INSTALLS = ("make quickstart", "python3 -m venv", "uv venv")


def test_the_readme_is_short_and_its_blocks_are_known():
    assert len(README.splitlines()) <= 150
    others = [block for kind, block in BLOCKS if kind == "sh" and not block.startswith("scaling ")]
    assert all(block.startswith(INSTALLS) for block in others)
    assert len(COMMANDS) == 5
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("commands", COMMANDS, ids=lambda lines: lines[0])
def test_the_commands_of_a_block_run_one_after_another(commands, reader, capsys):
    for command in commands:
        assert main(shlex.split(command, comments=True)[1:]) == 0
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.splitlines()[0])
def test_a_snippet_runs(snippet, reader):
    subprocess.run([sys.executable, "-c", snippet], check=True, cwd=reader)


def test_the_accelerator_builds_exist():
    named = set(re.findall(r"'jax\[(\w+)\]'", README))
    assert named <= set(metadata("jax").get_all("Provides-Extra"))
    assert len(named) == 3


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_installing_by_hand(tool, tmp_path):
    """The block's first line, in a copy of the sources."""
    for name in ("pyproject.toml", "README.md", "scaling"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    block = next(
        b for kind, b in BLOCKS if kind == "sh" and b.startswith({"pip": "python3 -m venv", "uv": "uv venv"}[tool])
    )
    line = block.splitlines()[0].replace("[test]", "")
    if tool == "uv" and not shutil.which("uv"):
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "tool"], check=True)
        subprocess.run([tmp_path / "tool/bin/pip", "install", "--quiet", "uv"], check=True)
        line = line.replace("uv ", f"{tmp_path}/tool/bin/uv ")
    clean = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}  # uv would install into that
    subprocess.run(line.replace("python3", sys.executable, 1), shell=True, check=True, cwd=tmp_path, env=clean)
    shown = subprocess.run([tmp_path / ".venv/bin/scaling", "--version"], check=True, capture_output=True, text=True)
    assert shown.stdout.startswith("scaling ")
