"""The report as Markdown: one file, its figures beside it as PNG and PDF."""

from __future__ import annotations

import re
from pathlib import Path

from scaling.reporting import figures
from scaling.reporting.report.story import Block, Code, Paragraph, Picture, Table, story
from scaling.reporting.study import Study
from scaling.runs import write_whole


def markdown(study: Study, path: str | Path) -> Path:
    """Write a Markdown file, or `report.md` in a folder, and beside it `figures/*.png, *.pdf`; return its path."""
    path = Path(path)
    path = path if path.suffix == ".md" else path / "report.md"
    folder = path.parent
    lines = [f"# {escape(study.title)}"]
    for section in story(study):
        lines.append(f"## {escape(section.title)}")
        lines += [_written(block, folder) for block in section.blocks]
    write_whole(path, "\n\n".join(lines) + "\n")
    return path


def escape(text: str) -> str:
    """`text` as Markdown that shows exactly it: names with markup stay text."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", flat)


def _written(block: Block, folder: Path) -> str:
    match block:
        case Paragraph(text, "answer"):
            return f"**{escape(text)}**"
        case Paragraph(text, "warning"):
            return f"> Warning: {escape(text)}"
        case Paragraph(text, _):
            return escape(text)
        case Table(caption, head, rows):
            lines = [head, ["---"] * len(head), *rows]
            body = [f"| {' | '.join(escape(cell) if cell != '---' else cell for cell in line)} |" for line in lines]
            return escape(caption) + "\n\n" + "\n".join(body)
        case Picture(name, draw, says, _):
            figure = draw()
            for kind in ("png", "pdf"):
                figures.save(figure, folder / "figures" / f"{name}.{kind}")
            return f"![{escape(says)}](figures/{name}.png)\n\n{escape(says)} ([PDF](figures/{name}.pdf))"
        case Code(text):
            fence = "```" if "```" not in text else "~~~~"
            return f"{fence}sh\n{text}\n{fence}"
