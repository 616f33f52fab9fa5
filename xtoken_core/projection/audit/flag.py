"""What a flag is."""

import math
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a flag matters."""

    WARNING = "warning"  # it changes what to do
    NOTICE = "notice"  # it is worth knowing


class FlagCode(StrEnum):
    """What a flag is about."""

    SPLIT_NUMERALS = "split_numerals"
    JOINED_NUMERALS = "joined_numerals"
    SPLIT_CLASS = "split_class"
    SMALL_OVERLAP = "small_overlap"
    LARGER_TEACHER = "larger_teacher"
    UNCOMMON_TEXT = "uncommon_text"
    DISPLACED_PAIRS = "displaced_pairs"
    CELLS_DIFFER = "cells_differ"
    INSIDE_CHUNKS = "inside_chunks"
    INEXACT_TEXT = "inexact_text"
    EMPTY_ROWS = "empty_rows"
    UNPAIRED_END = "unpaired_end"
    STRINGS_DIFFER = "strings_differ"
    DUMMY_PREFIX = "dummy_prefix"
    UNUSED_IDS = "unused_ids"


@dataclass(frozen=True)
class Flag:
    """One thing to know, about `count` of `of`; `remedy` says what to do, or why nothing."""

    severity: Severity
    code: FlagCode
    count: int
    of: int
    message: str
    remedy: str


def percent(share: float) -> str:
    """A percentage with two digits behind the point, rounded down: 100% is all."""
    return f"{math.floor(share * 10_000) / 100:.4g}%"
