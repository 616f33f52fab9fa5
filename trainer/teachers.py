"""A teacher's side of the data: its alignment with the student and its cached records.

What was checked when the files were opened is that they are whole; what is checked here, window by window as they are
used, is that they belong together: the student ids of the alignment are those of the tokens artifact, and the cached
records were made from exactly the teacher ids of the alignment.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from storage.alignments import KIND as ALIGNMENTS_KIND
from storage.alignments import alignment_of
from storage.artifact import Artifact, open_artifact
from storage.columns import from_list_column
from storage.errors import ArtifactError
from storage.hashing import ids_hash
from storage.projections import load_projection
from storage.records import KIND as CACHE_KIND
from storage.records import StoredRecords
from storage.shards import Shards, tables_of
from storage.vocabularies import load_vocabulary
from trainer.errors import DataError
from trainer.job import TeacherInputs
from trainer.loss_settings import PROJECTED
from trainer.windows import StudentWindows, WindowSet, require_same_windows, rows_of
from xtoken_core.align import AlignmentBatch
from xtoken_core.losses.common import ProjectionTensors
from xtoken_core.projection import Projection, have_same_tokens
from xtoken_core.ragged import Ragged, offsets_of
from xtoken_core.topk import Codec, Records, decode
from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Summaries:
    """What records say of a position in one number each, float32 [n]; see `Records`."""

    next_logprob: np.ndarray
    entropy: np.ndarray
    top1_logprob: np.ndarray


@dataclass(frozen=True, eq=False)
class CacheShards:
    """All records of a cache, found by window."""

    shards: Shards[StoredRecords]
    window_ids: np.ndarray  # uint64 [rows], ascending
    shard_of: np.ndarray  # int32 [rows]
    row_of: np.ndarray  # int32 [rows], within the shard

    @classmethod
    def of(cls, cache: Artifact) -> "CacheShards":
        shards = Shards(cache.folder, cache.manifest.shards, StoredRecords.from_table)
        ids = shards.column(lambda shard: shard.window_ids, np.uint64)
        order = np.argsort(ids)
        shard_of = np.repeat(np.arange(len(shards), dtype=np.int32), shards.rows)
        row_of = shards.column(lambda shard: np.arange(len(shard.window_ids)), np.int32)
        return cls(shards, ids[order], shard_of[order], row_of[order])

    def find(self, window_ids: np.ndarray) -> np.ndarray:
        """Where each window is among `window_ids`, -1 for windows without records: int64 [n]."""
        if not len(self.window_ids):
            return np.full(len(window_ids), -1)
        found = np.minimum(np.searchsorted(self.window_ids, window_ids), len(self.window_ids) - 1)
        return np.where(self.window_ids[found] == window_ids, found, -1)

    def ids_hash(self, place: int) -> int:
        """The hash of the teacher ids that the records at `place` (from `find`) were made from."""
        return int(self.shards[self.shard_of[place]].ids_hashes[self.row_of[place]])

    @property
    def is_whole(self) -> bool:
        """Whether the records leave nothing out."""
        return all(_is_whole(shard.records) for shard in self.shards)

    def largest_id(self, places: np.ndarray) -> int:
        """The largest token in any record of the windows at `places`; at least one window."""
        shards = ((self.shards[self.shard_of[place]], self.row_of[place]) for place in places)
        return max(
            int(shard.records.topk_ids[shard.offsets[row] : shard.offsets[row + 1]].max()) for shard, row in shards
        )

    def summaries(self, places: np.ndarray) -> "Summaries":
        """Of all positions of the windows at `places`, window after window; at least one window."""
        parts = [self._summaries(place) for place in places]
        return Summaries(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _summaries(self, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shard, row = self.shards[self.shard_of[place]], self.row_of[place]
        inside, records = slice(shard.offsets[row], shard.offsets[row + 1]), shard.records
        likeliest = records.topk_logprob[inside, 0].astype(np.float32)
        return records.next_logprob[inside], records.entropy[inside], likeliest

    def length(self, place: int) -> int:
        """How many positions the window at `place` has records for."""
        shard, row = self.shards[self.shard_of[place]], self.row_of[place]
        return int(shard.offsets[row + 1] - shard.offsets[row])

    def take(self, places: np.ndarray, positions: np.ndarray) -> Records:
        """The decoded records at teacher positions `positions` of the windows at `places`, both [n], n >= 1."""
        shard_of = self.shard_of[places]
        order = np.argsort(shard_of, kind="stable")
        parts = [
            self.shards[shard].take(self.row_of[places[which]], positions[which])
            for shard in np.unique(shard_of)
            for which in [order[shard_of[order] == shard]]
        ]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        stored = Records.concatenate(parts).take(back)
        return decode(stored, Codec(stored.topk_logprob.dtype.name))


@dataclass(frozen=True, eq=False)
class TeacherRows:
    """The windows of a micro-batch that a teacher has records for.

    first_token: int64 [rows], where each begins among the student tokens of the micro-batch, window after window.
    teacher_offsets: int64 [rows + 1], where each begins among the teacher tokens of these windows.
    place: int64 [rows], where in the cache. alignment: their alignments. loss_mask: of their student ids.
    student_ids, teacher_ids: the tokens of either side.
    """

    first_token: np.ndarray
    teacher_offsets: np.ndarray
    place: np.ndarray
    alignment: AlignmentBatch
    loss_mask: Ragged
    student_ids: Ragged
    teacher_ids: Ragged


@dataclass(frozen=True, eq=False)
class TeacherData:
    """One teacher: what it reads like (vocabulary), where it meets the student (alignments), what it said (cache)."""

    inputs: TeacherInputs
    student: StudentWindows
    student_vocabulary: Vocabulary
    vocabulary: Vocabulary
    alignments: Shards[pa.Table]
    cache: CacheShards
    projection: Projection | None

    @classmethod
    def open(cls, inputs: TeacherInputs, student: StudentWindows, student_vocabulary: Vocabulary) -> "TeacherData":
        """Open the teacher's artifacts, checked.

        Raises:
            ArtifactError: if one is missing or damaged, or belongs to other windows or other vocabularies.
            DataError: if the loss needs more than the cache holds.
        """
        alignments = tables_of(open_artifact(inputs.alignments, ALIGNMENTS_KIND))
        cache = open_artifact(inputs.cache, CACHE_KIND)
        require_same_windows(alignments, student.tables)
        vocabulary = load_vocabulary(inputs.vocabulary)
        both = student_vocabulary, vocabulary
        data = cls(
            inputs=inputs,
            student=student,
            student_vocabulary=student_vocabulary,
            vocabulary=vocabulary,
            alignments=alignments,
            cache=CacheShards.of(cache),
            projection=None if inputs.projection is None else load_projection(inputs.projection, *both),
        )
        data._require_enough_for_loss()
        return data

    def read(self, windows: WindowSet, student_ids: Ragged, loss_mask: Ragged) -> TeacherRows | None:
        """What this teacher has for the windows of a micro-batch; None where it has nothing.

        Raises:
            ArtifactError: if the alignment or the records were made from other ids.
        """
        place = self.cache.find(windows.window_ids)
        row = np.flatnonzero(place >= 0)
        if not len(row):
            return None
        table = rows_of(self.alignments, windows.take(row))
        self._require_same_student_ids(row, table, student_ids)
        self._require_same_teacher_ids(place[row], table)
        masks = Ragged.from_lists([loss_mask.row(i) for i in row], bool)
        offsets = offsets_of([self.cache.length(one) for one in place[row]])
        ids = (from_list_column(table[f"{side}_ids"]) for side in ("student", "teacher"))
        return TeacherRows(student_ids.offsets[row], offsets, place[row], alignment_of(table), masks, *ids)

    def summaries(self, rows: TeacherRows) -> Summaries:
        """What the records of all positions of the windows say in one number each, [teacher tokens]."""
        return self.cache.summaries(rows.place)

    def projection_tensors(self, student_size: int) -> ProjectionTensors:
        """The projection of the first `student_size` ids."""
        assert self.projection is not None
        parts = (self.projection.indices, self.projection.weights)
        return ProjectionTensors(*(torch.from_numpy(np.array(part[:student_size])) for part in parts))

    def records(self, rows: TeacherRows, which: np.ndarray, positions: np.ndarray) -> Records:
        """The records at teacher positions `positions` of the windows `which` (indices into `rows`), both [n], n >= 1.

        Raises:
            ArtifactError: if the records hold ids that the teacher's vocabulary does not have.
        """
        records = self.cache.take(rows.place[which], positions)
        self._require_known(int(records.topk_ids.max()))
        return records

    def require_known_ids(self, rows: TeacherRows) -> None:
        """ArtifactError if the records of these windows hold ids that the teacher's vocabulary does not have."""
        self._require_known(self.cache.largest_id(rows.place))

    def _require_known(self, largest: int) -> None:
        if largest >= self.vocabulary.size:
            raise ArtifactError(
                f"{self.inputs.cache} holds token {largest}, but {self.inputs.vocabulary} ends at "
                f"{self.vocabulary.size - 1}: give teacher {self.inputs.name} the vocabulary its cache was made with"
            )

    def require_whole(self, what: str, instead: str) -> None:
        """DataError if `what` needs all of the teacher's distribution, and the cache keeps a part of it."""
        if not self.cache.is_whole:
            raise DataError(
                f"{what} needs whole distributions, and {self.inputs.cache} keeps {self.cache.shards[0].records.k} of "
                f"{self.vocabulary.size:,} tokens of teacher {self.inputs.name}: cache it with k = "
                f"{self.vocabulary.size}, or {instead}"
            )

    def _require_enough_for_loss(self) -> None:
        name, loss = self.inputs.name, self.inputs.loss
        if loss in PROJECTED and self.projection is None:
            raise DataError(f"{loss} of teacher {name} needs a projection: run `xtoken build-projection`")
        if loss == "direct_kl" and not have_same_tokens(self.student_vocabulary, self.vocabulary):
            raise DataError(
                f"direct_kl of teacher {name} compares token by token, and its tokenizer is not the student's: use "
                "`loss: prefix_kl`, or a teacher with the student's tokenizer"
            )
        if self.inputs.needs_whole_distribution and loss == "direct_kl":
            self.require_whole(f"vocab_topk {self.inputs.vocab_topk} of {loss}", "remove it")
        elif self.inputs.needs_whole_distribution:
            self.require_whole(loss, "use loss prefix_kl, which needs a few tokens only")

    def _require_same_student_ids(self, row: np.ndarray, table: pa.Table, student_ids: Ragged) -> None:
        aligned = from_list_column(table["student_ids"])
        for i, window_id in enumerate(table["window_id"].to_pylist()):
            if not np.array_equal(aligned.row(i), student_ids.row(int(row[i]))):
                raise ArtifactError(
                    f"window {window_id} has other student ids in {self.inputs.alignments} than in "
                    f"{self.student.tokens_folder}: run `xtoken prepare` again"
                )

    def _require_same_teacher_ids(self, place: np.ndarray, table: pa.Table) -> None:
        teacher_ids = from_list_column(table["teacher_ids"])
        for i, window_id in enumerate(table["window_id"].to_pylist()):
            ids = teacher_ids.row(i)
            if self.cache.length(place[i]) != len(ids) or self.cache.ids_hash(place[i]) != ids_hash(ids):
                raise ArtifactError(
                    f"the records of window {window_id} in {self.inputs.cache} were made from other token ids than "
                    f"{self.inputs.alignments} holds: run `xtoken cache-teacher` again for teacher {self.inputs.name}"
                )


def _is_whole(records: Records) -> bool:
    """Whether nothing is left out; the first position tells, since k is the same at all of them."""
    first = records.take(np.arange(min(1, len(records))))
    return bool(np.isneginf(first.rest_logmass).all() and np.isneginf(first.topk_hidden_logmass).all())
