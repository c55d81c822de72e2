"""The bibliography: BibTeX entries by key."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_ENTRY = re.compile(r"@(?P<kind>\w+)\s*\{\s*(?P<key>[^,\s]+)\s*,(?P<body>.*?)\n\}", re.DOTALL)
_FIELD = re.compile(r"(?P<name>\w+)\s*=\s*(?:\{(?P<braced>(?:[^{}]|\{[^{}]*\})*)\}|\"(?P<quoted>[^\"]*)\"|(?P<bare>\d+))")


@cache
def entries() -> dict[str, dict[str, str]]:
    """Return the entries of `references.bib`: key → field → text."""
    text = (Path(__file__).parent / "references.bib").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = {}
    for entry in _ENTRY.finditer(text):
        values = {
            one["name"].lower(): next(part for part in (one["braced"], one["quoted"], one["bare"]) if part is not None)
            for one in _FIELD.finditer(entry["body"])
        }
        found[entry["key"]] = {"kind": entry["kind"], **values}
    return found


def cited(entry: Mapping[str, str] | None) -> str:
    """Return an entry as a line of text.

    >>> cited({"author": "S. Williams", "title": "Roofline", "year": "2009"})
    'S. Williams: Roofline, 2009'
    """
    if entry is None:
        return "not in the bibliography"
    who = entry.get("author") or entry.get("organization") or entry.get("institution") or ""
    rest = [entry[name] for name in ("title", "journal", "booktitle", "howpublished", "url", "eprint", "year") if name in entry]
    line = ", ".join(rest).replace("{", "").replace("}", "").replace("\\url", "")
    return f"{who.replace('{', '').replace('}', '')}: {line}" if who else line
