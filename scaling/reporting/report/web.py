"""The report as one self-contained HTML file: figures as vector graphics, styles and scripts inside, no network."""

from __future__ import annotations

import re
from html import escape
from importlib import resources
from pathlib import Path

from scaling.reporting.report import planner
from scaling.reporting.report.story import Block, Code, Paragraph, Picture, Section, Table, story
from scaling.reporting.report.vector import inline_svg
from scaling.reporting.study import Study
from scaling.runs import write_whole

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<meta name="generator" content="isoflop">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the answer</a>
<header>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
</header>
<nav aria-label="Sections"><ul>
{contents}
</ul></nav>
<main id="main">
{sections}
</main>
<footer>{footer}</footer>
</body>
</html>
"""


def html(study: Study, path: str | Path) -> Path:
    """Write the report to `path`, whole or not at all, and return the path."""
    path = Path(path)
    write_whole(path, page(study))
    return path


def page(study: Study) -> str:
    """The report as HTML. Every name in it is escaped."""
    written = [(section.title, _section(section)) for section in story(study)]
    if planner.serves(study):
        written.insert(1 if study.allocations else 0, ("Planner", _planner(study)))
    return PAGE.format(
        title=escape(study.title),
        subtitle=escape(f"{len(study.runs)} runs from {study.runs.source}"),
        css=asset("page.css"),
        contents="\n".join(f'<li><a href="#{_anchor(title)}">{escape(title)}</a></li>' for title, _ in written),
        sections="\n".join(section for _, section in written),
        footer=escape("Written by `scaling report`. Losses are in " + study.runs.loss_unit + "; C in FLOPs."),
    )


def asset(name: str) -> str:
    """The text of a file that is inlined into the page."""
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _anchor(title: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def _section(section: Section) -> str:
    return _framed(section.title, "\n".join(_written(block) for block in section.blocks))


def _framed(title: str, body: str) -> str:
    anchor = _anchor(title)
    return f'<section aria-labelledby="{anchor}">\n<h2 id="{anchor}">{escape(title)}</h2>\n{body}\n</section>'


def _planner(study: Study) -> str:
    """The planner's fields, its chart library, its arithmetic and its data."""
    scripts = "".join(f"<script>\n{asset(name)}</script>\n" for name in ("uPlot.iife.min.js", "planner.js", "page.js"))
    data = f'<script type="application/json" id="planner-data">{planner.script_json(planner.data(study))}</script>\n'
    return _framed("Planner", f"<style>{asset('uPlot.min.css')}</style>\n{asset('planner.html')}{data}{scripts}")


def _written(block: Block) -> str:
    match block:
        case Paragraph(text, "answer"):
            return f'<p class="answer">{escape(text)}</p>'
        case Paragraph(text, "warning"):
            return f'<p class="warning"><strong>Warning:</strong> {escape(text)}</p>'
        case Paragraph(text, "hint"):
            return f'<p class="hint">{escape(text)}</p>'
        case Paragraph(text, _):
            return f"<p>{escape(text)}</p>"
        case Table():
            return _table(block)
        case Picture(name, draw, says, of):
            return f"<figure>\n{inline_svg(draw(), name, of)}\n<figcaption>{escape(says)}</figcaption>\n</figure>"
        case Code(text):
            return f'<pre tabindex="0" role="region" aria-label="Commands"><code>{escape(text)}</code></pre>'


def _table(table: Table) -> str:
    head = "".join(_cell(cell, "th", "col") for cell in table.head)
    rows = "\n".join("<tr>" + "".join(map(_cell, row, ("th", *["td"] * len(row)))) + "</tr>" for row in table.rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption)}"><table>'
        f"<caption>{escape(table.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


#: Cells of at most this many characters are kept on one line: a number is not broken at the sign of its exponent.
SHORT = 12


#: A value with its interval, which gets a line of its own.
_RANGED = re.compile(r"(\S+) (\(\S+ to \S+\))")


def _cell(text: str, tag: str, scope: str = "row") -> str:
    """A cell; where it is a head, of its row or column."""
    heads = f' scope="{scope}"' if tag == "th" else ""
    if ranged := _RANGED.fullmatch(text):
        inside = f'{escape(ranged[1])} <span class="between">{escape(ranged[2])}</span>'
        return f'<{tag}{heads} class="whole">{inside}</{tag}>'
    whole = ' class="whole"' if len(text) <= SHORT else ""
    return f"<{tag}{heads}{whole}>{escape(text)}</{tag}>"
