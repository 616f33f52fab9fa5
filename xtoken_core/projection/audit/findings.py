"""The numbers of an audit: what was counted, before anything is concluded from it."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from xtoken_core.projection.audit.classes import CLASSES, TokenClass, token_classes
from xtoken_core.projection.audit.coverage import (
    ClassCoverage,
    RowCounts,
    StudentTokens,
    count_rows,
    coverage_by_class,
    first_entries,
    row_kinds,
)
from xtoken_core.projection.audit.overlap import Overlap
from xtoken_core.projection.audit.partition import Partition, common_tokens, gold_tokens, share_of_text
from xtoken_core.projection.audit.text_counts import TextCounts
from xtoken_core.projection.matrix import Projection, Rule
from xtoken_core.roles import paired_roles
from xtoken_core.vocabulary import Vocabulary

ENDS = ("eos", "turn_end")  # the marks that a student must learn when to write


@dataclass(frozen=True)
class TextFindings:
    """What the two tokenizers make of the text that was counted; shares are of 1.

    student_tokens: those to be learnt. n_bytes, exact_share: the text, and its share in exact chunks.
    taught_share: student tokens that prefix_kl compares with the teacher's next token; the others are inside of chunks.
    cell_agreement: of these places, where both next tokens fall in one cell of prefix_kl.
    one_to_one_share: chunks of one token on each side.
    chunk_tokens, chunk_bytes: how long chunks are, as in `ChunkSizes`.
    """

    student_tokens: int
    n_bytes: int
    exact_share: float
    taught_share: float
    cell_agreement: float
    one_to_one_share: float
    chunk_tokens: tuple[tuple[int, ...], ...]
    chunk_bytes: tuple[int, ...]

    @classmethod
    def of(cls, counts: TextCounts) -> Self:
        """The shares of `counts`; where there is nothing to divide by, all of it is in order."""
        tokens = int(counts.student_tokens.sum())
        return cls(
            student_tokens=tokens,
            n_bytes=counts.n_bytes,
            exact_share=_share(counts.n_exact_bytes, counts.n_bytes),
            taught_share=_share(counts.boundaries, tokens),
            cell_agreement=_share(counts.agreeing, counts.boundaries),
            one_to_one_share=_share(counts.sizes.one_to_one, counts.sizes.chunks),
            chunk_tokens=tuple(map(tuple, counts.sizes.tokens.tolist())),
            chunk_bytes=tuple(counts.sizes.bytes.tolist()),
        )


@dataclass(frozen=True)
class Findings:
    """All that is counted about two vocabularies and the projection between them.

    same_vocabulary: the two are interchangeable, id by id. student_unused: ids without a token, which are no rows here.
    overlap_raw, overlap_bytes: common tokens as strings and as bytes.
    rows: student tokens by what their row was made from; `rules`: by the rule of the first entry.
    occurrences: the same rows, weighted by how often the token is in the text that was counted.
    classes: the same by class, and how many of these tokens the teacher does not have.
    teacher_tokens: the teacher's tokens by class.
    unpaired_ends: roles of `ENDS` that the student has a token for and the teacher has not, and "eos" without one.
    dummy_prefix_differs: one tokenizer puts a space in front of texts.
    text: None where no text was counted.
    """

    same_vocabulary: bool
    student_size: int
    teacher_size: int
    student_unused: int
    overlap_raw: Overlap
    overlap_bytes: Overlap
    rows: RowCounts
    rules: dict[str, int]
    occurrences: RowCounts | None
    classes: tuple[ClassCoverage, ...]
    teacher_tokens: dict[TokenClass, int]
    partition: Partition
    unpaired_ends: tuple[str, ...]
    dummy_prefix_differs: bool
    text: TextFindings | None

    def coverage(self, *names: TokenClass) -> tuple[ClassCoverage, ...]:
        """Those of these classes that the student has tokens of."""
        return tuple(one for one in self.classes if one.token_class in names)


def find(projection: Projection, student: Vocabulary, teacher: Vocabulary, counts: TextCounts | None) -> Findings:
    """Everything that can be counted; `counts` are of text that both tokenizers encoded."""
    classes, kinds = token_classes(student), row_kinds(projection)
    is_token = classes != CLASSES.index(TokenClass.UNUSED)
    occurrences = None if counts is None else counts.student_tokens
    common = common_tokens(student, teacher)
    return Findings(
        same_vocabulary=student.fingerprint == teacher.fingerprint,
        student_size=student.size,
        teacher_size=teacher.size,
        student_unused=int(np.count_nonzero(~is_token)),
        overlap_raw=Overlap.raw(student, teacher),
        overlap_bytes=Overlap.by_bytes(student, teacher),
        rows=count_rows(kinds[is_token]),
        rules=_rules(first_entries(projection)[1][is_token]),
        occurrences=None if occurrences is None else count_rows(kinds[is_token], occurrences[is_token]),
        classes=coverage_by_class(StudentTokens(classes, kinds, common[0], occurrences)),
        teacher_tokens=_by_class(token_classes(teacher)),
        partition=_partition(common, gold_tokens(projection), counts, (student, teacher)),
        unpaired_ends=_unpaired_ends(student, teacher),
        dummy_prefix_differs=student.dummy_prefix != teacher.dummy_prefix,
        text=None if counts is None else TextFindings.of(counts),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _rules(first: np.ndarray) -> dict[str, int]:
    counts = {rule.name.lower(): int(np.count_nonzero(first == rule)) for rule in Rule}
    return {name: count for name, count in counts.items() if count}


def _by_class(classes: np.ndarray) -> dict[TokenClass, int]:
    counts = np.bincount(classes, minlength=len(CLASSES)).tolist()
    return {name: count for name, count in zip(CLASSES, counts, strict=True) if count}


def _partition(
    common: tuple[np.ndarray, np.ndarray],
    gold: np.ndarray,
    counts: TextCounts | None,
    vocabularies: tuple[Vocabulary, Vocabulary],
) -> Partition:
    (ours, theirs), (student, teacher) = common, vocabularies
    displaced = ours & ~gold
    sizes = int(np.count_nonzero(ours)), int(np.count_nonzero(displaced))
    if counts is None:
        return Partition(*sizes)
    return Partition(
        *sizes,
        student_uncommon=share_of_text(~ours, counts.student_tokens, student),
        teacher_uncommon=share_of_text(~theirs, counts.teacher_tokens, teacher),
        displaced_share=share_of_text(displaced, counts.student_tokens, student),
    )


def _unpaired_ends(student: Vocabulary, teacher: Vocabulary) -> tuple[str, ...]:
    masks, _ = paired_roles(student, teacher)
    has_none = ("eos",) if "eos" not in student.roles else ()
    return has_none + tuple(role for role in ENDS if role in student.roles and not masks[student.roles[role]])
