"""Building the projection: rules in the order of their authority, sparse from end to end."""

import numpy as np

from xtoken_core.projection.entries import Entries
from xtoken_core.projection.matrix import Projection, ProjectionSettings
from xtoken_core.projection.rules import exact_entries, multi_token_entries, reverse_entries, special_entries
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind


def build_projection(student: Tokenizer, teacher: Tokenizer, settings: ProjectionSettings | None = None) -> Projection:
    """W for one pair of tokenizers.

    Student tokens that the teacher has byte for byte, and special tokens whose role it has, are pinned to their one
    counterpart. Every other text token gets the teacher's split of it and, with `settings.reverse`, the teacher tokens
    that it is a piece of; of these the `top_k` largest are kept. Special tokens without a counterpart stay empty.
    """
    settings = settings or ProjectionSettings()
    pinned = Entries.joined([exact_entries(student, teacher), special_entries(student.vocabulary, teacher.vocabulary)])
    free = np.ones(student.vocabulary.size, dtype=bool)
    free[pinned.student] = False
    split = _split_entries(student, teacher, free, settings)
    entries = Entries.joined([pinned, split.where(free[split.student]).merged()])
    return entries.to_rows(student.vocabulary.size, settings.top_k)


def _split_entries(student: Tokenizer, teacher: Tokenizer, free: np.ndarray, settings: ProjectionSettings) -> Entries:
    to_split = np.flatnonzero(free & (student.vocabulary.kind == TokenKind.TEXT))
    forward = multi_token_entries(student.vocabulary, to_split, teacher, settings.max_pieces)
    if not settings.reverse:
        return forward
    teacher_ids = np.flatnonzero(teacher.vocabulary.kind == TokenKind.TEXT)
    return Entries.joined([forward, reverse_entries(student, teacher.vocabulary, teacher_ids, settings.max_pieces)])
