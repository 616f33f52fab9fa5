"""The rules that need nothing but the two tokenizers.

The weights of a split token are those of the published construction (NeMo-RL, tools/x_token): piece i gets 0.9 * 0.1^i,
normalised over the pieces, because the first piece is what a model decides on first. The 0.9 drops out.
"""

import numpy as np

from xtoken_core.projection.entries import Entries, position_in_run
from xtoken_core.projection.matrix import Rule
from xtoken_core.projection.settings import SplitSettings
from xtoken_core.projection.split import split_tokens
from xtoken_core.roles import counterparts
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind, Vocabulary


def exact_entries(student: Tokenizer, teacher: Tokenizer) -> Entries:
    """Tokens with the same bytes, one to one: among ids that spell the same, the one in use, else the lowest."""
    shared = ((student_id, teacher.id_of.get(token)) for token, student_id in student.id_of.items())
    return Entries.of_pairs(((i, j) for i, j in shared if j is not None), Rule.EXACT)


def special_entries(student: Vocabulary, teacher: Vocabulary) -> Entries:
    """Each special token to one with the same role, the others to one with the same name."""
    by_role = counterparts(student, teacher)
    taken = {*by_role.values()}
    named = {teacher.texts[j]: j for j in special_ids(teacher) if j not in taken}
    rest = [i for i in special_ids(student) if i not in by_role and student.texts[i] in named]
    return Entries.of_pairs([*by_role.items(), *((i, named[student.texts[i]]) for i in rest)], Rule.SPECIAL)


def special_ids(vocabulary: Vocabulary) -> list[int]:
    """The ids of the special tokens."""
    return np.flatnonzero(vocabulary.kind == TokenKind.SPECIAL).tolist()


def multi_token_entries(
    student: Vocabulary, token_ids: np.ndarray, teacher: Tokenizer, settings: SplitSettings
) -> Entries:
    """Each of these student tokens to the teacher's tokens that spell it."""
    whole, piece, weight = _weighted_pieces(student, token_ids, teacher, settings)
    return Entries.of(whole, piece, weight, Rule.MULTI_TOKEN)


def reverse_entries(student: Tokenizer, teacher: Vocabulary, settings: SplitSettings) -> Entries:
    """Each student token to those teacher tokens that it is a piece of."""
    token_ids = np.flatnonzero(teacher.kind == TokenKind.TEXT)
    whole, piece, weight = _weighted_pieces(teacher, token_ids, student, settings)
    return Entries.of(piece, whole, weight, Rule.REVERSE)


def _weighted_pieces(
    vocabulary: Vocabulary, token_ids: np.ndarray, other: Tokenizer, settings: SplitSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per piece: the token, its piece in `other`, and the piece's weight; pieces without bytes are passed over."""
    pieces = split_tokens(vocabulary, token_ids, other)
    whole = np.repeat(np.arange(len(token_ids)), pieces.lengths)
    is_text = other.vocabulary.kind[pieces.values] == TokenKind.TEXT
    whole, piece = whole[is_text], pieces.values[is_text]
    position = position_in_run(whole)
    whole, piece, position = (column[position < settings.max_pieces] for column in (whole, piece, position))
    weight = settings.decay**position
    total = np.bincount(whole, weights=weight, minlength=len(token_ids))
    return token_ids[whole], piece, weight / total[whole]
