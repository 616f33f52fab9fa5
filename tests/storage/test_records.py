from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from fakes import fake_vocabulary

from storage.artifact import ArtifactSpec, ArtifactWriter, shard_name
from storage.hashing import ids_hash
from storage.records import KIND, StoredRecords, records_table
from storage.schemas import cache_schema
from xtoken_core.topk import Codec, Records, decode, encode, make_records

K = 3
VOCABULARY = fake_vocabulary(["<s>", b"a", b"ab", b"abc", b"b", b"c", None])
# Three windows of 4, 0 and 3 tokens.
ROWS = [np.array([0, 1, 2, 3], np.int32), np.array([], np.int32), np.array([0, 4, 5], np.int32)]
OFFSETS = np.array([0, 4, 4, 7])
WINDOW_IDS = np.array([2**64 - 1, 5, 0], dtype=np.uint64)
HASHES = np.array([ids_hash(ids) for ids in ROWS], dtype=np.uint64)


@pytest.fixture(scope="module")
def records() -> Records:
    """Records of real logits; the last token of a window has no next one."""
    logits = torch.randn(7, VOCABULARY.size, generator=torch.Generator().manual_seed(0))
    next_ids = [following for ids in ROWS for following in [*ids[1:], -1][: len(ids)]]
    return make_records(logits, torch.tensor(next_ids), VOCABULARY, K)


def assert_same(found: Records, expected: Records) -> None:
    for field in fields(Records):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one.dtype == other.dtype, field.name
        assert np.array_equal(one, other, equal_nan=one.dtype != np.int32), field.name


def stored(folder: Path, table: pa.Table) -> StoredRecords:
    writer = ArtifactWriter(folder, ArtifactSpec(KIND, 1, {}))
    return StoredRecords.from_table(writer.finish([writer.write_table(shard_name(0), "key", table)]).table(0))


@pytest.mark.parametrize("codec", Codec)
def test_records_survive_a_shard_in_the_codecs_types(tmp_path: Path, records: Records, codec: Codec) -> None:
    encoded = encode(records, codec)
    table = records_table(WINDOW_IDS, HASHES, OFFSETS, encoded)
    assert table.schema == cache_schema(K, pa.from_numpy_dtype(codec.value))
    found = stored(tmp_path, table)
    assert_same(found.records, encoded)
    assert np.array_equal(found.window_ids, WINDOW_IDS)
    assert np.array_equal(found.ids_hashes, HASHES)
    assert np.array_equal(found.offsets, OFFSETS)


def test_no_number_changes_its_type_on_the_way(records: Records) -> None:
    """A float32 column in a float16 table would lose digits that the codec's error does not count."""
    schema = records_table(WINDOW_IDS, HASHES, OFFSETS, encode(records, Codec.FLOAT16)).schema
    for name in ("rest_logmass", "next_logprob", "logsumexp", "entropy"):
        assert schema.field(name).type == pa.list_(pa.float32())
    for name in ("topk_logprob", "topk_hidden_logmass"):
        assert schema.field(name).type == pa.list_(pa.list_(pa.float16(), K))


@pytest.mark.parametrize("codec", Codec)
def test_taken_records_are_those_of_the_positions(tmp_path: Path, records: Records, codec: Codec) -> None:
    found = stored(tmp_path, records_table(WINDOW_IDS, HASHES, OFFSETS, encode(records, codec)))
    rows, positions = np.array([2, 0, 0, 2]), np.array([2, 0, 3, 2])
    taken = decode(found.take(rows, positions), codec)
    assert_same(taken, decode(encode(records, codec), codec).take(np.array([6, 0, 3, 6])))
    masses = np.exp(taken.topk_logprob).sum(1) + np.exp(taken.topk_hidden_logmass).sum(1) + np.exp(taken.rest_logmass)
    assert masses == pytest.approx(1, abs=1e-6)


def test_nothing_is_taken_from_no_positions(records: Records) -> None:
    found = StoredRecords.from_table(records_table(WINDOW_IDS, HASHES, OFFSETS, records))
    nothing = np.array([], dtype=np.int64)
    assert len(found.take(nothing, nothing)) == 0


@pytest.mark.parametrize(("row", "position"), [(0, 4), (0, -1), (1, 0), (2, 3), (2, -1)])
def test_a_position_of_another_window_is_an_error(records: Records, row: int, position: int) -> None:
    found = StoredRecords.from_table(records_table(WINDOW_IDS, HASHES, OFFSETS, records))
    asked = rf"position {position} of window {WINDOW_IDS[row]} \(row {row} of its shard\)"
    with pytest.raises(IndexError, match=f"{asked}.* records of {len(ROWS[row])} tokens.*run `xtoken cache-teacher`"):
        found.take(np.array([0, row]), np.array([0, position]))


def test_a_part_of_longer_records_can_be_a_shard(tmp_path: Path, records: Records) -> None:
    table = records_table(WINDOW_IDS[1:], HASHES[1:], OFFSETS[1:], records)
    assert table["n_tokens"].to_pylist() == [0, 3]
    found = stored(tmp_path, table)
    assert_same(found.records, records.take(np.arange(4, 7)))
    assert np.array_equal(found.offsets, [0, 0, 3])


def test_a_shard_without_windows_is_a_shard(tmp_path: Path, records: Records) -> None:
    """As where every window of a shard is too long for the teacher."""
    nothing = records.take(np.arange(0))
    found = stored(tmp_path, records_table(WINDOW_IDS[:0], HASHES[:0], OFFSETS[:1], nothing))
    assert len(found.window_ids) == 0
    assert found.offsets.tolist() == [0]
    assert_same(found.records, nothing)


def test_the_columns_stay_in_the_file(tmp_path: Path, records: Records) -> None:
    many = 20_000
    long = records.take(np.zeros(many, dtype=np.int64))
    table = records_table(WINDOW_IDS[:1], HASHES[:1], np.array([0, many]), long)
    writer = ArtifactWriter(tmp_path, ArtifactSpec(KIND, 1, {}))
    artifact = writer.finish([writer.write_table(shard_name(0), "key", table)])
    before = pa.total_allocated_bytes()
    found = StoredRecords.from_table(artifact.table(0))
    assert pa.total_allocated_bytes() - before < many
    for field in fields(Records):
        assert not getattr(found.records, field.name).flags.owndata, field.name
    assert_same(found.records, long)


def test_polars_reads_a_cache_shard(tmp_path: Path, records: Records) -> None:
    stored(tmp_path, records_table(WINDOW_IDS, HASHES, OFFSETS, encode(records, Codec.FLOAT16)))
    frame = pl.read_ipc(tmp_path / shard_name(0))
    assert frame["n_tokens"].to_list() == [4, 0, 3]
    assert frame["window_id"].to_list() == WINDOW_IDS.tolist()
    assert frame["entropy"].explode().drop_nulls().to_list() == pytest.approx(records.entropy.tolist())


def test_an_ids_hash_with_the_highest_bit_survives(records: Records) -> None:
    highest = np.full(3, 2**64 - 1, dtype=np.uint64)
    table = records_table(highest, highest, OFFSETS, replace(records))
    assert StoredRecords.from_table(table).ids_hashes.tolist() == [2**64 - 1] * 3
