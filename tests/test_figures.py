"""Every figure on 3, 35 and 300 runs: complete, without overlaps, and what it was when somebody last looked at it.

`python tests/test_figures.py` draws the references again: look at each in full size before committing them.
"""

import io
import itertools
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import planted
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from scaling.cli import plot
from scaling.fitting import isoflop
from scaling.fitting.compare import Comparison, Contender, Fold, Prediction
from scaling.fitting.objective import LogHuber
from scaling.fitting.uncertainty import Profile
from scaling.planning.design import Cell, Design, Target, check
from scaling.reporting import figures
from scaling.reporting.figures.kinds import KINDS
from scaling.reporting.frontiers import USUAL
from scaling.runs import Runs
from scaling.shape import Shape

REFERENCES = Path(__file__).parent / "figures"
SIZES = (3, 35, 300)


def frontier(runs: Runs) -> isoflop.Frontier | None:
    return isoflop.approach2(runs) if len(runs) > 3 else None


def costs(runs: Runs) -> dict[str, np.ndarray]:
    hours = runs.C / 4e14 / 3600 * (1 + 0.2 * np.sin(np.arange(len(runs))))
    return {
        "dollars": 2.5 * hours,
        "device-hours": hours,
        "energy, kWh": 0.7 * hours,
        "kg CO2e": np.full(len(runs), np.nan),
    }


def rates(runs: Runs) -> Runs:
    """The smallest budget's runs at seven learning rates each."""
    first = runs.where(1.01 * runs.C.min() > runs.C).table
    at = [
        first.assign(learning_rate=1e-3 * k, loss=first["loss"] + 0.03 * np.log(k) ** 2)
        for k in np.geomspace(0.1, 10, 7)
    ]
    return replace(runs, table=pd.concat(at, ignore_index=True))


def contenders(runs: Runs) -> Comparison:
    """Three laws as `compare` would have found them."""
    lows = np.unique(runs.C)[2:] if len(runs) > 3 else []
    found = []
    for i, name in enumerate(("chinchilla", "coupled", "kaplan")):
        rolling = tuple(
            Prediction(Fold(C, 3 * C, 9, 5), 0.002 * 3**i * (1 + 0.1 * j), 0.0) for j, C in enumerate(lows[:6])
        )
        error = 0.002 * 3**i if rolling else None
        found.append(Contender(name, None, None, True, (), rolling, error, 0.001 * i, 0.0008, None))
    return Comparison(tuple(found), LogHuber(), 1e22, len(runs))


def expected(runs: Runs) -> list:
    grid = planted.runs(35) if len(runs) < 5 else runs
    return [
        check(grid.N, grid.D, Target("N", 1e21 * k, planted.subject().currency), prior=planted.LAW)
        for k in (1, 10, 100)
    ]


def next_runs() -> Design:
    """Two cells of the ladder, of one and of three seeds, as if a design had bought them."""
    cells = [(Cell(C, Shape.near(N, vocab=256, context=64)), seeds) for C, N, seeds in ((3e19, 1e8, 1), (1e21, 2e9, 3))]
    after = check(planted.runs(300).N, planted.runs(300).D, Target("N", 1e22, SUBJECT.currency), prior=planted.LAW)
    return Design(tuple(cells), 1e21, after, None, None, 0.004, planted.LAW)


def floors(laws: int) -> list:
    """E less the floor of that many laws, the first without an interval."""
    spans = [(-0.04 + 0.02 * i, 0.05 + 0.02 * i) for i in range(laws)]
    return [(f"law {i}", (sum(span) / 2, *(span if i else (None, None)))) for i, span in enumerate(spans)]


def held(n: int) -> list[Profile]:
    """Parabolas in the log of each coefficient, as narrow as n runs make them."""
    width, found = 3 / np.sqrt(n), []
    for name, value in planted.LAW.params.items():
        spread = np.linspace(-4.5, 4.5, 33)
        ends = [float(value * np.exp(side * width * 1.64 / 4.5)) for side in (-1, 1)]
        found.append(Profile(name, value * np.exp(width * spread / 4.5), 1e-3 * (1 + 0.01 * spread**2), 0.9, ends))
    return found


