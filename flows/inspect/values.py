"""How values, facts and verdicts look on a terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from rich.console import Group
from rich.table import Table
from rich.text import Text

_LIST_HEAD = 6
_NESTED_HEAD = 2
_TEXT_HEAD = 60
_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: float) -> str:
    """Bytes in a unit that keeps the number short."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} {_UNITS[-1]}"


def short(value: Any) -> str:
    """A cell of a table in one short line."""
    if isinstance(value, list):
        count = _NESTED_HEAD if value and isinstance(value[0], list) else _LIST_HEAD
        head = ", ".join(short(item) for item in value[:count])
        return f"[{head}]" if len(value) <= count else f"[{head}, … {len(value):,} in all]"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str | bytes):
        return repr(value) if len(value) <= _TEXT_HEAD else f"{value[:_TEXT_HEAD]!r}…"
    return "" if value is None else str(value)


def facts(title: str, values: Mapping[str, object]) -> Group:
    """Names and values, one pair a line."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, value if isinstance(value, Text) else Text(_plain(value)))
    return Group(Text(title, "bold"), table, "")


def grid(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """A table with a header; numbers are set flush right."""
    table = Table(title=Text(title, "bold"), title_justify="left", header_style="cyan")
    cells = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[index], int | float) for row in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_plain(cell)) for cell in row))
    return table


def first_rows(table: pa.Table, count: int = 3) -> Table:
    """The first rows, set upright: a shard has more columns than a terminal is wide."""
    rows = table.slice(0, count).to_pylist()
    head = [f"row {i}" for i in range(len(rows))]
    body = [[field.name, _type(field), *(short(row[field.name]) for row in rows)] for field in table.schema]
    return grid("first rows", ["column", "type", *head], body)


def _type(field: pa.Field) -> str:
    return str(field.type).replace("item: ", "").replace("fixed_size_list", "list")


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:,.4f}" if abs(value) >= 0.1 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
