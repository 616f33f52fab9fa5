"""Rendering of the page templates that lie beside this module."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_SMALL, _LARGE = 1e-3, 1e6


def render(template: str, **values: Any) -> str:
    """The HTML of `template`; every value is escaped unless it is markup already."""
    return _environment().get_template(template).render(**values)


def readable(value: object) -> str:
    """A table cell: thousands separated, four significant digits, yes and no, an empty cell for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return _readable_float(value) if isinstance(value, float) else str(value)


def columns_of(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """All keys of the rows, in the order in which they appear first."""
    return list(dict.fromkeys(key for row in rows for key in row))


def is_number(value: object) -> bool:
    """Whether a cell is set flush right."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(readable=readable, columns_of=columns_of)
    environment.tests.update(number_cell=is_number)
    return environment


def _readable_float(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    if value == 0 or _SMALL <= abs(value) < _LARGE:
        whole = len(str(int(abs(value))))
        return f"{value:,.{max(4 - whole, 0)}f}"
    return f"{value:.3g}"
