"""What an audit warns of and recommends: at each threshold, and on real pairs."""

from collections.abc import Callable
from dataclasses import replace
from pydoc_data.topics import topics

import numpy as np
import pytest
from fakes import fake_vocabulary

from xtoken_core.projection import ProjectionSettings, build_projection
from xtoken_core.projection.audit import AlignedTexts, ProjectionAudit, audit, count_texts
from xtoken_core.projection.audit.classes import TokenClass
from xtoken_core.projection.audit.coverage import ClassCoverage, RowCounts
from xtoken_core.projection.audit.findings import Findings, TextFindings
from xtoken_core.projection.audit.flag import Flag, FlagCode, Severity, percent
from xtoken_core.projection.audit.flags import flags_of
from xtoken_core.projection.audit.overlap import Overlap
from xtoken_core.projection.audit.partition import Partition
from xtoken_core.projection.audit.recommendation import Recommendation, recommend
from xtoken_core.projection.matrix import Projection, Rule
from xtoken_core.tokenizer import Tokenizer

NOTHING = RowCounts(0, 0, 0, 0, 0)
ALL_COMMON = RowCounts(1000, 0, 0, 0, 0)
CALM_TEXT = TextFindings(10_000, 50_000, 1.0, 1.0, 1.0, 1.0, ((0,),), (0,))
PAIRS = ("p_kl", "gold", "h_kl")


def covered(name: TokenClass, tokens: RowCounts, occurrences: RowCounts | None = None) -> ClassCoverage:
    """Where the projection is of the usual rules: what is not pinned is not common."""
    seen = None if occurrences is None else unpinned(occurrences)
    return ClassCoverage(name, tokens, occurrences, unpinned(tokens), seen)


def unpinned(rows: RowCounts) -> int:
    return rows.total - rows.exact - rows.paired


CALM = Findings(
    same_vocabulary=False,
    student_size=1000,
    teacher_size=1100,
    student_unused=0,
    overlap_raw=Overlap(1000, 1100, 1000, 1.0, 0.9),
    overlap_bytes=Overlap(1000, 1100, 1000, 1.0, 0.9),
    rows=ALL_COMMON,
    rules={"exact": 1000},
    occurrences=None,
    classes=(covered(TokenClass.ASCII_WORDS, ALL_COMMON),),
    teacher_tokens={TokenClass.ASCII_WORDS: 1100},
    partition=Partition(common=1000, displaced=0),
    unpaired_ends=(),
    dummy_prefix_differs=False,
    text=None,
)


def classes(name: TokenClass, tokens: RowCounts, occurrences: RowCounts | None = None) -> Findings:
    text = CALM_TEXT if occurrences else None
    return replace(CALM, classes=(covered(name, tokens, occurrences),), text=text)


def on_text(partition: Partition | None = None, **text: float) -> Findings:
    return replace(CALM, text=replace(CALM_TEXT, **text), partition=partition or Partition(1000, 0, 0.0, 0.0, 0.0))


def codes(findings: Findings) -> list[tuple[str, str]]:
    return [(flag.code.value, flag.severity.value) for flag in flags_of(findings)]


