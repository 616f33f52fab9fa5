"""Where the template of a chat ends and a message begins, on both sides."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from xtoken_core.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Segments:
    """The rows of a batch cut into template, content, template, content and so on; both sides have as many segments.

    student_ends, teacher_ends: int32, per row the token indices where its segments end. Segments 0, 2, 4 ... are
    template, the others content; a segment may be empty. The last end is the row's length. A row without any ends is
    plain text.
    student_leads, teacher_leads: int32, per segment the bytes of its first token that belong to the segment before (the
    space of " Hello" where the message is "Hello"); at most as many as the token has. Without them, none do.
    """

    student_ends: Ragged
    teacher_ends: Ragged
    student_leads: Ragged | None = None
    teacher_leads: Ragged | None = None

    @classmethod
    def none(cls, rows: int) -> Self:
        """All rows are plain text."""
        empty = Ragged(np.empty(0, dtype=np.int32), np.zeros(rows + 1, dtype=np.int64))
        return cls(empty, empty)

    def check(self, student_ids: Ragged, teacher_ids: Ragged) -> None:
        """Raises ValueError, naming the row, where the segments are not those of these tokens."""
        _check_side(self.student_ends, student_ids, "student")
        _check_side(self.teacher_ends, teacher_ids, "teacher")
        _check_leads(self.student_leads, self.student_ends, "student")
        _check_leads(self.teacher_leads, self.teacher_ends, "teacher")
        ours, theirs = self.student_ends.lengths, self.teacher_ends.lengths
        for row in np.flatnonzero(ours != theirs)[:1]:
            raise ValueError(
                f"row {row} has {ours[row]} student segments but {theirs[row]} teacher segments: "
                "cut both sides at the same messages, and give a message that one side lacks as an empty segment."
            )


def leads_of(leads: Ragged | None, ends: Ragged) -> Ragged:
    """The leads of these segments, or one 0 for each."""
    return leads or Ragged(np.zeros(len(ends.values), dtype=np.int32), ends.offsets)


def _check_leads(leads: Ragged | None, ends: Ragged, side: str) -> None:
    if leads is None:
        return
    if len(leads) != len(ends):
        raise ValueError(f"{side} leads of {len(leads)} rows for {len(ends)} rows of segments: give one row each.")
    for row in np.flatnonzero(leads.lengths != ends.lengths)[:1]:
        raise ValueError(
            f"row {row} has {leads.lengths[row]} {side} leads for {ends.lengths[row]} segments: give one for each."
        )


def _check_side(ends: Ragged, ids: Ragged, side: str) -> None:
    if len(ends) != len(ids):
        raise ValueError(f"{side} segments of {len(ends)} rows for {len(ids)} rows of ids: give one row each.")
    row_of = np.repeat(np.arange(len(ends)), ends.lengths)
    values = ends.values[ends.offsets[0] : ends.offsets[-1]].astype(np.int64)
    before = np.concatenate([[0], values[:-1]])
    filled = np.flatnonzero(ends.lengths)
    before[ends.offsets[filled] - ends.offsets[0]] = 0
    for at in np.flatnonzero(values < before)[:1]:
        raise ValueError(
            f"{side} segments of row {row_of[at]}: one ends at {values[at]}, before its beginning at {before[at]}. "
            "Give the ends in order, as token indices from the row's beginning."
        )
    last = values[ends.offsets[filled + 1] - 1 - ends.offsets[0]]
    for at in np.flatnonzero(last != ids.lengths[filled])[:1]:
        row = filled[at]
        raise ValueError(
            f"{side} segments of row {row} end at {last[at]}, but the row has {ids.lengths[row]} tokens. "
            "The last segment must end with the row."
        )
