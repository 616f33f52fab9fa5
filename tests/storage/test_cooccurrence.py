"""Counting which tokens meet, shard by shard."""

from collections import Counter

import numpy as np
import pyarrow as pa
from oracles_projection import meetings
from texts import hard_texts

from storage.alignments import alignments_table, cooccurrence_of
from storage.columns import to_list_array
from xtoken_core.align import align_batch
from xtoken_core.ragged import Ragged
from xtoken_core.tokenizer import Tokenizer


def tokens(ids: Ragged) -> pa.Table:
    mask = Ragged(np.ones(len(ids.values), dtype=bool), ids.offsets)
    columns = [pa.array(np.arange(len(ids)), pa.uint64()), to_list_array(ids), to_list_array(mask)]
    return pa.table(columns, ["window_id", "ids", "loss_mask"])


def test_shards_add_up_and_rows_can_be_left_out(mistral_v1: Tokenizer, byte_bpe: Tokenizer) -> None:
    texts = [*hard_texts().values()]
    tables, expected = [], Counter[tuple[int, int]]()
    for part in (texts[::2], texts[1::2], []):
        ids = mistral_v1.encode_batch(part), byte_bpe.encode_batch(part)
        batch = align_batch(*ids, mistral_v1.vocabulary, byte_bpe.vocabulary)
        tables.append(alignments_table(tokens(ids[0]), tokens(ids[1]), batch))
        expected.update(meetings(batch, *ids))
    counts = cooccurrence_of(iter(tables))
    pairs = zip(counts.student.tolist(), counts.teacher.tolist(), strict=True)
    assert dict(zip(pairs, counts.count.tolist(), strict=True)) == expected
    without = cooccurrence_of([table.filter(np.arange(len(table)) > 0) for table in tables])
    alone = cooccurrence_of([table.slice(0, 1) for table in tables])
    assert int(without.count.sum()) + int(alone.count.sum()) == expected.total()
    assert 0 < alone.count.sum() < expected.total()


def test_no_shards() -> None:
    assert len(cooccurrence_of([]).count) == 0
