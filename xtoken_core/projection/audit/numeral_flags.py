"""Numbers that one tokenizer writes as one token and the other digit by digit.

What most pairs of recent families differ in: Llama-3 has all 1,110 numbers of one to three digits, Qwen ten digits.
"""

from collections.abc import Iterator

from xtoken_core.projection.audit.classes import TokenClass
from xtoken_core.projection.audit.findings import Findings
from xtoken_core.projection.audit.flag import Flag, FlagCode, Severity, percent

NUMERALS = (TokenClass.TWO_DIGITS, TokenClass.THREE_DIGITS)
# Half of the hundred two-digit numbers: a vocabulary with fewer has them by chance, for dates or prices.
FEWEST_NUMERALS = 50
# And of a vocabulary's numerals, so that a few which only one side has (" 747") among many common ones stay quiet.
LEAST_SHARE = 0.5


def numerals_split(findings: Findings) -> Iterator[Flag]:
    """The student's numerals that the teacher has no token for."""
    total, split = _student_numerals(findings)
    if split >= max(FEWEST_NUMERALS, LEAST_SHARE * total):
        digit_by_digit = _teacher_numerals(findings) < FEWEST_NUMERALS
        yield Flag(
            Severity.WARNING,
            FlagCode.SPLIT_NUMERALS,
            split,
            total,
            f"{split:,} two- and three-digit numbers are one token for the student, and the teacher spells them "
            f"{'digit by digit' if digit_by_digit else 'in pieces'}{_in_text(findings)}. A projection gives most of "
            "their weight to the first piece: 123 and 187 look alike to p_kl and h_kl; gold leaves them out.",
            "Use cover_kl: numbers are in the cell of their first digit, without what the student would have joined.",
        )


def numerals_joined(findings: Findings) -> Iterator[Flag]:
    """The teacher's numerals that the student has no token for."""
    theirs, (ours, split) = _teacher_numerals(findings), _student_numerals(findings)
    joined = theirs - (ours - split)
    if joined >= max(FEWEST_NUMERALS, LEAST_SHARE * theirs):
        yield Flag(
            Severity.NOTICE,
            FlagCode.JOINED_NUMERALS,
            joined,
            theirs,
            f"{joined:,} two- and three-digit numbers are one token for the teacher, and the student spells them in "
            "pieces: behind the first of these the teacher says nothing.",
            "Use cover_kl, which compares the pieces inside of a number, too.",
        )


def _student_numerals(findings: Findings) -> tuple[int, int]:
    """All of them, and those that the teacher has no token for."""
    ours = findings.coverage(*NUMERALS)
    return sum(one.tokens.total for one in ours), sum(one.uncommon for one in ours)


def _teacher_numerals(findings: Findings) -> int:
    return sum(findings.teacher_tokens.get(name, 0) for name in NUMERALS)


def _in_text(findings: Findings) -> str:
    if findings.text is None:
        return ""
    seen = sum(one.uncommon_occurrences or 0 for one in findings.coverage(*NUMERALS))
    return f" ({percent(seen / max(findings.text.student_tokens, 1))} of the text's tokens)"
