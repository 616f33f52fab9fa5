"""What cover_kl reads at each place, against the bytes of both sides' tokens."""

import numpy as np
from tiny_workspace import TinyWorkspace

from trainer.teachers import TeacherData, TeacherRows
from trainer.terms.covers import places_of, reading_of, records_before
from trainer.windows import StudentWindows
from xtoken_core.align import prefix_boundaries


def opened(tiny: TinyWorkspace) -> tuple[TeacherData, TeacherRows]:
    """The teacher, and what it has of some windows."""
    student = StudentWindows.open(tiny.windows.folder, tiny.student_tokens.folder)
    teacher = TeacherData.open(tiny.prefix_kl_teacher(loss="cover_kl"), student, tiny.student.vocabulary)
    windows = student.train(128).take(np.arange(12))
    rows = teacher.read(windows, *student.tokens(windows))
    assert rows is not None
    return teacher, rows


def test_a_reading_holds_what_the_student_has_read_since_the_teachers_last_boundary(tiny: TinyWorkspace) -> None:
    teacher, rows = opened(tiny)
    student, theirs = tiny.student.vocabulary, teacher.vocabulary
    places = places_of(rows, student, theirs)
    reading = reading_of(places, rows, theirs)
    assert (places.read > 0).any()
    for i, row in enumerate(places.row):
        ours, other = rows.student_ids.row(int(row)), rows.teacher_ids.row(int(row))
        read = b"".join(student.token_bytes(token) for token in ours[: places.student_token[i]].tolist())
        heard = b"".join(theirs.token_bytes(token) for token in other[: places.teacher_token[i]].tolist())
        since = reading.text[reading.start[i] : reading.end[i]].tobytes()
        assert read == heard + since
        before = reading.text[reading.before[i] : reading.start[i]].tobytes()
        assert before in (b"", theirs.token_bytes(int(other[places.teacher_token[i] - 1])))
        assert reading.last[i] == ours[places.student_token[i] - 1]


def test_the_places_are_the_boundaries_and_those_inside_of_the_teachers_tokens(tiny: TinyWorkspace) -> None:
    teacher, rows = opened(tiny)
    places = places_of(rows, tiny.student.vocabulary, teacher.vocabulary)
    plain = prefix_boundaries(rows.alignment, rows.loss_mask, dummy_prefix=False)
    nothing_read = places.read == 0
    common = set(zip(places.row[nothing_read].tolist(), (places.student_token[nothing_read] - 1).tolist(), strict=True))
    assert set(zip(plain.row.tolist(), plain.student_position.tolist(), strict=True)) <= common
    assert len(places.row) > len(plain.row)


def test_the_record_before_is_one_token_earlier_where_that_token_is_text(tiny: TinyWorkspace) -> None:
    teacher, rows = opened(tiny)
    places = places_of(rows, tiny.student.vocabulary, teacher.vocabulary)
    asked: list[np.ndarray] = []

    def read(which: np.ndarray, positions: np.ndarray):
        asked.append(positions)
        return teacher.records(rows, which, positions)

    records = records_before(places, rows, teacher.vocabulary, read)
    reading = reading_of(places, rows, teacher.vocabulary)
    has_one = reading.before < reading.start
    assert has_one.any()
    assert not has_one.all()
    assert np.array_equal(asked[0], places.teacher_token - 1 - has_one)
    # The text goes on with the token whose record it is: the teacher gave it some probability there.
    assert np.isfinite(records.next_logprob[has_one]).all()
