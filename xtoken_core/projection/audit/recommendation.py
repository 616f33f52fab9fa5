"""Which loss to train with, concluded from the findings and flags of an audit.

prefix_kl unless the vocabularies are one: at equal steps it was never behind p_kl and gold in held-out bits per byte
(2.493 against 2.501 and 2.499 on a pair with 86% of its tokens in common), at 0.6 of p_kl's time, and a small cache
serves it. alm adds what prefix_kl cannot see, the tokens inside of a chunk (2.487 with both).
"""

from dataclasses import dataclass

from xtoken_core.projection.audit.findings import Findings
from xtoken_core.projection.audit.flag import Flag, FlagCode, Severity, percent

# What only alm can mend.
_FOR_ALM = {
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
    """Losses to train with, together, and why; `calm`: the tokenizers differ so little that others would do, too."""

    losses: tuple[str, ...]
    reasons: tuple[str, ...]
    calm: bool
    unsuitable: tuple[Unsuitable, ...]


def recommend(findings: Findings, flags: tuple[Flag, ...]) -> Recommendation:
    """The losses for a pair: for one vocabulary direct_kl; for two prefix_kl, with alm where a flag asks for it."""
    if findings.same_vocabulary:
        return Recommendation(("direct_kl",), ("Both vocabularies are one: equal ids are equal tokens.",), True, ())
    alm = tuple(dict.fromkeys(_FOR_ALM[flag.code] for flag in flags if _asks_for_alm(flag)))
    calm = not alm and not any(flag.severity == Severity.WARNING for flag in flags)
    losses = ("prefix_kl", "alm") if alm else ("prefix_kl",)
    reasons = [_reach(findings), *(f"alm: {reason}." for reason in alm)]
    if calm:
        share = percent(findings.overlap_bytes.student_share)
        reasons.append(f"The tokenizers differ little: {share} of the student's tokens are tokens of the teacher.")
    unsuitable = dict.fromkeys(Unsuitable(*_AGAINST[flag.code]) for flag in flags if flag.code in _AGAINST)
    return Recommendation(losses, tuple(reasons), calm, tuple(unsuitable))


def _asks_for_alm(flag: Flag) -> bool:
    return flag.code in _FOR_ALM and (flag.code, flag.severity) != (FlagCode.CELLS_DIFFER, Severity.NOTICE)


def _reach(findings: Findings) -> str:
    text = findings.text
    if text is None:
        return "prefix_kl compares the two wherever both have read the same text. No text was counted."
    return (
        "prefix_kl compares the two where both have read the same text: at "
        f"{percent(text.taught_share)} of the student's tokens. At {percent(text.cell_agreement)} of these, both go on "
        "in the same cell."
    )
