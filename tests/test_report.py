"""The report: what it says, what it refuses, and how its page behaves in a real browser."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import browser
import planted
import pytest

from scaling.cli import main
from scaling.fitting.fit import Fit
from scaling.planning.allocate import allocate
from scaling.reporting import numbers, report
from scaling.reporting.report.web import page
from scaling.reporting.study import Study

NASTY = '<script>alert("1")</script> & `code` | $x$'


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return planted.fitted()


@pytest.fixture(scope="module")
def study(fitted: Fit) -> Study:
    table = planted.runs(35).table.assign(id=[NASTY if i == 3 else f"run-{i}" for i in range(35)])
    runs = replace(planted.runs(35), table=table, source=NASTY, curves={})
    fitted = replace(fitted, source=NASTY)
    return Study(runs, [fitted], [allocate(fitted, flops=1e22)], title=NASTY, commands=[f"scaling report '{NASTY}'"])


@pytest.fixture(scope="module")
def whole(study: Study) -> str:
    return page(study)


class Seen(HTMLParser):
    """Tags with their attributes, and the text of the page that is not a script or style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.text += data


def test_the_answer_comes_first_and_is_the_allocation(study: Study, whole: str) -> None:
    answer = study.allocations[0]
    text = Seen(whole).text
    N, D = (f"{numbers.count(value)} ({' to '.join(map(numbers.count, ends))})" for value, ends in (
        (answer.N, answer.intervals["N"]), (answer.D, answer.intervals["D"])
    ))  # fmt: skip
    assert f"With 1e22 FLOPs: train {N} parameters on {D} tokens" in text
    assert "In brackets: 90% bootstrap intervals." in text
    assert text.index("The answer") < text.index("Figures")


def test_names_with_markup_are_text(whole: str) -> None:
    seen = Seen(whole)
    assert seen.text.count(NASTY) >= 4
    scripts = [attributes for tag, attributes in seen.tags if tag == "script"]
    assert len(scripts) == 4
    assert 'alert("1")' not in re.sub(r"<script.*?</script>", "", whole, flags=re.S).replace("&quot;", "'")


def test_the_page_needs_no_network(whole: str) -> None:
    seen = Seen(whole)
    for tag, attributes in seen.tags:
        assert tag not in ("link", "iframe", "img", "object"), tag
        assert "src" not in attributes, (tag, attributes)
        href = attributes.get("href") or attributes.get("xlink:href") or "#"
        assert href.startswith(("#", "data:")), href
    assert "default-src 'none'" in whole


