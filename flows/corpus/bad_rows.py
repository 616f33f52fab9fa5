"""Rows that hold no usable document: counted by reason, with a few examples; never the end of a file unless asked."""

import logging
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flows.errors import CorpusError

logger = logging.getLogger(__name__)

EXAMPLES_OF_A_REASON = 3
_SHOWN_CHARACTERS, _LONGEST = 80, 400  # of one string, and of all that is shown
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _SHOWN_CHARACTERS
_short.maxlist = _short.maxdict = 20


class Reason(StrEnum):
    """Why a row gives no document; the values are names of statistics."""

    NULL = "null"
    NOT_TEXT = "not_text"
    NOT_CHAT = "not_chat"
    NOT_UTF8 = "not_utf8"
    LONE_SURROGATE = "lone_surrogate"
    NOT_JSON = "not_json"
    NO_COLUMN = "no_column"


@dataclass(frozen=True)
class Bad:
    """What a reader yields in place of a value, and a value turns out to be: the reason, and what is there instead."""

    reason: Reason
    found: str

    def __str__(self) -> str:
        return f"{self.reason.replace('_', ' ')}: {self.found}"


@dataclass(frozen=True)
class BadRow:
    """An example: where a bad row is (`line 3` counted from 1, or `row 3` of a table counted from 0), and why."""

    url: str
    place: str
    bad: Bad

    def __str__(self) -> str:
        return f"{self.place} is {self.bad}"


@dataclass
class BadRows:
    """The rows of one file that gave no document. Empty text is no mistake and is counted apart.

    `fatal` makes the first bad row a CorpusError.
    """

    fatal: bool = False
    empty: int = 0
    counts: Counter[Reason] = field(default_factory=Counter)
    examples: list[BadRow] = field(default_factory=list)

    def add(self, row: BadRow) -> None:
        """Count a row, and keep it as an example if its reason has few.

        Raises:
            CorpusError: if bad rows are fatal.
        """
        if self.fatal:
            raise CorpusError(
                f"{row.url}: {row}; repair the row, or set corpus.bad_rows: report to leave bad rows out and count them"
            )
        self.counts[row.bad.reason] += 1
        if self.counts[row.bad.reason] <= EXAMPLES_OF_A_REASON:
            self.examples.append(row)

    def stats(self) -> dict[str, float]:
        """Counts that add up over files: `empty_rows`, `bad_rows`, and `bad_rows_REASON` for each reason found."""
        reasons = {f"bad_rows_{reason}": float(count) for reason, count in sorted(self.counts.items())}
        return {"empty_rows": float(self.empty), "bad_rows": float(self.counts.total()), **reasons}

    def log(self, name: str) -> None:
        """Say what of the file `name` was left out (see `log_left_out`)."""
        log_left_out(name, self.counts, [str(example) for example in self.examples], self.empty)


def log_left_out(name: str, bad_rows: Mapping[Any, int], examples: Iterable[str], empty: int) -> None:
    """One warning for the bad rows of the file `name`, by reason, with examples; one line for empty ones."""
    if bad_rows:
        reasons = Counter(bad_rows).most_common()
        counts = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons)
        logger.warning("%s: left out %d bad row(s) (%s): %s", name, sum(bad_rows.values()), counts, "; ".join(examples))
    if empty:
        logger.info("%s: left out %d empty row(s)", name, empty)


def shortened(value: Any) -> str:
    """`value` as Python writes it, cut to a few lines however long it is."""
    written = _short.repr(value[:_SHOWN_CHARACTERS] if isinstance(value, str | bytes) else value)
    return written if len(written) <= _LONGEST else f"{written[:_LONGEST]}..."
