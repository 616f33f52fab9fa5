"""The cells of small vocabularies, written out by hand."""

import numpy as np
import pytest
import torch
from fakes import fake_vocabulary, random_logits, records_of

from xtoken_core.losses import CellBatch, PrefixCells
from xtoken_core.vocabulary import Vocabulary


def cells_of(student: Vocabulary, teacher: Vocabulary, probs: list[float], k: int) -> CellBatch:
    return PrefixCells.between(student, teacher).of(records_of(teacher, torch.tensor([probs]).log(), k))


def teacher_mass(cells: CellBatch) -> list[float]:
    return cells.teacher_logmass.exp()[0].tolist()


def test_each_token_falls_in_the_cell_of_its_longest_prefix():
    teacher = fake_vocabulary([b"a", b"ab", b"x", b"abc", b"c"])
    student = fake_vocabulary([b"c", b"abd", b"a", b"ab", b"aa"])
    cells = cells_of(student, teacher, [0.4, 0.3, 0.15, 0.1, 0.05], k=2)  # stored: a, ab
    assert cells.student_cell.tolist() == [[2, 1, 0, 1, 0]]
    assert teacher_mass(cells) == pytest.approx([0.4, 0.4, 0.2])


def test_a_stored_token_that_the_student_lacks_adds_to_the_cell_of_its_prefix():
    teacher = fake_vocabulary([b"abc", b"a", b"abcd", b"b"])
    student = fake_vocabulary([b"a", b"b"])
    cells = cells_of(student, teacher, [0.5, 0.3, 0.15, 0.05], k=2)  # stored: abc (with abcd behind it), a
    assert teacher_mass(cells) == pytest.approx([0.0, 0.95, 0.05])
    assert cells.student_cell.tolist() == [[1, 2]]


def test_tokens_of_equal_bytes_share_a_cell_on_either_side():
    teacher = fake_vocabulary([b"a", b"a", b"b"])
    student = fake_vocabulary([b"b", b"a", b"ab", b"a"])
    cells = cells_of(student, teacher, [0.3, 0.5, 0.2], k=2)  # stored: the second a, then the first
    assert teacher_mass(cells) == pytest.approx([0.8, 0.0, 0.2])
    assert cells.student_cell.tolist() == [[2, 0, 0, 0]]


def test_a_stored_duplicate_opens_the_cell_that_its_canonical_twin_would():
    teacher = fake_vocabulary([b"a", b"b", b"a"])
    cells = cells_of(fake_vocabulary([b"a", b"b"]), teacher, [0.1, 0.2, 0.7], k=1)
    assert teacher_mass(cells) == pytest.approx([0.8, 0.2])


def test_special_tokens_pair_by_role_and_everything_without_bytes_else_is_rest():
    teacher = fake_vocabulary(["<end>", b"a", "<other>"], roles={"eos": 0})
    student = fake_vocabulary([b"a", "<other>", None, "</s>"], roles={"eos": 3})
    cells = cells_of(student, teacher, [0.5, 0.2, 0.3], k=3)  # stored: <end>, <other>, a
    assert cells.student_cell.tolist() == [[2, 3, 3, 0]]
    assert teacher_mass(cells) == pytest.approx([0.5, 0.0, 0.2, 0.3])


def test_all_student_ids_that_pair_with_one_teacher_id_share_its_cell():
    teacher = fake_vocabulary(["<end>", b"a"], roles={"eos": 0, "turn_end": 0})
    student = fake_vocabulary([b"a", "<turn>", "</s>", "<other>"], roles={"turn_end": 1, "eos": 2})
    cells = cells_of(student, teacher, [0.7, 0.3], k=2)
    assert cells.student_cell.tolist() == [[1, 0, 0, 2]]
    assert teacher_mass(cells) == pytest.approx([0.7, 0.3, 0.0])


def test_all_stored_teacher_ids_that_pair_with_one_student_id_share_its_cell():
    teacher = fake_vocabulary(["</s>", "<turn>", b"a", "<s>"], roles={"eos": 0, "turn_end": 1, "bos": 3})
    student = fake_vocabulary(["<end>", b"a", b"b"], roles={"eos": 0, "turn_end": 0, "bos": 0})
    cells = cells_of(student, teacher, [0.2, 0.5, 0.27, 0.03], k=3)  # stored: <turn>, a, </s>
    assert cells.student_cell.tolist() == [[0, 1, 3]]
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
        assert torch.equal(alone.student_cell[0], together.student_cell[row])
