"""Building the projection: rules in the order of their authority, sparse from end to end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xtoken_core.projection.cooccurrence import PairCounts, cooccurrence_entries
from xtoken_core.projection.entries import Entries
from xtoken_core.projection.finish import finished
from xtoken_core.projection.matrix import Projection
from xtoken_core.projection.names import name_entries
from xtoken_core.projection.rules import exact_entries, multi_token_entries, reverse_entries, special_entries
from xtoken_core.projection.settings import ProjectionSettings
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind, Vocabulary

if TYPE_CHECKING:
    from xtoken_core.projection.nearest import VectorPair


class SameVocabularyError(ValueError):
    """Student and teacher have the same tokens: there is nothing to project."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What rules can use beside the two tokenizers; None leaves the rule out.

    vectors: a vector for every token (`VectorPair`). counts: which tokens met in aligned text.
    """

    vectors: "VectorPair | None" = None
    counts: PairCounts | None = None


def build_projection(
    student: Tokenizer,
    teacher: Tokenizer,
    settings: ProjectionSettings | None = None,
    evidence: Evidence | None = None,
) -> Projection:
    """W for one pair of tokenizers.

    Student tokens that the teacher has byte for byte, and special tokens whose role or name it has, are pinned to their
    one counterpart. Every other token gets what the other rules give it, each by its weight, and of these the `top_k`
    largest entries are kept. A token for which no rule has anything stays empty (`Projection.empty_rows`).

    Raises:
        SameVocabularyError: if both tokenizers have the same tokens.
        ValueError: if the evidence has ids that a vocabulary does not have.
    """
    settings, evidence = settings or ProjectionSettings(), evidence or Evidence()
    _require_different(student.vocabulary, teacher.vocabulary)
    _require_fitting(evidence, student.vocabulary.size, teacher.vocabulary.size)
    pinned = Entries.joined(_pinned(student, teacher, settings))
    free = np.ones(student.vocabulary.size, dtype=bool)
    free[pinned.student] = False
    given = Entries.joined(
        part.where(free[part.student]) for part in _given(student, teacher, free, settings, evidence)
    )
    entries = Entries.joined([pinned, given.where(given.weight > 0).merged()])
    return finished(entries, student.vocabulary.size, settings)


def _pinned(student: Tokenizer, teacher: Tokenizer, settings: ProjectionSettings) -> Iterator[Entries]:
    if settings.exact:
        yield exact_entries(student, teacher)
    if settings.roles:
        yield special_entries(student.vocabulary, teacher.vocabulary)


def _given(
    student: Tokenizer, teacher: Tokenizer, free: np.ndarray, settings: ProjectionSettings, evidence: Evidence
) -> Iterator[Entries]:
    """What each rule gives, by its weight; also for rows that are not `free` (bool [Vs])."""
    text_ids = np.flatnonzero(free & (student.vocabulary.kind == TokenKind.TEXT))
    split, names, nearest, cooccurrence = settings.split, settings.names, settings.nearest, settings.cooccurrence
    if split.forward:
        yield multi_token_entries(student.vocabulary, text_ids, teacher, split).times(split.forward)
    if split.reverse:
        yield reverse_entries(student, teacher.vocabulary, split).times(split.reverse)
    if names.weight:
        untaken = _without_roles(student.vocabulary, teacher.vocabulary, settings)
        yield name_entries(student.vocabulary, teacher.vocabulary, untaken, names).times(names.weight)
    if nearest and nearest.weight and evidence.vectors is not None:
        from xtoken_core.projection.nearest import nearest_entries  # torch takes seconds to import

        yield nearest_entries(evidence.vectors, text_ids, nearest).times(nearest.weight)
    if cooccurrence and cooccurrence.weight and evidence.counts is not None:
        yield cooccurrence_entries(evidence.counts, cooccurrence).times(cooccurrence.weight)


def _without_roles(student: Vocabulary, teacher: Vocabulary, settings: ProjectionSettings) -> np.ndarray:
    """The teacher ids that no special token of the student is pinned to, bool [Vt]."""
    free = np.ones(teacher.size, dtype=bool)
    if settings.roles:
        free[special_entries(student, teacher).teacher] = False
    return free


def have_same_tokens(one: Vocabulary, other: Vocabulary) -> bool:
    """Whether every id means the same to both."""
    same = np.array_equal(one.offsets, other.offsets) and np.array_equal(one.data, other.data)
    return same and one.texts == other.texts


def _require_different(student: Vocabulary, teacher: Vocabulary) -> None:
    if have_same_tokens(student, teacher):
        raise SameVocabularyError(
            f"student and teacher have the same {student.size:,} tokens: use the loss direct_kl, which compares them "
            "one by one and needs no projection."
        )


def _require_fitting(evidence: Evidence, n_student: int, n_teacher: int) -> None:
    if evidence.vectors is not None:
        found = len(evidence.vectors.student), len(evidence.vectors.teacher)
        if found != (n_student, n_teacher):
            raise ValueError(
                f"there are vectors for {found[0]:,} and {found[1]:,} ids, but the vocabularies have {n_student:,} and "
                f"{n_teacher:,}: give a vector for every id."
            )
    if evidence.counts is not None:
        largest = int(evidence.counts.student.max(initial=-1)), int(evidence.counts.teacher.max(initial=-1))
        if largest[0] >= n_student or largest[1] >= n_teacher:
            raise ValueError(
                f"the counts have ids up to {largest[0]:,} and {largest[1]:,}, but the vocabularies have {n_student:,} "
                f"and {n_teacher:,} ids: count alignments of these two tokenizers."
            )
