"""What stands out in text that both tokenizers encoded: nothing where no text was counted.

The thresholds lie between pairs that were measured on documentation, code, tables of numbers and multilingual text.
"""

from collections.abc import Iterator

from xtoken_core.projection.audit.findings import Findings
from xtoken_core.projection.audit.flag import Flag, FlagCode, Severity, percent

# Measured .9999 where tokenizers differ in numerals alone, .97-.98 between unrelated ones of 32k to 131k tokens, and
# .88-.93 for Llama-3.1 <- Gemma-3, where runs of signs and white space end elsewhere.
CALM_AGREEMENT, LOW_AGREEMENT = 0.99, 0.95
# Measured .99 and above for tokenizers that differ little, .82-.93 for a student of 32k tokens and a larger teacher.
LEAST_TAUGHT = 0.95
# Of the text's tokens. Numerals alone are 0.4-0.8% of documentation and code; tokenizers of other words pass 2%.
MOST_UNCOMMON = 0.02
# Text that both spell byte for byte is the rule; a tokenizer that normalises stays above this on ordinary text.
LEAST_EXACT = 0.999


def uncommon_text(findings: Findings) -> Iterator[Flag]:
    """Text in tokens that a partition into common and uncommon ones cannot compare."""
    ours, theirs = findings.partition.student_uncommon, findings.partition.teacher_uncommon
    if findings.text is None or ours is None or theirs is None or max(ours, theirs) <= MOST_UNCOMMON:
        return
    yield Flag(
        Severity.WARNING,
        FlagCode.UNCOMMON_TEXT,
        round(ours * findings.text.student_tokens),
        findings.text.student_tokens,
        f"{percent(ours)} of the text is in student tokens, and {percent(theirs)} in teacher tokens, that the other "
        "side does not have: gold compares these by the order of their probabilities alone.",
        "Use prefix_kl or cover_kl: their cells hold every token of either side.",
    )


def displaced_pairs(findings: Findings) -> Iterator[Flag]:
    """Common tokens of the text that gold leaves out, because of their rows or because it pairs their counterpart."""
    text, share = findings.text, findings.partition.displaced_share
    if text is None or share is None or share <= MOST_UNCOMMON:
        return
    yield Flag(
        Severity.NOTICE,
        FlagCode.DISPLACED_PAIRS,
        round(share * text.student_tokens),
        text.student_tokens,
        f"{percent(share)} of the text is in common tokens that gold and h_kl leave out: their rows of the projection "
        "have other entries, too, or the teacher's token is paired with another student token of the same text and a "
        f"lower id, as <0x2C> and a comma. {findings.partition.displaced:,} tokens are left out so.",
        "Use prefix_kl or cover_kl, which add up tokens of the same text.",
    )


def cells_differ(findings: Findings) -> Iterator[Flag]:
    """Places where the text goes on in another cell for the student than for the teacher."""
    text = findings.text
    if text is None or text.cell_agreement >= CALM_AGREEMENT:
        return
    low = text.cell_agreement < LOW_AGREEMENT
    places = round(text.taught_share * text.student_tokens)
    yield Flag(
        Severity.WARNING if low else Severity.NOTICE,
        FlagCode.CELLS_DIFFER,
        round((1 - text.cell_agreement) * places),
        places,
        f"At {percent(1 - text.cell_agreement)} of the places that prefix_kl compares, the text goes on in one cell "
        "for the student and in another for the teacher, which there favours a token that the student does not use.",
        "Use cover_kl: it leaves out what the student's tokenizer would have cut otherwise."
        if low
        else "Nothing: what the other places teach outweighs this.",
    )


def inside_chunks(findings: Findings) -> Iterator[Flag]:
    """Student tokens that begin where the teacher has no boundary."""
    text = findings.text
    if text is None or text.taught_share >= LEAST_TAUGHT:
        return
    yield Flag(
        Severity.NOTICE,
        FlagCode.INSIDE_CHUNKS,
        round((1 - text.taught_share) * text.student_tokens),
        text.student_tokens,
        f"{percent(1 - text.taught_share)} of the student's tokens begin inside of a teacher token, or behind text "
        "that the two spell differently: prefix_kl does not reach them.",
        "Use cover_kl: it compares wherever a student token ends.",
    )


def inexact_text(findings: Findings) -> Iterator[Flag]:
    """Text that the two tokenizers do not spell alike."""
    text = findings.text
    if text is None or text.exact_share >= LEAST_EXACT:
        return
    yield Flag(
        Severity.WARNING,
        FlagCode.INEXACT_TEXT,
        round((1 - text.exact_share) * text.n_bytes),
        text.n_bytes,
        f"{percent(1 - text.exact_share)} of the text's bytes are spelled differently by the two tokenizers; behind "
        "the first such place of a window, prefix_kl compares nothing.",
        "See in the report of `xtoken prepare` what differs; mostly it is text that is not in Unicode's form NFC.",
    )
