"""Published tables of runs: from a folder that the user names, or fetched once by a pinned address and checksum."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.runs import Runs

#: Environment variable with a folder that holds the tables.
FOLDER = "SCALING_DATA"


@dataclass(frozen=True)
class Published:
    """A table of runs that somebody else published.

    `names` are file names it goes by in a folder of the user's; `url` is pinned to a commit, `sha256` to its bytes.
    `runs`, `low` and `high` (N, C, loss) and `sums` (log N, log C, loss; loss times each logarithm) say whether the
    content of a file is this table, whatever its bytes are: no run can differ by 1e-5 of itself without showing.
    """

    names: tuple[str, ...]
    url: str
    sha256: str
    runs: int
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    sums: tuple[float, float, float, float, float]
    source: str


#: Name -> table.
TABLES: dict[str, Published] = {
    # The checksum is not of our own download and could not be confirmed: another project pins it for this file at this
    # commit (github.com/Camera-Lucida-Stack/instar-1, research/lib/chinchilla.py). Other bytes are refused, and what is parsed
    # is held to `sums`, which are of a copy that gives the paper's numbers (2026-11-24).
    "epoch": Published(
        ("chinchilla_epoch.csv", "svg_extracted_data.csv"),
        "https://raw.githubusercontent.com/epoch-research/analyzing-chinchilla/"
        "92258837425e1b5f2851d624287f0120583a3d0e/data/svg_extracted_data.csv",
        "193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
        245,
        (57334197.4, 1.397236736e18, 2.077394245),
        (16183346311.0, 1.295602267e22, 5.005581996),
        (5043.34433022, 11235.6036382, 655.032092932, 13431.2759039, 29896.5031791),
        "Besiroglu et al. 2024, arXiv 2404.10102: read off Hoffmann et al. 2022, Figure 4",
    ),
    # Checked on 2026-11-24: the file at this commit and a copy with this checksum are the same 12,498 bytes.
    "toolkit": Published(
        ("chinchilla_toolkit_llm.csv", "df.csv"),
        "https://raw.githubusercontent.com/kyo-takano/chinchilla/"
        "6e34bdd639e66ed2a987be7a59fb597087a86c1a/examples/llm/df.csv",
        "2ed2c412c6b408cb26896b92c0721fe9afa6515726b0db78c33db37cbf2816f9",
        234,
        (57334197.0, 1.397236736e18, 2.077394),
        (16183346311.0, 1.295602267e22, 3.405928),
        (4805.1558756, 10750.7624577, 615.427738, 12572.9939003, 28155.3052122),
        "Takano 2024, github.com/kyo-takano/chinchilla, examples/llm: read off Hoffmann et al. 2022, Figure 4",
    ),
}


def load(name: str, folder: str | Path | None = None) -> Runs:
    """The runs of a published table, checked to be that table.

    They are taken from `folder`, else from the folder in SCALING_DATA, else from the cache, else fetched. Raises ValueError
    for a folder without the file, for a file that is another table, and where it cannot be fetched.
    """
    if name not in TABLES:
        raise ValueError(f"published table {name!r}: known are {', '.join(TABLES)}.")
    table = TABLES[name]
    named = folder if folder is not None else os.environ.get(FOLDER)
    path = _fetch(table) if not named else _find(table, Path(named))
    runs = Runs.read(path)
    _check(runs, table, path)
    return runs


def _find(table: Published, folder: Path) -> Path:
    for name in table.names:
        if (folder / name).exists():
            return folder / name
    raise ValueError(f"{folder}: no {' or '.join(table.names)} in this folder. It can be had from {table.url} .")


def _fetch(table: Published) -> Path:
    """The path of the file in the cache, downloaded if it is not there; its bytes have the pinned checksum."""
    import pooch

    said = pooch.get_logger()
    level = said.level
    said.setLevel("WARNING")  # what goes wrong is said below, in one line
    try:
        return Path(pooch.retrieve(table.url, f"sha256:{table.sha256}", table.names[0], pooch.os_cache("isoflop")))
    except Exception as error:
        why = "no connection" if "Connection" in type(error).__name__ else " ".join(str(error).split())[:200]
        raise ValueError(
            f"{table.url} could not be fetched ({type(error).__name__}: {why}). Put the file into a folder as "
            f"{table.names[0]} and name the folder: --data FOLDER, or the environment variable {FOLDER}."
        ) from None
    finally:
        said.setLevel(level)


def _check(runs: Runs, table: Published, path: Path) -> None:
    """Raise ValueError where the content is not that of the published table."""
    columns = np.stack([runs.N, runs.C, runs.loss])
    found = (*columns.min(1), *columns.max(1), *content(runs))
    wanted = (*table.low, *table.high, *table.sums)
    if len(runs) != table.runs or not np.allclose(found, wanted, rtol=[*[1e-6] * 6, *[1e-9] * 5]):
        raise ValueError(
            f"{path}: {len(runs)} runs, C {runs.C.min():.6g} to {runs.C.max():.6g}, loss {runs.loss.min():.6g} to "
            f"{runs.loss.max():.6g}: not the {table.runs} runs of {table.source}."
        )


def content(runs: Runs) -> tuple[float, float, float, float, float]:
    """Sums over the runs of log N, log C, loss, loss log N and loss log C."""
    N, C, loss = np.log(runs.N), np.log(runs.C), runs.loss
    return float(N.sum()), float(C.sum()), float(loss.sum()), float(loss @ N), float(loss @ C)
