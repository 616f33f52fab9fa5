"""Cells and counts of text, against the definitions applied to bytes one token at a time."""

from collections import Counter
from itertools import accumulate
from pydoc_data.topics import topics

import numpy as np
import pytest
from fakes import fake_vocabulary, random_logits, records_of, reproducible, vocabularies
from hypothesis import given
from real_tokenizers import write_byte_bpe

from xtoken_core.align import align_batch
from xtoken_core.losses import PrefixCells
from xtoken_core.projection.audit import AlignedTexts, count_texts
from xtoken_core.projection.audit.cells import VocabularyCells
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import Vocabulary

TEXTS = [*list(topics.values())[:12], "in 1999 and 2024: 12,345.67", "naïve café — 中文 😀", "", "    x = [1,\t2]\r\n"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(write_byte_bpe(tmp_path_factory.mktemp("small"), vocab_size=500))


def cell(token: bytes, student: Vocabulary, teacher: Vocabulary) -> bytes:
    """The longest prefix of `token` that both sides have as a token; b"" is the rest cell."""
    prefixes = [token[:length] for length in range(len(token), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in student.lookup and prefix in teacher.lookup), b"")


@reproducible
@given(vocabularies(), vocabularies())
def test_the_cell_of_a_token_is_its_longest_prefix_that_both_sides_have(student: Vocabulary, teacher: Vocabulary):
    cells = VocabularyCells.between(student, teacher)
    for side, found in ((student, cells.student), (teacher, cells.teacher)):
        for token_id in np.flatnonzero(side.lengths):
            expected = cell(side.token_bytes(token_id), student, teacher)
            assert found[token_id] == student.lookup.get(expected, -1)


@reproducible
@given(vocabularies(), vocabularies())
def test_cells_are_those_of_a_record_of_the_whole_vocabulary(student: Vocabulary, teacher: Vocabulary):
    records = records_of(teacher, random_logits(1, teacher.size, seed=0), k=teacher.size)
    slots = PrefixCells.between(student, teacher).of(records).cell_map()[0].numpy()
    ours = VocabularyCells.between(student, teacher).student
    assert len({*zip(slots.tolist(), ours.tolist(), strict=True)}) == len({*slots.tolist()}) == len({*ours.tolist()})
    assert np.array_equal(slots == teacher.size, ours == -1)


def test_special_tokens_that_pair_share_a_cell_and_others_fall_in_the_rest():
    student = fake_vocabulary([b"a", "</s>", "<x>", None], {"eos": 1})
    teacher = fake_vocabulary(["<y>", "<end>", b"ab"], {"eos": 1})
    cells = VocabularyCells.between(student, teacher)
    assert cells.student.tolist() == [-1, 1, -1, -1]
    assert cells.teacher.tolist() == [-1, 1, -1]


def spelled(row: np.ndarray, vocabulary: Vocabulary) -> list[bytes]:
    return [token for token in map(vocabulary.token_bytes, row.tolist()) if token]


def agreements(student: list[bytes], teacher: list[bytes], vocabularies: tuple[Vocabulary, Vocabulary]) -> list[bool]:
    """For each place where a token of both sides begins: whether these two fall in one cell."""
    ours, theirs = (dict(zip(accumulate(map(len, [b"", *side])), side, strict=False)) for side in (student, teacher))
    return [
        cell(ours[at], *vocabularies) == cell(theirs[at], *vocabularies) for at in sorted(ours.keys() & theirs.keys())
    ]


def test_boundaries_and_agreement_are_those_found_byte_by_byte(small: Tokenizer, byte_bpe: Tokenizer):
    for student, teacher in ((small, byte_bpe), (byte_bpe, small)):
        pair = student.vocabulary, teacher.vocabulary
        part = AlignedTexts.of(TEXTS, student, teacher)
        rows = zip(part.student_ids, part.teacher_ids, strict=True)
        expected = [one for s, t in rows for one in agreements(spelled(s, pair[0]), spelled(t, pair[1]), pair)]
        counts = count_texts([part], *pair)
        assert (counts.boundaries, counts.agreeing) == (len(expected), sum(expected))
        assert 0 < counts.agreeing < counts.boundaries
        assert counts.n_bytes == counts.n_exact_bytes == sum(len(text.encode()) for text in TEXTS)


def test_a_dummy_prefix_is_no_place_to_compare(byte_bpe: Tokenizer, mistral_v1: Tokenizer):
    pair = byte_bpe.vocabulary, mistral_v1.vocabulary
    part = AlignedTexts.of(TEXTS, byte_bpe, mistral_v1)
    expected: list[bool] = []
    for ours, theirs in zip(part.student_ids, part.teacher_ids, strict=True):
        teacher = spelled(theirs, pair[1])
        if teacher:  # the first place is that of the space
            text = [teacher[0].removeprefix(b" "), *teacher[1:]]
            expected += agreements(spelled(ours, pair[0]), [token for token in text if token], pair)[1:]
    counts = count_texts([part], *pair)
    assert (counts.boundaries, counts.agreeing) == (len(expected), sum(expected))


def test_tokens_are_counted_as_often_as_they_are_to_be_learnt(small: Tokenizer, byte_bpe: Tokenizer):
    part = AlignedTexts.of(TEXTS, small, byte_bpe)
    counts = count_texts([part], small.vocabulary, byte_bpe.vocabulary)
    for found, ids, tokenizer in (
        (counts.student_tokens, part.student_ids, small),
        (counts.teacher_tokens, part.teacher_ids, byte_bpe),
    ):
        text = [token_id for token_id in ids.values.tolist() if tokenizer.vocabulary.lengths[token_id]]
        is_text = tokenizer.vocabulary.lengths > 0
        assert dict(Counter(text)) == {i: n for i, n in enumerate(np.where(is_text, found, 0).tolist()) if n}
    assert counts.student_tokens[~(small.vocabulary.lengths > 0)].sum() == 0
    assert counts.sizes.chunks == part.alignment.n_chunks.sum()


def test_counts_of_parts_add_up(small: Tokenizer, mistral_v1: Tokenizer):
    pair = small.vocabulary, mistral_v1.vocabulary
    whole = count_texts([AlignedTexts.of(TEXTS, small, mistral_v1)], *pair)
    summed = count_texts((AlignedTexts.of([text], small, mistral_v1) for text in TEXTS), *pair)
    for name in ("student_tokens", "teacher_tokens", "boundaries", "agreeing", "n_bytes", "n_exact_bytes"):
        assert np.array_equal(getattr(summed, name), getattr(whole, name)), name
    assert np.array_equal(summed.sizes.tokens, whole.sizes.tokens)
    assert np.array_equal(summed.sizes.bytes, whole.sizes.bytes)


def test_a_place_where_the_teacher_has_no_next_token_does_not_agree():
    student, teacher = fake_vocabulary([b"a", b"b"]), fake_vocabulary([b"a", b"b"])
    ours, theirs = Ragged.from_lists([[0, 0], [0, 0]], np.int32), Ragged.from_lists([[0], [0, 0]], np.int32)
    mask = Ragged(np.ones(4, dtype=bool), ours.offsets)
    part = AlignedTexts(ours, theirs, mask, align_batch(ours, theirs, student, teacher))
    counts = count_texts([part], student, teacher)
    assert (counts.boundaries, counts.agreeing) == (2, 1)


def test_tokens_outside_of_the_loss_mask_do_not_count():
    vocabulary = fake_vocabulary([b"a", b"b", b"c"])
    ids = Ragged.from_lists([[0, 1, 2, 1]], np.int32)
    mask = Ragged(np.array([False, False, True, True]), ids.offsets)
    part = AlignedTexts(ids, ids, mask, align_batch(ids, ids, vocabulary, vocabulary))
    counts = count_texts([part], vocabulary, vocabulary)
    assert counts.student_tokens.tolist() == [0, 1, 1]
    assert counts.teacher_tokens.tolist() == [1, 2, 1]
    assert (counts.boundaries, counts.agreeing) == (2, 2)


def test_no_text_is_refused():
    vocabulary = fake_vocabulary([b"a"])
    with pytest.raises(ValueError, match="at least one window"):
        count_texts([], vocabulary, vocabulary)
