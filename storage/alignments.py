"""Alignments <-> rows of an alignment shard."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from storage.columns import from_list_column, to_list_array
from storage.schemas import ALIGNMENTS
from xtoken_core.align import AlignmentBatch
from xtoken_core.projection import PairCounts, count_pairs

KIND = "alignments"


def alignments_table(student: pa.Table, teacher: pa.Table, chunks: AlignmentBatch) -> pa.Table:
    """The rows of one shard: the ids of two tokens shards of the same windows, and the chunks between them."""
    columns = [
        student["window_id"],
        student["ids"],
        teacher["ids"],
        chunks.student_chunk_start0,
        chunks.teacher_chunk_start0,
        to_list_array(chunks.student_chunk_ends),
        to_list_array(chunks.teacher_chunk_ends),
        to_list_array(chunks.chunk_exact),
        to_list_array(chunks.chunk_kind),
        student["loss_mask"],
        chunks.n_chunks,
        chunks.n_exact,
        chunks.n_bytes,
        chunks.n_exact_bytes,
    ]
    return pa.table(columns, schema=ALIGNMENTS)


def alignment_of(table: pa.Table) -> AlignmentBatch:
    """The alignment columns of some rows of an alignments table."""
    ragged = ("student_chunk_ends", "teacher_chunk_ends", "chunk_exact", "chunk_kind")
    plain = ("student_chunk_start0", "teacher_chunk_start0", "n_chunks", "n_exact", "n_bytes", "n_exact_bytes")
    columns: dict[str, Any] = {name: from_list_column(table[name]) for name in ragged}
    columns |= {name: table[name].to_numpy() for name in plain}
    return AlignmentBatch(**columns)


def cooccurrence_of(tables: Iterable[pa.Table]) -> PairCounts:
    """How often student and teacher tokens begin the same chunks, over the shards that `tables` yields one by one.

    Leave held-out windows out of the tables: what is counted here goes into what is trained.
    """
    counts = PairCounts.none()
    for table in tables:
        ids = (from_list_column(table[name]) for name in ("student_ids", "teacher_ids"))
        counts = counts.plus(count_pairs(alignment_of(table), *ids))
    return counts
