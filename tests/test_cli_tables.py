"""The verbs isoflop, compare and reproduce: what they print, what they promise as JSON, how they refuse."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from scaling.cli import main
from scaling.cli._tables import memory, print_table
from scaling.cli.isoflop import _print_edges
from scaling.fitting.laws import Chinchilla
from scaling.fitting.published import PUBLISHED
from scaling.grid import Grid
from scaling.runs import Run


@pytest.fixture
def epoch(shared_data):
    return str(shared_data / "chinchilla_epoch.csv")


def printed(capsys, *argv: str) -> str:
    assert main(list(argv)) == 0
    return capsys.readouterr().out


def refused(capsys, *argv: str) -> str:
    assert main(list(argv)) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("scaling: ")
    assert err.count("\n") == 1
    return err


def test_isoflop_json(capsys, epoch):
    payload = json.loads(printed(capsys, "isoflop", epoch, "--law", "besiroglu", "--at", "1e24", "--json"))
    for name in ("approach1", "approach2"):
        found = payload[name]
        assert 0.4 < found["a"] < 0.6
        assert found["a"] + found["b"] == pytest.approx(1, abs=0.03)
        assert {"G_N", "G_D", "vertices", "left_out"} <= found.keys()
        assert all(
            {"C", "N", "D", "loss", "kept", "left_out", "runs", "depth", "depth_se", "N_se"} == vertex.keys()
            for vertex in found["vertices"]
        )
        assert all(row["reason"] for row in found["left_out"])
    assert payload["bias"]["a_law"] == pytest.approx(PUBLISHED["besiroglu"].law.exponents[0], abs=1e-9)
    assert payload["bias"]["errors"][-1]["C"] == 1e24
    assert set(payload["optimum"][0]) == {"C", "approach1", "approach2", "approach3"}


def test_isoflop_text(capsys, epoch):
    text = printed(capsys, "isoflop", epoch, "--law", "besiroglu", "--at", "1e24")
    assert "left out: vertex at N" in text
    assert "is its bias on this grid" in text
    assert "edge minimum" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("C", "says"), [([1e12], "left out: 1e+12 FLOPs"), ([1e12, 2e12], "left out: 1e+12 to 2e+12 FLOPs")]
)
def test_a_single_budget_left_out_is_no_span(capsys, C, says):
    kept, *edges = [SimpleNamespace(C=each, left_out="edge minimum") for each in (1e11, *C)]
    kept.left_out = None
    _print_edges(SimpleNamespace(vertices=[kept, *edges]))
    assert says in capsys.readouterr().out


def test_isoflop_says_where_a_valley_is_known_badly_over_the_held_out_tokens(capsys, tmp_path):
    grid = Grid.of(
        {"corpus": "planted:0", "budgets": [1e12, 1e13], "sizes": [2e4, 4e4, 8e4, 16e4, 32e4], "vocab": 64}, name="x"
    )
    law, rng = Chinchilla(E=1.5, A=30.0, B=200.0, alpha=0.4, beta=0.4), np.random.default_rng(0)
    for error in (0.001, 0.1):
        for spec in grid.specs("0" * 16):
            parts = law.loss(spec.shape.N, spec.tokens) + error * rng.normal(size=32)
            Run.of(spec, status="done", loss=parts.mean(), loss_parts=list(parts)).write(tmp_path)
        assert main(["isoflop", str(tmp_path), "--law", "besiroglu", "--inner", "inf", "--json"]) == 0
        out, err = capsys.readouterr()
        worst = max(json.loads(out)["approach2"]["vertices"], key=lambda vertex: vertex["depth_se"] / vertex["depth"])
        needed = re.search(r"at (\d) of 2 budgets the held-out tokens leave .* eval_tokens = ([0-9,]+) would do", err)
        assert bool(needed) == (error == 0.1)
        if needed:
            times = (10 * worst["depth_se"] / worst["depth"]) ** 2
            assert int(needed[2].replace(",", "")) == pytest.approx(262144 * times, rel=1e-4)


def test_isoflop_says_why_an_approach_does_not_apply(capsys, tmp_path):
    path = tmp_path / "ladder.csv"
    path.write_text("N,D,loss\n" + "".join(f"{1e6 * 2**i},{2e7 * 2**i},{4 - i / 10}\n" for i in range(8)))
    message = refused(capsys, "isoflop", str(path), "--law", "besiroglu")
    assert "neither approach applies" in message
    assert "no isoFLOP budget" in message
    assert "--law nobody" in refused(capsys, "isoflop", str(path), "--law", "nobody")


def test_columns_from_the_command_line(capsys, tmp_path):
    path = tmp_path / "odd.csv"
    rows = [
        (n, c / (6e6 * n), 2 + 40 / n + 40 * n / (c / 6e6))
        for c in (6e14, 6e15, 6e16)
        for n in (0.5, 1, 2, 4, 8, 16, 32)
    ]
    path.write_text("size,data,nll\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in rows))
    options = (
        "--columns",
        "N=size,D=data,loss=nll",
        "--units",
        "N=millions,D=ones",
        "--law",
        "besiroglu",
        "--inner",
        "inf",
        "--json",
    )
    payload = json.loads(printed(capsys, "isoflop", str(path), *options))
    assert payload["n"] == 21
    assert "needed FIELD=VALUE" in refused(capsys, "isoflop", str(path), "--columns", "size")
    assert "no column for the loss" in refused(capsys, "isoflop", str(path))


def test_compare(capsys, epoch):
    options = ("--laws", "chinchilla", "--hold-out", "1e21", "--starts", "60")
    payload = json.loads(printed(capsys, "compare", epoch, *options, "--json"))
    assert payload["laws"][0]["hold_out"][0]["fold"]["low"] == 1e21
    assert payload["objective"]["name"] == "log-huber"
    assert "rolling" in printed(capsys, "compare", epoch, *options)
    assert "--laws gopher: known are" in refused(capsys, "compare", epoch, "--laws", "gopher")
    assert "--objective odd" in refused(capsys, "compare", epoch, "--objective", "odd")
    assert "--delta: squared has none" in refused(capsys, "compare", epoch, "--objective", "squared", "--delta", "1")
    assert "positive" in refused(capsys, "compare", epoch, "--hold-out", "-1")


def test_reproduce(capsys, tmp_path):
    assert "24 of 24 numbers agree" in printed(capsys, "reproduce", "czech")
    payload = json.loads(printed(capsys, "reproduce", "czech", "--json"))
    assert payload["agrees"] is True
    assert "no chinchilla_epoch.csv" in refused(capsys, "reproduce", "besiroglu", "--data", str(tmp_path))
    assert "--resamples" in refused(capsys, "reproduce", "czech", "--resamples", "500")


def test_table(capsys, tmp_path, shared_data):
    source, out = str(shared_data / "chinchilla_toolkit_llm.csv"), tmp_path / "t.parquet"
    assert "234 runs; N counts N" in printed(capsys, "table", source)
    payload = json.loads(printed(capsys, "table", source, "--out", str(out), "--json"))
    again = json.loads(printed(capsys, "table", str(out), "--json"))
    assert again["digest"] == payload["digest"]
    assert payload["columns"]["D"] == "training tokens"
    assert "training tokens" in printed(capsys, "table", source, "--describe")
    assert ".csv or .parquet" in refused(capsys, "table", source, "--out", str(tmp_path / "t.txt"))
    assert "no such file" in refused(capsys, "table", str(tmp_path / "absent.csv"))


def test_a_table_is_written_over_nothing_unasked_and_never_over_itself(capsys, tmp_path):
    mine, other, link = tmp_path / "mine.csv", tmp_path / "other.csv", tmp_path / "link.csv"
    mine.write_text("params,tokens,nll\n1e6,2e7,4\n2e6,4e7,3\n")
    other.write_text("kept")
    link.symlink_to(mine)
    read = ("table", str(mine), "--columns", "N=params,D=tokens,loss=nll", "--out")
    assert "write over it with --force" in refused(capsys, *read, str(other))
    for name in (mine, link):
        assert "read from" in refused(capsys, *read, str(name), "--force")
    assert "read from" in refused(capsys, "table", str(other), "--join", str(mine), "--out", str(mine), "--force")
    assert mine.read_text().startswith("params,")
    assert other.read_text() == "kept"
    printed(capsys, *read, str(other), "--force")
    assert other.read_text().count("\n") == 3


SAYING = "what a person would have to read one syllable a line if it stood in a narrow column"


def test_words_that_find_no_room_follow_the_table(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    rows = [["one", *["1.234 to 5.678"] * 4, SAYING], ["two", *["1.234 to 5.678"] * 4, ""]]
    print_table(["", "a", "b", "c", "d", "why"], rows, words="why")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:2] == ["one", "why:"] for line in lines)
    assert sum(line.startswith(" two") for line in lines) == 1
    monkeypatch.setenv("COLUMNS", "48")
    print_table(["rests on", "value", "source"], [["peak", SAYING, SAYING]], words="value,source")
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert " ".join(out.split()) == f"rests on peak value: {SAYING}; source: {SAYING}"


def test_short_words_stay_in_their_table_and_a_dash_is_not_said_again(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    rows = [["one", "done", *["1.234 to 5.678"] * 3, "-"], ["two", "failed", *["1.234 to 5.678"] * 3, SAYING]]
    print_table(["run", "status", "a", "b", "c", "why"], rows, words="status,why")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 60
    assert any(line.split()[:2] == ["run", "status"] for line in lines)
    assert [line.split()[:2] for line in lines if "why" in line] == [["two", "why:"]]


def test_memory_is_never_nought_mebibytes():
    assert [memory(size) for size in (180_000, 2**20, 3.4e9)] == ["176 KiB", "1 MiB", "3,242 MiB"]


def test_numbers_that_find_no_room_go_on_below(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    rows = [[name, *(f"{row}.{column:06d}" for column in range(9)), "worse"] for row, name in enumerate(["one", "two"])]
    print_table(["law", *"abcdefghi", "verdict"], rows, words="verdict")
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= 60
    assert [cell for row in rows for cell in row if cell not in out.split()] == []
    assert sum(line.startswith(" law") for line in out.splitlines()) == 3


def test_a_piped_table_is_plain_and_whole(capsys):
    print_table(["", "why"], [["one", SAYING * 3]], words="why")
    out = capsys.readouterr().out
    assert SAYING * 3 in out
    assert not set(out) & set("\x1b─│")
