"""Rows of made-up tokens, their alignment, and the one list of what holds for every alignment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fakes import fake_vocabulary
from hypothesis import strategies as st

from xtoken_core.align import AlignmentBatch, ChunkKind, Segments, align_batch
from xtoken_core.ragged import Ragged
from xtoken_core.vocabulary import Vocabulary

BOS, EOS, TURN, OTHER = "<bos>", "<eos>", "<turn>", "<other>"
ROLES = {BOS: "bos", EOS: "eos", TURN: "turn_start"}  # OTHER plays none
MARKS = st.sampled_from([BOS, EOS, TURN, OTHER])

Token = bytes | str
Chunk = tuple[int, int, bool]  # student end, teacher end, exact


def side(tokens: Sequence[Token], dummy_prefix: bool = False) -> tuple[Ragged, Vocabulary]:
    """One row in a vocabulary of its own, with the special tokens at the ids behind those of the text."""
    words = sorted({token for token in tokens if isinstance(token, bytes) and token})
    entries: list[Token | None] = [*words, *ROLES, OTHER, None]  # the hole at the end spells nothing
    roles = {role: entries.index(mark) for mark, role in ROLES.items()}
    ids = [entries.index(token or None) for token in tokens]
    return Ragged.from_lists([ids], np.int32), fake_vocabulary(entries, roles, dummy_prefix)


def align(student: Sequence[Token], teacher: Sequence[Token], **options: Any) -> AlignmentBatch:
    """Aligns one row. Options: student_dummy, teacher_dummy, and `segments`, two lists of ends."""
    student_ids, student_vocabulary = side(student, options.get("student_dummy", False))
    teacher_ids, teacher_vocabulary = side(teacher, options.get("teacher_dummy", False))
    ends = options.get("segments")
    segments = ends and Segments(*(Ragged.from_lists([one], np.int32) for one in ends))
    return align_batch(student_ids, teacher_ids, student_vocabulary, teacher_vocabulary, segments)


def chunks(batch: AlignmentBatch) -> list[Chunk]:
    """Those of the only row."""
    rows = (batch.student_chunk_ends, batch.teacher_chunk_ends, batch.chunk_exact)
    return [(int(i), int(j), bool(exact)) for i, j, exact in zip(*(row.row(0) for row in rows), strict=True)]


def kinds(batch: AlignmentBatch) -> list[ChunkKind]:
    return [ChunkKind(kind) for kind in batch.chunk_kind.row(0)]


def cut(text: bytes, data: st.DataObject) -> list[bytes]:
    """`text` cut at random; now and then an empty token between."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[first:last] for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def with_marks(tokens: Sequence[bytes], data: st.DataObject) -> list[Token]:
    marked: list[Token] = list(tokens)
    for mark in data.draw(st.lists(MARKS, max_size=4)):
        marked.insert(data.draw(st.integers(0, len(marked))), mark)
    return marked


def spelled(tokens: Sequence[Token]) -> bytes:
    return b"".join(token for token in tokens if isinstance(token, bytes))


def marks_of(tokens: Sequence[Token]) -> list[str]:
    return [token for token in tokens if isinstance(token, str)]


def check_invariants(student: list[Token], teacher: list[Token], batch: AlignmentBatch, dummy: bool = False) -> None:
    """What holds whatever the two sides are; a `dummy` prefix may make a space of difference in the first text."""
    at = int(batch.student_chunk_start0[0]), int(batch.teacher_chunk_start0[0])
    assert spelled(student[: at[0]]) == spelled(teacher[: at[1]]) == b""
    n_exact_bytes = 0
    for (i, j, exact), kind in zip(chunks(batch), kinds(batch), strict=True):
        ours, theirs = student[at[0] : i], teacher[at[1] : j]
        assert i >= at[0]
        assert j >= at[1]
        assert ours or theirs
        may_lack_a_space = dummy and not spelled(student[: at[0]])
        _check_chunk(ours, theirs, exact, kind, may_lack_a_space)
        n_exact_bytes += len(spelled(ours)) * exact
        at = i, j
    assert at == (len(student), len(teacher))
    _check_counts(student, batch, n_exact_bytes, dummy)


def _check_chunk(ours: list[Token], theirs: list[Token], exact: bool, kind: ChunkKind, may_lack_a_space: bool) -> None:
    marks = marks_of(ours), marks_of(theirs)
    equal = spelled(ours) == spelled(theirs)
    if exact:
        assert ours
        assert theirs
        assert equal or (may_lack_a_space and spelled(ours).removeprefix(b" ") == spelled(theirs).removeprefix(b" "))
        assert marks[0] == marks[1]
        assert len(marks[0]) == (kind == ChunkKind.SPECIAL)
    elif kind == ChunkKind.TEXT and not (may_lack_a_space or marks[0] or marks[1]):
        assert not equal or not (ours and theirs)
    elif kind == ChunkKind.SPECIAL:
        assert len(marks[0]) + len(marks[1]) == 1
        assert spelled(ours) == spelled(theirs) == b""


def _check_counts(student: list[Token], batch: AlignmentBatch, n_exact_bytes: int, dummy: bool) -> None:
    assert batch.n_chunks[0] == len(chunks(batch)) == len(batch.chunk_kind.row(0))
    assert batch.n_exact[0] == np.count_nonzero(batch.chunk_exact.row(0))
    prefix = len(spelled(student)) - int(batch.n_bytes[0])
    assert prefix in ((0, 1) if dummy else (0,))
    assert n_exact_bytes - prefix <= batch.n_exact_bytes[0] <= n_exact_bytes
