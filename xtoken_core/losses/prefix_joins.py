"""Which continuations the student's tokenizer would have joined to the token before them.

Behind "th" a teacher may well expect "e", but a student whose tokenizer has "the" never sees "th" before "e": of all
that may follow, only what leaves "th" a token of its own is ever the truth. The tokenizer itself is asked, once for
each pair, and only where some token of the student has the two bytes that meet side by side.
"""

import numpy as np

from xtoken_core.tokenizer import Tokenizer
from xtoken_core.vocabulary import Vocabulary

_REMEMBERED = 1 << 22  # pairs, of about 70 bytes each


class PrefixJoins:
    """For one student and one teacher; answers are kept."""

    def __init__(self, student: Tokenizer, teacher: Vocabulary) -> None:
        self._student, self._teacher = student, teacher
        self._neighbours = _neighbours(student.vocabulary)
        vocabulary = student.vocabulary
        filled = vocabulary.lengths > 0
        self._last_byte = np.where(filled, vocabulary.data[np.maximum(vocabulary.offsets[1:] - 1, 0)], 0)
        self._end_of_token = np.repeat(teacher.offsets[1:], teacher.lengths)
        self._known: dict[int, bool] = {}
        self._alone: dict[int, bool] = {}

    def of(self, last: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether the tokenizer joins the student token `last` [n] with the rest of a teacher token from `at` [n] on.

        at: a place in `Vocabulary.data` of the teacher. False for a `last` without bytes, and for what is no text.
        """
        has_bytes = self._student.vocabulary.lengths[last] > 0
        possible = has_bytes & self._neighbours[self._last_byte[last], self._teacher.data[at]]
        pairs, inverse = np.unique(
            last[possible].astype(np.int64) * len(self._teacher.data) + at[possible], return_inverse=True
        )
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        self._learn([pair for pair in pairs.tolist() if pair not in self._known])
        joined = np.zeros(len(last), dtype=bool)
        joined[possible] = np.array([self._known[pair] for pair in pairs.tolist()], dtype=bool)[inverse]
        return joined

    def _learn(self, pairs: list[int]) -> None:
        lasts, ats = np.divmod(np.array(pairs, dtype=np.int64), len(self._teacher.data))
        spelled = [self._student.vocabulary.token_bytes(last) for last in lasts.tolist()]
        rests = [self._teacher.data[at : self._end_of_token[at]].tobytes() for at in ats.tolist()]
        texts = [_text(first + _before_a_word(rest)) for first, rest in zip(spelled, rests, strict=True)]
        encoded = self._student.encode_plain([text or "" for text in texts])
        self._learn_alone(np.unique(lasts).tolist())
        for pair, last, text, ids in zip(pairs, lasts.tolist(), texts, encoded, strict=True):
            self._known[pair] = text is not None and self._alone[last] and ids[:1].tolist() != [last]

    def _learn_alone(self, lasts: list[int]) -> None:
        """Only a token that its own bytes are encoded to can be judged: not "##ing", whose bytes are "ing"."""
        new = [last for last in lasts if last not in self._alone]
        texts = [_text(self._student.vocabulary.token_bytes(last)) for last in new]
        for last, text, ids in zip(new, texts, self._student.encode_plain([text or "" for text in texts]), strict=True):
            self._alone[last] = text is not None and ids.tolist() == [last]


def _neighbours(vocabulary: Vocabulary) -> np.ndarray:
    """Which two bytes stand side by side in some token, bool [256, 256]."""
    found = np.zeros((256, 256), dtype=bool)
    first_of_token = np.zeros(len(vocabulary.data) + 1, dtype=bool)
    first_of_token[vocabulary.offsets] = True
    inner = np.flatnonzero(~first_of_token[1:-1]) + 1
    found[vocabulary.data[inner - 1], vocabulary.data[inner]] = True
    return found


def _before_a_word(rest: bytes) -> bytes:
    """Many pre-tokenizers keep white space together at the end of a text only: a word follows it here."""
    return rest + b"x" if rest[-1:].isspace() else rest


def _text(spelled: bytes) -> str | None:
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return None
