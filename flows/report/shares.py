"""Exact shares as a page writes them."""

from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal

_FILES = 30


def exactly(part: int, whole: int) -> str:
    """A percentage that says 100% only of the whole: everything less is rounded down, to three places."""
    if whole == 0:
        return "–"
    if part == whole:
        return "100%"
    return f"{(Decimal(100 * part) / whole).quantize(Decimal('0.001'), ROUND_DOWN)}%"


def files_shown(files: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    """The files with the least exact share with any teacher: a page of ten thousand files is read by nobody."""

    def least(name: str) -> float:
        return min(row["exact_bytes"] / max(row["bytes"], 1) for row in files[name].values())

    return sorted(files, key=least)[:_FILES]
