"""The cells of small vocabularies, written out by hand and against brute force."""

from collections.abc import Hashable

import numpy as np
import oracles_losses as oracle
import pytest
import torch
from fakes import fake_vocabulary, random_logits, records_of, reproducible, vocabularies
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.losses import CellBatch, PrefixCells
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import Vocabulary


def cells_of(student: Vocabulary, teacher: Vocabulary, probs: list[float], k: int) -> CellBatch:
    return PrefixCells.between(student, teacher).of(records_of(teacher, torch.tensor([probs]).log(), k))


def teacher_mass(cells: CellBatch) -> list[float]:
    return cells.teacher_logmass.exp()[0].tolist()


def test_each_token_falls_in_the_cell_of_its_longest_prefix():
    teacher = fake_vocabulary([b"a", b"ab", b"x", b"abc", b"c"])
    student = fake_vocabulary([b"c", b"abd", b"a", b"ab", b"aa"])
    cells = cells_of(student, teacher, [0.4, 0.3, 0.15, 0.1, 0.05], k=2)  # stored: a, ab
    assert cells.cell_map().tolist() == [[2, 1, 0, 1, 0]]
    assert teacher_mass(cells) == pytest.approx([0.4, 0.4, 0.2])


def test_a_stored_token_that_the_student_lacks_adds_to_the_cell_of_its_prefix():
    teacher = fake_vocabulary([b"abc", b"a", b"abcd", b"b"])
    student = fake_vocabulary([b"a", b"b"])
    cells = cells_of(student, teacher, [0.5, 0.3, 0.15, 0.05], k=2)  # stored: abc (with abcd behind it), a
    assert teacher_mass(cells) == pytest.approx([0.0, 0.95, 0.05])
    assert cells.cell_map().tolist() == [[1, 2]]


def test_tokens_of_equal_bytes_share_a_cell_on_either_side():
    teacher = fake_vocabulary([b"a", b"a", b"b"])
    student = fake_vocabulary([b"b", b"a", b"ab", b"a"])
    cells = cells_of(student, teacher, [0.3, 0.5, 0.2], k=2)  # stored: the second a, then the first
    assert teacher_mass(cells) == pytest.approx([0.8, 0.0, 0.2])
    assert cells.cell_map().tolist() == [[2, 0, 0, 0]]


def test_a_stored_duplicate_opens_the_cell_that_its_canonical_twin_would():
    teacher = fake_vocabulary([b"a", b"b", b"a"])
    cells = cells_of(fake_vocabulary([b"a", b"b"]), teacher, [0.1, 0.2, 0.7], k=1)
    assert teacher_mass(cells) == pytest.approx([0.8, 0.2])


def test_special_tokens_pair_by_role_and_everything_without_bytes_else_is_rest():
    teacher = fake_vocabulary(["<end>", b"a", "<other>"], roles={"eos": 0})
    student = fake_vocabulary([b"a", "<other>", None, "</s>"], roles={"eos": 3})
    cells = cells_of(student, teacher, [0.5, 0.2, 0.3], k=3)  # stored: <end>, <other>, a
    assert cells.cell_map().tolist() == [[2, 3, 3, 0]]
    assert teacher_mass(cells) == pytest.approx([0.5, 0.0, 0.2, 0.3])


def test_all_student_ids_that_pair_with_one_teacher_id_share_its_cell():
    teacher = fake_vocabulary(["<end>", b"a"], roles={"eos": 0, "turn_end": 0})
    student = fake_vocabulary([b"a", "<turn>", "</s>", "<other>"], roles={"turn_end": 1, "eos": 2})
    cells = cells_of(student, teacher, [0.7, 0.3], k=2)
    assert cells.cell_map().tolist() == [[1, 0, 0, 2]]
    assert teacher_mass(cells) == pytest.approx([0.7, 0.3, 0.0])


def test_all_stored_teacher_ids_that_pair_with_one_student_id_share_its_cell():
    teacher = fake_vocabulary(["</s>", "<turn>", b"a", "<s>"], roles={"eos": 0, "turn_end": 1, "bos": 3})
    student = fake_vocabulary(["<end>", b"a", b"b"], roles={"eos": 0, "turn_end": 0, "bos": 0})
    cells = cells_of(student, teacher, [0.2, 0.5, 0.27, 0.03], k=3)  # stored: <turn>, a, </s>
    assert cells.cell_map().tolist() == [[0, 1, 3]]
    assert teacher_mass(cells) == pytest.approx([0.7, 0.27, 0.0, 0.03])


def test_mass_that_no_student_token_could_take_is_left_out():
    teacher = fake_vocabulary([b"a", b"b", b"z"])
    student = fake_vocabulary([b"a", b"b", b"ab"])
    cells = cells_of(student, teacher, [0.6, 0.2, 0.2], k=2)  # a and b cover the student; nothing of it starts with z
    assert teacher_mass(cells) == pytest.approx([0.75, 0.25, 0.0])