def test_every_figure_has_words_and_every_field_a_label(whole: str) -> None:
    seen = Seen(whole)
    figures = [attributes for tag, attributes in seen.tags if tag == "svg"]
    assert len(figures) >= 6
    assert all(attributes["role"] == "img" and len(attributes["aria-label"] or "") > 40 for attributes in figures)
    labelled = {attributes["for"] for tag, attributes in seen.tags if tag == "label"}
    fields = {attributes["id"] for tag, attributes in seen.tags if tag in ("input", "select")}
    assert fields <= labelled
    ids = [attributes["id"] for tag, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_table_has_a_caption_and_heads_of_rows_and_columns(whole: str) -> None:
    tables = re.findall(r"<table>.*?</table>", whole, re.S)
    assert len(tables) >= 5
    for table in tables:
        assert re.match(r"<table><caption>[^<]{5,}", table)
        heads = [attributes["scope"] for tag, attributes in Seen(table).tags if tag == "th"]
        rows = table.count("<tr>") - 1
        assert heads.count("row") == rows > 0
        assert heads.count("col") == len(heads) - rows > 1


def test_a_figure_is_not_read_out_twice(whole: str) -> None:
    """The caption says what a figure shows, its label what it is drawn from."""
    labels = [attributes["aria-label"] or "" for tag, attributes in Seen(whole).tags if tag == "svg"]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", whole, re.S)
    assert len(labels) == len(captions) == len(set(labels))
    assert all("35 runs of" in label and label not in captions for label in labels)


def test_the_same_study_gives_the_same_page(study: Study, whole: str) -> None:
    assert page(study) == whole


def test_markdown_holds_the_law_the_figures_and_the_way_back(study: Study, tmp_path: Path) -> None:
    path = report.markdown(study, tmp_path)
    text = path.read_text()
    assert path == tmp_path / "report.md"
    assert "<script>" not in text.replace("\\<script\\>", "").split("```")[0]
    for name in re.findall(r"\((figures/[^)]+)\)", text):
        assert (tmp_path / name).stat().st_size > 1000
    assert text.count("![") >= 8
    assert len(list((tmp_path / "figures").iterdir())) == 2 * text.count("![")
    assert "Chinchilla" in text
    assert "digest" in text
    assert "scaling report" in text


def test_a_report_of_runs_alone(tmp_path: Path) -> None:
    text = Seen(page(Study(planted.runs(35)))).text
    assert "Each budget" in text
    assert "Planner" not in text
    assert "The answer" not in text


def test_two_runs_and_no_fit_still_make_a_report() -> None:
    runs = planted.runs(3).where([True, True, False])
    text = Seen(page(Study(runs))).text
    assert "2 runs" in text
    assert "no budget has four sizes" in text


def test_a_fit_without_bootstrap(fitted: Fit) -> None:
    bare = replace(fitted, draws=None, intervals={"level": 0.9, "method": "none", "params": {}, "exponents": {}})
    text = Seen(page(Study(planted.runs(35), [bare], [allocate(bare, flops=1e22)]))).text
    assert "no resamples" in text
    assert "Bootstrap of" not in text


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(fitted: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with runs.csv and fit.json, and the working directory in it."""
    monkeypatch.chdir(tmp_path)
    planted.runs(35).write("runs.csv")
    fitted.write("fit.json")
    return tmp_path


def test_the_command_writes_a_page(files: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", "runs.csv", "fit.json", "-o", "r.html", "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["bytes"] == (files / "r.html").stat().st_size
    assert payload["answers"][0]["C"] == pytest.approx(1e22)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "runs.csv", "fit.json", "-o", "fit.json"], "written as .html or .md"),
        (["report", "runs.csv", "missing.json"], "missing.json"),
        (["report", "missing.csv", "-o", "x.html"], "missing.csv"),
        (["report", "runs.csv", "fit.json", "--flops", "-1", "-o", "x.html"], "positive"),
        (["plot", "isoflops", "runs.csv"], "there are isoflop"),
        (["plot", "residuals", "runs.csv"], "needs a fit"),
        (["plot", "power-laws", "runs.csv", "--beside", "chinchila"], "there are kaplan-2020, hoffmann-2022"),
        (["plot", "isoflop", "runs.csv", "-o", "x.gif"], ".png, .pdf or .svg"),
        (["plot", "isoflop", "runs.csv", "runs.csv", "-o", "x.png"], "not a fit"),
    ],
)
def test_bad_input_is_one_line(files: Path, capsys: pytest.CaptureFixture, words: list[str], said: str) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_report_is_not_written_over(files: Path, capsys: pytest.CaptureFixture) -> None:
    (files / "r.html").write_text("mine")
    assert main(["report", "runs.csv", "-o", "r.html"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (files / "r.html").read_text() == "mine"
    assert main(["report", "runs.csv", "-o", "r.html", "--force"]) == 0


@pytest.mark.parametrize("kind", ["isoflop", "power-laws", "flatness"])
def test_the_command_draws_a_figure(files: Path, kind: str) -> None:
    assert main(["plot", kind, "runs.csv", "fit.json", "-o", f"{kind}.svg", "--dark"]) == 0
    assert (files / f"{kind}.svg").stat().st_size > 5000


#: Tables that allow next to nothing: N, D and loss of each run.
SPARSE = {
    "one budget": [(2e7, 8.3e10, 3.4), (4e7, 4.2e10, 3.2), (8e7, 2.1e10, 3.0), (1.6e8, 1e10, 3.1), (3.2e8, 5.2e9, 3.3)],
    "one size": [(1e8, 1e9 * 3**i, 3.5 - 0.2 * i) for i in range(4)],
    "two runs": [(1e7, 1e9, 4.6), (2e7, 1e9, 4.3)],
}


@pytest.mark.parametrize("what", SPARSE)
def test_tables_that_allow_little_are_still_drawn(files: Path, capsys: pytest.CaptureFixture, what: str) -> None:
    """Every figure that needs no fit, and a report, show what there is or say what they lack; then no file is written."""
    rows = "".join(f"{N:.0f},{D:.0f},{loss}\n" for N, D, loss in SPARSE[what])
    (files / "few.csv").write_text(f"N,D,loss\n{rows}")
    for kind in ("isoflop", "power-laws", "pareto", "training-curves", "valleys"):
        status, out = main(["plot", kind, "few.csv", "-o", f"{kind}.svg", "--json"]), files / f"{kind}.svg"
        said = capsys.readouterr()
        if status == 0:
            assert out.read_text().count("<use") >= len(SPARSE[what])
        else:
            assert (status, said.out, out.exists()) == (2, "", False)
            assert said.err.startswith("scaling: nothing to draw. No ")
    assert main(["report", "few.csv", "-o", "few.html"]) == 0
    assert f"{len(SPARSE[what])} runs" in Seen((files / "few.html").read_text()).text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["valleys", "runs.csv"], "No learning rates: "),
        (["floor", "runs.csv", "fit.json"], "not trained on a planted corpus"),
        (["answers", "runs.csv", "bare.json"], "no bootstrap"),
    ],
)
def test_a_figure_of_nothing_is_not_written(
    files: Path, capsys: pytest.CaptureFixture, fitted: Fit, words: list[str], says: str
) -> None:
    replace(fitted, draws=None).write("bare.json")
    assert main(["plot", *words, "-o", "v.png", "--json"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert says in err
    assert err.count("\n") == 1
    assert not (files / "v.png").exists()


def test_a_fit_of_other_runs_is_noted(files: Path, capsys: pytest.CaptureFixture) -> None:
    (files / "other.csv").write_text(
        "".join(f"{line}\n" for line in (files / "runs.csv").read_text().splitlines()[:30])
    )
    for table, noted in (("other.csv", True), ("runs.csv", False)):
        assert main(["plot", "residuals", table, "fit.json", "-o", "r.png"]) == 0
        assert (f"fit.json was fitted to other runs than {table} (" in capsys.readouterr().err) == noted


def test_losses_that_are_not_numbers_are_refused(files: Path, capsys: pytest.CaptureFixture) -> None:
    (files / "bad.csv").write_text("N,D,loss\n1e6,1e8,nan\n2e6,1e8,3.1\n")
    assert main(["report", "bad.csv", "-o", "x.html"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- the page in a browser --------------------------------------------------------------------------------------------

PLAY = """
<pre id="out"></pre><script>
const seen = { errors: [] };
window.addEventListener("error", (event) => seen.errors.push(event.message));
window.addEventListener("load", () => {
  const $ = (id) => document.getElementById(id), text = (id) => $(id).textContent;
  const set = (id, value, event = "input") => { $(id).value = value; $(id).dispatchEvent(new Event(event, { bubbles: true })); };
  seen.first = { N: text("N"), between: text("N-between"), hidden: $("plan").hidden };
  set("budget", "1e24"); seen.larger = text("N");
  set("budget", "20B"); seen.letter = text("C");
  set("budget", "1e22"); set("kind", "usd", "change"); seen.dollars = { amount: $("budget").value, N: text("N") };
  set("kind", "flops", "change"); seen.back = $("budget").value;
  set("slider", "21"); seen.slid = { amount: $("budget").value, C: text("C") };
  set("mfu", "20"); seen.mfu = { says: text("mfu-is"), hours: text("hours") };
  set("max_memory_gb", "16"); seen.capped = { N: text("N"), says: text("complaint") };
  set("max_memory_gb", ""); set("unique_tokens", "1B"); seen.repeated = text("complaint");
  set("unique_tokens", ""); set("inference_tokens", "1e12"); seen.served = text("C-between");
  set("inference_tokens", "1e21"); seen.impossible = { says: text("complaint"), hidden: $("results").hidden };
  set("inference_tokens", ""); set("usd_per_hour", "2 to 4"); set("mfu_spread", "10");
  seen.ranged = { usd: text("usd-between"), hours: text("hours-between") };
  set("usd_per_hour", "4 to 2"); seen.backwards = text("complaint");
  set("usd_per_hour", ""); set("mfu_spread", ""); set("budget", "lots");
  seen.bad = { says: text("complaint"), invalid: $("budget").getAttribute("aria-invalid") };
  set("budget", "1e22"); seen.again = { N: text("N"), hidden: $("results").hidden };
  seen.canvas = !!document.querySelector("#chart canvas");
  setTimeout(() => {
    seen.says = text("says"); seen.chart = $("chart").getAttribute("aria-label");
    $("out").textContent = JSON.stringify(seen);
  }, 600);
});
</script>"""


@pytest.fixture(scope="module")
def played(whole: str, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the planner said while its fields were moved."""
    folder = tmp_path_factory.mktemp("page")
    path = folder / "played.html"
    path.write_text(whole.replace("</main>", PLAY + "</main>"))
    return json.loads(browser.said(path, folder))


def test_the_planner_starts_at_the_answer(study: Study, played: dict) -> None:
    answer = study.allocations[0]
    assert played["errors"] == []
    assert played["first"]["N"] == numbers.count(answer.N)
    assert played["first"]["between"] == " to ".join(numbers.count(end) for end in answer.intervals["N"])
    assert played["first"]["hidden"] is False
    assert played["canvas"]


def test_the_fields_move_the_answer(played: dict) -> None:
    assert played["larger"] != played["first"]["N"]
    assert played["letter"] == "2e10"
    assert played["dollars"]["N"] == played["first"]["N"] == played["again"]["N"]
    assert float(played["back"]) == pytest.approx(1e22, rel=5e-3)
    assert float(played["slid"]["amount"]) == float(played["slid"]["C"]) == 1e21
    assert played["mfu"]["says"] == "20%"
    assert "serve" in played["served"]


def test_the_planner_says_what_limits_it(played: dict) -> None:
    assert played["capped"]["N"] == "1B"
    assert "memory" in played["capped"]["says"]
    assert "read" in played["repeated"]
    assert "serving alone" in played["impossible"]["says"]
    assert played["impossible"]["hidden"]
    assert "not a positive number" in played["bad"]["says"]
    assert played["bad"]["invalid"] == "true"
    assert played["again"]["hidden"] is False


def test_ranges_of_price_and_utilisation_widen_the_costs(played: dict) -> None:
    assert " to " in played["ranged"]["usd"]
    assert " to " in played["ranged"]["hours"]
    assert "as a range" in played["backwards"]


def test_a_screen_reader_hears_the_answer(played: dict) -> None:
    assert played["again"]["N"] in played["says"]
    assert played["says"] in played["chart"]


# --- the page for a keyboard and a screen reader ------------------------------------------------------------------------

#: Roles that a person acts on, or is told of by name alone.
NAMED = {"slider", "textbox", "combobox", "link", "button", "image", "region", "navigation", "form", "table"}
#: A name for what has the focus: its id, or its target, or its label.
FOCUSED = """(() => { const it = document.activeElement;
  return it === document.body ? "" : it.id || it.getAttribute("href") || it.getAttribute("aria-label"); })()"""
#: What the tab key should reach, in the order of the document: all that can be acted on and is shown.
REACHABLE = """[...document.querySelectorAll("a[href], input, select, textarea, button, summary, [tabindex='0']")]
  .filter((it) => it.checkVisibility() && !it.disabled && it.tabIndex >= 0)
  .map((it) => it.id || it.getAttribute("href") || it.getAttribute("aria-label"))"""
#: How the focused element is marked.
MARKED = "(() => { const it = getComputedStyle(document.activeElement); return it.outlineStyle + it.outlineWidth; })()"


@pytest.fixture(scope="module")
def opened(whole: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Session]:
    """The page in a browser that a keyboard is attached to."""
    folder = tmp_path_factory.mktemp("opened")
    (folder / "page.html").write_text(whole)
    with browser.session(folder / "page.html", folder) as session:
        yield session


def test_the_tab_key_reaches_everything_in_its_order_and_shows_where_it_is(opened: browser.Session) -> None:
    wanted, reached = opened.run(REACHABLE), []
    while len(reached) <= len(wanted):
        opened.press("Tab", 9)
        name = opened.run(FOCUSED)
        if not name:
            break
        reached.append(name)
        assert not str(opened.run(MARKED)).startswith("none"), f"{name} has the focus and nothing shows it"
    assert reached == wanted
    assert {"budget", "kind", "slider", "accelerator", "mfu", "region", "unique_tokens", "max_memory_gb"} <= set(
        reached
    )


def test_arrow_keys_move_the_planner(opened: browser.Session) -> None:
    opened.run("document.getElementById('slider').focus()")
    before = opened.run("document.getElementById('N').textContent")
    for _ in range(40):
        opened.press("ArrowRight", 39)
    assert opened.run("document.getElementById('N').textContent") != before


def test_a_screen_reader_is_told_a_name_of_everything_and_a_tree_of_headings(opened: browser.Session) -> None:
    nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
    shown = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), node) for node in nodes if not node["ignored"]
    ]
    roles = [role for role, _, _ in shown]
    assert [role for role, name, _ in shown if role in NAMED and not name.strip()] == []
    assert roles.count("main") == 1
    assert {"slider", "textbox", "combobox", "image", "region", "navigation", "status", "table"} <= set(roles)
    of = lambda node, key: next((each["value"]["value"] for each in node["properties"] if each["name"] == key), None)  # noqa: E731
    levels = [of(node, "level") for role, _, node in shown if role == "heading"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert any(of(node, "live") == "polite" for role, _, node in shown if role == "status")
