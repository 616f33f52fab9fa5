"""prefix_kl over covers: wherever a student token ends, also inside of the teacher's tokens."""

from collections.abc import Callable

import numpy as np

from trainer.teachers import TeacherRows
from xtoken_core.align.places import Places, prefix_places
from xtoken_core.losses.prefix_covers import Reading
from xtoken_core.ragged import Ragged
from xtoken_core.topk import Records
from xtoken_core.vocabulary import Vocabulary

ReadRecords = Callable[[np.ndarray, np.ndarray], Records]  # of windows and positions


def places_of(rows: TeacherRows, student: Vocabulary, teacher: Vocabulary) -> Places:
    """The places in some windows where the teacher's records say something of the student's next token."""
    lengths = (_lengths(rows.student_ids, student), _lengths(rows.teacher_ids, teacher))
    return prefix_places(rows.alignment, rows.loss_mask, *lengths, student.dummy_prefix or teacher.dummy_prefix)


def reading_of(places: Places, rows: TeacherRows, teacher: Vocabulary) -> Reading:
    """What both sides have read at each place."""
    ids, lengths = rows.teacher_ids, _lengths(rows.teacher_ids, teacher)
    begins = np.concatenate([[0], np.cumsum(lengths.values)])
    at = ids.offsets[places.row] + places.teacher_token
    last = rows.student_ids.values[rows.student_ids.offsets[places.row] + places.student_token - 1]
    start = begins[at]
    return Reading(
        text=_spelled(ids.values, teacher),
        before=np.where(_has_token_before(places, rows, teacher), begins[at - 1], start),
        start=start,
        end=start + places.read,
        last=last.astype(np.int64),
    )


def records_before(places: Places, rows: TeacherRows, teacher: Vocabulary, read: ReadRecords) -> Records:
    """The record one token earlier, in any place where there is none the record itself."""
    earlier = _has_token_before(places, rows, teacher)
    return read(places.row, places.teacher_token - 1 - earlier)


def _has_token_before(places: Places, rows: TeacherRows, teacher: Vocabulary) -> np.ndarray:
    """bool [places]: whether the teacher token before the last boundary is text that a record predicts."""
    before = rows.teacher_ids.values[rows.teacher_ids.offsets[places.row] + places.teacher_token - 1]
    has_one: np.ndarray = (places.teacher_token >= 2) & (teacher.lengths[before] > 0)
    return has_one


def _lengths(ids: Ragged, vocabulary: Vocabulary) -> Ragged:
    return Ragged(vocabulary.lengths[ids.values], ids.offsets)


def _spelled(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The bytes of `ids` in a row, uint8."""
    lengths = vocabulary.lengths[ids]
    first = np.repeat(vocabulary.offsets[ids] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    text: np.ndarray = vocabulary.data[first + np.arange(len(first))]
    return text
