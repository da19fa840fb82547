"""How long figures, reports and the planner take, and pictures of all of them to look at.

    python benchmarks/report.py OUT        # writes OUT/*.png and OUT/report.json, prints the table

300 planted runs and 4000 resamples. Seconds are of one core's CPU, so that other work on the machine does not count. Figures are
timed once imported, making and writing a PNG (of profiles and comparison without the fits that they show); the report is one
page; the planner's slider is moved to 200 places in a headless chromium, from its event to the picture drawn, the least of three
times each, under 6ND and under exact FLOPs. The report, and a page of every kind of figure at 3, 35 and 300 runs, are pictured
in chromium at 1280 and 390 pixels width, on light and dark paper, and the report is printed.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import browser
import numpy as np
import planted
import test_figures

from scaling.planning.allocate import allocate
from scaling.reporting import figures, report
from scaling.reporting.report import vector, web
from scaling.reporting.study import Study
from scaling.runs import to_json

#: Kinds whose study makes fits of its own; what is timed is their drawing, from made-up ones.
APART = ("comparison", "profiles", "valleys", "floor")
#: Widths of a desktop and a phone, and heights that hold the whole page.
SIZES = ((1280, 9000), (390, 12000))

SLIDE = """<pre id="out"></pre><script>
window.addEventListener("load", () => {
  const slider = document.getElementById("slider"), times = new Array(220).fill(Infinity);
  for (let pass = 0; pass < 3; pass++) for (let i = 0; i < 220; i++) {
    slider.value = Number(slider.min) + (slider.max - slider.min) * ((i * 37) % 220) / 220;
    const begin = performance.now();
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    times[i] = Math.min(times[i], performance.now() - begin);
  }
  document.getElementById("out").textContent = JSON.stringify(times.slice(20));
});
</script>"""


def gallery(n: int) -> str:
    """A page of every kind of figure on n runs, as the report shows them."""
    drawn = [f"<h2>{kind}</h2>{vector.inline_svg(draw(planted.runs(n)), kind, kind)}" for kind, draw in
             test_figures.DRAW.items()]  # fmt: skip
    css = web.asset("page.css")
    head = f"<!doctype html><meta charset='utf-8'><style>{css}</style>"
    return f"{head}<main><figure>{'</figure><figure>'.join(drawn)}</figure></main>"


def pictures(page: Path, out: Path) -> None:
    """The page at each width, light and dark."""
    for width, height in SIZES:
        frame = out / "frame.html"
        frame.write_text(
            f'<!doctype html><meta name="color-scheme" content="light dark"><body style="margin:0"><iframe src="{page.name}" '
            f'style="border:0;width:{width}px;height:{height}px">'
        )
        for theme in ("light", "dark"):
            browser.picture(
                frame, out, max(width, 500), height, f"{page.stem}-{width}-{theme}.png", dark=theme == "dark"
            )


def slid(study: Study, out: Path) -> dict[str, float]:
    """Milliseconds that a move of the planner's slider takes: median, 99% and most of 200."""
    played = out / "slide.html"
    played.write_text(web.page(study).replace("</main>", SLIDE + "</main>"))
    slides = json.loads(browser.said(played, out))
    return {q: round(float(np.quantile(slides, p)), 2) for q, p in (("median", 0.5), ("99%", 0.99), ("most", 1))}


def main(out: Path) -> None:
    """Measure, draw, write."""
    out.mkdir(parents=True, exist_ok=True)
    runs, fit = planted.runs(300), planted.fitted(300, 4000)
    study = Study(runs, [fit], [allocate(fit, flops=10 * float(runs.C.max()))])
    figures.encode(figures.isoflop(runs), "png")
    seconds = {}
    for name, kind in figures.KINDS.items():
        begin = time.process_time()
        figure = test_figures.DRAW[name](runs) if name in APART else kind.of(study)
        figures.save(figure, out / f"{name}.png")
        seconds[name] = time.process_time() - begin
    begin = time.process_time()
    page = report.html(Study(runs, [fit], study.allocations), out / "report.html")
    whole = time.process_time() - begin
    exact = replace(fit, flops="exact", source="")
    found = {
        "figure_cpu_seconds": {name: round(value, 3) for name, value in seconds.items()},
        "report_cpu_seconds": round(whole, 2),
        "report_megabytes": round(page.stat().st_size / 1e6, 3),
        "slider_milliseconds": {"6ND": slid(study, out), "exact": slid(Study(runs, [exact]), out)},
    }
    (out / "report.json").write_text(to_json(found))
    print(to_json(found), flush=True)
    for n in (3, 35, 300):
        (out / f"figures-{n}.html").write_text(gallery(n))
        pictures(out / f"figures-{n}.html", out)
    pictures(page, out)
    browser.printed(page, out, "report.pdf")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/report"))