SUBJECT = planted.subject()
DRAW: dict[str, Callable[[Runs], Figure]] = {
    "isoflop": lambda runs: figures.isoflop(runs, SUBJECT, frontier(runs)),
    "power-laws": lambda runs: figures.power_laws(runs, SUBJECT, frontier(runs), tuple(USUAL.values())),
    "surface": lambda runs: figures.surface(runs, SUBJECT),
    "training-curves": lambda runs: figures.training_curves(runs),
    "residuals": lambda runs: figures.residuals(runs, SUBJECT),
    "corner": lambda runs: figures.corner(SUBJECT),
    "answers": lambda runs: figures.answers(SUBJECT, 10 * runs.C.max()),
    "profiles": lambda runs: figures.profiles(held(len(runs)), planted.LAW.params),
    "flatness": lambda runs: figures.flatness(SUBJECT, 10 * runs.C.max()),
    "being-off": lambda runs: figures.being_off(SUBJECT, 10 * runs.C.max()),
    "comparison": lambda runs: figures.comparison(contenders(runs)),
    "pareto": lambda runs: figures.pareto(runs, costs(runs)),
    "design": lambda runs: figures.design(runs, SUBJECT, expected(runs), next_runs() if len(runs) == 35 else None),
    "valleys": lambda runs: figures.valleys(rates(runs)),
    "floor": lambda runs: figures.floor(floors(1 + len(runs) // 30), 1.8),
}
CASES = list(itertools.product(DRAW, SIZES))


@pytest.fixture(scope="module")
def drawn() -> Callable[[str, int], tuple[Figure, np.ndarray]]:
    """A figure and its picture [height, width] in grey, 0 to 1, drawn once."""
    made: dict[tuple[str, int], tuple[Figure, np.ndarray]] = {}

    def draw(kind: str, n: int) -> tuple[Figure, np.ndarray]:
        if (kind, n) not in made:
            figure = DRAW[kind](planted.runs(n))
            made[kind, n] = figure, grey(figure)
        return made[kind, n]

    return draw


def grey(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    rgb = np.asarray(canvas.buffer_rgba())[..., :3] / 255.0
    return rgb @ np.array([0.299, 0.587, 0.114])


def coarse(picture: np.ndarray, cell: int = 20) -> np.ndarray:
    """Mean grey of cells of 20 x 20 pixels: where things are, whatever a version's fonts and antialiasing."""
    high, wide = (size // cell * cell for size in picture.shape)
    return picture[:high, :wide].reshape(high // cell, cell, wide // cell, cell).mean((1, 3))


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_it_looks_as_it_did(drawn: Callable, kind: str, n: int) -> None:
    """Coarse grey within 2.5% on average and 0.3 anywhere: a lost curve, legend or panel is more, another font less."""
    now, then = coarse(drawn(kind, n)[1]), imread(REFERENCES / f"{kind}-{n}.png")
    then = then if then.ndim == 2 else then[..., 0]
    assert now.shape == then.shape
    assert np.abs(now - then).mean() < 0.025
    assert np.abs(now - then).max() < 0.3


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_nothing_overlaps_or_is_clipped(drawn: Callable, kind: str, n: int) -> None:
    """Tick labels of an axis stand apart, and every visible text lies on the paper."""
    figure, _ = drawn(kind, n)
    paper = figure.bbox
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_tick_params().get("labelrotation"):
                continue
            boxes = [
                label.get_window_extent() for label in axis.get_ticklabels() if label.get_visible() and label.get_text()
            ]
            inside = [box for box in boxes if axes.bbox.padded(2).overlaps(box) or paper.overlaps(box)]
            for one, other in itertools.pairwise(sorted(inside, key=lambda box: (box.x0, box.y0))):
                assert not one.padded(-0.5).overlaps(other.padded(-0.5)), (kind, n, axes.get_title(loc="left"))
        for text in (axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label):
            box = text.get_window_extent()
            assert not text.get_text() or (
                box.x0 >= -1 and box.x1 <= paper.x1 + 1 and box.y0 >= -1 and box.y1 <= paper.y1 + 1
            )


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_axes_have_units(drawn: Callable, kind: str, n: int) -> None:
    for axes in drawn(kind, n)[0].axes:
        for label in (axes.get_xlabel(), axes.get_ylabel()):
            assert not label.startswith("loss") or kind == "answers" or "per token" in label
            assert label not in ("C", "D", "N")


@pytest.mark.parametrize(("kind", "n"), CASES)
def test_it_is_never_an_empty_picture(drawn: Callable, kind: str, n: int) -> None:
    figure, picture = drawn(kind, n)
    assert np.mean(picture < 0.9) > 0.005
    assert figure.texts or any(axes.has_data() for axes in figure.axes)


def test_nothing_global_changes() -> None:
    before = dict(matplotlib.rcParams)
    figures.isoflop(planted.runs(35), SUBJECT, None)
    with figures.dark():
        figures.residuals(planted.runs(35), SUBJECT)
    assert dict(matplotlib.rcParams) == before


def test_the_caller_s_style_does_not_leak_in() -> None:
    plain = figures.encode(figures.isoflop(planted.runs(35), SUBJECT), "png")
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "lines.linewidth": 9}):
        assert figures.encode(figures.isoflop(planted.runs(35), SUBJECT), "png") == plain


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_same_figure_gives_the_same_bytes(kind: str) -> None:
    once, again = (figures.encode(figures.residuals(planted.runs(35), SUBJECT), kind) for _ in range(2))
    assert once == again


def test_dark_paper_is_dark() -> None:
    with figures.dark():
        assert grey(figures.isoflop(planted.runs(35), SUBJECT)).mean() < 0.25


def test_colours_differ_in_grey() -> None:
    """The sequential scale is monotone in luminance, so that a print in grey keeps the order of the budgets."""
    from matplotlib.colors import to_rgb

    from scaling.reporting.figures import style

    luminance = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in style.ramps(10)]
    assert np.all(np.diff(luminance) > 0.03)


def far(n: int = 35) -> Runs:
    """The runs, one of them with ten times the loss that it should have."""
    table = planted.runs(n).table.copy()
    table.loc[0, "loss"] *= 10
    return replace(planted.runs(n), table=table)


@pytest.mark.parametrize("draw", [figures.isoflop, lambda runs: figures.residuals(runs, SUBJECT)])
def test_a_run_that_lies_far_out_is_told_and_does_not_squeeze_the_others(draw: Callable) -> None:
    axes = draw(far()).axes[0]
    assert axes.get_ylim()[1] < 0.5 * (far().loss.max() if "loss" in axes.get_ylabel() else 900)
    assert any("1 higher, to" in text.get_text() for text in axes.texts)
    assert not any("higher" in text.get_text() for text in draw(planted.runs(35)).axes[0].texts)


def test_a_published_law_decades_away_leaves_the_fit_readable() -> None:
    """Kaplan's best sizes at a million FLOPs lie far from any fit there: the legend says so."""
    runs = planted.runs(3)
    table = runs.table.assign(N=runs.N * 1e-6, D=runs.D * 1e-6, C=runs.C * 1e-12)
    runs = replace(runs, table=table)
    figure = figures.power_laws(runs, SUBJECT, None, tuple(USUAL.values()))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "Kaplan 2020 (out of view)" in labels
    assert "Besiroglu 2024" in labels
    low, high = figure.axes[0].get_ylim()
    assert high / low < 1e6


def test_two_laws_of_one_colour_differ_in_their_dashes() -> None:
    from scaling.reporting.figures import style

    looks = [(style.series(i), str(style.dash(i))) for i in range(24)]
    assert len(set(looks)) == 24


def tuned(batches: tuple[int, ...] = (256,), digests: tuple[str, ...] = ("aa",)) -> Runs:
    """The smallest budget's runs at seven rates for each batch of each corpus, the lengths in whole batches."""
    at = rates(planted.runs(35)).table
    tables = [
        at.assign(D=at["D"] // batch * batch, batch_tokens=batch, digest=digest, corpus="mine",
                  loss=at["loss"] + 0.1 * i + 0.5 * j)
        for i, batch in enumerate(batches) for j, digest in enumerate(digests)
    ]  # fmt: skip
    return replace(planted.runs(35), table=pd.concat(tables, ignore_index=True))


def test_each_batch_of_a_cell_and_each_corpus_has_valleys_of_its_own() -> None:
    """Seven rates a line, and no line has two losses at one rate."""
    for runs, titles in (
        (tuned(), ["Learning-rate valleys"]),
        (tuned((256, 512, 1024)), ["batch 256", "batch 512", "batch 1,024"]),
        (tuned(digests=("aa", "bb")), ["mine aa", "mine bb"]),
        (
            tuned((256, 512), ("aa", "bb")),
            [f"mine {each}, batch {batch}" for each in ("aa", "bb") for batch in (256, 512)],
        ),
    ):
        figure = figures.valleys(runs)
        panels = [axes for axes in figure.axes if axes.get_visible()]
        assert [axes.get_title(loc="left") for axes in panels] == titles
        for axes in panels:
            lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 1]
            assert len(lines) == 7
            assert all(len(line) == 7 and np.all(np.diff(line[:, 0]) > 0) for line in lines)
            assert all(np.all(np.diff(line[:, 1], 2) > 0) for line in lines)
        assert len(figure.legends[0].get_texts()) == 7


def test_two_corpora_at_one_rate_each_are_no_valley() -> None:
    one = planted.runs(3).table
    both = pd.concat([one.assign(digest=name, learning_rate=rate) for name, rate in (("aa", 0.01), ("bb", 0.02))])
    runs = replace(planted.runs(3), table=both.reset_index(drop=True))
    assert not figures.has_valleys(runs)
    assert figures.has_valleys(tuned())
    assert any("No valley" in text.get_text() for text in figures.valleys(runs).texts)


WITHOUT = {
    "corner": lambda: figures.corner(planted.subject(S=0)),
    "answers": lambda: figures.answers(planted.subject(S=0), 1e22),
    "curves": lambda: figures.training_curves(replace(planted.runs(3), curves={})),
    "rates": lambda: figures.valleys(planted.runs(3)),
    "optimum": lambda: figures.power_laws(planted.runs(3)),
    "costs": lambda: figures.pareto(planted.runs(3), {}),
}


@pytest.mark.parametrize("what", WITHOUT)
def test_a_figure_says_what_it_lacks(what: str) -> None:
    figure = WITHOUT[what]()
    assert any(len(text.get_text()) > 20 for text in figure.texts)
    assert len(figures.lacks(figure)) > 20


def test_draws_at_and_below_nought_are_left_out_of_a_log_axis() -> None:
    """A coefficient that a few resamples drive to nought, or a little below, and most spread over decades."""
    rng, draws = np.random.default_rng(0), np.array(SUBJECT.draws)
    draws[:, 1] = np.exp(2 * rng.normal(size=len(draws)))
    draws[0, 1], draws[1, 2] = 0.0, -1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.encode(figures.corner(replace(SUBJECT, draws=draws)), "png")


def test_a_figure_is_written_as_what_its_name_says(tmp_path: Path) -> None:
    figure = figures.isoflop(planted.runs(35))
    assert figures.save(figure, tmp_path / "x.svg").read_bytes().startswith(b"<?xml")
    assert figures.save(figure, tmp_path / "x.PDF").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"\.png, \.pdf or \.svg"):
        figures.save(figure, tmp_path / "x.jpg")


def test_the_manual_page_names_every_kind():
    said = re.findall(r"^  ([a-z, -]+?)  +\S", plot.__doc__ or "", re.MULTILINE)
    assert {name for line in said for name in line.split(", ")} == set(KINDS)
    guide = (Path(__file__).parents[1] / "docs" / "figures-and-reports.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", guide, re.MULTILINE)) == set(KINDS)


def main() -> None:
    """Draw the references, and full-size pictures to look at into the folder named by LOOK."""
    REFERENCES.mkdir(exist_ok=True)
    for kind, n in CASES:
        figure = DRAW[kind](planted.runs(n))
        picture = coarse(grey(figure))
        buffer = io.BytesIO()
        imsave(buffer, np.round(picture * 255).astype(np.uint8), cmap="gray", vmin=0, vmax=255, format="png")
        (REFERENCES / f"{kind}-{n}.png").write_bytes(buffer.getvalue())
        if look := os.environ.get("LOOK"):
            figures.save(figure, Path(look) / f"{kind}-{n}.png")


if __name__ == "__main__":
    main()
