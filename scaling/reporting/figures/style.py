"""The one style of every figure: colours, axes, units, and how a figure is drawn and saved.

Nothing global changes: figures are `matplotlib.figure.Figure` objects, made inside a context that restores
matplotlib's settings.
"""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, NullLocator

from scaling.reporting import numbers
from scaling.runs import Runs, write_whole

P = ParamSpec("P")

#: Okabe and Ito 2008 (colour-blind safe) without the two that vanish on white; lighter of the same hues on dark paper.
SERIES = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#5f5f5f", "#e69f00"),
    "dark": ("#56b4e9", "#ff8c42", "#2bc79a", "#e3a3c6", "#b4bac2", "#f0c040"),
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))

SYMBOLS = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eta": "η"}

_SHARED = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "scaling",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "mathtext.default": "regular",
}

_INKS = {
    "light": {"ink": "#1b1f24", "soft": "#5b636d", "rule": "#dde1e6", "paper": "#ffffff"},
    "dark": {"ink": "#e8eaed", "soft": "#a4adb8", "rule": "#3a414b", "paper": "#15181c"},
}

_theme: ContextVar[str] = ContextVar("theme", default="light")


@contextmanager
def dark() -> Iterator[None]:
    """Figures drawn inside have light ink on dark paper."""
    token = _theme.set("dark")
    try:
        yield
    finally:
        _theme.reset(token)


def ink(name: str = "ink") -> str:
    """Colour of "ink" (text, the law), "soft" (second rank), "rule" (grid) or "paper" in the theme in force."""
    return _INKS[_theme.get()][name]


def series(i: int) -> str:
    """Colour of the i-th unordered thing."""
    colours = SERIES[_theme.get()]
    return colours[i % len(colours)]


def dash(i: int) -> str | tuple:
    """Dashes of the i-th unordered thing: where the colours begin again, the dashes do not."""
    return DASHES[(i + i // len(SERIES["light"])) % len(DASHES)]


def symbol(name: str) -> str:
    """A coefficient as it is printed: alpha as its letter."""
    return SYMBOLS.get(name, name)


def ramp(position: float) -> str:
    """Colour on the sequential scale at `position` in [0, 1]; its lightness is monotone, so grey keeps the order."""
    low, high = (0.0, 0.82) if _theme.get() == "light" else (0.22, 1.0)
    return to_hex(matplotlib.colormaps["viridis"](low + (high - low) * position))


def ramps(n: int) -> list[str]:
    """`n` colours along the sequential scale."""
    return [ramp(i / max(1, n - 1)) for i in range(n)]


def _settings() -> dict[str, object]:
    return {
        **_SHARED,
        "text.color": ink(),
        "axes.labelcolor": ink(),
        "axes.titlecolor": ink(),
        "axes.edgecolor": ink("soft"),
        "xtick.color": ink("soft"),
        "ytick.color": ink("soft"),
        "xtick.labelcolor": ink(),
        "ytick.labelcolor": ink(),
        "grid.color": ink("rule"),
        "figure.facecolor": ink("paper"),
        "axes.facecolor": ink("paper"),
        "savefig.facecolor": ink("paper"),
        "legend.labelcolor": ink(),
    }


def drawn(make: Callable[P, Figure]) -> Callable[P, Figure]:
    """`make`, with its figure made and laid out once in this style whatever the caller's settings are."""

    @functools.wraps(make)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_settings())
            return make(*args, **kwargs)

    return styled


def panels(columns: int = 1, rows: int = 1, *, width: float = 6.4, height: float = 4.0) -> tuple[Figure, np.ndarray]:
    """A figure of `width` x `height` inches and its axes [rows, columns]."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09))
    return figure, figure.subplots(rows, columns, squeeze=False)


def missing(what: str, remedy: str = "") -> Figure:
    """A figure that says what it lacks: never an empty picture."""
    figure = Figure(figsize=(6.4, 2.2), layout="constrained")
    figure.set_label(f"{what} {remedy}".strip())
    figure.text(0.5, 0.62, textwrap.fill(what, 72), ha="center", va="center", fontsize=10)
    if remedy:
        figure.text(0.5, 0.3, textwrap.fill(remedy, 84), ha="center", va="center", color=ink("soft"))
    return figure


def lacks(figure: Figure) -> str:
    """What a figure of `missing` says; nothing of one that shows something."""
    return str(figure.get_label() or "")


def note(axes: Axes, text: str) -> None:
    """Say in a panel what it lacks."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color=ink("soft"), transform=axes.transAxes, wrap=True)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


class ReadablePowers(Locator):
    """Ticks of a log axis at numbers that people read: decades, 1-3 or 1-2-5; evenly apart on an axis that is shorter."""

    STEPS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))

    def __init__(self, most: int = 7, least: int = 4) -> None:
        self.most, self.least = most, least

    def __call__(self) -> np.ndarray:
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
        low, high = sorted((vmin, vmax))
        if not 0 < low < high < math.inf:
            return np.array([])
        if high < 2.5 * low:
            even = np.asarray(MaxNLocator(max(3, self.most - 2), steps=[1, 2, 5, 10]).tick_values(low, high))
            return even[(even >= low) & (even <= high)]
        decades = np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = np.array([])
        for steps in self.STEPS:
            finer = np.array([float(f"{step:.3g}e{decade}") for decade in decades for step in steps])
            finer = finer[(finer >= low * (1 - 1e-9)) & (finer <= high * (1 + 1e-9))]
            if len(finer) > self.most and len(ticks) >= 2:
                break
            ticks = finer
            if len(ticks) >= self.least:
                break
        return ticks[:: math.ceil(len(ticks) / self.most)] if len(ticks) else ticks


