"""What stands out in the two vocabularies, apart from numerals."""

from collections.abc import Iterator

from xtoken_core.projection.audit.classes import TokenClass
from xtoken_core.projection.audit.coverage import ClassCoverage
from xtoken_core.projection.audit.findings import Findings
from xtoken_core.projection.audit.flag import Flag, FlagCode, Severity, percent
from xtoken_core.projection.audit.numeral_flags import NUMERALS

# Half of a vocabulary: below it most words are cut otherwise. Recent families of 128k to 200k tokens share 60% to 90%.
LEAST_OVERLAP = 0.5
# Fewer tokens of a class are no property of a tokenizer.
FEWEST_TOKENS = 50
# A class is common to both tokenizers while at least half of its tokens are.
LEAST_COMMON = 0.5
# Of a text's tokens, in split tokens of one class: below the first nobody notices, above the second they are as much as
# all numerals of ordinary text.
SEEN_IN_TEXT, MUCH_IN_TEXT = 0.001, 0.01
# Of the tokens, or of their occurrences in text: fewer empty rows are bytes that the teacher cannot spell.
MOST_EMPTY = 0.001
# Of the tokens that agree by their bytes. Fewer equal strings mean another alphabet, as of SentencePiece and byte BPE.
LEAST_STRINGS = 0.8
_ELSEWHERE = (*NUMERALS, TokenClass.SPECIAL)  # classes with flags of their own


def small_overlap(findings: Findings) -> Iterator[Flag]:
    """Most of the student's tokens are not tokens of the teacher; where text was counted, that says how it matters."""
    overlap = findings.overlap_bytes
    if findings.text is None and overlap.student_share < LEAST_OVERLAP:
        yield Flag(
            Severity.WARNING,
            FlagCode.SMALL_OVERLAP,
            overlap.shared,
            overlap.student,
            f"Only {percent(overlap.student_share)} of the student's tokens are tokens of the teacher too.",
            "Use cover_kl: a comparison of token with token sees a small part of either vocabulary.",
        )


def larger_teacher(findings: Findings) -> Iterator[Flag]:
    """Most of the teacher's tokens are not tokens of the student; again, counted text says more."""
    overlap = findings.overlap_bytes
    if findings.text is None and overlap.teacher_share < LEAST_OVERLAP:
        yield Flag(
            Severity.NOTICE,
            FlagCode.LARGER_TEACHER,
            overlap.teacher - overlap.shared,
            overlap.teacher,
            f"{percent(1 - overlap.teacher_share)} of the teacher's tokens are not tokens of the student, which spells "
            "their text in pieces: behind the first of these the teacher says nothing.",
            "Use cover_kl: it compares inside of tokens, too. An audit of text says how often that happens.",
        )


def classes_split(findings: Findings) -> Iterator[Flag]:
    """Kinds of text of which most student tokens are not the teacher's."""
    for one in findings.classes:
        total, split = one.tokens.total, one.uncommon
        share = _share_of_text(one, findings)
        is_seen = share is None or share >= SEEN_IN_TEXT
        if one.token_class not in _ELSEWHERE and total >= FEWEST_TOKENS and split > LEAST_COMMON * total and is_seen:
            yield _class_flag(one, share)


def empty_rows(findings: Findings) -> Iterator[Flag]:
    """Tokens of text that project to nothing."""
    text = [one for one in findings.classes if one.token_class != TokenClass.SPECIAL]
    tokens, empty = sum(one.tokens.total for one in text), sum(one.tokens.empty for one in text)
    seen = sum(one.occurrences.empty for one in text if one.occurrences)
    partial = sum(one.tokens.empty for one in findings.coverage(TokenClass.PARTIAL))
    of_text = seen / max(findings.text.student_tokens, 1) if findings.text else 0.0
    if empty:
        many = max(empty / tokens, of_text) > MOST_EMPTY
        yield Flag(
            Severity.WARNING if many else Severity.NOTICE,
            FlagCode.EMPTY_ROWS,
            empty,
            tokens,
            f"{empty:,} text tokens of the student project to nothing, {partial:,} of them {TokenClass.PARTIAL}.",
            "prefix_kl and cover_kl use no projection. For p_kl switch on the rule that finds nearest embeddings.",
        )


def unpaired_ends(findings: Findings) -> Iterator[Flag]:
    """Marks at the end of a text or turn that only the student has."""
    for role in findings.unpaired_ends:
        yield Flag(
            Severity.WARNING if role == "eos" else Severity.NOTICE,
            FlagCode.UNPAIRED_END,
            1,
            1,
            f"Not both sides have a special token for the role {role}: the teacher cannot teach when to write it.",
            "Name the token in the tokenizer_config.json of the side that lacks it, or rely on cross-entropy for it.",
        )


def strings_differ(findings: Findings) -> Iterator[Flag]:
    """Tokens of the same bytes that are written differently."""
    raw, spelled = findings.overlap_raw.shared, findings.overlap_bytes.shared
    if raw < LEAST_STRINGS * spelled:
        yield Flag(
            Severity.NOTICE,
            FlagCode.STRINGS_DIFFER,
            spelled - raw,
            spelled,
            f"{spelled:,} tokens are common by their bytes, only {raw:,} by their strings: the two write spaces or "
            "bytes with other signs.",
            "Nothing: here bytes are compared. A tool that compares strings would miss the others.",
        )


def dummy_prefix(findings: Findings) -> Iterator[Flag]:
    """A space that one tokenizer puts in front of texts."""
    if findings.dummy_prefix_differs:
        yield Flag(
            Severity.NOTICE,
            FlagCode.DUMMY_PREFIX,
            1,
            2,
            "One of the tokenizers puts a space in front of every text.",
            "Nothing: alignment passes over that space, and prefix_kl begins behind the first text.",
        )


def unused_ids(findings: Findings) -> Iterator[Flag]:
    """Holes in the student's vocabulary."""
    if findings.student_unused:
        yield Flag(
            Severity.NOTICE,
            FlagCode.UNUSED_IDS,
            findings.student_unused,
            findings.student_size,
            f"{findings.student_unused:,} ids of the student stand for no token; their rows are empty.",
            "Nothing: no text has them, and they are counted nowhere else in this audit.",
        )


def _share_of_text(one: ClassCoverage, findings: Findings) -> float | None:
    if one.uncommon_occurrences is None or findings.text is None:
        return None
    return one.uncommon_occurrences / max(findings.text.student_tokens, 1)


def _class_flag(one: ClassCoverage, share: float | None) -> Flag:
    total, split = one.tokens.total, one.uncommon
    in_text = "" if share is None else f" ({percent(share)} of the text's tokens)"
    return Flag(
        Severity.WARNING if share is not None and share >= MUCH_IN_TEXT else Severity.NOTICE,
        FlagCode.SPLIT_CLASS,
        split,
        total,
        f"{one.token_class}: {split:,} of the student's {total:,} tokens are not tokens of the teacher{in_text}.",
        "prefix_kl and cover_kl compare them by the text that they spell; p_kl and gold do not.",
    )