def test_a_calm_pair_has_no_flag():
    assert codes(CALM) == codes(on_text()) == []
    for findings in (CALM, on_text()):
        advice = recommend(findings, ())
        assert (advice.loss, advice.calm, advice.unsuitable) == ("prefix_kl", True, ())


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        (classes(TokenClass.TWO_DIGITS, RowCounts(50, 0, 50, 0, 0)), [("split_numerals", "warning")]),
        (classes(TokenClass.TWO_DIGITS, RowCounts(51, 0, 49, 0, 0)), []),
        (classes(TokenClass.THREE_DIGITS, RowCounts(0, 0, 0, 50, 0)), [("split_numerals", "warning")]),
        (classes(TokenClass.THREE_DIGITS, RowCounts(601, 0, 399, 0, 0)), []),
        (replace(CALM, teacher_tokens={TokenClass.TWO_DIGITS: 50}), [("joined_numerals", "notice")]),
        (replace(CALM, teacher_tokens={TokenClass.TWO_DIGITS: 49}), []),
        (replace(CALM, overlap_bytes=Overlap(1000, 500, 499, 0.499, 0.998)), [("small_overlap", "warning")]),
        (replace(CALM, overlap_bytes=Overlap(1000, 1000, 500, 0.5, 0.5), overlap_raw=Overlap(9, 9, 400, 0, 0)), []),
        (replace(CALM, overlap_bytes=Overlap(1000, 3000, 1000, 1.0, 0.33)), [("larger_teacher", "notice")]),
        (replace(on_text(), overlap_bytes=Overlap(1000, 3000, 400, 0.4, 0.13)), []),
        (on_text(Partition(900, 0, 0.021, 0.0, 0.0)), [("uncommon_text", "warning")]),
        (on_text(Partition(900, 0, 0.0, 0.021, 0.0)), [("uncommon_text", "warning")]),
        (on_text(Partition(900, 0, 0.02, 0.02, 0.02)), []),
        (on_text(Partition(900, 7, 0.0, 0.0, 0.021)), [("displaced_pairs", "notice")]),
        (on_text(cell_agreement=0.949), [("cells_differ", "warning")]),
        (on_text(cell_agreement=0.989), [("cells_differ", "notice")]),
        (on_text(cell_agreement=0.99), []),
        (on_text(taught_share=0.949), [("inside_chunks", "notice")]),
        (on_text(taught_share=0.95), []),
        (on_text(exact_share=0.998), [("inexact_text", "warning")]),
        (on_text(exact_share=0.999), []),
        (classes(TokenClass.CJK, RowCounts(49, 0, 51, 0, 0)), [("split_class", "notice")]),
        (classes(TokenClass.CJK, RowCounts(50, 0, 50, 0, 0)), []),
        (classes(TokenClass.CJK, RowCounts(0, 0, 49, 0, 0)), []),
        (classes(TokenClass.SPECIAL, RowCounts(0, 2, 0, 0, 254)), []),
        (classes(TokenClass.CODE, RowCounts(0, 0, 99, 0, 0), RowCounts(0, 0, 9, 0, 0)), []),
        (classes(TokenClass.CODE, RowCounts(0, 0, 99, 0, 0), RowCounts(0, 0, 10, 0, 0)), [("split_class", "notice")]),
        (classes(TokenClass.CODE, RowCounts(0, 0, 99, 0, 0), RowCounts(0, 0, 100, 0, 0)), [("split_class", "warning")]),
        (classes(TokenClass.PARTIAL, RowCounts(999, 0, 0, 0, 1)), [("empty_rows", "notice")]),
        (classes(TokenClass.PARTIAL, RowCounts(998, 0, 0, 0, 2)), [("empty_rows", "warning")]),
        (
            classes(TokenClass.PARTIAL, RowCounts(999, 0, 0, 0, 1), RowCounts(0, 0, 0, 0, 11)),
            [("empty_rows", "warning")],
        ),
        (replace(CALM, unpaired_ends=("eos",)), [("unpaired_end", "warning")]),
        (replace(CALM, unpaired_ends=("turn_end",)), [("unpaired_end", "notice")]),
        (replace(CALM, overlap_raw=Overlap(1000, 1100, 799, 0.8, 0.7)), [("strings_differ", "notice")]),
        (replace(CALM, dummy_prefix_differs=True), [("dummy_prefix", "notice")]),
        (replace(CALM, student_unused=3), [("unused_ids", "notice")]),
    ],
)
def test_what_is_flagged_on_either_side_of_each_threshold(findings: Findings, expected: list[tuple[str, str]]):
    assert codes(findings) == expected


def test_warnings_come_first_and_say_how_many():
    findings = replace(on_text(cell_agreement=0.9, taught_share=0.5), student_unused=3)
    flags = flags_of(findings)
    assert [flag.severity for flag in flags] == [Severity.WARNING, Severity.NOTICE, Severity.NOTICE]
    assert [(flag.count, flag.of) for flag in flags] == [(500, 5000), (5000, 10_000), (3, 1000)]
    assert all(flag.message and flag.remedy for flag in flags)


