"""What a teacher's records say at any place before a student token: cells, as for `prefix_kl`, of what may follow.

At a common boundary that is the record itself. Elsewhere the student has read some bytes beyond the teacher's last
boundary, and the record there speaks through the tokens that begin with these bytes: what they spell behind them, their
*remainders*, is what may follow. A token of the record before that boundary may reach over the place as well. Of all
that, what the student's tokenizer would have joined to the token before the place never follows it.

With b the bytes read since the last boundary, T its record, T' the record before it, u the token between the two:

    mass(r) = T(b r) + T'(u b r) / T'(u)    for each remainder r; zero if the tokenizer joins r to the token before
    rest    = T's rest where b is empty, else T(b)

T and T' count the mass hidden behind a token to it. A is those remainders that are student tokens; the cells of both
sides are the longest prefixes in A, the masses are divided by their sum, and the loss is `prefix_kl` over these cells.
A teacher token that ends at the place is followed by something that no longer token begins with, hence the rest.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from xtoken_core.cover_compiled import remainders
from xtoken_core.losses.cell_batch import CellBatch
from xtoken_core.losses.prefix_cells import StudentTree, stored_masses
from xtoken_core.losses.prefix_joins import PrefixJoins
from xtoken_core.prefix_atoms import PrefixAtoms
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.topk.records import Records
from xtoken_core.vocabulary import Vocabulary

NOWHERE = -1  # of `remainders`: the token begins otherwise
SPELLED = -2  # of `remainders`: the token ends where the place is


@dataclass(frozen=True, eq=False)
class Reading:
    """N places. All arrays int64 [N] but `text`.

    text: uint8, the bytes of teacher tokens in a row.
    start, end: what the student has read since the teacher's last boundary is `text[start:end]`.
    before: where the teacher token before that boundary begins; `start` where there is none, or it is no text.
    last: the student token before the place.
    """

    text: np.ndarray
    before: np.ndarray
    start: np.ndarray
    end: np.ndarray
    last: np.ndarray


@dataclass(frozen=True, eq=False)
class PrefixCovers:
    """What two vocabularies have to do with each other, kept for many records.

    longest: int32, for each byte of `Vocabulary.data` of the teacher: the lowest id of the longest student token that
        the rest of the teacher's token, from that byte on, begins with; -1 for none.
    exact: bool, likewise: that student token is all of the rest.
    atom: int32 [Vt], for ids without bytes the student id that counts as equal, -1 for none.
    judged: from what share of a place's mass on it is asked whether the tokenizer joins a remainder.
    """

    joins: PrefixJoins
    teacher: Vocabulary
    longest: np.ndarray
    exact: np.ndarray
    atom: np.ndarray
    student: StudentTree
    judged: float

    @classmethod
    def between(cls, tokenizer: Tokenizer, student: Vocabulary, teacher: Vocabulary, judged: float = 1e-4) -> Self:
        """For records of `teacher`. student: the tokenizer's vocabulary, or the first ids of it."""
        atoms = PrefixAtoms.between(student, teacher)
        longest, exact = _longest_prefixes(student, teacher)
        atom = np.where(teacher.lengths > 0, -1, atoms.atom)
        joins, tree = PrefixJoins(tokenizer, teacher), StudentTree.of(student, atoms)
        return cls(joins, teacher, longest, exact, atom, tree, judged)

    def of(self, reading: Reading, records: Records, before: Records) -> CellBatch:
        """The cells at each place; 2k + 1 columns.

        records: at the teacher's last boundary. before: at the one before it, in any row where there is none.

        Where the records leave everything open, all tokens are in the rest cell: the loss there is zero.
        """
        found = remainders(records.topk_ids, *self._read(reading, reading.start))
        mass = stored_masses(records)
        ended = np.where(found == SPELLED, mass, 0.0).sum(axis=1)
        rest = np.where(reading.start == reading.end, np.exp(records.rest_logmass, dtype=np.float64), ended)
        reaching = remainders(before.topk_ids, *self._read(reading, reading.before))
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            weight = np.where(reading.before < reading.start, np.exp(-before.next_logprob.astype(np.float64)), 0.0)
        weight[~np.isfinite(weight)] = 0.0  # a token that the teacher held for impossible says nothing
        places = np.concatenate([found, reaching], axis=1)
        masses = np.concatenate([mass, stored_masses(before) * weight[:, None]], axis=1)
        masses[places < 0] = 0.0
        places[masses == 0] = NOWHERE
        longest = np.where(places < 0, -1, self.longest[places])
        exact = (places >= 0) & self.exact[places]
        self._add_special(reading, records, mass, longest, exact, masses)
        self._drop_joined(reading.last, places, masses)
        return self.student.cells(longest, exact, np.concatenate([masses, rest[:, None]], axis=1))

    def _read(self, reading: Reading, begin: np.ndarray) -> tuple[np.ndarray, ...]:
        return reading.text, begin, reading.end, self.teacher.data, self.teacher.offsets

    def _add_special(
        self,
        reading: Reading,
        records: Records,
        mass: np.ndarray,
        longest: np.ndarray,
        exact: np.ndarray,
        masses: np.ndarray,
    ) -> None:
        """Tokens without bytes follow only where nothing was read; they are spelled to their end there."""
        special = (self.teacher.lengths[records.topk_ids] == 0) & (reading.start == reading.end)[:, None]
        k = records.k
        longest[:, :k][special] = self.atom[records.topk_ids[special]]
        exact[:, :k][special] = longest[:, :k][special] >= 0
        masses[:, :k][special] = mass[special]

    def _drop_joined(self, last: np.ndarray, places: np.ndarray, masses: np.ndarray) -> None:
        """The cell of what is dropped stays, with no mass: the student learns that it does not follow."""
        heavy = (places >= 0) & (masses > self.judged * masses.sum(axis=1, keepdims=True))
        rows, columns = heavy.nonzero()
        joined = self.joins.of(last[rows], places[rows, columns])
        masses[rows[joined], columns[joined]] = 0.0


def _longest_prefixes(student: Vocabulary, teacher: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """`longest` and `exact` of `PrefixCovers`."""
    longest = np.full(len(teacher.data), -1, dtype=np.int32)
    exact = np.zeros(len(teacher.data), dtype=bool)
    cut = int(student.lengths.max(initial=0))
    known: dict[bytes, tuple[int, bool]] = {}
    for token in teacher.lookup:
        for first in range(len(token)):
            rest = token[first:]
            if rest not in known:
                known[rest] = _longest_prefix(rest, student.lookup, cut)
    for token_id in np.flatnonzero(teacher.lengths).tolist():
        token, offset = teacher.token_bytes(token_id), int(teacher.offsets[token_id])
        for first in range(len(token)):
            longest[offset + first], exact[offset + first] = known[token[first:]]
    return longest, exact


def _longest_prefix(rest: bytes, lookup: dict[bytes, int], cut: int) -> tuple[int, bool]:
    for length in range(min(len(rest), cut), 0, -1):
        found = lookup.get(rest[:length])
        if found is not None:
            return found, length == len(rest)
    return -1, False
