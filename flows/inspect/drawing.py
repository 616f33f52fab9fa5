"""One window on a terminal: tokenizations above each other, a column for each chunk."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

# Ink and paper together, so that they can be read on dark terminals and on light ones.
EVEN, ODD = "#10222e on #b8dcf2", "#2e2410 on #f7dfa5"
INEXACT, SPECIAL, TEMPLATE, OUTSIDE = "bold #ffffff on #b42318", "#ffffff on #7a3e9d", "#1b1f24 on #c9ced4", "dim"
_NARROW = 40  # a terminal below this has no room for labels
_LEAST = 2  # cells of a wide character


@dataclass(frozen=True)
class Column:
    """What each tokenization has in one chunk, and how it is drawn; `mark` says without colours what it is.

    ends_line: the text goes on in a new line.
    """

    lines: tuple[str, ...]
    style: str
    mark: str = ""
    ends_line: bool = False

    @property
    def width(self) -> int:
        """In cells of the terminal."""
        return max(map(cell_len, (*self.lines, self.mark)))

    def pieces(self, width: int) -> Iterator["Column"]:
        """The column in parts that are at most so wide."""
        parts = list(zip_longest(*(chop_cells(line, width) for line in self.lines), fillvalue=""))
        for index, lines in enumerate(parts):
            last = index == len(parts) - 1
            yield Column(lines, self.style, self.mark, self.ends_line and last)


@dataclass(frozen=True)
class Drawing:
    """Columns from left to right and from top to bottom; `labels` name the tokenizations."""

    labels: tuple[str, ...]
    columns: Sequence[Column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        labels = self.labels if options.max_width >= _NARROW else ("",) * len(self.labels)
        gutter = max(map(cell_len, labels)) + 1 if any(labels) else 0
        for columns in _filled(self.columns, max(options.max_width - gutter, _LEAST)):
            for index, label in enumerate(labels):
                cells = ((column.lines[index], column.style) for column in columns)
                yield _line(set_cell_size(label, gutter), cells, columns)
            if any(column.mark for column in columns):
                yield _line(" " * gutter, ((column.mark, "") for column in columns), columns)
            if len(labels) > 1:
                yield Text("")


def _filled(columns: Iterable[Column], width: int) -> Iterator[list[Column]]:
    """As many columns as fit side by side, with a space between them."""
    row: list[Column] = []
    for column in (piece for whole in columns for piece in whole.pieces(width)):
        if row and sum(other.width + 1 for other in row) + column.width > width:
            yield row
            row = []
        row.append(column)
        if column.ends_line:
            yield row
            row = []
    if row:
        yield row


def _line(label: str, cells: Iterable[tuple[str, str]], columns: Sequence[Column]) -> Text:
    line = Text.assemble((label, "dim"), no_wrap=True, overflow="ignore")
    for index, ((text, style), column) in enumerate(zip(cells, columns, strict=True)):
        line.append(" " * (index > 0))
        line.append(set_cell_size(text, column.width), style)
    return line