def flag(code: FlagCode, severity: Severity = Severity.WARNING) -> Flag:
    return Flag(severity, code, 1, 1, "", "")


def advice(*flags: Flag) -> Recommendation:
    return recommend(CALM, flags)


@pytest.mark.parametrize(
    "code",
    [
        FlagCode.SPLIT_NUMERALS,
        FlagCode.JOINED_NUMERALS,
        FlagCode.SMALL_OVERLAP,
        FlagCode.LARGER_TEACHER,
        FlagCode.CELLS_DIFFER,
        FlagCode.INSIDE_CHUNKS,
    ],
)
def test_cover_kl_is_recommended_for_what_lies_inside_of_chunks(code: FlagCode):
    found = advice(flag(code))
    assert found.loss == "cover_kl"
    assert not found.calm
    assert len(found.reasons) == 2


def test_a_few_cells_that_differ_need_nothing():
    assert advice(flag(FlagCode.CELLS_DIFFER, Severity.NOTICE)).loss == "prefix_kl"


def test_losses_that_compare_tokens_are_advised_against_once_for_each_reason():
    found = advice(*map(flag, (FlagCode.SPLIT_NUMERALS, FlagCode.JOINED_NUMERALS, FlagCode.DISPLACED_PAIRS)))
    assert [one.losses for one in found.unsuitable] == [PAIRS, ("gold", "h_kl")]
    assert advice(flag(FlagCode.INEXACT_TEXT)).unsuitable == ()


def pinned(teacher_ids: list[int]) -> Projection:
    """One entry a row, none where the id is -1."""
    indices = np.array(teacher_ids, dtype=np.int32)[:, None]
    rules = np.where(indices >= 0, Rule.EXACT, Rule.EMPTY).astype(np.int8)
    return Projection(indices, (indices >= 0).astype(np.float32), rules)


def test_one_vocabulary_needs_no_projection():
    one, same, other = (fake_vocabulary([b"a", last, "</s>"], {"eos": 2}) for last in (b"b", b"b", b"c"))
    found = audit(pinned([0, 1, 2]), one, same)
    assert (found.recommendation.loss, found.flags) == ("direct_kl", ())
    assert audit(pinned([0, -1, 2]), one, other).recommendation.loss == "prefix_kl"


def test_an_end_that_only_the_student_has_is_named():
    tokens = [b"a", "</s>", "<turn>"]
    teacher = fake_vocabulary([b"a", "</s>"], {"eos": 1})
    named, nameless = fake_vocabulary(tokens, {"eos": 1, "turn_end": 2}), fake_vocabulary(tokens)
    assert audit(pinned([0, 1, -1]), named, teacher).findings.unpaired_ends == ("turn_end",)
    assert audit(pinned([0, 1, -1]), nameless, teacher).findings.unpaired_ends == ("eos",)


@pytest.mark.parametrize(("share", "shown"), [(1.0, "100%"), (0.99999, "99.99%"), (0.5, "50%"), (0.0123, "1.23%")])
def test_a_percentage_is_rounded_down(share: float, shown: str):
    assert percent(share) == shown


GetTokenizer = Callable[[str], Tokenizer]


def without_exact_rows(student: Tokenizer, teacher: Tokenizer) -> Projection:
    return build_projection(student, teacher, ProjectionSettings(exact=False))


def imported(student: Tokenizer, teacher: Tokenizer) -> Projection:
    """As in a file of learned weights: no row has one entry, and no rule is known."""
    exact = build_projection(student, teacher)
    first = exact.indices[:, 0]
    indices = np.stack([first, np.where(first >= 0, (first + 1) % teacher.vocabulary.size, -1)], axis=1)
    weights = np.where(indices >= 0, [0.9, 0.1], 0).astype(np.float32)
    rules = np.where(indices >= 0, Rule.IMPORTED, Rule.EMPTY).astype(np.int8)
    return Projection(indices.astype(np.int32), weights, rules)


ABOUT_ROWS = (FlagCode.DISPLACED_PAIRS, FlagCode.EMPTY_ROWS)


