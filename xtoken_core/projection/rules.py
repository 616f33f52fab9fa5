"""The rules that make entries of the projection.

The weights of a split token are those of the published construction (NeMo-RL, tools/x_token): piece i gets 0.9 * 0.1^i,
normalised over the pieces, because the first piece is what a model decides on first.
"""

import numpy as np

from xtoken_core.projection.entries import Entries, position_in_run
from xtoken_core.projection.matrix import Rule
from xtoken_core.projection.split import split_tokens
from xtoken_core.roles import counterparts
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import TokenKind, Vocabulary

_FIRST_WEIGHT = 0.9
_DECAY = 0.1


def exact_entries(student: Tokenizer, teacher: Tokenizer) -> Entries:
    """Tokens with the same bytes, one to one: among ids that spell the same, the one in use, else the lowest."""
    shared = [(student_id, teacher.id_of.get(token)) for token, student_id in student.id_of.items()]
    pairs = np.array([(i, j) for i, j in shared if j is not None], dtype=np.int64).reshape(-1, 2)
    return Entries.of(pairs[:, 0], pairs[:, 1], 1.0, Rule.EXACT)


def special_entries(student: Vocabulary, teacher: Vocabulary) -> Entries:
    """Each special token to one with the same role."""
    pairs = counterparts(student, teacher)
    return Entries.of(np.array([*pairs.keys()]), np.array([*pairs.values()]), 1.0, Rule.SPECIAL)


def multi_token_entries(student: Vocabulary, token_ids: np.ndarray, teacher: Tokenizer, max_pieces: int) -> Entries:
    """Each of these student tokens to the teacher's tokens that spell it."""
    whole, piece, weight = _weighted_pieces(student, token_ids, teacher, max_pieces)
    return Entries.of(whole, piece, weight, Rule.MULTI_TOKEN)


def reverse_entries(student: Tokenizer, teacher: Vocabulary, token_ids: np.ndarray, max_pieces: int) -> Entries:
    """Each student token to those of these teacher tokens that it is a piece of."""
    whole, piece, weight = _weighted_pieces(teacher, token_ids, student, max_pieces)
    return Entries.of(piece, whole, weight, Rule.REVERSE)


def _weighted_pieces(
    vocabulary: Vocabulary, token_ids: np.ndarray, other: Tokenizer, max_pieces: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per piece: the token, its piece in `other`, and the piece's weight; pieces without bytes are passed over."""
    pieces = split_tokens(vocabulary, token_ids, other)
    whole = np.repeat(np.arange(len(token_ids)), pieces.lengths)
    is_text = other.vocabulary.kind[pieces.values] == TokenKind.TEXT
    whole, piece = whole[is_text], pieces.values[is_text]
    position = position_in_run(whole)
    whole, piece, position = (column[position < max_pieces] for column in (whole, piece, position))
    weight = _FIRST_WEIGHT * _DECAY**position
    total = np.bincount(whole, weights=weight, minlength=len(token_ids))
    return token_ids[whole], piece, weight / total[whole]
