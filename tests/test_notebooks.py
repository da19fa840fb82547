"""Every notebook runs top to bottom in a fresh kernel, without a warning, and gives the numbers that are committed in it."""

import math
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?")

#: Bootstrap draws and optima come out again to many digits; what is left is the rounding of a number's last printed one.
RELATIVE, LAST_DIGIT = 0.01, 1.0

#: Tag of cells whose numbers are the machine's own: optimality residuals, counts of starts, another library's iterations.
FREE = "not-compared"


def text_of(cell) -> str:
    """What a cell printed or showed, without pictures."""
    outputs = cell.get("outputs", [])
    return "\n".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs)


def numbers_of(text: str) -> list[tuple[float, float]]:
    """(value, unit of its last printed digit) of each number in a text."""
    found = []
    for written in NUMBER.findall(text):
        mantissa, _, power = written.replace(",", "").partition("e")
        digits = len(mantissa.partition(".")[2])
        found.append((float(f"{mantissa}e{power or 0}"), 10.0 ** (int(power or 0) - digits)))
    return found


def test_all_five_are_there_small_and_executed_in_order():
    assert [path.name[0] for path in NOTEBOOKS] == list("12345")
    for path in NOTEBOOKS:
        assert path.stat().st_size < 400_000, path.name
        code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), path.name
        assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs), path.name


def test_numbers_are_read_with_their_last_digit():
    assert numbers_of("a 1,234.5 of 2e9, 90% .48 to -3") == [
        (1234.5, pytest.approx(0.1)), (2e9, 1e9), (90.0, 1.0), (0.48, pytest.approx(0.01)), (-3.0, 1.0),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_its_numbers_again(path, shared_data, monkeypatch):
    monkeypatch.setenv("SCALING_DATA", str(shared_data))
    committed = nbformat.read(path, 4)
    fresh = nbformat.from_dict(committed)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(
        fresh, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    compared = 0
    for before, after in zip(nbformat.read(path, 4).cells, fresh.cells, strict=True):
        said = [output.text for output in after.get("outputs", []) if output.get("name") == "stderr"]
        assert not said, f"{after.source}\n{''.join(said)}"
        if FREE in after.metadata.get("tags", []):
            continue
        pairs = list(zip(numbers_of(text_of(before)), numbers_of(text_of(after)), strict=True))
        for (old, unit), (new, _) in pairs:
            assert math.isclose(old, new, rel_tol=RELATIVE, abs_tol=1.01 * LAST_DIGIT * unit), after.source
        compared += len(pairs)
    assert compared >= 20