@pytest.mark.parametrize("made", [without_exact_rows, imported])
@pytest.mark.parametrize("texts", [None, [*topics.values()][:4]])
def test_flags_about_the_vocabularies_do_not_change_with_the_projection(
    byte_bpe: Tokenizer, mistral_v1: Tokenizer, made: Callable[..., Projection], texts: list[str] | None
):
    pair = byte_bpe.vocabulary, mistral_v1.vocabulary
    counts = count_texts([AlignedTexts.of(texts, byte_bpe, mistral_v1)], *pair) if texts else None
    usual = audit(build_projection(byte_bpe, mistral_v1), *pair, counts)
    found = audit(made(byte_bpe, mistral_v1), *pair, counts)
    assert found.findings.rows.exact < 0.01 * usual.findings.rows.exact
    about_both, expected = ([flag for flag in one.flags if flag.code not in ABOUT_ROWS] for one in (found, usual))
    assert about_both == expected != []
    assert found.recommendation.loss == usual.recommendation.loss


def test_tokens_of_equal_bytes_are_not_called_split():
    student = fake_vocabulary([b"\n", *[b" " * i for i in range(2, 60)], b"\n", *[b" " * i for i in range(2, 60)]])
    teacher = fake_vocabulary([b"\n", *[b" " * i for i in range(2, 60)]])
    once = np.arange(59)[:, None]
    indices = np.concatenate([once, once]).astype(np.int32)
    rules = np.repeat([Rule.EXACT, Rule.MULTI_TOKEN], 59).astype(np.int8)[:, None]
    found = audit(Projection(indices, np.ones(indices.shape, dtype=np.float32), rules), student, teacher)
    assert [(one.tokens.multi_token, one.uncommon) for one in found.findings.classes] == [(59, 0)]
    assert (found.findings.partition.common, found.findings.partition.displaced) == (118, 59)
    assert FlagCode.SPLIT_CLASS not in {flag.code for flag in found.flags}


def audited(student: Tokenizer, teacher: Tokenizer, texts: list[str] | None = None) -> ProjectionAudit:
    pair = student.vocabulary, teacher.vocabulary
    counts = count_texts([AlignedTexts.of(texts, student, teacher)], *pair) if texts else None
    return audit(build_projection(student, teacher), *pair, counts)


def test_the_numerals_of_llama_that_qwen_spells_digit_by_digit(real_tokenizer: GetTokenizer):
    found = audited(real_tokenizer("llama3"), real_tokenizer("qwen"))
    numerals = next(flag for flag in found.flags if flag.code == FlagCode.SPLIT_NUMERALS)
    assert (numerals.severity, numerals.count, numerals.of) == (Severity.WARNING, 1100, 1100)
    assert "1,100 two- and three-digit numbers" in numerals.message
    assert "digit by digit" in numerals.message
    assert found.recommendation.loss == "cover_kl"
    assert [one.losses for one in found.recommendation.unsuitable] == [PAIRS]
    assert found.findings.overlap_bytes.shared == 109_566
    shown = [example for example in found.examples if example.token_class == TokenClass.THREE_DIGITS]
    assert {entry.teacher_text for example in shown for entry in example.entries} <= set("0123456789")
    assert len(found.examples) == 50


def test_tokenizers_that_differ_little_are_no_cause_for_alarm(real_tokenizer: GetTokenizer):
    for texts in (None, list(topics.values())[:20]):
        found = audited(real_tokenizer("mistral_v1"), real_tokenizer("mistral_v3"), texts)
        assert not [flag for flag in found.flags if flag.severity == Severity.WARNING]
        assert (found.recommendation.loss, found.recommendation.calm) == ("prefix_kl", True)


def test_a_larger_teacher_is_seen_in_text(mistral_v1: Tokenizer, tekken: Tokenizer):
    found = audited(mistral_v1, tekken, list(topics.values())[:20])
    assert found.findings.text is not None
    assert 0.8 < found.findings.text.taught_share < 0.95
    assert 0.96 < found.findings.text.cell_agreement < 0.99
    assert found.recommendation.loss == "cover_kl"
    assert {FlagCode.INSIDE_CHUNKS, FlagCode.DUMMY_PREFIX, FlagCode.STRINGS_DIFFER} <= {
        flag.code for flag in found.flags
    }
