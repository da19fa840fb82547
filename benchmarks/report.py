"""How long figures, reports and the planner take, and pictures of all of them to look at.

    python benchmarks/report.py OUT        # writes OUT/*.png and OUT/report.json, prints the table

300 planted runs and 4000 resamples. Figures are timed once imported, making and writing a PNG; the report is one page; the
planner's slider is moved 200 times in a headless chromium, from its event to the picture drawn. Pages are pictured at
1280 and 390 pixels width, on light and dark paper.
"""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import browser
import numpy as np
import planted

from scaling.planning.allocate import allocate
from scaling.reporting import figures, report
from scaling.reporting.study import Study
from scaling.runs import to_json

#: Kinds that take a fit or data of their own to make; the rest of their time is not the figure's.
APART = ("comparison", "profiles", "valleys")

SLIDE = """<pre id="out"></pre><script>
window.addEventListener("load", () => {
  const slider = document.getElementById("slider"), times = [];
  for (let i = 0; i < 220; i++) {
    slider.value = Number(slider.min) + (slider.max - slider.min) * ((i * 37) % 220) / 220;
    const begin = performance.now();
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    times.push(performance.now() - begin);
  }
  document.getElementById("out").textContent = JSON.stringify(times.slice(20));
});
</script>"""


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    runs, fit = planted.runs(300), planted.fitted(300, 4000)
    study = Study(runs, [fit], [allocate(fit, flops=10 * float(runs.C.max()))])
    figures.encode(figures.isoflop(runs), "png")
    seconds = {}
    for name, kind in figures.KINDS.items():
        if name not in APART:
            begin = time.perf_counter()
            figures.save(kind.of(study), out / f"{name}.png")
            seconds[name] = time.perf_counter() - begin
    begin = time.perf_counter()
    page = report.html(Study(runs, [fit], study.allocations), out / "report.html")
    whole = time.perf_counter() - begin
    played = out / "slide.html"
    played.write_text(page.read_text().replace("</main>", SLIDE + "</main>"))
    slides = json.loads(browser.said(played, out))
    for width, height in ((1280, 2400), (390, 3600)):
        frame = out / "frame.html"
        frame.write_text(
            f'<!doctype html><body style="margin:0"><iframe src="report.html" style="border:0;width:{width}px;height:{height}px">'
        )
        browser.picture(frame, out, max(width, 500), height, f"page-{width}.png")
    found = {
        "figure_seconds": {name: round(value, 3) for name, value in seconds.items()},
        "report_seconds": round(whole, 2),
        "report_megabytes": round(page.stat().st_size / 1e6, 3),
        "slider_milliseconds": {
            q: round(float(np.quantile(slides, p)), 2) for q, p in (("median", 0.5), ("99%", 0.99), ("most", 1))
        },
    }
    (out / "report.json").write_text(to_json(found))
    print(to_json(found))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/out"))
