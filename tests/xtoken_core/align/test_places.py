from random import Random

import numpy as np
from fakes import fake_vocabulary
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.align import align_batch, prefix_boundaries
from xtoken_core.align.chunks import AlignmentBatch, ChunkKind
from xtoken_core.align.places import prefix_places
from xtoken_core.ragged import Ragged

TOKENS = [b"a", b"b", b" ", b"ab", b"ba", b" a", b"aba", b"ab a", "<bos>", "<eos>", "<other>"]
VOCABULARY = fake_vocabulary(TOKENS, {"bos": 8, "eos": 9})
ROW = st.lists(st.integers(0, len(TOKENS) - 1), max_size=10)


def lengths(ids: Ragged) -> Ragged:
    return Ragged(VOCABULARY.lengths[ids.values], ids.offsets)


def found(batch: AlignmentBatch, mask: Ragged, student: Ragged, teacher: Ragged, dummy: bool) -> list[tuple]:
    places = prefix_places(batch, mask, lengths(student), lengths(teacher), dummy)
    return list(zip(*(column.tolist() for column in vars(places).values()), strict=True))


def inside_of_chunk(student: list[int], teacher: list[int]) -> list[tuple[int, int, int]]:
    """For each student token of an exact chunk but the first: itself, the teacher's token that begins last before it,
    and the bytes between; both are counted in the chunk.
    """
    spelled = [[VOCABULARY.token_bytes(i) for i in side] for side in (student, teacher)]
    begins = [[sum(map(len, side[:i])) for i in range(len(side))] for side in spelled]
    found = []
    for i, begin in list(enumerate(begins[0]))[1:]:
        last = max(j for j, other in enumerate(begins[1]) if other <= begin)
        found.append((i, last, begin - begins[1][last]))
    return found


@given(st.lists(st.tuples(ROW, ROW), max_size=4), st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_places_are_the_boundaries_and_what_lies_inside_of_exact_chunks_behind_them(
    rows: list[tuple[list[int], list[int]]], random: Random, dummy: bool, same_text: bool
) -> None:
    if same_text:  # the teacher spells the same, byte by byte
        single = {b"a": 0, b"b": 1, b" ": 2}
        rows = [(ids, [single[bytes([byte])] for i in ids for byte in VOCABULARY.token_bytes(i)]) for ids, _ in rows]
    student, teacher = (Ragged.from_lists([row[side] for row in rows], np.int32) for side in (0, 1))
    batch = align_batch(student, teacher, VOCABULARY, VOCABULARY)
    every = Ragged(np.ones(len(student.values), dtype=bool), student.offsets)
    mask = Ragged(np.array([random.random() < 0.8 for _ in student.values], dtype=bool), student.offsets)
    boundaries = prefix_boundaries(batch, every, dummy)
    expected = []
    for row, student_at, teacher_at in zip(*(c.tolist() for c in vars(boundaries).values()), strict=True):
        expected.append((row, student_at + 1, teacher_at + 1, 0))
        chunk = next(c for c, end in enumerate(batch.student_chunk_ends.row(row)) if end > student_at + 1)
        if batch.chunk_exact.row(row)[chunk] and batch.chunk_kind.row(row)[chunk] == ChunkKind.TEXT:
            tokens = student.row(row)[student_at + 1 : batch.student_chunk_ends.row(row)[chunk]].tolist()
            others = teacher.row(row)[teacher_at + 1 : batch.teacher_chunk_ends.row(row)[chunk]].tolist()
            inside = inside_of_chunk(tokens, others)
            expected += [(row, student_at + 1 + i, teacher_at + 1 + j, read) for i, j, read in inside]
    kept = [place for place in expected if mask.row(place[0])[place[1]]]
    assert found(batch, mask, student, teacher, dummy) == kept