def test_a_row_does_not_depend_on_the_rows_beside_it():
    teacher = fake_vocabulary([b"a", b"ab", b"b", b"ba", b"bb", b"abb"])
    student = fake_vocabulary([b"ab", b"b", b"bb", b"a", "<only here>"])
    cells, records = PrefixCells.between(student, teacher), records_of(teacher, random_logits(20, 6, seed=0), k=3)
    together = cells.of(records)
    for row in range(20):
        alone = cells.of(records.take(np.array([row])))
        assert torch.equal(alone.teacher_logmass[0], together.teacher_logmass[row])
        assert torch.equal(alone.cell_map()[0], together.cell_map()[row])


def test_a_record_without_a_token_of_the_student_has_the_rest_alone():
    teacher = fake_vocabulary([b"x", b"<y>", "<end>", b"z"])
    cells = cells_of(fake_vocabulary([b"a", "<end>", b"b"]), teacher, [0.4, 0.3, 0.2, 0.1], k=3)
    assert cells.cell_map().tolist() == [[3, 3, 3]]
    assert (cells.segment_end.tolist(), cells.segment_cell.tolist()) == ([[3]], [[3]])
    assert teacher_mass(cells) == pytest.approx([0.0, 0.0, 0.0, 1.0])


def test_of_a_single_stored_token_its_extensions_are_one_segment():
    teacher = fake_vocabulary([b"b", b"a", b"ba"])
    student = fake_vocabulary([b"ba", b"a", b"b", b"c", b"b"])
    cells = cells_of(student, teacher, [0.5, 0.3, 0.2], k=1)
    assert cells.cell_map().tolist() == [[0, 1, 0, 1, 0]]
    assert (cells.segment_end.tolist(), cells.segment_cell.tolist()) == ([[1, 4, 5]], [[1, 0, 1]])
    assert teacher_mass(cells) == pytest.approx([0.7, 0.3])


@reproducible
@given(vocabularies(), vocabularies(), st.integers(0, 2**31), st.integers(1, 16))
def test_segments_give_each_token_the_cell_of_its_longest_prefix(student, teacher, seed, k):
    records = records_of(teacher, random_logits(3, teacher.size, seed), k)
    cells = PrefixCells.between(student, teacher).of(records)
    for row, found in enumerate(cells.cell_map().tolist()):
        assert found == painted(student, teacher, records.topk_ids[row].tolist(), rest=cells.columns - 1)


def painted(student: Vocabulary, teacher: Vocabulary, stored: list[int], rest: int) -> list[int]:
    """The cell of each student id from the bytes or roles of all tokens."""
    keys = [oracle.token_key(student, token_id, teacher) for token_id in range(student.size)]
    known = set(keys)
    opened: dict[Hashable, int] = {}
    for slot, token_id in enumerate(stored):
        key = oracle.token_key(teacher, token_id, student)
        if key is not None and key in known:
            opened.setdefault(key, slot)
    return [opened.get(oracle.cell_of(key, opened.keys()), rest) for key in keys]


@reproducible
@given(vocabularies(), vocabularies(), st.integers(0, 2**31), st.integers(1, 16))
def test_segments_are_few_and_side_by_side(student, teacher, seed, k):
    cells = PrefixCells.between(student, teacher).of(records_of(teacher, random_logits(3, teacher.size, seed), k))
    lengths = cells.segment_end.diff(dim=1, prepend=torch.zeros(3, 1, dtype=torch.int32))
    assert (cells.segment_end[:, -1] == student.size).all()
    assert (lengths > 0).any(dim=0).all()  # no more columns than the longest row needs
    for row in range(3):
        filled = cells.segment_cell[row][lengths[row] > 0]
        assert len(filled) <= 2 * k + 1
        assert (filled[1:] != filled[:-1]).all()


@reproducible
@given(vocabularies(), vocabularies(), st.integers(0, 2**31), st.integers(1, 16), st.data())
def test_shards_and_rows_are_parts_of_the_whole(student, teacher, seed, k, data):
    cells = PrefixCells.between(student, teacher).of(records_of(teacher, random_logits(4, teacher.size, seed), k))
    first, row = data.draw(st.integers(0, student.size)), data.draw(st.integers(0, 4))
    size, rows = data.draw(st.integers(0, student.size)), data.draw(st.integers(0, 4))
    part = cells.rows(row, row + rows).shard(first, size)
    assert torch.equal(part.cell_map(), cells.cell_map()[row : row + rows, first : first + size])
    assert torch.equal(part.teacher_logmass, cells.teacher_logmass[row : row + rows])
    assert part.shard(0, len(part.order)).order.tolist() == part.order.tolist()


def test_segments_of_real_vocabularies(mistral_v1: Tokenizer, tekken: Tokenizer):
    for student, teacher in ((tekken.vocabulary, mistral_v1.vocabulary), (mistral_v1.vocabulary, tekken.vocabulary)):
        logits = random_logits(2, teacher.size, seed=0) - 4.0 * abs(teacher.lengths - 2)  # short ones: nested slices
        records = records_of(teacher, logits, k=64)
        cells = PrefixCells.between(student, teacher).of(records)
        assert cells.segment_end.shape[1] > 64
        for row, found in enumerate(cells.cell_map().tolist()):
            assert found == painted(student, teacher, records.topk_ids[row].tolist(), rest=64)
