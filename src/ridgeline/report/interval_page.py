"""Tables of a page that a program writes, between marks that a person leaves alone."""

import re
from collections.abc import Mapping

from ridgeline.errors import InputError


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    r"""Return a page with each table between `<!-- table NAME -->` and `<!-- end NAME -->` replaced.

    >>> with_tables("<!-- table a -->old<!-- end a -->", {"a": "new"})
    '<!-- table a -->\n\nnew\n\n<!-- end a -->'
    """
    for name, table in tables.items():
        start, end = f"<!-- table {name} -->", f"<!-- end {name} -->"
        if start not in page or end not in page:
            raise InputError(f"the page has no place for its table {name!r}: {start} … {end}")
        page = re.sub(f"{start}.*?{end}", lambda _, new=f"{start}\n\n{table}\n\n{end}": new, page, flags=re.DOTALL)
    return page