WRITERS: dict[str, Callable[[float], str]] = {"count": numbers.count, "power": numbers.power}


def log_axis(axes: Axes, which: str, label: str, write: str, *, most: int = 7) -> None:
    """Make the x or y axis logarithmic, its label with a unit, its ticks written by `write` ("count" or "power").

    Draw first: an axis whose data are one single value is widened around it.
    """
    axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes.dataLim, f"interval{which}")
    if not low * 1.001 < high:
        getattr(axes, f"set_{which}lim")(low / 2, high * 2)
    getattr(axes, f"set_{which}scale")("log")
    axis.set_label_text(label)
    axis.set_major_locator(ReadablePowers(most))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: WRITERS[write](value)))


def parameters(axes: Axes, which: str = "x", label: str = "parameters N") -> None:
    """A log axis of N."""
    log_axis(axes, which, label, "count")


def tokens(axes: Axes, which: str = "x", label: str = "tokens D") -> None:
    """A log axis of D."""
    log_axis(axes, which, label, "count")


def flops(axes: Axes, which: str = "x", label: str = "compute C, FLOPs") -> None:
    """A log axis of C."""
    log_axis(axes, which, label, "power")


def losses(axes: Axes, runs: Runs | None = None, which: str = "y") -> None:
    """Label an axis with the loss and its unit."""
    getattr(axes, f"{which}axis").set_label_text(f"loss, {runs.loss_unit if runs else 'nats per token'}")


def within(values: np.ndarray, reach: float = 3.0) -> tuple[float, float]:
    """Least and largest of the values, but for those further than `reach` interquartile ranges outside the quartiles.

    They are left out only where they would squeeze the others into less than half of the axis.
    """
    first, third = np.quantile(values, (0.25, 0.75))
    room = reach * (third - first)
    ordinary = values[(values >= first - room) & (values <= third + room)]
    shown = ordinary if np.ptp(values) > 2 * np.ptp(ordinary) else values
    return float(shown.min()), float(shown.max())


def mark_beyond(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Triangles at the upper and lower edge for points outside them, and how many there are: nothing is cut off silently."""
    low, high = axes.get_ylim()
    for outside, edge, marker, where, below in (
        (y > high, 0.985, "^", "higher", -9),
        (y < low, 0.015, "v", "lower", 7),
    ):
        if not outside.any():
            continue
        at = x[outside]
        axes.plot(at, np.full(at.size, edge), marker, ms=4.5, color=colour, mec=ink("paper"), mew=0.4, zorder=5,
                  transform=axes.get_xaxis_transform())  # fmt: skip
        far = y.max() if where == "higher" else y.min()
        axes.annotate(
            f"{at.size} {where}, to {far:.3g}", (1, edge), xycoords="axes fraction", xytext=(0, below),
            textcoords="offset points", ha="right", va="center", fontsize=7, color=ink("soft"), zorder=6,
            bbox={"boxstyle": "square,pad=0.15", "fc": ink("paper"), "ec": "none", "alpha": 0.8},
        )  # fmt: skip


def key_above(axes: Axes, handles: Sequence[Artist] | None = None) -> None:
    """The legend of a panel at the right end of its title's line."""
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(handles), borderaxespad=0.25,
                borderpad=0.15, columnspacing=1.4)  # fmt: skip


#: More series than this are told apart by a colour bar instead of a legend.
MOST_IN_LEGEND = len(MARKERS)


def scale_beside(figure: Figure, axes: Axes | Sequence[Axes], values: np.ndarray, label: str, write: str) -> None:
    """A colour bar of the sequential scale over positive `values`, on a log axis."""
    if values.min() == values.max():
        return
    colours = LinearSegmentedColormap.from_list("ramp", ramps(32))
    mappable = ScalarMappable(LogNorm(float(values.min()), float(values.max())), colours)
    bar = figure.colorbar(mappable, ax=axes, label=label, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(ReadablePowers())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: WRITERS[write](value)))
    bar.ax.yaxis.set_minor_locator(NullLocator())


def log_position(values: np.ndarray) -> np.ndarray:
    """Position in [0, 1] of positive values on a log scale, [R]."""
    logs = np.log(values)
    span = logs.max() - logs.min()
    return (logs - logs.min()) / span if span > 0 else np.zeros_like(logs)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure to a .png, .pdf or .svg, whole or not at all. The same figure gives the same bytes."""
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "pdf", "svg"):
        raise ValueError(f"{path}: a figure is written as .png, .pdf or .svg.")
    write_whole(path, encode(figure, kind))
    return path


def encode(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a "png", "pdf" or "svg" file, without a date in it."""
    undated = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    buffer = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_settings())
        figure.savefig(buffer, format=kind, metadata=undated, facecolor=figure.get_facecolor())
    return buffer.getvalue()
