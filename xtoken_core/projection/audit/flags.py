"""What in an audit's findings somebody should know before a training, each with its numbers and a remedy.

A warning changes what to do; a notice is worth knowing. Two tokenizers that differ little give no warning.
"""

from xtoken_core.projection.audit.findings import Findings
from xtoken_core.projection.audit.flag import Flag, FlagCode, Severity
from xtoken_core.projection.audit.numeral_flags import numerals_joined, numerals_split
from xtoken_core.projection.audit.text_flags import (
    cells_differ,
    displaced_pairs,
    inexact_text,
    inside_chunks,
    uncommon_text,
)
from xtoken_core.projection.audit.vocabulary_flags import (
    classes_split,
    dummy_prefix,
    empty_rows,
    larger_teacher,
    small_overlap,
    strings_differ,
    unpaired_ends,
    unused_ids,
)

__all__ = ["Flag", "FlagCode", "Severity", "flags_of"]

_CHECKS = (
    numerals_split,
    numerals_joined,
    small_overlap,
    larger_teacher,
    uncommon_text,
    displaced_pairs,
    cells_differ,
    inside_chunks,
    inexact_text,
    classes_split,
    unpaired_ends,
    empty_rows,
    strings_differ,
    dummy_prefix,
    unused_ids,
)


def flags_of(findings: Findings) -> tuple[Flag, ...]:
    """All flags, warnings first; none where the two vocabularies are one."""
    if findings.same_vocabulary:
        return ()
    found = [flag for check in _CHECKS for flag in check(findings)]
    return tuple(sorted(found, key=lambda flag: flag.severity != Severity.WARNING))
