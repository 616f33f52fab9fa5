"""Which loss to train with, concluded from the findings and flags of an audit.

prefix_kl unless the vocabularies are one: at equal steps it was never behind p_kl and gold in held-out bits per byte
(2.493 against 2.501 and 2.499 on a pair with 86% of its tokens in common), at 0.6 of p_kl's time, and a small cache
serves it. Where many tokens begin inside of longer chunks, cover_kl, which reaches these places as well: on a
language whose truth is known it ended almost five times closer to it than prefix_kl, on real text it was ahead with
each of three seeds (2.438 against 2.451 on average), and alm beside prefix_kl did not help (docs/prefix-study.md).
"""

from dataclasses import dataclass

from xtoken_core.projection.audit.findings import Findings
from xtoken_core.projection.audit.flag import Flag, FlagCode, Severity, percent

# What prefix_kl leaves out or gets wrong, and cover_kl does not.
_FOR_COVERS = {
    FlagCode.SPLIT_NUMERALS: "numbers are one token for the student and several for the teacher",
    FlagCode.JOINED_NUMERALS: "numbers are one token for the teacher and several for the student",
    FlagCode.SMALL_OVERLAP: "most of the student's tokens are not tokens of the teacher",
    FlagCode.LARGER_TEACHER: "most of the teacher's tokens are several of the student's",
    FlagCode.CELLS_DIFFER: "the two cut the text that follows differently at many places",
    FlagCode.INSIDE_CHUNKS: "many student tokens begin inside of longer chunks",
}
_ALL_PAIRS, _BY_ID = ("p_kl", "gold", "h_kl"), ("gold", "h_kl")
# What a comparison of token with token gets wrong or leaves out, and in which losses.
_AGAINST = {
    FlagCode.SPLIT_NUMERALS: (_ALL_PAIRS, "numbers have no common token"),
    FlagCode.JOINED_NUMERALS: (_ALL_PAIRS, "numbers have no common token"),
    FlagCode.SMALL_OVERLAP: (_ALL_PAIRS, "most tokens are not common"),
    FlagCode.UNCOMMON_TEXT: (_ALL_PAIRS, "too much of the text is in tokens that are not common"),
    FlagCode.DISPLACED_PAIRS: (_BY_ID, "common tokens of the text are not paired"),
}


@dataclass(frozen=True)
class Unsuitable:
    """Losses that would mislead for a pair, and why."""

    losses: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """The loss to train with, and why; `calm`: the tokenizers differ so little that others would do, too."""

    loss: str
    reasons: tuple[str, ...]
    calm: bool
    unsuitable: tuple[Unsuitable, ...]


def recommend(findings: Findings, flags: tuple[Flag, ...]) -> Recommendation:
    """The loss for a pair: for one vocabulary direct_kl; for two prefix_kl, or cover_kl where a flag asks for it."""
    if findings.same_vocabulary:
        return Recommendation("direct_kl", ("Both vocabularies are one: equal ids are equal tokens.",), True, ())
    covers = tuple(dict.fromkeys(_FOR_COVERS[flag.code] for flag in flags if _asks_for_covers(flag)))
    calm = not covers and not any(flag.severity == Severity.WARNING for flag in flags)
    reasons = [_reach(findings), *(f"cover_kl: {reason}." for reason in covers)]
    if calm:
        share = percent(findings.overlap_bytes.student_share)
        reasons.append(f"The tokenizers differ little: {share} of the student's tokens are tokens of the teacher.")
    unsuitable = dict.fromkeys(Unsuitable(*_AGAINST[flag.code]) for flag in flags if flag.code in _AGAINST)
    return Recommendation("cover_kl" if covers else "prefix_kl", tuple(reasons), calm, tuple(unsuitable))


def _asks_for_covers(flag: Flag) -> bool:
    return flag.code in _FOR_COVERS and (flag.code, flag.severity) != (FlagCode.CELLS_DIFFER, Severity.NOTICE)


def _reach(findings: Findings) -> str:
    text = findings.text
    if text is None:
        return "prefix_kl compares the two wherever both have read the same text. No text was counted."
    return (
        "prefix_kl compares the two where both have read the same text: at "
        f"{percent(text.taught_share)} of the student's tokens. At {percent(text.cell_agreement)} of these, both go on "
        "in the same cell."
    )
