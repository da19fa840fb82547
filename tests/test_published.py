"""Published coefficients and tables: the numbers that papers give, and the ways to get at the runs."""

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

from scaling.fitting.objective import LogHuber
from scaling.fitting.published import PUBLISHED, TABLES, load, tables


@pytest.mark.parametrize(
    ("name", "objective", "ratio"),
    [("hoffmann", 4.121e-3, 92.6), ("hoffmann-tex", 1.231e-3, 58.9), ("besiroglu-huber", 1.0182740e-3, 17.9)],
)
def test_published_laws_have_their_objective_and_ratio(shared_data, name, objective, ratio):
    """Besiroglu et al. 2024: log-Huber (1e-3, summed) on the 240 runs, and D/N at 5.76e23 FLOPs; printed digits."""
    runs = load("epoch", shared_data)
    runs = runs.where(runs.loss < 3.446995)
    law = PUBLISHED[name].law
    assert len(runs) == 240
    assert LogHuber().value(runs.loss, law.loss(runs.N, runs.D)) == pytest.approx(objective, rel=2e-4)
    N, D = law.optimum(5.76e23)
    assert pytest.approx(ratio, abs=0.06) == D / N


def test_data_constrained_law_as_published():
    """Muennighoff et al. 2023's own check: 6.34e9 parameters, 242e9 tokens of which 25e9 unique."""
    law = PUBLISHED["muennighoff"].law
    assert law.loss(6.34e9, 242e9, U=25e9) == pytest.approx(2.2256441, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "columns"),
    [("kaplan", {}), ("kumar", {"P_w": 16.0, "P_a": 16.0, "P_kv": 16.0}), ("clark-s-base", {"X": 8.0}),
     ("krajewski", {"G": 1.0}), ("abnar", {"S": 0.0})],
)  # fmt: skip
def test_published_laws_are_in_our_units(name, columns):
    """1B parameters on 20B tokens: a language model of that size has a loss of 2 to 3.5 nats, in any of these papers."""
    assert 2 < PUBLISHED[name].law.loss(1e9, 20e9, **columns) < 3.5


def test_every_published_law_names_its_source():
    assert all(published.source for published in PUBLISHED.values())


def test_folder_of_the_user_and_of_the_environment(shared_data, tmp_path, monkeypatch):
    shutil.copy(shared_data / "chinchilla_epoch.csv", tmp_path / "svg_extracted_data.csv")
    assert len(load("epoch", tmp_path)) == 245
    monkeypatch.setenv(tables.FOLDER, str(shared_data))
    assert len(load("toolkit")) == 234
    with pytest.raises(ValueError, match=r"no chinchilla_toolkit_llm\.csv or df\.csv in this folder"):
        load("toolkit", tmp_path)
    with pytest.raises(ValueError, match="known are epoch, toolkit"):
        load("gopher", tmp_path)


def test_another_table_is_refused(shared_data, tmp_path):
    shutil.copy(shared_data / "chinchilla_toolkit_llm.csv", tmp_path / "chinchilla_epoch.csv")
    with pytest.raises(ValueError, match="not the 245 runs of Besiroglu"):
        load("epoch", tmp_path)


def test_one_altered_run_is_refused(shared_data, tmp_path):
    lines = (shared_data / "chinchilla_toolkit_llm.csv").read_text().splitlines()
    C, N, D, loss = lines[100].split(",")
    lines[100] = f"{C},{N},{D},{float(loss) + 1e-4}"
    (tmp_path / "df.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="not the 234 runs"):
        load("toolkit", tmp_path)


@pytest.fixture
def server(shared_data, tmp_path, monkeypatch):
    """The published file behind a local server, and an empty cache."""
    import functools
    import http.server
    import threading

    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(quiet, directory=str(shared_data))
    ) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.delenv(tables.FOLDER, raising=False)
        monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
        yield f"http://127.0.0.1:{httpd.server_port}/chinchilla_epoch.csv"
        httpd.shutdown()


def served(monkeypatch, url: str, sha256: str) -> None:
    monkeypatch.setitem(TABLES, "epoch", replace(TABLES["epoch"], url=url, sha256=sha256))


def test_fetched_once_by_checksum(shared_data, server, monkeypatch):
    data = (shared_data / "chinchilla_epoch.csv").read_bytes()
    served(monkeypatch, server, hashlib.sha256(data).hexdigest())
    first = load("epoch")
    served(monkeypatch, "http://127.0.0.1:1/gone.csv", hashlib.sha256(data).hexdigest())
    np.testing.assert_array_equal(load("epoch").loss, first.loss)


def test_wrong_bytes_and_no_network_say_what_to_do(server, monkeypatch):
    served(monkeypatch, server, "0" * 64)
    with pytest.raises(ValueError, match=r"could not be fetched.*hash.*--data FOLDER"):
        load("epoch")
    served(monkeypatch, "http://127.0.0.1:1/gone.csv", "0" * 64)
    with pytest.raises(ValueError, match=r"could not be fetched.*SCALING_DATA"):
        load("epoch")


def test_addresses_are_pinned():
    for table in TABLES.values():
        commit = table.url.split("/")[5]
        assert len(commit) == 40
        assert len(table.sha256) == 64
