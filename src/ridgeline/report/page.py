"""A report as one self-contained HTML page: the answer, the picture, the breakdown, the sources."""

from html import escape
from io import StringIO
from pathlib import Path

from rich.console import Console, RenderableType

from ridgeline.api import Analysis
from ridgeline.catalogue import references
from ridgeline.errors import InputError
from ridgeline.report.plots import html, roofline
from ridgeline.report.tables import analysis_tables
from ridgeline.specs.base import Source

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
pre { font: 13px/1.4 ui-monospace, monospace; overflow-x: auto; background: #f7f7f7; padding: 1em; }
table { border-collapse: collapse; font-size: 13px; } td, th { text-align: left; padding: 2px 12px 2px 0; vertical-align: top; }
"""


def write(analysis: Analysis, path: Path) -> None:
    """Write a report of an analysis."""
    title = f"{analysis.model.title or analysis.model.name} on {analysis.chip.title or analysis.chip.name}"
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1><pre>{escape(as_text(analysis_tables(analysis)))}</pre>"
        f"{html(roofline(analysis), whole=False)}"
        f"<h2>Sources of the numbers used</h2>{sources_table(analysis.estimate.sources)}</html>"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--report {path}: cannot be written: {error.strerror or error}") from None


def as_text(renderable: RenderableType) -> str:
    """Return what a console would print, without colours."""
    out = StringIO()
    Console(file=out, width=150, highlight=False).print(renderable)
    return out.getvalue()


def sources_table(sources: dict[str, Source] | object) -> str:
    """Return the sources as an HTML table, then the bibliography's entries that they name."""
    if not isinstance(sources, dict):
        return ""
    rows: list[str] = []
    for name, one in sorted(sources.items()):
        value = "" if one.value is None else f"{one.value:,.6g} {one.unit if one.unit != '1' else ''}"
        cells = (name, value, one.key or "", one.where or "", one.confidence, one.note or "")
        rows.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    head = "<tr><th>field<th>value<th>source<th>where<th>confidence<th>note</tr>"
    entries = references.entries()
    keys = sorted({one.key for one in sources.values() if one.key})
    listed = "".join(f"<li><b>{escape(key)}</b>: {escape(references.cited(entries.get(key)))}</li>" for key in keys)
    return f"<table>{head}{''.join(rows)}</table><h2>Bibliography</h2><ul>{listed}</ul>"
