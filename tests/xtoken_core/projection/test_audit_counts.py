"""What an audit counts, on projections written out by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fakes import fake_vocabulary, reproducible, vocabularies
from hypothesis import given
from hypothesis import strategies as st

from xtoken_core.chunk_sizes import ChunkSizes
from xtoken_core.projection.audit import ProjectionAudit, TextCounts, audit, overlap_matrix
from xtoken_core.projection.audit.classes import TokenClass
from xtoken_core.projection.audit.coverage import RowCounts, RowKind, row_kinds
from xtoken_core.projection.audit.overlap import Overlap
from xtoken_core.projection.audit.partition import common_tokens, gold_tokens
from xtoken_core.projection.audit.weights import BINS
from xtoken_core.projection.matrix import Projection, Rule
from xtoken_core.vocabulary import TokenKind, Vocabulary

Entry = tuple[int, float, Rule]

STUDENT = fake_vocabulary([b"a", b" b", b"12", b"345", b"9", "<s>", "</s>", None, b"\xe4", b"7"], {"bos": 5, "eos": 6})
TEACHER = fake_vocabulary([b" b", b"1", b"2", b"3", "<bos>", b"a", b"4", b"5", "<x>"], {"bos": 4})
ROWS: list[list[Entry]] = [
    [(5, 1.0, Rule.EXACT)],
    [(0, 1.0, Rule.EXACT)],
    [(1, 0.9, Rule.MULTI_TOKEN), (2, 0.1, Rule.MULTI_TOKEN)],
    [(3, 0.8, Rule.MULTI_TOKEN), (6, 0.1, Rule.REVERSE), (7, 0.1, Rule.MULTI_TOKEN)],
    [(1, 0.5, Rule.NEAREST), (2, 0.5, Rule.NEAREST)],
    [(4, 1.0, Rule.SPECIAL)],
    [(8, 1.0, Rule.NAME)],
    [],
    [],
    [(6, 0.6, Rule.REVERSE), (7, 0.4, Rule.COOCCURRENCE)],
]


def projection_of(rows: Sequence[Sequence[Entry]], k: int = 4) -> Projection:
    indices = np.full((len(rows), k), -1, dtype=np.int32)
    weights = np.zeros((len(rows), k), dtype=np.float32)
    rules = np.full((len(rows), k), Rule.EMPTY, dtype=np.int8)
    for row, entries in enumerate(rows):
        for column, (teacher_id, weight, rule) in enumerate(entries):
            indices[row, column], weights[row, column], rules[row, column] = teacher_id, weight, rule
    return Projection(indices, weights, rules)


def counts_of(student: Sequence[int], teacher: Sequence[int], boundaries: int = 0, agreeing: int = 0) -> TextCounts:
    return TextCounts(np.array(student), np.array(teacher), boundaries, agreeing, 50, 49, ChunkSizes.none())


@pytest.fixture(scope="module")
def found() -> ProjectionAudit:
    counts = counts_of([10, 20, 4, 3, 2, 0, 1, 0, 5, 5], [20, 8, 4, 3, 0, 10, 3, 2, 0], boundaries=40, agreeing=30)
    return audit(projection_of(ROWS), STUDENT, TEACHER, counts)


def test_rows_by_what_made_their_first_entry(found: ProjectionAudit):
    assert found.findings.rows == RowCounts(exact=2, paired=2, multi_token=3, other=1, empty=1)
    names = ("exact", "multi_token", "nearest", "special", "name", "reverse", "empty")
    assert found.findings.rules == dict(zip(names, (2, 2, 1, 1, 1, 1, 1), strict=True))
    assert (found.findings.student_size, found.findings.student_unused) == (10, 1)


def test_rows_weighted_by_text(found: ProjectionAudit):
    assert found.findings.occurrences == RowCounts(exact=30, paired=1, multi_token=12, other=2, empty=5)


def test_coverage_by_class(found: ProjectionAudit):
    by_class = {one.token_class: (one.tokens, one.occurrences) for one in found.findings.classes}
    assert by_class == {
        TokenClass.ONE_DIGIT: (RowCounts(0, 0, 1, 1, 0), RowCounts(0, 0, 5, 2, 0)),
        TokenClass.TWO_DIGITS: (RowCounts(0, 0, 1, 0, 0), RowCounts(0, 0, 4, 0, 0)),
        TokenClass.THREE_DIGITS: (RowCounts(0, 0, 1, 0, 0), RowCounts(0, 0, 3, 0, 0)),
        TokenClass.ASCII_WORDS: (RowCounts(2, 0, 0, 0, 0), RowCounts(30, 0, 0, 0, 0)),
        TokenClass.PARTIAL: (RowCounts(0, 0, 0, 0, 1), RowCounts(0, 0, 0, 0, 5)),
        TokenClass.SPECIAL: (RowCounts(0, 2, 0, 0, 0), RowCounts(0, 1, 0, 0, 0)),
    }
    uncommon = {one.token_class: (one.uncommon, one.uncommon_occurrences) for one in found.findings.classes}
    assert uncommon == {
        TokenClass.ONE_DIGIT: (2, 7),
        TokenClass.TWO_DIGITS: (1, 4),
        TokenClass.THREE_DIGITS: (1, 3),
        TokenClass.ASCII_WORDS: (0, 0),
        TokenClass.PARTIAL: (1, 5),
        TokenClass.SPECIAL: (0, 0),
    }
    numerals = found.findings.coverage(TokenClass.TWO_DIGITS, TokenClass.THREE_DIGITS)
    assert [one.token_class for one in numerals] == [TokenClass.TWO_DIGITS, TokenClass.THREE_DIGITS]
    assert found.findings.teacher_tokens[TokenClass.ONE_DIGIT] == 5


def test_the_text_that_a_partition_leaves_out(found: ProjectionAudit):
    partition = found.findings.partition
    assert (partition.common, partition.displaced) == (4, 0)
    assert partition.student_uncommon == pytest.approx(19 / 49)  # not the special token's occurrence
    assert partition.teacher_uncommon == pytest.approx(20 / 50)


def test_shares_of_text(found: ProjectionAudit):
    text = found.findings.text
    assert text is not None
    assert (text.student_tokens, text.taught_share, text.cell_agreement) == (50, 0.8, 0.75)
    assert (text.n_bytes, text.exact_share) == (50, 0.98)


def test_without_text_nothing_is_said_about_it():
    found = audit(projection_of(ROWS), STUDENT, TEACHER).findings
    assert (
        found.text is found.occurrences is found.partition.student_uncommon is found.partition.displaced_share is None
    )
    assert all(one.occurrences is None for one in found.classes)


def test_every_rule_has_a_kind():
    kinds = row_kinds(projection_of([[(0, 1.0, rule)] if rule != Rule.EMPTY else [] for rule in Rule]))
    by_rule = dict(zip(Rule, kinds.tolist(), strict=True))
    assert by_rule[Rule.EXACT] == RowKind.EXACT
    assert by_rule[Rule.SPECIAL] == by_rule[Rule.NAME] == RowKind.PAIRED
    assert by_rule[Rule.MULTI_TOKEN] == by_rule[Rule.REVERSE] == RowKind.MULTI_TOKEN
    assert by_rule[Rule.EMPTY] == RowKind.EMPTY
    assert by_rule[Rule.NEAREST] == by_rule[Rule.COOCCURRENCE] == RowKind.OTHER


def test_a_reserved_column_is_no_entry(found: ProjectionAudit):
    made = projection_of(ROWS, k=5)
    made.weights[:, -1] = 0.3
    reserved = audit(made, STUDENT, TEACHER)
    plain = audit(projection_of(ROWS), STUDENT, TEACHER)
    assert reserved.findings == plain.findings
    assert reserved.weights == replace(plain.weights, per_row=(*plain.weights.per_row, 0))
    assert reserved.examples == plain.examples


def test_gold_pairs_the_lowest_of_the_ids_that_want_one_teacher_id():
    student = fake_vocabulary([b".,", b",", b".", b","])
    split = [(0, 0.9, Rule.MULTI_TOKEN), (1, 0.1, Rule.MULTI_TOKEN)]
    rows = [split, [(1, 1.0, Rule.MULTI_TOKEN)], [(0, 1.0, Rule.EXACT)], [(1, 1.0, Rule.EXACT)]]
    projection = projection_of(rows)
    assert gold_tokens(projection).tolist() == [False, True, True, False]
    counts = counts_of([0, 0, 1, 3], [1, 3])
    partition = audit(projection, student, fake_vocabulary([b".", b","]), counts).findings.partition
    assert (partition.common, partition.displaced, partition.displaced_share) == (3, 1, 0.75)


def test_common_tokens_that_are_not_alone_in_their_row_are_left_out_by_gold():
    student = fake_vocabulary([b"a", b"b"])
    rows = [[(0, 0.9, Rule.IMPORTED), (1, 0.1, Rule.IMPORTED)], [(1, 1.0, Rule.EXACT)]]
    partition = audit(projection_of(rows), student, fake_vocabulary([b"a", b"b", b"c"])).findings.partition
    assert (partition.common, partition.displaced) == (2, 1)


@reproducible
@given(vocabularies(), vocabularies())
def test_common_tokens_are_those_whose_bytes_both_sides_have(student: Vocabulary, teacher: Vocabulary):
    for side, other, found in zip((student, teacher), (teacher, student), common_tokens(student, teacher), strict=True):
        theirs = {other.token_bytes(i) for i in range(other.size)} - {b""}
        text = np.flatnonzero(side.lengths)
        assert [bool(found[i]) for i in text] == [side.token_bytes(i) in theirs for i in text]
        assert not found[side.kind == TokenKind.UNUSED].any()


def test_special_tokens_are_common_by_role_by_name_and_by_a_similar_name():
    student = fake_vocabulary(["<a>", "<pad>", "<|im_end|>", "[Q]", b"<x>"], {"eos": 0})
    teacher = fake_vocabulary(["<pad>", "<z>", "<|end|>", "<x>"], {"eos": 1})
    ours, theirs = common_tokens(student, teacher)
    assert ours.tolist() == [True, True, True, False, False]
    assert theirs.tolist() == [True, True, True, False]


ANY_ROW = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([0.25, 0.5]), st.sampled_from([rule for rule in Rule if rule >= 0])),
    max_size=4,
    unique_by=lambda entry: entry[0],
)


@reproducible
@given(st.lists(ANY_ROW, min_size=10, max_size=10))
def test_what_is_said_about_the_vocabularies_is_the_same_for_every_projection(rows: list[list[Entry]]):
    counts = counts_of([10, 20, 4, 3, 2, 0, 1, 0, 5, 5], [20, 8, 4, 3, 0, 10, 3, 2, 0])
    expected, found = (audit(projection_of(made), STUDENT, TEACHER, counts).findings for made in (ROWS, rows))
    for findings in (expected, found):
        partition = findings.partition
        assert (partition.common, partition.student_uncommon) == (4, pytest.approx(19 / 49))
        assert partition.teacher_uncommon == pytest.approx(20 / 50)
    assert [one.uncommon for one in found.classes] == [one.uncommon for one in expected.classes]
    assert [one.uncommon_occurrences for one in found.classes] == [one.uncommon_occurrences for one in expected.classes]


def test_the_histogram_of_weights(found: ProjectionAudit):
    weights = found.weights
    assert (len(weights.counts), weights.ones) == (BINS, 4)
    filled = {place / BINS: count for place, count in enumerate(weights.counts) if count}
    assert filled == {0.1: 3, 0.4: 1, 0.5: 2, 0.6: 1, 0.8: 1, 0.9: 1}
    assert weights.per_row == (2, 4, 3, 1, 0)


@reproducible
@given(vocabularies(), vocabularies())
def test_the_overlap_counts_distinct_tokens(student: Vocabulary, teacher: Vocabulary):
    ours, theirs = ({side.token_bytes(i) for i in range(side.size)} - {b""} for side in (student, teacher))
    overlap = Overlap.by_bytes(student, teacher)
    assert (overlap.student, overlap.teacher, overlap.shared) == (len(ours), len(theirs), len(ours & theirs))
    assert overlap.student_share == (len(ours & theirs) / len(ours) if ours else 0)
    raw = Overlap.raw(student, teacher)
    assert raw.shared == len({*student.texts} & {*teacher.texts} - {""})


@reproducible
@given(st.lists(vocabularies(), min_size=1, max_size=4))
def test_the_overlap_matrix_has_every_pair(sides: list[Vocabulary]):
    matrix = overlap_matrix({str(i): side for i, side in enumerate(sides)})
    assert matrix.names == tuple(map(str, range(len(sides))))
    for (row, column), shared in np.ndenumerate(matrix.shared):
        pair = Overlap.by_bytes(sides[row], sides[column])
        assert (shared, matrix.shares[row, column]) == (pair.shared, pair.student_share)


def test_no_tokenizers_have_no_overlap():
    with pytest.raises(ValueError, match="give at least one"):
        overlap_matrix({})


def test_examples_are_of_all_classes_the_frequent_first(found: ProjectionAudit):
    assert [example.student_id for example in found.examples] == [9, 4, 2, 3, 1, 0, 8, 6, 5]
    first = found.examples[0]
    assert (first.student_bytes, first.token_class, first.occurrences) == (b"7", TokenClass.ONE_DIGIT, 5)
    assert [(one.teacher_text, round(one.weight, 3), one.rule) for one in first.entries] == [
        ("4", 0.6, "reverse"),
        ("5", 0.4, "cooccurrence"),
    ]
    assert not found.examples[6].entries


def test_fifty_examples_of_many_rows_cover_every_class():
    words = [f"w{i}".encode() for i in range(300)] + [b"abc"[: 1 + i % 3] * (1 + i // 3) for i in range(300)]
    student = fake_vocabulary([*words, "<s>", b"  "])
    rows = [[(0, 1.0, Rule.MULTI_TOKEN)] if i % 2 else [(1, 1.0, Rule.EXACT)] for i in range(602)]
    found = audit(projection_of(rows), student, fake_vocabulary([b"a", b"b"]))
    assert len(found.examples) == len({example.student_id for example in found.examples}) == 50
    assert {example.token_class for example in found.examples} == {one.token_class for one in found.findings.classes}
    assert found == audit(projection_of(rows), student, fake_vocabulary([b"a", b"b"]))
