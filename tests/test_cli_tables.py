"""The verbs isoflop, compare and reproduce: what they print, what they promise as JSON, how they refuse."""

import json
import re
import sys

import pytest

from scaling.cli import main
from scaling.cli._tables import print_table
from scaling.fitting.published import PUBLISHED


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
            {"C", "N", "D", "loss", "kept", "left_out", "runs", "depth", "loss_se"} == vertex.keys()
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


def test_isoflop_says_where_a_valley_is_shallow_beside_its_losses_error(capsys, tmp_path):
    """The shallower valley is .117 deep: an error of .0001 is under a tenth of that, one of .02 is not."""
    path = tmp_path / "noisy.csv"
    law = PUBLISHED["besiroglu"].law
    cells = [(C, law.optimum(C)[0] * 2.0**step) for C in (1e15, 1e16) for step in (-1, -0.5, 0, 0.5, 1)]
    for error in (1e-4, 0.02):
        rows = [f"{N},{C / (6 * N)},{law.loss(N, C / (6 * N))},{error},262144" for C, N in cells]
        path.write_text("\n".join(["N,D,loss,loss_se,eval_tokens", *rows, ""]))
        assert main(["isoflop", str(path), "--law", "besiroglu"]) == 0
        out, err = capsys.readouterr()
        assert "std. error" in out
        shallow = re.search(r"at 2 of 2 budgets .* 0\.02 of 0\.[0-9]+: .* eval_tokens = ([0-9,]+), would do", err)
        assert bool(shallow) == (error == 0.02)
        if shallow:
            assert int(shallow[1].replace(",", "")) == pytest.approx(262144 * (0.2 / 0.117) ** 2, rel=0.02)


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


SAYING = "what a person would have to read one syllable a line if it stood in a narrow column"


def test_words_that_find_no_room_follow_the_table(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    rows = [["one", *["1.234 to 5.678"] * 4, SAYING], ["two", *["1.234 to 5.678"] * 4, ""]]
    print_table(["", "a", "b", "c", "d", "why"], rows, words="why")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:2] == ["one", "what"] for line in lines)
    assert sum(line.startswith(" two") for line in lines) == 1
    monkeypatch.setenv("COLUMNS", "48")
    print_table(["rests on", "value", "source"], [["peak", SAYING, SAYING]], words="value,source")
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "value" not in out
    assert " ".join(out.split()) == f"rests on peak {SAYING}; {SAYING}"


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
